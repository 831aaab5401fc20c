"""Analytic signal-preserving initialisation for networks whose layers run one after another.

Garrett Bingham, Risto Miikkulainen: "AutoInit: Analytic Signal-Preserving Weight Initialization for
Neural Networks", AAAI 2023, arXiv:2109.08958. The AQuaSurF paper trains with it (Table 5), because
with torch's own initialisation most activation functions learn nothing in few steps.

Symbols: a signal is described by its mean `mu` and variance `nu`; `q = mu**2 + nu` is its second
moment. A layer with weights gets `N(0, 1 / (fan_in * q))` weights and zero biases, so its outputs
have mean 0 and variance 1. An activation `f` maps `(mu, nu)` to the mean and variance of `f(z)` for
`z ~ N(mu, nu)`, found by integration in float64.

The propagation is one function a kind of layer (`propagate`), so that further kinds register
themselves: `@propagate.register` on a function of `(layer, signal, name)`.
"""

from __future__ import annotations

import copy
import dataclasses
import functools
import math
from collections.abc import Iterator
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from aquasurf_optuna.activation import Activation
from aquasurf_optuna.exceptions import InitializationError, UnsupportedModelError
from aquasurf_optuna.expression import Expression

ModelT = TypeVar("ModelT", bound=nn.Module)

_GRID_POINTS = 1 << 15
_GRID_REACH = 10.0
"""Standard deviations that the grid covers on either side."""
_TAIL_START = 8.0
"""A second moment held by the tails beyond this many standard deviations does not converge."""
_CONVERGENCE = 0.01
"""Relative change of the second moment with the grid at which it counts as not converging."""
_FLOAT32 = torch.finfo(torch.float32)


@dataclasses.dataclass(frozen=True)
class Signal:
    """Mean and variance of the values that pass between two layers."""

    mean: float = 0.0
    variance: float = 1.0

    @property
    def second_moment(self) -> float:
        """Mean of the squared values."""
        return self.mean**2 + self.variance


def autoinit_(model: ModelT, *, mean: float = 0.0, variance: float = 1.0) -> ModelT:
    """Initialise a network in place so that every weighted layer's outputs have mean 0, variance 1.

    Weights are drawn from torch's global generator, so `torch.manual_seed` decides them.

    Args:
        model: An `nn.Sequential`, nested ones allowed, of convolutions, linear layers, dropout,
            flattening, global average pooling and elementwise activations.
        mean: Mean of the network's inputs.
        variance: Variance of the network's inputs, above 0.

    Returns:
        The same model.

    Raises:
        InitializationError: If an activation is constant, not finite, or without a second moment
            that float32 can hold. Layers before it have their new weights by then.
        UnsupportedModelError: If a layer's effect on mean and variance is not known here.
        ValueError: If `mean` or `variance` is not finite, or `variance` is not above 0.
    """
    if not (math.isfinite(mean) and math.isfinite(variance) and variance > 0):
        raise ValueError(
            "autoinit_ needs the finite mean and the positive, finite variance of the inputs, "
            f"got mean={mean!r}, variance={variance!r}"
        )
    signal = Signal(mean, variance)
    seen: dict[int, str] = {}
    for name, layer in _in_order(model, ""):
        signal = propagate(layer, signal, name)
        for parameter in layer.parameters():
            _refuse_tied(name, seen.setdefault(id(parameter), name))
    return model


def _refuse_tied(name: str, owner: str) -> None:
    if name != owner:
        raise UnsupportedModelError(
            f"autoinit_ cannot serve two signals with one weight: layers {owner!r} and {name!r} "
            "share a parameter; give each its own"
        )


def _in_order(module: nn.Module, name: str) -> Iterator[tuple[str, nn.Module]]:
    """Yield the layers of nested `nn.Sequential`s as (dotted name, layer), in running order."""
    if not isinstance(module, nn.Sequential):
        yield name or type(module).__name__, module
        return
    # named_children() would leave out the second place of a layer that stands at two.
    for child_name, child in module._modules.items():
        yield from _in_order(child, f"{name}.{child_name}" if name else child_name)


@functools.singledispatch
def propagate(layer: nn.Module, signal: Signal, name: str) -> Signal:
    """Initialise one layer and return the signal that leaves it.

    A layer that nothing else is registered for has to be an elementwise function.

    Raises:
        InitializationError: If the layer is an activation that no weights can follow.
        UnsupportedModelError: If the layer is no elementwise function.
    """
    if any(True for _ in layer.children()) or not _is_elementwise(layer):
        raise UnsupportedModelError(
            f"autoinit_ does not know how layer {name!r} ({type(layer).__name__}) changes the mean "
            "and variance of a signal; supported are nn.Sequential, Conv, Linear, Dropout, "
            "Flatten, Identity, AdaptiveAvgPool2d and elementwise activations"
        )
    try:
        return activated(layer, signal)
    except InitializationError as error:
        raise InitializationError(f"layer {name!r} ({layer}): {error}") from None


@propagate.register(nn.Linear)
@propagate.register(nn.Conv1d)
@propagate.register(nn.Conv2d)
@propagate.register(nn.Conv3d)
def _weighted(
    layer: nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d, signal: Signal, name: str
) -> Signal:
    # weight is [out, in / groups, *kernel], so one output sums as many products as weight[0] has.
    fan_in = layer.weight[0].numel()
    with torch.no_grad():
        layer.weight.normal_(0.0, 1.0 / math.sqrt(fan_in * signal.second_moment))
        if layer.bias is not None:
            layer.bias.zero_()
    if not torch.isfinite(layer.weight).all():
        raise InitializationError(f"layer {name!r}: the weights overflow {layer.weight.dtype}")
    return Signal()


