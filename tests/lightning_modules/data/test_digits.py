from collections import Counter
from collections.abc import Callable

import lightning as L
import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

from lightning_modules.classifier import Classifier
from lightning_modules.data.digits import (
    HARDER,
    LARGE,
    PLAIN,
    SPLIT_SIZES,
    SPLITS,
    BatchLoader,
    DigitsDataModule,
    DigitsTask,
    LabelledImages,
    digits_split,
)

PLACED = DigitsTask(clutter=0.0, noise=0.0)


def unstandardised(images: Tensor) -> np.ndarray:
    """Undo a standardisation of images whose darkest pixel is 0 and brightest is 1."""
    low, high = images.min(), images.max()
    return ((images - low) / (high - low)).squeeze(1).numpy()


def test_parts_are_the_whole_data_set_each_image_once() -> None:
    pixels, labels = load_digits(return_X_y=True)
    whole = Counter(zip(map(bytes, (pixels / 16).astype(np.float32)), labels, strict=True))
    parts: Counter[tuple[bytes, int]] = Counter()
    for split in SPLITS:
        images, classes = digits_split(split)
        assert len(images) == len(classes) == SPLIT_SIZES[split]
        parts += Counter(zip(map(bytes, images.reshape(-1, 64)), classes, strict=True))
        shares = np.bincount(classes) / np.bincount(labels)
        assert shares == pytest.approx(np.full(10, len(classes) / 1797), rel=0.03)
    assert parts == whole


def test_plain_images_are_the_digits_as_they_are() -> None:
    images, labels = digits_split("train")
    rendered = DigitsDataModule(PLAIN).training_images(0)
    assert rendered.images.shape == (900, 1, 8, 8)
    assert rendered.images.dtype == torch.float32
    assert rendered.labels.dtype == torch.int64
    expected = Counter(zip(map(bytes, np.round(images * 16)), labels, strict=True))
    found = np.round(unstandardised(rendered.images) * 16)
    assert Counter(zip(map(bytes, found), rendered.labels.tolist(), strict=True)) == expected


def test_harder_images_are_standardised() -> None:
    images, _ = DigitsDataModule().training_images(3)
    assert images.shape == (900, 1, 10, 10)
    assert images.mean().item() == pytest.approx(0.0, abs=0.02)
    assert images.std().item() == pytest.approx(1.0, abs=0.02)


def test_digits_stand_whole_at_every_place() -> None:
    images, labels = DigitsDataModule(PLACED).evaluation_images("validation")
    originals, classes = digits_split("validation")
    canvases = unstandardised(images).reshape(5, 450, 10, 10)
    assert labels.reshape(5, 450).tolist() == [classes.tolist()] * 5
    places: Counter[tuple[int, int]] = Counter()
    for digit, canvas in zip(originals, canvases[0], strict=True):
        fits = [
            (row, column)
            for row in range(3)
            for column in range(3)
            if np.allclose(canvas[row : row + 8, column : column + 8], digit, atol=1e-5)
            and canvas.sum() == pytest.approx(digit.sum(), rel=1e-4)
        ]
        assert fits
        places[fits[0]] += 1
    assert len(places) == 9


def test_clutter_is_a_faint_mirrored_digit_of_the_same_part() -> None:
    task = DigitsTask(canvas=8, clutter=0.25, noise=0.0)
    images, _ = DigitsDataModule(task).evaluation_images("test")
    originals, _ = digits_split("test")
    mirrored = {bytes(np.round(16 * image[:, ::-1])) for image in originals}
    # The brightest pixel is 1 in the digit and in the clutter.
    sums = 1.25 * unstandardised(images)[: len(originals)]
    clutter = (sums - originals) / 0.25
    assert all(bytes(np.round(16 * image) + 0.0) in mirrored for image in clutter)


def test_noise_has_the_given_deviation() -> None:
    noisy = DigitsDataModule(DigitsTask(canvas=8, clutter=0.0, noise=0.5))
    images, _ = noisy.evaluation_images("test")
    copies = images.reshape(5, 447, 8, 8)
    spread = copies.std(dim=0, correction=1).pow(2).mean().sqrt()
    clean, _ = digits_split("train")
    scale = np.sqrt(clean.var() + 0.25)
    assert spread.item() == pytest.approx(0.5 / scale, rel=0.02)


def test_training_images_depend_on_seed_and_epoch_alone() -> None:
    first = DigitsDataModule(seed=1)
    torch.manual_seed(5)
    before = torch.get_rng_state()
    images, labels = first.training_images(4)
    assert torch.equal(before, torch.get_rng_state())
    again = DigitsDataModule(seed=1).training_images(4)
    assert torch.equal(images, again.images)
    assert torch.equal(labels, again.labels)
    for other in (first.training_images(5), DigitsDataModule(seed=2).training_images(4)):
        assert not torch.equal(labels, other.labels)
        assert not torch.equal(images.sort(0).values, other.images.sort(0).values)


@pytest.mark.parametrize("split", ["validation", "test"])
def test_evaluation_images_are_fixed(split: str) -> None:
    one = DigitsDataModule(seed=1).evaluation_images(split)  # type: ignore[arg-type]
    two = DigitsDataModule(seed=2).evaluation_images(split)  # type: ignore[arg-type]
    assert torch.equal(one.images, two.images)
    copies = one.images.chunk(5)
    assert not torch.equal(copies[0], copies[1])
    labels = one.labels.chunk(5)
    assert torch.equal(labels[0], labels[1])


def test_plain_evaluation_has_one_copy() -> None:
    assert len(DigitsDataModule(PLAIN).evaluation_images("test").images) == SPLIT_SIZES["test"]


