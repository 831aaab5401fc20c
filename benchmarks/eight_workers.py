"""Eight worker processes on one study, on each of Optuna's shared storages, some of them killed.

    python -m benchmarks.eight_workers [--storages sqlite postgresql] [--trials 200]

Two studies a storage. In the first, eight workers share the trials evenly and nobody dies. In the
second, the first worker at each of the three best functions is killed in its training, four others
at any moment (``kill -9``), and each is replaced; the study ends when all trials are there and the
three best functions have been trained after all. All samplers have the same seed, so that they
clash wherever they can. A training sleeps; what it gives is how near a function is to a target.

What a worker does between two steps is work of its own (the processor computed for it), queueing
(it could have run, but other processes had the processors: a matter of the machine) or waiting: for
the storage's lock, disk or server. The last is what workers cost each other. PostgreSQL waits for
the disk at each commit, as it does by default. The workers and their checks are those of the tests.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import re
import statistics
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import optuna
import pytest
from optuna.trial import TrialState

from tests.aquasurf_optuna import storages
from tests.aquasurf_optuna.worker_program import DOOMED, Job, Step
from tests.aquasurf_optuna.worker_team import Run, Team, clashes, class_of, is_enough, kill_some

WORKERS = 8
FIRST = (
    "| storage | trials | trials a second | proposal: own work, median ms | as it took: median, "
    "worst ms | waiting: median, worst ms | waited longer than it worked or queued | waiting, of "
    "all the workers' time | clashes | doubled |"
)
SECOND = (
    "| storage | trials complete | workers killed | best functions given back | trials that died | "
    "clashes | doubled |"
)


class Span(NamedTuple):
    """What a worker did between two steps, in seconds."""

    wall: float
    computed: float
    queued: float

    @property
    def waiting(self) -> float:
        """Neither: for a lock, a disk or a server."""
        return max(self.wall - self.computed - self.queued, 0.0)


def spans(steps: Sequence[Step], *ends: str) -> list[Span]:
    """Return the spans that end with one of the named steps, each worker's first trial left out."""
    last: dict[int, Step] = {}
    trials: dict[int, set[int]] = {}
    found = []
    for step in steps:
        trials.setdefault(step.worker, set()).add(step.trial)
        if step.what in ends and len(trials[step.worker]) > 1:
            wall = step.moment - last[step.worker].moment
            found.append(Span(wall, step.computed, step.queued))
        last[step.worker] = step
    return found


def throughput(steps: Sequence[Step]) -> float:
    """Return trials a second, from the first worker's second result to the last result of all."""
    told: dict[int, list[float]] = {}
    for step in steps:
        if step.what == "told":
            told.setdefault(step.worker, []).append(step.moment)
    begin = min(moments[1] for moments in told.values())
    later = [moment for moments in told.values() for moment in moments if moment > begin]
    return len(later) / (max(later) - begin)


@dataclasses.dataclass(frozen=True)
class Alive:
    """What the study without deaths says."""

    trials: int
    doubled: int
    clashes: int
    per_second: float
    proposals: list[Span]
    waiting: float

    def row(self) -> str:
        """Format the part of the table."""
        walls = [1000 * span.wall for span in self.proposals]
        works = [1000 * span.computed for span in self.proposals]
        waits = [1000 * span.waiting for span in self.proposals]
        longer = sum(s.waiting > s.computed + s.queued for s in self.proposals)
        return (
            f"{self.trials} | {self.per_second:.1f} | {statistics.median(works):.0f} | "
            f"{statistics.median(walls):.0f}, {max(walls):.0f} | "
            f"{statistics.median(waits):.0f}, {max(waits):.0f} | "
            f"{longer / len(walls):.0%} | {self.waiting:.0%} | {self.clashes} | {self.doubled}"
        )


