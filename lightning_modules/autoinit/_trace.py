"""One forward pass without values, in which every tensor carries its moments.

The pass runs the network's own code, so that whatever decides on shapes works as it does in
training. It runs on a copy of the modules, which shares the parameters but has no hooks and its own
buffers: nothing of the network itself can change.
"""

from __future__ import annotations

import collections
import copy
import functools
import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from aquasurf_optuna.activation import Activation
from aquasurf_optuna.exceptions import InitializationError, UnsupportedModelError
from lightning_modules.autoinit import _arithmetic, _averages, _layout, _norms, _weighted
from lightning_modules.autoinit._call import (
    RULES,
    Call,
    TracedTensor,
    exchanged,
    plain,
    tensors_of,
)
from lightning_modules.autoinit._quadrature import MeanVariance
from lightning_modules.autoinit._shapes import result_of
from lightning_modules.autoinit._signal import Moments, Pointwise, Signal, channels, constant

Unknown = Literal["error", "warn"]

_ROOMS = (_arithmetic, _averages, _layout, _norms, _weighted)
"""Importing them fills the table of rules."""
_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
# Two samples: code that refuses statistics of a single one runs as well.
_BATCH = 2


class Weights(NamedTuple):
    """What a layer gets.

    Attributes:
        layer: Its dotted name.
        weight: To be drawn.
        bias: To become zero, or None.
        std: Standard deviation of the weights.
    """

    layer: str
    weight: nn.Parameter
    bias: nn.Parameter | None
    std: float


def input_moments(shape: Sequence[int], inputs: MeanVariance) -> Moments:
    """Return the moments of values that have nothing but their mean in common.

    Args:
        shape: With the batch first; channels come second.
        inputs: Mean and variance of each value.
    """
    axes = len(shape)
    mean = constant(inputs.mean, axes)
    unit = channels(shape, 1) if axes > 1 else constant(0.0, axes)
    return Moments(mean, mean**2 + inputs.variance, mean**2, mean**2, mean**2, unit)


def follow(
    model: nn.Module, input_shape: Sequence[int], inputs: MeanVariance, unknown: Unknown
) -> tuple[list[Weights], list[Moments]]:
    """Follow the moments of a signal through a network.

    Args:
        model: The network.
        input_shape: Without the batch.
        inputs: Of the values that go in.
        unknown: What to do where an operation's effect on the moments is not known.

    Returns:
        What each layer gets, in the order in which the layers run; the moments of the outputs.

    Raises:
        InitializationError: If there are no weights that give a layer's output unit variance.
        UnsupportedModelError: If the forward pass fails, uses a layer's weights twice, or has an
            unknown effect and `unknown` is `"error"`.
    """
    the_pass = _Pass(model, unknown)
    shape = (_BATCH, *input_shape)
    dtype = next((p.dtype for p in model.parameters() if p.is_floating_point()), torch.float32)
    values = torch.empty(shape, dtype=dtype, device="meta")
    images = TracedTensor.of(values, Signal(input_moments(shape, inputs)), the_pass)
    with torch.no_grad():
        outputs = the_pass.copy_of(model)(images)
    # The last activation may be an operation of which nothing asked the moments yet.
    moments = [output.signal.moments for output in tensors_of(outputs, TracedTensor)]
    return list(the_pass.weights.values()), moments


