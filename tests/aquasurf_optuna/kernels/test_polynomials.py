"""Polynomials: as NumPy computes them, and as near to a function as one can be."""

import math

import numpy as np
import pytest
import torch

from aquasurf_optuna.kernels._polynomials import by_square, fitted, horner, moved

GRID = np.linspace(-1, 1, 4001)


def test_horner_is_numpys() -> None:
    coefficients = [0.3, -1.2, 0.8, 0.05, -0.4]
    x = np.linspace(-1, 1, 41)
    expected = np.polynomial.polynomial.polyval(x, coefficients)
    np.testing.assert_allclose(horner(coefficients, torch.tensor(x)).numpy(), expected, rtol=1e-12)


def largest_difference(n_terms: int) -> float:
    found = np.polynomial.polynomial.polyval(GRID, fitted(np.exp, n_terms))
    return float(np.abs(found / np.exp(GRID) - 1).max())


def test_a_fit_is_nearer_than_taylors_series_and_nearly_the_nearest() -> None:
    # A polynomial through the function at Chebyshev's points is no further than this from it.
    bound = math.e / (2**4 * math.factorial(5))
    taylor = np.polynomial.polynomial.polyval(GRID, [1 / math.factorial(n) for n in range(5)])
    assert largest_difference(5) < bound * math.e < np.abs(taylor / np.exp(GRID) - 1).max()
    assert largest_difference(4) > 5 * largest_difference(5)


def test_a_polynomial_of_a_line() -> None:
    found = np.polynomial.polynomial.polyval(GRID, moved([1.0, 2.0, 3.0], [0.5, -2.0]))
    line = 0.5 - 2.0 * GRID
    np.testing.assert_allclose(found, 1.0 + 2.0 * line + 3.0 * line**2)


@pytest.mark.parametrize("function", [np.arctan, np.sinh])
def test_an_odd_function_is_x_times_a_polynomial_of_its_square(function: np.ufunc) -> None:
    x = np.linspace(-0.5, 0.5, 1000)
    found = x * np.polynomial.polynomial.polyval(x * x, by_square(function, 0.5, 6))
    np.testing.assert_allclose(found, function(x), rtol=1e-8)
