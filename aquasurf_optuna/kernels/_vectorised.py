"""Functions that compilers do not vectorise, or slowly, made of those that they do.

For float32; each keeps six digits at least, wherever the result is a normal number. Elsewhere, and
in float64, torch's own are used. On a processor they are faster; on a GPU they have fewer
instructions and no branches, and Inductor has no code of its own for the Bessel functions. These
and `erfc` are polynomials (by Horner's rule) through SciPy's values at Chebyshev's points: in x up
to 4 and in 1/x beyond, times a root; and in 1/(1 + x/2), times exp(-x^2).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

import numpy as np
import scipy.special
import torch
from numpy.polynomial import chebyshev
from numpy.typing import NDArray
from torch import Tensor

SELU_ALPHA = 1.6732632423543772848170429916717
SELU_SCALE = 1.0507009873554804934193349852946

_SPLIT = 4.0  # between the two series of the Bessel functions
_NEAR, _FAR = 12, 8  # their terms
_ERFC_TERMS = 10
# Taylor's series up to here, and a difference beyond, which loses no more than two bits there.
_EXPM1_SMALL, _SINH_SMALL = 0.25, 1.0
_EXPM1 = [1.0 / math.factorial(n) for n in range(1, 7)]
_SINH = [1.0 / math.factorial(2 * n + 1) for n in range(5)]
_EXP = [1.0 / math.factorial(n) for n in range(4)]
_ARTANH = [2.0 / (2 * n + 1) for n in range(6)]
_LARGEST_SQUARED = 1e4
_GRID = 256.0  # multiples of 1/256 up to 16 have squares that float32 holds exactly


def horner(coefficients: Sequence[float], x: Tensor) -> Tensor:
    """Return a polynomial, its coefficients from the constant on."""
    value = torch.full_like(x, coefficients[-1])
    for each in reversed(coefficients[:-1]):
        value = value * x + each
    return value


def _fitted(
    function: Callable[[NDArray[np.float64]], NDArray[np.float64]], n_terms: int
) -> list[float]:
    """Return the polynomial that is a function at Chebyshev's points in [-1, 1]."""
    nodes = chebyshev.chebpts1(n_terms)
    series = chebyshev.chebfit(nodes, function(nodes), n_terms - 1)
    found: list[float] = chebyshev.cheb2poly(series).tolist()
    return found


@functools.cache
def _bessel_series(order: int) -> tuple[list[float], list[float]]:
    """Return the series for |x| up to 4, divided by x**order, and of sqrt(x) times the rest."""
    scaled = (scipy.special.i0e, scipy.special.i1e)[order]

    def near(t: NDArray[np.float64]) -> NDArray[np.float64]:
        x = np.maximum((t + 1.0) * (_SPLIT / 2), 1e-9)
        values: NDArray[np.float64] = scaled(x) / x**order
        return values

    def far(t: NDArray[np.float64]) -> NDArray[np.float64]:
        x = _SPLIT / np.maximum((t + 1.0) / 2, 1e-12)
        values: NDArray[np.float64] = scaled(x) * np.sqrt(x)
        return values

    return _fitted(near, _NEAR), _fitted(far, _FAR)


def _bessel(x: Tensor, order: int) -> Tensor:
    near, far = _bessel_series(order)
    size = torch.abs(x)
    inner, outer = torch.clamp(size, max=_SPLIT), torch.clamp(size, min=_SPLIT)
    close = horner(near, inner * (2.0 / _SPLIT) - 1.0)
    away = horner(far, (2.0 * _SPLIT) / outer - 1.0) * torch.rsqrt(outer)
    if order == 0:
        return torch.where(size <= _SPLIT, close, away)
    return torch.where(size <= _SPLIT, close * x, torch.copysign(away, x))


def bessel_i0e(x: Tensor) -> Tensor:
    """Return exp(-|x|) I0(x)."""
    return _bessel(x, 0)


def bessel_i1e(x: Tensor) -> Tensor:
    """Return exp(-|x|) I1(x)."""
    return _bessel(x, 1)


@functools.cache
def _erfc_series() -> list[float]:
    def scaled(t: NDArray[np.float64]) -> NDArray[np.float64]:
        u = np.maximum((t + 1.0) / 2, 1e-12)
        values: NDArray[np.float64] = scipy.special.erfcx(2.0 * (1.0 / u - 1.0)) / u
        return values

    return _fitted(scaled, _ERFC_TERMS)


