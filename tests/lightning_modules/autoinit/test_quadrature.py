import math

import pytest
import torch
from torch import Tensor, nn

from aquasurf_optuna.activation import Activation
from aquasurf_optuna.exceptions import InitializationError
from lightning_modules.autoinit._quadrature import (
    MeanVariance,
    activated,
    softmax_concentration,
    transformed,
)
from tests.oracles.autoinit_oracle import agrees

SIGNALS = [(0.0, 1.0), (0.7, 0.3)]


class Scaled(nn.Module):
    """An activation that multiplies and shifts."""

    def __init__(self, factor: float, shift: float = 0.0) -> None:
        super().__init__()
        self.factor, self.shift = factor, shift

    def forward(self, x: Tensor) -> Tensor:
        return self.factor * x + self.shift


@pytest.mark.parametrize("signal", SIGNALS)
@pytest.mark.parametrize(
    "text",
    [
        "relu(x)", "selu(x)", "softplus(x)", "exp(x)", "square(x)", "hard_sigmoid(x)",
        "max(relu(x),cosh(elu(x)))", "div(x,abs(x))", "div(sinh(x),x)", "mul(square(x),exp(x))",
    ],
)  # fmt: skip
def test_moments_agree_with_draws(text: str, signal: tuple[float, float]) -> None:
    function = Activation(text)
    found = activated(function, MeanVariance(*signal))
    assert agrees(function, inputs=signal, outputs=(found.mean, found.variance))


def test_the_oracle_fails_on_wrong_moments() -> None:
    function = Activation("softplus(x)")
    right = activated(function, MeanVariance())
    for mean, variance in [(1.01, 1.0), (1.0, 1.01)]:
        outputs = (right.mean * mean, right.variance * variance)
        assert not agrees(function, inputs=(0.0, 1.0), outputs=outputs)


@pytest.mark.parametrize(
    ("text", "mean", "second"),
    [
        ("relu(x)", 1 / math.sqrt(2 * math.pi), 0.5),
        ("exp(x)", math.exp(0.5), math.exp(2.0)),
        ("square(x)", 1.0, 3.0),
        ("abs(x)", math.sqrt(2 / math.pi), 1.0),
        ("erf(x)", 0.0, 2 / math.pi * math.asin(2 / 3)),
    ],
)
def test_moments_agree_with_closed_forms(text: str, mean: float, second: float) -> None:
    found = activated(Activation(text), MeanVariance())
    assert found.mean == pytest.approx(mean, rel=1e-6, abs=1e-12)
    assert found.second_moment == pytest.approx(second, rel=1e-6)


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        (Scaled(1e25), "second moment of its outputs, 1e.50"),
        (Scaled(1e-25), "second moment of its outputs, 1e-50"),
        (Scaled(1e-9, 1.0), r"constant \(1\)"),
    ],
)
def test_scales_that_float32_cannot_hold_are_refused(function: nn.Module, reason: str) -> None:
    with pytest.raises(InitializationError, match=reason):
        activated(function, MeanVariance())


@pytest.mark.parametrize(("variance", "count"), [(0.3, 2), (1.0, 9), (1.0, 400), (4.0, 30)])
def test_concentration_of_a_softmax_agrees_with_draws(variance: float, count: int) -> None:
    generator = torch.Generator().manual_seed(0)
    draws = torch.randn(400_000 // count + 2000, count, generator=generator, dtype=torch.float64)
    squares = (math.sqrt(variance) * draws).softmax(1).square().sum(1) * count
    error = float(squares.std()) / math.sqrt(len(draws))
    assert abs(softmax_concentration(variance, count) - float(squares.mean())) < 5 * error
    assert softmax_concentration(1e-9, count) == pytest.approx(1.0, abs=1e-6)


def test_correlated_moments_have_closed_forms() -> None:
    # Two Gaussians of correlation r: arc-cosine kernel of relu, and 1 + 2 r**2 of the square.
    rows = torch.tensor([[0.0, 1.0, r, r, r] for r in (-0.5, 0.0, 0.3, 0.9, 1.0)]).double()
    angle = torch.arccos(rows[:, 2])
    kernel = (angle.sin() + (math.pi - angle) * angle.cos()) / (2 * math.pi)
    relu = transformed(Activation("relu(x)"), rows, MeanVariance())
    assert torch.allclose(relu[:, 2], kernel, atol=1e-3)
    assert torch.equal(relu[:, 2], relu[:, 4])
    square = transformed(Activation("square(x)"), rows, MeanVariance())
    assert torch.allclose(square[:, 3], 1 + 2 * rows[:, 3] ** 2, atol=1e-6)


def test_groups_beyond_reach_of_the_grid_get_the_average() -> None:
    # exp(x**2 / 8) has a second moment for variance 1 but none for 2.
    function = Activation("exp(square(mul(x,hard_sigmoid(zero(x)))))")
    rows = torch.tensor([[0.0, 0.1, 0.0, 0.0, 0.0], [0.0, 4000.0, 0.0, 0.0, 0.0]]).double()
    found = transformed(function, rows, MeanVariance(0.0, 0.1))
    expected = activated(function, MeanVariance(0.0, 0.1))
    assert found[:, 0].tolist() == pytest.approx([expected.mean] * 2)
    assert found[:, 1].tolist() == pytest.approx([expected.second_moment] * 2)
