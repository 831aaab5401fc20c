"""One search on a table.

Every sampler sees the same study: the functions that it begins with are enqueued, and each
evaluation is a look into the table. A search depends on the sampler, the start and the repeat, on
nothing else. What is tried twice counts twice: none of Optuna's samplers knows that it is the same.
"""

from __future__ import annotations

import contextlib
import time
import warnings
from collections.abc import Iterator
from typing import NamedTuple

import optuna
from optuna.exceptions import ExperimentalWarning

from aquasurf_optuna.benchmark._samplers import SAMPLERS, Method, check_samplers
from aquasurf_optuna.benchmark._searched_table import SearchedTable

# Of a sampler that has proposed so many invalid functions one after another, no other is expected.
_MOST_IN_VAIN = 300


class Search(NamedTuple):
    """One search.

    Attributes:
        table: Name of the table.
        sampler: Key of `SAMPLERS`, or the name of another method.
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


def search(
    table: SearchedTable,
    sampler: str,
    *,
    start: str,
    repeat: int,
    trials: int,
    method: Method | None = None,
) -> Search:
    """Run one search.

    Args:
        table: The table.
        sampler: Key of `SAMPLERS`; with a `method` any name for it.
        start: Key of `STARTS`.
        repeat: Seeds the sampler and the start.
        trials: Evaluations after those that the search begins with. With ``:valid`` it ends early
            where a sampler proposes 300 invalid functions one after another.
        method: How to search, for what has no name among `SAMPLERS`.

    Raises:
        BenchmarkError: If there is no such sampler or start.
    """
    if method is None:
        check_samplers([sampler])
        method = SAMPLERS[sampler]
    first = table.first_rows(start, repeat)
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