class _Pass:
    """The state of one pass: which layer runs, and the weights found so far."""

    def __init__(self, model: nn.Module, unknown: Unknown) -> None:
        self.weights: dict[int, Weights] = {}
        self._unknown = unknown
        self._running: list[tuple[str, nn.Module]] = [("", model)]
        self._parameters = {id(p): p for p in model.parameters()}

    @property
    def layer(self) -> tuple[str, nn.Module]:
        """Dotted name and module of the layer that runs."""
        name, module = self._running[-1]
        return name or type(module).__name__, module

    def copy_of(self, model: nn.Module) -> nn.Module:
        """Copy the modules, not the parameters, and tell this pass whenever one runs."""
        memo: dict[int, Any] = dict(self._parameters)
        for module in model.modules():
            memo |= {id(getattr(module, hooks)): collections.OrderedDict() for hooks in _HOOKS}
        twin = copy.deepcopy(model, memo)
        for name, module in twin.named_modules():
            module.training = True
            module.forward = functools.partial(self._run, name, module, module.forward)
        return twin

    def _run(
        self, name: str, module: nn.Module, forward: Callable[..., Any], *args: Any, **kwargs: Any
    ) -> Any:
        self._running.append((name, module))
        try:
            activated = self._activated(module, args) if not kwargs else None
            return forward(*args, **kwargs) if activated is None else activated
        except (InitializationError, UnsupportedModelError):
            raise
        except Exception as error:
            shapes = [tuple(plain(tensor).shape) for tensor in tensors_of((args, kwargs))]
            raise UnsupportedModelError(
                f"autoinit_ cannot run {_described(*self.layer)} on a signal without values, of "
                f"shape {', '.join(map(str, shapes))} (batch first): {error}"
            ) from error
        finally:
            self._running.pop()

    def _activated(self, module: nn.Module, args: tuple[Any, ...]) -> TracedTensor | None:
        """Return what an activation module makes of a signal; None if it is no activation."""
        if len(args) != 1 or not isinstance(args[0], TracedTensor) or not _is_activation(module):
            return None
        signal = args[0].signal
        function: Callable[[Tensor], Tensor] = _double(module)
        if signal.root is not signal:
            function = functools.partial(_one_after_another, signal.function, function)
        name = self.layer[0]
        output = Pointwise(signal.root, function, f"layer {name!r} ({module})")
        # Unlike an operation, a layer that no weights can follow is refused wherever it stands.
        _ = output.moments
        return TracedTensor.of(plain(args[0]), output, self)

    def apply(
        self, function: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> Any:
        """Run a torch function on traced tensors."""
        with torch._C.DisableTorchFunctionSubclass():
            meta_args, meta_kwargs = exchanged((tuple(args), dict(kwargs)), plain)
            result = result_of(_name(function), function, meta_args, meta_kwargs)
            results = list(tensors_of(result))
            if not results:
                return result
            call = Call(_name(function), function, args, kwargs, result, self)
            signals = self._signals(call, len(results))
        if _is_in_place(function) and isinstance(args[0], TracedTensor):
            args[0].signal = signals[0]
            return args[0]
        remaining = iter(signals)
        return exchanged(result, lambda tensor: TracedTensor.of(tensor, next(remaining), self))

    def _signals(self, call: Call, count: int) -> list[Signal]:
        found = RULES.get(call.name, _arithmetic.pointwise)(call)
        if found is None:
            found = [self._unchanged(call, result) for result in tensors_of(call.result)]
        return found if isinstance(found, list) else [found] * count

    def _unchanged(self, call: Call, result: Tensor) -> Signal:
        problem = (
            f"autoinit_ does not know how the operation {call.name!r} in {_described(*self.layer)} "
            "changes the mean and variance of a signal"
        )
        if self._unknown == "error":
            raise UnsupportedModelError(
                f"{problem}; with unknown='warn' the signal passes it unchanged"
            )
        warnings.warn(f"{problem}; it passes unchanged", stacklevel=2)
        if tuple(result.shape) == call.shape:
            return call.traced[0].signal
        fields = [constant(float(moment.mean()), result.ndim) for moment in call.moments[:-1]]
        unit = channels(result.shape, 1) if result.ndim > 1 else constant(0.0, result.ndim)
        return Signal(Moments._make([*fields, unit]))

    def weigh(self, weight: object, bias: object, power: float) -> None:
        """Note the weights of the layer that runs; unit weights would give it a variance `power`.

        Raises:
            InitializationError: If no weights of their type give unit variance.
            UnsupportedModelError: If the weights are not the model's, or have been used before.
        """
        name, module = self.layer
        if not isinstance(weight, nn.Parameter) or id(weight) not in self._parameters:
            raise UnsupportedModelError(
                f"autoinit_ cannot draw the weights of {_described(name, module)}: they are "
                "computed, not a parameter of the model"
            )
        if id(weight) in self.weights:
            raise UnsupportedModelError(
                f"autoinit_ cannot serve two signals with one weight: {_described(name, module)} "
                f"runs with the weights of layer {self.weights[id(weight)].layer!r} again"
            )
        std = 1.0 / math.sqrt(power) if power > 0 else math.inf
        if not 0.0 < 3.0 * std < torch.finfo(weight.dtype).max:
            raise InitializationError(
                f"layer {name!r}: weights of standard deviation {std:.3g} overflow {weight.dtype}"
            )
        held = bias if isinstance(bias, nn.Parameter) else None
        self.weights[id(weight)] = Weights(name, weight, held, std)


def _is_activation(module: nn.Module) -> bool:
    if isinstance(module, Activation):
        return True
    if any(True for _ in module.children()) or _is_plain_layer(module):
        return False
    return _arithmetic.is_elementwise(_double(module))


def _is_plain_layer(module: nn.Module) -> bool:
    # Layers of torch's own other rooms are made of operations that have rules.
    home = type(module).__module__
    return home.startswith("torch.nn.modules.") and not home.endswith(".activation")


def _double(module: nn.Module) -> nn.Module:
    # A copy in float64: the layer itself keeps its dtype, and its parameters if it has any.
    if isinstance(module, Activation):
        return Activation(module.expression)
    # The forward that reports to the pass would bring a copy of the whole network.
    reporting = module.__dict__.get("forward")
    double: nn.Module = copy.deepcopy(module, {id(reporting): None})
    double.__dict__.pop("forward", None)
    return double.to("cpu", torch.float64)


def _one_after_another(
    first: Callable[[Tensor], Tensor], second: Callable[[Tensor], Tensor], x: Tensor
) -> Tensor:
    return second(first(x))


def _described(name: str, module: nn.Module) -> str:
    return f"layer {name!r} ({type(module).__name__})"


def _name(function: Callable[..., Any]) -> str:
    name = getattr(function, "__name__", type(function).__name__)
    if name == "__get__":
        name = getattr(getattr(function, "__self__", None), "__name__", name)
    return str(name).strip("_")


def _is_in_place(function: Callable[..., Any]) -> bool:
    name = getattr(function, "__name__", "")
    if name.startswith("__"):
        return name in ("__iadd__", "__isub__", "__imul__", "__itruediv__", "__ipow__")
    return name.endswith("_")
