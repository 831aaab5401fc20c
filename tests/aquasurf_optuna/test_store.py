"""The feature store: what goes in comes out, from any database, and equal functions are one."""

import pickle
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import optuna
import pytest

from aquasurf_optuna.catalogue import Catalogue
from aquasurf_optuna.exceptions import ExpressionError, FeatureStoreError
from aquasurf_optuna.expression import Expression
from aquasurf_optuna.features.featurizer import FisherFeature
from aquasurf_optuna.store import FeatureStore
from tests.aquasurf_optuna import databases

VALID = FisherFeature(vector=np.array([0.1, -3.5, 1e-30], dtype=np.float32), reason=None)
INVALID = FisherFeature(vector=None, reason="layer 'conv1': gradients vanish")


@pytest.fixture(params=databases.KINDS)
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return databases.fresh(request.param, tmp_path)


@pytest.fixture
def store(url: str) -> Iterator[FeatureStore]:
    with FeatureStore(url) as opened:
        yield opened


@pytest.fixture
def sqlite_store(tmp_path: Path) -> FeatureStore:
    return FeatureStore(f"sqlite:///{tmp_path}/features.db")


def test_what_was_put_comes_back(store: FeatureStore) -> None:
    assert store.put("task", "relu(x)", VALID) is True
    store.put("task", "exp(x)", INVALID, seconds=0.25)

    feature = store.get("task", "relu(x)")
    assert feature is not None
    assert feature.vector is not None
    assert feature.vector.dtype == np.float32
    np.testing.assert_array_equal(feature.vector, VALID.vector)
    assert feature.reason is None
    feature.vector[0] = 7.0  # a copy of its own, to write to
    invalid = store.get("task", "exp(x)")
    assert invalid is not None
    assert invalid.vector is None
    assert invalid.reason == INVALID.reason


def test_what_was_not_put_is_none(store: FeatureStore) -> None:
    store.put("task", "relu(x)", VALID)

    assert store.get("task", "elu(x)") is None
    assert store.get("other task", "relu(x)") is None
    # Names are compared by their bytes, on MySQL too.
    assert store.get("Task", "relu(x)") is None
    assert store.count("TASK") == 0


def test_equal_functions_share_a_row(store: FeatureStore) -> None:
    store.put("task", "relu(x)", INVALID)
    assert store.get("task", "max(x, zero(x))").reason == INVALID.reason

    store.put("task", Expression.parse("max(x,zero(x))"), VALID)
    assert store.count() == 1
    assert store.get("task", Expression.parse("relu(x)")).valid
    # The text is that of the one measured last.
    assert list(store.load("task")) == ["max(x,zero(x))"]


def test_the_later_feature_replaces_the_earlier(store: FeatureStore) -> None:
    store.put("task", "relu(x)", INVALID)
    store.put("task", "relu(x)", VALID)

    feature = store.get("task", "relu(x)")
    assert feature is not None
    assert feature.valid
    assert feature.reason is None
    assert store.count() == 1


def test_load_count_and_tasks(store: FeatureStore) -> None:
    assert store.load("task") == {}
    assert store.tasks() == {}
    store.put("task", "relu(x)", VALID)
    store.put("task", "exp(x)", INVALID)
    store.put("other", "tanh(x)", VALID)

    loaded = store.load("task")
    assert list(loaded) == ["exp(x)", "relu(x)"]
    np.testing.assert_array_equal(loaded["relu(x)"].vector, VALID.vector)
    assert loaded["exp(x)"].reason == INVALID.reason
    assert store.tasks() == {"other": 1, "task": 2}
    assert [store.count(task) for task in ("task", "other", "nothing", None)] == [2, 1, 0, 3]


def test_known_reads_more_than_one_statement_takes(
    store: FeatureStore, catalogue: Catalogue
) -> None:
    functions = [catalogue[number] for number in range(450)]
    store.put("task", functions[3], VALID)
    store.put("task", functions[449], INVALID)

    known = store.known("task", functions)
    assert list(known) == [str(functions[3]), str(functions[449])]
    assert known[str(functions[449])].reason == INVALID.reason


