"""What holds for every data module: options from YAML, pinned memory, several processes."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from jsonargparse import ArgumentParser

from lightning_modules.data import (
    LARGE,
    CifarDataModule,
    DigitsDataModule,
    ImageNetDataModule,
    ImagenetteDataModule,
)
from lightning_modules.data._base import ImageDataModule
from tests.lightning_modules.data.recorder import Recorder
from tests.lightning_modules.data.stand_ins import write_cifar


def configured(kind: type[L.LightningDataModule], yaml: str) -> Any:
    """Make a data module from YAML, as LightningCLI does."""
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(kind, "data")
    return parser.instantiate(parser.parse_string(yaml)).data


@pytest.mark.parametrize(
    ("kind", "yaml", "expected"),
    [
        (
            CifarDataModule,
            "{name: cifar10, root: images, crop_padding: 5, normalize: false, pin_memory: null}",
            {"name": "cifar10", "root": Path("images"), "crop_padding": 5, "normalize": False},
        ),
        (
            ImagenetteDataModule,
            "{image_size: 96, mixup_alpha: 0.2, download: true}",
            {"image_size": 96, "num_classes": 10, "download": True},
        ),
        (
            ImageNetDataModule,
            "{root: ~/images, num_classes: 5}",
            {"num_classes": 5, "image_size": 160, "root": Path.home() / "images"},
        ),
        (
            DigitsDataModule,
            "{task: {canvas: 8, clutter: 0.0, noise: 0.0, enlarge: 4}, batch_size: 60}",
            {"task": LARGE, "batch_size": 60, "image_size": 32},
        ),
    ],
)
def test_options_come_from_yaml(
    kind: type[L.LightningDataModule], yaml: str, expected: dict[str, Any]
) -> None:
    data = configured(kind, f"data: {yaml}")
    assert {name: getattr(data, name) for name in expected} == expected


@pytest.mark.parametrize("kind", [CifarDataModule, ImagenetteDataModule, ImageNetDataModule])
@pytest.mark.parametrize(
    ("asked", "accelerator", "pinned"),
    [
        (None, "cuda", True),
        (None, "mps", False),
        (None, None, False),
        (True, None, True),
        (False, "cuda", False),
    ],
)
def test_memory_is_pinned_where_an_accelerator_profits(
    kind: type[ImageDataModule],
    asked: bool | None,
    accelerator: str | None,
    pinned: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    device = None if accelerator is None else torch.device(accelerator)
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda **_: device)
    assert kind(pin_memory=asked).options.pins is pinned


@pytest.mark.parametrize("num_workers", [0, 2])
def test_workers_stay_between_epochs(
    num_workers: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_cifar(tmp_path, "cifar10", monkeypatch)
    data = CifarDataModule(
        "cifar10", root=tmp_path, validation_size=100, num_workers=num_workers, pin_memory=True
    )
    for loader in (data.train_dataloader(), data.val_dataloader(), data.test_dataloader()):
        assert loader.num_workers == num_workers
        assert loader.persistent_workers is (num_workers > 0)
        assert loader.pin_memory


class SharedRecorder(Recorder):
    """Writes down which images its process saw."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder

    def setup(self, stage: str) -> None:
        # Threads of the parent are gone in a forked process, and waiting for them would never end.
        torch.set_num_threads(1)

    def on_fit_end(self) -> None:
        torch.save(dict(self.seen), self.folder / f"{self.global_rank}.pt")


@pytest.mark.filterwarnings("ignore:.*does not have many workers")
def test_two_processes_share_each_epoch_and_augment_as_one_would(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make_trainer: Callable[..., L.Trainer]
) -> None:
    write_cifar(tmp_path, "cifar10", monkeypatch)

    def data(batch_size: int) -> CifarDataModule:
        sizes = {"batch_size": batch_size, "validation_size": 100, "num_workers": 0}
        return CifarDataModule("cifar10", root=tmp_path, **sizes)

    alone = Recorder()
    make_trainer(max_epochs=2).fit(alone, datamodule=data(100))
    trainer = make_trainer(max_epochs=2, strategy="ddp_fork", devices=2)
    trainer.fit(SharedRecorder(tmp_path), datamodule=data(50))
    shares = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2)]
    for epoch in range(2):
        images = {
            image.numpy().tobytes() for batch, _ in alone.seen["train", epoch] for image in batch
        }
        ours = [
            {image.numpy().tobytes() for batch, _ in share["train", epoch] for image in batch}
            for share in shares
        ]
        assert [len(part) for part in ours] == [150, 150]
        assert ours[0] | ours[1] == images
