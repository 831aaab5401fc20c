"""Files of data sets: fetched whole or not at all, and named when something is wrong with them."""

from __future__ import annotations

import contextlib
import http.client
import shutil
import tarfile
import tempfile
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from torchvision.datasets.folder import IMG_EXTENSIONS, find_classes, make_dataset, pil_loader

from aquasurf_optuna.exceptions import DatasetError

_FETCH_ERRORS = (
    # URLError and failed connections are OSError; torchvision raises RuntimeError for a checksum.
    OSError,
    RuntimeError,
    EOFError,
    http.client.HTTPException,
    tarfile.TarError,
    zlib.error,
)


@contextlib.contextmanager
def fetching(address: str, root: Path) -> Iterator[Path]:
    """Yield a folder to download into, from which complete files are to be moved to their place.

    It lies inside `root`, so that moving is one atomic step, and goes away with all that is left in
    it: an interrupted download leaves nothing that could be taken for a data set. An archive that
    the user has put into `root` is copied there first, where torchvision finds it.

    Args:
        address: Where the archive is published.
        root: Folder of the data sets; it is made if need be.

    Raises:
        DatasetError: If the download or the unpacking fails.
    """
    archive = root / address.rpartition("/")[2]
    try:
        root.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=root, prefix=".download-") as name:
            if archive.is_file():
                shutil.copy(archive, name)
            yield Path(name)
    except _FETCH_ERRORS as error:
        raise DatasetError(
            f"cannot fetch {address} into {root}: {error}; check the network and the space on the "
            f"disk and try again, or bring the file from elsewhere and put it at {archive}"
        ) from error


def read_image(path: str, *, remedy: str) -> Any:
    """Return an image file as a PIL image in RGB.

    Args:
        path: The file.
        remedy: What to do about a broken one, for the message.

    Raises:
        DatasetError: If it is missing, truncated or no image.
    """
    try:
        return pil_loader(path)
    except (OSError, SyntaxError, ValueError) as error:
        raise DatasetError(
            f"{path} cannot be read as an image ({_first_line(error)}): it is truncated, corrupted "
            f"or something else; {remedy}"
        ) from error


def class_names(folder: Path, *, remedy: str) -> list[str]:
    """Return the names of the class folders in `folder`, sorted.

    Raises:
        DatasetError: If there are none.
    """
    try:
        names: list[str] = find_classes(folder)[0]
    except OSError as error:
        problem = "holds no class folders" if folder.is_dir() else "is missing"
        raise DatasetError(f"{folder} {problem}; {remedy}") from error
    return names


def labelled_files(folder: Path, names: Sequence[str], *, remedy: str) -> list[tuple[str, int]]:
    """Return the path of each image file with its class, in the order of `names`.

    Args:
        folder: Holds a folder for each class.
        names: The classes.
        remedy: What to do about a missing one, for the message.

    Raises:
        DatasetError: If a class has no folder, or none with images in it.
    """
    files: list[tuple[str, int]] = make_dataset(
        folder,
        {name: index for index, name in enumerate(names)},
        extensions=IMG_EXTENSIONS,
        allow_empty=True,
    )
    counts = Counter(label for _, label in files)
    for index, name in enumerate(names):
        if counts[index] == 0:
            problem = "holds no images" if (folder / name).is_dir() else "is missing"
            raise DatasetError(f"{folder / name} {problem}; {remedy}")
    return files


def _first_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0]
