"""Files that appear whole or not at all."""

from __future__ import annotations

import errno
import os
import uuid
from pathlib import Path


def write_whole(path: str | os.PathLike[str], content: bytes, *, what: str) -> Path:
    """Write a file beside its place and move it there; missing folders are made.

    Args:
        path: Where to write; an existing file is replaced.
        content: All of it.
        what: The kind of file, for the error where the path is a folder: "a report".

    Returns:
        The path.

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
        draft.write_bytes(content)
        draft.replace(target)
    finally:
        draft.unlink(missing_ok=True)
    return target
