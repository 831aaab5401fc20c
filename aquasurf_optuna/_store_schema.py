"""The three tables of a feature store, and whether a database holds them.

- ``aquasurf_store``, one row: the version of the tables.
- ``aquasurf_features``, one row for each task and function that was measured.
- ``aquasurf_claims``, one row for each function that somebody measures right now.

They stand beside an Optuna study without touching it. Names compare by their bytes everywhere;
MySQL would take capital and small letters for the same. The first version had the table of features
alone, keyed by the expression's text.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import mysql
from sqlalchemy.schema import CreateTable

from aquasurf_optuna._store_bytes import CHECKSUM_BYTES, FORMAT_VERSION
from aquasurf_optuna.exceptions import FeatureStoreError

MAX_NAME_LENGTH = 200
MAX_EXPRESSION_LENGTH = 2000
KEY_LENGTH = 32

# The one row has this key, so that two processes cannot both add one.
_ONLY_ROW = 1
# MySQL can be set to make tables without transactions.
_ENGINE: dict[str, Any] = {"mysql_engine": "InnoDB", "mariadb_engine": "InnoDB"}
_BINARY = {"charset": "utf8mb4", "collation": "utf8mb4_bin"}


def _varchar(length: int) -> sa.types.TypeEngine[str]:
    binary = mysql.VARCHAR(length, **_BINARY)
    return sa.String(length).with_variant(binary, "mysql", "mariadb")


def _text() -> sa.types.TypeEngine[str]:
    binary = mysql.LONGTEXT(**_BINARY)
    return sa.Text().with_variant(binary, "mysql", "mariadb")


_METADATA = sa.MetaData()

VERSION = sa.Table(
    "aquasurf_store",
    _METADATA,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("version", sa.Integer, nullable=False),
    **_ENGINE,
)
FEATURES = sa.Table(
    "aquasurf_features",
    _METADATA,
    sa.Column("task", _varchar(MAX_NAME_LENGTH), primary_key=True),
    sa.Column("function", _varchar(KEY_LENGTH), primary_key=True),
    sa.Column("expression", _varchar(MAX_EXPRESSION_LENGTH), nullable=False),
    # The length makes it MySQL's LONGBLOB; the others take any.
    sa.Column("vector", sa.LargeBinary(2**31 - 1), nullable=True),
    sa.Column("reason", _text(), nullable=True),
    sa.Column("seconds", sa.Double, nullable=True),
    sa.Column("checksum", sa.LargeBinary(CHECKSUM_BYTES), nullable=False),
    **_ENGINE,
)
CLAIMS = sa.Table(
    "aquasurf_claims",
    _METADATA,
    sa.Column("task", _varchar(MAX_NAME_LENGTH), primary_key=True),
    sa.Column("function", _varchar(KEY_LENGTH), primary_key=True),
    sa.Column("expression", _varchar(MAX_EXPRESSION_LENGTH), nullable=False),
    sa.Column("owner", _varchar(MAX_NAME_LENGTH), nullable=False),
    sa.Column("beat", sa.Integer, nullable=False),
    **_ENGINE,
)

_FIRST_VERSION_COLUMNS = {"task", "expression", "vector", "reason"}


def is_ready(connection: sa.Connection, shown: str) -> bool:
    """Say whether the database `shown` holds a store of this version, complete.

    Raises:
        FeatureStoreError: If it holds a store of another version, or other tables of these names.
    """
    # The table of versions is made first and looked at last, so a store that another process is
    # making meanwhile is never taken for one without a version.
    inspector = sa.inspect(connection)
    present = [table for table in (CLAIMS, FEATURES) if inspector.has_table(table.name)]
    if not inspector.has_table(VERSION.name):
        for table in present:
            _refuse_unversioned(table.name, _columns(inspector, table.name), shown)
        return False
    _check_columns(inspector, VERSION, shown)
    versions = connection.execute(sa.select(VERSION.c.version)).scalars().all()
    if versions and list(versions) != [FORMAT_VERSION]:
        raise _other_version(" and ".join(map(str, sorted(versions))), shown)
    for table in present:
        _check_columns(inspector, table, shown)
    return bool(versions) and len(present) == 2


def create(connection: sa.Connection) -> None:
    """Make what is missing of a store; any number of processes may do so at once."""
    for table in (VERSION, FEATURES, CLAIMS):
        connection.execute(CreateTable(table, if_not_exists=True))
    if connection.execute(sa.select(VERSION.c.version)).first() is None:
        connection.execute(VERSION.insert().values(id=_ONLY_ROW, version=FORMAT_VERSION))


def take_turns(connection: sa.Connection) -> None:
    """Wait until no other process is between this and the end of its transaction.

    It locks the row of the version; SQLite, where a writer locks the whole database, ignores it.
    """
    connection.execute(sa.select(VERSION.c.version).with_for_update())


def _columns(inspector: sa.Inspector, table: str) -> set[str]:
    return {column["name"] for column in inspector.get_columns(table)}


def _check_columns(inspector: sa.Inspector, table: sa.Table, shown: str) -> None:
    found, expected = _columns(inspector, table.name), {column.name for column in table.columns}
    if found != expected:
        raise _foreign(table.name, found, expected, shown)


def _refuse_unversioned(name: str, found: set[str], shown: str) -> None:
    if name == FEATURES.name and found == _FIRST_VERSION_COLUMNS:
        raise _other_version("1", shown)
    raise _foreign(name, found, {column.name for column in _METADATA.tables[name].columns}, shown)


def _other_version(came: str, shown: str) -> FeatureStoreError:
    tables = ", ".join(repr(table.name) for table in (VERSION, FEATURES, CLAIMS))
    return FeatureStoreError(
        f"the feature store {shown} has version {came}, where version {FORMAT_VERSION} is "
        f"understood: name a new database (for SQLite, a new file), or delete those of the tables "
        f"{tables} that it has and measure again"
    )


def _foreign(name: str, found: set[str], expected: set[str], shown: str) -> FeatureStoreError:
    return FeatureStoreError(
        f"the table {name!r} of {shown} was not made by a feature store of version "
        f"{FORMAT_VERSION}: its columns are {sorted(found)}, not {sorted(expected)}; choose "
        f"another database, or delete that table"
    )
