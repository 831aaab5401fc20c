"""Group linked functions by their fingerprints (`equality.py`), where there is no room for rows.

Rows that share their coarse digest are linked. Nearly all others are told apart by their sums, so
that only some thousands of pairs of a million have to be evaluated again and compared.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from aquasurf_optuna.equality import STEP, WINDOW, Equality, Fingerprints, first_of_each

_PAIRS_AT_ONCE = 1024

Rows = Callable[[NDArray[np.intp]], NDArray[np.floating]]
"""Evaluates functions anew: their numbers `(n,)` to their rows `(n, 1000)`."""


def labels_of(prints: Fingerprints, equality: Equality, rows: Rows) -> NDArray[np.intp]:
    """Label the classes of n functions.

    A class is a connected component: its functions are joined by chains of linked ones, and no
    function is linked with one of another class. So classes do not depend on any order.

    Returns:
        Array `(n,)`, the number of each function's class.
    """
    distinct, row = first_of_each(prints.exact)
    _, group = first_of_each(prints.coarse[distinct])
    if equality.rule == "identical":
        return group[row]
    for a, b in near(prints.sums[distinct], prints.probes[distinct]):
        # Most of a cluster is joined by its nearest neighbours, and need not be compared.
        apart = group[a] != group[b]
        pairs = _linked(distinct[a[apart]], distinct[b[apart]], equality, rows)
        group = _joined(group, a[apart][pairs], b[apart][pairs])
    return group[row]


def near(
    sums: NDArray[np.int64], probes: NDArray[np.int32]
) -> Iterator[tuple[NDArray[np.intp], NDArray[np.intp]]]:
    """Yield all pairs of n functions that may be linked by their sums and probes, in blocks.

    Args:
        sums: `(n, 4)`; those of a pair differ by at most `WINDOW`.
        probes: `(n, 24)`; those of a pair differ by at most `STEP`.
    """
    order = np.argsort(sums[:, 0], kind="stable")
    in_order = sums[order]
    first = np.arange(len(order))
    for step in range(1, len(order)):
        # A pair that is too far apart stays so at every larger step.
        first = first[first + step < len(order)]
        first = first[in_order[first + step, 0] - in_order[first, 0] <= WINDOW]
        if not len(first):
            return
        close = first[(np.abs(in_order[first + step] - in_order[first]) <= WINDOW).all(axis=1)]
        a, b = order[close], order[close + step]
        # In 64 bits, where no difference overflows.
        alike = (np.abs(probes[a].astype(np.int64) - probes[b]) <= STEP).all(axis=1)
        yield a[alike], b[alike]


class Neighbours:
    """Finds functions by their sums.

    Args:
        sums: int64 array `(n, 4)`.
    """

    def __init__(self, sums: NDArray[np.int64]) -> None:
        self._sums = sums
        self._order = np.argsort(sums[:, 0], kind="stable")
        self._first = sums[self._order, 0]

    def of(self, sums: NDArray[np.int64]) -> NDArray[np.intp]:
        """Return the functions whose sums differ from these, `(4,)`, by at most `WINDOW`."""
        start = np.searchsorted(self._first, sums[0] - WINDOW, side="left")
        stop = np.searchsorted(self._first, sums[0] + WINDOW, side="right")
        near = self._order[start:stop]
        close: NDArray[np.bool_] = (np.abs(self._sums[near] - sums) <= WINDOW).all(axis=1)
        return near[close]


def _linked(
    a: NDArray[np.intp], b: NDArray[np.intp], equality: Equality, rows: Rows
) -> NDArray[np.bool_]:
    """Say for pairs of functions whether they are linked."""
    found = np.empty(len(a), np.bool_)
    for start in range(0, len(a), _PAIRS_AT_ONCE):
        some = slice(start, start + _PAIRS_AT_ONCE)
        found[some] = equality.linked(rows(a[some]), rows(b[some]))
    return found


def _joined(group: NDArray[np.intp], a: NDArray[np.intp], b: NDArray[np.intp]) -> NDArray[np.intp]:
    """Join the groups of linked pairs."""
    if not len(a):
        return group
    n = int(group.max()) + 1
    graph = coo_array((np.ones(len(a)), (group[a], group[b])), shape=(n, n))
    component: NDArray[np.intp] = connected_components(graph, directed=False)[1]
    return component[group]
