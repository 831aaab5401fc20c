"""The feature store: what goes in comes out, from any process, and nothing else passes for it."""

import multiprocessing
import pickle
import sqlite3
import struct
import threading
from pathlib import Path

import numpy as np
import pytest

from aquasurf_optuna.exceptions import FeatureStoreError
from aquasurf_optuna.features.featurizer import FisherFeature
from aquasurf_optuna.store import FORMAT_VERSION, TABLE_NAME, FeatureStore

VALID = FisherFeature(vector=np.array([0.1, -3.5, 1e-30], dtype=np.float32), reason=None)
INVALID = FisherFeature(vector=None, reason="layer 'conv1': gradients vanish")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "features.db"


@pytest.fixture
def store(path: Path) -> FeatureStore:
    return FeatureStore(f"sqlite:///{path}")


def change(path: Path, statement: str, *values: object) -> None:
    connection = sqlite3.connect(path)
    with connection:
        connection.execute(statement, values)
    connection.close()


def test_what_was_put_comes_back(store: FeatureStore) -> None:
    store.put("task", "relu(x)", VALID)
    store.put("task", "exp(x)", INVALID)

    feature = store.get("task", "relu(x)")
    assert feature is not None
    assert feature.vector is not None
    assert feature.vector.dtype == np.float32
    np.testing.assert_array_equal(feature.vector, VALID.vector)
    assert feature.reason is None
    invalid = store.get("task", "exp(x)")
    assert invalid is not None
    assert invalid.vector is None
    assert invalid.reason == INVALID.reason


def test_what_was_not_put_is_none(store: FeatureStore) -> None:
    store.put("task", "relu(x)", VALID)

    assert store.get("task", "elu(x)") is None
    assert store.get("other task", "relu(x)") is None


def test_a_vector_that_comes_back_is_writable(store: FeatureStore) -> None:
    store.put("task", "relu(x)", VALID)
    feature = store.get("task", "relu(x)")

    assert feature is not None
    assert feature.vector is not None
    feature.vector[0] = 7.0


def test_an_empty_vector_is_kept(store: FeatureStore) -> None:
    store.put("task", "x", FisherFeature(vector=np.zeros(0, dtype=np.float32), reason=None))
    feature = store.get("task", "x")

    assert feature is not None
    assert feature.vector is not None
    assert feature.vector.shape == (0,)


def test_the_later_feature_replaces_the_earlier(store: FeatureStore) -> None:
    store.put("task", "relu(x)", INVALID)
    store.put("task", "relu(x)", VALID)

    feature = store.get("task", "relu(x)")
    assert feature is not None
    assert feature.valid
    assert feature.reason is None
    assert store.count() == 1


def test_load_and_count(store: FeatureStore) -> None:
    assert store.load("task") == {}
    store.put("task", "relu(x)", VALID)
    store.put("task", "exp(x)", INVALID)
    store.put("other", "tanh(x)", VALID)

    loaded = store.load("task")
    assert list(loaded) == ["exp(x)", "relu(x)"]
    np.testing.assert_array_equal(loaded["relu(x)"].vector, VALID.vector)
    assert loaded["exp(x)"].reason == INVALID.reason
    assert store.count("task") == 2
    assert store.count("other") == 1
    assert store.count("nothing") == 0
    assert store.count() == 3


def test_float64_vectors_are_kept_as_float32(store: FeatureStore) -> None:
    exact = np.array([0.1, 2.0 / 3.0])
    store.put("task", "relu(x)", FisherFeature(vector=exact, reason=None))

    feature = store.get("task", "relu(x)")
    assert feature is not None
    np.testing.assert_array_equal(feature.vector, exact.astype(np.float32))


def test_the_blob_is_as_documented(store: FeatureStore, path: Path) -> None:
    store.put("task", "relu(x)", VALID)

    connection = sqlite3.connect(path)
    (blob,) = connection.execute(f"select vector from {TABLE_NAME}").fetchone()
    connection.close()
    assert blob[:4] == b"AQSF"
    assert struct.unpack("<HI", blob[4:10]) == (FORMAT_VERSION, 3)
    assert VALID.vector is not None
    assert blob[10:] == VALID.vector.astype("<f4").tobytes()


@pytest.mark.parametrize(
    ("blob", "problem"),
    [
        (b"AQSF", "it has 4 bytes, fewer than its header"),
        (pickle.dumps([1.0, 2.0]), "instead of b'AQSF'"),
        (struct.pack("<4sHIf", b"AQSF", 99, 1, 1.0), "its format has version 99"),
        (struct.pack("<4sHIf", b"AQSF", FORMAT_VERSION, 2, 1.0), "its length 2 takes 18"),
    ],
)
def test_a_foreign_blob_is_refused(
    store: FeatureStore, path: Path, blob: bytes, problem: str
) -> None:
    store.put("task", "relu(x)", VALID)
    change(path, f"update {TABLE_NAME} set vector = ?", blob)

    with pytest.raises(FeatureStoreError, match=f"'relu\\(x\\)' in sqlite.*{problem}"):
        store.get("task", "relu(x)")
    with pytest.raises(FeatureStoreError, match=problem):
        store.load("task")


