"""Export and import: every row comes back, and a damaged file changes nothing."""

import importlib
import importlib.util
import io
import zipfile
from pathlib import Path

import numpy as np
import pytest

from aquasurf_optuna.exceptions import FeatureStoreError
from aquasurf_optuna.features.featurizer import FisherFeature
from aquasurf_optuna.store import FeatureStore, FeatureStoreWarning
from tests.aquasurf_optuna import databases

NEEDS_PYARROW = pytest.mark.skipif(
    importlib.util.find_spec("pyarrow") is None, reason="pyarrow is not installed"
)
SUFFIXES = [".npz", pytest.param(".parquet", marks=NEEDS_PYARROW)]
VECTORS = {
    "relu(x)": np.array([0.1, -0.0, 1e-30], dtype=np.float32),
    "tanh(x)": np.linspace(0, 1, 300, dtype=np.float32),
    "x": np.zeros(0, dtype=np.float32),
}


@pytest.fixture(params=SUFFIXES)
def file(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return tmp_path / "out" / f"features{request.param}"


@pytest.fixture
def store(tmp_path: Path) -> FeatureStore:
    (tmp_path / "out").mkdir()
    store = FeatureStore(f"sqlite:///{tmp_path}/features.db")
    for number, (text, vector) in enumerate(VECTORS.items()):
        store.put("task", text, FisherFeature(vector, None), seconds=number or None)
    store.put("ä other", "exp(x)", FisherFeature(None, "gradients vanish: \U0001f30a"))
    return store


def rows(store: FeatureStore) -> list[tuple[object, ...]]:
    return databases.run(
        store.url, "select * from aquasurf_features order by task, function, expression"
    )


@pytest.mark.parametrize("kind", databases.KINDS)
def test_every_row_comes_back(store: FeatureStore, file: Path, tmp_path: Path, kind: str) -> None:
    assert store.export_file(file) == 4
    assert [path.name for path in file.parent.iterdir()] == [file.name]

    (tmp_path / "copy").mkdir()
    with FeatureStore(databases.fresh(kind, tmp_path / "copy")) as copy:
        assert copy.import_file(str(file)) == 4
        assert sorted(rows(copy)) == sorted(rows(store))
        for text, vector in VECTORS.items():
            assert copy.get("task", text).vector.tobytes() == vector.tobytes()
        assert copy.import_file(file) == 0
        assert copy.tasks() == {"task": 3, "ä other": 1}


def test_one_task_or_nothing(store: FeatureStore, file: Path) -> None:
    assert store.export_file(file, "ä other") == 1
    copy = FeatureStore("sqlite://")
    copy.import_file(file)
    assert copy.tasks() == {"ä other": 1}

    assert store.export_file(file, "nothing") == 0  # in place of the earlier file
    assert copy.import_file(file) == 0


def test_good_rows_stay_and_bad_ones_and_claims_go(store: FeatureStore, file: Path) -> None:
    store.export_file(file)
    store.put("task", "relu(x)", FisherFeature(None, "newer"))
    databases.run(store.url, "update aquasurf_features set seconds = 7 where task <> 'task'")
    databases.run(store.url, "delete from aquasurf_features where expression = 'tanh(x)'")
    assert store.claim("task", ["tanh(x)"], "me") == ["tanh(x)"]

    assert store.import_file(file) == 2
    assert store.get("task", "relu(x)").reason == "newer"
    assert store.get("ä other", "exp(x)").reason == "gradients vanish: \U0001f30a"
    assert store.put("task", "tanh(x)", FisherFeature(None, "late"), owner="me") is False


def test_damaged_rows_are_not_exported(store: FeatureStore, file: Path) -> None:
    databases.run(store.url, "update aquasurf_features set seconds = 7 where expression = 'x'")

    with pytest.warns(FeatureStoreWarning, match="expression 'x': its checksum is wrong"):
        assert store.export_file(file) == 3
    assert FeatureStore("sqlite://").import_file(file) == 3


def test_no_flipped_byte_of_a_file_is_believed(store: FeatureStore, file: Path) -> None:
    store.export_file(file)
    content = file.read_bytes()
    whole = FeatureStore("sqlite://")
    whole.import_file(file)
    harmless = 0
    for place in range(0, len(content), 23):
        flipped = bytearray(content)
        flipped[place] ^= 1 << place % 8
        file.write_bytes(flipped)
        copy = FeatureStore("sqlite://")
        try:
            copy.import_file(file)
        except FeatureStoreError:
            assert copy.count() == 0
        else:
            # A byte that carries nothing, such as a date in the zip: all is as it was.
            harmless += 1
            assert repr(copy.load("task")) == repr(whole.load("task"))
            assert copy.tasks() == whole.tasks()
    assert harmless < 0.5 * len(content) / 23


@pytest.mark.parametrize("keep", [0, 10, 0.5, -1])
def test_a_truncated_file_is_refused(store: FeatureStore, file: Path, keep: float) -> None:
    store.export_file(file)
    content = file.read_bytes()
    file.write_bytes(content[: int(keep * len(content)) if keep == 0.5 else int(keep)])

    copy = FeatureStore("sqlite://")
    with pytest.raises(FeatureStoreError, match="not a file of features of version 2, or it is"):
        copy.import_file(file)
    assert copy.count() == 0


def changed_npz(file: Path, **changes: object) -> None:
    with np.load(file) as arrays:
        content = dict(arrays) | changes
    np.savez(file, **content)


def test_one_bad_row_keeps_all_out(store: FeatureStore, tmp_path: Path) -> None:
    file = tmp_path / "out" / "features.npz"
    store.export_file(file, "task")
    changed_npz(file, seconds=np.array([7.0, 1.0, 2.0]))

    copy = FeatureStore("sqlite://")
    with pytest.raises(FeatureStoreError, match=r"'relu\(x\)': its checksum is wrong \(1 such"):
        copy.import_file(file)
    assert copy.count() == 0


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"aquasurf_store": np.array(3)}, "it has version 3, where 2 is understood"),
        ({"task_ends": np.array([4, 2, 12])}, "its columns do not fill their bytes"),
        ({"task_ends": np.array([4, 8, 11])}, "its columns do not fill their bytes"),
        ({"seconds": np.array([1.0])}, "ValueError"),
        # Never unpickled.
        ({"seconds": np.array([None, {}, 1.0], dtype=object)}, "allow_pickle=False"),
    ],
)
def test_foreign_contents_are_refused(
    store: FeatureStore, tmp_path: Path, changes: dict[str, object], problem: str
) -> None:
    file = tmp_path / "out" / "features.npz"
    store.export_file(file, "task")
    changed_npz(file, **changes)

    with pytest.raises(FeatureStoreError, match=problem):
        store.import_file(file)


