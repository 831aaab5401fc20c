import math

import pytest
from torch import Tensor, nn

from aquasurf_optuna.activation import Activation
from aquasurf_optuna.exceptions import InitializationError
from lightning_modules.autoinit._quadrature import MeanVariance, activated
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
