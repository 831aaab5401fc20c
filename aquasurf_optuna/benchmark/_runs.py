"""Training runs of many functions and seeds, in processes, kept in a file as they end.

A run is one training of one function from one seed. The file has a line of JSON for each: the
first one says what the runs depend on, and runs that depend on something else are refused. Lines
are appended whole, so a run that ended is never lost, and several commands may add to one file.
"""

from __future__ import annotations

import contextlib
import json
import math
import multiprocessing
import os
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any, NamedTuple

from aquasurf_optuna.exceptions import BenchmarkError, InitializationError

Training = Callable[[str, int], Mapping[str, float]]
"""Trains a function from a seed, and returns what was measured; picklable."""

Key = tuple[str, int]

_DEATHS = 3


class Run(NamedTuple):
    """One training.

    Attributes:
        function: Text of the function.
        seed: The seed.
        measured: What the training returned; empty if there was none.
        failure: Why there was no training: no weights were found, or the process died each time.
    """

    function: str
    seed: int
    measured: dict[str, float]
    failure: str | None = None

    @property
    def key(self) -> Key:
        """What tells runs apart."""
        return self.function, self.seed


class RunsFile:
    """A file of runs.

    Args:
        path: The file; it and its folder are made when the first run ends.
        settings: What the runs depend on, as JSON values.

    Raises:
        BenchmarkError: If the file holds runs of other settings, or is no file of runs.
    """

    def __init__(self, path: str | os.PathLike[str], settings: Mapping[str, Any]) -> None:
        self.path = Path(path)
        self._header = json.dumps({"settings": settings}, sort_keys=True)
        self._check()

    def read(self) -> dict[Key, Run]:
        """Return the runs by function and seed; of two with one key the first counts."""
        runs: dict[Key, Run] = {}
        if self.path.exists():
            # A last line without its end is one that a killed process had not finished.
            for number, line in enumerate(self.path.read_bytes().split(b"\n")[1:-1], start=2):
                run = self._parsed(line, number)
                if run is not None:
                    runs.setdefault(run.key, run)
        return runs

    def add(self, run: Run) -> None:
        """Append a run."""
        row: dict[str, Any] = {"function": run.function, "seed": run.seed}
        row |= {name: _as_json(value) for name, value in run.measured.items()}
        if run.failure is not None:
            row["failure"] = run.failure
        self._append(json.dumps(row))

    def _append(self, line: str) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError), self.path.open("xb", buffering=0) as file:
            file.write(f"{self._header}\n".encode())
        # One small write to a file opened for appending does not mix with another process's. After
        # an unfinished line a new one begins.
        start = "" if self._ends_whole() else "\n"
        with self.path.open("ab", buffering=0) as file:
            file.write(f"{start}{line}\n".encode())

    def _ends_whole(self) -> bool:
        with self.path.open("rb") as file:
            file.seek(-1, os.SEEK_END)
            return file.read(1) == b"\n"

    def _check(self) -> None:
        if not self.path.exists():
            return
        with self.path.open("rb") as file:
            header = file.readline().decode(errors="replace").strip()
        if header != self._header:
            raise BenchmarkError(
                f"{self.path} holds training runs of other settings; take another file, or move it "
                f"away. Its settings: {header[:300]}; these: {self._header[:300]}"
            )

    def _parsed(self, line: bytes, number: int) -> Run | None:
        try:
            row = json.loads(line)
            function, seed = str(row.pop("function")), int(row.pop("seed"))
            failure = row.pop("failure", None)
            return Run(function, seed, {name: _as_number(row[name]) for name in row}, failure)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            if _is_cut_short(line):
                return None
            raise BenchmarkError(
                f"{self.path}, line {number}, is no training run: {error}"
            ) from error


def train_all(
    training: Training,
    keys: Sequence[Key],
    file: RunsFile,
    *,
    jobs: int = 1,
    done: Callable[[Run], object] | None = None,
) -> None:
    """Train whatever is not in a file yet.

    A process that dies is replaced; the runs that were under way are tried again one at a time, and
    the third death of a run counts as its failure. After Ctrl-C the runs that ended are kept.

    Args:
        training: Trains once. What it raises other than `InitializationError` ends the work.
        keys: Functions and seeds, in the order in which they are wanted.
        file: Where the runs are kept.
        jobs: Processes; each one computes on one thread. With 1 they are not needed, but a training
            that takes its process with it does not end the work.
        done: Called with each run that ends.

    Raises:
        ValueError: If `jobs` is below 1.
    """
    if jobs < 1:
        raise ValueError(f"jobs must be 1 or more, got {jobs}")

    def note(run: Run) -> None:
        file.add(run)
        if done is not None:
            done(run)

    known = file.read()
    waiting = deque(key for key in dict.fromkeys(keys) if key not in known)
    deaths: Counter[Key] = Counter()
    while waiting:
        suspects = [key for key in waiting if deaths[key]]
        # Whose death it was cannot be told of runs that were under way together.
        width = 1 if suspects else jobs
        queue = deque(suspects) if suspects else waiting
        ended: set[Key] = set()
        try:
            for run in _ended(training, queue, width):
                note(run)
                ended.add(run.key)
        except _DiedError as death:
            ended |= _count_deaths(death.under_way, deaths, note)
            waiting.extendleft(reversed(death.under_way))
        waiting = deque(key for key in dict.fromkeys(waiting) if key not in ended)


class _DiedError(Exception):
    """A process died."""

    def __init__(self, under_way: list[Key]) -> None:
        super().__init__(under_way)
        self.under_way = under_way


def _count_deaths(keys: list[Key], deaths: Counter[Key], note: Callable[[Run], object]) -> set[Key]:
    deaths.update(keys)
    lost = {key for key in keys if deaths[key] >= _DEATHS and len(keys) == 1}
    for function, seed in lost:
        note(Run(function, seed, {}, f"its process died {deaths[function, seed]} times"))
    return lost


def _ended(training: Training, waiting: deque[Key], jobs: int) -> Iterator[Run]:
    """Yield runs as they end, taking keys from the left of `waiting`."""
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(jobs, mp_context=context, initializer=_begin, initargs=(training,))
    under_way: dict[Future[Run], Key] = {}
    try:
        while waiting or under_way:
            while waiting and len(under_way) < jobs:
                key = waiting.popleft()
                under_way[pool.submit(_train, *key)] = key
            ended, _ = wait(under_way, return_when=FIRST_COMPLETED)
            for future in ended:
                run = future.result()
                del under_way[future]
                yield run
    except BrokenProcessPool as error:
        raise _DiedError(list(under_way.values())) from error
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


_training: Training


def _begin(training: Training) -> None:
    global _training
    import torch

    torch.set_num_threads(1)
    _training = training


def _train(function: str, seed: int) -> Run:
    try:
        return Run(function, seed, dict(_training(function, seed)))
    except InitializationError as error:
        return Run(function, seed, {}, str(error))


def _as_json(value: float) -> float | str:
    return round(value, 6) if math.isfinite(value) else str(value)


def _as_number(value: float | str) -> float:
    return float(value)


def _is_cut_short(line: bytes) -> bool:
    """Whether a line begins like a run and lacks its end."""
    return line.startswith(b"{") and not line.rstrip().endswith(b"}")
