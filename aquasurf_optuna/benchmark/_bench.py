"""Tables of functions that were really trained: a search on one costs no training.

A row is one function, with everything that is equal to it:

==============  =============  ====================================================================
``functions``   ``(n,)``       texts, the name that the table gives the function
``measured``    ``(n,)`` each  float64 by field name, as the runs' median; NaN where a function was
                               not trained, or diverged
``fisher``      ``(n, m)``     float32, the spectrum as a vector; NaN where it is invalid
``valid``       ``(n,)``       bool, whether the spectrum is valid
==============  =============  ====================================================================

The published tables are those of Bingham and Miikkulainen (2023), Section 2 and Appendix B.
"""

from __future__ import annotations

import dataclasses
import functools
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from numpy.typing import NDArray

from aquasurf_optuna.benchmark._published import PUBLISHED, fetch
from aquasurf_optuna.benchmark._reader import MEASURES, Entry, Table
from aquasurf_optuna.benchmark._shipped import SHIPPED, shipped
from aquasurf_optuna.catalogue import Catalogue
from aquasurf_optuna.exceptions import BenchmarkError, ExpressionError, SpaceError
from aquasurf_optuna.expression import BASELINES, Expression
from aquasurf_optuna.features._feature import FisherFeature
from aquasurf_optuna.space import SearchSpace

DEFAULT_METRIC = "validation_accuracy"
"""What searches on a table maximise unless told otherwise."""
ACTIVATION = "activation"
"""The name under which a table's objective suggests its function."""

_PREFERRED = ("quantiles", "histogram")


