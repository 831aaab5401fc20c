"""Many searches on one table, in processes, kept in a file as they end; and what they came to.

The file has a line of JSON for each search; the first line says of which table they are, and
searches of another one are refused. Lines are appended whole, so an interrupted comparison goes on
where it was. They do not know the version of a sampler: after a change to one, take another file,
or run it `again`.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import joblib
import numpy as np
import threadpoolctl
import torch
from numpy.typing import NDArray
from tqdm.auto import tqdm

from aquasurf_optuna._shipping import with_operators
from aquasurf_optuna.benchmark._bench import DEFAULT_METRIC, ActBench
from aquasurf_optuna.benchmark._metrics import Summary, markdown, summary_of
from aquasurf_optuna.benchmark._searches import (
    STARTS,
    Search,
    SearchedTable,
    check_samplers,
    search,
)
from aquasurf_optuna.exceptions import BenchmarkError

_Key = tuple[str, str, int]


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
        again: Samplers that run once more all the same.
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
    wanted = [key for key in keys if key not in found or key[0] in again]
    with tqdm(
        total=len(keys), initial=len(keys) - len(wanted), unit="search", disable=not progress
    ) as bar:
        for one in _searches(table, wanted, trials, jobs):
            if file is not None:
                file.add(one)
            found[one.sampler, one.start, one.repeat] = one
            bar.update()
    return [found[name, start, repeat] for name in names for repeat in range(repeats)]


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
        name: 1000 * float(np.median([_seconds(one) for one in searches if one.sampler == name]))
        for name in found
    }
    start = STARTS[searches[0].start]
    return (
        f"{_described(SearchedTable(bench, metric))}. Searches begin with {start}; the evaluations "
        "after these count. Means with 95% confidence intervals (1.96 standard errors) over "
        "repeats; medians of evaluations, with the share of the repeats that get there.\n"
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


def _seconds(one: Search) -> float:
    return one.seconds / len(one.rows)


def curves_of(
    bench: ActBench, searches: Sequence[Search], metric: str = DEFAULT_METRIC
) -> dict[str, NDArray[np.float64]]:
    """Return the best value so far, ``(repeats, trials + 1)`` by sampler, in the metric's units.

    Raises:
        BenchmarkError: As :func:`summaries`.
    """
    sign = SearchedTable(bench, metric).sign
    return {name: sign * one.curves for name, one in summaries(bench, searches, metric).items()}


class SearchesFile:
    """A file of searches on one table.

    Args:
        path: The file; it and its folder are made when the first search ends.
        table: The table.
        pool_size: As for :func:`compare`.

    Raises:
        BenchmarkError: If the file holds searches of another table, or something else.
    """

    def __init__(
        self, path: str | os.PathLike[str], table: SearchedTable, *, pool_size: int | None
    ) -> None:
        self.path = Path(path)
        self._n_rows = len(table.bench)
        header = {
            "table": table.bench.name,
            "metric": table.metric,
            "pool_size": pool_size,
            "checksum": table.checksum,
        }
        self._header = json.dumps(header)
        self._check()

    def read(self, start: str, trials: int) -> dict[_Key, Search]:
        """Return the searches with one start that are long enough, cut to the length.

        Of two with one key the last one counts.

        Raises:
            BenchmarkError: If a line is no search.
        """
        found: dict[_Key, Search] = {}
        lines = self.path.read_bytes().split(b"\n")[1:] if self.path.exists() else []
        # The last line lacks its end where a process was killed as it wrote.
        for number, line in enumerate(lines[:-1], start=2):
            one = self._parsed(line, number)
            if one is not None and one.start == start and one.trials >= trials:
                found[one.sampler, one.start, one.repeat] = _cut(one, trials)
        return found

    def add(self, one: Search) -> None:
        """Append a search."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError), self.path.open("xb", buffering=0) as file:
            file.write(f"{self._header}\n".encode())
        with self.path.open("rb") as file:
            file.seek(-1, os.SEEK_END)
            # After an unfinished line a new one begins.
            start = "" if file.read(1) == b"\n" else "\n"
        # One small write to a file opened for appending does not mix with another process's.
        with self.path.open("ab", buffering=0) as file:
            file.write(f"{start}{json.dumps(one._asdict())}\n".encode())

    def _check(self) -> None:
        if not self.path.exists():
            return
        with self.path.open("rb") as file:
            header = file.readline().decode(errors="replace").strip()
        if header != self._header:
            raise BenchmarkError(
                f"{self.path} holds searches on another table, metric or pool size; take another "
                f"file, or move it away. It is of {header[:200]}; this is {self._header}"
            )

    def _parsed(self, line: bytes, number: int) -> Search | None:
        try:
            one = Search(**json.loads(line))
            if not set(one.rows) <= set(range(self._n_rows)) or len(one.rows) < one.n_initial:
                raise ValueError(f"rows must be some of {self._n_rows}, got {one.rows}")
        except (ValueError, TypeError) as error:
            if not line.rstrip().endswith(b"}"):
                # A killed process left it, and another one went on behind it.
                return None
            raise BenchmarkError(f"{self.path}, line {number}, is no search: {error}") from error
        return one


def _cut(one: Search, trials: int) -> Search:
    """Return a search as it would have been with fewer trials."""
    if one.trials == trials:
        return one
    rows = one.rows[: one.n_initial + trials]
    seconds = one.seconds * len(rows) / len(one.rows)
    return one._replace(trials=trials, rows=rows, seconds=seconds)


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
    table: SearchedTable, keys: Sequence[_Key], trials: int, jobs: int
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


def _run(table: SearchedTable, key: _Key, trials: int) -> Search:
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


def _run_elsewhere(table: SearchedTable, key: _Key, trials: int) -> Search:
    known = _arrived.get(table.shared_key)
    if known is None:
        _arrived.clear()
        _arrived[table.shared_key] = known = table
    return _run(known, key, trials)
