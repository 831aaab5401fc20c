"""The first training batch: what training sees, and nothing tells that it was looked at."""

from collections.abc import Callable

import lightning as L
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from lightning_modules.callbacks import FisherEigenvalues
from lightning_modules.callbacks._batch import first_inputs
from lightning_modules.classifier import Classifier

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


@pytest.mark.filterwarnings("ignore:.*does not have many workers")
def test_a_batch_without_inputs_is_refused(make_trainer: MakeTrainer) -> None:
    dataset = [{"image": torch.zeros(1, 8, 8), "label": 0}] * 4
    loader = DataLoader(dataset, batch_size=None)  # type: ignore[arg-type]
    model = Classifier(nn.Sequential(nn.Flatten(), nn.Linear(64, 10)))
    with pytest.raises(TypeError, match="starts with it; got a batch of type dict"):
        make_trainer(callbacks=[FisherEigenvalues()]).fit(model, loader, loader)
