"""Fetching from a server on this machine that breaks off, ignores ranges and changes its file."""

from __future__ import annotations

import hashlib
import http.server
import json
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from aquasurf_optuna.benchmark import _published
from aquasurf_optuna.benchmark._published import PUBLISHED, cache_folder, fetch
from aquasurf_optuna.exceptions import BenchmarkError

NAME = "act-bench-cnn"
FIRST = json.dumps({f"f{place}": {"Test Loss": place} for place in range(400)}).encode()
SECOND = FIRST.replace(b"Loss", b"Gain")


class Server:
    """Serves one file, badly if told so, and keeps the requests' ranges.

    Attributes:
        content: The file, whose version is told by its ETag.
        limit: After how many bytes of an answer the connection breaks off.
        ranges: Whether ranges are served; "always" if also where the version has changed.
        marks: Which headers tell the version: ETag, Last-Modified.
        length: Whether the length is told.
        status: The status of each answer, if not by the request.
        hold: Where it is set, an answer that was broken off is held open until it is unset.
        asked: The Range of each request, None where there was none.
    """

    def __init__(self) -> None:
        self.content = FIRST
        self.limit: int | None = None
        self.ranges: bool | str = True
        self.marks: tuple[str, ...] = ("ETag",)
        self.length = True
        self.status: int | None = None
        self.hold: threading.Event | None = None
        self.asked: list[str | None] = []
        self.http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), self.handler())
        self.url = f"http://127.0.0.1:{self.http.server_address[1]}/{NAME}.json"

    def version(self) -> dict[str, str]:
        digest = hashlib.md5(self.content).hexdigest()
        day = 1 + int(digest[0], 16)
        known = {
            "ETag": f'"{digest}"',
            "Last-Modified": f"Thu, {day:02d} Jan 2026 00:00:00 GMT",
            "weak": f'W/"{digest}"',
        }
        return {"ETag" if mark == "weak" else mark: known[mark] for mark in self.marks}

    def begin(self, headers: Any) -> int:
        found = re.fullmatch(r"bytes=(\d+)-", headers.get("Range", ""))
        if found is None or not self.ranges:
            return 0
        same = headers.get("If-Range") in self.version().values()
        return int(found[1]) if same or self.ranges == "always" else 0

    def handler(self) -> type[http.server.BaseHTTPRequestHandler]:
        server = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                server.asked.append(self.headers.get("Range"))
                begin, size = server.begin(self.headers), len(server.content)
                usual = 200 if not begin else 206 if begin < size else 416
                status = server.status or usual
                self.send_response(status)
                for key, value in server.version().items():
                    self.send_header(key, value)
                body = server.content[begin:] if status < 400 else b""
                if status == 206:
                    self.send_header("Content-Range", f"bytes {begin}-{size - 1}/{size}")
                if server.length:
                    self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body[: server.limit])
                if server.hold is not None and server.limit is not None:
                    self.wfile.flush()
                    server.hold.wait(60)

            def log_message(self, *_: Any) -> None:
                pass

        return Handler


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    made = Server()
    monkeypatch.setitem(PUBLISHED, NAME, made.url)
    monkeypatch.setenv("AQUASURF_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("no_proxy", "*")
    thread = threading.Thread(target=made.http.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield made
    made.http.shutdown()
    thread.join()
    made.http.server_close()


def files() -> set[str]:
    return {path.name for path in cache_folder().iterdir()} - {f"{NAME}.json.lock"}


FETCHED = {f"{NAME}.json", f"{NAME}.json.sha256"}
BROKEN_OFF = {f"{NAME}.json.part", f"{NAME}.json.part.etag"}


def break_off(server: Server, after: int = 1000) -> None:
    server.limit = after
    with pytest.raises(BenchmarkError, match=f"broke off after {after:,} of {len(FIRST):,} bytes"):
        fetch(NAME, progress=False)
    server.limit = None
    server.asked.clear()
    assert files() == BROKEN_OFF
    assert (cache_folder() / f"{NAME}.json.part").read_bytes() == server.content[:after]


def test_fetches_once_and_keeps_the_checksum(server: Server) -> None:
    path = fetch(NAME, progress=False)
    assert path == cache_folder() / f"{NAME}.json"
    assert path.read_bytes() == FIRST
    assert files() == FETCHED
    kept = path.with_name(f"{NAME}.json.sha256").read_text()
    assert kept.strip() == hashlib.sha256(FIRST).hexdigest()
    assert fetch(NAME, progress=False) == path
    assert server.asked == [None]


def test_shows_a_bar_if_asked(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    fetch(NAME, progress=False)
    assert capsys.readouterr().err == ""
    (cache_folder() / f"{NAME}.json").unlink()
    fetch(NAME)
    assert f"{NAME}.json: 100%" in capsys.readouterr().err


@pytest.mark.parametrize("mark", ["ETag", "Last-Modified"])
def test_goes_on_where_a_download_broke_off(server: Server, mark: str) -> None:
    server.marks = (mark,)
    break_off(server)
    assert fetch(NAME, progress=False).read_bytes() == FIRST
    assert server.asked == ["bytes=1000-"]
    assert files() == FETCHED


def test_goes_on_as_often_as_it_breaks_off(server: Server) -> None:
    for done in range(1000, len(FIRST), 1000):
        server.limit = 1000
        with pytest.raises(BenchmarkError, match=f"broke off after {done:,} of"):
            fetch(NAME, progress=False)
    assert fetch(NAME, progress=False).read_bytes() == FIRST
    assert server.asked[:3] == [None, "bytes=1000-", "bytes=2000-"]


@pytest.mark.parametrize("marks", [("weak",), ()])
def test_starts_anew_where_the_version_cannot_be_told(
    server: Server, marks: tuple[str, ...]
) -> None:
    server.marks = marks
    break_off(server)
    assert fetch(NAME, progress=False).read_bytes() == FIRST
    assert server.asked == [None]


def test_starts_anew_where_ranges_are_ignored(server: Server) -> None:
    break_off(server)
    server.ranges = False
    assert fetch(NAME, progress=False).read_bytes() == FIRST
    assert server.asked == ["bytes=1000-"]


def test_starts_anew_where_the_file_has_changed(server: Server) -> None:
    break_off(server)
    server.content = SECOND
    assert fetch(NAME, progress=False).read_bytes() == SECOND
    assert server.asked == ["bytes=1000-"]


def test_starts_anew_where_a_range_of_another_version_comes(server: Server) -> None:
    break_off(server)
    server.content, server.ranges = SECOND, "always"
    assert fetch(NAME, progress=False).read_bytes() == SECOND
    assert server.asked == ["bytes=1000-", None]


def test_starts_anew_where_the_range_is_refused(server: Server) -> None:
    break_off(server)
    server.content, server.ranges = SECOND[:500] + b"}", "always"
    assert fetch(NAME, progress=False).read_bytes() == server.content
    assert server.asked == ["bytes=1000-", None]


def test_a_change_while_it_is_fetched_again_leaves_no_mixture(server: Server) -> None:
    break_off(server)
    server.content, server.limit = SECOND, 700
    with pytest.raises(BenchmarkError, match="broke off after 700 of"):
        fetch(NAME, progress=False)
    server.content, server.limit = FIRST, None
    assert fetch(NAME, progress=False).read_bytes() == FIRST


def test_other_refusals_are_named_and_keep_the_part(server: Server) -> None:
    break_off(server)
    server.status = 403
    with pytest.raises(BenchmarkError, match=f"cannot fetch {server.url} .*HTTP Error 403"):
        fetch(NAME, progress=False)
    assert files() == BROKEN_OFF


def test_a_page_that_comes_instead_is_refused_and_forgotten(server: Server) -> None:
    server.content = b"<html>log in, please</html>"
    with pytest.raises(BenchmarkError, match=r"is no table: it begins with b'<html>log in"):
        fetch(NAME, progress=False)
    assert files() == set()


def test_where_no_length_is_told_the_end_of_a_table_is_looked_for(server: Server) -> None:
    server.length, server.limit = False, 1000
    with pytest.raises(BenchmarkError, match="is no table: it begins with .* and ends with"):
        fetch(NAME, progress=False)
    server.limit = None
    assert fetch(NAME, progress=False).read_bytes() == FIRST


def test_a_file_that_was_changed_is_refused_until_it_is_trusted(server: Server) -> None:
    path = fetch(NAME, progress=False)
    path.write_bytes(SECOND)
    with pytest.raises(BenchmarkError, match="was changed or damaged since it was fetched") as got:
        fetch(NAME, progress=False)
    kept = path.with_name(f"{NAME}.json.sha256")
    assert hashlib.sha256(SECOND).hexdigest() in str(got.value)
    assert f"delete {kept} to trust it" in str(got.value)
    kept.unlink()
    assert fetch(NAME, progress=False).read_bytes() == SECOND
    path.unlink()
    assert fetch(NAME, progress=False).read_bytes() == FIRST


def test_a_file_put_there_by_hand_counts(server: Server) -> None:
    path = cache_folder() / f"{NAME}.json"
    path.parent.mkdir(parents=True)
    path.write_bytes(SECOND)
    assert fetch(NAME, progress=False) == path
    assert files() == FETCHED
    path.write_bytes(FIRST)
    with pytest.raises(BenchmarkError, match="was changed or damaged"):
        fetch(NAME, progress=False)
    assert server.asked == []


def test_without_a_network_it_says_where_to_put_the_file(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Nothing listens at port 1.
    monkeypatch.setitem(PUBLISHED, NAME, f"http://127.0.0.1:1/{NAME}.json")
    with pytest.raises(BenchmarkError, match=r"cannot fetch http://127\.0\.0\.1:1/.*URLError") as e:
        fetch(NAME, progress=False)
    assert f"put it at {cache_folder() / f'{NAME}.json'}" in str(e.value)
    assert files() == set()


def test_a_folder_that_cannot_be_made_is_named(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("AQUASURF_CACHE", str(tmp_path / "file"))
    with pytest.raises(BenchmarkError, match=f"FileExistsError.*{tmp_path}/file"):
        fetch(NAME, progress=False)


def test_a_name_that_is_not_published_is_refused() -> None:
    with pytest.raises(
        BenchmarkError, match="no published table 'act-bench'; there are act-bench-"
    ):
        fetch("act-bench")


def test_of_many_at_once_one_fetches(server: Server) -> None:
    with ThreadPoolExecutor(8) as pool:
        paths = list(pool.map(lambda _: fetch(NAME, progress=False).read_bytes(), range(8)))
    assert paths == [FIRST] * 8
    assert server.asked == [None]
    assert files() == FETCHED


PROGRAM = """
import sys
from aquasurf_optuna.benchmark._published import PUBLISHED, fetch
PUBLISHED["act-bench-cnn"] = sys.argv[1]
fetch("act-bench-cnn", progress=False)
"""


def test_another_goes_on_after_a_process_was_killed(server: Server) -> None:
    server.limit, server.hold = 1000, threading.Event()
    process = subprocess.Popen([sys.executable, "-c", PROGRAM, server.url])
    part = cache_folder() / f"{NAME}.json.part"
    waiting = threading.Event()
    while not server.asked:
        assert process.poll() is None
        waiting.wait(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    server.limit = None
    server.hold.set()
    # What the killed process had not written yet is lost, so nothing is said of the part's size.
    assert not part.exists() or FIRST.startswith(part.read_bytes())
    assert fetch(NAME, progress=False).read_bytes() == FIRST
    assert files() == FETCHED


@pytest.mark.parametrize(
    ("own", "shared", "folder"),
    [
        ("~/tables", "/var/cache", "{home}/tables"),
        ("", "/var/cache", "/var/cache/aquasurf"),
        ("", "", "{home}/.cache/aquasurf"),
        ("", "relative", "{home}/.cache/aquasurf"),
    ],
)
def test_the_folder_is_that_of_the_environment(
    own: str, shared: str, folder: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("AQUASURF_CACHE", own)
    monkeypatch.setenv("XDG_CACHE_HOME", shared)
    assert cache_folder() == Path(folder.format(home=tmp_path))


def test_the_published_addresses_are_complete() -> None:
    site = "https://act-bench.s3.us-west-2.amazonaws.com/"
    names = ("act-bench-cnn", "act-bench-resnet", "act-bench-vit")
    assert {name: f"{site}{name}.json" for name in names} == _published.PUBLISHED
