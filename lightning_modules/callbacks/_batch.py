"""The first training batch, looked at before the training takes it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import lightning as L
import torch
from lightning.pytorch.utilities.seed import isolate_rng
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset


def first_inputs(trainer: L.Trainer) -> Tensor:
    """Return the inputs of this rank's first training batch, as the training step would get them.

    The batch passes the trainer's precision and the batch hooks of the module and the data module.
    Leaves torch's, NumPy's and Python's random state and the loader as they were. It is the very
    batch that training begins with, except for a loader with worker processes, which has drawn its
    first batches already: there it is another one of the same kind.

    Raises:
        TypeError: If the batch does not start with a tensor.
    """
    loader = trainer.train_dataloader
    with isolate_rng(), _kept_generators(loader):
        batch = trainer.precision_plugin.convert_input(_first_batch(loader))
        batch = trainer.lightning_module._on_before_batch_transfer(batch)
        batch = trainer.strategy.batch_to_device(batch)
    inputs = batch[0] if isinstance(batch, (tuple, list)) and len(batch) > 0 else batch
    if not isinstance(inputs, Tensor):
        raise TypeError(
            "training batches must be a tensor of inputs, or a tuple or "
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
