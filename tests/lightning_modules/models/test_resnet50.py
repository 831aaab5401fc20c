from typing import Any

import pytest
import torch
from torch import nn

from lightning_modules.models import ResNet50
from tests.lightning_modules.models.helpers import (
    EQUAL_ACTIVATIONS,
    assert_same_network,
    parameter_count,
    swapped,
    weight_counts,
)


def test_the_published_sizes() -> None:
    with torch.device("meta"):
        model = ResNet50("relu(x)")
    assert (len(weight_counts(model)), parameter_count(model)) == (54, 25_557_032)


def test_all_activations_are_swapped() -> None:
    with torch.device("meta"):
        model = ResNet50("swish(x)")
    assert len(model.sites) == 49
    assert model.sites == tuple(swapped(model, "swish(x)"))
    assert model.kept == ()


def test_gradients_reach_every_layer_at_initialisation() -> None:
    model = ResNet50("relu(x)", num_classes=3, in_channels=1)
    logits = model(torch.randn(4, 1, 32, 32))
    assert logits.shape == (4, 3)
    logits[:, 0].sum().backward()
    layers = [m for m in model.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    assert len(layers) == 54
    assert all(bool(layer.weight.grad.any()) for layer in layers if layer.weight.grad is not None)
    assert all(layer.weight.grad is not None for layer in layers)


@pytest.mark.parametrize("activation", EQUAL_ACTIVATIONS, ids=["text", "expression", "factory"])
def test_text_expression_and_factory_build_the_same_network(activation: Any) -> None:
    assert_same_network(ResNet50, activation, torch.randn(2, 3, 32, 32))
