"""A search space without its duplicates: classes of equal functions, and one name for each.

Different graphs can be the same function, `max(x,zero(x))` and `relu(x)` for example, and training
both is waste. `equality.py` says when two functions are linked, by their values on the 1,000 fixed
inputs. Classes are the connected components of these links: functions of different classes are
never linked, two of one class are joined by a chain of linked ones, and no order matters.

Shapes: `g` graphs of the space, `c` classes, outputs `(c, 1000)`.
"""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from aquasurf_optuna.activation import as_expression
from aquasurf_optuna.catalogue._all_outputs import all_outputs
from aquasurf_optuna.catalogue._classes import Classes, Resources, classes_of
from aquasurf_optuna.catalogue._file import CatalogueFile
from aquasurf_optuna.catalogue._grouping import Neighbours
from aquasurf_optuna.equality import Equality, Invariance, Rule
from aquasurf_optuna.exceptions import SpaceError
from aquasurf_optuna.expression import Expression
from aquasurf_optuna.features.outputs import N_INPUTS, output_features
from aquasurf_optuna.space import SearchSpace, check_draw

_ROWS_AT_ONCE = 4096

Outputs = Callable[[NDArray[np.intp]], NDArray[np.float64]]


class Catalogue:
    """The different functions of a space. Made by `Catalogue.of` or `Catalogue.load`.

    Attributes:
        space: The space.
        equality: Which functions count as equal.
        is_constant: bool array `(c,)`, True where a function takes one finite value everywhere, up
            to the tolerance.
        is_finite: bool array `(c,)`, True where all values are finite.
    """

    def __init__(
        self,
        space: SearchSpace,
        equality: Equality,
        classes: Classes,
        stored: Outputs | None = None,
    ) -> None:
        self.space = space
        self.equality = equality
        self.is_finite = classes.is_finite
        self.is_constant = classes.is_constant
        self._classes = classes
        self._stored = stored

    @classmethod
    def of(
        cls,
        space: SearchSpace,
        rule: Rule = "tolerance",
        *,
        invariance: Invariance = "none",
        memory_limit: int = Resources.memory_limit,
        spill: str | os.PathLike[str] | None = None,
        n_threads: int | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> Catalogue:
        """Evaluate every graph of a space and group equal functions.

        Each distinct subexpression is evaluated once, in blocks. Values are not kept; while
        it works, some 350 bytes for each distinct graph are, beside the tables of subexpressions.
        The four-node space (1,023,516 graphs) takes some twenty seconds on two cores.

        Args:
            space: The space.
            rule: `"tolerance"`, or `"identical"` for the paper's.
            invariance: `"sign"` also merges f and -f, `"affine"` f and c f + d; see `equality.py`.
            memory_limit: Bytes that the values of subexpressions may take in memory.
            spill: Folder for such values that find no room there; they are deleted at the end.
            n_threads: How many threads evaluate; all processors unless given.
            progress: Called as `progress(done, total)`, in evaluations of distinct graphs.

        Raises:
            SpaceError: If an argument is not as described, there are 2**31 graphs or more, or
                `memory_limit` does not hold the values of subexpressions and no folder is given.
            OSError: If the folder cannot be written to.
        """
        equality = Equality(rule, invariance)
        resources = Resources(memory_limit, spill, n_threads, progress)
        return cls(space, equality, classes_of(space, equality, resources))

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Catalogue:
        """Open a catalogue that was saved. Its arrays are mapped into memory, not read.

        Args:
            path: A file that `save` wrote.

        Raises:
            CatalogueError: If the file is none of ours, is damaged, of another version, or made
                with other inputs or operators than are known here.
            OSError: If it cannot be read.
        """
        file = CatalogueFile.open(path)
        return cls(file.space, file.equality, file.classes, file.outputs)

    def save(self, path: str | os.PathLike[str], *, outputs: bool = False) -> Path:
        """Write the catalogue to a file, in the open format safetensors, with checksums.

        The file appears whole or not at all; missing folders are made.

        Args:
            path: Where to write; an existing file is replaced.
            outputs: Whether to write the outputs of all classes too, 8 kB each.

        Returns:
            The path.

        Raises:
            OSError: If the file cannot be written.
        """
        blocks = self._blocks() if outputs else None
        return CatalogueFile.write(path, self.space, self.equality, self._classes, blocks)

    @property
    def rule(self) -> Rule:
        """Which functions count as equal: "tolerance" or "identical"."""
        return self.equality.rule

    @functools.cached_property
    def outputs(self) -> NDArray[np.float64]:
        """Values of each class's representative, float64 array `(c, 1000)`, read-only.

        Made when first asked for, 8 kB a class: 3 GB for the four-node space. `outputs_of` gives
        those of some classes.
        """
        outputs = np.empty((len(self), N_INPUTS))
        start = 0
        for block in self._blocks():
            outputs[start : start + len(block)] = block
            start += len(block)
        outputs.setflags(write=False)
        return outputs

    def outputs_of(self, classes: Sequence[int] | NDArray[np.integer]) -> NDArray[np.float64]:
        """Return the values of the representatives of some classes, float64 `(n, 1000)`.

        Read from the file if the catalogue was loaded from one that has them, computed otherwise.

        Raises:
            IndexError: If there is no such class.
            CatalogueError: If the file has changed since.
        """
        chosen = np.array([self._checked(int(class_id)) for class_id in classes], dtype=np.intp)
        if self._stored is not None:
            return self._stored(chosen)
        dtype = getattr(torch, self.equality.dtype.name)
        features = output_features([self[class_id] for class_id in chosen], dtype=dtype)
        return features.astype(np.float64, copy=False)

    def output_blocks(self) -> Iterator[tuple[NDArray[np.intp], NDArray[np.floating]]]:
        """Yield classes `(n,)` and their outputs `(n, 1000)`, each class once, in any order.

        The quick way through a whole space in little memory: eight seconds for the four-node space
        on one core. As `outputs_of`, with -0 as 0 and values that are zero to the tolerance as 0.

        Raises:
            CatalogueError: If the catalogue was loaded from a file that has changed since.
        """
        try:
            if self._stored is None:
                yield from all_outputs(self.space, self.rule, self._classes.representatives)
                return
        except SpaceError:
            # There is no room for all subexpressions at once.
            pass
        start = 0
        for block in self._blocks():
            yield np.arange(start, start + len(block)), block
            start += len(block)

    def __len__(self) -> int:
        return len(self._classes.representatives)

    def __getitem__(self, class_id: int) -> Expression:
        """Return the representative of a class: the simplest member, the same on every machine.

        Simplest means fewest operators, then cheapest ones (`Operator.cost`), then first by text.

        Raises:
            IndexError: If there is no such class.
        """
        return self.space[int(self._classes.representatives[self._checked(class_id)])]

    def __repr__(self) -> str:
        equality = f"rule={self.equality.rule!r}"
        if self.equality.invariance != "none":
            equality += f", invariance={self.equality.invariance!r}"
        return f"Catalogue({self.space!r}, {equality}, {len(self):,} classes)"

    def members(self, class_id: int) -> tuple[Expression, ...]:
        """Return every graph of the space in one class, in the space's order.

        Raises:
            IndexError: If there is no such class.
        """
        order, starts = self._by_class
        checked = self._checked(class_id)
        return tuple(self.space[int(g)] for g in order[starts[checked] : starts[checked + 1]])

    def sample(self, n: int, *, seed: int | None = None, replace: bool = False) -> list[Expression]:
        """Draw representatives, each class with the same probability.

        Args:
            n: How many.
            seed: Makes the draw repeatable.
            replace: Whether one may come twice.

        Raises:
            SpaceError: If `n` is negative, or there are fewer classes and none may come twice.
        """
        check_draw(n, len(self), "classes", replace=replace)
        drawn = np.random.default_rng(seed).choice(len(self), size=n, replace=replace)
        return [self[class_id] for class_id in drawn.tolist()]

    def shuffled(self, seed: int) -> list[int]:
        """Return the classes that can be candidates, finite and not constant, in a random order.

        The order in which a sampler with this seed draws its pool.
        """
        eligible = np.flatnonzero(self.is_finite & ~self.is_constant)
        order: list[int] = np.random.default_rng(seed).permutation(eligible).tolist()
        return order

    def classes_of(self, expressions: Iterable[str | Expression]) -> dict[int, None]:
        """Return the classes of functions, each once and in order, without those it does not hold.

        Raises:
            ExpressionError: If a text does not name a function.
        """
        classes: dict[int, None] = {}
        for expression in expressions:
            with contextlib.suppress(SpaceError):
                classes[self.class_of(expression)] = None
        return classes

    def class_of(self, expression: str | Expression) -> int:
        """Return the class of a function, by its place in the space or else by its values.

        Args:
            expression: A graph of the space, or any other graph that computes the same as a
                representative.

        Raises:
            SpaceError: If no function of the space equals it.
            ExpressionError: If a text does not name a function.
        """
        parsed = as_expression(expression)
        graph = self.space.find(parsed)
        if graph is not None:
            return int(self._classes.of_graph[graph])
        class_id = self._equal_class(parsed)
        if class_id is None:
            raise SpaceError(f"no function of {self.space!r} has the values of {parsed}")
        return class_id

    def _equal_class(self, expression: Expression) -> int | None:
        dtype = getattr(torch, self.equality.dtype.name)
        row = self.equality.rows(output_features([expression], dtype=dtype))
        near = self._neighbours.of(self.equality.fingerprints(row).sums[0])
        if not len(near):
            return None
        rows = self.equality.rows(self.outputs_of(near))
        found = near[self.equality.linked(np.broadcast_to(row, rows.shape), rows)]
        return int(found.min()) if len(found) else None

    @functools.cached_property
    def _neighbours(self) -> Neighbours:
        return Neighbours(self._classes.sums)

    @functools.cached_property
    def _by_class(self) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Graphs in the order of their classes, `(g,)`, and where each class starts, `(c + 1,)`."""
        order = np.argsort(self._classes.of_graph, kind="stable")
        sizes = np.bincount(self._classes.of_graph, minlength=len(self))
        return order, np.concatenate([[0], np.cumsum(sizes)])

    def _blocks(self) -> Iterable[NDArray[np.float64]]:
        for start in range(0, len(self), _ROWS_AT_ONCE):
            yield self.outputs_of(np.arange(start, min(start + _ROWS_AT_ONCE, len(self))))

    def _checked(self, class_id: int) -> int:
        if not -len(self) <= class_id < len(self):
            raise IndexError(f"class {class_id} is outside a catalogue of {len(self)} classes")
        return class_id % len(self)
