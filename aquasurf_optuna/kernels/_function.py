"""A function for autograd that keeps its input and nothing else.

The backward pass computes the slope from the input again. It can be differentiated in turn, since
the slope is an ordinary function of the input (`_chain`).
"""

from __future__ import annotations

import contextlib
from typing import Any

import torch
from torch import Tensor
from torch._prims_common import is_non_overlapping_and_dense_or_false
from torch.autograd import forward_ad

from aquasurf_optuna._wrapped import is_wrapped
from aquasurf_optuna.kernels._chain import slope_of, value_of
from aquasurf_optuna.kernels._fused import MOST, Kernels, kernels_of, wide
from aquasurf_optuna.kernels._plan import Plan

LEAST = 64
"""Of fewer numbers no kernel is called: a kernel for any length has another for a single number."""


class Elementwise:
    """A function in the form in which autograd applies it.

    Args:
        plan: The function.
        careful: Whether 0 times infinity is 0 in its slope.
        fused: Whether to run compiled kernels, where the tensors are ordinary ones.
    """

    def __init__(self, plan: Plan, *, careful: bool, fused: bool) -> None:
        self.plan = plan
        self.careful = careful
        self.fused = fused
        # Those of earlier calls: to look for them anew takes as long as a kernel's launch.
        self._found: dict[tuple[torch.dtype, torch.device], Kernels] = {}

    def __call__(self, x: Tensor) -> Tensor:
        """Return the value, differentiable where gradients are on."""
        result: Tensor
        if torch.compiler.is_compiling():
            result = _Kept.apply(x, self)
        elif is_wrapped(x) or forward_ad._current_level >= 0:
            result = _Applied.apply(x, self)
        elif torch.is_grad_enabled() and x.requires_grad:
            result = _Plain.apply(x, self)
        else:
            result = self.value(x)
        return result

    def kernels(self, dtype: torch.dtype, device: torch.device) -> Kernels | None:
        """Return the compiled kernels, or None where they cannot be had."""
        found = self._found.get((dtype, device))
        if found is None:
            found = kernels_of(self.plan, dtype, device, careful=self.careful)
            if found is not None:
                self._found[dtype, device] = found
        return found

    def value(self, x: Tensor) -> Tensor:
        """Return the value, without a graph of its own where a kernel computes it."""
        kernels = self._kernels(x)
        if kernels is None:
            with _without_autocast(x):
                return value_of(self.plan, wide(x)).to(x.dtype)
        source = dense(x)
        return like(kernels.forward(flat(source)), source)

    def backward(self, x: Tensor, gradient: Tensor) -> Tensor:
        """Return the gradient of x; where gradients are on, it can be differentiated."""
        kernels = None if torch.is_grad_enabled() else self._kernels(x)
        if kernels is None or is_wrapped(gradient):
            return (self.slope(x) * wide(gradient)).to(x.dtype)
        source = dense(x)
        if gradient.stride() != source.stride() or gradient.dtype != x.dtype:
            gradient = torch.empty_like(source).copy_(gradient)
        return like(kernels.backward(flat(source), flat(gradient)), source)

    def slope(self, x: Tensor) -> Tensor:
        """Return the slope by torch's own functions, in the dtype in which it is computed."""
        with _without_autocast(x):
            return slope_of(self.plan, wide(x), careful=self.careful)

    def _kernels(self, x: Tensor) -> Kernels | None:
        if not self.fused or not LEAST <= x.numel() < MOST or is_wrapped(x):
            return None
        return self.kernels(x.dtype, x.device)


class _Plain(torch.autograd.Function):
    """For ordinary tensors, where torch applies this form three times as fast."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, function: Elementwise) -> Tensor:
        ctx.save_for_backward(x)
        ctx.function = function
        return function.value(x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return _backward(ctx, gradient)


class _Kept(torch.autograd.Function):
    """What Dynamo can trace: it knows no function with a forward-mode derivative of its own."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, function: Elementwise) -> Tensor:
        return function.value(x)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Elementwise], output: Tensor) -> None:  # noqa: ARG004  # torch's signature
        x, ctx.function = inputs
        ctx.save_for_backward(x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return _backward(ctx, gradient)


class _Applied(_Kept):
    generate_vmap_rule = True

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Elementwise], output: Tensor) -> None:
        _Kept.setup_context(ctx, inputs, output)
        ctx.save_for_forward(inputs[0])

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor, _: None) -> Tensor:
        (x,) = ctx.saved_tensors
        slope: Tensor = ctx.function.slope(x)
        return (slope * wide(tangent)).to(x.dtype)


def _backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
    (x,) = ctx.saved_tensors
    return ctx.function.backward(x, gradient), None


def _without_autocast(x: Tensor) -> contextlib.AbstractContextManager[object]:
    """Let functions keep the dtype they are given; not every kind of device changes it."""
    if torch.amp.is_autocast_available(x.device.type):
        return torch.autocast(x.device.type, enabled=False)
    return contextlib.nullcontext()


def dense(x: Tensor) -> Tensor:
    """Return `x`, or a contiguous copy of it where it has gaps or overlaps."""
    if x.is_contiguous() or is_non_overlapping_and_dense_or_false(x):
        return x
    return torch.clone(x, memory_format=torch.contiguous_format)


def flat(x: Tensor) -> Tensor:
    """Return the numbers of a dense tensor as they lie in memory."""
    return x.detach().as_strided((x.numel(),), (1,), x.storage_offset())


def like(numbers: Tensor, x: Tensor) -> Tensor:
    """Return flat numbers in the shape and strides of `x`: the same memory, and no view of it.

    A view could not be changed in place by the caller.
    """
    return numbers.new_empty(0).set_(
        numbers.untyped_storage(), numbers.storage_offset(), x.shape, x.stride()
    )
