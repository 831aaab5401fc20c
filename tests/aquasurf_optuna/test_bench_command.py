"""`aquasurf bench`: samplers compared on a table, and `aquasurf bench build`."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from aquasurf_optuna import FisherFeaturizer, InitializationError
from aquasurf_optuna.benchmark import ActBench, BuildPlan
from aquasurf_optuna.cli import main
from aquasurf_optuna.exceptions import DatasetError
from tests.aquasurf_optuna.benchmark.searched_tables import small_bench, small_table
from tests.aquasurf_optuna.features.networks import batch, small_cnn

HERE = __name__
BUILD = {
    "name": "tiny",
    "space": "max(unary(x),tanh(x))",
    "seeds": [0, 1],
    "n": 2,
    "invalid_sample": 1,
    "training": {"call": f"{HERE}.training", "arguments": {"offset": 0.5}},
    "featurizer": {"call": f"{HERE}.featurizer"},
}


class Training:
    """Instead of a training: numbers that follow from the function and the seed."""

    def __init__(self, offset: float) -> None:
        self.offset = offset
        self.settings = {"offset": offset}

    def __call__(self, function: str, seed: int) -> dict[str, float]:
        if "square" in function:
            raise InitializationError("no weights")
        value = self.offset + len(function) / 100 + seed / 1000
        stages = ("train", "val", "test")
        return (
            {f"{stage}_accuracy": value for stage in stages}
            | {f"{stage}_loss": 1 - value for stage in stages}
            | {"seconds": 0.1}
        )


def training(offset: float) -> Training:
    return Training(offset)


def no_training() -> int:
    return 3


def interrupted() -> Training:
    raise KeyboardInterrupt


def without_data() -> Training:
    raise DatasetError("data/x.npz is missing")


def featurizer() -> FisherFeaturizer:
    return FisherFeaturizer(small_cnn, batch(8, 2, 6, 6), task="small")


@pytest.fixture
def data(tmp_path: Path) -> str:
    return str(small_table(tmp_path / "small.json"))


@pytest.fixture
def config(tmp_path: Path) -> Callable[..., str]:
    def write(**changes: object) -> str:
        path = tmp_path / "build.yaml"
        settings = {"output": str(tmp_path / "tiny.json.gz"), **BUILD, **changes}
        path.write_text(yaml.safe_dump({k: v for k, v in settings.items() if v is not ...}))
        return str(path)

    return write


def failure(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    with contextlib.suppress(SystemExit):
        assert main(["bench", *arguments]) == 2
    *_, line = capsys.readouterr().err.splitlines()
    assert line.startswith("aquasurf: error: ")
    return line.removeprefix("aquasurf: error: ")


def test_samplers_are_compared(
    capsys: pytest.CaptureFixture[str], data: str, tmp_path: Path
) -> None:
    output, plot, kept = (tmp_path / name for name in ("out.md", "out.html", "kept.jsonl"))
    words = ["bench", "--data", data, "--samplers", "random", "aquasurf", "--repeats", "3"]
    words += ["--trials", "25", "--kept", str(kept)]
    assert main([*words, "--output", str(output), "--plot", str(plot)]) == 0
    printed = capsys.readouterr()
    text = output.read_text()
    assert printed.out == f"{text}wrote {output}\nwrote {plot}\n"
    # A bar on standard error, and nothing else.
    assert "6/6" in printed.err
    best = small_bench().values().max()
    assert text.startswith("small: ")
    assert f"best validation accuracy {best:.4f}" in text
    rows = [line.split("|")[1].strip() for line in text.splitlines() if line.startswith("|")]
    assert rows == ["sampler", "---", "aquasurf", "random"]
    assert "| regret after 10 | regret after 25 | to better than ReLU |" in text
    page = plot.read_text()
    assert "Searches on small" in page
    assert "ReLU and seven random functions" in page
    assert len(kept.read_text().splitlines()) == 7
    assert main(words) == 0
    assert capsys.readouterr().out == text


def test_what_a_search_is_can_be_chosen(capsys: pytest.CaptureFixture[str], data: str) -> None:
    words = ["--data", data, "--samplers", "tpe:valid", "--repeats", "1", "--trials", "2"]
    assert main(["bench", *words, "--start", "baselines", "--metric", "test_loss"]) == 0
    out = capsys.readouterr().out
    assert f"best test loss {small_bench().values('test_loss').min():.4f}" in out
    assert "Searches begin with the baselines;" in out
    assert "| tpe:valid | 1 | " in out


def test_the_tables_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench"]) == 0
    out = capsys.readouterr().out
    assert "act-bench-vit: published, fetched once from https://" in out
    assert "Say --data NAME" in out


def test_ctrl_c_while_searching(
    capsys: pytest.CaptureFixture[str], data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(*arguments: object, **options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("aquasurf_optuna.benchmark._comparison.search", stopped)
    words = ["bench", "--data", data, "--samplers", "random"]
    assert main(words) == 130
    assert "with --kept FILE it would go on from there" in capsys.readouterr().out
    assert main([*words, "--kept", str(tmp_path / "kept")]) == 130
    out = capsys.readouterr().out
    assert out == "interrupted: what ended is kept, and the same command goes on from there\n"


def test_what_cannot_be_compared(
    capsys: pytest.CaptureFixture[str], data: str, tmp_path: Path
) -> None:
    assert "there is no file x, and no table" in failure(capsys, "--data", "x")
    line = failure(capsys, "--data", data, "--samplers", "pso")
    assert line.startswith("samplers must be among aquasurf, tpe")
    line = failure(capsys, "--data", data, "--samplers", "random", "--metric", "accuracy")
    assert line.startswith("metric must be one of train_accuracy, ")
    words = ["--data", data, "--samplers", "random", "--repeats", "1", "--trials", "1"]
    assert "a table is a file" in failure(capsys, *words, "--output", str(tmp_path))
    with pytest.raises(SystemExit, match="2"):
        main(["bench", "--start", "relu"])


def test_a_table_is_built_and_searched(
    capsys: pytest.CaptureFixture[str], config: Callable[..., str], tmp_path: Path
) -> None:
    assert main(["bench", "build", "--config", config()]) == 0
    line = capsys.readouterr().out.splitlines()[-1]
    path = tmp_path / "tiny.json.gz"
    assert line.startswith(f"wrote {path}: ")
    bench = ActBench.load(path)
    assert bench.about["training"] == {"offset": 0.5}
    assert bench.about["seeds"] == [0, 1]
    row = bench.row("tanh(x)")
    expected = 0.5 + len(bench.functions[row]) / 100 + 0.0005
    assert math.isclose(bench.values()[row], expected, abs_tol=1e-6)
    assert (tmp_path / "tiny.build" / "runs.jsonl").exists()


def test_options_go_before_the_file(
    capsys: pytest.CaptureFixture[str],
    config: Callable[..., str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    words = ["build", "--config", config(seeds=[3], spread_seeds=[4], jobs=3, folder="kept")]
    assert failure(capsys, *words, "--jobs", "0").startswith(
        "jobs: must be a whole number above 0, got 0"
    )
    built: list[tuple[Any, ...]] = []

    def build_table(plan: BuildPlan, *makers: object, **options: Any) -> str:
        built.append((plan.seeds, plan.spread_seeds, plan.n, options))
        return "built"

    monkeypatch.setattr("aquasurf_optuna._bench_command.build_table", build_table)
    assert main(["bench", *words, "--jobs", "2", "--output", "other.json"]) == 0
    assert built == [((3,), (4,), 2, {"output": "other.json", "folder": "kept", "jobs": 2})]
    assert main(["bench", "build", "--config", config(output=..., n=None)]) == 0
    assert built[1] == ((0, 1), (), None, {"output": "tiny.json.gz", "folder": None, "jobs": 1})
    assert capsys.readouterr().out == "built\nbuilt\n"


def test_ctrl_c_while_building(
    capsys: pytest.CaptureFixture[str], config: Callable[..., str]
) -> None:
    file = config(training={"call": f"{HERE}.interrupted"})
    assert main(["bench", "build", "--config", file]) == 130
    assert "the same command goes on from there" in capsys.readouterr().out


BAD_FILES: dict[str, tuple[dict[str, Any], str]] = {
    "key": ({"sedes": [1]}, "sedes"),
    "kind": ({"seeds": 3}, r"seeds: must be .*tuple.*, got 3"),
    "seeds": ({"seeds": [0, "a"]}, r"seeds: must be .*int, got a"),
    "twice": ({"seeds": [1, 1]}, "seeds and spread_seeds must be different numbers"),
    "name": ({"name": ...}, "arguments are required: .*name"),
    "training": ({"training": ...}, "Say lightning_config, .* `training`"),
    "result": ({"training": {"call": f"{HERE}.no_training"}}, "no_training must return what tra"),
    "data": ({"training": {"call": f"{HERE}.without_data"}}, "^data/x.npz is missing$"),
    "features": (
        {"featurizer": {"call": f"{HERE}.no_training"}},
        "must return a FisherFeaturizer, got int",
    ),
    "config": (
        {"training": ..., "featurizer": ..., "lightning_config": "no_such.yaml"},
        "No such file or directory: 'no_such.yaml'",
    ),
}


@pytest.mark.parametrize(("changes", "message"), BAD_FILES.values(), ids=BAD_FILES.keys())
def test_bad_files_have_one_line(
    capsys: pytest.CaptureFixture[str],
    config: Callable[..., str],
    changes: dict[str, Any],
    message: str,
) -> None:
    with pytest.raises(AssertionError, match=message):
        raise AssertionError(failure(capsys, "build", "--config", config(**changes)))


def test_a_configuration_names_training_and_featurizer(
    config: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, str]] = []

    def called(described: dict[str, Any], where: str, kind: type) -> object:
        asked.append((described["call"], described["arguments"]["config"]))
        return training(0.5)

    monkeypatch.setattr("aquasurf_optuna._bench_command.called", called)
    monkeypatch.setattr("aquasurf_optuna._bench_command.build_table", lambda *a, **k: "built")
    file = config(training=..., featurizer=..., lightning_config="fit.yaml")
    assert main(["bench", "build", "--config", file]) == 0
    assert asked == [
        ("lightning_modules.configured_training.training_of", "fit.yaml"),
        ("lightning_modules.features.featurizer_of", "fit.yaml"),
    ]
    # What is named by a text is there.
    from lightning_modules.configured_training import training_of
    from lightning_modules.features import featurizer_of

    assert callable(training_of)
    assert callable(featurizer_of)
