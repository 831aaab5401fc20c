"""What Imagenette and ImageNet share: the augmentation of Table 6 of the AQuaSurF paper.

A training image is a random resized crop, mirrored with probability one half, and goes through
RandAugment. Batches are then mixed by Mixup or CutMix, one of the two at random, on their device
and only while a Trainer trains. For evaluation the image is resized so that the square in its
middle shows the given share of the shorter side.

Images are float32 `[batch, 3, side, side]`, standardised with ImageNet's mean and deviation. Labels
are int64 `[batch]`, or float32 `[batch, classes]` with rows that sum to 1 once a batch is mixed.
"""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Callable
from typing import Any

from torch import Tensor
from torchvision.transforms import v2

from lightning_modules.data._base import ImageDataModule, LoaderOptions, Split
from lightning_modules.data._checks import require_between
from lightning_modules.data._parts import LabelledPictures, Part

_MOST_MAGNITUDE = 10
"""The strongest that timm's RandAugment goes."""


@dataclasses.dataclass(frozen=True)
class CropOptions:
    """How images are cropped, augmented and mixed.

    Attributes:
        image_size: Side of the square images.
        crop_fraction: Share of the shorter side that the centre crop for evaluation shows.
        minimum_area: Smallest share of the image that a random resized crop shows.
        flip: Whether training images are mirrored, each with probability one half.
        randaugment_magnitude: Strength of RandAugment, 0 to 10.
        randaugment_layers: How many operations of RandAugment an image goes through, each applied
            with timm's probability of one half; 0 for none.
        mixup_alpha: Of the Beta distribution from which Mixup draws; 0 for no Mixup.
        cutmix_alpha: Of the Beta distribution from which CutMix draws; 0 for no CutMix.
    """

    image_size: int
    crop_fraction: float
    minimum_area: float
    flip: bool
    randaugment_magnitude: int
    randaugment_layers: int
    mixup_alpha: float
    cutmix_alpha: float

    def check(self, owner: str) -> None:
        """Refuse a number out of its range in the name of `owner`.

        Raises:
            ValueError: If one is.
        """
        require_between(owner, "image_size", self.image_size, 1)
        for name in ("crop_fraction", "minimum_area"):
            if not 0 < getattr(self, name) <= 1:
                raise ValueError(
                    f"{owner}: {name} must be above 0 and at most 1, got {getattr(self, name)!r}"
                )
        magnitude = self.randaugment_magnitude
        require_between(owner, "randaugment_magnitude", magnitude, 0, _MOST_MAGNITUDE)
        for name in ("randaugment_layers", "mixup_alpha", "cutmix_alpha"):
            require_between(owner, name, getattr(self, name), 0)

    def training_transform(self) -> Callable[[Any], Tensor]:
        """Return what makes a training image of a PIL image."""
        policy = f"rand-m{self.randaugment_magnitude}-n{self.randaugment_layers}"
        return _transform(
            self.image_size,
            is_training=True,
            scale=(self.minimum_area, 1.0),
            hflip=0.5 if self.flip else 0.0,
            color_jitter=0.0,
            auto_augment=policy if self.randaugment_layers > 0 else None,
        )

    def evaluation_transform(self) -> Callable[[Any], Tensor]:
        """Return what makes an image for evaluation of a PIL image."""
        return _transform(self.image_size, crop_pct=self.crop_fraction)

    def mixing(self, num_classes: int) -> Callable[[Tensor, Tensor], Any] | None:
        """Return what mixes the images and labels of a batch, or None for nothing."""
        choices: list[Callable[[Tensor, Tensor], Any]] = []
        if self.mixup_alpha > 0:
            choices.append(v2.MixUp(alpha=self.mixup_alpha, num_classes=num_classes))
        if self.cutmix_alpha > 0:
            choices.append(v2.CutMix(alpha=self.cutmix_alpha, num_classes=num_classes))
        return v2.RandomChoice(choices) if choices else None


def _transform(image_size: int, **options: Any) -> Callable[[Any], Tensor]:
    # timm takes a second to import, which those spare who train on other images.
    from timm.data.constants import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
    from timm.data.transforms_factory import create_transform

    transform: Callable[[Any], Tensor] = create_transform(
        image_size, mean=IMAGENET_DEFAULT_MEAN, std=IMAGENET_DEFAULT_STD, **options
    )
    return transform


class CroppedDataModule(ImageDataModule):
    """Mixes the batches of a data set of photographs while a Trainer trains.

    The validation images are those of the test too.

    Args:
        loaders: How batches are made.
        crops: How images are cropped, augmented and mixed.
        num_classes: Number of classes.

    Raises:
        ValueError: If an option is out of its range.
    """

    def __init__(self, loaders: LoaderOptions, crops: CropOptions, *, num_classes: int) -> None:
        super().__init__(loaders)
        crops.check(type(self).__name__)
        self.crops = crops
        self.num_classes = num_classes
        self.image_size = crops.image_size
        self._mix = crops.mixing(num_classes)

    @abc.abstractmethod
    def _pictures(self, folder: str) -> LabelledPictures:
        """Return the images of the folder `train` or `val`.

        Raises:
            DatasetError: If one is missing.
        """

    def _build(self, split: Split) -> Part:
        if split == "train":
            transform = self.crops.training_transform()
            return Part(self._pictures("train"), transform, seed=self.options.seed)
        if split == "test":
            return self.part("validation")
        return Part(self._pictures("val"), self.crops.evaluation_transform())

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:  # noqa: ARG002  # Lightning passes it
        """Mix a training batch; the random numbers are those of torch's global generator."""
        training = self.trainer is not None and self.trainer.training
        if self._mix is None or not training:
            return batch
        images, labels = batch
        return self._mix(images, labels)
