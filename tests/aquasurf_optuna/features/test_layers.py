"""Which parameters are no layer's weights."""

import pytest
import torch
from torch import nn

from aquasurf_optuna.exceptions import UnsupportedModelError
from aquasurf_optuna.features.layers import find_layers, weightless_kinds


class Bias(nn.Module):
    """A table of numbers, as a relative position bias."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.zeros(5, 3))


class Gain(nn.Module):
    """A normalisation of one's own: its weight is a vector."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(3))


class OwnLinear(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(3, 3))


def test_tables_and_vectors_are_no_layers_weights() -> None:
    norms = [nn.BatchNorm2d(3), nn.GroupNorm(1, 3), nn.LayerNorm(3), nn.RMSNorm(3)]
    model = nn.Sequential(nn.Linear(3, 3), Bias(), Bias(), Gain(), nn.PReLU(), *norms)
    assert weightless_kinds(model) == (Bias, Gain, nn.PReLU)
    assert list(find_layers(model, weightless_kinds(model))) == ["0"]
    assert weightless_kinds(nn.Sequential(nn.Linear(3, 3), nn.Conv2d(1, 1, 1))) == ()


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv1d(3, 3, 1),
        nn.ConvTranspose2d(3, 3, 1),
        nn.Bilinear(2, 2, 3),
        nn.Embedding(4, 3),
        nn.LSTM(3, 3),
        nn.MultiheadAttention(4, 2),
        nn.LazyConv1d(3, 1),
        OwnLinear(),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_a_matrix_of_weights_is_a_layers(layer: nn.Module) -> None:
    model = nn.Sequential(nn.Linear(3, 3), layer)
    assert weightless_kinds(layer) == ()
    with pytest.raises(UnsupportedModelError, match="layer '1"):
        find_layers(model, weightless_kinds(model))


def test_a_kind_that_covers_every_layer_is_not_left_out() -> None:
    bare = nn.Module()
    bare.register_parameter("scale", nn.Parameter(torch.ones(3)))
    model = nn.Sequential(nn.Linear(3, 3), bare)
    assert weightless_kinds(model) == ()
    with pytest.raises(UnsupportedModelError, match="layer '1' is a Module with parameters"):
        find_layers(model, weightless_kinds(model))
