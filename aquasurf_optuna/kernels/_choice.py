"""How a function is computed: operator by operator, or by a compiled kernel, and who decides.

Compiling takes seconds, so it pays only for a function that is computed on many numbers. `"auto"`
counts them, and compiles when as many have come as take about as long to compute as to compile for.
The count of each activation, and neither a clock nor what else the process has done, decides: a
training with the same seed computes the same numbers, wherever it runs.
"""

from __future__ import annotations

import functools
import os
import warnings
from typing import Literal, cast, get_args

import torch
from torch import Tensor

from aquasurf_optuna._wrapped import is_wrapped
from aquasurf_optuna.exceptions import KernelError
from aquasurf_optuna.expression import Expression, program_of, run_program
from aquasurf_optuna.kernels._chain import is_supported, slope_of, value_of
from aquasurf_optuna.kernels._function import LEAST, Elementwise
from aquasurf_optuna.kernels._fused import failure, wide
from aquasurf_optuna.kernels._plan import INPUT, Plan, plan_of

Kernel = Literal["auto", "composed", "recomputed", "fused"]
"""How an activation is computed.

- `"composed"`: one torch function after the other, each keeping what its backward pass needs.
- `"recomputed"`: the same, but only the input is kept, and the slope computed from it.
- `"fused"`: only the input is kept; one compiled kernel forward and one backward.
- `"auto"`: `"composed"` (or `"recomputed"`, where torch's own slope has a NaN that the function has
  not, and in 16 bits), until so many numbers have come that `"fused"` pays.
"""

VARIABLE = "AQUASURF_KERNEL"
"""The environment variable that says what an activation takes which is not told."""

ENOUGH = {"cpu": 2**26, "cuda": 2**31}
"""Numbers, by kind of device, after which an activation is compiled: on two cores compiling takes
some seconds, and composing takes that much longer for 2^30 numbers, which a network of 16
activations then has seen; on a GPU compiling takes as long, and numbers a thirtieth."""

LARGE = 2**24
"""A tensor of so many numbers is enough by itself: what composing keeps of it is hundreds of MB."""

# Functions that torch computes by one kernel, forward and backward, which compiling cannot beat.
_SINGLE = frozenset(
    {
        *("negative", "abs", "exp", "expm1", "relu", "leakyrelu", "elu", "selu", "swish"),
        *("softplus", "sigmoid", "log_sigmoid", "tanh", "gelu", "mish"),
    }
)
# Where the slopes are compared: the places that overflow and underflow, and between them.
_PROBES = (0.0, -0.0, 1e-30, 1e30, float("inf"))


class KernelWarning(UserWarning):
    """A kernel was asked for and cannot be had; the numbers are the same without it."""


def default_kernel() -> Kernel:
    """Return what activations take that are not told: the environment's word, or `"auto"`.

    Raises:
        KernelError: If the environment's word is none.
    """
    return checked_kernel(os.environ.get(VARIABLE, "auto"), of=VARIABLE)


def checked_kernel(kernel: str, *, of: str = "kernel") -> Kernel:
    """Return a kernel's name if it is one.

    Raises:
        KernelError: If not.
    """
    known = get_args(Kernel)
    if kernel not in known:
        raise KernelError(f"{of} must be one of {', '.join(known)}, got {kernel!r}")
    return cast(Kernel, kernel)


class Computation:
    """The ways to compute one function, and the choice between them.

    Args:
        expression: The function.
        kernel: See `Kernel`.
    """

    def __init__(self, expression: Expression, kernel: Kernel) -> None:
        self._program = program_of(expression)
        self._kernel = kernel
        self._has_slope = is_supported(expression)
        self._plan = plan_of(expression) if self._has_slope else (INPUT,)
        self._is_careful = needs_care(self._plan)
        self._recomputed = Elementwise(self._plan, careful=self._is_careful, fused=False)
        self._fused = Elementwise(self._plan, careful=self._is_careful, fused=True)
        self._is_single = len(self._plan) == 1 or (
            len(self._plan) == 2 and self._plan[1].operator in _SINGLE
        )
        self._warned = False
        self._count = 0

    def __call__(self, x: Tensor) -> Tensor:
        """Return the function's value; see `Expression.__call__`."""
        if not self._has_slope or not x.is_floating_point():
            return run_program(self._program, x)
        if torch.compiler.is_compiling():
            return self._in_a_graph(x)
        kernel = self._chosen(x)
        if kernel == "composed":
            return run_program(self._program, x)
        return (self._fused if kernel == "fused" else self._recomputed)(x)

    def _in_a_graph(self, x: Tensor) -> Tensor:
        """Leave fusing, and what is kept, to the compiler of the whole; it keeps inputs as well."""
        if torch.compiler.is_exporting() or not self._is_careful:
            return run_program(self._program, x)
        return self._recomputed(x)

    def _chosen(self, x: Tensor) -> Kernel:
        if self._kernel == "auto":
            return self._chosen_for(x)
        if self._kernel == "fused" and not is_wrapped(x):
            self._warn_without(x)
        return self._kernel

    def _chosen_for(self, x: Tensor) -> Kernel:
        # In 16 bits composing rounds after every operator, and the other ways only at the end.
        is_wide = wide(x) is x or self._is_single
        before: Kernel = "composed" if is_wide and not self._is_careful else "recomputed"
        enough = ENOUGH.get(x.device.type)
        if enough is None or self._is_single or is_wrapped(x) or failure(x.device.type):
            return before
        self._count += x.numel()
        if self._count < enough and x.numel() < LARGE:
            return before
        return before if self._compiled(x) is None else "fused"

    def _compiled(self, x: Tensor) -> object:
        return self._fused.kernels(x.dtype, x.device)

    def _warn_without(self, x: Tensor) -> None:
        if not self._warned and x.numel() >= LEAST and self._compiled(x) is None:
            self._warned = True
            warnings.warn(
                f"kernel='fused' cannot be had on {x.device.type} here "
                f"({failure(x.device.type)}); computing without, with the same results",
                KernelWarning,
                stacklevel=4,
            )


@functools.lru_cache(maxsize=4096)
def needs_care(plan: Plan) -> bool:
    """Say whether the plain chain rule has a NaN where a function is finite and has a slope."""
    # A network may be built on a device where tensors have no numbers.
    with torch.no_grad(), torch.device("cpu"):
        small_to_large, between = torch.logspace(-8, 8, 65), torch.linspace(1, 100, 67)
        sizes = torch.cat([torch.tensor(_PROBES), small_to_large, between]).float()
        x = torch.cat([sizes, -sizes])
        plain, careful = slope_of(plan, x, careful=False), slope_of(plan, x, careful=True)
        finite = value_of(plan, x).isfinite()
    return bool((finite & plain.isnan() & ~careful.isnan()).any())