def doubled(trials: Sequence[optuna.trial.FrozenTrial]) -> int:
    """Count the trials that trained a function once more."""
    complete = [class_of(t) for t in trials if t.state == TrialState.COMPLETE]
    return len(complete) - len(set(complete))


def without_deaths(address: storages.Address, folder: str, options: argparse.Namespace) -> Alive:
    job = Job(
        address,
        folder,
        seconds=options.seconds,
        n_trials=options.trials // WORKERS,
        together=WORKERS,
    )
    with Team(job) as team:
        team.start(WORKERS)
        team.join(seconds=options.limit)
        steps, runs, trials = team.steps(), team.runs(), team.trials()
    everything = spans(steps, "asked", "begun", "trained", "told")
    slept = sum(span.waiting for span in spans(steps, "trained"))
    waited = sum(span.waiting for span in everything) - slept
    return Alive(
        len(trials),
        doubled(trials),
        len(clashes(runs)),
        throughput(steps),
        spans(steps, "begun"),
        waited / sum(span.wall for span in everything),
    )


def with_deaths(address: storages.Address, folder: str, options: argparse.Namespace) -> str:
    timeout = storages.GRACE * (2.0 if address.heartbeat else 1.0)
    job = Job(
        address,
        folder,
        doomed=DOOMED,
        seconds=options.seconds,
        running_timeout=timeout,
        together=WORKERS,
    )
    with Team(job) as team:
        team.start(WORKERS)
        kill_some(team, seed=options.seed)
        team.wait(lambda steps: is_enough(steps, options.trials), seconds=options.limit)
        team.stop()
        team.join(seconds=options.limit)
        runs, trials = team.runs(), team.trials()
    complete = [trial for trial in trials if trial.state == TrialState.COMPLETE]
    return (
        f"{len(complete)} | {len(team.deaths)} | {given_back(runs)} of {len(DOOMED)} | "
        f"{len(trials) - len(complete)} | {len(clashes(runs))} | {doubled(trials)}"
    )


def given_back(runs: Sequence[Run]) -> int:
    """Count the doomed functions that somebody else trained later."""
    return sum(any(run.told for run in runs if run.class_id == class_id) for class_id in DOOMED)


def measure(kind: str, options: argparse.Namespace) -> tuple[str, str]:
    """Return the row of each table for one storage."""
    rows = []
    for study in (without_deaths, with_deaths):
        heartbeat = study is with_deaths and kind in databases_with_heartbeats()
        with (
            tempfile.TemporaryDirectory() as folder,
            storages.fresh(kind, Path(folder), heartbeat=heartbeat, durable=True) as address,
        ):
            result = study(address, folder, options)
            rows.append(result.row() if isinstance(result, Alive) else result)
    return rows[0], rows[1]


def databases_with_heartbeats() -> tuple[str, ...]:
    """The storages that notice a dead worker by themselves."""
    return ("sqlite", "postgresql")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--storages", nargs="+", default=storages.KINDS, choices=storages.KINDS)
    parser.add_argument("--trials", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=0.25, help="of a training")
    parser.add_argument("--limit", type=float, default=1200, help="seconds before it gives up")
    parser.add_argument("--seed", type=int, default=0, help="of the moments of death")
    options = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    first = [FIRST, re.sub("[^|]+", "---", FIRST)]
    second = [SECOND, re.sub("[^|]+", "---", SECOND)]
    for kind in options.storages:
        try:
            alive, dead = measure(kind, options)
        except pytest.skip.Exception as missing:
            alive = dead = str(missing)
        first.append(f"| {kind} | {alive} |")
        second.append(f"| {kind} | {dead} |")
        print(first[-1], second[-1], sep="\n", flush=True)
    load = os.getloadavg()[0]
    print(
        f"\n{WORKERS} workers, {os.cpu_count()} processors, trainings of {options.seconds} s, "
        f"load of the machine at the end {load:.1f}\n"
    )
    print("\n".join(first), "\n".join(second), sep="\n\n")


if __name__ == "__main__":
    main()
