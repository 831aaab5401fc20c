"""What a store that others fill costs those who train: the first reading, and news at a proposal.

The store holds random spectra of All-CNN-C's feature length (13,692 bins, cumulated) for functions
of the four-node space, a quarter of them invalid; the sampler is the default one with
``pool="stored"``. Each line gives seconds by the clock, and those that a processor worked for this
process, which depend less on what else the machine does.

    .venv/bin/python -m benchmarks.stored_pool
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import resource
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import numpy as np
import optuna
from scipy.special import ndtr

from aquasurf_optuna import (
    AquaSurfSampler,
    Catalogue,
    FeatureStore,
    FisherFeature,
    FisherFeaturizer,
    SearchSpace,
)

# Weights of the layers of All-CNN-C, by hundreds.
BINS = (25, 829, 829, 1658, 3317, 3317, 3317, 368, 19, 13)
N_TRIED, N_PROPOSALS = 20, 5


class Task:
    """Stands where the featurizer does: nothing is measured here."""

    task = "random spectra"


def features(rng: np.random.Generator) -> Iterator[FisherFeature]:
    """Yield spectra without end, every fourth invalid."""
    for number in itertools.count():
        layers = []
        for bins in BINS:
            edges = np.linspace(-100, 100, bins + 1)[1:]
            below = ndtr((edges - rng.uniform(-20, 0)) / rng.uniform(2, 8))
            layers.append(np.round(below * bins * 100) / (bins * 100) * 200 / bins)
        vector = np.concatenate(layers).astype(np.float32)
        yield FisherFeature(None, "invalid") if number % 4 == 3 else FisherFeature(vector, None)


@contextlib.contextmanager
def timed(what: str) -> Iterator[None]:
    """Print a row with what the block takes."""
    wall, processor = time.perf_counter(), time.process_time()
    yield
    wall, processor = time.perf_counter() - wall, time.process_time() - processor
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"| {what} | {wall:.2f} | {processor:.2f} | {peak:.1f} |", flush=True)


def run(folder: Path, n_stored: int, news: tuple[int, ...]) -> None:
    """Print the table."""
    rng = np.random.default_rng(0)
    space = SearchSpace.four_node()
    catalogue = Catalogue.of(space)
    store = FeatureStore(f"sqlite:///{folder / 'features.db'}")
    pairs = zip(map(catalogue.__getitem__, catalogue.shuffled(1)), features(rng), strict=False)

    def fill(n: int) -> None:
        for expression, feature in itertools.islice(pairs, n):
            store.put(Task.task, expression, feature)

    fill(n_stored)
    sampler = AquaSurfSampler(
        space,
        catalogue=catalogue,
        features=cast("FisherFeaturizer", Task()),
        store=store,
        pool="stored",
        seed=0,
    )
    study = optuna.create_study(direction="maximize", sampler=sampler)

    def propose() -> None:
        trial = study.ask()
        space.suggest(trial, "activation")
        study.tell(trial, float(rng.normal()))

    print("| | seconds | of one processor | peak, GiB |\n|---|---|---|---|")
    with timed(f"reading {n_stored:,} features, `prepare()`"):
        sampler.prepare()
    repeat(propose, N_TRIED)
    with timed(f"{N_PROPOSALS} proposals without news"):
        repeat(propose, N_PROPOSALS)
    for n in news:
        for _ in range(2):
            fill(n)
            # The sampler looks for at most a twentieth of its time.
            time.sleep(2)
            with timed(f"a proposal with {n} news"):
                propose()


def repeat(what: Callable[[], Any], n: int) -> None:
    for _ in range(n):
        what()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--stored", type=int, default=7000)
    parser.add_argument("--news", type=int, nargs="+", default=[100, 500])
    options = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    with tempfile.TemporaryDirectory() as folder:
        run(Path(folder), options.stored, tuple(options.news))


if __name__ == "__main__":
    main()
