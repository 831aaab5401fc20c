"""Imagenette and ImageNet: what becomes of an image and of a batch."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import pytest
import torch
from PIL import Image
from timm.data.auto_augment import RandAugment
from torch import Tensor

from lightning_modules.data._cropped import CroppedDataModule
from lightning_modules.data._parts import Part
from lightning_modules.data.imagenet import ImageNetDataModule
from lightning_modules.data.imagenette import ImagenetteDataModule
from tests.lightning_modules.data.recorder import Batch, Recorder, whole
from tests.lightning_modules.data.stand_ins import write_imagenet, write_imagenette

MakeData = Callable[..., CroppedDataModule]
MEAN = torch.tensor([0.485, 0.456, 0.406]).reshape(3, 1, 1)
DEVIATION = torch.tensor([0.229, 0.224, 0.225]).reshape(3, 1, 1)
BOTH = (ImagenetteDataModule, ImageNetDataModule)


@pytest.fixture(params=["imagenette", "imagenet"])
def make_data(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> MakeData:
    """Make a data module over 20 training and 10 validation images of 10 classes."""
    small: dict[str, Any] = {"root": tmp_path, "batch_size": 4, "num_workers": 0, "image_size": 32}
    if request.param == "imagenette":
        write_imagenette(tmp_path, monkeypatch, train=2, val=1)
        return lambda **options: ImagenetteDataModule(**(small | options))
    write_imagenet(tmp_path, classes=10, train=2, val=1)
    return lambda **options: ImageNetDataModule(**(small | {"num_classes": 10} | options))


def gradient(width: int = 200, height: int = 200) -> Image.Image:
    """Red tells the column, green the row."""
    red = np.broadcast_to(np.arange(width), (height, width))
    green = np.broadcast_to(np.arange(height)[:, None], (height, width))
    return Image.fromarray(np.stack([red, green, 0 * red], axis=-1).astype(np.uint8))


def pixels(image: Tensor) -> Tensor:
    """Undo the standardisation: values 0 to 255."""
    return 255 * (image * DEVIATION + MEAN)


def augmented(count: int, **options: Any) -> list[Tensor]:
    """Training images made of one gradient, as values 0 to 255."""
    crops = ImagenetteDataModule(image_size=100, **options).crops
    part = Part([(gradient(), 0)], crops.training_transform(), seed=0)
    return [pixels(part[epoch, 0][0]) for epoch in range(count)]


def test_the_defaults_are_those_of_table_6() -> None:
    for kind in BOTH:
        data = kind()
        assert data.options.batch_size == 256
        assert data.image_size == 160
        assert data.crops.crop_fraction == 0.95
        assert data.crops.minimum_area == 0.08
        assert (data.crops.randaugment_magnitude, data.crops.randaugment_layers) == (6, 2)
        assert (data.crops.mixup_alpha, data.crops.cutmix_alpha) == (0.1, 1.0)
    assert ImagenetteDataModule().num_classes == 10
    assert ImageNetDataModule().num_classes == 1000


def test_randaugment_has_the_given_magnitude_and_layers() -> None:
    transform: Any = ImageNetDataModule(randaugment_magnitude=6).crops.training_transform()
    (policy,) = (step for step in transform.transforms if isinstance(step, RandAugment))
    assert policy.num_layers == 2
    assert {operation.magnitude for operation in policy.ops} == {6}


def test_randaugment_changes_most_images_and_comes_after_the_crop() -> None:
    plain, changed = augmented(200, randaugment_layers=0), augmented(200)
    differ = [not torch.equal(*pair) for pair in zip(plain, changed, strict=True)]
    # Each of two operations is applied with probability one half, and some change little.
    assert 0.6 < np.mean(differ) < 0.85


def test_random_resized_crops_show_8_percent_or_more() -> None:
    areas = []
    for image in augmented(300, randaugment_layers=0, flip=False):
        red, green = image[0], image[1]
        assert (red.diff(dim=1) > -1).all()
        width, height = red[0, -1] - red[0, 0], green[-1, 0] - green[0, 0]
        areas.append(float((width + 1) * (height + 1)) / 200**2)
    assert 0.07 < min(areas) < 0.12
    assert max(areas) > 0.8


def test_minimum_area_can_be_chosen() -> None:
    for image in augmented(20, randaugment_layers=0, flip=False, minimum_area=1.0):
        assert image[0].max() - image[0].min() > 0.7 * 200


def test_half_of_the_training_images_are_mirrored() -> None:
    mirrored = [
        bool(image[0, 0, 0] > image[0, 0, -1]) for image in augmented(200, randaugment_layers=0)
    ]
    assert 0.4 < np.mean(mirrored) < 0.6


@pytest.mark.parametrize(("width", "height"), [(200, 200), (250, 180), (160, 240)])
def test_evaluation_shows_the_middle_95_percent_of_the_shorter_side(
    width: int, height: int
) -> None:
    image = pixels(ImageNetDataModule().crops.evaluation_transform()(gradient(width, height)))
    assert image.shape == (3, 160, 160)
    shorter = min(width, height)
    for values, side in ((image[0, 80], width), (image[1, :, 80], height)):
        first, last = float(values[0]), float(values[-1])
        assert (first + last) / 2 == pytest.approx((side - 1) / 2, abs=1)
        assert (last - first) / shorter == pytest.approx(0.95, abs=0.015)


def test_batches_have_the_promised_shapes(make_data: MakeData) -> None:
    data = make_data(eval_batch_size=7)
    training = list(data.train_dataloader())
    assert len(training) == 5
    for images, labels in training:
        assert images.shape == (4, 3, 32, 32)
        assert images.dtype == torch.float32
        assert labels.dtype == torch.int64
    assert sorted(whole(training)[1].tolist()) == sorted([*range(10)] * 2)
    for loader in (data.val_dataloader(), data.test_dataloader(), data.predict_dataloader()):
        batches = list(loader)
        assert [len(labels) for _, labels in batches] == [7, 3]
        assert whole(batches)[1].tolist() == list(range(10))


def test_training_batches_hang_on_the_seed_and_not_on_the_workers(make_data: MakeData) -> None:
    images, labels = whole(make_data(seed=1).train_dataloader())
    torch.manual_seed(4)
    np.random.seed(4)  # noqa: NPY002
    again, labels_again = whole(make_data(seed=1, num_workers=2).train_dataloader())
    assert torch.equal(images, again)
    assert torch.equal(labels, labels_again)
    others, other_labels = whole(make_data(seed=2).train_dataloader())
    assert not torch.equal(labels, other_labels)
    assert not torch.equal(images, others)


def test_evaluation_is_the_same_for_every_seed(make_data: MakeData) -> None:
    one, two = make_data(seed=1), make_data(seed=2)
    images, labels = whole(one.val_dataloader())
    for loader in (one.test_dataloader(), two.val_dataloader()):
        again, labels_again = whole(loader)
        assert torch.equal(images, again)
        assert torch.equal(labels, labels_again)


def test_the_test_images_are_those_of_validation(make_data: MakeData) -> None:
    data = make_data()
    data.setup()
    assert data.part("test") is data.part("validation")


@pytest.mark.filterwarnings("ignore:.*does not have many workers")
def test_only_training_batches_are_mixed(
    make_data: MakeData, make_trainer: Callable[..., L.Trainer]
) -> None:
    recorder, data = Recorder(), make_data()
    trainer = make_trainer(max_epochs=2, limit_val_batches=1.0)
    trainer.fit(recorder, datamodule=data)
    trainer.validate(recorder, datamodule=data, verbose=False)
    trainer.test(recorder, datamodule=data, verbose=False)
    trainer.predict(recorder, datamodule=data)
    mixed = recorder.seen.pop(("train", 0)) + recorder.seen.pop(("train", 1))
    assert len(mixed) == 10
    for _, targets in mixed:
        assert targets.shape == (4, 10)
        assert targets.dtype == torch.float32
        assert targets.sum(dim=1).numpy() == pytest.approx(np.ones(4), abs=1e-6)
    assert any(targets.max() < 1 for _, targets in mixed)
    assert {stage for stage, _ in recorder.seen} == {"validation", "test", "predict"}
    plain = list(data.val_dataloader())
    for batches in recorder.seen.values():
        images, labels = whole(batches[-len(plain) :])
        assert torch.equal(images, whole(plain)[0])
        assert torch.equal(labels, whole(plain)[1])


class Training:
    """Stands for a Trainer that is training."""

    training = True


def mixed(count: int, **options: Any) -> list[Batch]:
    """Mix a batch, again and again, whose images show their label in every pixel."""
    data: Any = ImagenetteDataModule(**options)
    data.trainer = Training()
    labels = torch.arange(8)
    images = labels.float().reshape(8, 1, 1, 1).expand(8, 3, 16, 16)
    return [data.on_after_batch_transfer([images, labels], 0) for _ in range(count)]


def is_cut(images: Tensor) -> bool:
    """Whether images of one value each show two values now."""
    return bool((images.amax(dim=(1, 2, 3)) != images.amin(dim=(1, 2, 3))).any())


def test_soft_targets_are_the_shares_of_the_images() -> None:
    for images, targets in mixed(60):
        shown = images.mean(dim=(1, 2, 3))
        assert torch.allclose(targets @ torch.arange(10.0), shown, atol=1e-4)
        assert (targets > 0).sum(dim=1).max() <= 2


def test_each_batch_is_mixed_by_one_of_the_two_at_random() -> None:
    batches = mixed(200)
    cut = [is_cut(images) for images, _ in batches]
    # A cut out of the picture's edge, or none, is rare.
    assert 0.35 < np.mean(cut) < 0.6
    assert not any(is_cut(images) for images, _ in mixed(50, cutmix_alpha=0.0))
    assert np.mean([is_cut(images) for images, _ in mixed(50, mixup_alpha=0.0)]) > 0.8


def test_mixup_with_a_small_alpha_mostly_leaves_an_image_as_it_is() -> None:
    shares = torch.stack([targets.amax(dim=1)[0] for _, targets in mixed(400, cutmix_alpha=0.0)])
    # Of Beta(0.1, 0.1), 64% lies within 0.01 of 0 or 1; of Beta(1, 1), 2%.
    assert 0.55 < (shares > 0.99).float().mean() < 0.75


def test_mixing_draws_from_the_generator_of_torch() -> None:
    torch.manual_seed(1)
    first = mixed(3)
    torch.manual_seed(1)
    again = mixed(3)
    assert torch.equal(whole(first)[0], whole(again)[0])
    assert not torch.equal(whole(first)[0], whole(mixed(3))[0])


def test_without_an_alpha_labels_stay() -> None:
    ((images, labels),) = mixed(1, mixup_alpha=0.0, cutmix_alpha=0.0)
    assert labels.tolist() == list(range(8))
    assert not is_cut(images)


@pytest.mark.parametrize("kind", BOTH)
@pytest.mark.parametrize(
    ("option", "value", "allowed"),
    [
        ("image_size", 0, "1 or more"),
        ("crop_fraction", 0.0, "above 0 and at most 1"),
        ("minimum_area", 1.5, "above 0 and at most 1"),
        ("randaugment_magnitude", 11, "between 0 and 10"),
        ("randaugment_layers", -1, "0 or more"),
        ("mixup_alpha", float("nan"), "0 or more"),
        ("cutmix_alpha", -0.5, "0 or more"),
        ("batch_size", 0, "1 or more"),
    ],
)
def test_options_out_of_range_are_refused(
    kind: Any, option: str, value: float, allowed: str
) -> None:
    with pytest.raises(
        ValueError, match=f"{kind.__name__}: {option} must be {allowed}, got {value}"
    ):
        kind(**{option: value})


def test_one_class_is_refused() -> None:
    with pytest.raises(ValueError, match="num_classes must be 2 or more, got 1"):
        ImageNetDataModule(num_classes=1)
