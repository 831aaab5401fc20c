"""Distances of few candidates to all, computed once each and kept.

Symbols and shapes: ``parts`` maps a feature's name to float32 rows ``(n, p)``; a *column* holds the
distances of all n rows to one of them in one comparison, float32 ``(n,)``:

============  =========  ==========================================================================
comparison    feature    distance of two rows a and b
============  =========  ==========================================================================
``fisher``    fisher     Manhattan, |a - b|_1: Equation 2
``outputs``   outputs    Euclidean, |a - b|: Equation 3 up to a factor
``mirrored``  outputs    Euclidean of a aᵀ / |a| and b bᵀ / |b|: 0 also where b = -a
``shape``     outputs    the same of a and b less their mean, at length 1: 0 where b is linear in a
============  =========  ==========================================================================

The last two say what a network can hardly tell apart: weights drawn from a symmetric distribution
take in f(x) as they take in -f(x), and where a normalisation follows, f(x) as c f(x) + d. All are
Euclidean or Manhattan distances of some vectors, so exp(-distance) of each is a covariance.

Outputs of several functions side by side, a thousand each (Appendix F), are compared function by
function in the last two; squares add up.

A column is measured the first time that it is asked for, in blocks that fit a processor's cache, so
that no array of the size of the features is made beside them, but for the shapes, which are kept.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from aquasurf_optuna.surrogate._growing import GrowingRows

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Columns = NDArray[np.float32]
    Floats = NDArray[np.float64]

FEATURE_OF = {"fisher": "fisher", "outputs": "outputs", "mirrored": "outputs", "shape": "outputs"}
"""Comparison -> the feature that it compares."""

OUTPUTS_OF_ONE = 1000
"""Columns of the outputs of one function, where several stand side by side."""

_BLOCK_NUMBERS = 65_536
"""Numbers in a block: a quarter of a megabyte."""

_ROUNDING = 1e-6


def distance_column(name: str, part: Columns, row: Columns) -> Columns:
    """Measure the distance of every row of a feature to one.

    Args:
        name: The comparison, a key of :data:`FEATURE_OF`.
        part: float32 ``(n, p)``; for ``"shape"`` what :func:`shapes` made of it.
        row: float32 ``(p,)``, likewise.

    Returns:
        float32 ``(n,)``.
    """
    return _column(name, part, None, row)


def _column(name: str, part: Columns, norms: Columns | None, row: Columns) -> Columns:
    """As :func:`distance_column`; `norms` are those of the functions in `part`, if known."""
    n, width = part.shape
    column = np.empty(n, dtype=np.float32)
    step = max(1, _BLOCK_NUMBERS // width)
    buffer = np.empty((min(step, n), width), dtype=np.float32)
    two_sided = name in ("mirrored", "shape")
    if two_sided and norms is None:
        norms = norms_of(part)
    for start in range(0, n, step):
        block = part[start : start + step]
        difference = np.subtract(block, row, out=buffer[: len(block)])
        where = slice(start, start + step)
        if name == "fisher":
            np.abs(difference, out=difference)
            difference.sum(axis=1, out=column[where])
        elif two_sided and norms is not None:
            apart = _squares_of_functions(difference)
            from_mirror = _squares_of_functions(np.add(block, row, out=difference))
            column[where] = _mirrored(apart, from_mirror, norms[where], norms_of(row[None]))
        else:
            squares = np.einsum("ij,ij->i", difference, difference)
            np.sqrt(squares, out=column[where])
    return column


def norms_of(part: Columns) -> Columns:
    """Return the length of each function's outputs, float32 ``(n, functions)``."""
    return np.sqrt(_squares_of_functions(part))


