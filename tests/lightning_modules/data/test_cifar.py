import pickle
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import lightning as L
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from aquasurf_optuna.exceptions import DatasetError
from lightning_modules.data.cifar import CifarDataModule
from tests.lightning_modules.data.recorder import Recorder, whole
from tests.lightning_modules.data.stand_ins import CIFAR, CIFAR_CLASSES, write_cifar

Name = Literal["cifar10", "cifar100"]
NAMES: tuple[Name, ...] = ("cifar10", "cifar100")
MakeData = Callable[..., CifarDataModule]


@pytest.fixture
def make_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MakeData:
    """Make a data module over small stand-ins of both data sets."""
    for name in NAMES:
        write_cifar(tmp_path, name, monkeypatch)

    def make(name: Name = "cifar10", **options: Any) -> CifarDataModule:
        small = {"batch_size": 50, "validation_size": 100, "num_workers": 0, "root": tmp_path}
        return CifarDataModule(name, **(small | options))

    return make


def published(root: Path, name: Name, part: str) -> tuple[NDArray[np.uint8], list[int]]:
    """The images `[n, 3, 32, 32]` and labels of a part, read from its files."""
    images, labels = [], []
    for file, _ in getattr(CIFAR[name], f"{part}_list"):
        batch = pickle.loads((root / CIFAR[name].base_folder / file).read_bytes())
        images.append(batch["data"].reshape(-1, 3, 32, 32))
        labels += batch.get("labels", batch.get("fine_labels"))
    return np.concatenate(images), labels


def originals(images: Tensor) -> list[bytes]:
    """Images in [0, 1] as the bytes from which they came."""
    return [image.tobytes() for image in (images * 255).round().to(torch.uint8).numpy()]


@pytest.mark.parametrize("name", NAMES)
def test_batches_have_the_promised_shapes(name: Name, make_data: MakeData) -> None:
    data = make_data(name, eval_batch_size=30)
    assert data.num_classes == CIFAR_CLASSES[name]
    assert data.image_size == 32
    training = list(data.train_dataloader())
    assert len(training) == 6
    for images, labels in training:
        assert images.shape == (50, 3, 32, 32)
        assert images.dtype == torch.float32
        assert labels.shape == (50,)
        assert labels.dtype == torch.int64
    for loader in (data.val_dataloader(), data.test_dataloader(), data.predict_dataloader()):
        assert [len(labels) for _, labels in loader] == [30, 30, 30, 10]


@pytest.mark.parametrize("name", NAMES)
def test_images_and_labels_are_the_published_ones(
    name: Name, make_data: MakeData, tmp_path: Path
) -> None:
    data = make_data(name, normalize=False)
    images, labels = whole(data.test_dataloader())
    expected, classes = published(tmp_path, name, "test")
    assert torch.allclose(images, torch.from_numpy(expected) / 255, atol=1e-7)
    assert labels.tolist() == classes


@pytest.mark.parametrize("name", NAMES)
def test_validation_images_are_balanced_and_not_trained_on(
    name: Name, make_data: MakeData, tmp_path: Path
) -> None:
    data = make_data(name, normalize=False, flip=False, crop_padding=0)
    training, training_labels = whole(data.train_dataloader())
    validation, validation_labels = whole(data.val_dataloader())
    each = 100 // CIFAR_CLASSES[name]
    assert set(Counter(validation_labels.tolist()).values()) == {each}
    assert set(Counter(training_labels.tolist()).values()) == {3 * each}
    images, labels = published(tmp_path, name, "train")
    found = zip(
        originals(training) + originals(validation),
        training_labels.tolist() + validation_labels.tolist(),
        strict=True,
    )
    together = zip([image.tobytes() for image in images], labels, strict=True)
    assert Counter(found) == Counter(together)


def test_the_parts_are_the_same_for_every_seed(make_data: MakeData) -> None:
    one, two = make_data(seed=1), make_data(seed=2)
    for loader in ("val_dataloader", "test_dataloader"):
        first, again = whole(getattr(one, loader)()), whole(getattr(two, loader)())
        assert torch.equal(first[0], again[0])
        assert torch.equal(first[1], again[1])


