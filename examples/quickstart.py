"""Find an activation function for a small All-CNN-C on real images, in about two minutes.

The images are scikit-learn's handwritten digits in a harder form: at a random place, with clutter
and noise. The search knows 2,791 different functions of the form binary(unary(x),unary(x)). It
measures the Fisher eigenvalues of several hundred of them, which costs no training, trains the
eight standard functions and then the most promising ones, and at last compares the best function
with the standard ones on fresh seeds and on test images that the search has never seen.

Run it with `make quickstart`, or `python examples/quickstart.py --help`. It saves as it goes, and
goes on where it stopped when it is run again.
"""

from __future__ import annotations

import argparse
import json
import logging
import math
import os
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import optuna
import torch
from optuna.trial import TrialState
from tqdm import tqdm

from aquasurf_optuna import BASELINES, AquaSurfSampler, Catalogue, FisherFeaturizer, SearchSpace
from aquasurf_optuna.parallel import import_ahead, side_by_side
from aquasurf_optuna.report import study_report
from lightning_modules.callbacks import FisherEigenvalues
from lightning_modules.digits_recipe import DIGITS_RECIPE, build_digits_model, train_digits

SPACE = SearchSpace.three_node()
SEARCH_SEED = 0
CONFIRM_SEEDS = (11, 12, 13, 14)
FRESH_SEEDS = (101, 102, 103)
N_CONFIRMED = 4
AT_ONCE = 4


def start_processes(jobs: int) -> None:
    """Let the other processes import what a training needs, while this one goes on."""
    import_ahead(["lightning_modules.digits_recipe", "lightning_modules.callbacks"], jobs)


