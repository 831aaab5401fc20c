"""CIFAR-10 and CIFAR-100 as in Table 5 of the AQuaSurF paper.

60,000 images of 32x32, 10,000 of them for the test (Krizhevsky 2009). As in Appendix E, a balanced
validation set is taken from the training images; it is the same for every seed.

Images are float32 `[n, 3, 32, 32]`: in [0, 1], or with mean 0 and variance 1 in each channel.
Labels are int64 `[n]`.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from sklearn.model_selection import train_test_split
from torch.utils.data import Subset
from torchvision import datasets
from torchvision.datasets.utils import check_integrity
from torchvision.transforms import v2

from aquasurf_optuna.exceptions import DatasetError
from lightning_modules.data._base import ImageDataModule, LoaderOptions, Split
from lightning_modules.data._checks import require_between
from lightning_modules.data._files import fetching
from lightning_modules.data._parts import Part

_SIDE = 32
_SPLIT_SEED = 0


class _Published(NamedTuple):
    """A data set, with mean and standard deviation of each channel of its training images."""

    pictures: type[Any]
    num_classes: int
    mean: Sequence[float]
    deviation: Sequence[float]


# Over all 50,000 training images scaled to [0, 1], the figures in general use.
_PUBLISHED = {
    "cifar10": _Published(
        datasets.CIFAR10, 10, mean=(0.4914, 0.4822, 0.4465), deviation=(0.2470, 0.2435, 0.2616)
    ),
    "cifar100": _Published(
        datasets.CIFAR100, 100, mean=(0.5071, 0.4865, 0.4409), deviation=(0.2673, 0.2564, 0.2762)
    ),
}


class CifarDataModule(ImageDataModule):
    """CIFAR-10 or CIFAR-100, augmented with random crops of padded images and random flips.

    Args:
        name: Which of the two.
        root: Folder in which `cifar-10-batches-py` or `cifar-100-python` lies.
        batch_size: Images in a training batch; a last, smaller batch is left out.
        crop_padding: Black pixels around a training image before a random 32x32 crop; the paper has
            4 for All-CNN-C and 5 for ResNet-56.
        normalize: Whether each channel is standardised with the training images' mean and standard
            deviation, as the paper does for All-CNN-C; otherwise images stay in [0, 1].
        flip: Whether training images are mirrored, each with probability one half.
        validation_size: How many of the 50,000 training images are set apart, equally many of each
            class.
        eval_batch_size: Images in a batch for validation, test and prediction.
        num_workers: Processes that read and transform, for each loader.
        pin_memory: Whether batches lie in page-locked memory; None for yes where an accelerator
            profits from it.
        seed: Decides order and augmentation of the training images, with the epoch.
        download: Whether `prepare_data` fetches what is missing or broken (170 MB).

    Raises:
        ValueError: If an option is out of its range.
    """

    def __init__(
        self,
        name: Literal["cifar10", "cifar100"] = "cifar100",
        *,
        root: str | Path = "data",
        batch_size: int = 128,
        crop_padding: int = 4,
        normalize: bool = True,
        flip: bool = True,
        validation_size: int = 5000,
        eval_batch_size: int = 500,
        num_workers: int = 2,
        pin_memory: bool | None = None,
        seed: int = 0,
        download: bool = False,
    ) -> None:
        super().__init__(LoaderOptions(batch_size, eval_batch_size, num_workers, pin_memory, seed))
        if name not in _PUBLISHED:
            raise ValueError(
                f"CifarDataModule: name must be one of {sorted(_PUBLISHED)}, got {name!r}"
            )
        require_between("CifarDataModule", "crop_padding", crop_padding, 0)
        require_between("CifarDataModule", "validation_size", validation_size, 1)
        self.name = name
        self._published = _PUBLISHED[name]
        self.root = Path(root).expanduser()
        self.crop_padding = crop_padding
        self.normalize = normalize
        self.flip = flip
        self.validation_size = validation_size
        self.download = download
        self.num_classes = self._published.num_classes
        self.image_size = _SIDE

    def prepare_data(self) -> None:
        """Fetch the data set if asked to and if a file is missing or broken.

        Raises:
            DatasetError: If the download fails.
        """
        published = self._published.pictures
        if not self.download or _problem(published, self.root) is None:
            return
        with fetching(published.url, self.root) as scratch:
            published(scratch, download=True)
            target = self.root / published.base_folder
            target.mkdir(exist_ok=True)
            for file, _ in _files(published):
                (scratch / published.base_folder / file).replace(target / file)

    def _build(self, split: Split) -> Part:
        if split == "test":
            return Part(self._read(train=False), self._transform(augment=False))
        pictures = Subset(self._training_set, self._positions[split])
        if split == "validation":
            return Part(pictures, self._transform(augment=False))
        return Part(pictures, self._transform(augment=True), seed=self.options.seed)

    @functools.cached_property
    def _positions(self) -> dict[Split, list[int]]:
        """Which of the published training images are for training, and which for validation."""
        labels = self._training_set.targets
        least, most = self.num_classes, len(labels) - self.num_classes
        require_between("CifarDataModule", "validation_size", self.validation_size, least, most)
        train, validation = train_test_split(
            np.arange(len(labels)),
            test_size=self.validation_size,
            stratify=labels,
            random_state=_SPLIT_SEED,
        )
        return {"train": sorted(train.tolist()), "validation": sorted(validation.tolist())}

    @functools.cached_property
    def _training_set(self) -> Any:
        return self._read(train=True)

    def _read(self, *, train: bool) -> Any:
        published = self._published.pictures
        # The files are pickles: nothing is read from them before their checksums are right.
        if (problem := _problem(published, self.root)) is not None:
            raise DatasetError(problem)
        return published(self.root, train=train)

    def _transform(self, *, augment: bool) -> v2.Compose:
        steps: list[torch.nn.Module] = [v2.ToImage()]
        if augment and self.crop_padding > 0:
            steps.append(v2.RandomCrop(_SIDE, padding=self.crop_padding))
        if augment and self.flip:
            steps.append(v2.RandomHorizontalFlip())
        steps.append(v2.ToDtype(torch.float32, scale=True))
        if self.normalize:
            steps.append(v2.Normalize(self._published.mean, self._published.deviation))
        return v2.Compose([*steps, v2.ToPureTensor()])


def _files(published: Any) -> list[tuple[str, str]]:
    """Return name and md5 of every file of the data set."""
    meta = (published.meta["filename"], published.meta["md5"])
    return [*map(tuple, published.train_list + published.test_list), meta]


def _problem(published: Any, root: Path) -> str | None:
    """Say what is wrong with the first file that is missing or broken, and the remedy."""
    for file, checksum in _files(published):
        path = root / published.base_folder / file
        if not path.is_file():
            return (
                f"{path} is missing; pass download=True and run `prepare_data`, as a Trainer does, "
                f"or unpack {published.url} in {root}"
            )
        if not check_integrity(path, checksum):
            return (
                f"{path} is truncated or corrupted: its md5 is not the published {checksum}; "
                "pass download=True to fetch it anew, or delete it and unpack the archive again"
            )
    return None
