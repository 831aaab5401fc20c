"""Time that a sampler takes to propose the next function, beside TPE and random choice.

Run with ``python -m benchmarks.ask_latency [--pool 2000] [--trials 110] [--storage URL]``. The
space is the three-node one, the objective is synthetic and costs nothing, and the Fisher features
lie in a store already. A proposal is ``study.ask()`` and the suggestion of the function; the table
tells the median and the worst of the last twenty, so "at trial 100". The first proposal after the
baselines is apart: it reads the features, imports and compiles UMAP, and lays the pool out.
A storage in a database adds its own time for every sampler: each parameter is one transaction.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import optuna
import torch
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from torch import nn

from aquasurf_optuna import (
    AquaSurfSampler,
    Catalogue,
    Expression,
    FeatureStore,
    FisherFeaturizer,
    SearchSpace,
)
from aquasurf_optuna.activation import ActivationFactory

SPACE = SearchSpace.three_node()
N_BASELINES = 8
N_LAST = 20
DEPTH, WIDTH = 9, 12


class Latency(NamedTuple):
    """Seconds that each proposal of a study took."""

    sampler: str
    seconds: list[float]


def network(activation: ActivationFactory) -> nn.Module:
    """As many layers as All-CNN-C, so features as long; small, so that they are quick to make."""
    hidden = [layer for _ in range(DEPTH - 1) for layer in (nn.Linear(WIDTH, WIDTH), activation())]
    return nn.Sequential(*hidden, nn.Linear(WIDTH, 10))


def sampler_with_features(catalogue: Catalogue, pool_size: int, folder: str) -> AquaSurfSampler:
    """Return a sampler that has to read the features of its pool, all of them in the store."""
    inputs = torch.randn(32, WIDTH, generator=torch.Generator().manual_seed(0))
    featurizer = FisherFeaturizer(network, inputs, task="latency")
    store = FeatureStore(f"sqlite:///{folder}/features.db")
    # Of every function, since which ones the pool draws is the sampler's business.
    featurizer.many([catalogue[number] for number in range(len(catalogue))], store=store)
    return AquaSurfSampler(
        SPACE,
        features=featurizer,
        store=store,
        catalogue=catalogue,
        pool_size=pool_size,
        seed=0,
    )


def objective_of(catalogue: Catalogue) -> Callable[[Expression], float]:
    """Return an objective that falls with the distance to a function that is no baseline."""
    squashed = np.tanh(np.nan_to_num(catalogue.outputs))
    target = squashed[catalogue.class_of("max(erf(x),arcsinh(x))")]
    values = -np.sqrt(((squashed - target) ** 2).mean(axis=1))
    return lambda expression: float(values[catalogue.class_of(expression)])


def measure(
    name: str,
    sampler: BaseSampler,
    objective: Callable[[Expression], float],
    options: argparse.Namespace,
) -> Latency:
    """Run a study and time its proposals."""
    study = optuna.create_study(direction="maximize", sampler=sampler, storage=options.storage)
    seconds = []
    for _ in range(options.trials):
        start = time.perf_counter()
        trial = study.ask()
        expression = SPACE.suggest(trial, "activation")
        seconds.append(time.perf_counter() - start)
        study.tell(trial, objective(expression))
    return Latency(name, seconds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pool", type=int, default=2000)
    parser.add_argument("--trials", type=int, default=110)
    parser.add_argument("--storage", default=None, help="of the studies; in memory unless given")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    catalogue = Catalogue.of(SPACE)
    objective = objective_of(catalogue)
    with tempfile.TemporaryDirectory() as folder:
        samplers = {
            "AQuaSurF": sampler_with_features(catalogue, options.pool, folder),
            "TPE (Optuna)": TPESampler(seed=0),
            "random": RandomSampler(seed=0),
        }
        print(f"milliseconds a proposal, pool of {options.pool}, {options.threads} thread(s)")
        print("| sampler | median, last 20 | worst, last 20 | first after 8 trials |")
        print("|---|---|---|---|")
        for name, sampler in samplers.items():
            report(measure(name, sampler, objective, options))


def report(latency: Latency) -> None:
    """Print one row."""
    last = [1000 * seconds for seconds in latency.seconds[-N_LAST:]]
    first = 1000 * latency.seconds[N_BASELINES]
    print(
        f"| {latency.sampler} | {statistics.median(last):.1f} | {max(last):.1f} | {first:.0f} |",
        flush=True,
    )


if __name__ == "__main__":
    main()
