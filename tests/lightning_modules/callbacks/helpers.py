"""Small trainings around `FisherEigenvalues`."""

from __future__ import annotations

from typing import Any

import lightning as L
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from aquasurf_optuna.activation import Activation
from lightning_modules.classifier import Classifier
from lightning_modules.training import TrainingOptions

CLASSES = 10


def small_network(activation: str = "tanh(x)") -> nn.Module:
    """Two layers for images of 8x8; with "zero(x)" nothing enters the second."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Flatten(), nn.Linear(64, 12), Activation(activation), nn.Linear(12, CLASSES)
    )


def classifier_of(network: nn.Module) -> Classifier:
    return Classifier(network, training=TrainingOptions(warmup_epochs=0))


def images(count: int = 40, channels: int = 1, side: int = 8) -> Tensor:
    return torch.randn(count, channels, side, side, generator=torch.Generator().manual_seed(0))


def loader(inputs: Tensor, targets: Tensor | None = None, **settings: Any) -> DataLoader[Any]:
    if targets is None:
        targets = torch.arange(len(inputs)) % CLASSES
    return DataLoader(TensorDataset(inputs, targets), **({"batch_size": 8} | settings))


def weights(module: nn.Module) -> Tensor:
    """A copy of all parameters."""
    return nn.utils.parameters_to_vector(module.parameters()).detach().clone()


class Watch(L.Callback):
    """Remembers the batches that the training saw."""

    def __init__(self) -> None:
        self.seen: list[list[Tensor]] = []

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: list[Tensor], batch_idx: int
    ) -> None:
        self.seen.append(batch)