class ActBench:
    """A benchmark table of activation functions, as an Optuna objective.

    Made by :meth:`load`; two tables compare by identity. See the top of the module for the arrays.

    Attributes:
        name: The table's name.
        functions: The rows' functions, as texts.
        members: By row, the texts of the other graphs that are the same function.
        measured: Field name (`validation_accuracy`, `train_loss`, ..., `seconds`) -> values.
        seeds: The training seeds, in order; none for the published tables.
        runs: The same for each training seed, ``(n, seeds)``, NaN where a function was not trained
            from it; empty for the published tables.
        fisher: The Fisher features.
        valid: Which rows have one.
        reasons: Row -> why it has none.
        representation: `"quantiles"` or `"histogram"`, what the features are.
        about: What the table says about how it was made; empty for the published ones.
    """

    def __init__(
        self,
        name: str,
        entries: Sequence[Entry],
        *,
        about: Mapping[str, Any] | None = None,
        representation: str | None = None,
    ) -> None:
        """Put a table together; :meth:`load` reads one.

        Raises:
            BenchmarkError: If there is no entry, or the representation is not in the table.
        """
        if not entries:
            raise BenchmarkError(f"{name} holds no functions; a table has one entry for each")
        self.name = name
        self.about = dict(about or {})
        self.functions = tuple(entry.name for entry in entries)
        self.members = tuple(entry.members for entry in entries)
        self.measured = {
            field: np.array([entry.measured[field] for entry in entries]) for field in MEASURES
        }
        self.seeds = tuple(sorted({seed for entry in entries for seed in entry.seeds}))
        self.runs = _runs(entries, self.seeds)
        self.representation = _representation(name, entries, representation)
        self.fisher, self.reasons = _fisher(entries, self.representation)
        self.valid = np.array([row not in self.reasons for row in range(len(entries))])

    @classmethod
    def load(
        cls, path_or_name: str | os.PathLike[str], *, representation: str | None = None
    ) -> ActBench:
        """Read a table.

        Args:
            path_or_name: A file, plain or gzipped; or the name of a table that comes with the
                package (`act-bench-digits-cnn`, ...), which needs no network; or the name of a
                published one (`act-bench-cnn`, `act-bench-resnet`, `act-bench-vit`), which is
                fetched once and kept.
            representation: Which Fisher features to take where a table has both; `"quantiles"` is
                preferred.

        Raises:
            BenchmarkError: If there is no such table, it cannot be fetched, or a file is damaged or
                not of the published form; the message names what is amiss.
        """
        name, path = _found(path_or_name)
        table = Table(path)
        return cls(name, list(table), about=table.about, representation=representation)

    def __len__(self) -> int:
        return len(self.functions)

    def __repr__(self) -> str:
        return f"ActBench({self.name!r}: {len(self)} functions, {int(self.valid.sum())} valid)"

    @functools.cached_property
    def expressions(self) -> tuple[Expression, ...]:
        """The rows' functions.

        Raises:
            BenchmarkError: If a name is not the text of a function.
        """
        return tuple(self._parsed(text) for text in self.functions)

    @functools.cached_property
    def space(self) -> SearchSpace:
        """The search space of the functions: the one that the table names, or the three-node one.

        Raises:
            BenchmarkError: If functions of the table are not in it.
        """
        space = SearchSpace.named(str(self.about.get("space", "three_node")))
        known = sum(expression in space for expression in self.expressions)
        if known < len(self):
            missing = next(
                text
                for text, e in zip(self.functions, self.expressions, strict=True)
                if e not in space
            )
            raise BenchmarkError(
                f"{self.name}: {len(self) - known} of its functions, such as {missing}, are not in "
                f"the space {space.schema}; name the space of the table in its entry "
                f"'About this table'"
            )
        return space

    @property
    def chance(self) -> float:
        """The accuracy that counts for a function that was not trained: that of guessing."""
        return 1.0 / int(self.about.get("classes", 10))

    @functools.cached_property
    def baselines(self) -> dict[str, int]:
        """Text of each standard function that is in the table -> its row."""
        rows = {str(baseline): self._find(baseline) for baseline in BASELINES}
        return {text: row for text, row in rows.items() if row is not None}

    @functools.cached_property
    def features(self) -> TableFeatures:
        """The Fisher features, in place of a featurizer for `AquaSurfSampler`."""
        return TableFeatures(self)

    def values(self, metric: str = DEFAULT_METRIC) -> NDArray[np.float64]:
        """Return a measure of every row as a search sees it, ``(n,)``.

        What was not trained, or diverged, has the accuracy of guessing, or the largest finite loss.

        Raises:
            BenchmarkError: If there is no such measure, or no function has a finite one.
        """
        if metric not in self.measured:
            raise BenchmarkError(
                f"metric must be one of {', '.join(self.measured)}, got {metric!r}"
            )
        values = self.measured[metric]
        finite = np.isfinite(values)
        if not finite.any():
            raise BenchmarkError(f"{self.name} has no finite {metric}; choose another measure")
        worst = self.chance if metric.endswith("accuracy") else float(values[finite].max())
        return np.where(finite, values, worst)

    def row(self, function: str | Expression) -> int:
        """Return the row of a function, by its own name, that of an equal graph, or its values.

        Raises:
            BenchmarkError: If the table does not have it.
        """
        row = self._find(function)
        if row is None:
            raise BenchmarkError(
                f"{self.name} does not hold {function}; it holds the functions of "
                f"{self.about.get('space', 'the three-node space')} by name"
            )
        return row

    def objective(self, trial: optuna.trial.BaseTrial) -> float:
        """Suggest a function and return its validation accuracy: an objective for Optuna.

        Maximise it. A function that was not trained, since it fails, counts as guessing.
        """
        return self.objective_of(DEFAULT_METRIC)(trial)

    def objective_of(self, metric: str) -> Callable[[optuna.trial.BaseTrial], float]:
        """Return the objective of another measure.

        Raises:
            BenchmarkError: If there is no such measure.
        """
        values = self.values(metric)

        def objective(trial: optuna.trial.BaseTrial) -> float:
            return float(values[self.row(self.space.suggest(trial, ACTIVATION))])

        return objective

    @functools.cached_property
    def catalogue(self) -> Catalogue:
        """The classes of equal functions of the space."""
        return Catalogue.of(self.space)

    def _find(self, function: str | Expression) -> int | None:
        row = self._rows.get(str(function))
        if row is not None:
            return row
        try:
            class_id = self.catalogue.class_of(function)
        except SpaceError:
            return None
        members = (str(member) for member in self.catalogue.members(class_id))
        return next((self._rows[text] for text in members if text in self._rows), None)

    @functools.cached_property
    def _rows(self) -> dict[str, int]:
        rows: dict[str, int] = {}
        for row, members in enumerate(self.members):
            rows |= dict.fromkeys(members, row)
        return rows | {text: row for row, text in enumerate(self.functions)}

    def _parsed(self, text: str) -> Expression:
        try:
            return Expression.parse(text)
        except ExpressionError as error:
            raise BenchmarkError(
                f"{self.name}: {text!r} is not the text of a function: {error}"
            ) from error


