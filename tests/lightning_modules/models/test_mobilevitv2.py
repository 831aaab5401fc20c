from typing import Any

import pytest
import torch
from torch import nn

from aquasurf_optuna.features.fisher import fisher_log_eigenvalues
from lightning_modules.models import MobileViTV2
from lightning_modules.models.mobilevitv2 import TIMM_NAMES
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
    with pytest.raises(ValueError, match="MobileViTV2: width must be one of .* 0.5, .*, got 0.6"):
        MobileViTV2("relu(x)", width=0.6)
