"""How many training runs does each sampler need to match the best standard function?

Every search has the quickstart's task and space, begins with the eight baselines, and goes on until
a function is at least as good as the best of them, and for `--trials` runs at least. Counted are
the runs after the baselines. All samplers see the same accuracies: each function is trained once,
really, with the recipe's seed, and kept in `benchmarks/results/digits_trainings.jsonl`; runs that
are not in there yet are trained and added, so the table can be made again in minutes or, without
that file, in hours.

    python -m benchmarks.search_quality
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Sequence
from typing import NamedTuple

import joblib
import numpy as np
import optuna
import torch

from aquasurf_optuna import (
    BASELINES,
    AquaSurfSampler,
    Catalogue,
    FeatureStore,
    UmapKnnSurrogate,
)
from benchmarks.tables import SPACE, default_store
from benchmarks.tables import digits_featurizer as featurizer
from benchmarks.trainings import DIGITS_TRAININGS, RESULTS, Trainings

LONGEST = 200
"""Runs after which a search that has not arrived is given up."""
FEATURES = {
    "AQuaSurF": "both",
    "AQuaSurF, outputs only": "outputs",
    "AQuaSurF, Fisher only": "fisher",
}
SAMPLERS = (*FEATURES, "TPE (Optuna)", "random")


class Search(NamedTuple):
    """One search: runs after the baselines until one was matched, and the best after each run."""

    sampler: str
    seed: int
    runs: int | None
    best: list[float]


def make_sampler(
    name: str, seed: int, *, catalogue: Catalogue, pool_size: int, store: str
) -> optuna.samplers.BaseSampler:
    """Return a fresh sampler by the name it has in the table."""
    if name == "random":
        return optuna.samplers.RandomSampler(seed=seed)
    if name == "TPE (Optuna)":
        return optuna.samplers.TPESampler(seed=seed)
    kind = FEATURES[name]
    return AquaSurfSampler(
        SPACE,
        features=featurizer(),
        store=store,
        surrogate=UmapKnnSurrogate(features=kind, random_state=seed),
        catalogue=catalogue,
        pool_size=pool_size,
        seed=seed,
    )


def run(name: str, seed: int, *, least: int, pool_size: int, store: str) -> Search:
    """Run one search."""
    torch.set_num_threads(1)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    catalogue = Catalogue.of(SPACE)
    trainings = Trainings(DIGITS_TRAININGS)
    baselines = [catalogue.class_of(baseline) for baseline in BASELINES]
    target = max(trainings.accuracy(str(catalogue[b])) or 0.0 for b in baselines)
    sampler = make_sampler(name, seed, catalogue=catalogue, pool_size=pool_size, store=store)
    study = optuna.create_study(direction="maximize", sampler=sampler)
    for baseline in baselines:
        study.enqueue_trial(SPACE.params_of(catalogue[baseline], "activation"))
    best: list[float] = []
    runs: int | None = None

    def objective(trial: optuna.Trial) -> float:
        class_id = catalogue.class_of(SPACE.suggest(trial, "activation"))
        accuracy = trainings.accuracy(str(catalogue[class_id]))
        if accuracy is None:
            raise optuna.TrialPruned
        trial.set_user_attr("baseline", class_id in baselines)
        return accuracy

    study.optimize(objective, n_trials=len(baselines))
    while len(best) < LONGEST and (len(best) < least or runs is None):
        study.optimize(objective, n_trials=1)
        trial = study.trials[-1]
        value = trial.value if trial.value is not None else 0.0
        best.append(max(value, best[-1] if best else target))
        # A standard function met again, by another sampler's chance, is no discovery.
        if runs is None and value >= target and not trial.user_attrs.get("baseline", False):
            runs = len(best)
    return Search(name, seed, runs, best)


def table(searches: Sequence[Search], least: int) -> str:
    """Return the results as a Markdown table."""
    lines = [
        "| sampler | median runs to match the best baseline | quartiles "
        f"| best after {least} runs, mean ± sd |",
        "|---|---|---|---|",
    ]
    for name in dict.fromkeys(search.sampler for search in searches):
        own = [search for search in searches if search.sampler == name]
        runs = [LONGEST + 1 if search.runs is None else search.runs for search in own]
        low, middle, high = np.percentile(runs, [25, 50, 75])
        best = [search.best[least - 1] for search in own]
        spread = statistics.stdev(best) if len(best) > 1 else 0.0
        lines.append(
            f"| {name} | {shown(middle)} | {shown(low)} to {shown(high)} | "
            f"{statistics.mean(best):.3f} ± {spread:.3f} |"
        )
    return "\n".join(lines)


def shown(runs: float) -> str:
    """Return a number of runs as text."""
    return f"> {LONGEST}" if runs > LONGEST else f"{runs:g}"


def main() -> None:
    """Run all searches and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--trials", type=int, default=32, help="fewest runs of a search")
    parser.add_argument("--pool", type=int, default=1000, help="candidates of AQuaSurF")
    parser.add_argument("--samplers", nargs="+", default=list(SAMPLERS), choices=SAMPLERS)
    parser.add_argument("--jobs", type=int, default=2)
    options = parser.parse_args()
    store = default_store()
    catalogue = Catalogue.of(SPACE)
    everything = [catalogue[i] for i in range(len(catalogue))]
    with FeatureStore(store) as features:
        featurizer().many(everything, store=features, n_jobs=options.jobs)
    jobs = [(name, seed) for seed in range(options.seeds) for name in options.samplers]
    searches = joblib.Parallel(n_jobs=options.jobs, verbose=5)(
        joblib.delayed(run)(name, seed, least=options.trials, pool_size=options.pool, store=store)
        for name, seed in jobs
    )
    searches.sort(key=lambda search: SAMPLERS.index(search.sampler))
    text = table(searches, options.trials)
    (RESULTS / "search_quality.md").write_text(text + "\n")
    print(text)


if __name__ == "__main__":
    main()