@propagate.register(nn.Dropout)
@propagate.register(nn.Dropout1d)
@propagate.register(nn.Dropout2d)
@propagate.register(nn.Dropout3d)
def _dropped(layer: nn.Dropout, signal: Signal, name: str) -> Signal:
    # In training, values are kept with probability 1 - p and divided by it.
    if layer.p >= 1:
        raise InitializationError(f"layer {name!r} drops every value (p={layer.p})")
    second_moment = signal.second_moment / (1.0 - layer.p)
    return Signal(signal.mean, second_moment - signal.mean**2)


@propagate.register(nn.Flatten)
@propagate.register(nn.Identity)
# The mean survives an average. The variance becomes something between nu (neighbours equal) and
# nu / count (neighbours independent), which layer statistics alone cannot tell; nothing with
# weights follows the pooling of the networks here, so it never matters.
@propagate.register(nn.AdaptiveAvgPool2d)
def _kept(layer: nn.Module, signal: Signal, name: str) -> Signal:  # noqa: ARG001 - the protocol
    return signal


def activated(function: nn.Module, signal: Signal) -> Signal:
    """Return mean and variance of `function(z)` for Gaussian `z` of the signal's mean and variance.

    The midpoint rule on a fine grid, because activation functions have kinks and jumps that
    Gauss-Hermite quadrature smooths over. The second moment is computed on two grids: where it
    hangs on the grid (a pole) or on the far tails (growth like exp(x**2)), it does not exist.

    Raises:
        InitializationError: If the function is not finite on the signal, is constant on it as far
            as float32 can tell, or has a second moment that is infinite or out of float32's range.
    """
    if isinstance(function, Activation):
        return _activated_expression(function.expression, signal)
    return _integrated(function, signal)


@functools.lru_cache(maxsize=4096)
def _activated_expression(expression: Expression, signal: Signal) -> Signal:
    # Every layer of a network meets the same signal: integrating once for all saves most of the
    # time that an initialisation takes.
    return _integrated(Activation(expression), signal)


def _integrated(function: nn.Module, signal: Signal) -> Signal:
    """Integrate as `activated` says."""
    coarse = _moments(function, signal, _GRID_POINTS // 2)
    fine = _moments(function, signal, _GRID_POINTS)
    if not (math.isfinite(coarse.second) and math.isfinite(fine.second)):
        raise InitializationError("its outputs are not finite")
    unsettled = max(fine.tail, abs(fine.second - coarse.second))
    if unsettled > _CONVERGENCE * fine.second:
        raise InitializationError("the second moment of its outputs is infinite")
    if not _FLOAT32.tiny < fine.second < _FLOAT32.max:
        raise InitializationError(
            f"the second moment of its outputs, {fine.second:.3g}, is out of float32's range"
        )
    # Below rounding, the next layer would amplify nothing but float32 noise.
    if fine.variance <= fine.second * _FLOAT32.eps**2:
        raise InitializationError(f"its outputs are constant ({fine.mean:.6g})")
    return Signal(fine.mean, fine.variance)


class _Moments(NamedTuple):
    mean: float
    variance: float
    second: float
    tail: float  # the part of `second` from beyond `_TAIL_START` standard deviations


def _moments(function: nn.Module, signal: Signal, points: int) -> _Moments:
    """Integrate `f`, `f**2` and `(f - mean)**2` over `N(mean, variance)` by the midpoint rule."""
    # Midpoints never fall on 0, where sinh(x)/x is 0/0 although no signal ever meets that point.
    z = (np.arange(points) + 0.5) * (2 * _GRID_REACH / points) - _GRID_REACH
    weights = np.exp(-0.5 * z**2)
    weights /= weights.sum()
    outputs = _evaluate(function, signal.mean + math.sqrt(signal.variance) * z)
    with np.errstate(over="ignore", invalid="ignore"):
        squares = weights * outputs**2
        mean = float(weights @ outputs)
        variance = float(weights @ (outputs - mean) ** 2)
    tail = squares[np.abs(z) > _TAIL_START]
    return _Moments(mean, variance, float(squares.sum()), float(tail.sum()))


def _evaluate(function: nn.Module, inputs: np.ndarray) -> np.ndarray:
    # A copy in float64: the layer itself keeps its dtype, and its parameters if it has any.
    double = copy.deepcopy(function).to("cpu", torch.float64)
    with torch.no_grad():
        outputs: np.ndarray = double(torch.from_numpy(inputs)).numpy()
    return outputs


def _is_elementwise(layer: nn.Module) -> bool:
    """Tell whether each output depends on the input at its own place only, in the same way."""
    probe = torch.linspace(-2.0, 2.0, 64, dtype=torch.float64).reshape(1, 4, 4, 4)
    double = copy.deepcopy(layer).to("cpu", torch.float64)
    try:
        with torch.no_grad():
            whole, part = double(probe), double(probe.flip(1)[:, :2])
    except Exception:
        # Whatever a layer dislikes about a plain tensor, it is not an elementwise function.
        return False
    if not isinstance(whole, Tensor) or whole.shape != probe.shape:
        return False
    return torch.equal(whole.flip(1)[:, :2].nan_to_num(), part.nan_to_num())
