"""Handwritten digits that need no download: plain, or made hard enough to compare functions on.

The images are scikit-learn's `load_digits` (1,797 images of 8x8, values 0 to 16; Alpaydin and
Kaynak 1998, the UCI optical digits), scaled to [0, 1] here. On the plain images every good
activation function reaches the same accuracy within the noise of the seed, so that a search proves
nothing. The harder form (`HARDER`) puts each digit at a random place on a larger canvas, adds
another one, mirrored and faint, and Gaussian noise, anew in every epoch.

Shapes: `images` are float32 `[n, 1, side, side]`, `side` being the canvas times its enlargement,
standardised to mean 0 and variance 1 over the training images; `labels` are int64 `[n]`.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterator
from typing import Literal, NamedTuple

import lightning as L
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor

from lightning_modules.data._checks import require_between

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test")
SPLIT_SIZES: dict[Split, int] = {"train": 900, "validation": 450, "test": 447}

_SPLIT_SEED = 0
_SIDE = 8
_CLASSES = 10


@dataclasses.dataclass(frozen=True)
class DigitsTask:
    """What is done to the 8x8 images.

    Attributes:
        canvas: Side of the square image on which the digit is placed at random, 8 or more.
        clutter: Weight at which another digit of the same split, mirrored, is added.
        noise: Standard deviation of the Gaussian noise that is added to every pixel.
        enlarge: Factor on the side of the finished canvas, filled in bilinearly.

    Raises:
        ValueError: If the canvas is smaller than a digit, a strength is negative, or the factor is
            below 1.
    """

    canvas: int = 10
    clutter: float = 0.2
    noise: float = 0.25
    enlarge: int = 1

    def __post_init__(self) -> None:
        if self.canvas < _SIDE:
            raise ValueError(
                f"DigitsTask: canvas must be {_SIDE} or more to hold a digit, got {self.canvas!r}"
            )
        for name in ("clutter", "noise"):
            require_between("DigitsTask", name, getattr(self, name), 0)
        require_between("DigitsTask", "enlarge", self.enlarge, 1)

    @property
    def side(self) -> int:
        """Side of the square images."""
        return self.canvas * self.enlarge

    @property
    def is_random(self) -> bool:
        """Whether two renderings of one image differ."""
        return self.canvas > _SIDE or self.clutter > 0 or self.noise > 0


HARDER = DigitsTask()
"""Random place on a 10x10 canvas, clutter and noise: tells activation functions apart."""
PLAIN = DigitsTask(canvas=_SIDE, clutter=0.0, noise=0.0)
"""The images as they are."""
LARGE = DigitsTask(canvas=_SIDE, clutter=0.0, noise=0.0, enlarge=4)
"""The images as they are, at the 32x32 that networks for CIFAR expect."""


class LabelledImages(NamedTuple):
    """Images `[n, 1, side, side]` with their labels `[n]`."""

    images: Tensor
    labels: Tensor


class BatchLoader:
    """Iterates over batches that are rendered for a whole epoch at once.

    It stands where a `DataLoader` would: one image costs microseconds here, so worker processes and
    collation would cost more than the work. What it yields depends on the epoch alone, so that
    iterating twice, or peeking at the first batch, changes nothing.

    Args:
        render: Returns the images of an epoch, in the order of the batches.
        size: Number of images in an epoch.
        batch_size: Images in a batch.
        drop_last: Whether a last, smaller batch is left out.
    """

    batch_sampler = None
    """Lightning looks for it wherever it finds a `sampler`."""

    def __init__(
        self,
        render: Callable[[int], LabelledImages],
        *,
        size: int,
        batch_size: int,
        drop_last: bool = False,
    ) -> None:
        self.render = render
        self.epoch = 0
        last = size - batch_size + 1 if drop_last else size
        self.starts = range(0, max(last, 1), batch_size)
        self.batch_size = batch_size

    @property
    def sampler(self) -> BatchLoader:
        """Itself: Lightning calls `set_epoch` on the `sampler` of a loader before each epoch."""
        return self

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch that the next iteration renders."""
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.starts)

    def __iter__(self) -> Iterator[LabelledImages]:
        # A generator: the epoch is read at the first batch, after Lightning has set it.
        images, labels = self.render(self.epoch)
        for start in self.starts:
            chosen = slice(start, start + self.batch_size)
            yield LabelledImages(images[chosen], labels[chosen])


