"""The first training batch: what training sees, and nothing tells that it was looked at."""

from collections.abc import Callable
from typing import Any

import lightning as L
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from lightning_modules.callbacks import FisherEigenvalues
from lightning_modules.callbacks._batch import first_inputs
from lightning_modules.classifier import Classifier
from tests.lightning_modules.callbacks.helpers import classifier_of, images, loader, small_network

MakeTrainer = Callable[..., L.Trainer]


class Peek(L.Callback):
    """Records what the callback would see, and what the training then sees."""

    def __init__(self) -> None:
        self.peeked: Tensor | None = None
        self.seen: list[Tensor] = []

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.peeked = first_inputs(trainer)

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: list[Tensor], batch_idx: int
    ) -> None:
        self.seen.append(batch[0])


@pytest.mark.filterwarnings("ignore:.*does not have many workers")
@pytest.mark.parametrize("own_generator", [True, False])
def test_a_shuffled_loader_gives_its_very_first_batch_and_keeps_its_order(
    own_generator: bool, make_trainer: MakeTrainer
) -> None:
    images = torch.randn(40, 1, 8, 8)
    dataset = TensorDataset(images, torch.arange(40) % 10)

    def run(callbacks: list[L.Callback]) -> None:
        torch.manual_seed(1)
        generator = torch.Generator().manual_seed(2) if own_generator else None
        loader = DataLoader(dataset, batch_size=8, shuffle=True, generator=generator)
        model = Classifier(nn.Sequential(nn.Flatten(), nn.Linear(64, 10)))
        make_trainer(callbacks=callbacks).fit(model, loader, loader)

    peek, plain = Peek(), Peek()
    plain.on_train_start = lambda *_: None  # type: ignore[method-assign]
    run([peek])
    run([plain])
    assert peek.peeked is not None
    assert torch.equal(peek.peeked, peek.seen[0])
    assert torch.equal(torch.cat(peek.seen), torch.cat(plain.seen))


class Mixing(L.LightningDataModule):
    """Changes its batches in every hook that Lightning offers, as Mixup would."""

    def train_dataloader(self) -> DataLoader[Any]:
        return loader(images())

    def on_before_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        return [batch[0] + 1.0, batch[1]]

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        inputs, targets = batch
        mixed = 0.75 * inputs + 0.25 * inputs.flip(0)
        soft = nn.functional.one_hot(targets, 10).float()
        return [mixed, 0.75 * soft + 0.25 * soft.flip(0)]


@pytest.mark.filterwarnings("ignore:.*does not have many workers")
@pytest.mark.filterwarnings("ignore:.*but have no `val_dataloader`")
@pytest.mark.parametrize("precision", ["32-true", "bf16-true", "64-true"])
def test_batch_hooks_and_precision_apply(precision: Any, make_trainer: MakeTrainer) -> None:
    peek = Peek()
    trainer = make_trainer(callbacks=[peek], max_steps=1, precision=precision)
    trainer.fit(classifier_of(small_network()), datamodule=Mixing())
    shifted = images()[:8].to(trainer.precision_plugin.convert_input(torch.zeros(1)).dtype) + 1.0
    assert peek.peeked is not None
    assert torch.equal(peek.peeked, 0.75 * shifted + 0.25 * shifted.flip(0))
    assert torch.equal(peek.peeked, peek.seen[0])


@pytest.mark.filterwarnings("ignore:.*does not have many workers")
def test_a_batch_without_inputs_is_refused(make_trainer: MakeTrainer) -> None:
    dataset = [{"image": torch.zeros(1, 8, 8), "label": 0}] * 4
    loader = DataLoader(dataset, batch_size=None)  # type: ignore[arg-type]
    model = Classifier(nn.Sequential(nn.Flatten(), nn.Linear(64, 10)))
    with pytest.raises(TypeError, match="starts with it; got a batch of type dict"):
        make_trainer(callbacks=[FisherEigenvalues()]).fit(model, loader, loader)
