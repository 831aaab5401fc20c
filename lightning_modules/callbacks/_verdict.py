"""What the eigenvalues and the prediction mean for a trial: what is kept and what ends it."""

from __future__ import annotations

from typing import Any, NamedTuple

import optuna
import torch
from optuna.study import StudyDirection
from torch import Tensor

from aquasurf_optuna._pruning import INVALID_KEY, PREDICTION_KEY
from aquasurf_optuna.exceptions import InvalidSpectrumError

SUMMARY_KEY = "aquasurf:fisher"
"""Trial attribute: number of eigenvalues, and their smallest, median and largest logarithm."""

Stop = optuna.TrialPruned | InvalidSpectrumError


class Verdict(NamedTuple):
    """What rank zero found; it travels to the other ranks.

    Attributes:
        attributes: For the trial.
        metrics: For the loggers.
        stop: What ends the fit, or None.
    """

    attributes: dict[str, Any]
    metrics: dict[str, float]
    stop: Stop | None = None

    @property
    def reason(self) -> str | None:
        """Why the eigenvalues are invalid, or None."""
        return self.attributes.get(INVALID_KEY)

    @property
    def prediction(self) -> float | None:
        """The value that was predicted, or None."""
        value: float | None = self.attributes.get(PREDICTION_KEY, {}).get("predicted")
        return value


def invalid(error: InvalidSpectrumError, *, has_trial: bool) -> Verdict:
    """Return the verdict on invalid eigenvalues."""
    stop: Stop = error
    if has_trial:
        stop = optuna.TrialPruned(f"the Fisher eigenvalues at initialisation are invalid: {error}")
        stop.__cause__ = error
    return Verdict({INVALID_KEY: str(error)}, {"fisher/invalid": 1.0}, stop)


def valid(figures: dict[str, float]) -> Verdict:
    """Return the verdict on valid eigenvalues with this summary."""
    metrics = {f"fisher/{key}": float(value) for key, value in figures.items()}
    return Verdict({SUMMARY_KEY: figures}, {"fisher/invalid": 0.0, **metrics})


def predicted(
    verdict: Verdict, value: float | None, worse_than: float, direction: StudyDirection
) -> Verdict:
    """Return the verdict with a predicted value taken into account, None standing for unknown."""
    record = {"predicted": value, "worse_than": worse_than}
    attributes = {**verdict.attributes, PREDICTION_KEY: record}
    if value is None:
        return verdict._replace(attributes=attributes)
    metrics = {**verdict.metrics, "fisher/predicted": value}
    worse = value < worse_than if direction == StudyDirection.MAXIMIZE else value > worse_than
    stop = None
    if worse:
        stop = optuna.TrialPruned(
            f"the surrogate predicts {value:.6g}, worse than the threshold {worse_than:.6g}"
        )
    return Verdict(attributes, metrics, stop)


def summary(eigenvalues: dict[str, Tensor]) -> dict[str, float]:
    """Return count, smallest, median and largest of all layers' log eigenvalues together."""
    values = torch.cat(list(eigenvalues.values()))
    return {
        "count": len(values),
        "min": float(values.min()),
        "median": float(values.median()),
        "max": float(values.max()),
    }
