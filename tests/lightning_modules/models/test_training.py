"""Every network with every unary operator as its activation: two steps, or a reason to stop."""

import functools
from collections.abc import Callable
from typing import NamedTuple

import pytest
import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from aquasurf_optuna.exceptions import InvalidSpectrumError
from aquasurf_optuna.features.fisher import fisher_log_eigenvalues
from aquasurf_optuna.operators import COATNET_UNARY_OPERATORS
from lightning_modules.models import AllCnnC, CoAtNet, MobileViTV2, ResNet50, ResNet56


class Setting(NamedTuple):
    """A network, small where its class lets one choose, and the side of its images."""

    build: Callable[[str], nn.Module]
    side: int
    dtype: torch.dtype = torch.float32


NETWORKS = {
    # It has no normalisation, so without AutoInit some updates are below the rounding of float32.
    "AllCnnC": Setting(functools.partial(AllCnnC, width=1 / 12, dropout=0.0), 8, torch.float64),
    "ResNet56": Setting(functools.partial(ResNet56, width=1 / 4, blocks=2), 8),
    "MobileViTV2": Setting(MobileViTV2, 32),
    "CoAtNet": Setting(
        functools.partial(CoAtNet, image_size=32, depths=(1, 1, 1, 1), widths=(16, 16, 32, 32)), 32
    ),
    "ResNet50": Setting(functools.partial(ResNet50, num_classes=10), 32),
}

CONSTANT = {"zero", "one"}
# Without an initialisation made for them their signals or gradients grow from layer to layer; those
# of the Bessel function because it is nearly constant, and normalisation scales its little up.
EXPLODING = {"reciprocal", "square", "exp", "expm1", "sinh", "cosh", "bessel_i0e"}


class StoppedError(Exception):
    """Training cannot go on."""


def batch(side: int, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(4, 3, side, side, generator=generator, dtype=dtype), torch.arange(4)


def train(
    model: nn.Module, side: int, dtype: torch.dtype = torch.float32, *, steps: int = 2
) -> None:
    """Take a few optimiser steps.

    Raises:
        StoppedError: If a loss or a weight is not finite.
    """
    images, labels = batch(side, dtype)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    for step in range(1, steps + 1):
        loss = F.cross_entropy(model(images), labels)
        if not torch.isfinite(loss):
            raise StoppedError(f"the loss of step {step} is not finite: {loss.item()}")
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        for name, parameter in model.named_parameters():
            if not parameter.isfinite().all():
                raise StoppedError(f"after step {step}, {name} is not finite")


def weights(model: nn.Module) -> dict[str, Tensor]:
    """Copies of the weights of convolutions and linear layers, without the biases."""
    layers = [(n, m) for n, m in model.named_modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    return {name: layer.weight.detach().clone() for name, layer in layers}


def still(before: dict[str, Tensor], after: dict[str, Tensor]) -> list[str]:
    return [name for name, weight in before.items() if torch.equal(weight, after[name])]


def build(network: str, operator: str) -> nn.Module:
    torch.manual_seed(0)
    return NETWORKS[network].build(f"{operator}(x)").to(NETWORKS[network].dtype)


def assert_refused_at_initialisation(network: str, operator: str) -> None:
    """The Fisher eigenvalues, by which the functions are judged before training, say why not."""
    images, _ = batch(*NETWORKS[network][1:])
    with pytest.raises(InvalidSpectrumError, match="vanish|not finite|explodes|outside the range"):
        fisher_log_eigenvalues(build(network, operator), images, skip=(timm.layers.RelPosBias,))


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("operator", sorted(set(COATNET_UNARY_OPERATORS) - CONSTANT - EXPLODING))
def test_two_steps_move_every_weight(network: str, operator: str) -> None:
    model = build(network, operator)
    before = weights(model)
    train(model, *NETWORKS[network][1:])
    assert still(before, weights(model)) == []


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("operator", sorted(EXPLODING))
def test_exploding_functions_train_or_are_stopped(network: str, operator: str) -> None:
    model = build(network, operator)
    before = weights(model)
    try:
        train(model, *NETWORKS[network][1:])
    except StoppedError as reason:
        if "loss of step 1" in str(reason):
            assert_refused_at_initialisation(network, operator)
    else:
        assert still(before, weights(model)) == []


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("operator", sorted(CONSTANT))
def test_constants_are_refused_before_training(network: str, operator: str) -> None:
    assert_refused_at_initialisation(network, operator)


def test_the_operators_are_those_of_the_coatnet_space() -> None:
    assert len(COATNET_UNARY_OPERATORS) == 31
    assert set(COATNET_UNARY_OPERATORS) > CONSTANT | EXPLODING


def test_a_loss_that_is_not_finite_is_noticed() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 8, 10))
    nn.init.constant_(model[1].weight, float("inf"))  # type: ignore[arg-type]
    with pytest.raises(StoppedError, match="loss of step 1 is not finite: nan"):
        train(model, 8)


def test_weights_that_stand_still_are_noticed() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 8, 10), nn.Linear(10, 10))
    model[1].requires_grad_(False)
    before = weights(model)
    train(model, 8)
    assert still(before, weights(model)) == ["1"]
