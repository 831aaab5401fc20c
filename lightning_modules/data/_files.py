"""Files of data sets: fetched whole or not at all, and named when something is wrong with them."""

from __future__ import annotations

import contextlib
import functools
import http.client
import shutil
import tarfile
import tempfile
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from torchvision.datasets import ImageFolder
from torchvision.datasets.folder import pil_loader

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


def image_folder(folder: Path, *, classes: Sequence[str] | None = None, remedy: str) -> ImageFolder:
    """Return the images of a folder that holds one folder for each class.

    Args:
        folder: The folder.
        classes: Names that the class folders must have; None for any.
        remedy: What to do about a missing or broken file, for the message.

    Raises:
        DatasetError: If the folder or a class is missing or empty, or there is a class too many.
            Reading a broken image raises it too.
    """
    reader = functools.partial(read_image, remedy=remedy)
    try:
        pictures = ImageFolder(folder, loader=reader, allow_empty=True)
    except OSError as error:
        problem = "holds no class folders" if folder.is_dir() else "is missing or no folder"
        raise DatasetError(f"{folder} {problem}; {remedy}") from error
    found = set(pictures.classes)
    filled = {pictures.classes[label] for label in set(pictures.targets)}
    expected = found if classes is None else set(classes)
    problems = (
        ("is missing", expected - found),
        ("is no class of this data set", found - expected),
        ("holds no images", found - filled),
    )
    for problem, names in problems:
        if names:
            raise DatasetError(f"{folder / min(names)} {problem}; {remedy}")
    return pictures


def _first_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0]
