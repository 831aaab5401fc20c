"""The vectorised functions have float32's digits."""

from collections.abc import Callable

import numpy as np
import pytest
import scipy.special
import torch
from numpy.typing import NDArray

from aquasurf_optuna.kernels._vectorised import VECTORISED, horner
from aquasurf_optuna.operators import OPERATORS

_SELU = (1.0507009873554805, 1.6732632423543772)


def _softplus(x: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.logaddexp(0.0, x)


EXACT: dict[str, Callable[[NDArray[np.float64]], NDArray[np.float64]]] = {
    "bessel_i0e": scipy.special.i0e,
    "bessel_i1e": scipy.special.i1e,
    "arcsinh": np.arcsinh,
    "cosh": np.cosh,
    "elu": lambda x: np.where(x > 0, x, np.expm1(np.minimum(x, 0))),
    "erfc": scipy.special.erfc,
    "expm1": np.expm1,
    "log_sigmoid": lambda x: -_softplus(-x),
    "mish": lambda x: x * np.tanh(_softplus(x)),
    "selu": lambda x: _SELU[0] * np.where(x > 0, x, _SELU[1] * np.expm1(np.minimum(x, 0))),
    "sinh": np.sinh,
    "softplus": _softplus,
    "tanh": np.tanh,
}
LIMITS = np.finfo(np.float32)


def inputs() -> torch.Tensor:
    sizes = torch.cat([torch.linspace(0, 12, 50_001), torch.logspace(-30, 2, 10_001)])
    return torch.cat([sizes, -sizes])


@pytest.mark.parametrize("name", VECTORISED)
def test_six_digits_wherever_the_result_is_a_normal_number(name: str) -> None:
    x = inputs()
    with np.errstate(over="ignore"):
        exact = EXACT[name](x.double().numpy())
    found = VECTORISED[name](x)
    assert found.dtype == torch.float32
    normal = (np.abs(exact) >= LIMITS.tiny) & (np.abs(exact) <= LIMITS.max)
    assert normal.mean() > 0.5
    np.testing.assert_allclose(found.double().numpy()[normal], exact[normal], rtol=2e-6)


@pytest.mark.parametrize("name", VECTORISED)
def test_infinities_and_nan_are_torchs(name: str) -> None:
    x = torch.tensor([0.0, -0.0, float("inf"), float("-inf"), float("nan"), 1e30, -1e30])
    expected = OPERATORS[name].function(x)
    torch.testing.assert_close(VECTORISED[name](x), expected, rtol=2e-6, atol=1e-30, equal_nan=True)


def test_horner_is_numpys() -> None:
    coefficients = [0.3, -1.2, 0.8, 0.05, -0.4]
    x = np.linspace(-1, 1, 41)
    expected = np.polynomial.polynomial.polyval(x, coefficients)
    np.testing.assert_allclose(horner(coefficients, torch.tensor(x)).numpy(), expected, rtol=1e-12)
