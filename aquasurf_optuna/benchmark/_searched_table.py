"""A table as searches see it: scores, what a search begins with, and what all searches share."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aquasurf_optuna.benchmark._bench import ACTIVATION, DEFAULT_METRIC, ActBench
from aquasurf_optuna.catalogue import Catalogue
from aquasurf_optuna.exceptions import BenchmarkError
from aquasurf_optuna.expression import Expression

N_INITIAL = 8
STARTS: Mapping[str, str] = MappingProxyType(
    {"random": "ReLU and seven random functions", "baselines": "the baselines"}
)
"""What a search can begin with; the paper's begin with `"random"` (Section 5)."""

# More outputs than these, 160 MB, are not kept.
_MOST_REMEMBERED = 20_000
_RELU = "relu(x)"


class SearchedTable:
    """A table and what all searches on it share.

    Args:
        bench: The table.
        metric: The measure that is searched.
        pool_size: How many functions AquaSurfSampler draws at a time; None for all.

    Attributes:
        bench: The table.
        metric: The measure.
        scores: Its values, ``(n,)``, the higher the better: losses and times with a minus.
        failed: The score of what was not trained.

    Raises:
        BenchmarkError: If there is no such measure.
    """

    def __init__(
        self, bench: ActBench, metric: str = DEFAULT_METRIC, *, pool_size: int | None = None
    ) -> None:
        self.bench = bench
        self.metric = metric
        self.sign = 1.0 if metric.endswith("accuracy") else -1.0
        self.scores: NDArray[np.float64] = self.sign * bench.values(metric)
        self.failed = bench.chance if self.sign > 0 else float(self.scores.min())
        self._pool_size = pool_size

    @functools.cached_property
    def checksum(self) -> str:
        """SHA-256 of the functions, their scores and their features."""
        known = hashlib.sha256("\n".join([self.metric, *self.bench.functions]).encode())
        for array in (self.scores, self.bench.valid, self.bench.fisher):
            known.update(np.ascontiguousarray(array).tobytes())
        return known.hexdigest()

    @functools.cached_property
    def shared_key(self) -> str:
        """Tells tables apart whose searches differ."""
        return f"{self.bench.name} {self.checksum} {self._pool_size}"

    @functools.cached_property
    def catalogue(self) -> Catalogue:
        """The classes of the table's space, each evaluated once.

        Raises:
            BenchmarkError: If the table lacks a function of its space.
        """
        catalogue = RememberingCatalogue.of(self.bench.space)
        for class_id in range(len(catalogue)):
            # A search may come to any of them.
            self.bench.row(catalogue[class_id])
        return catalogue

    @functools.cached_property
    def distributions(self) -> dict[str, tuple[str, ...]]:
        """Name of each parameter of the space -> its choices."""
        distributions = self.bench.space.distributions(ACTIVATION)
        return {key: tuple(map(str, each.choices)) for key, each in distributions.items()}

    @property
    def pool_size(self) -> int:
        """How many functions AquaSurfSampler draws at a time."""
        return len(self.catalogue) if self._pool_size is None else self._pool_size

    @property
    def relu(self) -> int | None:
        """Row of ReLU, or None if it is not in the table."""
        return self.bench.baselines.get(_RELU)

    @property
    def baselines(self) -> list[int]:
        """Rows of the baselines, each once."""
        return list(dict.fromkeys(self.bench.baselines.values()))

    def first_rows(self, start: str, repeat: int) -> list[int]:
        """Return the rows that a search begins with; they are the same for every sampler.

        Raises:
            BenchmarkError: If there is no such start, or the table has no functions for it.
        """
        if start not in STARTS:
            raise BenchmarkError(f"start must be one of {', '.join(STARTS)}, got {start!r}")
        if start == "baselines":
            rows = self.baselines
        else:
            relu = [] if self.relu is None else [self.relu]
            others = np.setdiff1d(np.flatnonzero(self.bench.valid), relu)
            n = min(N_INITIAL - len(relu), len(others))
            drawn = np.random.default_rng([repeat, 1]).choice(others, n, replace=False)
            rows = [*relu, *map(int, drawn)]
        if not rows:
            raise BenchmarkError(
                f"{self.bench.name} has none of {STARTS[start]}; choose another start"
            )
        return rows

    def __getstate__(self) -> dict[str, Any]:
        """Leave out what another process makes itself in less time than it takes to send it."""
        return {key: value for key, value in self.__dict__.items() if key != "catalogue"}


class RememberingCatalogue(Catalogue):
    """A catalogue that evaluates its functions once, for many samplers that ask for all."""

    def outputs_of(self, classes: Sequence[int] | NDArray[np.integer]) -> NDArray[np.float64]:
        """Return the values of the representatives of some classes, float64 `(n, 1000)`."""
        if len(self) > _MOST_REMEMBERED:
            return super().outputs_of(classes)
        return self._all_outputs[np.asarray(classes, dtype=np.intp)]

    def __getitem__(self, class_id: int) -> Expression:
        if len(self) > _MOST_REMEMBERED or class_id not in self._representatives:
            return super().__getitem__(class_id)
        return self._representatives[class_id]

    @functools.cached_property
    def _all_outputs(self) -> NDArray[np.float64]:
        return super().outputs_of(np.arange(len(self)))

    @functools.cached_property
    def _representatives(self) -> dict[int, Expression]:
        return {
            class_id: super(RememberingCatalogue, self).__getitem__(class_id)
            for class_id in range(len(self))
        }
