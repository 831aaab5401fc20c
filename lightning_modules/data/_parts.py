"""A part of a data set whose randomness hangs on the seed, the epoch and the image alone.

Every random number that an augmentation draws comes from generators that are seeded for that one
image in that one epoch. So the images of an epoch are the same for any number of worker processes
or devices, after a resumed checkpoint, and whatever else draws random numbers in between; and the
augmentations leave the random numbers of everything else alone.

A *key* is what a sampler hands to a part: the pair (epoch, position), or a position alone, which
stands for epoch 0.
"""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable, Iterator
from typing import Any, Protocol, cast

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, DistributedSampler, get_worker_info

Key = int | tuple[int, int]
"""(epoch, position), or the position alone."""

# Apart from each other, so that no order of images repeats in the noise of another epoch.
_ORDER, _AUGMENTATION = 0, 1


class LabelledPictures(Protocol):
    """What torchvision's data sets are: a sequence of (PIL image, class index)."""

    def __len__(self) -> int:
        """Return the number of images."""

    def __getitem__(self, position: int) -> tuple[Any, int]:
        """Return an image and its class."""


class Part(Dataset[tuple[Tensor, int]]):
    """A part of a data set, transformed.

    Args:
        pictures: The images before the transform.
        transform: Makes a float32 tensor `[3, side, side]` of an image.
        seed: Of the transform's randomness; None for a transform that draws nothing.
    """

    def __init__(
        self,
        pictures: LabelledPictures,
        transform: Callable[[Any], Tensor],
        *,
        seed: int | None = None,
    ) -> None:
        self.pictures = pictures
        self.transform = transform
        self.seed = seed

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, key: Key) -> tuple[Tensor, int]:
        epoch, position = key if isinstance(key, tuple) else (0, key)
        position = range(len(self))[position]
        image, label = self.pictures[position]
        if self.seed is None:
            return self.transform(image), label
        with _seeded(self.seed, _AUGMENTATION, epoch, position):
            return self.transform(image), label


class EpochSampler(DistributedSampler[Key]):
    """Yields the keys of a part in an order that hangs on the seed and the epoch.

    Lightning calls `set_epoch` before each epoch and, as this is a `DistributedSampler`, leaves it
    in place on several devices. Each of them then gets its own share of the images; what does not
    divide evenly is left out.

    Args:
        part: The part to sample.
        seed: Of the order.
        num_replicas: Number of processes that share the images.
        rank: Which of them this one is.
    """

    def __init__(self, part: Part, *, seed: int, num_replicas: int = 1, rank: int = 0) -> None:
        # The parent class adds the epoch to its seed: neighbouring seeds must lie far apart.
        spread = int(np.random.SeedSequence((seed, _ORDER)).generate_state(1)[0])
        super().__init__(
            part, num_replicas=num_replicas, rank=rank, shuffle=True, seed=spread, drop_last=True
        )

    def __iter__(self) -> Iterator[Key]:
        positions = cast("Iterator[int]", super().__iter__())
        return ((self.epoch, position) for position in positions)


@contextlib.contextmanager
def _seeded(*entropy: int) -> Iterator[None]:
    """Seed the generators that torchvision and timm draw from, and put them back afterwards."""
    # A worker process has nothing else that draws, and restoring costs more than seeding.
    keep = get_worker_info() is None
    if keep:
        states = torch.get_rng_state(), np.random.get_state(), random.getstate()  # noqa: NPY002  # as below
    first, second, third = np.random.SeedSequence(entropy).generate_state(3).tolist()
    # `torch.manual_seed` would seed the accelerators' generators too.
    torch.default_generator.manual_seed(first)
    np.random.seed(second)  # noqa: NPY002 - timm draws from numpy's global generator
    random.seed(third)
    try:
        yield
    finally:
        if keep:
            torch.set_rng_state(states[0])
            np.random.set_state(states[1])  # noqa: NPY002  # as above
            random.setstate(states[2])
