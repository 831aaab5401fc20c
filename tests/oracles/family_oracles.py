"""Continuous families by NumPy's polynomials and interpolation."""

from collections.abc import Sequence

import numpy as np
from numpy.polynomial import Polynomial
from numpy.typing import NDArray

Values = NDArray[np.float64]


def rational(numerator: Sequence[float], denominator: Sequence[float], x: Values) -> Values:
    """The quotient; `denominator` begins with the coefficient of x."""
    size = np.abs(Polynomial([0.0, *denominator])(x))
    return np.asarray(Polynomial(numerator)(x) / (1.0 + size))


def piecewise_linear(
    knots: Sequence[float], slopes: Sequence[float], offset: float, x: Values
) -> Values:
    """Interpolate between values at the knots, at zero, and at two points far outside."""
    places = np.unique([-100.0, *knots, 0.0, 100.0])
    segments = np.searchsorted(knots, (places[1:] + places[:-1]) / 2)
    rises = np.asarray(slopes)[segments] * np.diff(places)
    heights = np.concatenate([[0.0], np.cumsum(rises)])
    heights += offset - heights[places == 0]
    return np.interp(x, places, heights)
