"""Features kept in a database, so that no network is measured twice.

One table, ``aquasurf_features``, holds one row for each task and expression. A *task* names what
the features depend on beside the function: the network, the batch and the settings (see
:attr:`aquasurf_optuna.FisherFeaturizer.task`). A row holds either a vector or the reason why the
function has none.

A vector is kept as bytes, never as a pickle or as text to evaluate::

    offset  size  meaning
    0       4     the letters AQSF
    4       2     version of this format, little-endian unsigned (now 1)
    6       4     n, the length of the vector, little-endian unsigned
    10      4 n   the values, little-endian float32
"""

from __future__ import annotations

import os
import struct
import threading
import weakref
from typing import TYPE_CHECKING, Any, Self, TypeVar

import numpy as np
import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError, SQLAlchemyError
from sqlalchemy.pool import NullPool, StaticPool
from sqlalchemy.schema import CreateTable

from aquasurf_optuna.exceptions import FeatureStoreError
from aquasurf_optuna.features.featurizer import FisherFeature

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from numpy.typing import NDArray

TABLE_NAME = "aquasurf_features"
FORMAT_VERSION = 1
MAX_TASK_LENGTH = 200
MAX_EXPRESSION_LENGTH = 500

_HEADER = struct.Struct("<4sHI")
_MAGIC = b"AQSF"
# A writer waits this long for another one: a put takes milliseconds, so only a stuck process, or a
# network file system, comes near it.
_BUSY_TIMEOUT_SECONDS = 60.0

_Result = TypeVar("_Result")

_TABLE = sa.Table(
    TABLE_NAME,
    sa.MetaData(),
    sa.Column("task", sa.String(MAX_TASK_LENGTH), primary_key=True),
    sa.Column("expression", sa.String(MAX_EXPRESSION_LENGTH), primary_key=True),
    sa.Column("vector", sa.LargeBinary(2**31 - 1), nullable=True),
    sa.Column("reason", sa.Text, nullable=True),
)


class _DuplicateError(FeatureStoreError):
    """The row to insert exists."""


class FeatureStore:
    """A database of Fisher features, shared by threads, processes and machines.

    Opening is lazy: the constructor only reads the URL, and the table is made at first use. A store
    pickles as its URL, and a forked process opens its own connection.

    Args:
        url: An SQLAlchemy database URL, such as ``sqlite:///features.db``. ``sqlite://`` alone is
            a store in memory: it lives as long as this object, and a pickled copy starts empty.

    Raises:
        FeatureStoreError: If `url` is no database URL, or its driver is not installed.
    """

    def __init__(self, url: str) -> None:
        try:
            self._url = sa.make_url(url)
            self._url.get_dialect().import_dbapi()
        except (SQLAlchemyError, ImportError) as error:
            raise FeatureStoreError(
                f"url must be an SQLAlchemy database URL such as 'sqlite:///features.db', "
                f"but got {url!r}: {error}"
            ) from error
        self._open_lock = threading.Lock()
        self._engine: sa.Engine | None = None
        self._engine_pid = -1
        # One connection serves every thread of a store in memory, so they take turns.
        self._memory_lock = threading.RLock()

    @property
    def url(self) -> str:
        """The database URL, with any password in it hidden."""
        return self._url.render_as_string(hide_password=True)

    def get(self, task: str, expression: str) -> FisherFeature | None:
        """Return the feature kept for `expression` in `task`, or None if there is none.

        Args:
            task: Name of the task.
            expression: Text of the expression, as ``str(expression)`` gives it.

        Raises:
            FeatureStoreError: If the database cannot be read, or holds what this class did not
                write.
        """
        query = sa.select(_TABLE.c.vector, _TABLE.c.reason).where(
            _TABLE.c.task == task, _TABLE.c.expression == expression
        )
        row = self._run(lambda connection: connection.execute(query).first())
        return None if row is None else self._feature(task, expression, row.vector, row.reason)

    def put(self, task: str, expression: str, feature: FisherFeature) -> None:
        """Keep `feature` for `expression` in `task`, in place of an earlier one.

        Args:
            task: Name of the task, of 200 characters at most.
            expression: Text of the expression, of 500 characters at most.
            feature: A vector of shape ``(n,)``, kept as float32, or a reason.

        Raises:
            FeatureStoreError: If a name is too long, the feature holds neither a finite vector nor
                a reason, or the database cannot be written.
        """
        _check_length("task", task, MAX_TASK_LENGTH)
        _check_length("expression", expression, MAX_EXPRESSION_LENGTH)
        content = _content(expression, feature)

        here = (_TABLE.c.task == task, _TABLE.c.expression == expression)
        insert = _TABLE.insert().values(task=task, expression=expression, **content)
        update = _TABLE.update().where(*here).values(**content)
        # Insert, and update on a clash: the one way of upserting that every database understands.
        # Each begins by writing, so SQLite takes its lock, or waits for it, at once.
        try:
            self._run(lambda connection: connection.execute(insert))
        except _DuplicateError:
            self._run(lambda connection: connection.execute(update))

    def load(self, task: str) -> dict[str, FisherFeature]:
        """Return every feature of `task`, by expression text, in the order of the texts.

        Raises:
            FeatureStoreError: As for :meth:`get`.
        """
        query = (
            sa.select(_TABLE.c.expression, _TABLE.c.vector, _TABLE.c.reason)
            .where(_TABLE.c.task == task)
            .order_by(_TABLE.c.expression)
        )
        rows = self._run(lambda connection: connection.execute(query).all())
        return {
            row.expression: self._feature(task, row.expression, row.vector, row.reason)
            for row in rows
        }

    def count(self, task: str | None = None) -> int:
        """Return how many features are kept for `task`, or in all.

        Raises:
            FeatureStoreError: If the database cannot be read.
        """
        query = sa.select(sa.func.count()).select_from(_TABLE)
        if task is not None:
            query = query.where(_TABLE.c.task == task)
        return int(self._run(lambda connection: connection.execute(query).scalar_one()))

    def close(self) -> None:
        """Close the connections; the next use opens them again."""
        with self._open_lock:
            if self._engine is not None and self._engine_pid == os.getpid():
                self._engine.dispose()
            self._engine = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"FeatureStore({self.url!r})"

    def __reduce__(self) -> tuple[type[FeatureStore], tuple[str]]:
        return (FeatureStore, (self._url.render_as_string(hide_password=False),))

    @property
    def _in_memory(self) -> bool:
        return self._url.get_backend_name() == "sqlite" and self._url.database in (
            None,
            "",
            ":memory:",
        )

    def _run(self, work: Callable[[sa.Connection], _Result]) -> _Result:
        """Do `work` in one transaction, turning the database's errors into the store's own."""
        try:
            if not self._in_memory:
                with self._open().begin() as connection:
                    return work(connection)
            with self._memory_lock, self._open().begin() as connection:
                return work(connection)
        except IntegrityError as error:
            raise _DuplicateError(f"{self.url} holds this row already") from error
        except SQLAlchemyError as error:
            raise FeatureStoreError(f"the feature store {self.url} failed: {error}") from error

    def _open(self) -> sa.Engine:
        with self._open_lock:
            if self._engine is None or self._engine_pid != os.getpid():
                # After a fork, the parent's connections are the parent's: leave them unclosed.
                engine = sa.create_engine(self._url, **self._engine_options())
                if self._in_memory:
                    weakref.finalize(self, engine.dispose)
                self._prepare(engine)
                self._engine, self._engine_pid = engine, os.getpid()
            return self._engine

    def _engine_options(self) -> dict[str, Any]:
        if self._url.get_backend_name() != "sqlite":
            return {"pool_pre_ping": True}
        if self._in_memory:
            return {"poolclass": StaticPool, "connect_args": {"check_same_thread": False}}
        # Opening an SQLite file costs little, and a connection never kept is never inherited.
        return {"poolclass": NullPool, "connect_args": {"timeout": _BUSY_TIMEOUT_SECONDS}}

    def _prepare(self, engine: sa.Engine) -> None:
        with engine.begin() as connection:
            # "if not exists" settles the race of several processes that open a new database.
            connection.execute(CreateTable(_TABLE, if_not_exists=True))
        found = {column["name"] for column in sa.inspect(engine).get_columns(TABLE_NAME)}
        expected = {column.name for column in _TABLE.columns}
        if found != expected:
            raise FeatureStoreError(
                f"the table {TABLE_NAME!r} of {self.url} was not made by this store: its columns "
                f"are {sorted(found)}, not {sorted(expected)}; choose another database"
            )

    def _feature(
        self, task: str, expression: str, vector: bytes | None, reason: str | None
    ) -> FisherFeature:
        where = f"the row of task {task!r}, expression {expression!r} in {self.url}"
        if (vector is None) == (reason is None):
            raise FeatureStoreError(
                f"{where} was not written by this store: it must hold a vector or a reason, "
                f"not {'neither' if vector is None else 'both'}; delete it"
            )
        if vector is None:
            return FisherFeature(vector=None, reason=reason)
        try:
            return FisherFeature(vector=_unpack(vector), reason=None)
        except ValueError as error:
            raise FeatureStoreError(
                f"{where} holds a vector that this store did not write: {error}; delete it"
            ) from error


