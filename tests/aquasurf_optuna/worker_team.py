"""Workers on one study, as processes: started, killed with SIGKILL, replaced, and their logs read.

A *run* is one training by one worker, from its beginning to its end or its worker's death.
"""

from __future__ import annotations

import itertools
import math
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from multiprocessing import get_context
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import NamedTuple, Self

import optuna
from optuna.trial import TrialState

from tests.aquasurf_optuna.storages import Address
from tests.aquasurf_optuna.worker_program import (
    CATALOGUE,
    DOOMED,
    NAME,
    SPACE,
    STUDY,
    Job,
    Step,
    read_logs,
    work,
)

# A server that has imported everything once, and forks a clean worker in no time. A fork of the
# tests' own process would inherit the threads and database connections of other tests.
_context = get_context("forkserver")
_context.set_forkserver_preload([work.__module__])

# How many workers die at any moment, beside those in a doomed training.
CHANCE_DEATHS = 4


class Run(NamedTuple):
    """One training.

    Attributes:
        worker: Its worker's number.
        trial: Its trial's number.
        class_id: Its function's class.
        begin: Seconds of the monotonic clock.
        end: Likewise; the worker's death if that came first.
        told: Whether the worker lived to see its result told.
    """

    worker: int
    trial: int
    class_id: int
    begin: float
    end: float
    told: bool


class Team:
    """The workers of one study, as a context that leaves none behind.

    Args:
        job: What each of them does.
    """

    def __init__(self, job: Job) -> None:
        self.job = job
        self.deaths: dict[int, float] = {}
        self._processes: dict[int, BaseProcess] = {}
        self._numbers: Iterator[int] = itertools.count()

    def __enter__(self) -> Self:
        """Make the study, unless it is there."""
        with self.job.address.look() as storage:
            optuna.create_study(
                study_name=STUDY, storage=storage, direction="maximize", load_if_exists=True
            )
        return self

    def __exit__(self, *exception: object) -> None:
        """Kill whoever is left."""
        for worker in self.living():
            self.kill(worker)

    def start(self, n: int = 1) -> None:
        """Start some workers."""
        for worker in itertools.islice(self._numbers, n):
            process = _context.Process(target=work, args=(self.job, worker))
            process.start()
            self._processes[worker] = process

    def living(self) -> list[int]:
        """Return the workers at work; fail if one stopped by an error."""
        for worker, process in self._processes.items():
            assert process.exitcode in (None, 0) or worker in self.deaths, (
                f"worker {worker} stopped by itself, with exit code {process.exitcode}"
            )
        return [worker for worker, process in self._processes.items() if process.exitcode is None]

    def kill(self, worker: int) -> None:
        """Kill one as ``kill -9`` does."""
        process = self._processes[worker]
        assert process.pid is not None
        self.deaths[worker] = math.inf
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        self.deaths[worker] = time.monotonic()

    def steps(self) -> list[Step]:
        """Return what the workers wrote so far."""
        return read_logs(Path(self.job.folder))

    def wait(self, condition: Callable[[list[Step]], bool], *, seconds: float = 300) -> None:
        """Wait until the logs fulfil a condition; fail if they never do."""
        end = time.monotonic() + seconds
        while not condition(self.steps()):
            self.living()
            assert time.monotonic() < end, f"it did not come in {seconds} s: {self._state()}"
            time.sleep(0.02)

    def _state(self) -> str:
        steps = Counter(step.what for step in self.steps())
        unfinished = [
            (trial.number, trial.state.name, class_of(trial), trial.system_attrs)
            for trial in self.trials()
            if trial.state != TrialState.COMPLETE
        ]
        return f"deaths {self.deaths}, steps {steps}, trials that are not complete {unfinished}"

    def stop(self) -> None:
        """Tell the workers that the trials they are at are their last."""
        self.job.stop.touch()

    def join(self, *, seconds: float = 300) -> None:
        """Wait until all are done."""
        end = time.monotonic() + seconds
        while self.living():
            assert time.monotonic() < end, f"workers {self.living()} did not end in {seconds} s"
            time.sleep(0.02)

    def runs(self) -> list[Run]:
        """Return every training of the study."""
        return runs_of(self.steps(), self.deaths)

    def trials(self) -> list[optuna.trial.FrozenTrial]:
        """Return what the storage has."""
        return trials_of(self.job.address)


