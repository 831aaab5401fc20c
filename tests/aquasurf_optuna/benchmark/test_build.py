"""Building tables: what they hold, in which order it is trained, and what an interruption costs."""

from __future__ import annotations

import gzip
import json
import math
import shutil
import statistics
import zlib
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from torch import nn

from aquasurf_optuna.activation import ActivationFactory
from aquasurf_optuna.benchmark import _runs
from aquasurf_optuna.benchmark._bench import ActBench
from aquasurf_optuna.benchmark._build import BuildPlan, BuildResult, build_table, planned
from aquasurf_optuna.benchmark._reader import ABOUT, MEASURES, VECTORS, Table
from aquasurf_optuna.benchmark._rows import MEASURED_AS, Spread
from aquasurf_optuna.benchmark._runs import Key
from aquasurf_optuna.exceptions import BenchmarkError, InitializationError, SpaceError
from aquasurf_optuna.expression import BASELINES
from aquasurf_optuna.features import _isolated
from aquasurf_optuna.features._child import Child
from aquasurf_optuna.features.featurizer import FisherFeaturizer
from lightning_modules.configured_training import training_of
from lightning_modules.features import featurizer_of
from tests.aquasurf_optuna.benchmark.test_runs import InProcess
from tests.lightning_modules.conftest import LEAF_SPEC

INPUTS = torch.randn(8, 16, generator=torch.Generator().manual_seed(0))
UNARY = BuildPlan("unary", space="unary(x)", seeds=(0, 1, 2), invalid_sample=2)
FEW = BuildPlan("few", seeds=(4,), n=3, invalid_sample=1)


def network(factory: ActivationFactory) -> nn.Module:
    return nn.Sequential(nn.Linear(16, 12), factory(), nn.Linear(12, 10))


def featurizer() -> FisherFeaturizer:
    return FisherFeaturizer(network, INPUTS)


class Fake:
    """A training whose results are drawn from function and seed; `log` says what was trained."""

    def __init__(self, settings: object = None) -> None:
        self.settings = {"epochs": 3} if settings is None else settings
        self.log: list[Key] = []
        self.deadline = math.inf

    def __call__(self, function: str, seed: int) -> Mapping[str, float]:
        if len(self.log) >= self.deadline:
            raise RuntimeError("interrupted")
        self.log.append((function, seed))
        if function == "softsign(x)":
            raise InitializationError("no weights for it")
        of_function, of_both = (
            np.random.default_rng(zlib.crc32(text.encode()))
            for text in (function, f"{function} {seed}")
        )
        base = 0.5 + 0.4 * of_function.random()
        values = {name: base + 0.02 * of_both.random() for name in MEASURED_AS.values()}
        return values | ({"train_loss": math.nan} if function == "swish(x)" else {})


@pytest.fixture(autouse=True)
def in_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_runs, "Child", InProcess)
    monkeypatch.setattr(_isolated, "Child", InProcess)


