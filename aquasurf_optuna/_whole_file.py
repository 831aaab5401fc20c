"""Files that appear whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import os
import uuid
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def whole_file(path: str | os.PathLike[str], *, what: str) -> Iterator[Path]:
    """Give the path of a draft beside a file's place, and move it there at the end.

    Missing folders are made. After an error the draft is gone, and what was there before stays.

    Args:
        path: Where to write; an existing file is replaced.
        what: The kind of file, for the error where the path is a folder: "a report".

    Raises:
        OSError: If the file cannot be written.
    """
    target = Path(path)
    if target.is_dir():
        raise IsADirectoryError(errno.EISDIR, f"{what} is a file, but this is a folder", str(path))
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except FileExistsError as error:
        raise NotADirectoryError(
            errno.ENOTDIR, "a file stands where a folder is needed", str(target.parent)
        ) from error
    # In the same folder, since a move between file systems is not atomic.
    draft = target.with_name(f".{target.name}.{uuid.uuid4().hex}.part")
    try:
        yield draft
        draft.replace(target)
    finally:
        draft.unlink(missing_ok=True)


def write_whole(path: str | os.PathLike[str], content: bytes, *, what: str) -> Path:
    """Write a file that is at hand; see `whole_file`.

    Returns:
        The path.
    """
    with whole_file(path, what=what) as draft:
        draft.write_bytes(content)
    return Path(path)
