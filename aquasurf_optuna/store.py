"""Features kept in a database, so that no network is measured twice.

A *task* names what the features depend on beside the function: the network, the batch and the
settings (see :attr:`aquasurf_optuna.FisherFeaturizer.task`). A *function* is the class of equal
expressions (see :func:`aquasurf_optuna.features.outputs.function_key`). The store keeps one row for
each task and function, with a vector or the reason why there is none, and lets several processes
and machines claim functions, so that they divide the work.

The tables are in ``_store_schema.py``, the bytes in ``_store_bytes.py``, files in
``_store_files.py``.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Sequence
from types import TracebackType
from typing import Self

import sqlalchemy as sa

from aquasurf_optuna import _store_claims as claiming
from aquasurf_optuna import _store_rows as rows
from aquasurf_optuna._store_claims import Claim
from aquasurf_optuna._store_database import Database
from aquasurf_optuna._store_files import check_path, read_file, write_file
from aquasurf_optuna._store_schema import FEATURES, MAX_EXPRESSION_LENGTH, MAX_NAME_LENGTH
from aquasurf_optuna.activation import as_expression
from aquasurf_optuna.exceptions import FeatureStoreError
from aquasurf_optuna.expression import Expression
from aquasurf_optuna.features.featurizer import FisherFeature
from aquasurf_optuna.features.outputs import function_key

__all__ = ["Claim", "FeatureStore", "FeatureStoreWarning"]


class FeatureStoreWarning(UserWarning):
    """A row of a store is damaged or foreign; it counts as absent, and a `put` replaces it."""


class FeatureStore:
    """A database of Fisher features, shared by threads, processes and machines.

    Opening is lazy: the constructor only reads the URL, and the tables are made at first use. A
    store pickles as its URL, and a forked process opens its own connection.

    Every method is one short transaction: what it returned from is kept whatever happens to the
    process, and what it did not has left no trace. Each raises `FeatureStoreError` if the database
    cannot be opened, read or written, or holds a store of another version; those that take an
    expression raise `ExpressionError` for a text that names no function. A row that is damaged or
    that this version did not write is reported by a `FeatureStoreWarning` and counts as absent.

    Args:
        url: An SQLAlchemy database URL, such as ``sqlite:///features.db``,
            ``postgresql+psycopg://user@host/database`` or ``mysql+pymysql://user@host/database``;
            it may be that of an Optuna study. ``sqlite://`` alone is a store in memory: it lives as
            long as this object, and a pickled copy starts empty.

    Raises:
        FeatureStoreError: If `url` is no database URL, or its driver is not installed.
    """

    def __init__(self, url: str) -> None:
        self._database = Database(url)

    @property
    def url(self) -> str:
        """The database URL, with any password in it hidden."""
        return self._database.shown

    def get(self, task: str, expression: str | Expression) -> FisherFeature | None:
        """Return the feature kept for a function in `task`, or None if there is none.

        Args:
            task: Name of the task.
            expression: The function, or its text; any that is equal to the one measured.

        Raises:
            ExpressionError: If a text names no function.
            FeatureStoreError: See the class.
        """
        function = function_key(as_expression(expression))
        return self._read(task, [function]).features.get(function)

    def known(self, task: str, expressions: Iterable[str | Expression]) -> dict[str, FisherFeature]:
        """Return the features kept for many functions, in a few queries.

        Args:
            task: Name of the task.
            expressions: The functions, or their texts.

        Returns:
            By text as it came, in this order, without those that the store lacks. Equal functions
            share one feature.

        Raises:
            ExpressionError: If a text names no function.
            FeatureStoreError: See the class.
        """
        functions = _functions(expressions)
        features = self._read(task, dict.fromkeys(functions.values())).features
        found = {text: features.get(function) for text, function in functions.items()}
        return {text: feature for text, feature in found.items() if feature is not None}

    def load(self, task: str) -> dict[str, FisherFeature]:
        """Return every feature of `task`, by the text that was measured, in the order of the texts.

        Raises:
            FeatureStoreError: See the class.
        """
        features = {row.expression: feature for row, feature in self._read(task).rows}
        return dict(sorted(features.items()))

    def functions(self, task: str) -> dict[str, str]:
        """Return what was measured in `task`, without reading vectors.

        Returns:
            Text of the expression that was measured, by function, in the order of the texts.

        Raises:
            FeatureStoreError: See the class.
        """
        columns = (FEATURES.c.function, FEATURES.c.expression)
        query = sa.select(*columns).where(FEATURES.c.task == task)
        found = self._database.read(lambda connection: connection.execute(query).all())
        return {str(row.function): str(row.expression) for row in sorted(found, key=lambda r: r[1])}

    def features(self, task: str, functions: Iterable[str]) -> dict[str, FisherFeature]:
        """Return the features of functions as :meth:`functions` names them.

        Quicker than :meth:`known`, which first works out what function each expression is.

        Raises:
            FeatureStoreError: See the class.
        """
        return self._read(task, functions).features

    def count(self, task: str | None = None) -> int:
        """Return how many rows there are for `task`, or in all.

        Raises:
            FeatureStoreError: See the class.
        """
        tasks = self.tasks()
        return sum(tasks.values()) if task is None else tasks.get(task, 0)

    def tasks(self) -> dict[str, int]:
        """Return how many rows each task has, in the order of their names.

        Raises:
            FeatureStoreError: See the class.
        """
        query = sa.select(FEATURES.c.task, sa.func.count()).group_by(FEATURES.c.task)
        found = self._database.read(lambda connection: connection.execute(query).all())
        return {task: int(number) for task, number in sorted(map(tuple, found))}

    def put(
        self,
        task: str,
        expression: str | Expression,
        feature: FisherFeature,
        *,
        seconds: float | None = None,
        owner: str | None = None,
    ) -> bool:
        """Keep the feature of a function in `task`, in place of an earlier one; drop its claim.

        Args:
            task: Name of the task, of 200 characters at most.
            expression: The function, or its text, of 2,000 characters at most.
            feature: A vector of shape ``(n,)``, kept as float32, or a reason.
            seconds: How long the measurement took, if known.
            owner: Who measured it under a claim. Nothing is written if that claim is gone, because
                somebody took the owner for dead.

        Returns:
            Whether the feature was written; without `owner`, always True.

        Raises:
            ExpressionError: If a text names no function.
            FeatureStoreError: If a name is too long, or the feature holds neither a finite vector
                nor a reason; and see the class.
        """
        _check_name("task", task)
        if owner is not None:
            _check_name("owner", owner)
        parsed = as_expression(expression)
        text = _checked_text(str(parsed))
        row = rows.Row.of(task, function_key(parsed), text, feature, seconds)

        def work(connection: sa.Connection) -> bool:
            if owner is not None and not rows.delete_claim(connection, task, row.function, owner):
                return False
            rows.write(connection, [row])
            return True

        return self._database.write(work)

    def claim(
        self,
        task: str,
        expressions: Sequence[str | Expression],
        owner: str,
        *,
        limit: int | None = None,
    ) -> list[str]:
        """Claim functions that have neither a good row nor a claim, before anybody else does.

        The rows of `expressions` are read for it, so pass only what :meth:`known` lacked.

        Args:
            task: Name of the task, of 200 characters at most.
            expressions: The functions, or their texts. Of equal ones, the first is claimed.
            owner: Who claims, of 200 characters at most; a name that is never used again.
            limit: How many to claim at most, or None for all.

        Returns:
            The texts claimed, as they came and in their order.

        Raises:
            ExpressionError: If a text names no function.
            FeatureStoreError: If a name or text is too long, or `limit` is not positive; and see
                the class.
        """
        _check_name("task", task)
        _check_name("owner", owner)
        if limit is not None and limit < 1:
            raise FeatureStoreError(f"limit must be at least 1, or None for all, but got {limit}")
        wanted: dict[str, str] = {}
        for text, function in _functions(expressions).items():
            wanted.setdefault(function, _checked_text(text))
        taken, problems = self._database.write(
            lambda connection: claiming.claim(connection, task, wanted, owner, limit)
        )
        self._warn(problems)
        return [wanted[function] for function in taken]

    def beat(self, owner: str) -> None:
        """Say that `owner` is alive: add 1 to the beat of all its claims.

        Raises:
            FeatureStoreError: See the class.
        """
        self._database.write(lambda connection: claiming.beat(connection, owner))

    def claims(self, task: str) -> dict[str, Claim]:
        """Return the claims of `task` by function, as they stand.

        Raises:
            FeatureStoreError: See the class.
        """
        return self._database.read(lambda connection: claiming.read(connection, task))

    def take_over(self, task: str, expression: str | Expression, seen: Claim, owner: str) -> bool:
        """Take the claim on a function from an owner that gave no sign of life.

        Args:
            task: Name of the task.
            expression: The function, or its text.
            seen: The claim as :meth:`claims` gave it.
            owner: Who takes it.

        Returns:
            Whether it was taken; not if it is gone, or its owner or beat is another by now.

        Raises:
            ExpressionError: If a text names no function.
            FeatureStoreError: If a name is too long; and see the class.
        """
        _check_name("owner", owner)
        function = function_key(as_expression(expression))
        return self._database.write(
            lambda connection: claiming.take_over(connection, task, function, seen, owner)
        )

    def release(self, owner: str) -> int:
        """Drop all claims of `owner`, and return how many there were.

        Raises:
            FeatureStoreError: See the class.
        """
        return self._database.write(lambda connection: claiming.release(connection, owner))

    def export_file(self, path: str | os.PathLike[str], task: str | None = None) -> int:
        """Write the good rows of `task`, or all, to a file, in place of an earlier one.

        Args:
            path: Where to; the suffix, ``.npz`` or ``.parquet`` (needs pyarrow), is the format.
            task: Name of the task, or None for all.

        Returns:
            How many rows were written.

        Raises:
            FeatureStoreError: If the suffix is another, pyarrow is missing or the file cannot be
                written (an earlier one is left as it was); and see the class.
        """
        checked = check_path(path)
        good = [row for row, _ in self._read(task).rows]
        write_file(checked, sorted(good, key=lambda row: (row.task, row.expression, row.function)))
        return len(good)

    def import_file(self, path: str | os.PathLike[str]) -> int:
        """Add the rows of a file that :meth:`export_file` wrote; good rows of the store stay.

        Args:
            path: The file; its suffix is the format.

        Returns:
            How many rows were added. Claims on their functions are dropped.

        Raises:
            FeatureStoreError: If the file is missing, or anything in it is damaged, foreign or of
                another version: then nothing is added. And see the class.
        """
        new = _good_rows(path)

        def work(connection: sa.Connection) -> int:
            missing = {(row.task, row.function): row for row in new}
            for task in {row.task for row in new}:
                functions = [row.function for row in new if row.task == task]
                for function in rows.read(connection, task, functions).features:
                    del missing[task, function]
            rows.write(connection, list(missing.values()))
            return len(missing)

        return self._database.write(work)

    def close(self) -> None:
        """Close the connections; the next use opens them again."""
        self._database.close()

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
        return (FeatureStore, (self._database.url,))

    def _read(self, task: str | None, functions: Iterable[str] | None = None) -> rows.Reading:
        reading = self._database.read(lambda connection: rows.read(connection, task, functions))
        self._warn(reading.problems)
        return reading

    def _warn(self, problems: Sequence[str]) -> None:
        for problem in problems:
            warnings.warn(
                f"{self.url} holds something that is no feature, and is taken for absent: "
                f"{problem}",
                FeatureStoreWarning,
                stacklevel=3,
            )


def _functions(expressions: Iterable[str | Expression]) -> dict[str, str]:
    """Return the functions of expressions by their texts as they came."""
    return {str(expression): function_key(as_expression(expression)) for expression in expressions}


def _good_rows(path: str | os.PathLike[str]) -> list[rows.Row]:
    checked = check_path(path)
    reading = rows.check(read_file(checked))
    if reading.problems:
        raise FeatureStoreError(
            f"{str(checked)!r} is damaged, so nothing was added: {reading.problems[0]} "
            f"({len(reading.problems)} such rows); export it again"
        )
    return [row for row, _ in reading.rows]


def _checked_text(text: str) -> str:
    _check_length("expression", text, MAX_EXPRESSION_LENGTH)
    return text


def _check_name(name: str, value: str) -> None:
    _check_length(name, value, MAX_NAME_LENGTH)
    # Databases disagree about spaces at the end, and refuse this or that special character.
    if value != value.strip() or not value.isprintable():
        raise FeatureStoreError(
            f"{name} must be printable text without spaces around it, but got {value!r}"
        )


def _check_length(name: str, value: str, limit: int) -> None:
    if not 0 < len(value) <= limit:
        shown = value if len(value) <= 60 else f"{value[:60]}..."
        raise FeatureStoreError(
            f"{name} must have 1 to {limit} characters, but got {len(value)}: {shown!r}"
        )
