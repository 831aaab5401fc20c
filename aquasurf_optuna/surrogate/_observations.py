"""What was seen of the candidates, as surrogates learn from it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Indices = NDArray[np.intp]


@dataclass(frozen=True)
class Observations:
    """What was seen of the candidates, checked; rows are distinct and in order.

    Attributes:
        rows: int array ``(t,)``.
        values: float64 array ``(t,)``, the mean of each row's values; minus infinity where all of
            them were failures. A failure beside other values counts as the worst of all.
        running: int array ``(r,)``, distinct rows whose values are on their way.
        others: Observations of other studies, on scales of their own, without `running`.
    """

    rows: Indices
    values: Floats
    running: Indices
    others: tuple[Observations, ...] = ()

    @property
    def filled(self) -> Floats:
        """Values with failures as the worst value, or one below it where all others are alike."""
        return replace_failures(self.values)


def replace_failures(values: Floats) -> Floats:
    """Return values with minus infinity replaced by the worst finite one.

    Where the finite ones are all alike it is one less, since a failure must differ; where there are
    none it is 0.
    """
    finite = values[np.isfinite(values)]
    if len(finite) == len(values):
        return values
    worst = float(finite.min()) if len(finite) else 0.0
    if len(finite) and worst == finite.max():
        worst -= 1.0
    return np.where(np.isfinite(values), values, worst)


def one_value_a_row(rows: Indices, values: Floats) -> tuple[Indices, Floats]:
    """Return the distinct rows, in order, and the mean of the values of each.

    Args:
        rows: int array ``(t,)``.
        values: float64 ``(t,)``, minus infinity for a failure. A failure beside other values of its
            row counts as the worst of all.
    """
    unique, inverse = np.unique(rows, return_inverse=True)
    counts = np.bincount(inverse)
    means = np.bincount(inverse, weights=replace_failures(values)) / np.maximum(counts, 1)
    failures = np.bincount(inverse, weights=values == -np.inf)
    means[failures == counts] = -np.inf
    return unique, means
