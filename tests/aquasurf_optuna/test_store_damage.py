"""Damaged, foreign and outdated stores: reported, never believed, and mended by a put."""

import pickle
import sqlite3
import struct
from pathlib import Path

import numpy as np
import pytest

from aquasurf_optuna._store_bytes import FORMAT_VERSION, pack, unpack
from aquasurf_optuna._store_rows import Row
from aquasurf_optuna.exceptions import FeatureStoreError
from aquasurf_optuna.features.featurizer import FisherFeature
from aquasurf_optuna.store import FeatureStore, FeatureStoreWarning

VALID = FisherFeature(vector=np.array([0.1, -3.5, 1e-30], dtype=np.float32), reason=None)
RISING = np.linspace(1.0, 2.0, 64, dtype=np.float32)
HEADER = 11


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "features.db"


@pytest.fixture
def store(path: Path) -> FeatureStore:
    return FeatureStore(f"sqlite:///{path}")


def change(path: Path, statement: str, *values: object) -> list[tuple[object, ...]]:
    connection = sqlite3.connect(path)
    with connection:
        found = connection.execute(statement, values).fetchall()
    connection.close()
    return found


def reseal(path: Path, **changes: object) -> None:
    """Change a row and give it the right checksum, as a program with other rules would."""
    names = ("task", "function", "expression", "vector", "reason", "seconds", "checksum")
    (values,) = change(path, f"select {', '.join(names)} from aquasurf_features")
    row = Row.from_columns(dict(zip(names, values, strict=True)) | changes)
    columns = row.columns | {"checksum": row.right_checksum()}
    places = ", ".join(f"{name} = ?" for name in columns)
    change(path, f"update aquasurf_features set {places}", *columns.values())


def assert_absent(store: FeatureStore, problem: str, text: str = "relu(x)") -> None:
    where = rf"features\.db holds .*task 'task', expression .*{problem}"
    with pytest.warns(FeatureStoreWarning, match=where):
        assert store.get("task", text) is None
    with pytest.warns(FeatureStoreWarning, match=where):
        assert text not in store.known("task", [text])
    with pytest.warns(FeatureStoreWarning, match=where):
        assert text not in store.load("task")


def test_every_flipped_byte_of_a_row_is_noticed(store: FeatureStore, path: Path) -> None:
    store.put("task", "relu(x)", FisherFeature(RISING, None), seconds=1.5)
    ((blob, checksum),) = change(path, "select vector, checksum from aquasurf_features")
    assert len(blob) < HEADER + RISING.nbytes  # compressed

    for column, content in (("vector", blob), ("checksum", checksum)):
        for place in range(len(content)):
            flipped = bytearray(content)
            flipped[place] ^= 1 << place % 8
            change(path, f"update aquasurf_features set {column} = ?", bytes(flipped))
            with pytest.warns(FeatureStoreWarning, match="its checksum is wrong"):
                assert store.get("task", "relu(x)") is None
        change(path, f"update aquasurf_features set {column} = ?", content)
    np.testing.assert_array_equal(store.get("task", "relu(x)").vector, RISING)


@pytest.mark.parametrize(
    ("assignment", "problem"),
    [
        ("expression = 'relv(x)'", "'relv.*its checksum is wrong"),
        ("expression = cast(x'72ff' as text)", "its checksum is wrong"),
        ("seconds = 2.0", "its checksum is wrong"),
        ("seconds = 'long'", "its seconds has the type str"),
        ("reason = 'because'", "its checksum is wrong"),
        ("vector = null", "its checksum is wrong"),
        ("vector = substr(vector, 1, 12)", "its checksum is wrong"),
        ("vector = x''", "its checksum is wrong"),
        ("vector = 123456789012", "its vector has the type int"),
        ("vector = 'text'", "its vector has the type str"),
        ("expression = x'00'", "its expression has the type bytes"),
        ("checksum = 'text'", "its checksum has the type str"),
    ],
)
def test_a_damaged_row_is_reported_and_replaced(
    store: FeatureStore, path: Path, assignment: str, problem: str
) -> None:
    store.put("task", "relu(x)", VALID, seconds=1.5)
    store.put("task", "tanh(x)", VALID)
    change(
        path,
        f"update aquasurf_features set {assignment} where expression = 'relu(x)'",
    )

    assert_absent(store, problem)
    assert store.known("task", ["tanh(x)"]).keys() == {"tanh(x)"}
    store.put("task", "relu(x)", VALID)
    assert store.load("task").keys() == {"relu(x)", "tanh(x)"}
    assert store.count() == 2


def test_swapped_rows_are_noticed(store: FeatureStore, path: Path) -> None:
    store.put("task", "relu(x)", VALID)
    store.put("task", "tanh(x)", FisherFeature(RISING, None))
    rows = change(path, "select vector, checksum, expression from aquasurf_features")

    for (vector, _, _), (_, _, other) in (rows, rows[::-1]):
        change(path, "update aquasurf_features set vector = ? where expression = ?", vector, other)
    assert_absent(store, "its checksum is wrong", "relu(x)")
    assert_absent(store, "its checksum is wrong", "tanh(x)")
    # With the checksums swapped too, and with whole contents under the other function.
    for (_, checksum, _), (_, _, other) in (rows, rows[::-1]):
        change(
            path, "update aquasurf_features set checksum = ? where expression = ?", checksum, other
        )
    assert_absent(store, "its checksum is wrong", "tanh(x)")


