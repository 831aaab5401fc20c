"""`arcsinh`, `sinh` and `cosh` for processors, where torch computes one number at a time.

They are made of functions that torch vectorises, which takes a seventh to three tenths of the time,
and as many digits are right. Only ordinary float32 tensors of a processor take this way. For all
others, and where torch watches what is computed (to compile, export, batch or differentiate
forwards), torch's own functions do.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

from aquasurf_optuna._wrapped import is_wrapped

# Up to here squares, exponentials and their sums stay within the range of float32; what a larger
# number has beyond makes a second factor, or a second term.
_MOST_SQUARED = 1e9
_MOST_EXPONENT = 80.0


def arcsinh(x: Tensor) -> Tensor:
    """Return the inverse of the hyperbolic sine."""
    return _applied(x, _arcsinh, _arcsinh_slope) if _is_ordinary(x) else torch.asinh(x)


def sinh(x: Tensor) -> Tensor:
    """Return the hyperbolic sine."""
    return _applied(x, _sinh, cosh) if _is_ordinary(x) else torch.sinh(x)


def cosh(x: Tensor) -> Tensor:
    """Return the hyperbolic cosine."""
    return _applied(x, _cosh, sinh) if _is_ordinary(x) else torch.cosh(x)


def _is_ordinary(x: Tensor) -> bool:
    return (
        not torch.compiler.is_compiling()
        and x.dtype == torch.float32
        and x.device.type == "cpu"
        and not is_wrapped(x)
        and torch._C._get_tracing_state() is None
        and forward_ad._current_level < 0
    )


def _applied(
    x: Tensor, value: Callable[[Tensor], Tensor], slope: Callable[[Tensor], Tensor]
) -> Tensor:
    if torch.is_grad_enabled() and x.requires_grad:
        result: Tensor = _Function.apply(x, value, slope)
        return result
    return value(x)


class _Function(torch.autograd.Function):
    """A function of which the slope is known; like torch's own, it keeps its input."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        value: Callable[[Tensor], Tensor],
        slope: Callable[[Tensor], Tensor],
    ) -> Tensor:
        ctx.save_for_backward(x)
        ctx.slope = slope
        return value(x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        (x,) = ctx.saved_tensors
        return gradient * ctx.slope(x), None, None


def _arcsinh(x: Tensor) -> Tensor:
    """Return log(1 + s + s^2 / (1 + sqrt(1 + s^2))) of the size s, with the sign of x."""
    size = torch.abs(x)
    inner = torch.clamp(size, max=_MOST_SQUARED)
    root = torch.square(inner).add_(1.0).sqrt_().add_(1.0)
    near = torch.div(inner, root, out=root).mul_(inner).add_(inner).log1p_()
    rest = size.clamp_(min=_MOST_SQUARED).div_(_MOST_SQUARED).log_()
    return near.add_(rest).copysign_(x)


def _arcsinh_slope(x: Tensor) -> Tensor:
    return torch.rsqrt(torch.square(x) + 1.0)


def _sinh(x: Tensor) -> Tensor:
    """Return (e + e / (e + 1)) / 2, where e is exp(s) - 1 of the size s, with the sign of x."""
    size = torch.abs(x)
    inner = torch.clamp(size, max=_MOST_EXPONENT)
    rest = size.sub_(inner).exp_()
    grown = torch.expm1(inner)
    half = torch.add(grown, 1.0, out=inner)
    torch.div(grown, half, out=half)
    return half.add_(grown).mul_(0.5).mul_(rest).copysign_(x)


def _cosh(x: Tensor) -> Tensor:
    """Return (exp(s) + exp(-s)) / 2 of the size s."""
    size = torch.abs(x)
    inner = torch.clamp(size, max=_MOST_EXPONENT)
    rest = size.sub_(inner).exp_()
    grown = inner.exp_()
    return torch.reciprocal(grown).add_(grown).mul_(0.5).mul_(rest)
