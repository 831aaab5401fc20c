"""`aquasurf features --study`: a feature worker on the command line."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest
import yaml

from aquasurf_optuna import FeatureStore, FisherFeaturizer, SearchSpace
from aquasurf_optuna.activation import ActivationFactory
from aquasurf_optuna.cli import main
from tests.aquasurf_optuna.features.networks import batch, small_cnn
from tests.aquasurf_optuna.sampler_helpers import tell

HERE = __name__
SPACE = SearchSpace("unary(unary(x))")


def build(ends_with: int | None = None, after: int = 3) -> FisherFeaturizer:
    """A featurizer whose process gets a signal when some networks are built."""
    built = 0

    def network(factory: ActivationFactory) -> Any:
        nonlocal built
        built += 1
        if ends_with is not None and built == after:
            os.kill(os.getpid(), ends_with)
        return small_cnn(factory)

    return FisherFeaturizer(network, batch(8, 2, 6, 6), task="small")


@pytest.fixture
def store(tmp_path: Path) -> FeatureStore:
    return FeatureStore(f"sqlite:///{tmp_path / 'features.db'}")


@pytest.fixture
def storage(tmp_path: Path) -> str:
    """The database of a study with one trial."""
    url = f"sqlite:///{tmp_path / 'study.db'}"
    study = optuna.create_study(storage=url, study_name="search")
    tell(study, SPACE.params_of(SPACE.sample(1, seed=0)[0], "activation"), SPACE, value=1.0)
    return url


@pytest.fixture
def config(tmp_path: Path, store: FeatureStore, storage: str) -> Callable[..., str]:
    def write(**changes: object) -> str:
        path = tmp_path / "features.yaml"
        content = {
            "featurizer": {"call": f"{HERE}.build"},
            "store": store.url,
            "space": SPACE.schema,
            "n": 4,
            "timeout": None,
            "storage": storage,
            "study": "search",
            **changes,
        }
        path.write_text(yaml.safe_dump({k: v for k, v in content.items() if v != ""}))
        return str(path)

    return write


def test_a_file_says_everything(
    capsys: pytest.CaptureFixture[str], config: Callable[..., str], store: FeatureStore
) -> None:
    assert main(["features", "--config", config()]) == 0
    printed = capsys.readouterr()
    out = printed.out.splitlines()
    number = store.count("small")
    assert out == [
        f"task small in {store.url}",
        f"measured {number} functions; 4 of 4 candidates have features",
    ]
    assert "Fisher features: 100%" in printed.err
    tried = str(SPACE.sample(1, seed=0)[0])
    assert store.get("small", tried) is not None


def test_options_go_before_the_file(
    capsys: pytest.CaptureFixture[str], config: Callable[..., str], storage: str
) -> None:
    words = ["features", "--config", config(study="another", storage="", name="other", n=1)]
    words += ["--storage", storage, "--study", "search", "--name", "activation"]
    assert main([*words, "--n", "2", "--no-follow", "--seed", "3"]) == 0
    assert capsys.readouterr().out.splitlines()[-1].endswith("2 of 2 candidates have features")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_it_ends_on_request_and_loses_nothing(
    capsys: pytest.CaptureFixture[str],
    config: Callable[..., str],
    store: FeatureStore,
    number: signal.Signals,
    code: int,
) -> None:
    before = signal.getsignal(signal.SIGTERM)
    # A shell starts what it puts into the background without SIGINT.
    interrupt = signal.signal(signal.SIGINT, signal.default_int_handler)
    call = {"call": f"{HERE}.build", "arguments": {"ends_with": int(number)}}
    try:
        assert main(["features", "--config", config(featurizer=call, n=None)]) == code
    finally:
        signal.signal(signal.SIGINT, interrupt)
    # The function at work is finished; not all threads hear of the end at once.
    assert 3 <= store.count("small") < 100
    assert store.claims("small") == {}
    assert signal.getsignal(signal.SIGTERM) is before
    out = capsys.readouterr().out.splitlines()[-1]
    assert out.startswith("measured " if code == 0 else "interrupted: ")


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"storage": ""}, "where is the study 'search'? Say --storage URL"),
        ({"study": ""}, "Say --study NAME"),
        ({"study": "none"}, "there is no study 'none' in"),
        ({"follow": 1}, "Value not boolean: 1"),
        ({"name": ""}, None),
    ],
)
def test_bad_settings(
    capsys: pytest.CaptureFixture[str],
    config: Callable[..., str],
    changes: dict[str, Any],
    problem: str | None,
) -> None:
    try:
        code = main(["features", "--config", config(**changes)])
    except SystemExit as end:
        code = int(end.code or 0)
    assert code == (0 if problem is None else 2)
    if problem is not None:
        assert problem in capsys.readouterr().err