def test_a_row_under_another_name_is_noticed(store: FeatureStore, path: Path) -> None:
    store.put("other", "relu(x)", VALID)
    change(path, "update aquasurf_features set task = 'task'")

    assert_absent(store, "its checksum is wrong")


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"vector": b"AQSF"}, "it has 4 bytes, fewer than its header of 11"),
        ({"vector": pickle.dumps([1.0, 2.0])}, "instead of b'AQSF'"),
        ({"vector": struct.pack("<4sHBIf", b"AQSF", 99, 0, 1, 1.0)}, "format has version 99"),
        ({"vector": None}, "a vector or a reason, not neither"),
        ({"reason": "because"}, "a vector or a reason, not both"),
    ],
)
def test_a_foreign_row_with_a_right_checksum_is_refused(
    store: FeatureStore, path: Path, changes: dict[str, object], problem: str
) -> None:
    store.put("task", "relu(x)", VALID)
    reseal(path, **changes)

    assert_absent(store, problem)


def test_a_resealed_row_is_good(store: FeatureStore, path: Path) -> None:
    """The rows above are refused for what they hold, not for how the test made them."""
    store.put("task", "relu(x)", VALID, seconds=1.5)
    reseal(path, vector=pack(RISING))

    np.testing.assert_array_equal(store.get("task", "relu(x)").vector, RISING)


def test_plain_bytes_are_as_documented() -> None:
    blob = pack(VALID.vector)

    assert blob[:HEADER] == struct.pack("<4sHBI", b"AQSF", FORMAT_VERSION, 0, 3)
    assert blob[HEADER:] == VALID.vector.astype("<f4").tobytes()
    np.testing.assert_array_equal(unpack(blob), VALID.vector)


@pytest.mark.parametrize("length", [0, 1, 2, 64, 13_692])
@pytest.mark.parametrize("kind", ["rising", "any"])
def test_bytes_keep_every_bit(length: int, kind: str) -> None:
    bits = np.random.default_rng(length).integers(0, 2**32, length, dtype=np.uint32)
    vector = bits.view(np.float32) if kind == "any" else np.linspace(-1, 1, length, dtype="f4")

    blob = pack(vector)
    assert unpack(blob).tobytes() == vector.tobytes()
    assert len(blob) <= HEADER + 4 * length
    if kind == "rising" and length > 2:
        assert len(blob) < 0.8 * 4 * length


@pytest.mark.parametrize(
    ("blob", "problem"),
    [
        (struct.pack("<4sHBIf", b"AQSF", FORMAT_VERSION, 0, 2, 1.0), "it has 4 bytes of values"),
        (struct.pack("<4sHBIf", b"AQSF", FORMAT_VERSION, 7, 1, 1.0), "are kept in way 7"),
        (struct.pack("<4sHBIf", b"AQSF", FORMAT_VERSION, 1, 1, 1.0), "do not decompress"),
        (pack(RISING)[:-1], "do not decompress to 64"),
        (pack(RISING) + b"1", "do not decompress to 64"),
        (pack(RISING)[:7] + struct.pack("<I", 63) + pack(RISING)[HEADER:], "decompress to 63"),
        (pack(RISING)[:7] + struct.pack("<I", 65) + pack(RISING)[HEADER:], "decompress to 65"),
    ],
)
def test_other_bytes_are_refused(blob: bytes, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        unpack(blob)


FIRST_VERSION = """create table aquasurf_features (
    task varchar(200), expression varchar(500), vector blob, reason text,
    primary key (task, expression))"""


def test_a_store_of_the_first_version_is_refused(store: FeatureStore, path: Path) -> None:
    change(path, FIRST_VERSION)

    problem = r"has version 1, where version 2 is understood: name a new database.*or delete"
    with pytest.raises(FeatureStoreError, match=problem):
        store.get("task", "relu(x)")
    # The error says how to mend it, and that is how.
    change(path, "drop table aquasurf_features")
    assert store.put("task", "relu(x)", VALID)


@pytest.mark.parametrize("version", [1, 3, 99])
def test_a_store_of_another_version_is_refused(
    store: FeatureStore, path: Path, version: int
) -> None:
    store.put("task", "relu(x)", VALID)
    change(path, "update aquasurf_store set version = ?", version)

    with pytest.raises(FeatureStoreError, match=f"has version {version}, where version 2 is"):
        FeatureStore(store.url).put("task", "tanh(x)", VALID)


@pytest.mark.parametrize("table", ["aquasurf_store", "aquasurf_features", "aquasurf_claims"])
def test_a_foreign_table_is_refused(store: FeatureStore, path: Path, table: str) -> None:
    change(path, f"create table {table} (a integer, b text)")

    with pytest.raises(FeatureStoreError, match=rf"'{table}' .*its columns are \['a', 'b'\]"):
        store.get("task", "relu(x)")


@pytest.mark.parametrize("table", ["aquasurf_features", "aquasurf_claims"])
def test_a_foreign_table_beside_the_version_is_refused(
    store: FeatureStore, path: Path, table: str
) -> None:
    store.put("task", "relu(x)", VALID)
    change(path, f"drop table {table}")
    change(path, f"create table {table} (a integer, b text)")

    with pytest.raises(FeatureStoreError, match=rf"'{table}' .*its columns are \['a', 'b'\]"):
        FeatureStore(store.url).count()


@pytest.mark.parametrize("missing", ["aquasurf_features", "aquasurf_claims", "the row"])
def test_a_half_made_store_is_completed(store: FeatureStore, path: Path, missing: str) -> None:
    store.count()
    change(path, "delete from aquasurf_store" if missing == "the row" else f"drop table {missing}")

    half = FeatureStore(store.url)
    half.claim("task", ["relu(x)"], "me")
    assert half.put("task", "relu(x)", VALID, owner="me")
    assert change(path, "select version from aquasurf_store") == [(2,)]
