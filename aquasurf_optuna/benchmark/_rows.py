"""From training runs to what a table says of one function, and how far runs differ by the seed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from aquasurf_optuna.benchmark._reader import MEASURES
from aquasurf_optuna.benchmark._runs import Run
from aquasurf_optuna.exceptions import BenchmarkError
from aquasurf_optuna.features._feature import FisherFeature

# Field name -> what a training calls it.
MEASURED_AS: dict[str, str] = {
    "train_accuracy": "train_accuracy",
    "validation_accuracy": "val_accuracy",
    "test_accuracy": "test_accuracy",
    "train_loss": "train_loss",
    "validation_loss": "val_loss",
    "test_loss": "test_loss",
    "seconds": "seconds",
}
_DIGITS = 6
_TWICE = 2.0


class Spread(NamedTuple):
    """Where the variance of validation accuracies comes from.

    Of functions that train at all: whose mean over the runs is above twice chance.

    Attributes:
        functions: How many such functions have two runs or more.
        share: Share of the variance between runs that is the function's, from 0 to 1 (the
            intraclass correlation of a one-way analysis of variance); the rest is the seed's.
        seed_deviation: Standard deviation between runs of one function.
    """

    functions: int
    share: float
    seed_deviation: float

    def __str__(self) -> str:
        return (
            f"{self.share:.1%} of the variance between runs is the function's ({self.functions:,} "
            f"functions that train at all; runs of one differ by {self.seed_deviation:.4f})"
        )


def spread_of(runs: Sequence[Sequence[Run]], *, chance: float) -> Spread | None:
    """Say how far runs differ by the function and by the seed.

    Args:
        runs: The runs of each function.
        chance: The accuracy of guessing.

    Returns:
        The spread, or None if fewer than two functions that train at all have two runs.
    """
    accuracies = [
        np.array([run.measured["val_accuracy"] for run in own if run.measured]) for own in runs
    ]
    chosen = [
        values for values in accuracies if len(values) > 1 and values.mean() > _TWICE * chance
    ]
    if len(chosen) < 2:
        return None
    sizes = np.array([len(values) for values in chosen])
    means = np.array([values.mean() for values in chosen])
    within = sum(float(((values - values.mean()) ** 2).sum()) for values in chosen)
    noise = within / float((sizes - 1).sum())
    total = np.concatenate(chosen)
    between = float((sizes * (means - total.mean()) ** 2).sum()) / (len(chosen) - 1)
    typical = (sizes.sum() - (sizes**2).sum() / sizes.sum()) / (len(chosen) - 1)
    function = max(0.0, (between - noise) / float(typical))
    share = function / (function + noise) if function + noise > 0 else 0.0
    return Spread(len(chosen), share, math.sqrt(noise))


def check_measured(run: Run) -> None:
    """Refuse a run that lacks what a table needs.

    Raises:
        BenchmarkError: If it does, and was not a failure.
    """
    missing = [name for name in MEASURED_AS.values() if name not in run.measured]
    if missing and run.failure is None:
        raise BenchmarkError(
            f"the training of {run.function} returned no {', '.join(missing)}; it must return "
            f"{', '.join(MEASURED_AS.values())}, and trainings kept without them must be moved away"
        )


def entry_of(
    text: str,
    members: Sequence[str],
    runs: Sequence[Run],
    vectors: Mapping[str, FisherFeature],
    *,
    counted: Sequence[int],
) -> dict[str, Any]:
    """Return what a table holds of one function, as JSON.

    Args:
        text: The function.
        members: All graphs that are this function.
        runs: Its trainings, in the order of their seeds; empty if it was not trained.
        vectors: Key in the file -> Fisher feature.
        counted: Seeds whose runs count for the medians.
    """
    trained = [run for run in runs if run.measured]
    median = [run for run in trained if run.seed in counted]
    entry: dict[str, Any] = {
        key: _number(_median(field, median)) for field, key in MEASURES.items()
    }
    entry["Equivalent Activation Functions"] = [each for each in members if each != text]
    for key, feature in vectors.items():
        entry[key] = [] if feature.vector is None else [_short(v) for v in feature.vector]
    if not any(feature.valid for feature in vectors.values()):
        entry["Failure"] = next(iter(vectors.values())).reason
    entry["Seeds"] = [run.seed for run in trained]
    for field, key in MEASURES.items():
        entry[f"{key} Runs"] = [_number(run.measured[MEASURED_AS[field]]) for run in trained]
    failures = [run.failure for run in runs if run.failure is not None]
    if failures:
        entry["Training Failure"] = failures[0]
    return entry


def _median(field: str, runs: Sequence[Run]) -> float:
    """Return the median of a measure; a loss that is no number is larger than any."""
    if not runs:
        return math.nan
    values = np.array([run.measured[MEASURED_AS[field]] for run in runs])
    return float(np.median(np.where(np.isnan(values), np.inf, values)))


def _number(value: float) -> float | None:
    return round(value, _DIGITS) if math.isfinite(value) else None


def _short(value: float) -> float:
    return float(f"{value:.4g}")
