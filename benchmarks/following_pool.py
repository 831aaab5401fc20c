"""Does a pool that follows the search beat a random one of the same size?

The four-node space and the harder digits. Every search begins with the eight baselines, and both
pools may compute the Fisher features of `--fisher` functions: the random pool all before the first
proposal; the following one a part of them, and a few more while the search goes on, of the
functions that a look at the outputs of the whole space favours (`aquasurf_optuna/_whole_space.py`).
Surrogate, trials and seeds are the same, and the random pool begins with the random part of the
other. `--schedule` tries when to measure how much.

Accuracies are real: each function is trained once and kept in
`benchmarks/results/four_node_trainings.jsonl`; those not in there are trained (2 s each) and added.

    python -m benchmarks.following_pool                               # the comparison
    python -m benchmarks.following_pool --schedule 0.3333 0.016667 1  # that of the kept table
    python -m benchmarks.following_pool --compression                 # what compression loses
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import joblib
import numpy as np
import optuna
import torch
from numpy.typing import NDArray

from aquasurf_optuna import (
    BASELINES,
    AquaSurfSampler,
    Catalogue,
    Expression,
    FisherFeaturizer,
    SearchSpace,
    _drawing,
)
from aquasurf_optuna._compressed_outputs import compressed_outputs
from aquasurf_optuna.features.featurizer import FisherFeature
from aquasurf_optuna.surrogate._checks import OUTPUT_BOUND
from benchmarks.tables import FEATURE_SEED, default_store
from benchmarks.trainings import RESULTS, Trainings
from lightning_modules.digits_recipe import DIGITS_RECIPE, build_digits_model

SPACE = SearchSpace.four_node()
TRAININGS = RESULTS / "four_node_trainings.jsonl"
POOLS = ("random", "following")
SCHEDULE = ("_SHARE_AT_FIRST", "_SHARE_OF_A_ROUND", "_TRIED_PER_ROUND")
AFTER = (10, 20, 40)


class CountingFeaturizer(FisherFeaturizer):
    """Knows which functions it was asked for: what a search without a store would compute."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.asked: set[Expression] = set()

    def many(self, expressions: Sequence[str | Expression], **options: Any) -> list[FisherFeature]:
        """Measure, or read from the store, and remember."""
        self.asked.update(Expression.parse(str(expression)) for expression in expressions)
        return super().many(expressions, **options)


class Search(NamedTuple):
    """One search: the best accuracy after each trial behind the baselines, and what it cost."""

    pool: str
    seed: int
    best: list[float]
    n_fisher: int
    functions: list[str]


def featurizer() -> CountingFeaturizer:
    """Return the quickstart's featurizer, with a count."""
    images = DIGITS_RECIPE.data(seed=FEATURE_SEED).training_images(epoch=0).images[:128]
    return CountingFeaturizer(build_digits_model, images)


def run(
    pool: str,
    seed: int,
    *,
    n_fisher: int,
    n_trials: int,
    saved: Path,
    schedule: Sequence[float] | None = None,
) -> Search:
    """Run one search."""
    if schedule is not None:
        # No argument of the sampler: users have one schedule, and here others are compared with it.
        for name, value in zip(SCHEDULE, schedule, strict=True):
            setattr(_drawing, name, type(getattr(_drawing, name))(value))
    torch.set_num_threads(1)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    catalogue = Catalogue.load(saved)
    trainings = Trainings(TRAININGS)
    counting = featurizer()
    sampler = AquaSurfSampler(
        SPACE,
        features=counting,
        store=default_store(),
        surrogate="gp",
        catalogue=catalogue,
        pool=pool,
        pool_size=n_fisher,
        seed=seed,
    )
    study = optuna.create_study(direction="maximize", sampler=sampler)
    baselines = [catalogue[catalogue.class_of(baseline)] for baseline in BASELINES]
    for baseline in baselines:
        study.enqueue_trial(SPACE.params_of(baseline, "activation"))

    def objective(trial: optuna.Trial) -> float:
        function = str(catalogue[catalogue.class_of(SPACE.suggest(trial, "activation"))])
        trial.set_user_attr("function", function)
        accuracy = trainings.accuracy(function)
        if accuracy is None:
            raise optuna.TrialPruned
        return accuracy

    study.optimize(objective, n_trials=len(baselines) + n_trials)
    values = [-np.inf if trial.value is None else trial.value for trial in study.trials]
    best = np.maximum.accumulate(values)[len(baselines) :].tolist()
    functions = [trial.user_attrs["function"] for trial in study.trials]
    return Search(pool, seed, best, len(counting.asked), functions)


