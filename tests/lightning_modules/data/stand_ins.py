"""Small data sets in the formats in which the real ones are published.

They lie on disk as the real ones do: CIFAR as pickled batches, Imagenette and ImageNet as folders
of JPEG files. Where torchvision or a data module knows checksums or counts of the published files,
`monkeypatch` puts those of the stand-in in their place. The images are random, their brightness
tells the class. Take `validation_size`, `batch_size` and, for ImageNet, `num_classes` to match.
"""

import hashlib
import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from torchvision import datasets

from lightning_modules.data import imagenette

CIFAR = {"cifar10": datasets.CIFAR10, "cifar100": datasets.CIFAR100}
CIFAR_CLASSES = {"cifar10": 10, "cifar100": 100}


def write_cifar(
    root: Path,
    name: str,
    monkeypatch: pytest.MonkeyPatch,
    *,
    train: int = 400,
    test: int = 100,
    seed: int = 0,
) -> Path:
    """Write CIFAR-10 or CIFAR-100 with equally many images of each class; return its folder.

    `train` must be a multiple of the number of classes, and of 5 for the five batches of CIFAR-10.
    """
    published = CIFAR[name]
    folder = root / published.base_folder
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    files: dict[str, dict[str, Any]] = {}
    for list_name, count in (("train_list", train), ("test_list", test)):
        file_names = [file for file, _ in getattr(published, list_name)]
        labels = rng.permutation(np.arange(count) % CIFAR_CLASSES[name])
        for file, part in zip(file_names, np.split(labels, len(file_names)), strict=True):
            files[file] = _cifar_batch(name, file, part, rng)
    files[published.meta["filename"]] = _cifar_meta(name)
    checksums = {file: _write_pickle(folder / file, content) for file, content in files.items()}
    for list_name in ("train_list", "test_list"):
        listed = [[file, checksums[file]] for file, _ in getattr(published, list_name)]
        monkeypatch.setattr(published, list_name, listed)
    meta = published.meta | {"md5": checksums[published.meta["filename"]]}
    monkeypatch.setattr(published, "meta", meta)
    return folder


def _cifar_batch(
    name: str, file: str, labels: NDArray[np.int64], rng: np.random.Generator
) -> dict[str, Any]:
    # Rows of 3,072 bytes: all red, then all green, then all blue values.
    data = _noise((len(labels), 3072), labels / CIFAR_CLASSES[name], rng)
    batch = {
        "batch_label": file,
        "data": data,
        "filenames": [f"{file}_{index}.png" for index in range(len(labels))],
    }
    if name == "cifar10":
        return batch | {"labels": labels.tolist()}
    return batch | {"fine_labels": labels.tolist(), "coarse_labels": (labels // 5).tolist()}


def _cifar_meta(name: str) -> dict[str, Any]:
    names = [f"class {index}" for index in range(CIFAR_CLASSES[name])]
    if name == "cifar10":
        return {"label_names": names, "num_cases_per_batch": 10_000, "num_vis": 3072}
    return {"fine_label_names": names, "coarse_label_names": [f"group {i}" for i in range(20)]}


def _write_pickle(path: Path, content: dict[str, Any]) -> str:
    # Protocol 2, the newest of Python 2, with which the real files were written.
    data = pickle.dumps(content, protocol=2)
    path.write_bytes(data)
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


def _noise(
    shape: tuple[int, ...], brightness: NDArray[np.float64] | float, rng: np.random.Generator
) -> NDArray[np.uint8]:
    """Random bytes whose mean rises with `brightness`, 0 to 1, along the first axis."""
    low = np.asarray(100 * np.asarray(brightness), dtype=np.int64)
    low = low.reshape(low.shape + (1,) * (len(shape) - low.ndim))
    return rng.integers(low, low + 156, size=shape).astype(np.uint8)


def write_imagenette(
    root: Path,
    monkeypatch: pytest.MonkeyPatch,
    *,
    train: int = 2,
    val: int = 1,
    side: int = 48,
    seed: int = 0,
) -> Path:
    """Write Imagenette with so many images of each class; return its folder."""
    folder = root / imagenette.FOLDER
    counts = {"train": train, "val": val}
    _write_class_folders(folder, imagenette.CLASSES, counts, side, seed)
    totals = {part: count * len(imagenette.CLASSES) for part, count in counts.items()}
    monkeypatch.setattr(imagenette, "IMAGES", totals)
    return folder


def write_imagenet(
    root: Path, *, classes: int = 3, train: int = 4, val: int = 2, side: int = 48, seed: int = 0
) -> Path:
    """Write ImageNet with so many images of each class; return its folder, which is `root`."""
    names = [f"n{100 + index:08d}" for index in range(classes)]
    _write_class_folders(root, names, {"train": train, "val": val}, side, seed)
    return root


def _write_class_folders(
    folder: Path, names: Sequence[str], counts: dict[str, int], side: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    for part, count in counts.items():
        for index, name in enumerate(names):
            place = folder / part / name
            place.mkdir(parents=True, exist_ok=True)
            for number in range(count):
                # Neither square nor of one shape, as photographs are.
                shape = (side, side + 8 + number, 3)
                pixels = _noise(shape, index / len(names), rng)
                Image.fromarray(pixels).save(place / f"{name}_{number}.JPEG", quality=95)