def placements(original: NDArray[np.uint8], padding: int) -> dict[bytes, tuple[bool, int, int]]:
    """Every crop of the padded image, plain and mirrored, with where it was taken."""
    padded = np.pad(original, ((0, 0), (padding, padding), (padding, padding)))
    found = {}
    for row in range(2 * padding + 1):
        for column in range(2 * padding + 1):
            crop = padded[:, row : row + 32, column : column + 32]
            found[crop.tobytes()] = (False, row, column)
            found[crop[:, :, ::-1].tobytes()] = (True, row, column)
    return found


@pytest.mark.parametrize("padding", [4, 5])
@pytest.mark.parametrize("flip", [True, False])
def test_training_images_are_crops_of_padded_images(
    padding: int, flip: bool, make_data: MakeData
) -> None:
    options = {"crop_padding": padding, "flip": flip, "normalize": False, "batch_size": 1}
    part = make_data(**options).part("train")
    plain = make_data(crop_padding=0, flip=False, normalize=False).part("train")
    seen = []
    for position in range(2):
        (original,) = originals(plain[position][0].unsqueeze(0))
        pixels = np.frombuffer(original, dtype=np.uint8).reshape(3, 32, 32)
        places = placements(pixels, padding)
        augmented = torch.stack([part[epoch, position][0] for epoch in range(150)])
        seen += [places[image] for image in originals(augmented)]
    flips, rows, columns = zip(*seen, strict=True)
    assert set(rows) == set(columns) == set(range(2 * padding + 1))
    share = np.mean(flips)
    assert 0.4 < share < 0.6 if flip else share == 0


# Mean and standard deviation of the red, green and blue values of the published training images.
STATISTICS = {
    "cifar10": ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
    "cifar100": ((0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762)),
}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_normalisation_is_by_channel(
    name: Name, split: Literal["train", "validation", "test"], make_data: MakeData
) -> None:
    raw, _ = make_data(name, normalize=False).part(split)[(1, 2)]
    mean, deviation = (torch.tensor(row).reshape(3, 1, 1) for row in STATISTICS[name])
    normalized, _ = make_data(name).part(split)[(1, 2)]
    assert torch.allclose(normalized, (raw - mean) / deviation, atol=1e-6)
    assert 0 <= raw.min() < raw.max() <= 1


def test_training_batches_hang_on_the_seed_and_not_on_the_workers(make_data: MakeData) -> None:
    torch.manual_seed(3)
    before = torch.get_rng_state()
    images, labels = whole(make_data(seed=1, normalize=False).train_dataloader())
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(4)
    again, labels_again = whole(
        make_data(seed=1, normalize=False, num_workers=2).train_dataloader()
    )
    assert torch.equal(images, again)
    assert torch.equal(labels, labels_again)
    others, other_labels = whole(make_data(seed=2, normalize=False).train_dataloader())
    assert not torch.equal(labels, other_labels)
    # An image has 162 crops and mirrored crops: a few are the same by chance.
    assert len(set(originals(images)) & set(originals(others))) < 10


def test_setup_reads_each_part_once(make_data: MakeData, monkeypatch: pytest.MonkeyPatch) -> None:
    data = make_data()
    data.setup("fit")
    parts = data.part("train"), data.part("validation")
    data.setup("fit")
    assert (data.part("train"), data.part("validation")) == parts
    monkeypatch.setattr(CIFAR["cifar10"], "__init__", lambda *_, **__: pytest.fail("read again"))
    data.setup("validate")
    monkeypatch.undo()


def test_a_data_module_can_be_sent_to_another_process(make_data: MakeData) -> None:
    data = make_data()
    data.setup()
    copy = pickle.loads(pickle.dumps(data))
    assert torch.equal(whole(copy.train_dataloader())[0], whole(data.train_dataloader())[0])


