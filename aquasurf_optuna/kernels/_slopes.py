r"""Derivatives of the operators: what a chain rule multiplies.

`SLOPES[name](functions, y, *arguments)` returns the partial derivative by each argument, where `y`
is the operator's value there and `functions` the functions in use (see `_vectorised`). Where a
function has a kink the value is torch's: 0 for `relu` at 0, a half to each side of `max` where both
are equal. Formulas are the textbook's; those with a name in brackets need a remark:

- `swish`, `elish`, `mish`, `gelu`: the factor that vanishes comes first, so that it meets no
  infinity within the range of the dtype.
- `arcsinh`, `arctan`, `softsign`: squares may overflow to infinity; their reciprocal is 0 then.
- `pow`: where the value is 0, or the base 0 and the exponent not negative, the slope by the
  exponent is 0; of a negative base it is NaN, since no power is beside that of a whole exponent.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from aquasurf_optuna.kernels._vectorised import BELL, GAP, SELU_ALPHA, SELU_SCALE

Function = Callable[..., Tensor]
Functions = Mapping[str, Function]
Slope = float | Tensor

_TWO_OVER_ROOT_PI = 2.0 / math.sqrt(math.pi)
_ROOT_HALF = math.sqrt(0.5)
_ONE_OVER_ROOT_TWO_PI = 1.0 / math.sqrt(2.0 * math.pi)


def _bell(x: Tensor) -> Tensor:
    return _TWO_OVER_ROOT_PI * torch.exp(-x * x)


def _erfc(functions: Functions, y: Tensor, x: Tensor) -> Tensor:
    # Where `erfc` is made of this very function it is computed once for both.
    bell = functions.get(BELL)
    return -_bell(x) if bell is None else -_TWO_OVER_ROOT_PI * bell(x)


def _sign(x: Tensor) -> Tensor:
    # In compiled kernels fewer instructions than `torch.sign`.
    return (x > 0).to(x.dtype) - (x < 0).to(x.dtype)


def _i0e(functions: Functions, y: Tensor, x: Tensor) -> Tensor:
    gap = functions.get(GAP)
    return -_sign(x) * (y - torch.abs(functions["bessel_i1e"](x)) if gap is None else gap(x))


def _i1e(functions: Functions, y: Tensor, x: Tensor) -> Tensor:
    # The quotient tends to a half at 0.
    quotient = torch.where(x == 0, 0.5, y / torch.where(x == 0, 1.0, x))
    gap = functions.get(GAP)
    return (functions["bessel_i0e"](x) - torch.abs(y) if gap is None else gap(x)) - quotient


def _selu(_: Functions, y: Tensor, x: Tensor) -> Tensor:
    # The exponential is 1 above 0, where the slope is the scale alone.
    excess = SELU_SCALE * (SELU_ALPHA - 1.0)
    below = SELU_SCALE * SELU_ALPHA * torch.exp(torch.clamp(x, max=0.0))
    return below - excess * (x > 0).to(x.dtype)


def _swish(functions: Functions, y: Tensor, x: Tensor) -> Tensor:
    s = functions["sigmoid"](x)
    return s * (1.0 + x * (1.0 - s))


def _elish(functions: Functions, y: Tensor, x: Tensor) -> Tensor:
    s = functions["sigmoid"](x)
    below = torch.clamp(x, max=0.0)
    return torch.where(
        x < 0, s * (torch.exp(below) + torch.expm1(below) * (1.0 - s)), s * (1.0 + x * (1.0 - s))
    )


def _gelu(_: Functions, y: Tensor, x: Tensor) -> Tensor:
    below = 0.5 * (1.0 + torch.erf(_ROOT_HALF * x))
    return below + x * (_ONE_OVER_ROOT_TWO_PI * torch.exp(-0.5 * x * x))


def _mish(functions: Functions, y: Tensor, x: Tensor) -> Tensor:
    t = functions["tanh"](functions["softplus"](x))
    return t + x * ((1.0 - t * t) * functions["sigmoid"](x))


def _hard_sigmoid(_: Functions, y: Tensor, x: Tensor) -> Tensor:
    inner = 0.2 * x + 0.5
    return 0.2 * ((inner > 0.0) & (inner < 1.0)).to(x.dtype)


def _relu(_: Functions, y: Tensor, x: Tensor) -> Tensor:
    return (x > 0).to(x.dtype)


def _leakyrelu(_: Functions, y: Tensor, x: Tensor) -> Tensor:
    return torch.where(x > 0, 1.0, torch.full_like(x, 0.01))


UNARY: Mapping[str, Callable[[Functions, Tensor, Tensor], Slope]] = {
    "negative": lambda f, y, x: -1.0,
    "abs": lambda f, y, x: torch.sign(x),
    "reciprocal": lambda f, y, x: -y * y,
    "square": lambda f, y, x: 2.0 * x,
    "exp": lambda f, y, x: y,
    "erf": lambda f, y, x: _bell(x),
    "erfc": _erfc,
    "sinh": lambda f, y, x: f["cosh"](x),
    "cosh": lambda f, y, x: f["sinh"](x),
    "tanh": lambda f, y, x: 1.0 - y * y,
    "expm1": lambda f, y, x: y + 1.0,
    "sigmoid": lambda f, y, x: y * (1.0 - y),
    "log_sigmoid": lambda f, y, x: f["sigmoid"](-x),
    "arcsinh": lambda f, y, x: torch.rsqrt(x * x + 1.0),
    "arctan": lambda f, y, x: 1.0 / (x * x + 1.0),
    "bessel_i0e": _i0e,
    "bessel_i1e": _i1e,
    "relu": _relu,
    "elu": lambda f, y, x: torch.exp(torch.clamp(x, max=0.0)),
    "selu": _selu,
    "swish": _swish,
    "softplus": lambda f, y, x: f["sigmoid"](x),
    "softsign": lambda f, y, x: torch.square(1.0 / (1.0 + torch.abs(x))),
    "hard_sigmoid": _hard_sigmoid,
    "elish": _elish,
    "gelu": _gelu,
    "leakyrelu": _leakyrelu,
    "mish": _mish,
}
"""Slope of each unary operator that has one; the numbers and `identity` are no steps of a plan."""


def _pow(y: Tensor, a: Tensor, b: Tensor) -> tuple[Slope, Slope]:
    power = torch.pow(a, b - 1.0)
    by_base = torch.where((b == 0) | (power == 0), 0.0, b * power)
    by_exponent = torch.where((y == 0) | ((a == 0) & (b >= 0)), 0.0, y * torch.log(a))
    return by_base, by_exponent


def _chosen(first: Tensor, second: Tensor) -> tuple[Slope, Slope]:
    """Return the share of the larger one, a half each where they are equal."""
    # Torch chooses by a mask ten times as slowly as it makes numbers of one.
    larger, smaller = (first > second).to(first.dtype), (first < second).to(first.dtype)
    half = 0.5 * (first == second).to(first.dtype)
    return larger + half, smaller + half


BINARY: Mapping[str, Callable[[Tensor, Tensor, Tensor], tuple[Slope, Slope]]] = {
    "add": lambda y, a, b: (1.0, 1.0),
    "sub": lambda y, a, b: (1.0, -1.0),
    "mul": lambda y, a, b: (b, a),
    "div": lambda y, a, b: (1.0 / b, -y / b),
    "pow": _pow,
    "max": lambda y, a, b: _chosen(a, b),
    "min": lambda y, a, b: _chosen(-a, -b),
}
"""Slopes of each binary operator by its two arguments."""
