"""How much of the difference between training runs is the function's, and how much the seed's?

Trains functions of the three-node space that learn at all, drawn at random, with several seeds
each, by the quickstart's recipe, and splits the variance of the validation accuracy (one-way
random effects). A search can only find what is the function's.

    python benchmarks/seed_noise.py
"""

from __future__ import annotations

import argparse

import joblib
import numpy as np
import torch

from aquasurf_optuna import Catalogue, InitializationError, SearchSpace
from lightning_modules.digits_recipe import train_digits

LEARNS = 0.2
"""Accuracy from which a function counts as learning at all; chance is 0.1."""


def train(function: str, seed: int) -> float:
    """Return the validation accuracy, 0 where the network cannot be initialised."""
    torch.set_num_threads(1)
    try:
        return train_digits(function, seed=seed).validation_accuracy
    except InitializationError:
        return 0.0


def variance_components(accuracies: np.ndarray) -> tuple[float, float]:
    """Return the variance between functions and that between seeds, `(functions, seeds)` in."""
    within = float(accuracies.var(axis=1, ddof=1).mean())
    of_means = float(accuracies.mean(axis=1).var(ddof=1))
    return max(of_means - within / accuracies.shape[1], 0.0), within


def main() -> None:
    """Train and print the shares."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--functions", type=int, default=120, help="drawn, most of which fail")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=2)
    options = parser.parse_args()
    catalogue = Catalogue.of(SearchSpace.three_node())
    usable = np.flatnonzero(catalogue.is_finite & ~catalogue.is_constant)
    drawn = np.random.default_rng(0).choice(usable, options.functions, replace=False)
    functions = [str(catalogue[int(class_id)]) for class_id in drawn]
    run = joblib.Parallel(n_jobs=options.jobs)
    first = run(joblib.delayed(train)(function, 1) for function in functions)
    learning = [f for f, a in zip(functions, first, strict=True) if a > LEARNS]
    # Seeds of their own: the first run chose the functions, so it does not count.
    runs = run(
        joblib.delayed(train)(f, 2 + seed) for f in learning for seed in range(options.seeds)
    )
    accuracies = np.array(runs).reshape(len(learning), options.seeds)
    between, within = variance_components(accuracies)
    print(f"{len(learning)} of {options.functions} functions learn; {options.seeds} seeds each")
    print(
        f"standard deviation between functions {between**0.5:.3f}, between seeds {within**0.5:.3f}"
    )
    print(f"share of the function in the variance {between / (between + within):.1%}")


if __name__ == "__main__":
    main()