@pytest.mark.filterwarnings("ignore:.*does not have many workers")
@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_resumed_training_sees_the_images_of_one_that_ran_through(
    num_workers: int,
    make_data: MakeData,
    make_trainer: Callable[..., L.Trainer],
    tmp_path: Path,
) -> None:
    through = Recorder()
    make_trainer(max_epochs=2).fit(through, datamodule=make_data())
    stopped = make_trainer(max_epochs=1)
    stopped.fit(Recorder(), datamodule=make_data(num_workers=num_workers))
    stopped.save_checkpoint(tmp_path / "last.ckpt")
    resumed = Recorder()
    make_trainer(max_epochs=2).fit(
        resumed,
        datamodule=make_data(num_workers=num_workers),
        ckpt_path=tmp_path / "last.ckpt",
        weights_only=True,
    )
    assert list(through.seen) == [("train", 0), ("train", 1)]
    assert list(resumed.seen) == [("train", 1)]
    first, second = (whole(through.seen["train", epoch])[0] for epoch in range(2))
    assert torch.equal(whole(resumed.seen["train", 1])[0], second)
    assert not torch.equal(first, second)


FILES = {
    "cifar10": ["data_batch_1", "data_batch_5", "test_batch", "batches.meta"],
    "cifar100": ["train", "test", "meta"],
}


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def flip_a_bit(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("damage", [truncate, flip_a_bit])
@pytest.mark.parametrize(("name", "file"), [(name, file) for name in NAMES for file in FILES[name]])
def test_a_broken_file_is_named_with_the_remedy(
    damage: Callable[[Path], None], name: Name, file: str, make_data: MakeData, tmp_path: Path
) -> None:
    damage(tmp_path / CIFAR[name].base_folder / file)
    with pytest.raises(
        DatasetError, match=rf"{file} is truncated or corrupted.*pass download=True to fetch it"
    ):
        make_data(name).setup("fit")


@pytest.mark.parametrize("stage", ["fit", "validate", "test", "predict", None])
def test_a_missing_file_is_named_with_the_remedy(
    stage: str | None, make_data: MakeData, tmp_path: Path
) -> None:
    (tmp_path / "cifar-10-batches-py" / "data_batch_3").unlink()
    with pytest.raises(
        DatasetError,
        match=r"data_batch_3 is missing; pass download=True .* or unpack https://\S+\.tar\.gz in ",
    ):
        make_data().setup(stage)


class Malice:
    """Leaves a trace where it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (Path("unpickled"),))


def test_a_file_with_a_wrong_checksum_is_never_unpickled(
    make_data: MakeData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "cifar-10-batches-py" / "data_batch_1"
    path.write_bytes(pickle.dumps(Malice()))
    with pytest.raises(DatasetError, match="data_batch_1 is truncated or corrupted"):
        make_data().setup()
    assert not Path("unpickled").exists()
    pickle.loads(path.read_bytes())
    assert Path("unpickled").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "cifar1000"}, r"name must be one of \['cifar10', 'cifar100'\], got 'cifar1000'"),
        ({"batch_size": 0}, "batch_size must be 1 or more, got 0"),
        ({"crop_padding": -1}, "crop_padding must be 0 or more, got -1"),
        ({"validation_size": 0}, "validation_size must be 1 or more, got 0"),
        ({"eval_batch_size": 0}, "eval_batch_size must be 1 or more, got 0"),
        ({"num_workers": -1}, "num_workers must be 0 or more, got -1"),
        ({"seed": -1}, "seed must be 0 or more, got -1"),
    ],
)
def test_options_out_of_range_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"^CifarDataModule: {message}$"):
        CifarDataModule(**options)


@pytest.mark.parametrize("size", [9, 391])
def test_a_validation_set_without_every_class_is_refused(size: int, make_data: MakeData) -> None:
    with pytest.raises(ValueError, match=f"validation_size must be between 10 and 390, got {size}"):
        make_data(validation_size=size).setup("fit")


def test_a_batch_larger_than_the_training_part_is_refused(make_data: MakeData) -> None:
    assert len(make_data(batch_size=300).train_dataloader()) == 1
    with pytest.raises(
        ValueError, match="batch_size must be at most .* training images .* 300, got 301"
    ):
        make_data(batch_size=301).train_dataloader()
