"""From a LightningCLI configuration to Fisher features: its network, and its first batch.

`python -m lightning_modules fit --config FILE` trains with a file; `featurizer_of(FILE)` measures
functions in the same network on the batch with which that training begins.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

import lightning as L
import torch
from torch import Tensor

from aquasurf_optuna.exceptions import SettingsError
from aquasurf_optuna.features.featurizer import FisherFeaturizer, Representation
from lightning_modules import cli
from lightning_modules.callbacks._batch import first_inputs
from lightning_modules.networks import NetworkOptions

# The batch is all that is wanted of the run: it writes nothing, and one process is enough.
_QUIET = (
    "--model.activation=relu(x)",
    "--trainer.callbacks=null",
    "--trainer.logger=false",
    "--trainer.enable_checkpointing=false",
    "--trainer.enable_progress_bar=false",
    "--trainer.enable_model_summary=false",
    "--trainer.num_sanity_val_steps=0",
    "--trainer.devices=1",
    "--trainer.num_nodes=1",
    "--trainer.strategy=auto",
)


class _FoundError(Exception):
    """The batch is there, so the run can end."""


class _FirstBatch(L.Callback):
    """Takes what the `FisherEigenvalues` callback measures with, and ends the run."""

    inputs: Tensor
    network: NetworkOptions

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.inputs = first_inputs(trainer)
        self.network = NetworkOptions(**pl_module.hparams["network"])
        raise _FoundError


def featurizer_of(
    config: str | os.PathLike[str],
    *,
    samples: int | None = None,
    representation: Representation = "quantiles",
    seed: int = 0,
    task: str | None = None,
    more: Sequence[str] = (),
) -> FisherFeaturizer:
    """Return a featurizer for the network and the data of a LightningCLI configuration.

    The batch is the first training batch, as the `FisherEigenvalues` callback takes it, in the
    precision of new weights.

    Args:
        config: A file as for `python -m lightning_modules fit --config`. Its activation does not
            matter, and may be missing; its callbacks, loggers and devices are not used.
        samples: How many samples of the batch to use; None for all.
        representation: As for `FisherFeaturizer`.
        seed: Seeds the weights and the labels.
        task: As for `FisherFeaturizer`.
        more: Arguments for LightningCLI that go before the file.

    Returns:
        A featurizer, picklable.

    Raises:
        SettingsError: If the file or one of its settings cannot be used.
        DatasetError: If a file of the data set is missing or broken.
        FileNotFoundError: If there is no such file.
        ValueError: If `samples` is outside what is allowed.
        TypeError: If a training batch does not start with a tensor of inputs.
    """
    found = _first_batch(os.fspath(config), more)
    inputs = found.inputs
    if samples is not None:
        if not 1 <= samples <= len(inputs):
            raise ValueError(
                f"samples must be 1 to {len(inputs)}, the size of a batch, or None for all, got "
                f"{samples}; the batch size is a setting of the configuration's data"
            )
        inputs = inputs[:samples]
    if inputs.is_floating_point():
        inputs = inputs.to(torch.get_default_dtype())
    return FisherFeaturizer(
        found.network.build,
        inputs,
        representation=representation,
        seed=seed,
        task=task,
    )


def _first_batch(config: str, more: Sequence[str]) -> _FirstBatch:
    found = _FirstBatch()
    try:
        with cli.reading(config):
            cli.run(["fit", "--config", config, *more, *_QUIET], callbacks=[found])
    except _FoundError:
        return found
    raise SettingsError(f"{config} describes a training without a first step")