def make_sampler(catalogue: Catalogue, pool_size: int, jobs: int, folder: Path) -> AquaSurfSampler:
    """Return the sampler with the features of its pool computed."""
    images = DIGITS_RECIPE.data(seed=SEARCH_SEED).training_images(epoch=0).images[:128]
    sampler = AquaSurfSampler(
        SPACE,
        # Counting every use of a layer costs nothing here, where the images are small.
        features=FisherFeaturizer(build_digits_model, images, max_uses=None),
        store=f"sqlite:///{folder / 'features.db'}",
        catalogue=catalogue,
        pool_size=pool_size,
        seed=SEARCH_SEED,
    )
    with tqdm(desc="Fisher features", unit="function") as bar:

        def progress(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        sampler.prepare(n_jobs=jobs, progress=progress)
    valid = bar.n - len(sampler.ruled_out())
    print(f"{valid} of {bar.n} have valid eigenvalues; the others would fail and are left out")
    return sampler


def search(sampler: AquaSurfSampler, n_trials: int, jobs: int, folder: Path) -> optuna.Study:
    """Run the trials that are still missing, a few at a time.

    How many at a time does not depend on the number of processes, so that neither do the results.
    """
    study = optuna.create_study(
        study_name="quickstart",
        direction="maximize",
        storage=f"sqlite:///{folder / 'study.db'}",
        sampler=sampler,
        load_if_exists=True,
    )
    done = sum(trial.state.is_finished() for trial in study.trials)
    with tqdm(desc="Training runs", unit="run", total=n_trials, initial=done) as bar:
        while bar.n < n_trials:
            trials = [study.ask() for _ in range(min(AT_ONCE, n_trials - bar.n))]
            run_trials(study, trials, jobs)
            bar.update(len(trials))
            best = max((t.value for t in study.trials if t.value is not None), default=math.nan)
            bar.set_postfix_str(f"best {best:.3f}")
    return study


def run_trials(study: optuna.Study, trials: Sequence[optuna.Trial], jobs: int) -> None:
    """Train the functions that the sampler proposes for these trials, in several processes."""
    try:
        functions = [str(SPACE.suggest(trial, "activation")) for trial in trials]
        runs = dict(side_by_side(measure, functions, jobs))
        for index, trial in enumerate(trials):
            accuracy, notes = runs[index]
            for key, value in notes.items():
                trial.set_user_attr(key, value)
            study.tell(trial, accuracy, TrialState.PRUNED if accuracy is None else None)
    finally:
        # After Ctrl-C or an error no trial stays behind as one that runs.
        for trial in trials:
            study.tell(trial, state=TrialState.FAIL, skip_if_finished=True)


def measure(text: str) -> tuple[float | None, dict[str, Any]]:
    """Train one function once; its validation accuracy is what the search maximises.

    It may run in another process, where the study is out of reach: what the callback has to say of
    the trial comes back with the accuracy, or with None for a function that is pruned.
    """
    torch.set_num_threads(1)
    notes = optuna.trial.FixedTrial({})
    # The callback prunes a function with invalid eigenvalues before it costs any training.
    callback = FisherEigenvalues(notes)
    try:
        result = train_digits(text, seed=SEARCH_SEED, callbacks=[callback])
    except optuna.TrialPruned:
        return None, notes.user_attrs
    return result.validation_accuracy, notes.user_attrs


def train_all(
    jobs: Sequence[tuple[str, int]], n_jobs: int, file: Path, title: str
) -> dict[str, dict[int, tuple[float, float]]]:
    """Train (function, seed) pairs; return validation and test accuracy of each."""
    known = json.loads(file.read_text()) if file.exists() else {}
    missing = [job for job in dict.fromkeys(jobs) if f"{job[0]} {job[1]}" not in known]
    bar = tqdm(desc=title, unit="run", total=len(set(jobs)), initial=len(set(jobs)) - len(missing))
    for index, accuracies in side_by_side(train_once, missing, n_jobs):
        text, seed = missing[index]
        known[f"{text} {seed}"] = accuracies
        draft = file.with_suffix(".part")
        draft.write_text(json.dumps(known))
        draft.replace(file)
        bar.update()
    bar.close()
    results: dict[str, dict[int, tuple[float, float]]] = {}
    for text, seed in jobs:
        results.setdefault(text, {})[seed] = known[f"{text} {seed}"]
    return results


def train_once(job: tuple[str, int]) -> tuple[float, float]:
    """Train one function from one seed, and return its validation and test accuracy."""
    text, seed = job
    torch.set_num_threads(1)
    result = train_digits(text, seed=seed, test=True)
    if result.test_accuracy is None:
        raise RuntimeError("train_digits(test=True) returned no test accuracy")
    return result.validation_accuracy, result.test_accuracy


def choose(study: optuna.Study, catalogue: Catalogue, jobs: int, folder: Path) -> str:
    """Train the leaders of the search from four more seeds; return the best by validation accuracy.

    One run can be lucky; the best of forty probably was.
    """
    baselines = {catalogue.class_of(baseline) for baseline in BASELINES}
    scores: dict[str, float] = {}
    for trial in study.get_trials(states=[optuna.trial.TrialState.COMPLETE]):
        expression = SPACE.expression_of(trial.params, "activation")
        if catalogue.class_of(expression) not in baselines and trial.value is not None:
            scores[str(expression)] = trial.value
    leaders = sorted(scores, key=scores.__getitem__, reverse=True)[:N_CONFIRMED]
    pairs = [(text, seed) for text in leaders for seed in CONFIRM_SEEDS]
    again = train_all(pairs, jobs, folder / "confirmed.json", "Confirming the leaders")

    def mean(text: str) -> float:
        return statistics.mean([scores[text], *(run[0] for run in again[text].values())])

    return max(leaders, key=mean)


def compare(found: str, jobs: int, folder: Path) -> dict[str, list[float]]:
    """Return the test accuracies of the function found and of the baselines on fresh seeds."""
    functions = [found, *map(str, BASELINES)]
    pairs = [(text, seed) for text in functions for seed in FRESH_SEEDS]
    runs = train_all(pairs, jobs, folder / "comparison.json", "Final comparison")
    return {text: [run[1] for run in by_seed.values()] for text, by_seed in runs.items()}


def print_table(found: str, comparison: dict[str, list[float]]) -> None:
    """Print the test accuracies, the best first, and say who won."""
    means = {text: statistics.mean(values) for text, values in comparison.items()}
    ranking = sorted(means, key=means.__getitem__, reverse=True)
    width = max(map(len, ranking))
    print(f"\nTest accuracy on {len(FRESH_SEEDS)} fresh seeds (mean and standard deviation):")
    for text in ranking:
        spread = statistics.stdev(comparison[text])
        mark = "  <- found by the search" if text == found else ""
        print(f"  {text:<{width}}  {means[text]:.3f} +- {spread:.3f}{mark}")
    best = next(text for text in ranking if text != found)
    gain = 100 * (means[found] - means[best])
    if gain > 0:
        print(f"\n{found} beats the best standard function, {best}, by {gain:.1f} points,")
        print(f"and ReLU by {100 * (means[found] - means['relu(x)']):.1f} points.")
    else:
        print(f"\nNo improvement this time: {best} stays ahead of {found} by {-gain:.1f} points.")


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--pool", type=int, default=1000, help="candidates with Fisher features")
    parser.add_argument("--trials", type=int, default=40, help="training runs, 8 baselines first")
    parser.add_argument("--jobs", type=int, default=2, help="processes")
    parser.add_argument("--output", type=Path, default=Path("quickstart_output"), help="folder")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    """Search, compare and write the report."""
    options = parse_arguments(arguments)
    started = time.perf_counter()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    torch.set_num_threads(1)  # the network is small: more threads would only wait for each other
    folder: Path = options.output
    folder.mkdir(parents=True, exist_ok=True)
    start_processes(options.jobs)
    catalogue = Catalogue.of(SPACE)
    print(f"{len(SPACE):,} graphs, {len(catalogue):,} different functions")
    sampler = make_sampler(catalogue, options.pool, options.jobs, folder)
    study = search(sampler, options.trials, options.jobs, folder)
    found = choose(study, catalogue, options.jobs, folder)
    comparison = compare(found, options.jobs, folder)
    print_table(found, comparison)
    report = study_report(
        folder / "report.html",
        study,
        SPACE,
        value_name="validation accuracy",
        sampler=sampler,
        found=found,
        comparison=comparison,
    )
    print(f"\nReport: {os.path.relpath(report)} (open it in a browser)")
    print(f'Use it:  from aquasurf_optuna import Activation; activation = Activation("{found}")')
    print(f"This took {(time.perf_counter() - started) / 60:.1f} minutes.")


if __name__ == "__main__":
    main()
