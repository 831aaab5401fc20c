from typing import Any

import pytest
import timm
import torch
from torch import nn

from aquasurf_optuna.features.fisher import fisher_log_eigenvalues
from lightning_modules.models import CoAtNet
from tests.lightning_modules.models.helpers import (
    EQUAL_ACTIVATIONS,
    assert_same_network,
    parameter_count,
    swapped,
)

SMALL: dict[str, Any] = {"image_size": 32, "depths": (1, 1, 1, 1), "widths": (16, 16, 32, 32)}


def test_the_published_sizes() -> None:
    model = CoAtNet("relu(x)")
    # "three convolutional blocks with 64 channels, four convolutional blocks with 128 channels, six
    # transformer blocks with 256 channels, and three transformer blocks with 512 channels"
    kinds = [[type(block).__name__ for block in stage.blocks] for stage in model.network.stages]  # type: ignore[union-attr]
    convolution, transformer = "MbConvBlock", "TransformerBlock2d"
    assert kinds == [[convolution] * 3, [convolution] * 4, [transformer] * 6, [transformer] * 3]
    assert [info["num_chs"] for info in model.network.feature_info[1:]] == [64, 128, 256, 512]  # type: ignore[union-attr, index]
    assert parameter_count(model) == 14_992_154


def test_gates_and_head_keep_their_own_functions() -> None:
    model = CoAtNet("swish(x)")
    assert len(model.sites) == 24
    assert model.sites == tuple(swapped(model, "swish(x)"))
    kept = {name: model.get_submodule(name) for name in model.kept}
    gates = {type(m) for n, m in kept.items() if n.endswith(".se.gate")}
    inner = {type(m) for n, m in kept.items() if n.endswith(".se.act")}
    head = {type(m) for n, m in kept.items() if ".head." in n}
    assert (gates, inner, head) == ({timm.layers.Sigmoid}, {nn.SiLU}, {timm.layers.Tanh})
    ends = [".".join(name.split(".")[-2:]) for name in kept]
    assert (ends.count("se.gate"), ends.count("se.act"), len(kept)) == (7, 7, 15)


@pytest.mark.parametrize("activation", EQUAL_ACTIVATIONS, ids=["text", "expression", "factory"])
def test_text_expression_and_factory_build_the_same_network(activation: Any) -> None:
    def build(choice: Any) -> nn.Module:
        return CoAtNet(choice, **SMALL)

    assert_same_network(build, activation, torch.randn(2, 3, 32, 32))


def test_it_has_fisher_eigenvalues() -> None:
    model = CoAtNet("relu(x)", **SMALL)
    skip = (timm.layers.RelPosBias,)
    eigenvalues = fisher_log_eigenvalues(model, torch.randn(4, 3, 32, 32), skip=skip)
    assert all(values.isfinite().all() for values in eigenvalues.values())
    assert len(eigenvalues) == 24


def test_the_head_follows_the_last_width() -> None:
    model = CoAtNet("relu(x)", num_classes=7, in_channels=1, **SMALL)
    assert model.network.head.pre_logits.fc.weight.shape == (32, 32)  # type: ignore[union-attr]
    assert model(torch.randn(2, 1, 32, 32)).shape == (2, 7)


@pytest.mark.parametrize("side", [16, 64])
def test_images_of_another_size_are_refused(side: int) -> None:
    model = CoAtNet("relu(x)", **SMALL)
    message = rf"built for images of 32x32, got \(2, 3, {side}, {side}\); resize"
    with pytest.raises(ValueError, match=message):
        model(torch.randn(2, 3, side, side))


def test_another_error_comes_through() -> None:
    with pytest.raises(RuntimeError, match="channels"):
        CoAtNet("relu(x)", **SMALL)(torch.randn(2, 1, 32, 32))


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        ("image_size", 100, "a multiple of 32, got 100"),
        ("image_size", 0, "a multiple of 32, got 0"),
        ("depths", (1, 1, 1), "4 numbers of 1 or more"),
        ("widths", (16, 16, 32, 0), "4 numbers of 1 or more"),
        ("widths", (16, 16, 48, 64), "multiples of 32 in the last two stages"),
        ("num_classes", 0, "1 or more"),
    ],
)
def test_values_out_of_range_are_refused(name: str, value: object, allowed: str) -> None:
    with pytest.raises(ValueError, match=f"CoAtNet: {name} must be .*{allowed}"):
        CoAtNet("relu(x)", **(SMALL | {name: value}))
