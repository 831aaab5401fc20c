"""Searches on a table: samplers by name, what they begin with, and one search after another.

Every sampler sees the same study: the functions that it begins with are enqueued, and each
evaluation is a look into the table. A search depends on the sampler, the start and the repeat, on
nothing else. What is tried twice counts twice: none of Optuna's samplers knows that it is the same.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib.util
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import optuna
from numpy.typing import NDArray
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import (
    BaseSampler,
    CmaEsSampler,
    GPSampler,
    NSGAIISampler,
    RandomSampler,
    TPESampler,
)

from aquasurf_optuna.benchmark._bench import ACTIVATION, DEFAULT_METRIC, ActBench
from aquasurf_optuna.catalogue import Catalogue
from aquasurf_optuna.exceptions import BenchmarkError
from aquasurf_optuna.expression import Expression
from aquasurf_optuna.sampler import AquaSurfSampler
from aquasurf_optuna.surrogate import SURROGATES, make_surrogate

N_INITIAL = 8
STARTS: Mapping[str, str] = MappingProxyType(
    {"random": "ReLU and seven random functions", "baselines": "the baselines"}
)
"""What a search can begin with; the paper's begin with `"random"` (Section 5)."""

VALID_ONLY = "valid"
# Of a sampler that has proposed so many invalid functions one after another, no other is expected.
_MOST_IN_VAIN = 300
# More outputs than these, 160 MB, are not kept.
_MOST_REMEMBERED = 20_000
_RELU = "relu(x)"


class Search(NamedTuple):
    """One search.

    Attributes:
        table: Name of the table.
        sampler: Key of `SAMPLERS`.
        start: Key of `STARTS`.
        repeat: Seeds the sampler and the random functions of the start.
        trials: Evaluations that it was allowed, after the first functions.
        n_initial: How many functions it began with.
        rows: Rows of the table that it tried, in order, the first ones included.
        seconds: Processor time of asking for all of them.
    """

    table: str
    sampler: str
    start: str
    repeat: int
    trials: int
    n_initial: int
    rows: list[int]
    seconds: float


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


Make = Callable[[SearchedTable, int], BaseSampler]


class Method(NamedTuple):
    """How a sampler searches.

    Attributes:
        make: Makes it for a table, of a seed.
        integers: Whether the study has the places of the operators in their lists, as integers,
            in the stead of categorical parameters.
        valid_only: Whether functions with an invalid spectrum cost no evaluation: the sampler is
            told that such a one failed, and asked again.
    """

    make: Make
    integers: bool = False
    valid_only: bool = False

    def suggest(self, table: SearchedTable, trial: optuna.Trial) -> Expression:
        """Let a trial choose a function.

        With `integers` each parameter of the space, also the nodes of the schemas that are not
        chosen, is an integer from 0: a fixed number of dimensions, as CMA-ES needs.
        """
        if not self.integers:
            return table.bench.space.suggest(trial, ACTIVATION)
        params = {
            key: choices[trial.suggest_int(key, 0, len(choices) - 1)]
            for key, choices in table.distributions.items()
        }
        return table.bench.space.expression_of(params, ACTIVATION)

    def params_of(self, table: SearchedTable, row: int) -> dict[str, Any]:
        """Return the parameters with which a study chooses a row."""
        params = table.bench.space.params_of(table.bench.expressions[row], ACTIVATION)
        if not self.integers:
            return dict(params)
        return {key: table.distributions[key].index(name) for key, name in params.items()}


def _aquasurf(surrogate: str | None, features: str = "both") -> Make:
    def make(table: SearchedTable, seed: int) -> BaseSampler:
        chosen = (
            surrogate
            if features == "both"
            else make_surrogate(surrogate, features=features, random_state=seed)
        )
        return AquaSurfSampler(
            table.bench.space,
            features=table.bench.features,
            surrogate=chosen,
            # What a search begins with is enqueued.
            baselines=(),
            base_sampler=RandomSampler(seed=seed),
            pool_size=table.pool_size,
            catalogue=table.catalogue,
            seed=seed,
        )

    return make


def _tpe_multivariate(table: SearchedTable, seed: int) -> BaseSampler:
    # Grouped, it learns each schema of a union together; with one schema it is the same.
    return TPESampler(seed=seed, multivariate=True, group=len(table.bench.space.parts) > 1)


def _cmaes(_: SearchedTable, seed: int) -> BaseSampler:
    _require_cmaes()
    # The margin keeps integers from being stuck at one value.
    return CmaEsSampler(seed=seed, with_margin=True, warn_independent_sampling=False)


