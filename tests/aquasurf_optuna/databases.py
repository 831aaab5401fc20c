"""A fresh database for a test: an SQLite file, or one of a private PostgreSQL or MariaDB server.

A server is started at its first use, in a temporary folder and reached by a socket in it, and
stopped when the tests end. Where its programs or its driver are missing, the test is skipped.
"""

import atexit
import functools
import importlib.util
import itertools
import os
import pwd
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import sqlalchemy as sa

_numbers = itertools.count()


def fresh(kind: str, folder: Path, *, file: str = "features.db", durable: bool = False) -> str:
    """Return the URL of a new, empty database.

    Args:
        kind: One of `KINDS`.
        folder: Where an SQLite file lies.
        file: Its name.
        durable: Whether PostgreSQL waits for the disk at each commit, as it does by default where
            it is not told otherwise. Tests need not survive a power cut; measurements need it.
    """
    if kind == "sqlite":
        return f"sqlite:///{folder}/{file}"
    server = _postgresql(durable) if kind == "postgresql" else _SERVERS[kind]()
    name = f"test{next(_numbers)}"
    engine = sa.create_engine(server, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(sa.text(f"create database {name}"))
    engine.dispose()
    return sa.make_url(server).set(database=name).render_as_string(hide_password=False)


def run(url: str, statement: str, **values: object) -> list[tuple[object, ...]]:
    """Run one statement on a database, beside the store."""
    engine = sa.create_engine(url)
    with engine.begin() as connection:
        result = connection.execute(sa.text(statement), values)
        rows = [tuple(row) for row in result] if result.returns_rows else []
    engine.dispose()
    return rows


@functools.cache
def _postgresql(durable: bool = False) -> str:
    _need_driver("psycopg")
    found = [shutil.which("initdb"), *sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))]
    programs = next((Path(path).parent for path in reversed(found) if path), None)
    if programs is None:
        pytest.skip("PostgreSQL is not installed: there is no initdb")
    folder, user, prefix = _home("postgres")
    data = folder / "data"
    _do(*prefix, programs / "initdb", "-D", data, "-A", "trust", "-U", user, "-E", "UTF8", "-N")
    settings = f"-c listen_addresses='' -c unix_socket_directories={folder}"
    settings += "" if durable else " -c fsync=off"
    control = [*prefix, programs / "pg_ctl", "-D", data, "-w"]
    _do(*control, "-l", folder / "log", "-o", settings, "start")
    atexit.register(_do, *control, "-m", "immediate", "stop")
    return f"postgresql+psycopg://{user}@/postgres?host={folder}"


@functools.cache
def _mysql() -> str:
    _need_driver("pymysql")
    install, server = shutil.which("mariadb-install-db"), _which("mariadbd")
    if install is None or server is None:
        pytest.skip("MariaDB is not installed: there is no mariadb-install-db or no mariadbd")
    folder, _, prefix = _home("mysql")
    place = [f"--datadir={folder}/data"]
    normal = "--auth-root-authentication-method=normal"
    _do(*prefix, install, "--no-defaults", *place, normal, "--skip-test-db")
    socket = folder / "socket"
    start = [server, "--no-defaults", *place, f"--socket={socket}", "--skip-networking"]
    fast = ["--innodb-flush-log-at-trx-commit=0", "--innodb-buffer-pool-size=16M"]
    command = [*prefix, *start, f"--pid-file={folder}/pid", *fast]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([*map(str, command)], stdout=log, stderr=log)
    atexit.register(process.wait)
    atexit.register(process.kill)
    _wait(socket.exists, process)
    return f"mysql+pymysql://root@/mysql?unix_socket={socket}"


_SERVERS: dict[str, Callable[[], str]] = {"postgresql": _postgresql, "mysql": _mysql}
KINDS = ("sqlite", *_SERVERS)


def _need_driver(name: str) -> None:
    if importlib.util.find_spec(name) is None:
        pytest.skip(f"the driver {name} is not installed")


def _which(name: str) -> str | None:
    return shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/libexec")


def _home(user: str) -> tuple[Path, str, list[str]]:
    """Return a folder, whose it is, and the words before a command that run it as that user."""
    # Not in pytest's own folder, which other users may not enter.
    folder = Path(tempfile.mkdtemp(prefix="aquasurf-test-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    if os.getuid() != 0:
        return folder, pwd.getpwuid(os.getuid()).pw_name, []
    # Database servers refuse to run as root.
    try:
        account = pwd.getpwnam(user)
    except KeyError:
        pytest.skip(f"root cannot start this server, and there is no user {user!r}")
    os.chown(folder, account.pw_uid, account.pw_gid)
    switch = ["--reuid", user, "--regid", str(account.pw_gid), "--clear-groups"]
    return folder, user, ["setpriv", *switch, "--"]


def _do(*command: object) -> None:
    # pg_ctl's server would keep a pipe open for ever: output goes to a file.
    with tempfile.TemporaryFile() as log:
        done = subprocess.run([*map(str, command)], stdout=log, stderr=log, cwd="/", check=False)
        log.seek(0)
        assert done.returncode == 0, log.read().decode(errors="replace")


def _wait(ready: Callable[[], bool], process: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + 60
    while not ready():
        assert process.poll() is None, "the server stopped"
        assert time.monotonic() < end, "the server did not start within a minute"
        time.sleep(0.05)