def trials_of(address: Address) -> list[optuna.trial.FrozenTrial]:
    """Return the trials of the shared study."""
    with address.look() as storage:
        return optuna.load_study(study_name=STUDY, storage=storage).get_trials()


def runs_of(steps: Iterable[Step], deaths: dict[int, float]) -> list[Run]:
    """Make trainings of log lines.

    Args:
        steps: The lines of all workers, in the order of time.
        deaths: When each killed worker was dead.
    """
    by_trial: dict[tuple[int, int], dict[str, Step]] = {}
    for step in steps:
        by_trial.setdefault((step.worker, step.trial), {})[step.what] = step
    runs = []
    for (worker, trial), known in by_trial.items():
        if "begun" in known:
            begun = known["begun"]
            end = known["trained"].moment if "trained" in known else deaths[worker]
            runs.append(Run(worker, trial, begun.class_id, begun.moment, end, "told" in known))
    return runs


def clashes(runs: Iterable[Run]) -> list[tuple[Run, Run]]:
    """Return the pairs of trainings that trained equal functions at the same time."""
    by_class: dict[int, list[Run]] = {}
    for run in runs:
        by_class.setdefault(run.class_id, []).append(run)
    return [
        (first, second)
        for alike in by_class.values()
        for first, second in itertools.combinations(alike, 2)
        if first.begin < second.end and second.begin < first.end
    ]


def class_of(trial: optuna.trial.FrozenTrial) -> int | None:
    """Return the class that a trial's parameters name, or None where they are not complete."""
    if not SPACE.is_suggested(trial.params, NAME):
        return None
    return CATALOGUE.class_of(SPACE.expression_of(trial.params, NAME))


def kill_some(team: Team, *, seed: int) -> None:
    """Kill the first worker at each doomed training, and others at any moment; replace them.

    Those die between the eighth and the fortieth result, in whatever they are doing.

    Args:
        team: With a job whose `doomed` are `DOOMED`.
        seed: Of the moments, and of who dies then.
    """
    rng = random.Random(seed)
    moments = sorted(rng.sample(range(8, 40), CHANCE_DEATHS))
    waiting = set(DOOMED)
    end = time.monotonic() + 300
    while waiting or moments:
        assert time.monotonic() < end, f"classes {waiting} were not tried"
        steps = team.steps()
        at_work = _at_work(steps, team)
        victims = [worker for worker, class_id in at_work.items() if class_id in waiting]
        if moments and sum(step.what == "told" for step in steps) >= moments[0]:
            moments.pop(0)
            victims.append(rng.choice([w for w in team.living() if at_work.get(w) not in waiting]))
        for worker in victims:
            time.sleep(rng.uniform(0, 0.05))
            team.kill(worker)
            team.start()
            waiting.discard(at_work.get(worker, -1))
        time.sleep(0.01)


def is_enough(steps: Iterable[Step], n_trials: int) -> bool:
    """Say whether so many trials are told, and the doomed functions among them."""
    trained = {(s.worker, s.trial): s.class_id for s in steps if s.what == "trained"}
    told = {(s.worker, s.trial) for s in steps if s.what == "told"}
    return len(told) >= n_trials and {trained[key] for key in told} >= DOOMED


def _at_work(steps: Iterable[Step], team: Team) -> dict[int, int]:
    """Return the class that each living worker trains just now."""
    living = dict.fromkeys(team.living(), math.inf)
    runs = runs_of([step for step in steps if step.worker in living], living)
    return {run.worker: run.class_id for run in runs if run.end == math.inf}
