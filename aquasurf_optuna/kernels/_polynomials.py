"""Polynomials that stand for functions: the nearest ones, by relative differences."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

import numpy as np
from numpy.polynomial import Polynomial, chebyshev
from numpy.typing import NDArray
from torch import Tensor, full_like

Array = NDArray[np.float64]


def horner(coefficients: Sequence[float], x: Tensor) -> Tensor:
    """Return a polynomial, its coefficients from the constant on."""
    value = full_like(x, coefficients[-1])
    for each in reversed(coefficients[:-1]):
        value = value * x + each
    return value


def fitted(function: Callable[[Array], Array], n_terms: int) -> list[float]:
    """Return the polynomial nearest to a function on [-1, 1].

    Nearest by the squares of relative differences at Chebyshev's points, which is little more than
    nearest by the largest difference.

    Args:
        function: Float64 of any shape -> the same shape; nowhere 0.
        n_terms: One more than the degree.

    Returns:
        The coefficients, from the constant on.
    """
    nodes = chebyshev.chebpts1(16 * n_terms)
    values = function(nodes)
    series = chebyshev.chebfit(nodes, values, n_terms - 1, w=1.0 / np.abs(values))
    found: list[float] = chebyshev.cheb2poly(series).tolist()
    return found


@functools.cache
def by_square(function: np.ufunc, most: float, n_terms: int) -> list[float]:
    """Return the polynomial in x^2 that an odd function is x times of, for x up to `most`."""

    def quotient(t: Array) -> Array:
        x = most * np.sqrt(0.5 * (t + 1.0))
        values: Array = function(x) / x
        return values

    return moved(fitted(quotient, n_terms), [-1.0, 2.0 / most**2])


def moved(coefficients: Sequence[float], line: Sequence[float]) -> list[float]:
    """Return a polynomial of a linear function."""
    found: list[float] = Polynomial(coefficients)(Polynomial(line)).coef.tolist()
    return found
