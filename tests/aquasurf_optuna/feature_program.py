"""What the processes of a search do that has feature workers: train, or measure.

Every measurement and every training is a line in a log of the process's own, written at once, so
that a killed process leaves whole lines. The classes of the space and the tiny network are made in
a module of its own, so that processes find them.
"""

from __future__ import annotations

import functools
import os
import time
import warnings
from collections.abc import Iterable, Iterator
from multiprocessing import get_context
from multiprocessing.process import BaseProcess
from pathlib import Path

import optuna
import torch
from torch import Tensor, nn

from aquasurf_optuna.activation import ActivationFactory
from aquasurf_optuna.catalogue import Catalogue
from aquasurf_optuna.features.featurizer import FisherFeaturizer, PrecomputeOptions
from aquasurf_optuna.sampler import AquaSurfSampler
from aquasurf_optuna.space import SearchSpace
from aquasurf_optuna.store import FeatureStore
from tests.aquasurf_optuna.sampler_helpers import values_near

SPACE = SearchSpace(
    "binary(unary(x),unary(x))",
    unary=("identity", "relu", "tanh", "erf", "abs", "swish", "zero", "elu"),
    binary=("add", "mul"),
)
CATALOGUE = Catalogue.of(SPACE)
VALUES = values_near("add(tanh(x),swish(x))", CATALOGUE)
STUDY, TASK = "shared", "tiny"
# A training ends when so many functions are measured for each trial so far, whatever the machine is
# busy with.
MEASURED_PER_TRIAL = 2
MEASURED, TRAINED = "measured", "trained"

context = get_context("forkserver")
# What takes longest is imported once, and the processes are forked off.
context.set_forkserver_preload([__name__])


def _log(folder: Path, what: str, text: str) -> None:
    file = os.open(folder / f"{what}-{os.getpid()}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(file, f"{text}\n".encode())
    os.close(file)


def lines(folder: Path, what: str, processes: Iterable[BaseProcess] | None = None) -> list[str]:
    """Return what was logged, by all processes or by some."""
    files: Iterator[Path] = folder.glob(f"{what}-*.log")
    if processes is not None:
        files = (folder / f"{what}-{process.pid}.log" for process in processes)
    return [line for file in files if file.exists() for line in file.read_text().splitlines()]


def network(folder: Path, seconds: float, factory: ActivationFactory) -> nn.Module:
    """A tiny network that takes a while to build, and a line in the log."""
    _log(folder, MEASURED, str(factory.expression))
    time.sleep(seconds)
    return nn.Sequential(nn.Linear(4, 6), factory(), nn.Linear(6, 3))


def featurizer(folder: Path, seconds: float = 0.0) -> FisherFeaturizer:
    """The featurizer of all processes."""
    inputs: Tensor = torch.randn(8, 4, generator=torch.Generator().manual_seed(0))
    return FisherFeaturizer(functools.partial(network, folder, seconds), inputs, task=TASK)


def sampler(folder: Path, seconds: float = 0.0) -> AquaSurfSampler:
    """The sampler of all processes."""
    return AquaSurfSampler(
        SPACE,
        catalogue=CATALOGUE,
        features=featurizer(folder, seconds),
        store=f"sqlite:///{folder / 'features.db'}",
        pool="stored",
        base_sampler=optuna.samplers.RandomSampler(seed=0),
        seed=0,
    )


def study(folder: Path, own: AquaSurfSampler) -> optuna.Study:
    """The study of all processes."""
    return optuna.create_study(
        study_name=STUDY,
        storage=f"sqlite:///{folder / 'study.db'}",
        sampler=own,
        direction="maximize",
        load_if_exists=True,
    )


def measure(folder: Path, seconds: float) -> None:
    """Be a feature worker, until all that can be candidates are measured."""
    _prepare()
    own = sampler(folder, seconds)
    own.measure(study(folder, own), options=PrecomputeOptions(timeout=None))


def train(folder: Path, n_trials: int) -> None:
    """Be a training worker."""
    _prepare()
    own, store = sampler(folder), FeatureStore(f"sqlite:///{folder / 'features.db'}")

    def objective(trial: optuna.Trial) -> float:
        class_id = CATALOGUE.class_of(SPACE.suggest(trial, "activation"))
        _log(folder, TRAINED, str(class_id))
        while store.count(TASK) < MEASURED_PER_TRIAL * trial.number:
            time.sleep(0.05)
        return float(VALUES[class_id])

    study(folder, own).optimize(objective, n_trials=n_trials)


def _prepare() -> None:
    warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    torch.set_num_threads(1)
