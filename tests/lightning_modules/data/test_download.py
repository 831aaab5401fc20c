"""Downloads from a real server on this machine: complete, broken off, refused, interrupted."""

import hashlib
import http.server
import shutil
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from torchvision import datasets

from aquasurf_optuna.exceptions import DatasetError
from lightning_modules.data import imagenette
from lightning_modules.data._base import ImageDataModule
from lightning_modules.data.cifar import CifarDataModule
from lightning_modules.data.imagenette import ImagenetteDataModule
from tests.lightning_modules.data.stand_ins import write_cifar, write_imagenette


class Server:
    """Serves one archive, or as many bytes of it as it is told, and counts the requests."""

    def __init__(self, archive: Path) -> None:
        self.archive = archive
        self.limit: int | None = None
        self.requests = 0
        self.http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), self.handler())
        self.address = f"http://127.0.0.1:{self.http.server_address[1]}/{archive.name}"

    def handler(self) -> type[http.server.BaseHTTPRequestHandler]:
        server = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_HEAD(self) -> None:
                found = self.path == f"/{server.archive.name}" and server.archive.exists()
                self.send_response(200 if found else 404)
                size = server.archive.stat().st_size if found else 0
                self.send_header("Content-Length", str(size))
                self.end_headers()

            def do_GET(self) -> None:
                self.do_HEAD()
                server.requests += 1
                if server.archive.exists():
                    self.wfile.write(server.archive.read_bytes()[: server.limit])

            def log_message(self, *_: Any) -> None:
                pass

        return Handler


