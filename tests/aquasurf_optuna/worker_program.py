"""What a worker process of a study does, and what it writes down.

Every worker opens the storage, makes its own sampler (with the same seed as all others, so that
they agree on what is best and clash when they can) and trains functions: a training sleeps, and
its result is how near the function is to a target. Each step goes to the worker's own log at once,
as a line with the time of a clock that all processes of a machine share; a killed worker leaves
whole lines. ``worker_team`` starts workers, kills them and reads the logs.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import time
import warnings
from pathlib import Path
from typing import NamedTuple

import numpy as np
import optuna
import torch
from numpy.typing import NDArray
from optuna.samplers import BaseSampler, RandomSampler
from torch import nn

from aquasurf_optuna.activation import ActivationFactory
from aquasurf_optuna.catalogue import Catalogue
from aquasurf_optuna.features.featurizer import FisherFeaturizer
from aquasurf_optuna.sampler import AquaSurfSampler
from aquasurf_optuna.space import SearchSpace
from tests.aquasurf_optuna.storages import Address

SPACE = SearchSpace.three_node()
CATALOGUE = Catalogue.of(SPACE)
STUDY = "shared"
NAME = "activation"
TARGET = "max(erf(x),arcsinh(x))"
# Longer than any test: such a training ends with its worker.
FOR_EVER = 600.0


def values_of_classes() -> NDArray[np.float64]:
    """The result of a training, by class: minus the distance of squashed outputs to the target's.

    The target's own is 0, and every other class is below it.
    """
    squashed = np.tanh(np.nan_to_num(CATALOGUE.outputs, nan=20.0))
    target = squashed[CATALOGUE.class_of(TARGET)]
    values: NDArray[np.float64] = -np.sqrt(((squashed - target) ** 2).mean(axis=1))
    return values


VALUES = values_of_classes()
# The best functions, whose first workers die: if one were lost, the study would end with another.
DOOMED = frozenset(np.argsort(-VALUES)[:3].tolist())


@dataclasses.dataclass(frozen=True)
class Job:
    """What a worker is to do.

    Attributes:
        address: The storage.
        folder: Where logs and notes lie.
        surrogate: The name of a surrogate, or None for the default one; "random" stands for
            Optuna's random sampler instead.
        seconds: How long a training takes.
        n_trials: How many trials the worker makes; None for as many as it takes until the team
            says stop.
        doomed: Classes whose first training never ends, so that its worker can be killed in it.
        pool_size: As for the sampler; all functions unless given.
        running_timeout: As for the sampler.
        features: The URL of a feature store; Fisher features are used where there is one.
        together: How many workers wait for each other before their first trials.
    """

    address: Address
    folder: str
    surrogate: str | None = None
    seconds: float = 0.03
    n_trials: int | None = None
    doomed: frozenset[int] = frozenset()
    pool_size: int = len(CATALOGUE)
    running_timeout: float | None = None
    features: str | None = None
    together: int = 0

    @property
    def stop(self) -> Path:
        """The file that says stop."""
        return Path(self.folder) / "stop"

    def sampler(self) -> BaseSampler:
        """The sampler of one worker, alike for all."""
        if self.surrogate == "random":
            return RandomSampler()
        return AquaSurfSampler(
            SPACE,
            catalogue=CATALOGUE,
            features=None if self.features is None else featurizer(),
            store=self.features,
            surrogate=self.surrogate,
            pool_size=self.pool_size,
            running_timeout=self.running_timeout,
            base_sampler=RandomSampler(seed=0),
            seed=0,
        )


class Step(NamedTuple):
    """A line of a log.

    Attributes:
        worker: The worker's number.
        what: "asked" when a trial is there and its function is wanted, "begun", "trained", "told".
        trial: The trial's number.
        class_id: The function's class; -1 as long as there is none.
        moment: Seconds of the machine's monotonic clock.
        computed: Seconds that a processor worked for the worker since its last step.
        queued: Seconds that it was ready to run, but no processor was free; 0 where the system does
            not count them.
    """

    worker: int
    what: str
    trial: int
    class_id: int
    moment: float
    computed: float = 0.0
    queued: float = 0.0


class Log:
    """Writes the steps of one worker."""

    def __init__(self, folder: Path, worker: int) -> None:
        self._worker = worker
        self._file = os.open(folder / f"{worker}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        self._clocks = _clocks()

    def note(self, what: str, trial: int, class_id: int = -1) -> None:
        """Add a line."""
        before, self._clocks = self._clocks, _clocks()
        spent = (now - then for now, then in zip(self._clocks, before, strict=True))
        step = Step(self._worker, what, trial, class_id, time.monotonic(), *spent)
        os.write(self._file, (json.dumps(step) + "\n").encode())


def read_logs(folder: Path) -> list[Step]:
    """Return what all workers wrote, in the order of time."""
    lines = [line for path in folder.glob("*.log") for line in path.read_text().splitlines()]
    return sorted((Step(*json.loads(line)) for line in lines), key=lambda step: step.moment)


def work(job: Job, worker: int) -> None:
    """Be a worker, until the job is done."""
    warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    torch.set_num_threads(1)
    folder = Path(job.folder)
    study = optuna.load_study(study_name=STUDY, storage=job.address.open(), sampler=job.sampler())
    log = Log(folder, worker)
    while len(list(folder.glob("*.log"))) < job.together:
        time.sleep(0.01)

    def train(trial: optuna.Trial) -> float:
        log.note("asked", trial.number)
        class_id = CATALOGUE.class_of(SPACE.suggest(trial, NAME))
        log.note("begun", trial.number, class_id)
        doomed = class_id in job.doomed and _is_first(folder / f"doomed-{class_id}")
        time.sleep(FOR_EVER if doomed else job.seconds)
        log.note("trained", trial.number, class_id)
        return float(VALUES[class_id])

    def told(study: optuna.Study, trial: optuna.trial.FrozenTrial) -> None:
        log.note("told", trial.number)
        if job.stop.exists():
            study.stop()

    study.optimize(train, n_trials=job.n_trials, callbacks=[told])


def network(activation: ActivationFactory) -> nn.Module:
    """A small network, whose features take milliseconds."""
    return nn.Sequential(nn.Linear(6, 8), activation(), nn.Linear(8, 4))


def featurizer() -> FisherFeaturizer:
    """Fisher features of the small network."""
    inputs = torch.randn(16, 6, generator=torch.Generator().manual_seed(0))
    return FisherFeaturizer(network, inputs, task="small")


def _is_first(mark: Path) -> bool:
    with contextlib.suppress(FileExistsError):
        os.close(os.open(mark, os.O_CREAT | os.O_EXCL))
        return True
    return False


def _clocks() -> tuple[float, float]:
    """Seconds that this thread ran, and that it was ready to run but did not, which Linux tells."""
    queued = 0.0
    with contextlib.suppress(OSError):
        queued = int(Path("/proc/thread-self/schedstat").read_text().split()[1]) / 1e9
    return time.thread_time(), queued
