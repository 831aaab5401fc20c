"""Callbacks for Lightning's Trainer."""

from aquasurf_optuna._pruning import INVALID_KEY, PREDICTION_KEY
from lightning_modules.callbacks._verdict import SUMMARY_KEY
from lightning_modules.callbacks.activation_inputs import ActivationInputs
from lightning_modules.callbacks.fisher import FisherEigenvalues

__all__ = [
    "INVALID_KEY",
    "PREDICTION_KEY",
    "SUMMARY_KEY",
    "ActivationInputs",
    "FisherEigenvalues",
]