def _check_length(name: str, value: str, limit: int) -> None:
    if not 0 < len(value) <= limit:
        shown = value if len(value) <= 60 else f"{value[:60]}..."
        raise FeatureStoreError(
            f"{name} must have 1 to {limit} characters, but got {len(value)}: {shown!r}"
        )


def _content(expression: str, feature: FisherFeature) -> dict[str, bytes | str | None]:
    if feature.vector is not None:
        vector = np.asarray(feature.vector)
        if vector.ndim != 1 or not np.isfinite(vector.astype(np.float32)).all():
            raise FeatureStoreError(
                f"the vector of {expression!r} must be one-dimensional and finite in float32, "
                f"but got shape {vector.shape} with values from {vector.min(initial=np.inf)} "
                f"to {vector.max(initial=-np.inf)}"
            )
        return {"vector": _pack(vector), "reason": None}
    if not feature.reason:
        raise FeatureStoreError(
            f"the feature of {expression!r} must hold a vector or a reason, but got {feature}"
        )
    return {"vector": None, "reason": feature.reason}


def _pack(vector: NDArray[Any]) -> bytes:
    return _HEADER.pack(_MAGIC, FORMAT_VERSION, vector.size) + vector.astype("<f4").tobytes()


def _unpack(blob: bytes) -> NDArray[np.float32]:
    if len(blob) < _HEADER.size:
        raise ValueError(f"it has {len(blob)} bytes, fewer than its header of {_HEADER.size}")
    magic, version, length = _HEADER.unpack_from(blob)
    if magic != _MAGIC:
        raise ValueError(f"it begins with {magic!r} instead of {_MAGIC!r}")
    if version != FORMAT_VERSION:
        raise ValueError(f"its format has version {version}, where {FORMAT_VERSION} is understood")
    if len(blob) != _HEADER.size + 4 * length:
        raise ValueError(
            f"it has {len(blob)} bytes, where its length {length} takes {_HEADER.size + 4 * length}"
        )
    return np.frombuffer(blob, dtype="<f4", offset=_HEADER.size).astype(np.float32)