def spread(values: NDArray[np.float64]) -> float:
    """Return the standard deviation between seeds."""
    return float(values.std(ddof=1)) if len(values) > 1 else 0.0


def table(searches: Sequence[Search]) -> str:
    """Return the results as a Markdown table."""
    after = [n for n in AFTER if n <= len(searches[0].best)]
    columns = "".join(f" after {n} |" for n in after)
    lines = [
        f"| pool | Fisher computations |{columns}",
        "|---|---|" + "---|" * len(after),
    ]
    best = {
        pool: np.array([[s.best[n - 1] for n in after] for s in searches if s.pool == pool])
        for pool in POOLS
    }
    for pool in POOLS:
        counts = [search.n_fisher for search in searches if search.pool == pool]
        cells = [f"{column.mean():.3f} ± {spread(column):.3f}" for column in best[pool].T]
        lines.append(f"| {pool} | {np.mean(counts):.0f} | " + " | ".join(cells) + " |")
    difference = best["following"] - best["random"]
    error = [spread(column) / np.sqrt(len(column)) for column in difference.T]
    cells = [
        f"{mean:+.3f} ± {se:.3f}" for mean, se in zip(difference.mean(axis=0), error, strict=True)
    ]
    lines.append("| difference, ± standard error | | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def compression(catalogue: Catalogue, *, n: int = 6000, seed: int = 1) -> str:
    """Return by how much compressed distances are too small, as a Markdown table."""
    chosen = catalogue.shuffled(seed)[:n]
    cut = np.clip(catalogue.outputs_of(chosen), -OUTPUT_BOUND, OUTPUT_BOUND)
    exact = distances(cut / np.sqrt(cut.shape[1]))
    pairs = np.triu_indices(len(chosen), 1)
    apart = exact + np.diag(np.full(len(chosen), np.inf))
    near = (np.arange(len(chosen)), apart.argmin(axis=1))
    lines = [
        "| directions | pairs | distance, median | loss in %, median | 90% | 99% |",
        "|---|---|---|---|---|---|",
    ]
    for n_directions in (16, 32, 64, 128):
        rows = compressed_outputs(catalogue, n_directions=n_directions)[chosen]
        short = distances(rows.astype(np.float64))
        for name, where in (("random", pairs), ("nearest", near)):
            loss = 100 * np.maximum(1 - short[where] / np.maximum(exact[where], 1e-12), 0)
            cells = " | ".join(f"{q:.2g}" for q in np.quantile(loss, [0.5, 0.9, 0.99]))
            middle = np.median(exact[where])
            lines.append(f"| {n_directions} | {name} | {middle:.3f} | {cells} |")
    return "\n".join(lines)


def distances(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return all Euclidean distances of rows."""
    squares = (rows**2).sum(axis=1)
    found: NDArray[np.float64] = squares[:, None] + squares - 2 * rows @ rows.T
    return np.sqrt(np.maximum(found, 0.0))


def main() -> None:
    """Run all searches and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--fisher", type=int, default=300, help="Fisher computations of a search")
    parser.add_argument("--trials", type=int, default=40, help="trials after the baselines")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument(
        "--schedule",
        type=float,
        nargs=3,
        metavar=("FIRST", "ROUND", "TRIED"),
        help="share of a following pool that is drawn at random, and share that joins after so "
        "many functions tried; those of the package unless given",
    )
    parser.add_argument("--compression", action="store_true", help="measure that instead")
    options = parser.parse_args()
    catalogue = Catalogue.of(SPACE)
    if options.compression:
        print(compression(catalogue))
        return
    with tempfile.TemporaryDirectory() as folder:
        saved = catalogue.save(Path(folder) / "four_node.catalogue")
        searches = joblib.Parallel(n_jobs=options.jobs, verbose=5)(
            joblib.delayed(run)(
                pool,
                seed,
                n_fisher=options.fisher,
                n_trials=options.trials,
                saved=saved,
                schedule=options.schedule,
            )
            for seed in range(options.seeds)
            for pool in POOLS
        )
    text = table(searches)
    (RESULTS / "following_pool.md").write_text(text + "\n")
    print(text)


if __name__ == "__main__":
    main()