def shapes(part: Columns) -> Columns:
    """Return rows in which each function's outputs have mean 0 and length 1, float32 ``(n, p)``.

    Outputs that are constant, but for rounding, become 0.
    """
    made = np.empty_like(part)
    step = max(1, _BLOCK_NUMBERS // part.shape[1])
    for start in range(0, len(part), step):
        block = part[start : start + step].astype(np.float64)
        block = block.reshape(len(block), _functions_in(block), -1)
        mean = block.mean(axis=2, keepdims=True)
        deviation = block.std(axis=2, keepdims=True)
        varies = deviation > _ROUNDING * np.maximum(np.abs(mean), 1.0)
        length = np.where(varies, deviation, 1.0) * np.sqrt(block.shape[2])
        made[start : start + step] = (np.where(varies, block - mean, 0.0) / length).reshape(
            len(block), -1
        )
    return made


def _squares_of_functions(rows: Columns) -> Columns:
    parts = rows.reshape(len(rows), _functions_in(rows), -1)
    return np.asarray(np.einsum("ifj,ifj->if", parts, parts), dtype=np.float32)


def _functions_in(rows: NDArray[np.floating]) -> int:
    width = rows.shape[1]
    return max(1, width // OUTPUTS_OF_ONE) if width % OUTPUTS_OF_ONE == 0 else 1


def _mirrored(apart: Columns, from_mirror: Columns, norms: Columns, norm: Columns) -> Floats:
    """Distances of a aᵀ / |a| and b bᵀ / |b|, of |a - b|², |a + b|², |a| and |b|, over functions.

    With g = (|a| - |b|)², the square of the distance, |a|² + |b|² - 2 (a b)² / (|a| |b|), is
    g + (|a - b|² - g) (|a + b|² - g) / (2 |a| |b|): nothing cancels where a is close to b or -b.
    """
    double = 2.0 * norms.astype(np.float64) * norm
    gap = (norms.astype(np.float64) - norm) ** 2
    product = np.maximum(apart - gap, 0.0) * np.maximum(from_mirror - gap, 0.0)
    # At most 2 |a| |b|: of lengths that are far apart, rounding alone could make more of it.
    squares = gap + np.minimum(product / np.where(double > 0, double, 1.0), double)
    return np.asarray(np.sqrt(squares.sum(axis=1)), dtype=np.float64)


class DistanceColumns:
    """Columns of the rows asked for so far; longer ones follow by themselves when rows join.

    Args:
        budget: Bytes that the columns of a comparison may take before those not asked for again are
            dropped.
    """

    def __init__(self, budget: int) -> None:
        self._budget = budget
        self._known: dict[str, dict[int, Columns]] = {}
        self._shapes = _Joined(shapes)
        self._norms = {"mirrored": _Joined(norms_of), "shape": _Joined(norms_of)}

    def of(
        self,
        parts: Mapping[str, Columns],
        rows: Sequence[int],
        comparisons: Sequence[str] | None = None,
    ) -> dict[str, list[Columns]]:
        """Return the columns of `rows`, each float32 ``(n,)``.

        Args:
            parts: Feature -> its rows ``(n, p)``: those of the last call, or these and others after
                them.
            rows: Which columns.
            comparisons: Keys of :data:`FEATURE_OF`; None for those named like the features.
        """
        names = list(parts) if comparisons is None else comparisons
        return {name: self._of_comparison(name, parts[FEATURE_OF[name]], rows) for name in names}

    def _of_comparison(self, name: str, part: Columns, rows: Sequence[int]) -> list[Columns]:
        if name == "shape":
            part = self._shapes.of(part)
        norms = self._norms[name].of(part) if name in self._norms else None
        known = self._known.setdefault(name, {})
        if sum(column.nbytes for column in known.values()) > self._budget:
            wanted = set(rows)
            known = self._known[name] = {r: c for r, c in known.items() if r in wanted}
        for row in rows:
            column = known.get(row, np.zeros(0, dtype=np.float32))
            if (n := len(column)) < len(part):
                rest = _column(name, part[n:], None if norms is None else norms[n:], part[row])
                known[row] = np.concatenate([column, rest])
        return [known[row] for row in rows]


class _Joined:
    """What is made of rows, one by one: of those that join it is made then."""

    def __init__(self, make: Callable[[Columns], Columns]) -> None:
        self._make = make
        self._room = GrowingRows()
        self._made: Columns | None = None

    def of(self, part: Columns) -> Columns:
        if self._made is None:
            self._made = self._make(part)
        elif len(self._made) < len(part):
            self._made = self._room.joined(self._made, self._make(part[len(self._made) :]))
        return self._made
