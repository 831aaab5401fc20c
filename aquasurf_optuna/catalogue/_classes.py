"""From a space to its classes of equal functions: evaluate, group, and name the simplest.

Shapes: `g` graphs of the space, `c` classes, `n` distinct graphs as `_levels.py` counts them.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray

from aquasurf_optuna.catalogue._grouping import labels_of
from aquasurf_optuna.catalogue._levels import Combinations, Levels
from aquasurf_optuna.catalogue._simplest import simplest
from aquasurf_optuna.equality import Equality, Fingerprints
from aquasurf_optuna.exceptions import SpaceError
from aquasurf_optuna.features.outputs import N_INPUTS
from aquasurf_optuna.space import SearchSpace

# Graphs are numbered by int32.
_MOST_GRAPHS = 2**31 - 1


@dataclasses.dataclass(frozen=True)
class Classes:
    """The classes of a space, numbered by the places of their representatives in it.

    Attributes:
        of_graph: int32 array `(g,)`, the class of each graph.
        representatives: int64 array `(c,)`, the simplest graph of each class; rising.
        is_finite: bool array `(c,)`, of the representatives, as in `Fingerprints`.
        is_constant: bool array `(c,)`.
        sums: int64 array `(c, 4)`.
    """

    of_graph: NDArray[np.int32]
    representatives: NDArray[np.int64]
    is_finite: NDArray[np.bool_]
    is_constant: NDArray[np.bool_]
    sums: NDArray[np.int64]


@dataclasses.dataclass(frozen=True)
class Resources:
    """What the making of a catalogue may take; see `Catalogue.of`.

    Raises:
        SpaceError: If the limit is no number of bytes, or there is to be no thread.
    """

    memory_limit: int = 2**30
    spill: str | os.PathLike[str] | None = None
    n_threads: int | None = None
    progress: Callable[[int, int], None] | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.memory_limit, (int, float)) or not self.memory_limit >= 0:
            raise SpaceError(
                f"memory_limit is a number of bytes from 0 on, such as 2**30, "
                f"got {self.memory_limit!r}"
            )
        n = self.n_threads
        if n is not None and (isinstance(n, bool) or not isinstance(n, int) or n < 1):
            raise SpaceError(
                f"n_threads is a whole number from 1 on, or None for all processors, got {n!r}"
            )


def classes_of(space: SearchSpace, equality: Equality, resources: Resources) -> Classes:
    """Evaluate every graph of a space and group equal functions.

    Raises:
        SpaceError: If it is no space, there are too many graphs, or the values of subexpressions
            find no room.
        OSError: If they cannot be written to the folder meant for that.
    """
    if not isinstance(space, SearchSpace):
        raise SpaceError(f"a catalogue is one of a SearchSpace, got {space!r}")
    n_graphs = sum(part.size for part in space.parts)
    if n_graphs > _MOST_GRAPHS:
        raise SpaceError(
            f"a catalogue holds at most {_MOST_GRAPHS:,} graphs, and this space has {n_graphs:,}; "
            "restrict the space, or go without a catalogue: sample and suggest work at any size"
        )
    with Levels(
        getattr(torch, equality.dtype.name),
        memory_limit=resources.memory_limit,
        spill=resources.spill,
        n_threads=resources.n_threads or _processors(),
    ) as levels:
        evaluation = Evaluation(levels, space, equality)
        prints = evaluation.fingerprints(resources.progress)
        labels = labels_of(prints, equality, evaluation.rows)
        print_of_graph = evaluation.of_graphs()
    return _numbered(space, labels[print_of_graph], prints, print_of_graph)


class Evaluation:
    """All distinct graphs of a space, those of its schemas one after the other."""

    def __init__(self, levels: Levels, space: SearchSpace, equality: Equality) -> None:
        self._levels = levels
        self._equality = equality
        self._parts: list[Combinations] = [levels.combinations(part) for part in space.parts]
        self._starts = np.concatenate([[0], np.cumsum([len(part) for part in self._parts])])

    def fingerprints(self, progress: Callable[[int, int], None] | None) -> Fingerprints:
        total = int(self._starts[-1])
        prints = Fingerprints.empty(total)
        done = 0

        def told(more: int) -> None:
            nonlocal done
            done += more
            if progress is not None:
                progress(done, total)

        for part, start in zip(self._parts, self._starts.tolist(), strict=False):

            def visit(first: int, values: NDArray[np.floating], start: int = start) -> None:
                rows = self._equality.rows(values)
                prints.put(start + first, self._equality.fingerprints(rows))

            self._levels.scan(part, visit, told)
        return prints

    def rows(self, chosen: NDArray[np.intp]) -> NDArray[np.floating]:
        """Evaluate some graphs again, `(m,)` to rows `(m, 1000)`."""
        rows = np.empty((len(chosen), N_INPUTS), self._equality.dtype)
        owner = np.searchsorted(self._starts, chosen, side="right") - 1
        for number in np.unique(owner).tolist():
            where = owner == number
            values = self._parts[number].values(chosen[where] - self._starts[number])
            rows[where] = self._equality.rows(values[:, :N_INPUTS].numpy())
        return rows

    def of_graphs(self) -> NDArray[np.int32]:
        """Return for every graph of the space its number among the distinct ones."""
        numbers = np.arange(self._starts[-1], dtype=np.int32)
        pieces = np.split(numbers, self._starts[1:-1])
        return np.concatenate(
            [part.of_graphs(piece) for part, piece in zip(self._parts, pieces, strict=True)]
        )


def _numbered(
    space: SearchSpace,
    labels: NDArray[np.intp],
    prints: Fingerprints,
    print_of_graph: NDArray[np.int32],
) -> Classes:
    """Name each class by its simplest graph, and number the classes by these."""
    excluded = np.array(space.excluded, dtype=np.intp)
    labels[excluded] = -1
    named, renumbered = np.unique(labels, return_inverse=True)
    labels = renumbered - int(named[0] == -1)
    chosen = simplest(space.parts, labels)
    order = np.argsort(chosen)
    number = np.empty(len(order), np.int32)
    number[order] = np.arange(len(order), dtype=np.int32)
    of_graph = number[np.delete(labels, excluded)]
    chosen = chosen[order]
    representatives = chosen - np.searchsorted(excluded, chosen)
    known = print_of_graph[chosen]
    arrays = (of_graph, representatives, prints.is_finite[known], prints.is_constant[known])
    classes = Classes(*arrays, prints.sums[known])
    for field in dataclasses.fields(classes):
        getattr(classes, field.name).setflags(write=False)
    return classes


def _processors() -> int:
    # Fewer than the machine has, where a scheduler or a container allows fewer.
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
