"""Imagenette and ImageNet: what stands in the way of reading them is named, with the remedy."""

import shutil
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from aquasurf_optuna.exceptions import DatasetError
from lightning_modules.data._cropped import CroppedDataModule
from lightning_modules.data.imagenet import ImageNetDataModule
from lightning_modules.data.imagenette import FOLDER, ImagenetteDataModule
from tests.lightning_modules.data.recorder import whole
from tests.lightning_modules.data.stand_ins import write_imagenet, write_imagenette

SMALL: dict[str, Any] = {"batch_size": 4, "image_size": 32}
IMAGENETTE_REMEDY = r"delete .*imagenette2-160, pass download=True and run `prepare_data`"
IMAGENET_REMEDY = (
    r"put the images at .*train/<class>/<image>.JPEG and .*val/<class>/<image>.JPEG; .* "
    r"https://www.image-net.org"
)


class Stored:
    """A data set on disk: the folder of `train` and `val`, a module over it, and the remedy."""

    def __init__(self, folder: Path, make: Callable[..., CroppedDataModule], remedy: str) -> None:
        self.folder = folder
        self.make = make
        self.remedy = remedy

    def classes(self, part: str) -> list[Path]:
        return sorted((self.folder / part).iterdir())

    def first_image(self, part: str) -> Path:
        return min(self.classes(part)[1].iterdir())


@pytest.fixture(params=["imagenette", "imagenet"])
def stored(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Stored:
    if request.param == "imagenette":
        folder = write_imagenette(tmp_path, monkeypatch)

        def imagenette(**options: Any) -> CroppedDataModule:
            return ImagenetteDataModule(root=tmp_path, **(SMALL | {"num_workers": 0} | options))

        return Stored(folder, imagenette, IMAGENETTE_REMEDY)

    def imagenet(**options: Any) -> CroppedDataModule:
        defaults = SMALL | {"num_workers": 0, "num_classes": 10}
        return ImageNetDataModule(root=tmp_path, **(defaults | options))

    return Stored(write_imagenet(tmp_path, classes=10), imagenet, IMAGENET_REMEDY)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-800])


def spoil_the_header(path: Path) -> None:
    path.write_bytes(b"\x00" * 20 + path.read_bytes()[20:])


def write_text(path: Path) -> None:
    path.write_text("404: not found")


def empty(path: Path) -> None:
    path.write_bytes(b"")


@pytest.mark.parametrize("num_workers", [0, 2], ids=["here", "in a worker"])
@pytest.mark.parametrize("damage", [truncate, spoil_the_header, write_text, empty])
def test_an_unreadable_image_is_named_wherever_it_is_read(
    damage: Callable[[Path], None], num_workers: int, stored: Stored
) -> None:
    path = stored.first_image("val")
    damage(path)
    data = stored.make(num_workers=num_workers)
    with pytest.raises(
        DatasetError, match=rf"{path.name} cannot be read as an image \(.*\): .*; {stored.remedy}"
    ) as caught:
        list(data.val_dataloader())
    # Torch's frame that raises a worker's error holds it in a cycle: the workers would be told to
    # stop only by the garbage collector, which takes 5 seconds.
    traceback.clear_frames(caught.tb)


def test_an_unreadable_training_image_is_named(stored: Stored) -> None:
    truncate(stored.first_image("train"))
    with pytest.raises(DatasetError, match=rf"{stored.first_image('train').name} cannot be read"):
        list(stored.make().train_dataloader())


@pytest.mark.parametrize("part", ["train", "val"])
def test_an_empty_class_folder_is_named(part: str, stored: Stored) -> None:
    place = stored.classes(part)[2]
    for image in place.iterdir():
        image.rename(image.with_suffix(".txt"))
    with pytest.raises(
        DatasetError, match=rf"{part}/{place.name} holds no images; {stored.remedy}"
    ):
        stored.make().setup("fit")


def test_a_missing_class_folder_is_named(stored: Stored) -> None:
    place = stored.classes("val")[2]
    shutil.rmtree(place)
    with pytest.raises(DatasetError, match=rf"val/{place.name} is missing; {stored.remedy}"):
        stored.make().setup("test")


def test_a_class_folder_too_many_is_named(stored: Stored) -> None:
    shutil.copytree(stored.classes("val")[2], stored.folder / "val" / "n99")
    with pytest.raises(
        DatasetError, match=rf"val/n99 is no class of this data set; {stored.remedy}"
    ):
        stored.make().setup("predict")


@pytest.mark.parametrize("part", ["train", "val"])
def test_a_missing_or_empty_part_is_named(part: str, stored: Stored) -> None:
    shutil.rmtree(stored.folder / part)
    with pytest.raises(DatasetError, match=rf"/{part} is missing or no folder; {stored.remedy}"):
        stored.make().setup()
    (stored.folder / part).mkdir()
    with pytest.raises(DatasetError, match=rf"/{part} holds no class folders; {stored.remedy}"):
        stored.make().setup()


def test_without_the_data_set_the_remedy_is_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(
        DatasetError,
        match=rf"{FOLDER} is missing; pass download=True .*, or unpack https://\S+\.tgz in ",
    ):
        ImagenetteDataModule(root=tmp_path).setup("fit")
    with pytest.raises(DatasetError, match=rf"/train is missing or no folder; {IMAGENET_REMEDY}"):
        ImageNetDataModule(root=tmp_path).setup("fit")


def test_an_imagenette_with_fewer_images_than_published_is_incomplete(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_imagenette(tmp_path, monkeypatch)
    next((folder / "train" / "n03028079").iterdir()).unlink()
    with pytest.raises(
        DatasetError,
        match=rf"/train is incomplete: it holds 19 images, .* one 20; {IMAGENETTE_REMEDY}",
    ):
        ImagenetteDataModule(root=tmp_path).setup("fit")


def test_a_number_of_classes_that_is_not_that_of_the_folders_is_refused(tmp_path: Path) -> None:
    write_imagenet(tmp_path, classes=3)
    with pytest.raises(
        DatasetError, match=r"/train holds 3 class folders, but num_classes=1000; put .* or pass"
    ):
        ImageNetDataModule(root=tmp_path).setup("fit")


def test_imagenet_can_be_evaluated_without_its_training_images(tmp_path: Path) -> None:
    write_imagenet(tmp_path, classes=3)
    data = ImageNetDataModule(root=tmp_path, num_classes=3, num_workers=0)
    images, labels = whole(data.test_dataloader())
    shutil.rmtree(tmp_path / "train")
    alone = ImageNetDataModule(root=tmp_path, num_classes=3, num_workers=0)
    alone.setup("test")
    assert torch.equal(whole(alone.test_dataloader())[0], images)
    assert labels.tolist() == [0, 0, 1, 1, 2, 2]
