"""From a LightningCLI configuration to a training that can be repeated: one function, one seed.

`python -m lightning_modules fit --config FILE` trains with a file once; `training_of(FILE)` trains
any function with it, as often as is asked, and returns what was measured.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import os
import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import torch
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.cli import LightningCLI

from aquasurf_optuna.exceptions import AquaSurfError, SettingsError
from lightning_modules import cli
from lightning_modules._quiet import quiet_lightning

STAGES = ("train", "val", "test")
MEASURES = ("accuracy", "loss")

# A training among thousands writes nothing and says nothing.
_QUIET = {
    "logger": False,
    "enable_checkpointing": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
    "num_sanity_val_steps": 0,
}
_NEVER = 10**9


@dataclasses.dataclass(frozen=True)
class ConfiguredTraining:
    """Trains a function as a LightningCLI configuration says; picklable.

    The whole configuration counts, data and callbacks too; its activation, seeds, loggers,
    checkpoints and progress bars do not. Where it names no callbacks, nothing needs the validation
    data during the training, and they are evaluated once, after the last step.

    Attributes:
        config: The file.
        text: What stands in it: what the results depend on.
    """

    config: str
    text: str

    @property
    def settings(self) -> dict[str, str]:
        """What the results depend on, for whoever keeps them."""
        return {"config": self.text}

    def __call__(self, function: str, seed: int) -> dict[str, float]:
        """Train once, and measure.

        The global generators of torch (on the CPU), numpy and Python are left as they were.

        Args:
            function: The activation function, as text.
            seed: Decides the weights, and what is random about the training images, where the data
                module takes a `seed`.

        Returns:
            `train_accuracy`, `train_loss` (means over the last epoch, while it trains),
            `val_accuracy`, `val_loss`, `test_accuracy`, `test_loss`, and `seconds`. A loss may be
            NaN or infinite.

        Raises:
            ExpressionError: If `function` is no function.
            InitializationError: If AutoInit finds no weights for this function.
            SettingsError: If a setting cannot be used, or a measure is missing at the end.
            DatasetError: If a file of the data set is missing or broken.
        """
        started = time.perf_counter()
        # Before anything is seeded, since reading a file for the first time draws weights.
        parsed = _read(self.config, self.text)
        with _own_randomness(seed), quiet_lightning():
            model, data, trainer = parsed.make(function, seed)
            trainer.fit(model, datamodule=data)
            metrics = dict(trainer.callback_metrics)
            trainer.validate(model, datamodule=data, verbose=False)
            metrics |= trainer.callback_metrics
            trainer.test(model, datamodule=data, verbose=False)
            metrics |= trainer.callback_metrics
        names = [f"{stage}_{measure}" for stage in STAGES for measure in MEASURES]
        missing = [name for name in names if name not in metrics]
        if missing:
            raise SettingsError(
                f"{self.config}: no {', '.join(missing)} at the end of the training; let it have "
                "training, validation and test batches"
            )
        measured = {name: float(metrics[name]) for name in names}
        return measured | {"seconds": time.perf_counter() - started}


def training_of(config: str | os.PathLike[str]) -> ConfiguredTraining:
    """Return the training that a LightningCLI configuration describes.

    Args:
        config: A file as for `python -m lightning_modules fit --config`.

    Raises:
        SettingsError: If the file or one of its settings cannot be used.
        FileNotFoundError: If there is no such file.
    """
    text = Path(config).read_text()
    _read(os.fspath(config), text)
    return ConfiguredTraining(os.fspath(config), text)


@dataclasses.dataclass(frozen=True)
class _Parsed:
    """A command line that has been read and not run."""

    command: LightningCLI

    def make(
        self, function: str, seed: int
    ) -> tuple[L.LightningModule, L.LightningDataModule, L.Trainer]:
        config = self.command.config.clone()
        config.model.activation = function
        if "seed" in config.data.get("init_args", {}):
            config.data.init_args.seed = seed
        try:
            made = self.command.parser.instantiate_classes(config)
        except AquaSurfError:
            raise
        except (TypeError, ValueError) as error:
            raise SettingsError(str(error)) from error
        settings: dict[str, Any] = vars(made.trainer) | _QUIET
        settings["callbacks"] = _without_checkpoints(settings["callbacks"])
        if not settings["callbacks"]:
            settings["check_val_every_n_epoch"] = _NEVER
            settings["val_check_interval"] = None
        return made.model, made.data, L.Trainer(**settings)


@functools.lru_cache(maxsize=8)
def _read(config: str, text: str) -> _Parsed:
    """Read a file once in a process, if `text` still stands in it.

    Raises:
        SettingsError: If it was changed, or cannot be used.
    """
    if Path(config).read_text() != text:
        raise SettingsError(
            f"{config} was changed after this training was made of it; call training_of again"
        )
    with cli.reading(config), _own_randomness(0):
        return _Parsed(cli.read(["--config", config, "--model.activation=relu(x)"]))


def _without_checkpoints(callbacks: L.Callback | list[L.Callback] | None) -> list[L.Callback]:
    if not isinstance(callbacks, list):
        callbacks = [] if callbacks is None else [callbacks]
    return [each for each in callbacks if not isinstance(each, Checkpoint)]


@contextlib.contextmanager
def _own_randomness(seed: int) -> Iterator[None]:
    """Seed the global generators, and bring them back to where they were."""
    # Not Lightning's isolate_rng, which leaves them changed after an error.
    python = random.getstate()
    numpy = np.random.get_state()  # noqa: NPY002 - what others draw from is meant
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            random.seed(seed)
            np.random.seed(seed % 2**32)  # noqa: NPY002 - as above
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)  # noqa: NPY002 - as above
