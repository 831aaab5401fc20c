"""What the data modules of photographs share: parts of a data set, and the loaders over them.

A batch is a pair: images float32 `[batch, 3, side, side]`, labels int64 `[batch]`.
"""

from __future__ import annotations

import abc
import dataclasses
from typing import Any, Literal

import lightning as L
import torch
from torch.utils.data import DataLoader, Sampler

from lightning_modules.data._checks import require_between
from lightning_modules.data._parts import EpochSampler, Key, Part

Split = Literal["train", "validation", "test"]
_SPLITS_OF_STAGE: dict[str | None, tuple[Split, ...]] = {
    "fit": ("train", "validation"),
    "validate": ("validation",),
    "test": ("test",),
    "predict": ("test",),
    None: ("train", "validation", "test"),
}


@dataclasses.dataclass(frozen=True)
class LoaderOptions:
    """How batches are made.

    Attributes:
        batch_size: Images in a training batch; a last, smaller batch is left out.
        eval_batch_size: Images in a batch for validation, test and prediction.
        num_workers: Processes that read and transform, for each loader; they stay between epochs.
        pin_memory: Whether batches lie in page-locked memory; None for yes where an accelerator
            profits from it.
        seed: Decides order and augmentation of the training images, with the epoch.
    """

    batch_size: int
    eval_batch_size: int
    num_workers: int
    pin_memory: bool | None
    seed: int

    def check(self, owner: str) -> None:
        """Refuse a number out of its range in the name of `owner`.

        Raises:
            ValueError: If one is.
        """
        require_between(owner, "batch_size", self.batch_size, 1)
        require_between(owner, "eval_batch_size", self.eval_batch_size, 1)
        require_between(owner, "num_workers", self.num_workers, 0)
        require_between(owner, "seed", self.seed, 0)

    @property
    def pins(self) -> bool:
        """Whether batches lie in page-locked memory."""
        if self.pin_memory is not None:
            return self.pin_memory
        accelerator = torch.accelerator.current_accelerator(check_available=True)
        # Apple's accelerator shares the memory of the processor, and torch warns there.
        return accelerator is not None and accelerator.type != "mps"


class ImageDataModule(L.LightningDataModule, abc.ABC):
    """Loaders over three parts of a data set on disk.

    The parts are built when they are first needed, and kept.

    Args:
        options: How batches are made.

    Raises:
        ValueError: If an option is out of its range.

    Attributes:
        num_classes: Number of classes.
        image_size: Side of the square images.
    """

    num_classes: int
    image_size: int

    def __init__(self, options: LoaderOptions) -> None:
        super().__init__()
        options.check(type(self).__name__)
        self.options = options
        self._parts: dict[Split, Part] = {}

    @abc.abstractmethod
    def _build(self, split: Split) -> Part:
        """Read a part from disk.

        Raises:
            DatasetError: If a file is missing or broken.
        """

    def setup(self, stage: str | None = None) -> None:
        """Read the parts that a stage needs, unless they are there already.

        Args:
            stage: `"fit"`, `"validate"`, `"test"` or `"predict"`; None for all of them.

        Raises:
            DatasetError: If a file is missing or broken.
            ValueError: If an option does not fit what was found.
        """
        for split in _SPLITS_OF_STAGE[stage]:
            self.part(split)

    def part(self, split: Split) -> Part:
        """Return a part as a data set of (image, label).

        Raises:
            DatasetError: If a file is missing or broken.
            ValueError: If an option does not fit what was found.
        """
        if split not in self._parts:
            self._parts[split] = self._build(split)
        return self._parts[split]

    def train_dataloader(self) -> DataLoader[Any]:
        """Return the loader of the training images, shuffled.

        Raises:
            DatasetError: If a file is missing or broken.
            ValueError: If the images of this process do not fill one batch.
        """
        part = self.part("train")
        sampler = EpochSampler(part, seed=self.options.seed, **self._replicas())
        if self.trainer is not None:
            # Workers fetch ahead as soon as Lightning makes the iterator, and after a resumed
            # checkpoint it does so before it calls `set_epoch`.
            progress: Any = self.trainer.fit_loop.epoch_progress.current
            sampler.set_epoch(progress.processed)
        if len(sampler) < self.options.batch_size:
            raise ValueError(
                f"{type(self).__name__}: batch_size must be at most the number of training images "
                f"of a process, here {len(sampler)}, got {self.options.batch_size!r}"
            )
        return self._loader(part, self.options.batch_size, sampler)

    def val_dataloader(self) -> DataLoader[Any]:
        """Return the loader of the validation images, not augmented, in a fixed order."""
        return self._loader(self.part("validation"), self.options.eval_batch_size)

    def test_dataloader(self) -> DataLoader[Any]:
        """Return the loader of the test images, not augmented, in a fixed order."""
        return self._loader(self.part("test"), self.options.eval_batch_size)

    def predict_dataloader(self) -> DataLoader[Any]:
        """Return the loader of the test images; its batches hold the labels too."""
        return self.test_dataloader()

    def _loader(
        self, part: Part, batch_size: int, sampler: Sampler[Key] | None = None
    ) -> DataLoader[Any]:
        return DataLoader(
            part,
            batch_size=batch_size,
            sampler=sampler,
            drop_last=sampler is not None,
            num_workers=self.options.num_workers,
            persistent_workers=self.options.num_workers > 0,
            pin_memory=self.options.pins,
            # Without its own, a loader takes a number from the global generator in each epoch.
            generator=torch.Generator().manual_seed(self.options.seed),
        )

    def _replicas(self) -> dict[str, int]:
        """Return how many processes share the training images, and which of them this one is."""
        shares = self.trainer.distributed_sampler_kwargs if self.trainer is not None else None
        return dict(shares) if shares is not None else {}
