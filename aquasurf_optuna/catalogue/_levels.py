"""Evaluate all graphs of a schema level by level, each distinct subexpression once.

The *level* of a place (`_schema.py`) is a table with the values of all its graphs on the fixed
inputs, equal ones once. A place is evaluated on the tables of its children: every operator that may
stand there, on every combination of their rows. What is equal here is so bit for bit, 0 and -0
apart, so that a table loses nothing, whatever is computed from it.

A *combination* is one of those: number `o * d1 * ... * dn + r1 * d2 * ... * dn + ... + rn` is the
operator number o on the rows r1 to rn of children with d1 to dn rows. The outermost place of a
schema is only run through, in blocks of some twenty rows that stay in the processor's cache.

Shapes: rows are `(n, WIDTH)`, whose first 1,000 columns are the fixed inputs.
"""

from __future__ import annotations

import concurrent.futures
import dataclasses
import math
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from aquasurf_optuna._parser import constant_value
from aquasurf_optuna._schema import Place
from aquasurf_optuna.equality import digests, first_of_each
from aquasurf_optuna.exceptions import SpaceError
from aquasurf_optuna.features.outputs import N_INPUTS, WIDTH, padded_inputs
from aquasurf_optuna.operators import LEAF, OPERATORS, constant

# Fewer elements than torch divides among threads: the vector units then see every row alike.
_BLOCK = 24
_BLOCKS_PER_TASK = 32
_ROW_BYTES = 8 * WIDTH


@dataclasses.dataclass(frozen=True)
class Level:
    """The distinct values of a place.

    Attributes:
        values: Tensor `(d, WIDTH)`.
        row_of: int32 array `(size,)`: for every graph of the place the row with its values.
    """

    values: Tensor
    row_of: NDArray[np.int32]


class Levels:
    """The levels that a space needs, each made once. A context manager; tables end with it.

    Args:
        dtype: In which arithmetic.
        memory_limit: Bytes that the tables of all levels together may take in memory.
        spill: A folder for the tables that find no room there; None where that is an error.
        n_threads: How many threads work.

    Raises:
        SpaceError: On use, if a table finds no room and there is no folder for it.
        OSError: On use, if a table cannot be written to the folder.
    """

    def __init__(
        self,
        dtype: torch.dtype,
        *,
        memory_limit: int,
        spill: str | os.PathLike[str] | None,
        n_threads: int,
    ) -> None:
        self._inputs = padded_inputs().to(dtype)
        self._memory_limit = memory_limit
        self._spill = None if spill is None else Path(spill)
        self._in_memory = 0
        self._levels: dict[Place, Level] = {}
        self._files: list[Path] = []
        self._pool = concurrent.futures.ThreadPoolExecutor(n_threads)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(cancel_futures=True)
        self._levels.clear()
        for file in self._files:
            file.unlink(missing_ok=True)

    def combinations(self, place: Place) -> Combinations:
        """Return the combinations of a place, whose children's levels are made where need be."""
        children = tuple(self.level(child) for child in place.children)
        return Combinations(place, children, self._inputs)

    def level(self, place: Place) -> Level:
        """Return the level of a place."""
        if place not in self._levels:
            self._levels[place] = self._made(self.combinations(place))
        return self._levels[place]

    def scan(
        self,
        combinations: Combinations,
        visit: Callable[[int, NDArray[np.floating]], None],
        progress: Callable[[int], None] = lambda _: None,
    ) -> None:
        """Evaluate all combinations, in several threads and in any order.

        Args:
            combinations: What to evaluate.
            visit: Called as `visit(first, values)` with the number of a combination and the values
                `(n, 1000)` from there on.
            progress: Called with how many are done since it was last called, by one thread.
        """

        def work(start: int, stop: int) -> int:
            for first, values in combinations.blocks(start, stop):
                visit(first, values[:, :N_INPUTS].numpy())
            return stop - start

        step = _BLOCK * _BLOCKS_PER_TASK
        starts = range(0, len(combinations), step)
        stops = (min(start + step, len(combinations)) for start in starts)
        for done in self._pool.map(work, starts, stops):
            progress(done)

    def _made(self, combinations: Combinations) -> Level:
        """Make a level in two passes: find the distinct rows, then make room for them alone."""
        keys = np.empty((len(combinations), 2), np.uint64)

        def visit(start: int, values: NDArray[np.floating]) -> None:
            keys[start : start + len(values)] = _bitwise(values)

        self.scan(combinations, visit)
        first, row = first_of_each(keys)
        values = self._room(len(first))
        for start in range(0, len(first), _BLOCK):
            chosen = first[start : start + _BLOCK]
            values[start : start + _BLOCK] = combinations.values(chosen)
        return Level(values, combinations.of_graphs(row.astype(np.int32)))

    def _room(self, n: int) -> Tensor:
        n_bytes = n * WIDTH * self._inputs.element_size()
        if self._in_memory + n_bytes <= self._memory_limit:
            self._in_memory += n_bytes
            return torch.empty((n, WIDTH), dtype=self._inputs.dtype)
        if self._spill is None:
            raise SpaceError(
                f"the values of {n:,} subexpressions take {n_bytes / 2**30:.1f} GiB, and with "
                f"{self._in_memory / 2**30:.1f} GiB in use the limit of "
                f"{self._memory_limit / 2**30:.1f} GiB does not hold them; pass a folder with room "
                "on its disk as spill=, a larger memory_limit=, or a smaller space"
            )
        handle, name = tempfile.mkstemp(suffix=".level", dir=self._spill)
        self._files.append(Path(name))
        try:
            # Where the disk is full, an error here; a mapped file would end the process later.
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(handle, 0, n_bytes)
        finally:
            os.close(handle)
        shape = (n, WIDTH)
        return torch.from_numpy(
            np.memmap(name, dtype=str(self._inputs.dtype)[6:], mode="r+", shape=shape)
        )


