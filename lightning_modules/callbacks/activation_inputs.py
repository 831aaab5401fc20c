"""Which inputs a network gives its activation function, before and after training (Figure 9)."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from aquasurf_optuna._whole_file import write_whole
from aquasurf_optuna.activation import Activation
from aquasurf_optuna.visualization import InputHistogram
from lightning_modules.callbacks._batch import first_inputs
from lightning_modules.callbacks._network import alone_and_eager, network_of
from lightning_modules.callbacks._ranks import check_strategy


class ActivationInputs(L.Callback):
    """Record histograms of the inputs of every activation, at initialization and after training.

    Both are those of the first training batch's images, in evaluation mode but with the statistics
    of the batch in batch normalisation, which has seen no others at initialization. Network, random
    state and the order of the training data stay as they were. A run that resumes after its first
    step records nothing at its begin. Of several ranks, rank zero records.

    `plot_input_distribution` draws them::

        recorded = ActivationInputs()
        trainer = L.Trainer(callbacks=[recorded])
        trainer.fit(module, data)
        plot_input_distribution("elu(x)", recorded.joined())

    Args:
        path: Where to keep them, as JSON; nowhere if None.
        bound: Inputs from minus to plus this are counted in bins.
        bins: How many.

    Attributes:
        before: Name of each activation -> histogram at initialization; empty before the fit.
        after: The same after training.

    Raises:
        ValueError: If `bound` is not a number above 0, or `bins` not a whole one.
    """

    before: dict[str, InputHistogram]
    after: dict[str, InputHistogram]

    def __init__(
        self, path: str | Path | None = None, *, bound: float = 20.0, bins: int = 800
    ) -> None:
        if not 0 < bound < float("inf"):
            raise ValueError(f"bound must be a finite number above 0, got {bound!r}")
        if not isinstance(bins, int) or isinstance(bins, bool) or bins < 1:
            raise ValueError(f"bins must be a whole number of at least 1, got {bins!r}")
        self.path = None if path is None else Path(path)
        self.bound = bound
        self.bins = bins
        self.before, self.after = {}, {}
        self._inputs: Tensor | None = None

    def setup(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,  # noqa: ARG002  # Lightning passes it
        stage: str,
    ) -> None:
        """Refuse strategies of which no rank holds the whole network.

        Raises:
            UnsupportedModelError: If it is one.
        """
        if stage == "fit":
            check_strategy(trainer.strategy)

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Record what there is at initialization.

        Raises:
            TypeError: If a training batch does not start with a tensor of inputs.
        """
        self.before, self.after, self._inputs = {}, {}, None
        if not trainer.is_global_zero:
            return
        self._inputs = first_inputs(trainer)
        if trainer.global_step == 0:
            self.before = self._recorded(trainer, pl_module, self._inputs)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Record what there is after training, and keep both.

        Raises:
            OSError: If the file cannot be written.
        """
        if self._inputs is None:
            return
        self.after = self._recorded(trainer, pl_module, self._inputs)
        self._inputs = None
        if self.path is not None:
            kept = {
                name: {
                    stage: histograms[name].as_json()
                    for stage, histograms in (("before", self.before), ("after", self.after))
                    if name in histograms
                }
                for name in self.after
            }
            write_whole(self.path, json.dumps(kept).encode(), what="histograms")

    def joined(self) -> dict[str, InputHistogram]:
        """Return the histograms of all activations together, as `plot_input_distribution` wants.

        Raises:
            AquaSurfError: If the network has no activation.
        """
        recorded = {"at initialization": self.before, "after training": self.after}
        return {
            stage: InputHistogram.joined(list(histograms.values()))
            for stage, histograms in recorded.items()
            if histograms or stage == "after training"
        }

    def _recorded(
        self, trainer: L.Trainer, module: L.LightningModule, inputs: Tensor
    ) -> dict[str, InputHistogram]:
        network = network_of(module)
        edges = np.linspace(-self.bound, self.bound, self.bins + 1)
        found: dict[str, list[InputHistogram]] = {}

        def count(name: str, given: Tensor) -> None:
            values = given.detach().float().cpu().numpy()
            found.setdefault(name, []).append(InputHistogram.of(values, edges))

        with (
            torch.no_grad(),
            alone_and_eager(network),
            _batch_statistics(network),
            _counting(network, count),
            trainer.precision_plugin.forward_context(),
        ):
            network(inputs)
        # A module that runs several times has the inputs of all its runs.
        return {name: InputHistogram.joined(several) for name, several in found.items()}


@contextlib.contextmanager
def _counting(network: nn.Module, count: Any) -> Iterator[None]:
    handles = []
    for name, module in network.named_modules():
        if isinstance(module, Activation):

            def hook(_: nn.Module, given: tuple[Tensor, ...], name: str = name) -> None:
                count(name, given[0])

            handles.append(module.register_forward_pre_hook(hook))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextlib.contextmanager
def _batch_statistics(network: nn.Module) -> Iterator[None]:
    """Evaluate, but normalise over the batch; modes and running statistics come back."""
    modes = {module: module.training for module in network.modules()}
    buffers = {name: buffer.clone() for name, buffer in network.named_buffers()}
    try:
        network.eval()
        for module in network.modules():
            if isinstance(module, _BatchNorm):
                module.train()
        yield
    finally:
        for module, training in modes.items():
            module.training = training
        for name, buffer in network.named_buffers():
            buffer.copy_(buffers[name])