Build = Callable[..., BuildResult]


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Folders of builds that have measured their features, and trained."""
    folders = {plan.name: tmp_path_factory.mktemp(plan.name) for plan in (UNARY, FEW)}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_runs, "Child", InProcess)
        patch.setattr(_isolated, "Child", InProcess)
        for plan in (UNARY, FEW):
            folder = folders[plan.name]
            output = folder / "table.json"
            build_table(plan, Fake(), featurizer(), output=output, folder=folder, progress=False)
    return folders


@pytest.fixture
def build(tmp_path: Path, measured: dict[str, Path]) -> Build:
    """Builds a table from features that are there already."""

    def built(
        plan: BuildPlan, training: Any, output: str = "table.json", jobs: int = 1
    ) -> BuildResult:
        folder = tmp_path / f"{output}.build"
        folder.mkdir(exist_ok=True)
        shutil.copy(measured[plan.name] / "features.db", folder)
        return build_table(
            plan,
            training,
            featurizer(),
            output=tmp_path / output,
            folder=folder,
            jobs=jobs,
            progress=False,
        )

    return built


def content(result: BuildResult) -> dict[str, Any]:
    data = result.path.read_bytes()
    found: dict[str, Any] = json.loads(gzip.decompress(data) if data[:1] == b"\x1f" else data)
    return found


def test_every_function_is_in_the_table(build: Build) -> None:
    training = Fake()
    result = build(UNARY, training)
    table = content(result)
    assert next(iter(table)) == ABOUT
    functions = [name for name in table if name != ABOUT]
    assert len(functions) == result.functions == 27
    published = {*MEASURES.values(), "Equivalent Activation Functions", "Fisher log eigenvalue CDF"}
    assert all(published <= set(table[name]) for name in functions)
    entries = {entry.name: entry for entry in Table(result.path)}
    assert sum(entry.invalid is None for entry in entries.values()) == result.valid
    assert {"zero(x)", "one(x)"} <= {name for name, entry in entries.items() if entry.invalid}
    assert entries["one(x)"].invalid == "its outputs are constant or not finite"
    invalid_trained = [e.name for e in entries.values() if e.invalid and e.seeds]
    assert len(invalid_trained) == 2
    assert result.trained == result.valid - 1 + 2
    assert Counter(training.log) == Counter(set(training.log))


def test_rows_are_the_medians_of_their_runs(build: Build) -> None:
    training = Fake()
    result = build(UNARY, training)
    bench = ActBench.load(result.path)
    row = bench.row("tanh(x)")
    runs = [Fake()("tanh(x)", seed) for seed in UNARY.seeds]
    for field, name in MEASURED_AS.items():
        values = [run[name] for run in runs]
        assert bench.measured[field][row] == pytest.approx(statistics.median(values), abs=1e-6)
        assert bench.runs[field][row] == pytest.approx(values, abs=1e-6)
    swish = bench.row("swish(x)")
    assert math.isnan(bench.measured["train_loss"][swish])
    assert bench.measured["validation_loss"][swish] > 0
    failed = next(entry for entry in Table(result.path) if entry.name == "softsign(x)")
    assert failed.training_failure == "no weights for it"
    assert failed.seeds == ()
    assert not np.isfinite(bench.measured["validation_accuracy"][bench.row("softsign(x)")])


@pytest.mark.parametrize("representation", ["quantiles", "histogram"])
def test_features_are_the_featurizers(build: Build, representation: Any) -> None:
    bench = ActBench.load(build(FEW, Fake()).path, representation=representation)
    measure = featurizer().represented_as(representation)
    for function in bench.functions:
        expected = measure(function)
        found = bench.features(function)
        if expected.vector is None:
            assert not found.valid
        else:
            assert found.vector is not None
            np.testing.assert_allclose(found.vector, expected.vector, rtol=1e-3)


def test_a_few_functions_bring_the_baselines_and_the_graphs_that_are_equal(build: Build) -> None:
    bench = ActBench.load(build(FEW, Fake()).path)
    assert set(bench.baselines) == {str(baseline) for baseline in BASELINES}
    assert len(BASELINES) < len(bench) <= len(BASELINES) + FEW.n
    relu = bench.row("relu(x)")
    assert "max(identity(x),zero(x))" in (bench.functions[relu], *bench.members[relu])
    assert bench.row("add(relu(x),zero(x))") == relu


def test_what_was_built_is_told(build: Build) -> None:
    result = build(UNARY, Fake(), "act.json.gz")
    about = ActBench.load(result.path).about
    assert about["name"] == "unary"
    assert about["space"] == "unary(x)"
    assert (about["seeds"], about["classes"]) == ([0, 1, 2], 10)
    assert about["training"] == {"epochs": 3}
    assert about["features"] == {"seed": 0, "task": featurizer().task}
    assert {"python", "torch", "numpy"} <= set(about["versions"])
    spread = result.spread
    assert spread is not None
    assert about["spread"] == {
        "functions": spread.functions,
        "share": pytest.approx(spread.share),
        "seed_deviation": pytest.approx(spread.seed_deviation),
    }
    assert spread.share > 0.9
    assert str(result).startswith(f"wrote {result.path}: 27 functions, {result.valid} with a valid")
    assert str(result).endswith(f"trained; {spread}")
    assert str(BuildResult(Path("a"), 1, 2, 3, None)).endswith("spectrum, 3 trained")
    assert isinstance(spread, Spread)


def test_the_same_table_is_the_same_bytes(
    build: Build, tmp_path: Path, measured: dict[str, Path]
) -> None:
    plain = (measured["few"] / "table.json").read_bytes()
    assert build(FEW, Fake(), "two.json", jobs=2).path.read_bytes() == plain
    packed = build(FEW, Fake(), "one.json.gz").path.read_bytes()
    assert build(FEW, Fake(), "three.json.gz").path.read_bytes() == packed
    assert gzip.decompress(packed) == plain
    assert not list(tmp_path.glob(".*"))


def test_all_is_kept_beside_the_table_and_measured_once(tmp_path: Path) -> None:
    results = [
        build_table(FEW, Fake(), featurizer(), output=tmp_path / "new" / name, progress=False)
        for name in ("t.json.gz", "t.json")
    ]
    names = {path.name for path in (tmp_path / "new").iterdir()}
    assert names == {"t.json.gz", "t.json", "t.build"}
    assert {"features.db", "runs.jsonl"} <= {
        path.name for path in (tmp_path / "new" / "t.build").iterdir()
    }
    assert content(results[0]) == content(results[1])


def test_an_interrupted_build_goes_on(
    build: Build, tmp_path: Path, measured: dict[str, Path]
) -> None:
    whole = (measured["unary"] / "table.json").read_bytes()
    first, second = Fake(), Fake()
    first.deadline = 30
    with pytest.raises(RuntimeError, match="interrupted"):
        build(UNARY, first, "part.json")
    assert not (tmp_path / "part.json").exists()
    result = build(UNARY, second, "part.json")
    assert result.path.read_bytes() == whole
    assert len(first.log) == 30
    assert not set(first.log) & set(second.log)
    third = Fake()
    build(UNARY, third, "part.json")
    assert third.log == []


def test_more_seeds_go_on_from_the_runs_that_are_there(build: Build) -> None:
    plan = BuildPlan("unary", space="unary(x)", seeds=(0,), invalid_sample=0)
    build(plan, Fake())
    more = Fake()
    build(UNARY, more)
    valid = {function for function, seed in more.log if seed == 1}
    assert {seed for _, seed in more.log} == {0, 1, 2}
    # From seed 0 only the sample of invalid ones was missing.
    assert sum(seed == 0 for _, seed in more.log) == 2
    assert {function for function, seed in more.log if seed == 0} < valid


def test_seeds_for_the_spread_do_not_count_for_the_medians(build: Build) -> None:
    plan = BuildPlan(
        "unary",
        space="unary(x)",
        seeds=(0,),
        spread_seeds=(7, 8),
        spread_sample=4,
        invalid_sample=0,
    )
    training = Fake()
    result = build(plan, training)
    of_sample = [function for function, seed in training.log if seed == 7]
    assert len(of_sample) == 4
    assert set(of_sample) <= {str(baseline) for baseline in BASELINES}
    assert result.spread is not None
    assert result.spread.functions == len(set(of_sample) - {"softsign(x)"})
    bench = ActBench.load(result.path)
    row = bench.row(of_sample[0])
    accuracy = bench.measured["validation_accuracy"][row]
    assert accuracy == pytest.approx(Fake()(of_sample[0], 0)["val_accuracy"], abs=1e-6)
    assert np.isfinite(bench.runs["validation_accuracy"][row]).sum() == 3
    assert np.isfinite(bench.runs["validation_accuracy"][bench.row("arctan(x)")]).sum() == 1


def test_baselines_come_first_and_each_seed_sees_all() -> None:
    functions = [*(f"add(x,{number})" for number in range(6)), "relu(x)", "tanh(x)"]
    plan = BuildPlan("p", seeds=(3, 1), spread_seeds=(9,), spread_sample=3, invalid_sample=1)
    invalid = {"add(x,0)", "add(x,1)"}
    keys = planned(plan, functions, invalid, ["tanh(x)", "relu(x)", "elu(x)"])
    order = [function for function, seed in keys if seed == 3]
    assert order[:2] == ["tanh(x)", "relu(x)"]
    assert sorted(order[2:6]) == ["add(x,2)", "add(x,3)", "add(x,4)", "add(x,5)"]
    assert len(order) == 7
    assert order[6] in invalid
    assert keys == [
        *((function, 3) for function in order),
        *((function, 1) for function in order),
        *((function, 9) for function in order[:3]),
    ]
    assert all(type(function) is str for function, _ in keys)
    assert planned(plan, functions, invalid, ["tanh(x)", "relu(x)", "elu(x)"]) == keys
    shuffled = planned(BuildPlan("p", seeds=(3, 1), seed=1), functions, set())
    assert [function for function, seed in shuffled if seed == 3] != order


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seeds": ()}, r"at least one in seeds, got \[\] and \[\]"),
        ({"seeds": (0, 0)}, r"must be different numbers of 0 or more.*got \[0, 0\]"),
        ({"seeds": (0, 1), "spread_seeds": (1,)}, r"must be different.*got \[0, 1\] and \[1\]"),
        ({"seeds": (-1,)}, r"must be different numbers of 0 or more.*got \[-1\]"),
        ({"classes": 1}, "classes must be 2 or more, got 1"),
        ({"n": 0}, "n must be 1 or more, got 0"),
        ({"invalid_sample": -1}, "invalid_sample must be 0 or more, got -1"),
        ({"spread_sample": 0}, "spread_sample must be 1 or more, got 0"),
        ({"name": ""}, "name must be the name of a table, got ''"),
        ({"name": "a/b"}, "name must be the name of a table, got 'a/b'"),
    ],
)
def test_plans_out_of_range_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(BenchmarkError, match=message):
        BuildPlan(**({"name": "table"} | changes))


def test_an_unknown_space_is_refused(build: Build) -> None:
    with pytest.raises(SpaceError, match="five_node"):
        build(BuildPlan("few", space="five_node"), Fake())


@pytest.mark.parametrize("name", ["table", "table.gz", "table.JSON", ".json", "folder.json"])
def test_an_output_that_is_no_table_is_refused(build: Build, tmp_path: Path, name: str) -> None:
    (tmp_path / "folder.json").mkdir()
    training = Fake()
    with pytest.raises(BenchmarkError, match=r"must be a file that ends in .json or .json.gz, got"):
        build(FEW, training, name)
    assert training.log == []


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"rate": math.nan}, "settings of a training must be what JSON can hold"),
        ({"network": network}, "settings of a training must be what JSON can hold"),
        ("fast", "settings of a training must be a mapping of what its results depend on, got"),
    ],
)
def test_settings_that_cannot_be_kept_are_refused(
    build: Build, settings: object, message: str
) -> None:
    training = Fake(settings)
    with pytest.raises(BenchmarkError, match=message):
        build(FEW, training)
    assert training.log == []


def test_runs_of_other_settings_are_refused(build: Build) -> None:
    build(FEW, Fake())
    with pytest.raises(BenchmarkError, match="holds training runs of other settings"):
        build(FEW, Fake({"epochs": 4}))


def test_a_training_that_returns_too_little_is_refused(build: Build) -> None:
    def training(function: str, seed: int) -> Mapping[str, float]:
        return {"val_accuracy": 0.5, "train_loss": 1.0}

    message = r"returned no train_accuracy, test_accuracy, val_loss, test_loss, seconds; it must"
    with pytest.raises(BenchmarkError, match=message):
        build(FEW, training)
    with pytest.raises(BenchmarkError, match="kept without them must be moved away"):
        build(FEW, training)


CONFIG = {
    "trainer": {"accelerator": "cpu", "devices": 1, "max_epochs": 1, "limit_train_batches": 6},
    "model": {
        "activation": "relu(x)",
        "network": {
            "name": "all_cnn_c",
            "in_channels": 1,
            "image_size": 8,
            "width": 1 / 24,
            "dropout": 0.0,
        },
        "training": {"learning_rate": 0.05, "warmup_epochs": 0.0},
    },
    "data": {
        "class_path": "lightning_modules.data.DigitsDataModule",
        "init_args": {"task": {"canvas": 8, "clutter": 0.0, "noise": 0.0}},
    },
}


@pytest.mark.filterwarnings("ignore:.*does not have many workers", LEAF_SPEC)
def test_a_real_build_of_trained_networks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_runs, "Child", Child)
    config = tmp_path / "config.yaml"
    config.write_text(yaml.safe_dump(CONFIG))
    training, measure = training_of(config), featurizer_of(config, samples=16)
    plan = BuildPlan("real", seeds=(2,), n=1, invalid_sample=1)
    result = build_table(plan, training, measure, output=tmp_path / "real.json.gz", progress=False)
    bench = ActBench.load(result.path)
    assert bench.about["training"] == {"config": config.read_text()}
    # The table was trained in another process.
    for function in (bench.functions[bench.row("relu(x)")], bench.functions[bench.row("tanh(x)")]):
        row, expected = bench.row(function), training(function, 2)
        for field, name in MEASURED_AS.items():
            if field != "seconds":
                assert bench.measured[field][row] == pytest.approx(expected[name], abs=2e-6)
        vector = measure(function).vector
        assert vector is not None
        np.testing.assert_allclose(bench.fisher[row], vector, rtol=1e-3)
    assert set(bench.baselines) == {str(baseline) for baseline in BASELINES}
    assert {len(entry.vectors) for entry in Table(result.path) if not entry.invalid} == {
        len(VECTORS)
    }
