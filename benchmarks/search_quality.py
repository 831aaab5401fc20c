"""How many training runs does each sampler need to match the best standard function?

Every search has the quickstart's task and space, begins with the eight baselines, and goes on until
a function is at least as good as the best of them, and for `--trials` runs at least. Counted are
the runs after the baselines. All samplers see the same accuracies: each function is trained once,
really, with the recipe's seed, and kept in `benchmarks/results/digits_trainings.jsonl`; runs that
are not in there yet are trained and added, so the table can be made again in minutes or, without
that file, in hours.

    python benchmarks/search_quality.py
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
from collections.abc import Sequence
from pathlib import Path
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
    FisherFeaturizer,
    InitializationError,
    SearchSpace,
    UmapKnnSurrogate,
)
from lightning_modules.digits_recipe import DIGITS_RECIPE, build_digits_model, train_digits

SPACE = SearchSpace.three_node()
TRAINING_SEED = 0
LONGEST = 200
"""Runs after which a search that has not arrived is given up."""
RESULTS = Path(__file__).parent / "results"
FEATURES = {
    "AQuaSurF": "both",
    "AQuaSurF, outputs only": "outputs",
    "AQuaSurF, Fisher only": "fisher",
}
SAMPLERS = (*FEATURES, "TPE (Optuna)", "random")


class Trainings:
    """Accuracies by function, in a file of JSON lines that several processes may add to.

    The first line names the recipe: accuracies of another recipe are refused.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._known: dict[str, float | None] = {}
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            path.write_text(json.dumps({"recipe": repr(DIGITS_RECIPE)}) + "\n")
        header, *_ = path.read_text().splitlines()
        if json.loads(header) != {"recipe": repr(DIGITS_RECIPE)}:
            raise SystemExit(f"{path} was made with another recipe; move it away: {header}")
        self._read()

    def accuracy(self, function: str) -> float | None:
        """Return the validation accuracy, or None if the network cannot be initialised."""
        if function not in self._known:
            self._read()
        if function not in self._known:
            self._add(function)
        return self._known[function]

    def _read(self) -> None:
        for line in self.path.read_text().splitlines()[1:]:
            row = json.loads(line)
            self._known[row["function"]] = row["accuracy"]

    def _add(self, function: str) -> None:
        try:
            accuracy = round(train_digits(function, seed=TRAINING_SEED).validation_accuracy, 6)
        except InitializationError:
            accuracy = None
        self._known[function] = accuracy
        line = json.dumps({"function": function, "accuracy": accuracy}) + "\n"
        # One small write to a file opened for appending does not mix with other processes' ones.
        with self.path.open("ab", buffering=0) as file:
            file.write(line.encode())


class Search(NamedTuple):
    """One search: runs after the baselines until one was matched, and the best after each run."""

    sampler: str
    seed: int
    runs: int | None
    best: list[float]


def featurizer() -> FisherFeaturizer:
    """Return the featurizer of the quickstart."""
    images = DIGITS_RECIPE.data(seed=TRAINING_SEED).training_images(epoch=0).images[:128]
    return FisherFeaturizer(build_digits_model, images)


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
    trainings = Trainings(RESULTS / "digits_trainings.jsonl")
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
    default_store = Path(tempfile.gettempdir()) / "aquasurf_search_quality.db"
    store = os.environ.get("AQUASURF_BENCHMARK_STORE", f"sqlite:///{default_store}")
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
