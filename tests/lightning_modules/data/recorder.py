"""A LightningModule that learns nothing and keeps the batches that it is given."""

from collections import defaultdict
from typing import Any

import lightning as L
import torch
from torch import Tensor, nn

Batch = tuple[Tensor, Tensor]


class Recorder(L.LightningModule):
    """Keeps every batch, under its stage and epoch: `("train", 0)`, `("validation", 0)`, ..."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 1)
        self.seen: defaultdict[tuple[str, int], list[Batch]] = defaultdict(list)

    def training_step(self, batch: Batch) -> Tensor:
        loss: Tensor = self.layer(self.keep("train", batch).mean(dim=(2, 3))).mean()
        return loss

    def validation_step(self, batch: Batch) -> None:
        self.keep("validation", batch)

    def test_step(self, batch: Batch) -> None:
        self.keep("test", batch)

    def predict_step(self, batch: Batch) -> Tensor:
        return self.keep("predict", batch)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.0)

    def keep(self, stage: str, batch: Batch) -> Tensor:
        images, labels = batch
        self.seen[stage, self.current_epoch].append((images.clone(), labels.clone()))
        return images


def whole(batches: Any) -> Batch:
    """Join the batches of a loader or a recorder."""
    images, labels = zip(*batches, strict=True)
    return torch.cat(images), torch.cat(labels)
