"""The package on disk: there whole and without a problem, or not at all."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from release.optunahub._errors import PackageError
from release.optunahub._package import Package
from release.optunahub._rules import problems
from release.optunahub._texts import ADDRESS, TITLE, texts


def write_package(output: str | os.PathLike[str], *, force: bool = False) -> Path:
    """Write the package below a folder, which may be a clone of the registry.

    Args:
        output: Where; missing folders are made.
        force: Whether an earlier package of this sampler there is replaced, with all that is in it.

    Returns:
        The package's folder, ``output/package/samplers/aquasurf``.

    Raises:
        PackageError: If something else is there, or a package and not `force`, or the package
            breaks a rule of the registry. What was there stays as it was.
        OSError: If it cannot be written.
    """
    target = Path(output) / "package" / ADDRESS
    _check_target(target, force=force)
    Path(output).mkdir(parents=True, exist_ok=True)
    # On the same file system, since a move to another one is not atomic.
    with tempfile.TemporaryDirectory(dir=output, prefix=".aquasurf-") as scratch:
        draft = _draft(Path(scratch))
        _check_draft(draft)
        target.parent.mkdir(parents=True, exist_ok=True)
        with _out_of_the_way(target, Path(scratch) / "earlier"):
            draft.rename(target)
    return target


def _check_target(target: Path, *, force: bool) -> None:
    if not (target.exists() or target.is_symlink()):
        return
    if target.is_symlink() or not target.is_dir():
        raise PackageError(f"{target} is not a folder; move it away")
    if not any(target.iterdir()):
        return
    if Package(target).front_matter.get("title") != TITLE:
        raise PackageError(
            f"{target} holds something other than this package; move it away, or write elsewhere"
        )
    if not force:
        raise PackageError(f"{target} is there already; replace it with --force")


def _draft(scratch: Path) -> Path:
    folder = scratch / "package" / ADDRESS
    for name, text in texts().items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8", newline="\n")
    return folder


def _check_draft(draft: Path) -> None:
    found = problems(draft)
    if found:
        raise PackageError(
            "the package breaks rules of the registry, and is not written; mend the templates:\n  "
            + "\n  ".join(found)
        )


@contextlib.contextmanager
def _out_of_the_way(target: Path, aside: Path) -> Iterator[None]:
    """Move what is there aside, where it goes with the scratch folder, and back after an error."""
    there = target.exists()
    if there:
        target.rename(aside)
    try:
        yield
    except BaseException:
        if there:
            aside.rename(target)
        raise
