"""Distances of few candidates to all, computed once each and kept.

Symbols and shapes: ``parts`` maps a feature's name to float32 rows ``(n, p)``; a *column* holds the
distances of all n rows to one of them, float32 ``(n,)``: the Euclidean distance of outputs, which
is Equation 3 up to a factor, and the Manhattan distance of Fisher vectors, which is Equation 2.

A column is measured the first time that it is asked for, in blocks that fit a processor's cache, so
that no array of the size of the features is made beside them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Columns = NDArray[np.float32]
    Indices = NDArray[np.intp]

_BLOCK_NUMBERS = 65_536
"""Numbers in a block: a quarter of a megabyte."""


def distance_column(name: str, part: Columns, row: Columns) -> Columns:
    """Measure the distance of every row of a feature to one.

    Args:
        name: ``"outputs"`` (Euclidean) or ``"fisher"`` (Manhattan).
        part: float32 ``(n, p)``.
        row: float32 ``(p,)``.

    Returns:
        float32 ``(n,)``.
    """
    n, width = part.shape
    column = np.empty(n, dtype=np.float32)
    step = max(1, _BLOCK_NUMBERS // width)
    buffer = np.empty((min(step, n), width), dtype=np.float32)
    for start in range(0, n, step):
        block = part[start : start + step]
        difference = np.subtract(block, row, out=buffer[: len(block)])
        if name == "fisher":
            np.abs(difference, out=difference)
            difference.sum(axis=1, out=column[start : start + step])
        else:
            squares = np.einsum("ij,ij->i", difference, difference)
            np.sqrt(squares, out=column[start : start + step])
    return column


class DistanceColumns:
    """Columns of the rows asked for so far; longer ones follow by themselves when rows join.

    Args:
        budget: Bytes that columns may take before those not asked for again are dropped.
    """

    def __init__(self, budget: int) -> None:
        self._budget = budget
        self._known: dict[str, dict[int, Columns]] = {}

    def of(self, parts: Mapping[str, Columns], rows: Sequence[int]) -> dict[str, list[Columns]]:
        """Return the columns of `rows` for each feature, each float32 ``(n,)``."""
        return {name: self._of_part(name, part, rows) for name, part in parts.items()}

    def _of_part(self, name: str, part: Columns, rows: Sequence[int]) -> list[Columns]:
        known = self._known.setdefault(name, {})
        if sum(column.nbytes for column in known.values()) > self._budget:
            wanted = set(rows)
            known = self._known[name] = {r: c for r, c in known.items() if r in wanted}
        for row in rows:
            column = known.get(row, np.zeros(0, dtype=np.float32))
            if len(column) < len(part):
                rest = distance_column(name, part[len(column) :], part[row])
                known[row] = np.concatenate([column, rest])
        return [known[row] for row in rows]
