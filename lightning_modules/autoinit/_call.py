"""One operation of a forward pass, as the rules see it, and the table of rules.

A forward pass runs on tensors without values (`TracedTensor`, on the meta device), each of which
carries its `Signal`. Every torch function that meets one becomes a `Call`; the rule of its name
says what signal comes out.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from lightning_modules.autoinit._signal import Moments, Signal, compact

Rule = Callable[["Call"], "Signal | list[Signal] | None"]
"""Returns the signals of the results, in their order, or None where it does not apply."""

RULES: dict[str, Rule] = {}
"""Rules by the name of a torch function without underscores (`add` for `__add__` and `add_`)."""


def rule(*names: str) -> Callable[[Rule], Rule]:
    """Register a function as the rule of these names."""

    def register(function: Rule) -> Rule:
        RULES.update(dict.fromkeys(names, function))
        return function

    return register


class Tracer(Protocol):
    """What an operation needs of the pass that it belongs to."""

    def apply(
        self, function: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> Any:
        """Run a torch function on traced tensors."""

    def weigh(self, weight: object, bias: object, power: float) -> None:
        """Note the weights of the layer that runs, to which unit weights give variance `power`."""

    @property
    def layer(self) -> tuple[str, nn.Module]:
        """Dotted name and module of the layer that runs."""


class TracedTensor(Tensor):
    """A tensor without values that knows its signal."""

    signal: Signal
    tracer: Tracer

    @staticmethod
    def of(values: Tensor, signal: Signal, tracer: Tracer) -> TracedTensor:
        """Wrap a tensor on the meta device."""
        traced: TracedTensor = torch.Tensor._make_subclass(TracedTensor, values)
        traced.signal, traced.tracer = signal, tracer
        return traced

    @classmethod
    def __torch_function__(
        cls,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Hand every torch function to the pass."""
        first = next(tensors_of((args, kwargs), TracedTensor))
        return first.tracer.apply(func, args, kwargs or {})


def tensors_of(tree: object, kind: type[Tensor] = Tensor) -> Iterator[Any]:
    """Yield the tensors of a kind in nested lists, tuples and dicts, in order."""
    if isinstance(tree, kind):
        yield tree
    elif isinstance(tree, list | tuple):
        for item in tree:
            yield from tensors_of(item, kind)
    elif isinstance(tree, Mapping):
        yield from tensors_of(list(tree.values()), kind)


def exchanged(tree: Any, change: Callable[[Tensor], Any]) -> Any:
    """Return nested lists, tuples and dicts with every tensor put through `change`."""
    if isinstance(tree, Tensor):
        return change(tree)
    if isinstance(tree, list | tuple):
        items = [exchanged(item, change) for item in tree]
        # A named tuple takes its items one by one.
        return type(tree)(*items) if hasattr(tree, "_fields") else type(tree)(items)
    if isinstance(tree, Mapping):
        return {key: exchanged(value, change) for key, value in tree.items()}
    return tree


@dataclasses.dataclass(frozen=True)
class Call:
    """One torch function on traced tensors.

    Attributes:
        name: The function's name without underscores.
        function: The torch function.
        args: As they came.
        kwargs: As they came.
        result: What it returns for tensors without values.
        tracer: The pass.
    """

    name: str
    function: Callable[..., Any]
    args: Sequence[Any]
    kwargs: Mapping[str, Any]
    result: Any
    tracer: Tracer

    @property
    def traced(self) -> list[TracedTensor]:
        """The arguments that carry a signal."""
        return list(tensors_of((self.args, self.kwargs), TracedTensor))

    @property
    def constants(self) -> list[Tensor]:
        """The tensors among the arguments that carry none."""
        every = tensors_of((self.args, self.kwargs))
        return [tensor for tensor in every if not isinstance(tensor, TracedTensor)]

    @property
    def moments(self) -> Moments:
        """The moments of the first traced argument."""
        return self.traced[0].signal.moments

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the first traced argument."""
        return tuple(plain(self.traced[0]).shape)

    def bound(self, *names: str, **defaults: Any) -> dict[str, Any]:
        """Return the arguments by name; a default for those that did not come, or None."""
        return (
            dict.fromkeys(names)
            | defaults
            | dict(zip(names, self.args, strict=False))
            | dict(self.kwargs)
        )

    def on(self, values: Tensor) -> Any:
        """Run the function with real values in place of the traced argument."""
        args, kwargs = exchanged(
            (tuple(self.args), dict(self.kwargs)),
            lambda tensor: values if isinstance(tensor, TracedTensor) else tensor,
        )
        with torch.no_grad():
            return self.function(*args, **kwargs)

    def moved(self, moment: Tensor) -> list[Tensor]:
        """Run the function on a moment at its full shape; one moment for each result."""
        results = list(tensors_of(self.result))
        if moment.numel() == 1:
            return [moment.reshape((1,) * result.ndim) for result in results]
        parts = tensors_of(self.on(moment.expand(self.shape).contiguous()))
        return [compact(part) for part in parts]

    def on_places(self, moment: Tensor) -> Tensor:
        """Run the function on a moment at its full size along the axes from the third."""
        full = moment.expand(*moment.shape[:2], *self.shape[2:]).contiguous()
        return compact(self.on(full))


def plain(tensor: Tensor) -> Tensor:
    """Return a tensor without values that torch functions do not hand to the pass."""
    if isinstance(tensor, TracedTensor):
        with torch._C.DisableTorchFunctionSubclass():
            return tensor.as_subclass(Tensor)
    return tensor.detach().to("meta")
