"""A database of a feature store: opening it, and one short transaction after another.

SQLite begins every writing transaction with BEGIN IMMEDIATE: it then waits for another writer at
its first statement, where waiting helps, and cannot fail half way because it read before it wrote.
A file keeps the journal that it has; see docs/feature-store.md for the reason.
"""

from __future__ import annotations

import os
import random
import re
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError, IntegrityError, OperationalError, SQLAlchemyError
from sqlalchemy.pool import NullPool, StaticPool

from aquasurf_optuna import _store_schema as schema
from aquasurf_optuna.exceptions import FeatureStoreError

Result = TypeVar("Result")
Work = Callable[[sa.Connection], Result]

# A writer waits this long for another one: a put takes milliseconds, so only a stuck process, or a
# network file system, comes near it.
_BUSY_TIMEOUT_SECONDS = 60.0
_ATTEMPTS = 10
_LONGEST_PAUSE_SECONDS = 0.05
_WRITES = "aquasurf_writes"
# MySQL: a deadlock, a lock waited for too long. PostgreSQL: a deadlock, a failed serialisation.
_DEADLOCKS = (1213, 1205, "40P01", "40001")
_DRIVERS = {"postgresql": "psycopg[binary]", "mysql": "PyMySQL", "mariadb": "PyMySQL"}


class Database:
    """The database at a URL, opened at its first use and again after :meth:`close` or a fork.

    Args:
        url: As for :class:`aquasurf_optuna.FeatureStore`.

    Raises:
        FeatureStoreError: If `url` is no database URL, or its driver is not installed.
    """

    def __init__(self, url: str) -> None:
        self._url = _checked(url)
        self._engine: sa.Engine | None = None
        self._renew_locks()
        _DATABASES.add(self)

    @property
    def shown(self) -> str:
        """The URL with its password hidden."""
        return self._url.render_as_string(hide_password=True)

    @property
    def url(self) -> str:
        """The URL with its password."""
        return self._url.render_as_string(hide_password=False)

    def read(self, work: Work[Result]) -> Result:
        """Do `work` in one transaction that only reads.

        Raises:
            FeatureStoreError: If the database cannot be opened or read.
        """
        return self._transact(work, writes=False)

    def write(self, work: Work[Result]) -> Result:
        """Do `work` in one transaction, again if it loses a race: it must be repeatable.

        Raises:
            FeatureStoreError: If the database cannot be opened or written.
        """
        return self._transact(work, writes=True)

    def close(self) -> None:
        """Close the connections; the next use opens them again."""
        with self._opening:
            if self._engine is not None:
                self._engine.dispose()
            self._engine = None

    def after_fork(self) -> None:
        """Begin anew in a forked process; the parent's connections stay the parent's."""
        if self._engine is not None:
            # Held for good, since a connection that is collected says goodbye to the server.
            _INHERITED.append(self._engine)
        self._engine = None
        self._renew_locks()

    def _renew_locks(self) -> None:
        self._opening = threading.Lock()
        # One connection serves every thread of a store in memory, so they take turns.
        self._turns = threading.RLock() if _in_memory(self._url) else nullcontext()

    def _transact(self, work: Work[Result], *, writes: bool) -> Result:
        with self._own_errors(), self._turns:
            return _repeated(self._open(), work, writes=writes)

    @contextmanager
    def _own_errors(self) -> Iterator[None]:
        try:
            yield
        except SQLAlchemyError as error:
            raise FeatureStoreError(f"the feature store {self.shown} failed: {error}") from error

    def _open(self) -> sa.Engine:
        with self._opening:
            if self._engine is None:
                engine = _make_engine(self._url)
                if _in_memory(self._url):
                    weakref.finalize(self, engine.dispose)
                self._prepare(engine)
                self._engine = engine
            return self._engine

    def _prepare(self, engine: sa.Engine) -> None:
        def ready(connection: sa.Connection) -> bool:
            return schema.is_ready(connection, self.shown)

        def make(connection: sa.Connection) -> None:
            if not schema.is_ready(connection, self.shown):
                schema.create(connection)

        if not _repeated(engine, ready, writes=False):
            _repeated(engine, make, writes=True, making=True)


