"""Training recipes: one frozen dataclass of settings each, and one function that trains once."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from typing import NamedTuple

import lightning as L
import torch

from aquasurf_optuna.activation import ActivationLike
from lightning_modules._quiet import quiet_lightning
from lightning_modules.classifier import Classifier
from lightning_modules.data.digits import DigitsDataModule, DigitsTask
from lightning_modules.digits_network import DIGITS_NETWORK, build_digits_model
from lightning_modules.networks import NetworkOptions
from lightning_modules.training import TrainingOptions

# A short training at a low learning rate tells functions apart best: the share of the function in
# the variance between runs stands in the README.
_TRAINING = TrainingOptions(learning_rate=0.02, warmup_epochs=2.0)
_TASK = DigitsTask(noise=0.15)


@dataclasses.dataclass(frozen=True)
class DigitsRecipe:
    """A small All-CNN-C on the harder digits: seconds on one core, and functions differ.

    Attributes:
        network: The network, without its activation.
        training: Optimiser and learning rate.
        task: What is done to the digits.
        batch_size: Images in a training batch.
        epochs: Passes over the 900 training images.
        eval_copies: Renderings of each validation and test image.
    """

    network: NetworkOptions = DIGITS_NETWORK
    training: TrainingOptions = _TRAINING
    task: DigitsTask = _TASK
    batch_size: int = 50
    epochs: int = 8
    eval_copies: int = 5

    def data(self, *, seed: int) -> DigitsDataModule:
        """Return the images; `seed` decides the training ones only."""
        return DigitsDataModule(
            self.task, batch_size=self.batch_size, eval_copies=self.eval_copies, seed=seed
        )


DIGITS_RECIPE = DigitsRecipe()
"""The recipe of the quickstart and the benchmarks."""


class DigitsResult(NamedTuple):
    """What one training run gave; accuracies are shares in [0, 1]."""

    validation_accuracy: float
    test_accuracy: float | None
    seconds: float


def train_digits(
    activation: ActivationLike,
    *,
    seed: int,
    recipe: DigitsRecipe = DIGITS_RECIPE,
    callbacks: Sequence[L.Callback] = (),
    test: bool = False,
) -> DigitsResult:
    """Train one function once, on the CPU, and measure it.

    The result depends on the arguments alone (and on the machine's arithmetic); torch's global
    generator is left as it was.

    Args:
        activation: A text, an `Expression` or a factory.
        seed: Decides the weights, and order and disturbance of the training images.
        recipe: The settings.
        callbacks: Passed to the Trainer, `FisherEigenvalues` for example.
        test: Whether to measure the test accuracy too.

    Raises:
        ExpressionError: If `activation` is a text that names no function.
        InitializationError: If AutoInit finds no weights for this function.
    """
    started = time.perf_counter()
    with torch.random.fork_rng(devices=[]), quiet_lightning():
        torch.manual_seed(seed)
        classifier = Classifier(recipe.network.build(activation), training=recipe.training)
        trainer = _trainer(recipe, callbacks)
        data = recipe.data(seed=seed)
        trainer.fit(classifier, datamodule=data)
        (validation,) = trainer.validate(classifier, datamodule=data, verbose=False)
        tested = None
        if test:
            (measured,) = trainer.test(classifier, datamodule=data, verbose=False)
            tested = measured["test_accuracy"]
    return DigitsResult(validation["val_accuracy"], tested, time.perf_counter() - started)


def _trainer(recipe: DigitsRecipe, callbacks: Sequence[L.Callback]) -> L.Trainer:
    return L.Trainer(
        accelerator="cpu",
        devices=1,
        max_epochs=recipe.epochs,
        callbacks=list(callbacks),
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        # The caller validates once, after the last epoch.
        check_val_every_n_epoch=recipe.epochs + 1,
        num_sanity_val_steps=0,
    )


__all__ = ["DIGITS_RECIPE", "DigitsRecipe", "DigitsResult", "build_digits_model", "train_digits"]