@dataclasses.dataclass(frozen=True, eq=False)
class TableFeatures:
    """The Fisher features of a table, as a featurizer that only looks them up."""

    bench: ActBench

    @property
    def task(self) -> str:
        """Name under which a store keeps them."""
        return f"{self.bench.name} {self.bench.representation}"

    def __call__(self, expression: str | Expression) -> FisherFeature:
        """Return the feature of a function.

        Raises:
            BenchmarkError: If the table does not have the function.
        """
        row = self.bench.row(expression)
        if not self.bench.valid[row]:
            return FisherFeature(None, self.bench.reasons[row])
        return FisherFeature(self.bench.fisher[row], None)

    def many(
        self,
        expressions: Sequence[str | Expression],
        *,
        store: object = None,
        n_jobs: int = 1,
        progress: Callable[[int, int], None] | None = None,
    ) -> list[FisherFeature]:
        """Return the features of several functions; nothing is computed, kept or waited for."""
        features = [self(expression) for expression in expressions]
        if progress is not None:
            progress(len(features), len(features))
        return features


def _found(path_or_name: str | os.PathLike[str]) -> tuple[str, Path]:
    """Return a table's name, and the file that it stands in."""
    text = os.fspath(path_or_name)
    if text in SHIPPED:
        return text, shipped(text)
    path = Path(text)
    if path.exists():
        return path.name.removesuffix(".gz").removesuffix(".json"), path
    if text in PUBLISHED:
        return text, fetch(text)
    raise BenchmarkError(
        f"there is no file {text}, and no table of this name; known are "
        f"{', '.join([*SHIPPED, *PUBLISHED])}"
    )


def _representation(name: str, entries: Sequence[Entry], wanted: str | None) -> str:
    there = [kind for kind in _PREFERRED if any(kind in entry.vectors for entry in entries)]
    if wanted is None:
        return there[0] if there else _PREFERRED[-1]
    if wanted not in there:
        raise BenchmarkError(
            f"{name} has no Fisher features as {wanted!r}; it has {', '.join(there) or 'none'}"
        )
    return wanted


def _fisher(
    entries: Sequence[Entry], representation: str
) -> tuple[NDArray[np.float32], dict[int, str]]:
    lengths = {len(e.vectors[representation]) for e in entries if representation in e.vectors}
    vectors = np.full((len(entries), max(lengths, default=0)), np.nan, dtype=np.float32)
    reasons: dict[int, str] = {}
    for row, entry in enumerate(entries):
        if representation in entry.vectors:
            vectors[row] = entry.vectors[representation]
        else:
            reasons[row] = entry.invalid or "the table has no vector of it"
    return vectors, reasons


def _runs(entries: Sequence[Entry], seeds: tuple[int, ...]) -> dict[str, NDArray[np.float64]]:
    """Return the values of each measure by row and seed; not every function has every seed."""
    column = {seed: place for place, seed in enumerate(seeds)}
    runs = {}
    for field in MEASURES if seeds else ():
        values = np.full((len(entries), len(seeds)), np.nan)
        for row, entry in enumerate(entries):
            for seed, value in zip(entry.seeds, entry.runs.get(field, ()), strict=False):
                values[row, column[seed]] = value
        runs[field] = values
    return runs