_DATABASES: weakref.WeakSet[Database] = weakref.WeakSet()
_INHERITED: list[sa.Engine] = []


def _after_fork() -> None:
    for database in list(_DATABASES):
        database.after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def _checked(url: str) -> sa.URL:
    try:
        parsed = sa.make_url(url)
        parsed.get_dialect().import_dbapi()
    except SQLAlchemyError as error:
        shown = re.sub(r"(://[^:@/]*):[^@]*@", r"\1:***@", url) if isinstance(url, str) else url
        raise FeatureStoreError(
            "url must be an SQLAlchemy database URL such as 'sqlite:///features.db', "
            f"but got {shown!r}: {type(error).__name__}"
        ) from None
    except ImportError as error:
        package = _DRIVERS.get(parsed.get_backend_name(), "the driver that the URL names")
        raise FeatureStoreError(
            f"the driver of the database URL {parsed.render_as_string()!r} is not installed "
            f"({error}): pip install '{package}'"
        ) from error
    return parsed


def _is_sqlite(url: sa.URL) -> bool:
    return url.get_backend_name() == "sqlite"


def _in_memory(url: sa.URL) -> bool:
    name = url.database or ":memory:"
    return _is_sqlite(url) and (":memory:" in name or url.query.get("mode") == "memory")


def _make_engine(url: sa.URL) -> sa.Engine:
    engine = sa.create_engine(url, **_engine_options(url))
    if _is_sqlite(url):
        sa.event.listen(engine, "connect", _sqlite_connected)
        sa.event.listen(engine, "begin", _sqlite_begins)
    return engine


def _engine_options(url: sa.URL) -> dict[str, Any]:
    if not _is_sqlite(url):
        # MySQL's own default locks the gaps between rows, where two writers then meet.
        return {"pool_pre_ping": True, "isolation_level": "READ COMMITTED"}
    if _in_memory(url):
        return {"poolclass": StaticPool, "connect_args": {"check_same_thread": False}}
    # Opening an SQLite file costs little, and a connection never kept is never inherited.
    return {"poolclass": NullPool, "connect_args": {"timeout": _BUSY_TIMEOUT_SECONDS}}


def _sqlite_connected(connection: Any, _record: object) -> None:
    # The driver would begin by itself, late and without IMMEDIATE.
    connection.isolation_level = None
    # A damaged text must arrive, to be found out by its checksum, rather than stop the reading.
    connection.text_factory = lambda raw: raw.decode("utf-8", "surrogateescape")


def _sqlite_begins(connection: sa.Connection) -> None:
    writes = connection.get_execution_options().get(_WRITES, False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _repeated(
    engine: sa.Engine, work: Work[Result], *, writes: bool, making: bool = False
) -> Result:
    """Do `work` in one transaction; where another process came between, do it again."""
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            with engine.connect() as connection:
                connection = connection.execution_options(**{_WRITES: writes})
                with connection.begin():
                    return work(connection)
        except DBAPIError as error:
            if attempt == _ATTEMPTS or not _lost_a_race(error, making=making):
                raise
        # Different from process to process, so that the same two do not meet again.
        time.sleep(random.SystemRandom().uniform(0, _LONGEST_PAUSE_SECONDS))
    raise AssertionError("the last attempt returns or raises")


def _lost_a_race(error: DBAPIError, *, making: bool) -> bool:
    """Say whether another process made the same row first, or each waited for the other.

    Of two that make the same table, PostgreSQL tells one that its catalogue changed meanwhile.
    """
    if isinstance(error, IntegrityError) or (making and not isinstance(error, OperationalError)):
        return True
    came = error.orig
    codes = [getattr(came, name, None) for name in ("sqlstate", "pgcode")]
    return any(code in _DEADLOCKS for code in (*codes, *getattr(came, "args", ())[:1]))