@pytest.mark.parametrize(
    ("column", "value", "problem"),
    [("vector", None, "not neither"), ("reason", "because", "not both")],
)
def test_a_row_must_hold_a_vector_or_a_reason(
    store: FeatureStore, path: Path, column: str, value: object, problem: str
) -> None:
    store.put("task", "relu(x)", VALID)
    change(path, f"update {TABLE_NAME} set {column} = ?", value)

    with pytest.raises(FeatureStoreError, match=problem):
        store.get("task", "relu(x)")


def test_a_foreign_table_is_refused(store: FeatureStore, path: Path) -> None:
    change(path, f"create table {TABLE_NAME} (a integer, b text)")

    with pytest.raises(FeatureStoreError, match=r"its columns are \['a', 'b'\]"):
        store.get("task", "relu(x)")


def test_a_file_that_is_no_database_is_refused(store: FeatureStore, path: Path) -> None:
    path.write_text("These are not the features. " * 100)

    with pytest.raises(FeatureStoreError, match=r"features\.db failed"):
        store.count()


@pytest.mark.parametrize("url", ["features.db", "", "nosuchdatabase://here", 7])
def test_a_wrong_url_is_refused(url: str) -> None:
    with pytest.raises(FeatureStoreError, match="url must be an SQLAlchemy database URL"):
        FeatureStore(url)


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(FeatureStoreError, match="nowhere"):
        FeatureStore(f"sqlite:///{tmp_path}/nowhere/features.db").count()


@pytest.mark.parametrize(
    ("task", "expression", "problem"),
    [
        ("", "relu(x)", "task must have 1 to 200 characters, but got 0"),
        ("t" * 201, "relu(x)", "task must have 1 to 200 characters, but got 201"),
        ("task", "x" * 501, "expression must have 1 to 500 characters, but got 501"),
    ],
)
def test_names_of_a_wrong_length_are_refused(
    store: FeatureStore, task: str, expression: str, problem: str
) -> None:
    with pytest.raises(FeatureStoreError, match=problem):
        store.put(task, expression, VALID)


@pytest.mark.parametrize(
    "feature",
    [
        FisherFeature(vector=np.zeros((2, 2), dtype=np.float32), reason=None),
        FisherFeature(vector=np.array([np.nan], dtype=np.float32), reason=None),
        FisherFeature(vector=np.array([np.inf], dtype=np.float32), reason=None),
        FisherFeature(vector=None, reason=None),
        FisherFeature(vector=None, reason=""),
    ],
)
def test_what_is_no_feature_is_refused(store: FeatureStore, feature: FisherFeature) -> None:
    with pytest.raises(FeatureStoreError, match=r"of 'relu\(x\)' must"):
        store.put("task", "relu(x)", feature)
    assert store.count() == 0


def test_a_pickled_store_opens_the_same_database(store: FeatureStore) -> None:
    store.put("task", "relu(x)", VALID)

    copy = pickle.loads(pickle.dumps(store))
    assert copy.get("task", "relu(x)").valid
    assert copy.url == store.url


def test_a_closed_store_opens_again(store: FeatureStore) -> None:
    with store as same:
        same.put("task", "relu(x)", VALID)
    assert store.count() == 1


def test_a_store_in_memory_serves_every_thread() -> None:
    with FeatureStore("sqlite://") as store:
        threads = [
            threading.Thread(target=store.put, args=("task", f"{'abs' * n}(x)", VALID))
            for n in range(1, 9)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert store.count("task") == 8


def test_the_password_of_a_url_is_hidden(store: FeatureStore) -> None:
    # The driver need not be there to hide it: SQLite ignores names and passwords.
    assert "secret" not in repr(FeatureStore("sqlite://user:secret@/features.db"))
    assert repr(store) == f"FeatureStore({store.url!r})"


def write_many(store: FeatureStore, start: int) -> None:
    for number in range(start, start + 30):
        vector = np.full(4, number, dtype=np.float32)
        store.put("task", f"expression {number}", FisherFeature(vector=vector, reason=None))


def run_processes(store: FeatureStore, method: str) -> None:
    context = multiprocessing.get_context(method)
    # Ranges that overlap: half of the rows of each process are written by the other too.
    processes = [context.Process(target=write_many, args=(store, start)) for start in (0, 15)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0]


@pytest.mark.slow  # each process imports torch
def test_several_processes_write_at_once(store: FeatureStore) -> None:
    run_processes(store, "spawn")

    loaded = store.load("task")
    assert len(loaded) == 45
    for text, feature in loaded.items():
        np.testing.assert_array_equal(feature.vector, np.full(4, int(text.split()[1])))


@pytest.mark.skipif(
    "fork" not in multiprocessing.get_all_start_methods(), reason="the system has no fork"
)
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_forked_processes_write_through_an_open_store(store: FeatureStore) -> None:
    store.put("task", "expression 0", INVALID)
    run_processes(store, "fork")

    assert store.count("task") == 45
