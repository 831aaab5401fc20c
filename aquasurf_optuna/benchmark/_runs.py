"""Training runs of many functions and seeds, in processes, kept in a file as they end.

A run is one training of one function from one seed. The file has a line of JSON for each: the
first one says what the runs depend on, and runs that depend on something else are refused. Lines
are appended whole, so a run that ended is never lost, and several commands may add to one file.
"""

from __future__ import annotations

import functools
import json
import math
import os
import queue
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from aquasurf_optuna.exceptions import BenchmarkError, InitializationError
from aquasurf_optuna.features._child import Child, EndedError
from aquasurf_optuna.features._feature import StoppedError

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
        BenchmarkError: If the file holds runs of other settings, or is no file of runs; or if the
            settings are no JSON values.
    """

    def __init__(self, path: str | os.PathLike[str], settings: Mapping[str, Any]) -> None:
        self.path = Path(path)
        try:
            self._header = json.dumps({"settings": settings}, sort_keys=True, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise BenchmarkError(
                "the settings of a training must be what JSON can hold (texts, finite numbers, "
                f"lists and mappings of them): {error}; got {str(settings)[:300]}"
            ) from error
        self._check()

    def read(self) -> dict[Key, Run]:
        """Return the runs by function and seed; of two with one key the first counts."""
        runs: dict[Key, Run] = {}
        if self.path.exists():
            # A last line without its end is one that a killed process had not finished.
            for number, line in enumerate(self.path.read_bytes().split(b"\n")[1:-1], start=2):
                # Two commands that begin at once both write the first line.
                run = None if line in (b"", self._header.encode()) else self._parsed(line, number)
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
        # One small write to a file opened for appending does not mix with another process's. After
        # an unfinished line a new one begins.
        with self.path.open("ab+", buffering=0) as file:
            if file.seek(0, os.SEEK_END) == 0:
                start = f"{self._header}\n"
            else:
                file.seek(-1, os.SEEK_END)
                start = "" if file.read(1) == b"\n" else "\n"
            file.write(f"{start}{line}\n".encode())

    def _check(self) -> None:
        if not self.path.exists() or not self.path.stat().st_size:
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

    A process that dies is replaced, and its run is tried again; the third death of a run counts as
    its failure. The processes end with this one, however it ends, and know the operators that the
    user has registered. After Ctrl-C or an error the runs that ended are kept.

    Args:
        training: Trains once. What it raises other than `InitializationError` ends the work.
        keys: Functions and seeds, in the order in which they are wanted.
        file: Where the runs are kept.
        jobs: Processes; each one computes on one thread. One is not this process either, so that a
            training that takes its process with it does not end the work.
        done: Called with each run that ends.

    Raises:
        ValueError: If `jobs` is below 1.
        PrecomputeError: If a process cannot be started.
        OperatorError: If an operator of the user's cannot be sent to the processes.
    """
    if jobs < 1:
        raise ValueError(f"jobs must be 1 or more processes, got {jobs}")
    known = file.read()
    waiting = deque(key for key in dict.fromkeys(keys) if key not in known)
    news: queue.SimpleQueue[Run | BaseException | None] = queue.SimpleQueue()
    stop = threading.Event()
    workers = [
        threading.Thread(target=_work, args=(training, waiting, news.put, stop))
        for _ in range(min(jobs, len(waiting)))
    ]
    try:
        for worker in workers:
            worker.start()
        _receive(news, len(workers), file, done)
    finally:
        stop.set()
        for worker in workers:
            if worker.ident is not None:
                worker.join()


def _receive(
    news: queue.SimpleQueue[Run | BaseException | None],
    n_workers: int,
    file: RunsFile,
    done: Callable[[Run], object] | None,
) -> None:
    """Keep the runs of all workers until each has ended with None, or one with an error."""
    while n_workers:
        new = news.get()
        if new is None:
            n_workers -= 1
        elif isinstance(new, Run):
            file.add(new)
            if done is not None:
                done(new)
        else:
            raise new


def _work(
    training: Training,
    waiting: deque[Key],
    tell: Callable[[Run | BaseException | None], object],
    stop: threading.Event,
) -> None:
    """Be the thread that looks after one process: train what waits, one after the other."""
    trainer = _Trainer(training, stop)
    try:
        while waiting and not stop.is_set():
            try:
                key = waiting.popleft()
            except IndexError:  # another thread took the last one
                break
            tell(trainer.run(key))
        tell(None)
    except StoppedError:
        pass
    except BaseException as error:
        tell(error)
    finally:
        trainer.close()


class _Trainer:
    """Trains in a process that is replaced when it dies."""

    def __init__(self, training: Training, stop: threading.Event) -> None:
        self._training = training
        self._stop = stop
        self._child: Child | None = None

    def run(self, key: Key) -> Run:
        """Train once, or find out that it kills every process."""
        ends: list[EndedError] = []
        while len(ends) < _DEATHS:
            if self._child is None:
                work = functools.partial(_trained, self._training)
                self._child = Child(work, threads=1, stop=self._stop)
            try:
                run: Run = self._child(key)
                return run
            except EndedError as end:
                self._child = None
                ends.append(end)
        return Run(*key, {}, f"its process died {_DEATHS} times; the last time, {ends[-1]}")

    def close(self) -> None:
        """End the process."""
        if self._child is not None:
            self._child.close()


def _trained(training: Training, key: Key) -> Run:
    try:
        measured = training(*key)
    except InitializationError as error:
        return Run(*key, {}, str(error))
    return Run(*key, {name: float(value) for name, value in measured.items()})


def _as_json(value: float) -> float | str:
    return round(value, 6) if math.isfinite(value) else str(value)


def _as_number(value: float | str) -> float:
    return float(value)


def _is_cut_short(line: bytes) -> bool:
    """Whether a line begins like a run and lacks its end."""
    return line.startswith(b"{") and not line.rstrip().endswith(b"}")
