"""Values of a function as a curve that is broken where the function is.

Symbols: `x` and `y` are the points of a curve, `(n,)` float64 each, `y` NaN where it is broken.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from aquasurf_optuna.derivative import derivative
from aquasurf_optuna.expression import Expression
from aquasurf_optuna.features.outputs import INPUT_BOUND

Array = NDArray[np.float64]
Function = Callable[[Array], Array]

_N_POINTS = 1001
# Outputs are shown within plus and minus this, about the range of the inputs, unless a function
# has fewer than this share of its outputs there.
_OUTPUT_BOUND = 6.0
_LEAST_SHOWN = 0.2
# A step between neighbours of less than this share of the panel cannot be seen.
_LEAST_STEP = 0.01
_HALVINGS = 40


class Curve(NamedTuple):
    """Points of a curve from left to right."""

    x: Array  # (n,)
    y: Array  # (n,), NaN where the curve is broken


def outputs_of(expression: Expression, inputs: Array) -> Array:
    """Return the values of a function, `(n,)`."""
    with torch.no_grad():
        return np.asarray(expression(torch.from_numpy(inputs.copy())).numpy(), dtype=np.float64)


def slopes_of(expression: Expression, inputs: Array) -> Array:
    """Return the derivative of a function, `(n,)`."""
    return np.asarray(derivative(expression, torch.from_numpy(inputs)).numpy(), dtype=np.float64)


def panel_limits(outputs: Array, reference: Array) -> tuple[float, float]:
    """Return the range of outputs to show, for a function and its reference together."""
    finite = outputs[np.isfinite(outputs)]
    both = np.concatenate([finite, reference[np.isfinite(reference)], [0.0]])
    low, high = np.clip([both.min(), both.max()], -_OUTPUT_BOUND, _OUTPUT_BOUND)
    if finite.size and np.mean((finite >= low) & (finite <= high)) < _LEAST_SHOWN:
        low, high = np.quantile(finite, [0.1, 0.9])
    margin = 0.06 * max(high - low, 1e-6)
    return float(low - margin), float(high + margin)


def curve_inputs() -> Array:
    """Return the inputs at which a curve over [-5, 5] is sampled first, `(1001,)`."""
    return np.linspace(-INPUT_BOUND, INPUT_BOUND, _N_POINTS)


def curve(f: Function, limits: tuple[float, float]) -> Curve:
    """Sample a function over [-5, 5], broken at jumps and poles and where it is not finite.

    Values far outside the limits are cut, so that a steep line leaves the panel at its edge.

    Args:
        f: Elementwise.
        limits: The range of outputs that a panel shows.
    """
    x = curve_inputs()
    y = f(x)
    low, high = limits
    room = high - low
    left, right = _jumps(f, x, y, _LEAST_STEP * room)
    # Up to the jump from either side, and nothing between.
    middle = left + (right - left) / 2
    x = np.concatenate([x, left, middle, right])
    y = np.concatenate([y, f(left), np.full(left.size, np.nan), f(right)])
    order = np.argsort(x, kind="stable")
    y[~np.isfinite(y)] = np.nan
    return Curve(x[order], np.clip(y, low - room, high + room)[order])


def _jumps(f: Function, x: Array, y: Array, least: float) -> tuple[Array, Array]:
    """Return the inputs just left and just right of each jump, `(k,)` each.

    The cell between two neighbours of different values is halved towards the larger difference: a
    continuous function loses it on the way, however steep, and a jump keeps it.
    """
    with np.errstate(invalid="ignore"):
        cells = np.flatnonzero(np.abs(np.diff(y)) > least)
    cells = cells[np.isfinite(y[cells]) & np.isfinite(y[cells + 1])]
    left, right = x[cells], x[cells + 1]
    below, above = y[cells], y[cells + 1]
    first = np.abs(above - below)
    for _ in range(_HALVINGS):
        middle = left + (right - left) / 2
        value = f(middle)
        with np.errstate(invalid="ignore"):
            # Not finite counts as the end of the curve, towards which to look on.
            on_left = ~(np.abs(value - below) < np.abs(above - value))
        left, right = np.where(on_left, left, middle), np.where(on_left, middle, right)
        below, above = np.where(on_left, below, value), np.where(on_left, value, above)
    with np.errstate(invalid="ignore"):
        kept = ~(np.abs(above - below) < first / 2)
    return left[kept], right[kept]
