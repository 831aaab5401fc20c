"""One kernel for the value of a function and one for its backward pass, by Inductor.

Inductor writes Triton on a GPU and vectorised C++ on a processor. A kernel takes flat tensors of
any length, so that each is compiled once for a function, a dtype and a kind of device, whatever
shapes come; it is kept for the process, and Inductor's own cache keeps what it built on disk.
Tensors of 16 bits are computed in float32. Kernels are called without Dynamo's guards and
AOTAutograd's wrappers, which take time at every call.
"""

from __future__ import annotations

import functools
import logging
import threading
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.fx.experimental.proxy_tensor import make_fx

from aquasurf_optuna.kernels._chain import PLAIN, slope_of, value_of
from aquasurf_optuna.kernels._plan import Plan
from aquasurf_optuna.kernels._vectorised import FOR_GPU, VECTORISED

_EXAMPLE_LENGTH = 64
# Threads of a GPU read four numbers at once where their number is known to be a multiple of this.
_ROW = 16
_CONTRACT = "cpp.enable_floating_point_contract_flag"

MOST = 2**31
"""Of so many numbers and more no kernel is called: it counts them in 32 bits."""

_logger = logging.getLogger(__name__)
_lock = threading.RLock()
_failures: dict[str, str] = {}


class Kernels(NamedTuple):
    """The two kernels of a function.

    Attributes:
        forward: Flat x -> value, flat or in rows.
        backward: Flat x and flat gradient of the value -> gradient of x, flat or in rows.
    """

    forward: Callable[[Tensor], Tensor]
    backward: Callable[[Tensor, Tensor], Tensor]


def wide(x: Tensor) -> Tensor:
    """Return the tensor in which values are computed: float32 for those of 16 bits."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


def failure(device: str) -> str | None:
    """Return why kernels cannot be compiled for a kind of device, or None."""
    return _failures.get(device)


def kernels_of(
    plan: Plan, dtype: torch.dtype, device: torch.device, *, careful: bool
) -> Kernels | None:
    """Return the kernels of a function, compiled at the first call; None where that fails.

    A failure counts for the kind of device, and is not tried again: there is no compiler, or the
    process may start none.
    """
    if device.type in _failures:
        return None
    with _lock:
        try:
            return _compiled(plan, dtype, device, careful)
        except Exception as error:  # whatever a compiler's absence looks like
            _failures[device.type] = f"{type(error).__name__}: {error}"
            _logger.info("no fused kernels on %s: %s", device.type, error)
            return None


@functools.lru_cache(maxsize=1024)
def _compiled(plan: Plan, dtype: torch.dtype, device: torch.device, careful: bool) -> Kernels:
    replaced = FOR_GPU if device.type == "cuda" else VECTORISED
    if dtype == torch.float64:
        # The others have float32's digits.
        replaced = PLAIN

    def forward(x: Tensor) -> Tensor:
        return value_of(plan, wide(x), replaced).to(x.dtype)

    def backward(x: Tensor, gradient: Tensor) -> Tensor:
        slope = slope_of(plan, wide(x), replaced, careful=careful)
        return (slope * wide(gradient)).to(x.dtype)

    example = torch.zeros(_EXAMPLE_LENGTH, dtype=dtype, device=device)
    # Two tensors: of one that comes twice a trace makes one input.
    examples = (example, torch.zeros_like(example))
    if device.type == "cpu":
        return Kernels(_built(forward, examples[:1]), _built(backward, examples))
    return Kernels(_ByLength(forward, examples[:1]), _ByLength(backward, examples))


class _ByLength:
    """A kernel for tensors that are whole rows, and one for others once they come."""

    def __init__(self, function: Callable[..., Tensor], examples: Sequence[Tensor]) -> None:
        self._function = function
        self._examples = examples
        self._of_rows = _built(function, [each.view(-1, _ROW) for each in examples])
        self._others: Callable[..., Tensor] | None = None

    def __call__(self, *tensors: Tensor) -> Tensor:
        if tensors[0].numel() % _ROW == 0:
            return self._of_rows(*[each.view(-1, _ROW) for each in tensors])
        with _lock:
            if self._others is None:
                self._others = _built(self._function, self._examples)
        return self._others(*tensors)


def _built(function: Callable[..., Tensor], examples: Sequence[Tensor]) -> Callable[..., Tensor]:
    """Compile a function of tensors of one shape, of which the first length may be any."""
    # Inductor takes seconds to import, which a search that compiles nothing need not wait for.
    from torch._inductor.compile_fx import compile_fx_inner
    from torch._inductor.decomposition import select_decomp_table
    from torch._inductor.virtualized import V

    def traced(*tensors: Tensor) -> tuple[Tensor]:
        for length in tensors[0].shape[1:]:
            int(length)  # what is asked for by its number is no variable of the trace
        return (function(*tensors),)

    device = examples[0].device.type
    with torch.no_grad(), torch.autocast(device, enabled=False):
        trace = make_fx(traced, tracing_mode="symbolic", decomposition_table=select_decomp_table())
        graph = trace(*examples).graph
        # Tensors of the trace, not the examples: these have no variables.
        inputs = [node.meta["val"] for node in graph.find_nodes(op="placeholder")]
        mode = inputs[0].fake_mode
        with (
            V.set_fake_mode(mode),
            torch._guards.tracing(torch._guards.TracingContext(mode)),
            torch._inductor.config.patch(_options() if device == "cpu" else {}),
        ):
            # A module of its own: the trace's holds what Inductor's cache cannot pickle.
            code = compile_fx_inner(torch.fx.GraphModule({}, graph), inputs)
        assert callable(code)

    def built(*tensors: Tensor) -> Tensor:
        result: Tensor = code(list(tensors))[0]
        return result

    built(*examples)  # fails here, if it fails
    return built


def _options() -> dict[str, Any]:
    """Return how Inductor is to compile for a processor."""
    # A kernel's threads are those of the caller at each call, not those of its first one.
    options: dict[str, Any] = {"cpp.dynamic_threads": True}
    # A product and its sum with something are one instruction, and rounded once.
    if _CONTRACT in torch._inductor.list_options():
        options[_CONTRACT] = "fast"
    return options