def test_a_loader_is_cut_into_batches_and_peeking_changes_nothing() -> None:
    data = DigitsDataModule(batch_size=64, seed=3)
    loader = data.train_dataloader()
    loader.set_epoch(2)
    before = torch.get_rng_state()
    peeked = next(iter(loader))
    batches = list(loader)
    assert torch.equal(before, torch.get_rng_state())
    assert torch.equal(peeked.images, batches[0].images)
    assert len(batches) == len(loader) == 14
    assert {len(batch.labels) for batch in batches} == {64}
    whole = data.training_images(2)
    assert torch.equal(torch.cat([batch.images for batch in batches]), whole.images[: 14 * 64])
    assert len(DigitsDataModule(batch_size=900).train_dataloader()) == 1


def test_evaluation_loaders_leave_nothing_out() -> None:
    data = DigitsDataModule(eval_batch_size=1000)
    for loader, split in ((data.val_dataloader(), "validation"), (data.test_dataloader(), "test")):
        sizes = [len(batch.labels) for batch in loader]
        assert sum(sizes) == 5 * SPLIT_SIZES[split]  # type: ignore[index]
        assert len(sizes) == len(loader) == 3


def test_a_loader_keeps_a_last_small_batch_unless_told() -> None:
    everything = LabelledImages(torch.zeros(5, 1, 8, 8), torch.arange(5))
    loader = BatchLoader(lambda _: everything, size=5, batch_size=2)
    assert [batch.labels.tolist() for batch in loader] == [[0, 1], [2, 3], [4]]


def test_lightning_trains_on_fresh_images_every_epoch(
    make_trainer: Callable[..., L.Trainer],
) -> None:
    seen: list[Tensor] = []

    class Recorder(Classifier):
        def training_step(self, batch: tuple[Tensor, Tensor]) -> Tensor:
            seen.append(batch[0])
            return super().training_step(batch)

    data = DigitsDataModule(batch_size=450, seed=7)
    network = nn.Sequential(nn.Flatten(), nn.Linear(100, 10))
    make_trainer(max_epochs=3).fit(Recorder(network), datamodule=data)
    expected = [data.training_images(epoch).images for epoch in range(3)]
    assert torch.equal(torch.cat(seen), torch.cat(expected))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"batch_size": 0}, "batch_size must be between 1 and 900, got 0"),
        ({"batch_size": 901}, "batch_size must be between 1 and 900, got 901"),
        ({"eval_copies": 0}, "eval_copies must be 1 or more, got 0"),
        ({"eval_batch_size": -1}, "eval_batch_size must be 1 or more, got -1"),
        ({"seed": -1}, "seed must be 0 or more, got -1"),
    ],
)
def test_sizes_out_of_range_are_refused(settings: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=f"DigitsDataModule: {message}"):
        DigitsDataModule(**settings)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"canvas": 7}, "canvas must be 8 or more to hold a digit, got 7"),
        ({"clutter": -0.1}, "clutter must be 0 or more, got -0.1"),
        ({"noise": float("nan")}, "noise must be 0 or more, got nan"),
        ({"enlarge": 0}, "enlarge must be 1 or more, got 0"),
    ],
)
def test_impossible_tasks_are_refused(settings: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=f"DigitsTask: {message}"):
        DigitsTask(**settings)  # type: ignore[arg-type]


def test_large_images_are_the_plain_ones_enlarged_bilinearly() -> None:
    plain = DigitsDataModule(PLAIN).evaluation_images("validation")
    large = DigitsDataModule(LARGE).evaluation_images("validation")
    assert large.images.shape == (450, 1, 32, 32)
    assert torch.equal(large.labels, plain.labels)
    # In one dimension, four pixels between two neighbours lie at 1/8, 3/8, 5/8 and 7/8.
    weights = np.zeros((32, 8))
    for pixel in range(32):
        place = min(max((pixel + 0.5) / 4 - 0.5, 0), 7)
        left = min(int(place), 6)
        weights[pixel, left : left + 2] = 1 - (place - left), place - left
    expected = weights @ digits_split("validation")[0] @ weights.T
    found = torch.from_numpy(expected).float()
    standard = (found - found.mean()) / found.std()
    images = large.images.squeeze(1)
    assert torch.allclose((images - images.mean()) / images.std(), standard, atol=1e-4)


def test_large_images_are_standardised_after_they_are_enlarged() -> None:
    images, _ = DigitsDataModule(LARGE).training_images(0)
    assert images.shape == (900, 1, 32, 32)
    assert images.mean().item() == pytest.approx(0.0, abs=1e-4)
    assert images.std().item() == pytest.approx(1.0, abs=1e-4)


def test_places_clutter_and_noise_are_enlarged_too() -> None:
    small = DigitsDataModule(DigitsTask()).training_images(3)
    twice = DigitsDataModule(DigitsTask(enlarge=2)).training_images(3)
    assert twice.images.shape == (900, 1, 20, 20)
    enlarged = nn.functional.interpolate(small.images, scale_factor=2, mode="bilinear")
    correlation = np.corrcoef(enlarged.flatten(), twice.images.flatten())[0, 1]
    assert correlation == pytest.approx(1.0, abs=1e-5)


def test_image_size_and_classes_are_told_beforehand() -> None:
    for task, side in ((HARDER, 10), (PLAIN, 8), (LARGE, 32)):
        data = DigitsDataModule(task)
        assert data.num_classes == 10
        assert data.image_size == side
        images, _ = next(iter(data.val_dataloader()))
        assert images.shape[1:] == (1, side, side)


def test_predictions_are_made_for_the_test_images() -> None:
    data = DigitsDataModule(PLAIN)
    (predicted,), (tested,) = data.predict_dataloader(), data.test_dataloader()
    assert torch.equal(predicted.images, tested.images)
