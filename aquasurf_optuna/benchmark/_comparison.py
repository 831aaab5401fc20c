"""Many searches on one table, in processes, kept in a file as they end; and what they came to."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence

import joblib
import numpy as np
import threadpoolctl
import torch
from numpy.typing import NDArray
from tqdm.auto import tqdm

from aquasurf_optuna._shipping import with_operators
from aquasurf_optuna.benchmark._bench import DEFAULT_METRIC, ActBench
from aquasurf_optuna.benchmark._kept_searches import Key, SearchesFile
from aquasurf_optuna.benchmark._metrics import Summary, markdown, summary_of
from aquasurf_optuna.benchmark._samplers import LAYOUT_SEEDS, SAMPLERS, check_samplers
from aquasurf_optuna.benchmark._searched_table import STARTS, SearchedTable
from aquasurf_optuna.benchmark._searches import Search, search
from aquasurf_optuna.exceptions import BenchmarkError


def compare(
    bench: ActBench,
    samplers: Sequence[str],
    *,
    repeats: int = 100,
    trials: int = 100,
    start: str = "random",
    metric: str = DEFAULT_METRIC,
    pool_size: int | None = None,
    jobs: int = 1,
    kept: str | os.PathLike[str] | None = None,
    again: Sequence[str] = (),
    progress: bool = True,
) -> list[Search]:
    """Run every sampler on a table, many times.

    A search is the same whatever else runs, and whatever `jobs` and `repeats` are. Each process
    computes on one thread.

    Args:
        bench: The table.
        samplers: Keys of `SAMPLERS`.
        repeats: How often each one searches; the repeat seeds it, and what it begins with.
        trials: Evaluations of each search, after those that it begins with.
        start: Key of `STARTS`.
        metric: The measure that is searched: an accuracy for its highest value, a loss or the
            time for its lowest.
        pool_size: How many functions AquaSurfSampler draws at a time; None for all.
        jobs: Processes; -1 for one a core.
        kept: File of the searches that ended; those that it has are not run once more.
        again: Samplers that run once more all the same, since they have changed.
        progress: Whether to show a bar on standard error.

    Returns:
        The searches, sampler by sampler, in the order of the repeats.

    Raises:
        BenchmarkError: If an argument is not as described, the table lacks functions of its space,
            or the file is of another table, or damaged.
    """
    names = list(dict.fromkeys(samplers))
    _check(names, again, repeats=repeats, trials=trials, jobs=jobs)
    table = SearchedTable(bench, metric, pool_size=pool_size)
    # Refused here, and not in some process.
    _ = table.first_rows(start, 0), table.catalogue
    file = None if kept is None else SearchesFile(kept, table, pool_size=pool_size)
    found = {} if file is None else file.read(start, trials)
    keys = [(name, start, repeat) for repeat in range(repeats) for name in names]
    once = dict.fromkeys(map(_first_of_its_kind, keys))
    wanted = [key for key in once if key not in found or key[0] in again]
    with tqdm(
        total=len(once), initial=len(once) - len(wanted), unit="search", disable=not progress
    ) as bar:
        for one in _searches(table, wanted, trials, jobs):
            if file is not None:
                file.add(one)
            found[one.sampler, one.start, one.repeat] = one
            bar.update()
    every = ((name, start, repeat) for name in names for repeat in range(repeats))
    return [found[_first_of_its_kind(key)]._replace(repeat=key[2]) for key in every]


def _first_of_its_kind(key: Key) -> Key:
    """Return the search that goes the same way as another one: the same seed and beginning."""
    sampler, start, repeat = key
    if start == "baselines" and SAMPLERS[sampler].shares_seeds:
        return sampler, start, repeat % LAYOUT_SEEDS
    return key


def summaries(
    bench: ActBench, searches: Sequence[Search], metric: str = DEFAULT_METRIC
) -> dict[str, Summary]:
    """Summarise searches on a table, with one start, by sampler.

    Args:
        bench: The table.
        searches: What `compare` returned.
        metric: The measure that was searched.

    Raises:
        BenchmarkError: If the searches have different starts or lengths, or there are none.
    """
    kinds = {(s.table, s.start, s.n_initial, s.trials) for s in searches}
    if len(kinds) != 1 or next(iter(kinds))[0] != bench.name:
        raise BenchmarkError(
            f"searches must be of the table {bench.name}, with one start and one number of trials, "
            f"got {sorted(kinds)}"
        )
    [(_, _, n_initial, trials)] = kinds
    table = SearchedTable(bench, metric)
    return {
        name: summary_of(
            table.scores,
            [table.scores[one.rows] for one in searches if one.sampler == name],
            n_initial=n_initial,
            evaluations=trials,
            relu=table.relu,
            baselines=table.baselines,
        )
        for name in dict.fromkeys(one.sampler for one in searches)
    }


def comparison_markdown(
    bench: ActBench, searches: Sequence[Search], metric: str = DEFAULT_METRIC
) -> str:
    """Return a comparison as Markdown: what was searched, and a line for each sampler.

    Raises:
        BenchmarkError: As :func:`summaries`.
    """
    found = summaries(bench, searches, metric)
    milliseconds = {
        name: 1000
        * float(np.median([_seconds_a_proposal(one) for one in searches if one.sampler == name]))
        for name in found
    }
    start = STARTS[searches[0].start]
    return (
        f"{_described(SearchedTable(bench, metric))}. Searches begin with {start}; the evaluations "
        "after these count. Means with 95% confidence intervals (1.96 standard errors) over "
        "repeats that differ; medians of evaluations, with the share of the repeats that get "
        "there.\n"
        f"\n{markdown(found, milliseconds)}\n"
    )


def _described(table: SearchedTable) -> str:
    bench, scores = table.bench, table.sign * table.scores
    text = (
        f"{bench.name}: {len(bench):,} functions, {int(bench.valid.sum()):,} with a valid "
        f"spectrum; best {table.metric.replace('_', ' ')} {scores[table.scores.argmax()]:.4f}"
    )
    if table.baselines:
        best = table.baselines[int(table.scores[table.baselines].argmax())]
        text += f", best baseline {scores[best]:.4f} ({bench.functions[best]})"
    return text if table.relu is None else f"{text}, ReLU {scores[table.relu]:.4f}"


def _seconds_a_proposal(one: Search) -> float:
    # What a search begins with is enqueued, and costs next to nothing.
    return one.seconds / max(len(one.rows) - one.n_initial, 1)


def curves_of(
    bench: ActBench, searches: Sequence[Search], metric: str = DEFAULT_METRIC
) -> dict[str, NDArray[np.float64]]:
    """Return the best value so far, ``(repeats, trials + 1)`` by sampler, in the metric's units.

    Raises:
        BenchmarkError: As :func:`summaries`.
    """
    sign = SearchedTable(bench, metric).sign
    return {name: sign * one.curves for name, one in summaries(bench, searches, metric).items()}


def _check(
    names: Sequence[str], again: Sequence[str], *, repeats: int, trials: int, jobs: int
) -> None:
    check_samplers(names)
    for what, number in (("repeats", repeats), ("trials", trials)):
        if number < 1:
            raise BenchmarkError(f"{what} must be 1 or more, got {number}")
    if jobs == 0 or jobs < -1:
        raise BenchmarkError(f"jobs must be 1 or more, or -1 for every core, got {jobs}")
    strange = [name for name in again if name not in names]
    if strange:
        raise BenchmarkError(
            f"again must be among the samplers {', '.join(names)}, got {', '.join(strange)}"
        )


def _searches(
    table: SearchedTable, keys: Sequence[Key], trials: int, jobs: int
) -> Iterator[Search]:
    if jobs == 1:
        for key in keys:
            yield _run(table, key, trials)
        return
    run = with_operators(_run_elsewhere)
    # Made here once, so that it travels with the table.
    _ = table.shared_key
    with joblib.parallel_config(backend="loky", inner_max_num_threads=1):
        pool = joblib.Parallel(n_jobs=jobs, batch_size=1, return_as="generator_unordered")
        results = pool(joblib.delayed(run)(table, key, trials) for key in keys)
    with contextlib.closing(results):
        yield from results


def _run(table: SearchedTable, key: Key, trials: int) -> Search:
    sampler, start, repeat = key
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with threadpoolctl.threadpool_limits(1):
            return search(table, sampler, start=start, repeat=repeat, trials=trials)
    finally:
        torch.set_num_threads(threads)


# What searches share is made once in a process, however often the table arrives.
_arrived: dict[str, SearchedTable] = {}


def _run_elsewhere(table: SearchedTable, key: Key, trials: int) -> Search:
    known = _arrived.get(table.shared_key)
    if known is None:
        _arrived.clear()
        _arrived[table.shared_key] = known = table
    return _run(known, key, trials)