def test_known_answers_by_the_texts_as_they_came(store: FeatureStore) -> None:
    store.put("task", "relu(x)", VALID)
    store.put("task", "tanh(x)", INVALID)

    known = store.known("task", ["max( x, zero(x) )", "swish(x)", Expression.parse("relu(x)")])
    assert list(known) == ["max( x, zero(x) )", "relu(x)"]
    np.testing.assert_array_equal(known["relu(x)"].vector, VALID.vector)
    assert store.known("task", []) == {}
    assert store.known("other", ["relu(x)"]) == {}


def test_long_vectors_texts_and_numbers_come_back_whole(store: FeatureStore, url: str) -> None:
    bits = np.random.default_rng(0).integers(0, 2**32, 13_692, dtype=np.uint32)
    vector = bits.view(np.float32)
    vector[~np.isfinite(vector)] = -0.0  # any other bits, which zlib cannot shorten
    text = f"sum_n({','.join(['swish(x)'] * 220)})"
    task, seconds = "ä" * 200, 0.1 + 1e-16 * np.pi
    store.put(task, text, FisherFeature(vector, None), seconds=seconds)
    store.put(task, "x", FisherFeature(None, "gradients vanish: \U0001f30a \n" * 5000))

    assert len(text) > 1900
    loaded = store.load(task)
    assert loaded[text].vector.tobytes() == vector.tobytes()
    assert loaded["x"].reason == "gradients vanish: \U0001f30a \n" * 5000
    assert databases.run(url, "select seconds from aquasurf_features where reason is null") == [
        (seconds,)
    ]


def test_what_databases_refuse_in_a_text_is_written_out(store: FeatureStore) -> None:
    store.put("task", "x", FisherFeature(None, "a\0b\ud800"))

    assert store.get("task", "x").reason == "a\\0b\\ud800"


def test_an_empty_vector_is_kept(store: FeatureStore) -> None:
    store.put("task", "x", FisherFeature(vector=np.zeros(0, dtype=np.float32), reason=None))

    assert store.get("task", "x").vector.shape == (0,)


def test_float64_vectors_are_kept_as_float32(store: FeatureStore) -> None:
    exact = np.array([0.1, 2.0 / 3.0])
    store.put("task", "relu(x)", FisherFeature(vector=exact, reason=None))

    np.testing.assert_array_equal(store.get("task", "relu(x)").vector, exact.astype(np.float32))


def test_a_pickled_store_opens_the_same_database(store: FeatureStore) -> None:
    store.put("task", "relu(x)", VALID)

    with pickle.loads(pickle.dumps(store)) as copy:
        assert copy.get("task", "relu(x)").valid
        assert copy.url == store.url


def test_a_closed_store_opens_again(store: FeatureStore) -> None:
    with store as same:
        same.put("task", "relu(x)", VALID)
    assert store.count() == 1


def test_threads_share_a_store(store: FeatureStore) -> None:
    write_from_threads(store)
    assert store.count("task") == 8