class DigitsDataModule(L.LightningDataModule):
    """The digits in three fixed parts: 900 for training, 450 for validation, 447 for the test.

    The parts are stratified by class and the same for every seed, and so are the rendered
    validation and test images.

    Args:
        task: What is done to the images; `HARDER`, `PLAIN` or `LARGE`, or settings of your own.
        batch_size: Images in a training batch; a last, smaller batch is left out.
        eval_copies: How many renderings of each validation and test image are evaluated; tasks
            without randomness have one.
        eval_batch_size: Images in a validation or test batch.
        seed: Decides order, places, clutter and noise of the training images, with the epoch.

    Raises:
        ValueError: If a size is below 1, or the training batch is larger than the training part.

    Attributes:
        num_classes: Number of classes, 10.
        image_size: Side of the square images.
    """

    def __init__(
        self,
        task: DigitsTask = HARDER,
        *,
        batch_size: int = 50,
        eval_copies: int = 5,
        eval_batch_size: int = 450,
        seed: int = 0,
    ) -> None:
        super().__init__()
        require_between("DigitsDataModule", "batch_size", batch_size, 1, SPLIT_SIZES["train"])
        require_between("DigitsDataModule", "eval_copies", eval_copies, 1)
        require_between("DigitsDataModule", "eval_batch_size", eval_batch_size, 1)
        require_between("DigitsDataModule", "seed", seed, 0)
        self.task = task
        self.batch_size = batch_size
        self.eval_copies = eval_copies if task.is_random else 1
        self.eval_batch_size = eval_batch_size
        self.seed = seed
        self.num_classes = _CLASSES
        self.image_size = task.side

    def training_images(self, epoch: int) -> LabelledImages:
        """Return the 900 training images of an epoch, shuffled."""
        return _render("train", self.task, (self.seed, epoch), shuffle=True)

    def evaluation_images(self, split: Split) -> LabelledImages:
        """Return every fixed rendering of a split's images, copy after copy."""
        return _evaluation_images(split, self.task, self.eval_copies)

    def train_dataloader(self) -> BatchLoader:
        """Return the loader of the training images."""
        return BatchLoader(
            self.training_images,
            size=SPLIT_SIZES["train"],
            batch_size=self.batch_size,
            drop_last=True,
        )

    def val_dataloader(self) -> BatchLoader:
        """Return the loader of the fixed validation images."""
        return self._evaluation_loader("validation")

    def test_dataloader(self) -> BatchLoader:
        """Return the loader of the fixed test images."""
        return self._evaluation_loader("test")

    def predict_dataloader(self) -> BatchLoader:
        """Return the loader of the fixed test images; its batches hold the labels too."""
        return self.test_dataloader()

    def _evaluation_loader(self, split: Split) -> BatchLoader:
        return BatchLoader(
            lambda _: self.evaluation_images(split),
            size=SPLIT_SIZES[split] * self.eval_copies,
            batch_size=self.eval_batch_size,
        )


@functools.cache
def digits_split(split: Split) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return the images `[n, 8, 8]` in [0, 1] and the labels `[n]` of one part."""
    pixels, labels = load_digits(return_X_y=True)
    rest = np.arange(len(labels))
    parts = {}
    for name in SPLITS[:-1]:
        parts[name], rest = train_test_split(
            rest, train_size=SPLIT_SIZES[name], stratify=labels[rest], random_state=_SPLIT_SEED
        )
    chosen = parts.get(split, rest)
    images = (pixels[chosen] / 16.0).astype(np.float32).reshape(-1, _SIDE, _SIDE)
    return images, labels[chosen].astype(np.int64)


def _draw(
    split: Split, task: DigitsTask, seed: tuple[int, ...], *, shuffle: bool
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Render a whole split once, before standardisation: images `[n, side, side]`, labels."""
    images, labels = digits_split(split)
    rng = np.random.default_rng((SPLITS.index(split), *seed))
    if shuffle:
        order = rng.permutation(len(labels))
        images, labels = images[order], labels[order]
    canvases = _placed(images, task.canvas, rng)
    if task.clutter > 0:
        others = images[rng.integers(len(images), size=len(images))]
        canvases += task.clutter * _placed(others[:, :, ::-1], task.canvas, rng)
    if task.noise > 0:
        canvases += task.noise * rng.standard_normal(canvases.shape, dtype=np.float32)
    return _enlarged(canvases, task.enlarge), labels


def _enlarged(canvases: NDArray[np.float32], factor: int) -> NDArray[np.float32]:
    if factor == 1:
        return canvases
    images = torch.from_numpy(canvases).unsqueeze(1)
    enlarged = F.interpolate(images, scale_factor=factor, mode="bilinear", align_corners=False)
    return enlarged.squeeze(1).numpy()


def _placed(
    images: NDArray[np.float32], canvas: int, rng: np.random.Generator
) -> NDArray[np.float32]:
    """Put each image at a random place on its own empty canvas."""
    count = len(images)
    corners = rng.integers(canvas - _SIDE + 1, size=(2, count, 1))
    rows, columns = corners + np.arange(_SIDE)
    canvases = np.zeros((count, canvas, canvas), dtype=np.float32)
    canvases[np.arange(count)[:, None, None], rows[:, :, None], columns[:, None, :]] = images
    return canvases


@functools.lru_cache(maxsize=8)
def _standard(task: DigitsTask) -> tuple[float, float]:
    """Mean and standard deviation of a task's training pixels, the same for every seed."""
    canvases, _ = _draw("train", task, (_SPLIT_SEED,), shuffle=False)
    return float(canvases.mean()), float(canvases.std())


def _render(
    split: Split, task: DigitsTask, seed: tuple[int, ...], *, shuffle: bool
) -> LabelledImages:
    canvases, labels = _draw(split, task, seed, shuffle=shuffle)
    mean, deviation = _standard(task)
    images = torch.from_numpy((canvases - mean) / deviation).unsqueeze(1)
    return LabelledImages(images, torch.from_numpy(labels))


@functools.lru_cache(maxsize=8)
def _evaluation_images(split: Split, task: DigitsTask, copies: int) -> LabelledImages:
    # They are kept, so they must not become tensors that gradients can never pass, although a
    # Trainer asks for them in inference mode.
    with torch.inference_mode(False):
        rendered = [
            _render(split, task, (_SPLIT_SEED, copy), shuffle=False) for copy in range(copies)
        ]
        images, labels = zip(*rendered, strict=True)
        return LabelledImages(torch.cat(images), torch.cat(labels))