class Case:
    """A published data set, and an empty root into which it is to be downloaded."""

    def __init__(self, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        source, self.root = tmp_path / "published", tmp_path / "root"
        self.kind = kind
        if kind == "cifar":
            folder = write_cifar(source, "cifar10", monkeypatch)
            archive = source / datasets.CIFAR10.filename
        else:
            folder = write_imagenette(source, monkeypatch)
            archive = source / f"{folder.name}.tgz"
        with tarfile.open(archive, "w:gz") as tar:
            tar.add(folder, arcname=folder.name)
        self.folder = self.root / folder.name
        self.server = Server(archive)
        md5 = hashlib.md5(archive.read_bytes(), usedforsecurity=False).hexdigest()
        if kind == "cifar":
            monkeypatch.setattr(datasets.CIFAR10, "url", self.server.address)
            monkeypatch.setattr(datasets.CIFAR10, "tgz_md5", md5)
        else:
            monkeypatch.setattr(imagenette, "ADDRESS", self.server.address)
            archives = {"160px": (self.server.address, md5)}
            monkeypatch.setattr(datasets.Imagenette, "_ARCHIVES", archives)

    def make(self, *, download: bool = True) -> ImageDataModule:
        if self.kind == "cifar":
            return CifarDataModule(
                "cifar10", root=self.root, validation_size=100, download=download
            )
        return ImagenetteDataModule(root=self.root, batch_size=4, download=download)

    def left(self) -> list[str]:
        return sorted(path.name for path in self.root.iterdir())


@pytest.fixture(params=["cifar", "imagenette"])
def case(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Case]:
    # A proxy could not reach this machine's server.
    monkeypatch.setenv("no_proxy", "*")
    case = Case(request.param, tmp_path, monkeypatch)
    thread = threading.Thread(target=case.server.http.serve_forever, args=(0.01,))
    thread.start()
    yield case
    case.server.http.shutdown()
    case.server.http.server_close()
    thread.join()


def test_a_download_is_unpacked_once_and_leaves_the_data_set_alone(case: Case) -> None:
    data = case.make()
    data.prepare_data()
    data.setup()
    assert len(data.part("train")) == {"cifar": 300, "imagenette": 20}[case.kind]
    assert case.left() == [case.folder.name]
    requests = case.server.requests
    data.prepare_data()
    case.make().prepare_data()
    assert case.server.requests == requests > 0


def test_nothing_is_fetched_unless_asked(case: Case) -> None:
    case.make(download=False).prepare_data()
    assert case.server.requests == 0
    assert not case.root.exists()


def test_a_download_that_breaks_off_leaves_nothing_and_is_reported(case: Case) -> None:
    case.server.limit = case.server.archive.stat().st_size // 2
    with pytest.raises(
        DatasetError, match=rf"cannot fetch {case.server.address} into .*; check the network"
    ):
        case.make().prepare_data()
    assert case.left() == []
    case.server.limit = None
    data = case.make()
    data.prepare_data()
    data.setup()


def test_an_archive_with_another_checksum_is_refused(case: Case) -> None:
    with case.server.archive.open("ab") as file:
        file.write(b"more")
    with pytest.raises(DatasetError, match=rf"cannot fetch {case.server.address} into"):
        case.make().prepare_data()
    assert case.left() == []


def test_an_address_that_is_gone_is_named(case: Case) -> None:
    case.server.archive.unlink()
    with pytest.raises(
        DatasetError, match=rf"cannot fetch {case.server.address} into .*HTTP Error 404"
    ):
        case.make().prepare_data()
    assert case.left() == []


def test_without_a_network_the_error_says_so(case: Case) -> None:
    case.server.http.shutdown()
    case.server.http.server_close()
    with pytest.raises(
        DatasetError, match=rf"cannot fetch {case.server.address} into .*refused.*put it at .*gz$"
    ):
        case.make().prepare_data()
    assert case.left() == []


def test_an_archive_brought_from_elsewhere_is_unpacked(case: Case) -> None:
    case.root.mkdir()
    shutil.copy(case.server.archive, case.root)
    data = case.make()
    data.prepare_data()
    data.setup()
    assert case.server.requests == 0
    assert case.left() == sorted([case.server.archive.name, case.folder.name])


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, OSError("No space left on device")])
def test_an_interrupted_unpacking_leaves_nothing_that_looks_complete(
    interruption: type[BaseException] | BaseException, case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = tarfile.TarFile.extractall

    def half(tar: tarfile.TarFile, path: Any, **options: Any) -> None:
        members = tar.getmembers()
        whole(tar, path, members[: len(members) // 2], **options)
        raise interruption

    with monkeypatch.context() as patched:
        patched.setattr(tarfile.TarFile, "extractall", half)
        with pytest.raises((KeyboardInterrupt, DatasetError), match="^$|No space left"):
            case.make().prepare_data()
    assert case.left() == []
    data = case.make()
    data.prepare_data()
    data.setup()


@pytest.mark.parametrize("case", ["cifar"], indirect=True)
@pytest.mark.parametrize("file", ["data_batch_2", "test_batch", "batches.meta"])
def test_a_broken_file_of_cifar_is_fetched_anew_and_others_stay(file: str, case: Case) -> None:
    data = case.make()
    data.prepare_data()
    (case.folder / file).write_bytes(b"broken")
    (case.folder / "notes.txt").write_text("mine")
    with pytest.raises(DatasetError, match=f"{file} is truncated or corrupted"):
        data.setup()
    data.prepare_data()
    data.setup()
    assert (case.folder / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize("case", ["imagenette"], indirect=True)
def test_a_folder_of_imagenette_is_never_overwritten(case: Case) -> None:
    case.folder.mkdir(parents=True)
    data = case.make()
    data.prepare_data()
    assert case.server.requests == 0
    with pytest.raises(
        DatasetError, match=r"train is missing or no folder; delete .*download=True"
    ):
        data.setup()


@pytest.mark.parametrize("case", ["imagenette"], indirect=True)
def test_two_runs_may_download_at_the_same_time(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    rename = Path.rename

    def after_another(path: Path, target: Path) -> Path:
        shutil.copytree(path, target)
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", after_another)
    data = case.make()
    data.prepare_data()
    data.setup()
    assert case.left() == [case.folder.name]
