"""`aquasurf features`: a YAML file, options before it, and what the store holds."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from aquasurf_optuna import FeatureStore, FisherFeature, FisherFeaturizer
from aquasurf_optuna.activation import ActivationFactory
from aquasurf_optuna.cli import main
from aquasurf_optuna.exceptions import DatasetError
from tests.aquasurf_optuna.features.networks import batch, small_cnn

HERE = __name__
SMALL = {
    "featurizer": {"call": f"{HERE}.build", "arguments": {"width": 6}},
    "space": "unary(x)",
    "n": 5,
    "timeout": None,
}


def build(width: int, task: str = "small") -> FisherFeaturizer:
    if width < 1:
        raise ValueError(f"width must be positive, got {width}")
    return FisherFeaturizer(small_cnn, batch(8, 2, width, width), task=task)


def interrupted() -> FisherFeaturizer:
    def network(factory: ActivationFactory) -> Any:
        raise KeyboardInterrupt

    return FisherFeaturizer(network, batch(8, 2, 6, 6), task="interrupted")


def nothing() -> None:
    pass


def without_data() -> FisherFeaturizer:
    raise DatasetError("data/x.npz is missing")


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'features.db'}"


@pytest.fixture
def config(tmp_path: Path, url: str) -> Callable[..., str]:
    def write(**changes: object) -> str:
        path = tmp_path / "features.yaml"
        path.write_text(yaml.safe_dump({**SMALL, "store": url, **changes}))
        return str(path)

    return write


def failure(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """Run a command that must fail, and return its one line on standard error."""
    with contextlib.suppress(SystemExit):
        assert main(["features", *arguments]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("aquasurf: error: ")
    return line.removeprefix("aquasurf: error: ")


def test_a_file_says_everything(
    capsys: pytest.CaptureFixture[str], config: Callable[..., str], url: str
) -> None:
    assert main(["features", "--config", config()]) == 0
    out = capsys.readouterr().out.splitlines()
    assert out[0] == f"task small in {url}"
    # Five are drawn; the eight baselines come on top, where they are not among them.
    number = int(out[1].split()[0])
    assert 8 <= number <= 13
    assert out[1].startswith(f"{number} functions: ")
    assert f"0 known before, {number} measured here" in out[1]
    assert FeatureStore(url).count("small") == number


def test_options_go_before_the_file(
    capsys: pytest.CaptureFixture[str], config: Callable[..., str], tmp_path: Path, url: str
) -> None:
    other = f"sqlite:///{tmp_path / 'other.db'}"
    file = config(space="unary(unary(unary(x)))", n=1, timeout=600, jobs=9)
    words = ["features", "--config", file, "--store", other, "--space", "unary(x)"]
    words += ["--timeout", "none", "--jobs", "1"]
    assert main([*words, "--n", "all"]) == 0
    assert 15 < FeatureStore(other).count("small") < 30
    assert not (tmp_path / "features.db").exists()
    assert main([*words, "--n", "9", "--seed", "4"]) == 0
    assert " 0 measured here" in capsys.readouterr().out.splitlines()[-1]


def test_the_status(capsys: pytest.CaptureFixture[str], url: str, tmp_path: Path) -> None:
    store = FeatureStore(url)
    store.put("a", "relu(x)", build(6)("relu(x)"))
    store.put("a", "zero(x)", FisherFeature(None, "no"))
    store.put("longer", "relu(x)", FisherFeature(None, "no"))
    store.claim("a", ["tanh(x)", "swish(x)"], "someone")
    assert main(["features", "--store", url, "--status"]) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert rows == [
        ["task", "valid", "invalid", "claimed"],
        ["a", "1", "1", "2"],
        ["longer", "0", "1", "0"],
    ]
    assert main(["features", "--store", url, "--status", "--task", "longer"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 2
    line = failure(capsys, "--store", url, "--status", "--task", "b")
    assert line == f"there is no task 'b' in {url}; its tasks are: a, longer"


def test_a_store_travels_as_a_file(
    capsys: pytest.CaptureFixture[str], url: str, tmp_path: Path
) -> None:
    FeatureStore(url).put("a", "zero(x)", FisherFeature(None, "no"))
    file, other = str(tmp_path / "features.npz"), f"sqlite:///{tmp_path / 'other.db'}"
    assert main(["features", "--store", url, "--export", file]) == 0
    assert main(["features", "--store", other, "--import", file]) == 0
    out = capsys.readouterr().out.splitlines()
    assert out == [f"wrote 1 features to {file}", f"added 1 features from {file}"]
    feature = FeatureStore(other).get("a", "zero(x)")
    assert feature is not None
    assert feature.reason == "no"


def test_ctrl_c_tells_how_to_go_on(
    capsys: pytest.CaptureFixture[str], config: Callable[..., str]
) -> None:
    words = ["features", "--config", config(featurizer={"call": f"{HERE}.interrupted"})]
    assert main(words) == 130
    assert "the same command goes on from there" in capsys.readouterr().out


BAD_FILES = {
    "key": ({"nn": 3}, "Option 'nn' is not accepted; `aquasurf features --help` shows"),
    "type": ({"n": "many"}, "n: must be one of a whole number above 0, 'all', null, got many"),
    "bool": ({"jobs": True}, "jobs: must be int, got True"),
    "range": ({"n": 0}, "n: must be one of a whole number above 0, 'all', null, got 0"),
    "jobs": ({"jobs": -3}, "jobs must be 1 or more, or -1 for every core, got -3"),
    "seed": ({"seed": -3}, "seed: must be a whole number of 0 or more, got -3"),
    "space": ({"space": "four"}, "not a schema"),
    "memory": ({"store": "sqlite://"}, "must be a database that outlives the command"),
    "url": ({"store": "features.db"}, "url must be an SQLAlchemy database URL"),
    "no store": ({"store": ""}, "url must be an SQLAlchemy database URL"),
    "no call": ({"featurizer": {}}, "featurizer must name a `call`"),
    "inner key": ({"featurizer": {"cal": "x"}}, "unknown key 'cal'; known are call, arguments"),
    "no path": ({"featurizer": {"call": "build"}}, "must be a path such as .* got 'build'"),
    "module": ({"featurizer": {"call": "no_module.build"}}, "cannot import 'no_module'"),
    "name": ({"featurizer": {"call": f"{HERE}.bild"}}, "no callable 'bild'; .*build"),
    "result": ({"featurizer": {"call": f"{HERE}.nothing"}}, "FisherFeaturizer, got NoneType"),
    "arguments": (
        {"featurizer": {"call": f"{HERE}.build", "arguments": {"widht": 3}}},
        "takes the arguments width, task: ",
    ),
    "refused": (
        {"featurizer": {"call": f"{HERE}.build", "arguments": {"width": 0}}},
        r"refused its arguments \{'width': 0\}: width must be positive",
    ),
    "data": ({"featurizer": {"call": f"{HERE}.without_data"}}, "^data/x.npz is missing$"),
}


@pytest.mark.parametrize(("changes", "message"), BAD_FILES.values(), ids=BAD_FILES.keys())
def test_bad_files_have_one_line(
    capsys: pytest.CaptureFixture[str],
    config: Callable[..., str],
    changes: dict[str, object],
    message: str,
) -> None:
    with pytest.raises(AssertionError, match=message):
        raise AssertionError(failure(capsys, "--config", config(**changes)))


def test_files_that_cannot_be_read(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    assert f"File does not exist: '{path}'" in failure(capsys, "--config", str(path))
    path.write_text("a: [1")
    assert "Problems parsing config: while parsing" in failure(capsys, "--config", str(path))
    path.write_text("- 1")
    assert "Unexpected config: - 1" in failure(capsys, "--config", str(path))


def test_what_is_missing_is_named(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert "Name a file with --config" in failure(capsys, "--store", "sqlite:///x.db")
    assert "Say --store URL" in failure(capsys, "--status")
    url = f"sqlite:///{tmp_path / 'no.db'}"
    assert f"there is no database '{url}'" in failure(capsys, "--store", url, "--status")
    assert list(tmp_path.iterdir()) == []
