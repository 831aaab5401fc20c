"""Imagenette as in Table 6 of the AQuaSurF paper: ten classes of ImageNet at 160 pixels.

9,469 training images and 3,925 for validation (Howard 2019), with a shorter side of 160 pixels.
There are no others with published labels, so the validation images are those of the test too.
"""

from __future__ import annotations

from pathlib import Path

from torchvision.datasets import ImageFolder, Imagenette

from aquasurf_optuna.exceptions import DatasetError
from lightning_modules.data._base import LoaderOptions
from lightning_modules.data._cropped import CropOptions, CroppedDataModule
from lightning_modules.data._files import fetching, image_folder

FOLDER = "imagenette2-160"
ADDRESS = f"https://s3.amazonaws.com/fast-ai-imageclas/{FOLDER}.tgz"
IMAGES = {"train": 9469, "val": 3925}
"""How many images each folder of the published archive holds."""
CLASSES = (
    "n01440764",
    "n02102040",
    "n02979186",
    "n03000684",
    "n03028079",
    "n03394916",
    "n03417042",
    "n03425413",
    "n03445777",
    "n03888257",
)
"""WordNet's names of the classes, which are the names of their folders, in the order of labels."""


class ImagenetteDataModule(CroppedDataModule):
    """Imagenette with random resized crops, RandAugment, and Mixup or CutMix.

    Args:
        root: Folder in which `imagenette2-160` lies.
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
        download: Whether `prepare_data` fetches the data set where it is missing (99 MB).

    Raises:
        ValueError: If an option is out of its range.
    """

    def __init__(
        self,
        *,
        root: str | Path = "data",
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
        download: bool = False,
    ) -> None:
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
        super().__init__(loaders, crops, num_classes=len(CLASSES))
        self.root = Path(root).expanduser()
        self.download = download

    def prepare_data(self) -> None:
        """Fetch the data set if asked to and if it is missing.

        Raises:
            DatasetError: If the download fails.
        """
        target = self.root / FOLDER
        if not self.download or target.exists():
            return
        with fetching(ADDRESS, self.root) as scratch:
            Imagenette(scratch, size="160px", download=True)
            try:
                (scratch / FOLDER).rename(target)
            except OSError:
                # Another run may have been faster; its folder is as good.
                if not target.exists():
                    raise

    def _pictures(self, folder: str) -> ImageFolder:
        whole = self.root / FOLDER
        fetch = "pass download=True and run `prepare_data`, as a Trainer does"
        if not whole.exists():
            raise DatasetError(f"{whole} is missing; {fetch}, or unpack {ADDRESS} in {self.root}")
        remedy = f"delete {whole}, {fetch}"
        pictures = image_folder(whole / folder, classes=CLASSES, remedy=remedy)
        if len(pictures) != IMAGES[folder]:
            raise DatasetError(
                f"{whole / folder} is incomplete: it holds {len(pictures)} images, the published "
                f"one {IMAGES[folder]}; {remedy}"
            )
        return pictures
