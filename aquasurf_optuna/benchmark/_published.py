"""The published tables: fetched once, kept in a folder of this user, and checked at each use.

Beside a file stands its SHA-256, and while it is being fetched its part, with the mark by which the
server knows the version that the part belongs to. A part is never taken for a table: it is moved to
its place when all of it is there.
"""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import os
import urllib.error
import urllib.request
from http import HTTPStatus
from pathlib import Path

from filelock import FileLock
from tqdm.auto import tqdm

from aquasurf_optuna._whole_file import write_whole
from aquasurf_optuna.exceptions import BenchmarkError

_SITE = "https://act-bench.s3.us-west-2.amazonaws.com"

PUBLISHED: dict[str, str] = {
    name: f"{_SITE}/{name}.json" for name in ("act-bench-cnn", "act-bench-resnet", "act-bench-vit")
}
"""Name of a table of the paper -> where it is published."""

_PIECE = 1 << 18
_TIMEOUT = 60.0
_GLANCE = 1 << 10


def cache_folder() -> Path:
    """Return the folder in which fetched tables are kept.

    The environment variable `AQUASURF_CACHE` names it; without that it is `aquasurf` in
    `XDG_CACHE_HOME`, or in `~/.cache`.
    """
    own = os.environ.get("AQUASURF_CACHE")
    if own:
        return Path(own).expanduser()
    shared = os.environ.get("XDG_CACHE_HOME", "")
    # The specification has relative paths ignored.
    return (Path(shared) if Path(shared).is_absolute() else Path.home() / ".cache") / "aquasurf"


def fetch(name: str, *, progress: bool = True) -> Path:
    """Return the file of a published table; it is fetched if it is not there.

    A download that was broken off goes on where it ended, unless the published file has changed
    since. Several processes may fetch at once: one does, the others wait for it.

    Args:
        name: A key of `PUBLISHED`.
        progress: Whether to show a bar while fetching.

    Returns:
        The file, in `cache_folder`.

    Raises:
        BenchmarkError: If there is no such table, it cannot be fetched, what comes is no table, or
            the file was changed after it was fetched.
    """
    if name not in PUBLISHED:
        raise BenchmarkError(
            f"there is no published table {name!r}; there are {', '.join(PUBLISHED)}"
        )
    url = PUBLISHED[name]
    target = cache_folder() / url.rpartition("/")[2]
    try:
        if not target.is_file():
            target.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(_beside(target, ".lock")):
                # Another process may have fetched it while this one waited.
                if not target.is_file():
                    _fetch(url, target, progress=progress)
        _check(target)
    except (OSError, http.client.HTTPException) as error:
        raise BenchmarkError(
            f"cannot fetch {url} ({type(error).__name__}: {error}); check the network and the "
            "space on the disk and try again, which goes on where this ended, or fetch it "
            f"elsewhere and put it at {target}"
        ) from error
    return target


def _fetch(url: str, target: Path, *, progress: bool) -> None:
    part = _beside(target, ".part")
    mark = _beside(part, ".etag")
    expected = _download(url, part, mark, progress=progress)
    came = part.stat().st_size
    if expected is not None and came != expected:
        raise ConnectionError(f"the connection broke off after {came:,} of {expected:,} bytes")
    _refuse_other_things(url, part, mark)
    # Before the file is in its place, so that it is never there with the sum of another one.
    write_whole(_beside(target, ".sha256"), f"{_sha256(part)}\n".encode(), what="a checksum")
    part.replace(target)
    mark.unlink(missing_ok=True)


def _download(url: str, part: Path, mark: Path, *, progress: bool) -> int | None:
    """Get what a part lacks, and return how long the whole file is, None if it is not said."""
    with _answer(url, part, mark) as answer:
        have = part.stat().st_size if answer.status == HTTPStatus.PARTIAL_CONTENT else 0
        if not have:
            # In this order no bytes of one version are ever beside the mark of another.
            part.write_bytes(b"")
            write_whole(mark, _version(answer).encode(), what="the mark of a version")
        total = None if answer.length is None else have + answer.length
        with (
            tqdm(
                total=total,
                initial=have,
                desc=part.stem,
                unit="B",
                unit_scale=True,
                disable=not progress,
            ) as bar,
            part.open("ab") as file,
        ):
            while piece := answer.read1(_PIECE):
                file.write(piece)
                bar.update(len(piece))
    return total


def _answer(url: str, part: Path, mark: Path) -> http.client.HTTPResponse:
    """Ask for what follows a part, or, where that makes no sense, for the whole file."""
    have = part.stat().st_size if part.exists() else 0
    version = mark.read_text(errors="replace").strip() if mark.exists() else ""
    if have and version:
        try:
            answer = _ask(url, {"Range": f"bytes={have}-", "If-Range": version})
        except urllib.error.HTTPError as error:
            if error.code != HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
                raise
        else:
            if answer.status != HTTPStatus.PARTIAL_CONTENT or _goes_on(answer, have, version):
                return answer
            answer.close()
    return _ask(url, {})


def _ask(url: str, headers: dict[str, str]) -> http.client.HTTPResponse:
    request = urllib.request.Request(url, headers={"User-Agent": "aquasurf", **headers})
    try:
        answer: http.client.HTTPResponse = urllib.request.urlopen(request, timeout=_TIMEOUT)
    except urllib.error.HTTPError as error:
        error.close()
        raise
    return answer


def _goes_on(answer: http.client.HTTPResponse, have: int, version: str) -> bool:
    """Whether a partial answer begins where the part ends, and is of the same version."""
    begins = answer.headers.get("Content-Range", "").startswith(f"bytes {have}-")
    return begins and _version(answer) in ("", version)


def _version(answer: http.client.HTTPResponse) -> str:
    """Return what an If-Range header may name: a strong ETag, or else a date."""
    etag = str(answer.headers.get("ETag", ""))
    strong = etag and not etag.startswith("W/")
    return etag if strong else str(answer.headers.get("Last-Modified", ""))


def _refuse_other_things(url: str, part: Path, mark: Path) -> None:
    """Refuse, and forget, what does not look like a table, such as the page of a login."""
    with part.open("rb") as file:
        head = file.read(_GLANCE)
        file.seek(max(0, part.stat().st_size - _GLANCE))
        tail = file.read()
    if not (head.lstrip().startswith(b"{") and tail.rstrip().endswith(b"}")):
        part.unlink()
        mark.unlink(missing_ok=True)
        raise BenchmarkError(
            f"what comes from {url} is no table: it begins with {head[:20]!r} and ends with "
            f"{tail[-20:]!r}; look at the address in a browser, and try again"
        )


def _check(target: Path) -> None:
    """Compare a file with its checksum, which one that the user put there gets at its first use."""
    kept = _beside(target, ".sha256")
    found = _sha256(target)
    if not kept.exists():
        # The folder may be one that only others write to.
        with contextlib.suppress(OSError):
            write_whole(kept, f"{found}\n".encode(), what="a checksum")
    elif kept.read_text(errors="replace").strip() != found:
        raise BenchmarkError(
            f"{target} was changed or damaged since it was fetched (SHA-256 {found}, not that in "
            f"{kept.name}); delete it to fetch it again, or delete {kept} to trust it as it is"
        )


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _beside(path: Path, ending: str) -> Path:
    return path.with_name(path.name + ending)