def erfc(x: Tensor) -> Tensor:
    """Return 1 - erf(x)."""
    z = torch.clamp(torch.abs(x), max=16.0)
    u = 2.0 / (2.0 + z)
    # exp(-z * z) would lose digits with its argument's; the square of a short number loses none,
    # and what is left is small.
    short = torch.round(z * _GRID) * (1.0 / _GRID)
    bell = torch.exp(-short * short) * horner(_EXP, (short - z) * (short + z))
    tail = horner(_erfc_series(), 2.0 * u - 1.0) * u * bell
    # NaN is neither below 0 nor above, and comes through z.
    return torch.where(x < 0, 2.0 - tail, tail)


def cosh(x: Tensor) -> Tensor:
    """Return the hyperbolic cosine."""
    # The square of exp(x / 2) overflows only where the result does.
    root = torch.exp(0.5 * torch.abs(x))
    return (0.5 * root) * root + (0.5 / root) / root


def sinh(x: Tensor) -> Tensor:
    """Return the hyperbolic sine."""
    size = torch.abs(x)
    root = torch.exp(0.5 * size)
    large = torch.copysign((0.5 * root) * root - (0.5 / root) / root, x)
    return torch.where(size < _SINH_SMALL, horner(_SINH, x * x) * x, large)


def expm1(x: Tensor) -> Tensor:
    """Return exp(x) - 1."""
    small = horner(_EXPM1, x) * x
    return torch.where(torch.abs(x) < _EXPM1_SMALL, small, torch.exp(x) - 1.0)


def _log1p_within(u: Tensor) -> Tensor:
    """Return log(1 + u) of a number between 0 and 1."""
    # Twice the inverse of the hyperbolic tangent at s; small numbers are rounded once.
    r = 1.0 / (2.0 + u)
    s = r * u
    return u * (r * horner(_ARTANH, s * s))


def tanh(x: Tensor) -> Tensor:
    """Return the hyperbolic tangent."""
    below = expm1(-2.0 * torch.abs(x))
    return torch.copysign(-below / (2.0 + below), x)


def elu(x: Tensor) -> Tensor:
    """Return x above 0 and exp(x) - 1 below."""
    return torch.where(x > 0, x, expm1(torch.clamp(x, max=0.0)))


def selu(x: Tensor) -> Tensor:
    """Return a multiple of x above 0, and of exp(x) - 1 below."""
    below = SELU_ALPHA * expm1(torch.clamp(x, max=0.0))
    return SELU_SCALE * torch.where(x > 0, x, below)


def softplus(x: Tensor) -> Tensor:
    """Return log(1 + exp(x))."""
    return torch.clamp(x, min=0.0) + _log1p_within(torch.exp(-torch.abs(x)))


def log_sigmoid(x: Tensor) -> Tensor:
    """Return -log(1 + exp(-x))."""
    return torch.clamp(x, max=0.0) - _log1p_within(torch.exp(-torch.abs(x)))


def arcsinh(x: Tensor) -> Tensor:
    """Return the inverse of the hyperbolic sine."""
    size = torch.abs(x)
    # Squares of larger numbers overflow, and their sum with 1 is no other number by then.
    inner = torch.clamp(size, max=_LARGEST_SQUARED)
    above = inner * inner + 1.0
    # The root by its reciprocal, which a GPU has an instruction for.
    u = inner + inner * inner / (1.0 + above * torch.rsqrt(above))
    far = size > _LARGEST_SQUARED
    large = torch.log(torch.where(far, size, 1.0 + u)) + torch.where(far, math.log(2.0), 0.0)
    small = _log1p_within(torch.clamp(u, max=1.0))
    return torch.copysign(torch.where(u > 1.0, large, small), x)


def mish(x: Tensor) -> Tensor:
    """Return x times the hyperbolic tangent of softplus."""
    return x * tanh(softplus(x))


VECTORISED: Mapping[str, Callable[[Tensor], Tensor]] = MappingProxyType(
    {
        "arcsinh": arcsinh,
        "bessel_i0e": bessel_i0e,
        "bessel_i1e": bessel_i1e,
        "cosh": cosh,
        "elu": elu,
        "erfc": erfc,
        "expm1": expm1,
        "log_sigmoid": log_sigmoid,
        "mish": mish,
        "selu": selu,
        "sinh": sinh,
        "softplus": softplus,
        "tanh": tanh,
    }
)
"""By the name of the operator."""
