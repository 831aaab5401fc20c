"""The Fisher eigenvalues of a network at initialisation, as a callback that prunes hopeless trials.

The AQuaSurF paper finds that activation functions whose Fisher eigenvalues are invalid fail in
training (Section 4), so such a trial can end before its first optimiser step.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import optuna
import torch
from lightning.pytorch.utilities.seed import isolate_rng
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

from aquasurf_optuna.exceptions import InvalidSpectrumError
from aquasurf_optuna.features.fisher import fisher_log_eigenvalues
from lightning_modules.classifier import Classifier

SUMMARY_KEY = "aquasurf:fisher"
"""Trial attribute: number of eigenvalues, and their smallest, median and largest logarithm."""
INVALID_KEY = "aquasurf:fisher_invalid"
"""Trial attribute: why the eigenvalues are invalid."""


class FisherEigenvalues(L.Callback):
    """Compute the Fisher eigenvalues from the first training batch, before any optimiser step.

    The labels are sampled from the network's own prediction. Network, random state and the order of
    the training data stay as they were. For a `Classifier` the layer names are those of its
    network, for any other module its own. A run that resumes after its first step computes nothing.

    Args:
        trial: The Optuna trial that the training belongs to; it gets a summary as user attributes
            and is pruned when the eigenvalues are invalid. Without one, invalid eigenvalues end the
            fit with `InvalidSpectrumError`.
        seed: Decides the sampled labels.
        path: Where to keep all eigenvalues, as a NumPy archive (`.npz`) with an array a layer.

    Attributes:
        eigenvalues: Layer name -> logarithms of its eigenvalues, float64, one a weight; None before
            the fit and where they are invalid.
        reason: Why the eigenvalues are invalid, or None.
    """

    def __init__(
        self,
        trial: optuna.Trial | None = None,
        *,
        seed: int = 0,
        path: str | Path | None = None,
    ) -> None:
        self.trial = trial
        self.seed = seed
        self.path = None if path is None else Path(path)
        self.eigenvalues: dict[str, Tensor] | None = None
        self.reason: str | None = None

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Compute, keep and judge the eigenvalues.

        Raises:
            optuna.TrialPruned: If they are invalid and there is a trial.
            InvalidSpectrumError: If they are invalid and there is none.
            UnsupportedModelError: If Fisher eigenvalues are not defined for this network.
            TypeError: If a training batch does not start with a tensor of inputs.
        """
        if trainer.global_step > 0:
            return
        network = pl_module.network if isinstance(pl_module, Classifier) else pl_module
        self.eigenvalues, self.reason = None, None
        try:
            eigenvalues = fisher_log_eigenvalues(network, first_inputs(trainer), seed=self.seed)
        except InvalidSpectrumError as error:
            self.reason = str(error)
            if self.trial is None:
                raise
            self.trial.set_user_attr(INVALID_KEY, self.reason)
            raise optuna.TrialPruned(
                f"the Fisher eigenvalues at initialisation are invalid: {self.reason}"
            ) from error
        self._keep(eigenvalues)

    def _keep(self, eigenvalues: dict[str, Tensor]) -> None:
        self.eigenvalues = eigenvalues
        if self.trial is not None:
            self.trial.set_user_attr(SUMMARY_KEY, summary(eigenvalues))
        if self.path is not None:
            # The prefix keeps a layer's name apart from the names of savez's own parameters.
            arrays: dict[str, Any] = {f"layer:{k}": v.numpy() for k, v in eigenvalues.items()}
            np.savez(self.path, **arrays)


def summary(eigenvalues: dict[str, Tensor]) -> dict[str, float]:
    """Return count, smallest, median and largest of all layers' log eigenvalues together."""
    values = torch.cat(list(eigenvalues.values()))
    return {
        "count": len(values),
        "min": float(values.min()),
        "median": float(values.median()),
        "max": float(values.max()),
    }


def first_inputs(trainer: L.Trainer) -> Tensor:
    """Return the inputs of the first training batch, on the trainer's device.

    Leaves torch's, NumPy's and Python's random state and the loader as they were. It is the very
    batch that training begins with, except for a loader with worker processes, which has drawn its
    first batches already: there it is another one of the same kind.

    Raises:
        TypeError: If the batch does not start with a tensor.
    """
    loader = trainer.train_dataloader
    with isolate_rng(), _kept_generators(loader):
        batch = trainer.strategy.batch_to_device(_first_batch(loader))
        batch = trainer.precision_plugin.convert_input(batch)
    inputs = batch[0] if isinstance(batch, (tuple, list)) and len(batch) > 0 else batch
    if not isinstance(inputs, Tensor):
        raise TypeError(
            "FisherEigenvalues needs training batches that are a tensor of inputs, or a tuple or "
            f"list that starts with it; got a batch of type {type(batch).__name__}"
        )
    return inputs


def _first_batch(loader: Any) -> Any:
    """Fetch one batch in this process, without touching an iterator that is in use."""
    if not isinstance(loader, DataLoader) or isinstance(loader.dataset, IterableDataset):
        return next(iter(loader))
    # Asked directly, a sampler draws what the loader's own iterator is going to draw from the same
    # random state. A second iterator of a loader with persistent workers would be the first one.
    one: dict[str, Any]
    if loader.batch_sampler is not None:
        one = {"batch_sampler": [next(iter(loader.batch_sampler))]}
    else:
        one = {"batch_size": None, "sampler": [next(iter(loader.sampler))]}
    return next(iter(DataLoader(loader.dataset, collate_fn=loader.collate_fn, **one)))


@contextlib.contextmanager
def _kept_generators(loader: Any) -> Iterator[None]:
    """Restore the random generators that a loader and its samplers own."""
    sampler = getattr(loader, "sampler", None)
    batch_sampler = getattr(loader, "batch_sampler", None)
    owners = (loader, sampler, batch_sampler, getattr(batch_sampler, "sampler", None))
    generators = {
        id(generator): generator
        for owner in owners
        if isinstance(generator := getattr(owner, "generator", None), torch.Generator)
    }.values()
    states = [generator.get_state() for generator in generators]
    try:
        yield
    finally:
        for generator, state in zip(generators, states, strict=True):
            generator.set_state(state)
