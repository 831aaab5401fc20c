"""When two functions count as the same: by their values on the 1,000 fixed inputs.

- Under the rule `"tolerance"`, in float64, two functions are *linked* when at every input both
  values are NaN, both the same infinity, or differ by at most `RELATIVE_TOLERANCE` of the larger.
- Under the rule `"identical"`, in float32, values agree bit for bit, with -0 equal to 0 and NaN to
  NaN. This is the paper's rule (Appendix E); it separates functions that differ by rounding alone.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

RELATIVE_TOLERANCE = 1e-6
"""Largest relative difference, at any input, between two functions that are linked."""

Rule = Literal["tolerance", "identical"]


def same(a: np.ndarray, b: np.ndarray) -> bool:
    """Say whether two functions, float32 `(1000,)` each, are identical."""
    return bool(np.array_equal(a, b, equal_nan=True))


def linked(a: np.ndarray, b: np.ndarray) -> bool:
    """Say whether two functions, float64 `(1000,)` each, are linked."""
    # Symmetric, unlike numpy.isclose: the tolerance is of the larger of the two values.
    with np.errstate(invalid="ignore", over="ignore"):
        near = np.abs(a - b) <= RELATIVE_TOLERANCE * np.maximum(np.abs(a), np.abs(b))
    finite = np.isfinite(a)
    if not np.array_equal(finite, np.isfinite(b)):
        return False
    return bool(near[finite].all()) and same(a[~finite], b[~finite])
