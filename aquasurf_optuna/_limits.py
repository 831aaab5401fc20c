"""One-sided limits of a function of one real variable, from its float64 values alone.

A limit is read off eight inputs whose exponents double, from 2**5 to 2**640 (or down to 2**-640 for
a limit at zero): there powers settle at once, logarithms double, and their reciprocals halve, which
Aitken's formula continues to the limit. Where float64 gives NaN on the way (an infinity minus or
over another one), the inputs before it decide, if the values have settled there.

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
"""Of the eight, so that some below 2**53 are among them: larger floats are whole numbers."""
_LEAST_SETTLED = 8
_CONVERGES = 0.75
"""Largest ratio of successive differences that converge; those of logarithms have the ratio 2."""
_DIVERGES = 0.9
_AGREEMENT = 1e-4
"""Relative difference of two extrapolations that count as one."""

# Whole numbers would not do: pow(x, x) is real at negative ones, and nowhere else below zero.
_FAR: Array = math.sqrt(2.0) * 2.0 ** np.array([5.0, 10, 20, 40, 80, 160, 320, 640])
_NEARER: Array = math.sqrt(2.0) * 2.0 ** np.arange(1.0, 40.0, 0.25)


def limit_at_infinity(f: Function, sign: float) -> float | None:
    """Return the limit of `f` at plus or minus infinity: a number, an infinity, or None."""
    return _limit(f(sign * _FAR), lambda: f(sign * _NEARER))


def limit_at_zero(f: Function, sign: float) -> float | None:
    """Return the limit of `f` at zero from above (`sign` 1) or below (-1), likewise."""
    return _limit(f(sign / _FAR), lambda: f(sign / _NEARER))


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
    # An infinity just before NaN is as likely an overflow on the way as a limit.
    valid = _last_run(dense, np.isfinite(dense))
    return _settled(valid[-_LEAST_SETTLED:]) if len(valid) >= _LEAST_SETTLED else None


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
        # Aitken: what remains is a geometric series of the last difference.
        before, after = values[-2:] + differences[1:] * ratios / (1.0 - ratios)
        error = abs(after - before)
        if abs(after) <= 10.0 * error:
            return 0.0
        return float(after) if error <= _AGREEMENT * abs(after) else None
    return math.copysign(math.inf, differences[-1]) if (ratios >= _DIVERGES).all() else None


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
