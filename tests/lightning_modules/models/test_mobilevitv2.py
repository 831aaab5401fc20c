from collections.abc import Sequence
from typing import Any

import pytest
import timm
import torch
from timm.models.mobilevit import LinearTransformerBlock
from torch import nn

from aquasurf_optuna.features.fisher import fisher_log_eigenvalues
from lightning_modules.models import MobileViTV2
from lightning_modules.models.mobilevitv2 import DEPTHS, STRIDES, TIMM_NAMES, _smaller
from tests.lightning_modules.models.helpers import (
    EQUAL_ACTIVATIONS,
    assert_same_network,
    histogram_length,
    swapped,
    weight_counts,
)


def test_the_published_sizes() -> None:
    model = MobileViTV2("relu(x)")
    assert (len(weight_counts(model)), histogram_length(model)) == (65, 11_013)


def test_all_activation_modules_are_swapped() -> None:
    model = MobileViTV2("swish(x)")
    assert len(model.sites) == 25
    assert model.sites == tuple(swapped(model, "swish(x)"))
    assert model.kept == ()


def test_the_attention_keeps_its_own_relu(monkeypatch: pytest.MonkeyPatch) -> None:
    model = MobileViTV2("tanh(x)")
    calls: list[int] = []
    relu = nn.functional.relu

    def counted(x: torch.Tensor) -> torch.Tensor:
        calls.append(1)
        return relu(x)

    monkeypatch.setattr(nn.functional, "relu", counted)
    model(torch.randn(2, 3, 32, 32))
    # One in each of the 2 + 4 + 3 transformer blocks.
    assert len(calls) == 9


@pytest.mark.parametrize("activation", EQUAL_ACTIVATIONS, ids=["text", "expression", "factory"])
def test_text_expression_and_factory_build_the_same_network(activation: Any) -> None:
    assert_same_network(MobileViTV2, activation, torch.randn(2, 3, 32, 32))


@pytest.mark.parametrize("side", [32, 48, 65])
def test_any_image_size_passes(side: int) -> None:
    model = MobileViTV2("relu(x)", in_channels=1, num_classes=7)
    assert model(torch.randn(2, 1, side, side)).shape == (2, 7)


def test_it_has_fisher_eigenvalues() -> None:
    eigenvalues = fisher_log_eigenvalues(MobileViTV2("relu(x)"), torch.randn(4, 3, 32, 32))
    assert len(eigenvalues) == 65


def test_the_published_widths() -> None:
    with torch.device("meta"):
        stems = [MobileViTV2("relu(x)", width=w).network.stem.conv for w in TIMM_NAMES]  # type: ignore[union-attr]
    assert [stem.out_channels / 32 for stem in stems] == list(TIMM_NAMES)  # type: ignore[union-attr, operator]


def shapes(network: nn.Module) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in network.state_dict().items()}


def strides_of(network: nn.Module) -> list[tuple[int, ...]]:
    return [each.stride for each in network.modules() if isinstance(each, nn.Conv2d)]


@pytest.mark.parametrize("width", TIMM_NAMES)
def test_a_scaled_network_of_published_width_is_timms(width: float) -> None:
    with torch.device("meta"):
        expected = timm.create_model(TIMM_NAMES[width])
        scaled = timm.create_model("mobilevitv2_200", **_smaller(width, DEPTHS, STRIDES))
        other = timm.create_model("mobilevitv2_200", **_smaller(width, (2, 4, 4), STRIDES))
    assert shapes(scaled) == shapes(expected)
    assert strides_of(scaled) == strides_of(expected)
    assert shapes(other) != shapes(expected)


@pytest.mark.parametrize(
    ("width", "depths", "strides"),
    [
        (0.125, (1, 1, 1), (1, 1, 2, 1, 1)),
        (0.25, (1,), (1, 2, 1)),
        (0.6, (1, 2), (1, 2, 1, 2)),
        (0.001, (), (1, 1)),
        (0.5, DEPTHS, (1, 1, 1, 1, 1)),
        (0.5, [2, 4, 3], [1, 2, 2, 2, 2]),
    ],
)
def test_small_versions_run_on_small_images(
    width: float, depths: Sequence[int], strides: Sequence[int]
) -> None:
    model = MobileViTV2("tanh(x)", in_channels=1, width=width, depths=depths, strides=strides)
    logits = model(torch.randn(4, 1, 10, 10))
    assert logits.shape == (4, 10)
    logits.sum().backward()
    assert all(p.grad is not None for p in model.parameters())
    assert model.kept == ()
    blocks = [each for each in model.modules() if isinstance(each, LinearTransformerBlock)]
    assert len(blocks) == sum(depths)
    stages = model.network.stages
    assert isinstance(stages, nn.Sequential)
    assert len(stages) == len(strides)
    images = torch.randn(1, 1, 64, 64)
    sizes = [64, 32]
    for stride in strides:
        sizes.append(sizes[-1] // stride)
    features = model.network.stem(images)  # type: ignore[operator]  # a module
    assert features.shape[-1] == sizes[1]
    for stage, size in zip(stages, sizes[2:], strict=True):
        features = stage(features)
        assert features.shape[-1] == size


def test_a_small_version_has_fisher_eigenvalues() -> None:
    model = MobileViTV2("tanh(x)", in_channels=1, width=0.125, depths=(1, 1), strides=(1, 1, 2, 1))
    eigenvalues = fisher_log_eigenvalues(model, torch.randn(4, 1, 10, 10))
    assert len(eigenvalues) == len(weight_counts(model))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"width": 0.0}, r"width must be above 0 \(0.5 is the paper's width\), got 0.0"),
        ({"width": -0.5}, "width must be above 0"),
        ({"depths": (1, 1, 1, 1)}, r"depths must be at most 3 numbers of 1 or more, got \(1, 1"),
        ({"depths": (2, 0, 3)}, r"depths must be at most 3 numbers of 1 or more, got \(2, 0, 3"),
        ({"depths": (1,)}, r"strides must be 3 numbers, each 1 or 2, got \(1, 2, 2, 2, 2\)"),
        ({"strides": (1, 2, 2, 2)}, "strides must be 5 numbers, each 1 or 2"),
        ({"strides": (1, 2, 3, 2, 2)}, "strides must be 5 numbers, each 1 or 2"),
    ],
)
def test_what_no_network_can_be_built_of_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"MobileViTV2: {message}"):
        MobileViTV2("relu(x)", **options)
