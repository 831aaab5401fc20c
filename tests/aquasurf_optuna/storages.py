"""A fresh Optuna storage for a test or a measurement, of each kind that workers can share.

``sqlite`` and ``postgresql`` are Optuna's RDB storage, ``journal`` its file, ``grpc`` its proxy:
a server process in front of a database. What is missing skips the test, as in ``databases``.

The process that asks for a storage never opens a gRPC channel, whose threads would not survive the
forks of other tests: it looks at the database behind the proxy.
"""

import contextlib
import dataclasses
import importlib.util
import socket
import time
import warnings
from collections.abc import Iterator
from multiprocessing import get_context
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.storages import (
    BaseStorage,
    JournalStorage,
    RDBStorage,
    RetryHeartbeatStaleTrialCallback,
)
from optuna.storages.journal import JournalFileBackend, JournalFileSymlinkLock

from tests.aquasurf_optuna import databases

KINDS = ("sqlite", "postgresql", "journal", "grpc")
# A grace shorter than the longest pause of a busy machine would take living workers for dead.
HEARTBEAT, GRACE = 1, 15
# A worker that is killed while it holds the journal's lock stops the others for so long.
_JOURNAL_LOCK_SECONDS = 5
# SQLite lets one write at a time; a worker waits for its turn before it gives up.
_SQLITE_TURN_SECONDS = 60


@dataclasses.dataclass(frozen=True)
class Address:
    """Where a storage is, so that any process can open it.

    Attributes:
        kind: One of `KINDS`.
        place: The URL of a database, the path of a journal, or the host and port of a proxy.
        behind: The URL of the database behind a proxy.
        heartbeat: Whether workers tell every second that they live, as databases can.
        retries: Whether a trial without heartbeats is put into the queue again.
    """

    kind: str
    place: str
    behind: str = ""
    heartbeat: bool = False
    retries: bool = False

    def open(self) -> BaseStorage:
        """Open it, as a worker does."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            if self.kind == "journal":
                lock = JournalFileSymlinkLock(self.place, grace_period=_JOURNAL_LOCK_SECONDS)
                return JournalStorage(JournalFileBackend(self.place, lock))
            if self.kind == "grpc":
                host, port = self.place.split(":")
                return optuna.storages.GrpcStorageProxy(host=host, port=int(port))
            return self.database(self.place)

    @contextlib.contextmanager
    def look(self) -> Iterator[BaseStorage]:
        """Open it to see what is there, past a proxy, and close it again."""
        storage = self.database(self.behind) if self.kind == "grpc" else self.open()
        try:
            yield storage
        finally:
            storage.remove_session()
            if self.kind != "journal":
                # Optuna has no way to close the connections of a database.
                storage._backend.engine.dispose()

    def database(self, url: str) -> Any:
        """Open a database, wrapped in Optuna's cache of finished trials."""
        wait = {"connect_args": {"timeout": _SQLITE_TURN_SECONDS}}
        retry = RetryHeartbeatStaleTrialCallback() if self.retries else None
        storage = RDBStorage(
            url,
            engine_kwargs=wait if url.startswith("sqlite") else None,
            heartbeat_interval=HEARTBEAT if self.heartbeat else None,
            grace_period=GRACE if self.heartbeat else None,
            heartbeat_stale_trial_callback=retry,
        )
        return optuna.storages.get_storage(storage)


@contextlib.contextmanager
def fresh(
    kind: str,
    folder: Path,
    *,
    heartbeat: bool = False,
    retries: bool = False,
    behind: str = "sqlite",
    durable: bool = False,
) -> Iterator[Address]:
    """Give the address of a new storage, and stop its server in the end.

    Args:
        kind: One of `KINDS`.
        folder: An empty folder for its files.
        heartbeat: Whether workers tell that they live; for databases.
        retries: Whether trials without heartbeats are put into the queue again.
        behind: Which database a proxy has behind it.
        durable: As for `databases.fresh`.
    """
    if kind == "journal":
        yield Address(kind, str(folder / "study.journal"))
        return
    database = behind if kind == "grpc" else kind
    url = databases.fresh(database, folder, file="study.db", durable=durable)
    address = Address(kind, url, heartbeat=heartbeat, retries=retries)
    # Tables are made here, not by several workers at once.
    with dataclasses.replace(address, kind=database).look():
        pass
    if kind != "grpc":
        yield address
        return
    if importlib.util.find_spec("grpc") is None:
        pytest.skip("the package grpcio is not installed")
    with _proxy(url) as place:
        yield dataclasses.replace(address, place=place, behind=url)


@contextlib.contextmanager
def _proxy(url: str) -> Iterator[str]:
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        port = probe.getsockname()[1]
    process = get_context("forkserver").Process(target=_serve, args=(url, port), daemon=True)
    process.start()
    try:
        _wait_for(port, process)
        yield f"localhost:{port}"
    finally:
        process.kill()
        process.join()


def _serve(url: str, port: int) -> None:
    warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
    storage = Address("grpc", "").database(url)
    optuna.storages.run_grpc_proxy_server(storage, host="localhost", port=port)


def _wait_for(port: int, process: BaseProcess) -> None:
    end = time.monotonic() + 60
    while True:
        with contextlib.suppress(OSError), socket.create_connection(("localhost", port), 1):
            return
        assert process.is_alive(), "the gRPC server stopped"
        assert time.monotonic() < end, "the gRPC server did not start within a minute"
        time.sleep(0.05)
