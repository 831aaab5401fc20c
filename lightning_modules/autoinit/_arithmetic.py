"""Rules of sums, products and random masks, and of elementwise functions, which need no names."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from aquasurf_optuna.exceptions import InitializationError
from lightning_modules.autoinit._call import Call, TracedTensor, exchanged, rule
from lightning_modules.autoinit._signal import Moments, Pointwise, Shares, Signal, constant, leaning


def pointwise(call: Call) -> Signal | None:
    """Compose an elementwise function of one signal, or of several functions of one signal."""
    roots = {id(tensor.signal.root) for tensor in call.traced}
    if len(roots) != 1 or any(tensor.numel() > 1 for tensor in call.constants):
        return None
    if not isinstance(call.result, Tensor) or not is_elementwise(_alone(call)):
        return None
    name, layer = call.tracer.layer
    where = f"layer {name!r} ({type(layer).__name__}), operation {call.name!r}"
    return Pointwise(call.traced[0].signal.root, _composed(call), where)


def _alone(call: Call) -> Callable[[Tensor], Any]:
    """Return the operation as a function of values that stand for every traced argument."""

    def function(values: Tensor) -> Any:
        # Each argument its own copy: the operation may write to one of them.
        return _run(call, lambda _: values.clone())

    return function


def _composed(call: Call) -> Callable[[Tensor], Tensor]:
    """Return the operation as a function of the values of its arguments' root."""
    # Taken now: an operation in place gives its argument another signal.
    signals = {id(tensor): tensor.signal for tensor in call.traced}

    def function(values: Tensor) -> Tensor:
        result: Tensor = _run(call, lambda tensor: signals[id(tensor)].function(values))
        return result

    return function


def _run(call: Call, values_of: Callable[[TracedTensor], Tensor]) -> Any:
    def real(tensor: Tensor) -> Tensor:
        if isinstance(tensor, TracedTensor):
            return values_of(tensor)
        return tensor.detach().to("cpu", torch.float64)

    args, kwargs = exchanged((tuple(call.args), dict(call.kwargs)), real)
    with torch.no_grad():
        return call.function(*args, **kwargs)


def is_elementwise(function: Callable[[Tensor], Any]) -> bool:
    """Tell whether each output depends on the input at its own place only, in the same way."""
    probe = torch.linspace(-2.0, 2.0, 64, dtype=torch.float64).reshape(1, 4, 4, 4)
    try:
        with torch.no_grad():
            whole, part = function(probe), function(probe.flip(1)[:, :2])
            line = function(probe.flatten())
    except Exception:
        # Whatever a function dislikes about a plain tensor, it is not an elementwise one.
        return False
    if not isinstance(whole, Tensor) or whole.shape != probe.shape:
        return False
    alike = [(whole.flip(1)[:, :2], part), (whole.flatten(), line)]
    return all(torch.equal(one.nan_to_num(), other.nan_to_num()) for one, other in alike)


@rule("add", "iadd", "radd", "sub", "isub", "subtract")
def added(call: Call) -> Signal | None:
    """Add independent signals."""
    alike = pointwise(call)
    operands = _operands(call)
    if alike is not None or operands is None or call.kwargs.get("alpha", 1) != 1:
        return alike
    one, other = operands
    sign = -1.0 if "sub" in call.name else 1.0
    cross = 2.0 * sign * one.mean * other.mean
    return Signal(
        Moments(
            one.mean + sign * other.mean,
            one.same + other.same + cross,
            one.beside + other.beside + cross,
            one.within + other.within + cross,
            one.between + other.between + cross,
            _unit(one, other),
        )
    )


@rule("mul", "imul", "rmul", "multiply")
def multiplied(call: Call) -> Signal | None:
    """Multiply independent signals."""
    alike = pointwise(call)
    operands = _operands(call)
    if alike is not None or operands is None:
        return alike
    one, other = operands
    products = [left * right for left, right in zip(one[:-1], other[:-1], strict=True)]
    product = Moments._make([*products, _unit(one, other)])
    return Signal(_leaning(call, product))


def _leaning(call: Call, product: Moments) -> Moments:
    """Add what values and their shares in an average have in common.

    The direction is one of the weights, so that all averages lean the same way.
    """
    signals = [tensor.signal for tensor in call.traced]
    for shares, values in (signals, signals[::-1]) if len(signals) == 2 else ():
        if isinstance(shares, Shares) and shares.origin and shares.origin == values.origin:
            gain = leaning(shares.variance, values.moments, shares.origin) / shares.count**2
            _, *others = (moment + gain for moment in product[:-1])
            product = Moments._make([product.mean, *others, product.unit])
    return product


@rule("dropout", "dropout1d", "dropout2d", "dropout3d", "feature_dropout")
def dropped(call: Call) -> Signal | None:
    """Keep values with probability `1 - p`, divided by it."""
    given = call.bound("input", "p", "training", p=0.5, training=True)
    if not given["training"] or given["p"] == 0:
        return call.traced[0].signal
    return Signal(without(call.moments, given["p"], call))


def without(moments: Moments, p: float, call: Call) -> Moments:
    """Return the moments behind dropout with this probability."""
    if p >= 1:
        raise InitializationError(f"layer {call.tracer.layer[0]!r} drops every value (p={p})")
    return moments._replace(same=moments.same / (1.0 - p))


def _operands(call: Call) -> tuple[Moments, Moments] | None:
    """Return the moments of two operands, tensors without a signal being constants of the model."""
    operands = list(call.args[:2])
    if len(operands) != 2 or not all(isinstance(operand, Tensor) for operand in operands):
        return None
    if any(not isinstance(o, TracedTensor) and o.is_meta for o in operands):
        return None
    axes = call.result.ndim
    one, other = (_aligned(moments_of(operand), axes) for operand in operands)
    return one, other


def _aligned(moments: Moments, axes: int) -> Moments:
    fields = [field.reshape((1,) * (axes - field.ndim) + tuple(field.shape)) for field in moments]
    return Moments._make(fields)


def moments_of(tensor: Tensor) -> Moments:
    """Return the moments of a traced tensor or, on average over its entries, of a constant one."""
    if isinstance(tensor, TracedTensor):
        return tensor.signal.moments
    values = tensor.detach().to("cpu", torch.float64)
    mean, same = (constant(float(part.mean()), tensor.ndim) for part in (values, values**2))
    return Moments(mean, same, same, same, same, constant(0.0, tensor.ndim))


def _unit(one: Moments, other: Moments) -> Tensor:
    return one.unit if one.unit.numel() >= other.unit.numel() else other.unit