def test_an_npz_holds_plain_arrays(store: FeatureStore, tmp_path: Path) -> None:
    file = tmp_path / "out" / "features.npz"
    store.export_file(file, "task")

    with zipfile.ZipFile(file) as archive:
        kinds = {
            name: np.lib.format.read_array(
                io.BytesIO(archive.read(name)), allow_pickle=False
            ).dtype.kind
            for name in archive.namelist()
        }
    assert set(kinds.values()) == {"u", "i", "f"}
    with np.load(file, allow_pickle=False) as arrays:
        assert bytes(arrays["expression"]) == b"relu(x)tanh(x)x"
        assert arrays["expression_ends"].tolist() == [7, 14, 15]


@NEEDS_PYARROW
def test_a_parquet_of_another_version_or_maker_is_refused(
    store: FeatureStore, tmp_path: Path
) -> None:
    parquet, pyarrow = (
        importlib.import_module("pyarrow.parquet"),
        importlib.import_module("pyarrow"),
    )
    file = tmp_path / "out" / "features.parquet"
    store.export_file(file)
    table = parquet.read_table(file)
    parquet.write_table(table.replace_schema_metadata({"aquasurf_store": "3"}), file)
    with pytest.raises(FeatureStoreError, match="it has version 3, where 2 is understood"):
        store.import_file(file)
    parquet.write_table(pyarrow.table({"task": ["task"]}), file)
    with pytest.raises(FeatureStoreError, match="not a file of features"):
        store.import_file(file)


def test_parquet_without_pyarrow_says_what_to_install(
    store: FeatureStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(importlib.import_module("sys").modules, "pyarrow", None)

    for method in (store.export_file, store.import_file):
        with pytest.raises(FeatureStoreError, match="pip install pyarrow"):
            method(tmp_path / "features.parquet")
    assert not (tmp_path / "features.parquet").exists()


@pytest.mark.parametrize("name", ["features", "features.csv", "features.pickle"])
def test_another_suffix_is_refused(store: FeatureStore, tmp_path: Path, name: str) -> None:
    for method in (store.export_file, store.import_file):
        with pytest.raises(FeatureStoreError, match=r"must end in '\.npz' or '\.parquet'"):
            method(tmp_path / name)


def test_missing_places_are_named(store: FeatureStore, file: Path) -> None:
    with pytest.raises(FeatureStoreError, match="cannot read .*No such file"):
        store.import_file(file)
    with pytest.raises(FeatureStoreError, match="cannot write .*No such file"):
        store.export_file(file.parent / "nowhere" / file.name)


def test_a_failed_export_leaves_the_earlier_file(store: FeatureStore, file: Path) -> None:
    file.mkdir()  # what stands in the way of the last step, the renaming

    with pytest.raises(FeatureStoreError, match="cannot write"):
        store.export_file(file)
    assert [path.name for path in file.parent.iterdir()] == [file.name]
