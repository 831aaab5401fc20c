"""ImageNet, from a folder, as in Table 6 of the AQuaSurF paper.

1,281,167 training images and 50,000 for validation in 1,000 classes (Russakovsky et al. 2015). The
labels of its test images are not published, so the validation images are those of the test too.
"""

from __future__ import annotations

from pathlib import Path

from torchvision.datasets import ImageFolder

from aquasurf_optuna.exceptions import DatasetError
from lightning_modules.data._base import LoaderOptions
from lightning_modules.data._checks import require_between
from lightning_modules.data._cropped import CropOptions, CroppedDataModule
from lightning_modules.data._files import image_folder


class ImageNetDataModule(CroppedDataModule):
    """ImageNet with random resized crops, RandAugment, and Mixup or CutMix.

    It cannot be downloaded without registering at https://www.image-net.org. Arrange it as
    `train/<class>/<image>.JPEG` and `val/<class>/<image>.JPEG` under `root`, with the same classes
    in both; labels are the classes' places in alphabetical order. `torchvision.datasets.ImageNet`
    unpacks the published archives that way. Any other images in such folders will do as well.

    Args:
        root: Folder in which `train` and `val` lie.
        num_classes: Number of classes.
        batch_size: Images in a training batch; a last, smaller batch is left out.
        image_size: Side of the square images.
        crop_fraction: Share of the shorter side that the centre crop for evaluation shows.
        minimum_area: Smallest share of the image that a random resized crop shows.
        flip: Whether training images are mirrored, each with probability one half.
        randaugment_magnitude: Strength of RandAugment, 0 to 10.
        randaugment_layers: How many operations of RandAugment an image goes through, each applied
            with timm's probability of one half; 0 for none.
        mixup_alpha: Of the Beta distribution from which Mixup draws; 0 for no Mixup.
        cutmix_alpha: Of the Beta distribution from which CutMix draws; 0 for no CutMix. With both,
            each batch is mixed by one of the two.
        eval_batch_size: Images in a batch for validation, test and prediction.
        num_workers: Processes that read and transform, for each loader.
        pin_memory: Whether batches lie in page-locked memory; None for yes where an accelerator
            profits from it.
        seed: Decides order and augmentation of the training images, with the epoch. What Mixup and
            CutMix draw hangs on torch's global generator instead.

    Raises:
        ValueError: If an option is out of its range.
    """

    def __init__(
        self,
        *,
        root: str | Path = "data/imagenet",
        num_classes: int = 1000,
        batch_size: int = 256,
        image_size: int = 160,
        crop_fraction: float = 0.95,
        minimum_area: float = 0.08,
        flip: bool = True,
        randaugment_magnitude: int = 6,
        randaugment_layers: int = 2,
        mixup_alpha: float = 0.1,
        cutmix_alpha: float = 1.0,
        eval_batch_size: int = 500,
        num_workers: int = 2,
        pin_memory: bool | None = None,
        seed: int = 0,
    ) -> None:
        require_between("ImageNetDataModule", "num_classes", num_classes, 2)
        loaders = LoaderOptions(batch_size, eval_batch_size, num_workers, pin_memory, seed)
        crops = CropOptions(
            image_size=image_size,
            crop_fraction=crop_fraction,
            minimum_area=minimum_area,
            flip=flip,
            randaugment_magnitude=randaugment_magnitude,
            randaugment_layers=randaugment_layers,
            mixup_alpha=mixup_alpha,
            cutmix_alpha=cutmix_alpha,
        )
        super().__init__(loaders, crops, num_classes=num_classes)
        self.root = Path(root).expanduser()

    def _pictures(self, folder: str) -> ImageFolder:
        remedy = (
            f"put the images at {self.root / 'train'}/<class>/<image>.JPEG and "
            f"{self.root / 'val'}/<class>/<image>.JPEG; there is no download without registering "
            "at https://www.image-net.org"
        )
        pictures = image_folder(self.root / folder, classes=self._classes(folder), remedy=remedy)
        if len(pictures.classes) != self.num_classes:
            raise DatasetError(
                f"{self.root / folder} holds {len(pictures.classes)} class folders, but "
                f"num_classes={self.num_classes}; {remedy}, or pass their number as num_classes"
            )
        return pictures

    def _classes(self, folder: str) -> list[str] | None:
        """Return the classes that a folder must have: for `val`, those of `train` if it is there.

        A network that is only evaluated needs no training images.
        """
        training = self.root / "train"
        if folder == "train" or not training.is_dir():
            return None
        return sorted(entry.name for entry in training.iterdir() if entry.is_dir())