class Combinations:
    """All operators of a place on all combinations of its children's rows; see the module.

    Args:
        place: The place.
        children: Levels of its children.
        inputs: The inputs, `(WIDTH,)`.
    """

    def __init__(self, place: Place, children: tuple[Level, ...], inputs: Tensor) -> None:
        self._place = place
        self._children = children
        self._inputs = inputs
        self._shape = tuple(len(child.values) for child in children)
        self._per_name = math.prod(self._shape)

    def __len__(self) -> int:
        return len(self._place.names) * self._per_name

    def blocks(self, start: int, stop: int) -> Iterator[tuple[int, Tensor]]:
        """Yield the number of a first combination and the rows `(n, WIDTH)` from there on."""
        at = start
        while at < stop:
            name, inside = divmod(at, self._per_name)
            end = min(inside + _BLOCK, self._per_name, inside + stop - at)
            yield at, self._apply(name, np.arange(inside, end))
            at += end - inside

    def values(self, chosen: NDArray[np.integer]) -> Tensor:
        """Return the rows of these combinations, `(n,)` to `(n, WIDTH)`."""
        rows = torch.empty((len(chosen), WIDTH), dtype=self._inputs.dtype)
        names, inside = np.divmod(chosen, self._per_name)
        for name in np.unique(names).tolist():
            where = np.flatnonzero(names == name)
            for start in range(0, len(where), _BLOCK):
                some = where[start : start + _BLOCK]
                rows[torch.from_numpy(some)] = self._apply(name, inside[some])
        return rows

    def of_graphs(self, of_combinations: NDArray[np.int32]) -> NDArray[np.int32]:
        """Spread what is known of each combination to all graphs of the place, `(size,)`."""
        spread = of_combinations.reshape(len(self._place.names), *self._shape)
        for axis, child in enumerate(self._children, start=1):
            spread = np.take(spread, child.row_of, axis=axis)
        return spread.reshape(-1)

    def _apply(self, name: int, inside: NDArray[np.integer]) -> Tensor:
        rows = np.unravel_index(inside, self._shape) if self._shape else ()
        arguments = [
            child.values[torch.from_numpy(row)]
            for child, row in zip(self._children, rows, strict=True)
        ]
        return _evaluate(self._place.names[name], arguments or [self._inputs[None]])


def _evaluate(name: str, arguments: list[Tensor]) -> Tensor:
    if name == LEAF:
        return arguments[0]
    value = constant_value(name)
    if value is not None:
        return constant(arguments[0], value)
    return OPERATORS[name].function(*arguments)


def _bitwise(values: NDArray[np.floating]) -> NDArray[np.uint64]:
    """Tell rows apart by every bit, since 1/0 and 1/-0 differ; NaN is NaN."""
    return digests(np.where(np.isnan(values), values.dtype.type(np.nan), values))
