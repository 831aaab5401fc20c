"""One-sided limits of a function of one real variable, from its float64 values alone.

A limit is read off inputs whose exponents double, from 2**5 to 2**640 (or down to 2**-240 for a
limit at zero, whose fourth power does not underflow): there powers settle at once, logarithms
double, and their reciprocals halve, which Aitken's formula continues to the limit. Where float64
gives NaN on the way (an infinity minus or over another one), the inputs before it decide, if the
values have settled there or grow like a power.

Symbols: `f` maps `(n,)` float64 to `(n,)` float64; None stands for a limit that does not exist or
cannot be told, of sin(x) for example.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Function = Callable[[Array], Array]

_SETTLED = 1e-9
"""Relative difference of values that count as settled."""
_LEAST_VALUES = 5
"""Of seven or eight, so that some below 2**53 are among them: larger floats are whole numbers."""
_LEAST_SETTLED = 8
_CONVERGES = 0.75
"""Largest ratio of successive differences that converge; those of logarithms have the ratio 2."""
_DIVERGES = 0.9
_GROWS = 1.1
"""Least ratio of successive differences of a power of x over a quarter of an octave."""
_AGREEMENT = 1e-3
"""Relative difference of two extrapolations at which the second can be trusted."""

# Whole numbers would not do: pow(x, x) is real at negative ones, and nowhere else below zero.
_FAR: Array = math.sqrt(2.0) * 2.0 ** np.array([5.0, 10, 20, 40, 80, 160, 320, 640])
_SMALL: Array = math.sqrt(2.0) / 2.0 ** np.array([3.75, 7.5, 15, 30, 60, 120, 240])
_NEARER: Array = math.sqrt(2.0) * 2.0 ** np.arange(1.0, 40.0, 0.25)


def limit_at_infinity(f: Function, sign: float) -> float | None:
    """Return the limit of `f` at plus or minus infinity: a number, an infinity, or None."""
    return _limit(f(sign * _FAR), lambda: f(sign * _NEARER))


def limit_at_zero(f: Function, sign: float) -> float | None:
    """Return the limit of `f` at zero from above (`sign` 1) or below (-1), likewise."""
    return _limit(f(sign * _SMALL), lambda: f(sign / _NEARER))


def slope_at_infinity(f: Function, sign: float) -> float | None:
    """Return the slope of the line that `f` tends to at infinity, None if it grows faster.

    It is the limit of f(x) / x; 0 for a function that is bounded or grows more slowly than a line.
    """
    slope = limit_at_infinity(lambda x: f(x) / x, sign)
    return slope if slope is not None and math.isfinite(slope) else None


def _limit(values: Array, nearer: Callable[[], Array]) -> float | None:
    valid = _last_run(values, ~np.isnan(values))
    if len(valid) >= _LEAST_VALUES:
        return _extrapolated(valid)
    if len(valid) == 0:
        return None
    dense = nearer()
    # The values just before NaN may come from an intermediate one that has left float64's range.
    run = _last_run(dense, np.isfinite(dense))[-_LEAST_SETTLED - 2 : -2]
    if len(run) < _LEAST_SETTLED:
        return None
    settled = _settled(run)
    if settled is not None:
        return settled
    with np.errstate(divide="ignore", invalid="ignore"):
        growth = np.diff(run[1:]) / np.diff(run[:-1])
    return math.copysign(math.inf, run[-1] - run[-2]) if (growth >= _GROWS).all() else None


def _last_run(values: Array, valid: NDArray[np.bool_]) -> Array:
    """Return the last unbroken run of valid values."""
    places = np.flatnonzero(valid)
    if not places.size:
        return values[:0]
    breaks = np.flatnonzero(~valid[: places[-1]])
    start = breaks[-1] + 1 if breaks.size else 0
    return values[start : places[-1] + 1]


def _extrapolated(values: Array) -> float | None:
    settled = _settled(values)
    if settled is not None or not np.isfinite(values).all():
        return settled
    differences = np.diff(values)[-3:]
    with np.errstate(divide="ignore", invalid="ignore"):
        ratios = differences[1:] / differences[:-1]
    if (np.abs(ratios) <= _CONVERGES).all():
        once = _continued(values)
        limit = float(_continued(once)[-1])
        error = abs(limit - float(once[-1]))
        if abs(limit) <= error:
            return 0.0
        return limit if error <= _AGREEMENT * abs(limit) else None
    if (ratios >= _DIVERGES).all():
        return math.copysign(math.inf, differences[-1])
    # The last value may have got to the limit at once, an intermediate one being infinite.
    before_last = _extrapolated(values[:-1]) if len(values) > _LEAST_VALUES else None
    if before_last is not None and math.isclose(before_last, values[-1], rel_tol=_AGREEMENT):
        return float(values[-1])
    return None


def _continued(values: Array) -> Array:
    """Return the limit of the geometric series through each three values (Aitken), `(n - 2,)`.

    Once more, it removes the next term: that of 1 / log(x)**2 after that of 1 / log(x).
    """
    differences = np.diff(values)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratios = differences[1:] / differences[:-1]
        limits = values[2:] + differences[1:] * ratios / (1.0 - ratios)
    # Where nothing changes any more, nothing is to be continued.
    return np.where(np.isfinite(limits), limits, values[2:])


def _settled(values: Array) -> float | None:
    """Return the value at which the last ones stay, if they do."""
    last = float(values[-1])
    if math.isinf(last):
        infinite = values[np.argmax(np.isinf(values)) :]
        return last if (infinite == last).all() else None
    if not np.isfinite(values).all():
        return None
    if (np.abs(np.diff(values[-3:])) <= _SETTLED * abs(last)).all():
        return last + 0.0  # no negative zero
    return 0.0 if (np.abs(values[-2:]) <= _SETTLED * np.abs(values).max()).all() else None
