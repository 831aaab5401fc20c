"""Moments of a function of Gaussian variables, by integration in float64.

Symbols: `f` is the function, `z ~ N(mean, variance)`. Two Gaussians of the same distribution with
correlation `r` give `E[f(z) f(z')] = sum_n a_n**2 r**n`, where `a_n` are the coefficients of `f` in
the normalised Hermite polynomials (Mehler's formula).

The midpoint rule on a grid, because activation functions have kinks and jumps that Gauss-Hermite
quadrature smooths over. One fine grid decides whether a function can be followed by weights at all
(`activated`); a coarser one serves the many variances that zero padding makes (`transformed`).

Shapes: `G` groups of places that share their moments, `P` points of the grid. The moments of a
group are a row `[mean, same, beside, within, between]`, as `_signal` defines them.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from aquasurf_optuna.activation import Activation
from aquasurf_optuna.exceptions import InitializationError
from aquasurf_optuna.expression import Expression

Function = Callable[[Tensor], Tensor]
"""Elementwise, on float64 tensors on the CPU."""

_GRID_POINTS = 1 << 15
_GROUP_POINTS = 1 << 10
_GRID_REACH = 10.0
"""Standard deviations that the grids cover on either side."""
_TAIL_START = 8.0
"""A second moment held by the tails beyond this many standard deviations does not converge."""
_CONVERGENCE = 0.01
"""Relative change of the second moment with the grid at which it counts as not converging."""
_HERMITE_ORDERS = 24
_SHARED_NODES = 48
_FLOAT32 = torch.finfo(torch.float32)


@dataclasses.dataclass(frozen=True)
class MeanVariance:
    """Mean and variance of values, Gaussian or not."""

    mean: float = 0.0
    variance: float = 1.0

    @property
    def second_moment(self) -> float:
        """Mean of the squared values."""
        return self.mean**2 + self.variance


def activated(function: Function, inputs: MeanVariance) -> MeanVariance:
    """Return mean and variance of `function(z)` for Gaussian `z` of the given mean and variance.

    The second moment is computed on two grids: where it hangs on the grid (a pole) or on the far
    tails (growth like exp(x**2)), it does not exist.

    Raises:
        InitializationError: If the function is not finite on the inputs, is constant on them as far
            as float32 can tell, or has a second moment that is infinite or out of float32's range.
    """
    if isinstance(function, Activation):
        return _activated_expression(function.expression, inputs)
    return _integrated(function, inputs)


def transformed(function: Function, groups: Tensor, average: MeanVariance) -> Tensor:
    """Return the moments of `function(z)` for each group of Gaussian `z`.

    Where the coarse grid does not hold the function (it may grow too fast for the highest variance
    among the groups, or have a pole), every group gets the moments at the average.

    Args:
        function: Elementwise.
        groups: `[G, 5]`, float64.
        average: Mean and variance over all places of all groups.

    Returns:
        `[G, 5]`.

    Raises:
        InitializationError: As in `activated`, at the average.
    """
    if isinstance(function, Activation):
        rows = tuple(tuple(row) for row in groups.tolist())
        return _transformed_expression(function.expression, rows, average)
    return _transformed(function, groups, average)


# The layers of a network meet similar signals, and a search builds its baselines again and again:
# integrating once for all saves most of the time that an initialisation takes.
@functools.lru_cache(maxsize=4096)
def _activated_expression(expression: Expression, inputs: MeanVariance) -> MeanVariance:
    return _integrated(Activation(expression), inputs)


@functools.lru_cache(maxsize=4096)
def _transformed_expression(
    expression: Expression, rows: tuple[tuple[float, ...], ...], average: MeanVariance
) -> Tensor:
    groups = torch.tensor(rows, dtype=torch.float64)
    return _transformed(Activation(expression), groups, average)


def _integrated(function: Function, inputs: MeanVariance) -> MeanVariance:
    """Integrate as `activated` says."""
    coarse = _moments(function, inputs, _GRID_POINTS // 2)
    fine = _moments(function, inputs, _GRID_POINTS)
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
    return MeanVariance(fine.mean, fine.variance)


class _Moments(NamedTuple):
    mean: float
    variance: float
    second: float
    tail: float  # the part of `second` from beyond `_TAIL_START` standard deviations


def _moments(function: Function, inputs: MeanVariance, points: int) -> _Moments:
    """Integrate `f`, `f**2` and `(f - mean)**2` over `N(mean, variance)`."""
    z, weights = _grid(points)
    with torch.no_grad():
        outputs = function(inputs.mean + math.sqrt(inputs.variance) * z)
    squares = weights * outputs**2
    mean = float(weights @ outputs)
    variance = float(weights @ (outputs - mean) ** 2)
    tail = squares[z.abs() > _TAIL_START]
    return _Moments(mean, variance, float(squares.sum()), float(tail.sum()))


def _transformed(function: Function, groups: Tensor, average: MeanVariance) -> Tensor:
    whole = activated(function, average)
    mean, same, *moments = groups.unbind(1)
    z, weights = _grid(_GROUP_POINTS)
    variance = (same - mean**2).clamp(min=0.0)
    with torch.no_grad():
        values = function(mean[:, None] + variance.sqrt()[:, None] * z)
    second = values**2 @ weights
    series = hermite_series(values)
    covariances = [correlated(series, mean, variance, moment) for moment in moments]
    found = torch.stack([values @ weights, second, *covariances], dim=1)
    if len(groups) == 1:
        found[:, 0], found[:, 1] = whole.mean, whole.second_moment
    if found.isfinite().all() and (found[:, 1] > 0).all():
        return found
    flat = [whole.mean, whole.second_moment, *[whole.mean**2] * 3]
    return torch.tensor([flat], dtype=torch.float64).expand(len(groups), 5)


def hermite_series(values: Tensor) -> Tensor:
    """Return the squared Hermite coefficients of functions given on the coarse grid.

    Args:
        values: `[G, P]`, a function of the grid's standard normal points a row.

    Returns:
        `[G, orders + 1]`: `a_n**2`, and last what the orders left out hold of the second moment.
    """
    _, weights = _grid(_GROUP_POINTS)
    squares = ((values * weights) @ _hermite().T) ** 2
    rest = values**2 @ weights - squares.sum(1)
    return torch.cat([squares, rest.clamp(min=0.0)[:, None]], dim=1)


def correlated(series: Tensor, mean: Tensor, variance: Tensor, moment: Tensor) -> Tensor:
    """Return `E[f(z) f(z')]` where `E[z z'] = moment`, by Mehler's formula.

    Args:
        series: From `hermite_series`, `[G, orders + 1]`.
        mean: `[G]`.
        variance: `[G]`; a correlation is 1 where it is 0.
        moment: `[G]`.

    Returns:
        `[G]`.
    """
    correlation = torch.where(variance > 0, (moment - mean**2) / variance, 1.0).clamp(-1.0, 1.0)
    orders = torch.arange(series.shape[1])
    return (series * correlation[:, None] ** orders).sum(1)


@functools.lru_cache(maxsize=4)
def _grid(points: int) -> tuple[Tensor, Tensor]:
    """Return the points of the midpoint rule and their weights under a standard normal."""
    # Midpoints never fall on 0, where sinh(x)/x is 0/0 although no signal ever meets that point.
    places = torch.arange(points, dtype=torch.float64) + 0.5
    z = places * (2 * _GRID_REACH / points) - _GRID_REACH
    weights = torch.exp(-0.5 * z**2)
    return z, weights / weights.sum()


@functools.cache
def _hermite() -> Tensor:
    """Return the Hermite polynomials on the coarse grid, `[orders, P]`."""
    return _hermite_rows(_grid(_GROUP_POINTS)[0])


def _hermite_rows(z: Tensor) -> Tensor:
    """Return the normalised Hermite polynomials at some points, an order a row."""
    rows = [torch.ones_like(z), z]
    for n in range(1, _HERMITE_ORDERS - 1):
        rows.append((z * rows[n] - math.sqrt(n) * rows[n - 1]) / math.sqrt(n + 1))
    return torch.stack(rows)


def largest(function: Function, groups: Tensor, count: int) -> Tensor:
    """Return the moments of the largest of `count` values of `f(z)`, `z` correlated as `within`.

    What the `z` share is one more Gaussian; given it they are independent, so that the distribution
    function of the largest is a power of that of one.

    Args:
        function: Elementwise.
        groups: `[G, 5]`, float64.
        count: How many.

    Returns:
        `[G, 5]`, `beside` and `within` being those of two sets without a common value.
    """
    return torch.stack([_largest(function, group, count) for group in groups])


def _largest(function: Function, group: Tensor, count: int) -> Tensor:
    mean, same, _, within, between = group.tolist()
    variance = max(same - mean**2, 0.0)
    shared = min(max(within - mean**2, 0.0), variance)
    nodes, weights = _gauss_hermite()
    t, density = _grid(_GROUP_POINTS)
    with torch.no_grad():
        z = math.sqrt(shared) * nodes[:, None] + math.sqrt(variance - shared) * t
        values, order = function(mean + z).sort(dim=1)
    below = density[order].cumsum(1).clamp(max=1.0) ** count
    mass = below.diff(dim=1, prepend=torch.zeros(len(nodes), 1, dtype=torch.float64))
    first, second = (values * mass).sum(1), (values**2 * mass).sum(1)
    coefficients = (_hermite_rows(nodes) * first * weights).sum(1)
    ratio = min(max(between - mean**2, 0.0) / shared, 1.0) if shared > 0 else 0.0
    orders = torch.arange(len(coefficients))
    elsewhere = weights @ first**2
    samples = (coefficients**2 * ratio**orders).sum()
    return torch.stack([weights @ first, weights @ second, elsewhere, elsewhere, samples])


def softmax_concentration(variance: float, count: int) -> float:
    """Return `count**2 E[s**2]` for a softmax `s` over independent Gaussians; 1 if they are equal.

    With `1 / S**2 = int_0^inf u exp(-u S) du`, the mean over all Gaussians falls apart into means
    over one: `E[s**2] = int u E[e^2t exp(-u e^t)] E[exp(-u e^t)]**(count - 1) du`.

    Args:
        variance: Of each Gaussian `t`.
        count: How many the softmax runs over.
    """
    z, weights = _grid(_GROUP_POINTS)
    t = math.sqrt(variance) * z
    log_u = torch.linspace(-30.0, 10.0, 2001, dtype=torch.float64)
    log_u = log_u - math.log(count)
    decay = torch.exp(-torch.exp(log_u[:, None] + t))
    ours, others = decay @ (weights * torch.exp(2.0 * t)), decay @ weights
    # In u = e^w the measure u du is e^2w dw.
    terms = torch.exp(2.0 * log_u) * ours * others ** (count - 1)
    return count**2 * float(terms.sum()) * (40.0 / 2000)


@functools.cache
def _gauss_hermite() -> tuple[Tensor, Tensor]:
    """Return nodes and weights for what several Gaussians share, smooth as it enters."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(_SHARED_NODES)
    return torch.from_numpy(nodes), torch.from_numpy(weights / weights.sum())
