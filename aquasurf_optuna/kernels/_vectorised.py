"""Functions that compilers do not vectorise, or slowly, made of those that they do.

For float32; each is within two millionths of the exact value, wherever that is a normal number, in
a processor's arithmetic (a GPU's roots are a little less exact). In float64 torch's own are used.
On a processor these are faster; on a GPU they have fewer instructions and no branches, and Inductor
has no code of its own for the Bessel functions.

All are made of polynomials (by Horner's rule), fitted to SciPy's and NumPy's values: those of the
Bessel functions in 1/(1 + x/4), times powers of a root; of `erfc` in 1/(1 + x/2), times exp(-x^2);
the others in x or x^2, where these are small.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np
import scipy.special
import torch
from torch import Tensor

from aquasurf_optuna.kernels._polynomials import Array, by_square, fitted, horner, moved

BELL = "exp(-x^2)"
"""No operator, but what `erfc` and its slope are made of."""

GAP = "bessel_i0e(x)-abs(bessel_i1e(x))"
"""No operator, but what slopes of Bessel functions are made of; a difference would lose digits."""

SELU_ALPHA = 1.6732632423543772848170429916717
SELU_SCALE = 1.0507009873554804934193349852946

_BESSEL_SHIFT, _BESSEL_TERMS, _GAP_TERMS = 4.0, 15, 18
_ERFC_TERMS, _ARCTAN_TERMS, _ARCSINH_TERMS = 10, 8, 5
_EXPM1_TERMS, _SINH_TERMS, _ARTANH_TERMS = 5, 4, 4
# Polynomials up to here, and a difference beyond, which loses no more than two bits there.
_EXPM1_SMALL, _SINH_SMALL, _ARCSINH_SMALL = 0.25, 1.0, 0.5
_EXP = [1.0 / math.factorial(n) for n in range(4)]
_LARGEST_ROOT = 1e4
# Added and taken off again it leaves a multiple of 1/256; up to 16 these have exact squares.
_TO_GRID = 1.5 * 2.0**15
_LARGEST = float(np.finfo(np.float32).max)


@functools.cache
def _expm1_series() -> list[float]:
    """Return the polynomial that exp(x) - 1 is x times of, where x is small."""

    def quotient(t: Array) -> Array:
        x = _EXPM1_SMALL * t
        values: Array = np.expm1(x) / x
        return values

    return moved(fitted(quotient, _EXPM1_TERMS), [0.0, 1.0 / _EXPM1_SMALL])


def on_gpu(x: Tensor) -> bool:
    """Say whether the functions are those for a GPU."""
    return x.device.type == "cuda"


def inverse(x: Tensor) -> Tensor:
    """Return 1/x of numbers above 1e-18; 0 above 1e19 on a GPU.

    A division takes a GPU six instructions, of which most are for numbers at the end of the range.
    """
    return torch.rsqrt(x * x) if on_gpu(x) else torch.reciprocal(x)


@functools.cache
def _bessel_series(rest: Callable[[Array, Array], Array], n_terms: int) -> list[float]:
    """Return the polynomial in 2 shift / squared - 1, where `squared` is x + the shift."""

    def function(t: Array) -> Array:
        squared = 2.0 * _BESSEL_SHIFT / np.maximum(t + 1.0, 1e-12)
        return rest(np.maximum(squared - _BESSEL_SHIFT, 1e-9), squared)

    return fitted(function, n_terms)


def _i0e_rest(x: Array, squared: Array) -> Array:
    values: Array = scipy.special.i0e(x) * np.sqrt(squared)
    return values


def _i1e_rest(x: Array, squared: Array) -> Array:
    values: Array = scipy.special.i1e(x) / x * squared**1.5
    return values


def _gap_rest(x: Array, squared: Array) -> Array:
    values: Array = (scipy.special.i0e(x) - scipy.special.i1e(x)) * squared**1.5
    return values


def _bessel(
    x: Tensor, rest: Callable[[Array, Array], Array], n_terms: int = _BESSEL_TERMS
) -> tuple[Tensor, Tensor]:
    """Return the root of 1 / (x + the shift), and a series beside it."""
    root = torch.rsqrt(torch.abs(x) + _BESSEL_SHIFT)
    t = root * root * (2.0 * _BESSEL_SHIFT) - 1.0
    return root, horner(_bessel_series(rest, n_terms), t)


def bessel_i0e(x: Tensor) -> Tensor:
    """Return exp(-|x|) I0(x)."""
    root, rest = _bessel(x, _i0e_rest)
    return root * rest


def bessel_i1e(x: Tensor) -> Tensor:
    """Return exp(-|x|) I1(x)."""
    root, rest = _bessel(x, _i1e_rest)
    # In this order no product overflows or underflows before the result does.
    size = torch.clamp(torch.abs(x), max=_LARGEST)
    return torch.copysign(size * root * root * (root * rest), x)


def bessel_gap(x: Tensor) -> Tensor:
    """Return exp(-|x|) (I0(x) - |I1(x)|)."""
    root, rest = _bessel(x, _gap_rest, _GAP_TERMS)
    return root * root * (root * rest)


@functools.cache
def _erfc_series() -> list[float]:
    def scaled(t: Array) -> Array:
        u = np.maximum((t + 1.0) / 2, 1e-12)
        values: Array = scipy.special.erfcx(2.0 * (1.0 / u - 1.0)) / u
        return values

    return fitted(scaled, _ERFC_TERMS)


def bell(x: Tensor) -> Tensor:
    """Return exp(-x^2)."""
    z = torch.clamp(torch.abs(x), max=16.0)
    # exp(-z * z) would lose digits with its argument's; the square of a short number loses none,
    # and what is left is small.
    short = (z + _TO_GRID) - _TO_GRID
    return torch.exp(-short * short) * horner(_EXP, (short - z) * (short + z))


def erfc(x: Tensor) -> Tensor:
    """Return 1 - erf(x)."""
    u = inverse(1.0 + 0.5 * torch.clamp(torch.abs(x), max=16.0))
    tail = horner(_erfc_series(), 2.0 * u - 1.0) * u * bell(x)
    # NaN is neither below 0 nor above, and comes through u.
    return torch.where(x < 0, 2.0 - tail, tail)


def cosh(x: Tensor) -> Tensor:
    """Return the hyperbolic cosine."""
    # The square of exp(x / 2) overflows only where the result does.
    root = torch.exp(0.5 * torch.abs(x))
    rest = inverse(root)
    return (0.5 * root) * root + (0.5 * rest) * rest


def sinh(x: Tensor) -> Tensor:
    """Return the hyperbolic sine."""
    size = torch.abs(x)
    root = torch.exp(0.5 * size)
    rest = inverse(root)
    large = torch.copysign((0.5 * root) * root - (0.5 * rest) * rest, x)
    return torch.where(
        size < _SINH_SMALL, horner(by_square(np.sinh, _SINH_SMALL, _SINH_TERMS), x * x) * x, large
    )


def expm1(x: Tensor) -> Tensor:
    """Return exp(x) - 1."""
    small = horner(_expm1_series(), x) * x
    return torch.where(torch.abs(x) < _EXPM1_SMALL, small, torch.exp(x) - 1.0)


def _log1p_within(u: Tensor) -> Tensor:
    """Return log(1 + u) of a number between 0 and 1."""
    # Twice the inverse of the hyperbolic tangent at s; small numbers are rounded once.
    r = inverse(2.0 + u)
    s = r * u
    return u * (2.0 * r * horner(by_square(np.arctanh, 1.0 / 3.0, _ARTANH_TERMS), s * s))


def tanh(x: Tensor) -> Tensor:
    """Return the hyperbolic tangent."""
    below = expm1(-2.0 * torch.abs(x))
    return torch.copysign(-below * inverse(2.0 + below), x)


def elu(x: Tensor) -> Tensor:
    """Return x above 0 and exp(x) - 1 below."""
    return torch.where(x > 0, x, expm1(torch.clamp(x, max=0.0)))


def selu(x: Tensor) -> Tensor:
    """Return a multiple of x above 0, and of exp(x) - 1 below."""
    below = SELU_ALPHA * expm1(torch.clamp(x, max=0.0))
    return SELU_SCALE * torch.where(x > 0, x, below)


def sigmoid(x: Tensor) -> Tensor:
    """Return 1 / (1 + exp(-x))."""
    # Of the exponential that softplus is of, and with a divisor whose square does not overflow.
    e = torch.exp(-torch.abs(x))
    share = inverse(1.0 + e)
    return torch.where(x < 0, e * share, share)


def swish(x: Tensor) -> Tensor:
    """Return x / (1 + exp(-x))."""
    # The slope has the same factor.
    return x * sigmoid(x)


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
    inner = torch.clamp(size, max=_LARGEST_ROOT)
    above = inner * inner + 1.0
    # Half of what the logarithm is of, which is the largest numbers' own size; the root by its
    # reciprocal, which a GPU has an instruction for.
    half = 0.5 * inner + 0.5 * (above * torch.rsqrt(above)) + (size - inner)
    large = torch.copysign(torch.log(half) + math.log(2.0), x)
    return torch.where(
        size < _ARCSINH_SMALL,
        horner(by_square(np.arcsinh, _ARCSINH_SMALL, _ARCSINH_TERMS), x * x) * x,
        large,
    )


def arctan(x: Tensor) -> Tensor:
    """Return the inverse of the tangent."""
    size = torch.abs(x)
    # The smaller one of the size and its inverse.
    t = torch.clamp(size, max=1.0) * inverse(torch.clamp(size, min=1.0))
    angle = horner(by_square(np.arctan, 1.0, _ARCTAN_TERMS), t * t) * t
    return torch.copysign(torch.where(size > 1.0, 0.5 * math.pi - angle, angle), x)


def mish(x: Tensor) -> Tensor:
    """Return x times the hyperbolic tangent of softplus."""
    return x * tanh(softplus(x))


VECTORISED: Mapping[str, Callable[[Tensor], Tensor]] = MappingProxyType(
    {
        BELL: bell,
        GAP: bessel_gap,
        "arcsinh": arcsinh,
        "arctan": arctan,
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
"""By the name of the operator; and `BELL` and `GAP`."""

FOR_GPU: Mapping[str, Callable[[Tensor], Tensor]] = MappingProxyType(
    {**VECTORISED, "sigmoid": sigmoid, "swish": swish}
)
"""On a GPU also what shares its parts with others; a processor takes as long for the parts."""
