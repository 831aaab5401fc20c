"""Rows of measured functions: made from features, checked when read, read and written in bulk.

A row is believed only if its checksum, taken over every column, is right. So a changed byte, a
vector that belongs to another row, and a row that another program wrote are all found out.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import sqlalchemy as sa

from aquasurf_optuna._store_bytes import checksum, pack, unpack
from aquasurf_optuna._store_schema import CLAIMS, FEATURES
from aquasurf_optuna.exceptions import FeatureStoreError
from aquasurf_optuna.features.featurizer import FisherFeature

# Far below the number of parameters that any database takes in one statement.
_CHUNK = 200

# The values as the driver gives them: a damaged row may hold a number where bytes should be.
_COLUMNS = [
    sa.type_coerce(column, sa.types.NULLTYPE).label(column.name) for column in FEATURES.columns
]
_KINDS: dict[str, tuple[type, ...]] = {
    "task": (str,),
    "function": (str,),
    "expression": (str,),
    "vector": (bytes, type(None)),
    "reason": (str, type(None)),
    "seconds": (float, type(None)),
    "checksum": (bytes,),
}


@dataclasses.dataclass(frozen=True)
class Row:
    """One row, as it lies in the database or in a file.

    Attributes:
        task: Name of the task.
        function: Key of the function, see :func:`aquasurf_optuna.features.outputs.function_key`.
        expression: Text of the expression that was measured.
        vector: As in `_store_bytes.py`, or None.
        reason: Why there is no vector, or None.
        seconds: How long the measurement took, or None.
        checksum: Over all of these.
    """

    task: str
    function: str
    expression: str
    vector: bytes | None
    reason: str | None
    seconds: float | None
    checksum: bytes

    @classmethod
    def of(
        cls, task: str, function: str, expression: str, feature: FisherFeature, seconds: Any
    ) -> Row:
        """Return the row of a feature.

        Raises:
            FeatureStoreError: If the feature holds neither a finite vector nor a reason, or
                `seconds` is no length of time.
        """
        vector, reason = _content(expression, feature)
        row = cls(task, function, expression, vector, reason, _duration(seconds), b"")
        return dataclasses.replace(row, checksum=row.right_checksum())

    @classmethod
    def from_columns(cls, columns: dict[str, Any]) -> Row:
        """Return a row as it came, whatever its values are."""
        return cls(**{name: _plain(columns[name]) for name in _KINDS})

    @property
    def columns(self) -> dict[str, Any]:
        """The values by the names of their columns."""
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}

    def right_checksum(self) -> bytes:
        """Return what the checksum should be."""
        return checksum(value for name, value in self.columns.items() if name != "checksum")

    def feature(self) -> FisherFeature:
        """Return the feature of a good row.

        Raises:
            ValueError: If the row was damaged, or is not by this version.
        """
        for name, kinds in _KINDS.items():
            value = getattr(self, name)
            if not isinstance(value, kinds):
                raise ValueError(f"its {name} has the type {type(value).__name__}")
        if self.checksum != self.right_checksum():
            raise ValueError("its checksum is wrong")
        if (self.vector is None) == (self.reason is None):
            missing = "neither" if self.vector is None else "both"
            raise ValueError(f"it must hold a vector or a reason, not {missing}")
        vector = None if self.vector is None else unpack(self.vector)
        return FisherFeature(vector=vector, reason=self.reason)


@dataclasses.dataclass(frozen=True)
class Reading:
    """What was found of several rows.

    Attributes:
        rows: Good rows with their features.
        problems: For each of the others, a sentence that names it and says what is wrong.
    """

    rows: list[tuple[Row, FisherFeature]]
    problems: list[str]

    @property
    def features(self) -> dict[str, FisherFeature]:
        """The features of the good rows by function; of one task."""
        return {row.function: feature for row, feature in self.rows}


def read(
    connection: sa.Connection, task: str | None = None, functions: Iterable[str] | None = None
) -> Reading:
    """Read the rows of a task or of all, of some functions or of all."""
    query = sa.select(*_COLUMNS)
    if task is not None:
        query = query.where(FEATURES.c.task == task)
    if functions is None:
        return check(_fetch(connection, query))
    chunks = chunked(list(functions))
    queries = [query.where(FEATURES.c.function.in_(chunk)) for chunk in chunks]
    return check(row for query in queries for row in _fetch(connection, query))


def check(rows: Iterable[Row]) -> Reading:
    """Tell good rows from bad ones."""
    reading = Reading([], [])
    for row in rows:
        try:
            reading.rows.append((row, row.feature()))
        except ValueError as error:
            where = f"the row of task {row.task!r}, expression {row.expression!r}"
            reading.problems.append(f"{where}: {error}")
    return reading


def write(connection: sa.Connection, rows: Sequence[Row]) -> None:
    """Put rows in place of earlier ones, and drop the claims on their functions.

    Everybody touches the claim first and the row second, so that no two wait for each other.
    """
    for row in rows:
        delete_claim(connection, row.task, row.function)
    update = FEATURES.update()
    for row in rows:
        here = (FEATURES.c.task == row.task, FEATURES.c.function == row.function)
        # The one way of replacing a row that every database understands.
        if connection.execute(update.where(*here).values(**row.columns)).rowcount == 0:
            connection.execute(FEATURES.insert().values(**row.columns))


def delete_claim(
    connection: sa.Connection, task: str, function: str, owner: str | None = None
) -> bool:
    """Drop the claim on a function, only that of `owner` if given; say whether there was one."""
    delete = CLAIMS.delete().where(CLAIMS.c.task == task, CLAIMS.c.function == function)
    if owner is not None:
        delete = delete.where(CLAIMS.c.owner == owner)
    return connection.execute(delete).rowcount > 0


def chunked(values: Sequence[str]) -> Iterator[Sequence[str]]:
    """Yield `values` in pieces that fit into one statement."""
    return (values[start : start + _CHUNK] for start in range(0, len(values), _CHUNK))


def _fetch(connection: sa.Connection, query: sa.Executable) -> Iterator[Row]:
    return (Row.from_columns(dict(row)) for row in connection.execute(query).mappings())


def _plain(value: Any) -> Any:
    return bytes(value) if isinstance(value, (memoryview, bytearray)) else value


def _content(expression: str, feature: FisherFeature) -> tuple[bytes | None, str | None]:
    if feature.vector is not None:
        vector = np.asarray(feature.vector)
        with np.errstate(over="ignore"):
            finite = vector.ndim == 1 and np.isfinite(vector.astype(np.float32)).all()
        if not finite:
            raise FeatureStoreError(
                f"the vector of {expression!r} must be one-dimensional and finite in float32, "
                f"but got shape {vector.shape} with values from {vector.min(initial=np.inf)} "
                f"to {vector.max(initial=-np.inf)}"
            )
        return pack(vector), None
    if not isinstance(feature.reason, str) or not feature.reason:
        raise FeatureStoreError(
            f"the feature of {expression!r} must hold a vector or a reason, but got {feature}"
        )
    return None, _storable(feature.reason)


def _storable(text: str) -> str:
    """Return `text` without what some database refuses: NUL, and halves of characters."""
    return text.replace("\0", "\\0").encode("utf-8", "backslashreplace").decode()


def _duration(seconds: Any) -> float | None:
    if seconds is None:
        return None
    if isinstance(seconds, (int, float)) and 0 <= seconds < float("inf"):
        # Adding 0 turns -0, of which some database forgets the sign, into 0.
        return float(seconds) + 0.0
    raise FeatureStoreError(
        f"seconds must be a finite number of at least 0, or None, but got {seconds!r}"
    )