_PEERS: dict[str, Method] = {
    "tpe": Method(lambda _, seed: TPESampler(seed=seed)),
    "tpe-multivariate": Method(_tpe_multivariate),
    "gp": Method(lambda _, seed: GPSampler(seed=seed, warn_independent_sampling=False)),
    "cmaes": Method(_cmaes, integers=True),
    "nsgaii": Method(lambda _, seed: NSGAIISampler(seed=seed)),
    "random": Method(lambda _, seed: RandomSampler(seed=seed)),
}

SAMPLERS: Mapping[str, Method] = MappingProxyType(
    {
        "aquasurf": Method(_aquasurf(None)),
        **{f"aquasurf:{name}": Method(_aquasurf(name)) for name in SURROGATES},
        **{
            f"aquasurf:{name}:{features}": Method(_aquasurf(name, features))
            for name in SURROGATES
            for features in ("outputs", "fisher")
        },
        **_PEERS,
        **{f"{k}:{VALID_ONLY}": m._replace(valid_only=True) for k, m in _PEERS.items()},
    }
)
"""How each sampler that has a name searches.

===================================  ==============================================================
``aquasurf``                         AquaSurfSampler as it comes
``aquasurf:<surrogate>``             with another surrogate of `SURROGATES`, ``aquasurf:paper``
``aquasurf:<surrogate>:<features>``  with the ``outputs`` or the ``fisher`` features alone
``tpe``, ``tpe-multivariate``        Optuna's TPESampler, each parameter on its own or together
``gp``, ``nsgaii``, ``random``       Optuna's GPSampler, NSGAIISampler, RandomSampler
``cmaes``                            Optuna's CmaEsSampler with margin, on integers
``<one of Optuna's>:valid``          the same where invalid functions cost no evaluation
===================================  ==============================================================
"""


def check_samplers(names: Sequence[str]) -> None:
    """Refuse names that are not among `SAMPLERS`, or whose package is missing.

    Raises:
        BenchmarkError: If so.
    """
    unknown = [name for name in names if name not in SAMPLERS]
    if unknown or not names:
        raise BenchmarkError(
            f"samplers must be among aquasurf, {', '.join(_PEERS)}, each of Optuna's also with "
            f":{VALID_ONLY}, and aquasurf:<surrogate> with one of {', '.join(SURROGATES)}, and "
            f":outputs or :fisher after it; got {', '.join(map(repr, unknown)) or 'none'}"
        )
    if any(name.partition(":")[0] == "cmaes" for name in names):
        _require_cmaes()


def _require_cmaes() -> None:
    if importlib.util.find_spec("cmaes") is None:
        raise BenchmarkError(
            "the sampler 'cmaes' needs the package cmaes: pip install cmaes, or leave it out"
        )


def search(table: SearchedTable, sampler: str, *, start: str, repeat: int, trials: int) -> Search:
    """Run one search.

    Args:
        table: The table.
        sampler: Key of `SAMPLERS`.
        start: Key of `STARTS`.
        repeat: Seeds the sampler and the start.
        trials: Evaluations after those that the search begins with. With ``:valid`` it ends early
            where a sampler proposes 300 invalid functions one after another.

    Raises:
        BenchmarkError: If there is no such sampler or start.
    """
    check_samplers([sampler])
    method, first = SAMPLERS[sampler], table.first_rows(start, repeat)
    # Of all searches, made before the clock runs.
    _ = table.catalogue
    wanted = len(first) + trials
    rows: list[int] = []
    seconds = 0.0
    with _quiet():
        study = optuna.create_study(direction="maximize", sampler=method.make(table, repeat))
        for row in first:
            study.enqueue_trial(method.params_of(table, row))
        in_vain = 0
        while len(rows) < wanted and in_vain < _MOST_IN_VAIN:
            begin = time.process_time()
            trial = study.ask()
            expression = method.suggest(table, trial)
            seconds += time.process_time() - begin
            row = table.bench.row(expression)
            counts = len(rows) < len(first) or not method.valid_only or bool(table.bench.valid[row])
            study.tell(trial, float(table.scores[row]) if counts else table.failed)
            in_vain = 0 if counts else in_vain + 1
            if counts:
                rows.append(row)
    return Search(
        table.bench.name, sampler, start, repeat, trials, len(first), rows, round(seconds, 4)
    )


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Hold back what Optuna would say of each trial, and of what is experimental in it."""
    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            yield
    finally:
        optuna.logging.set_verbosity(verbosity)