def test_the_store_lies_beside_a_study(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/study.db"
    store = FeatureStore(url)
    storage = optuna.storages.RDBStorage(url)
    study = optuna.create_study(storage=storage)
    store.put("task", "relu(x)", VALID)
    study.tell(study.ask(), 1.0)

    assert store.count() == 1
    assert len(study.trials) == 1
    storage.engine.dispose()


def write_from_threads(store: FeatureStore) -> None:
    threads = [
        threading.Thread(target=store.put, args=("task", f"sum_n({'x,' * n}x)", VALID))
        for n in range(1, 9)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///file:a?mode=memory&uri=true"])
def test_a_store_in_memory_serves_every_thread(url: str) -> None:
    with FeatureStore(url) as store:
        write_from_threads(store)
        assert store.count("task") == 8
        assert store.claim("task", ["x"], "me") == ["x"]
        assert pickle.loads(pickle.dumps(store)).count() == 0


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / "features.db").write_text("These are not the features. " * 100)

    with pytest.raises(FeatureStoreError, match=r"features\.db failed"):
        FeatureStore(f"sqlite:///{tmp_path}/features.db").count()


@pytest.mark.parametrize("url", ["features.db", "", "nosuchdatabase://here", 7])
def test_a_wrong_url_is_refused(url: str) -> None:
    with pytest.raises(FeatureStoreError, match="url must be an SQLAlchemy database URL"):
        FeatureStore(url)


def test_a_missing_driver_is_named() -> None:
    with pytest.raises(FeatureStoreError, match=r"driver .*is not installed.*: pip install"):
        FeatureStore("oracle+cx_oracle://scott:tiger@host/db")


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(FeatureStoreError, match="nowhere"):
        FeatureStore(f"sqlite:///{tmp_path}/nowhere/features.db").count()


def test_a_password_is_hidden(sqlite_store: FeatureStore) -> None:
    # The driver need not be there to hide it: SQLite ignores names and passwords.
    assert "secret" not in repr(FeatureStore("sqlite://user:secret@/features.db"))
    assert repr(sqlite_store) == f"FeatureStore({sqlite_store.url!r})"
    for url in ("nosuch://user:secret@host/db", "oracle+cx_oracle://user:secret@host/db"):
        with pytest.raises(FeatureStoreError, match=r"user:\*\*\*@host") as caught:
            FeatureStore(url)
        assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("task", "problem"),
    [
        ("", "task must have 1 to 200 characters, but got 0"),
        ("t" * 201, "task must have 1 to 200 characters, but got 201"),
        ("task ", "task must be printable text without spaces around it, but got 'task '"),
        ("a\0b", r"task must be printable text .* got 'a\\x00b'"),
        ("\ud800", "task must be printable text"),
    ],
)
def test_wrong_names_are_refused(sqlite_store: FeatureStore, task: str, problem: str) -> None:
    with pytest.raises(FeatureStoreError, match=problem):
        sqlite_store.put(task, "x", VALID)
    with pytest.raises(FeatureStoreError, match=problem):
        sqlite_store.claim(task, ["x"], "me")
    with pytest.raises(FeatureStoreError, match=problem.replace("task must", "owner must")):
        sqlite_store.claim("task", ["x"], task)
    assert sqlite_store.count() == 0


def test_wrong_expressions_are_refused(sqlite_store: FeatureStore) -> None:
    with pytest.raises(ExpressionError, match="nonsense"):
        sqlite_store.get("task", "nonsense(x)")
    with pytest.raises(ExpressionError, match="nonsense"):
        sqlite_store.put("task", "nonsense(x)", VALID)
    with pytest.raises(ExpressionError, match="nonsense"):
        sqlite_store.known("task", ["relu(x)", "nonsense(x)"])
    with pytest.raises(FeatureStoreError, match="expression must have 1 to 2000 characters"):
        sqlite_store.put("task", f"sum_n({','.join(['x'] * 1000)})", VALID)


@pytest.mark.parametrize("seconds", [-1.0, float("nan"), float("inf"), "1"])
def test_what_is_no_time_is_refused(sqlite_store: FeatureStore, seconds: object) -> None:
    with pytest.raises(FeatureStoreError, match="seconds must be a finite number"):
        sqlite_store.put("task", "x", VALID, seconds=seconds)


@pytest.mark.parametrize(
    "feature",
    [
        FisherFeature(vector=np.zeros((2, 2), dtype=np.float32), reason=None),
        FisherFeature(vector=np.array([np.nan], dtype=np.float32), reason=None),
        FisherFeature(vector=np.array([np.inf], dtype=np.float32), reason=None),
        FisherFeature(vector=np.array([1e300]), reason=None),
        FisherFeature(vector=None, reason=None),
        FisherFeature(vector=None, reason=""),
    ],
)
def test_what_is_no_feature_is_refused(sqlite_store: FeatureStore, feature: FisherFeature) -> None:
    with pytest.raises(FeatureStoreError, match=r"of 'relu\(x\)' must"):
        sqlite_store.put("task", "relu(x)", feature)
    assert sqlite_store.count() == 0


def test_a_file_that_may_only_be_read_can_be_read(tmp_path: Path) -> None:
    path = tmp_path / "features.db"
    FeatureStore(f"sqlite:///{path}").put("task", "relu(x)", VALID)

    store = FeatureStore(f"sqlite:///file:{path}?mode=ro&uri=true")
    assert store.get("task", "relu(x)").valid
    with pytest.raises(FeatureStoreError, match="readonly"):
        store.put("task", "tanh(x)", VALID)


def test_the_journal_of_a_file_stays_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "features.db"
    FeatureStore(f"sqlite:///{path}").put("task", "relu(x)", VALID)

    connection = sqlite3.connect(path)
    assert connection.execute("pragma journal_mode").fetchone() == ("delete",)
    connection.close()
    assert [file.name for file in tmp_path.iterdir()] == ["features.db"]
