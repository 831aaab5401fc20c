"""Tables as objectives: loading, rows by equal graphs, values, features, and searches on them."""

from __future__ import annotations

import gzip
import hashlib
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.trial import FixedTrial

from aquasurf_optuna.benchmark import _bench, _shipped
from aquasurf_optuna.benchmark._bench import ACTIVATION, ActBench
from aquasurf_optuna.benchmark._reader import ABOUT, MEASURES, VECTORS, Table
from aquasurf_optuna.benchmark._shipped import SHIPPED, shipped
from aquasurf_optuna.catalogue import Catalogue
from aquasurf_optuna.exceptions import BenchmarkError, ExpressionError
from aquasurf_optuna.expression import BASELINES, Expression
from aquasurf_optuna.sampler import AquaSurfSampler
from aquasurf_optuna.space import SearchSpace

UNARY = SearchSpace.named("unary(x)")
NAMES = [str(expression) for expression in UNARY]
QUANTILES, HISTOGRAM = VECTORS["quantiles"], VECTORS["histogram"]


def entry(place: int, members: list[str] | None = None, **others: Any) -> dict[str, Any]:
    """A function in the published form; its validation accuracy tells its place."""
    values = {key: 0.1 * number + place / 10_000 for number, key in enumerate(MEASURES.values())}
    vector = [math.sin(place), math.cos(place), place / 100]
    more = {"Equivalent Activation Functions": members or [], HISTOGRAM: vector}
    return values | more | others


def accuracy(place: int) -> float:
    return 0.1 + place / 10_000


def unary_table(**about: Any) -> dict[str, Any]:
    about = {"space": "unary(x)", "classes": 10} | about
    return {ABOUT: about} | {name: entry(place) for place, name in enumerate(NAMES)}


Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def written(table: dict[str, Any], name: str = "a-table.json") -> Path:
        content = json.dumps(table).encode()
        path = tmp_path / name
        path.write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
        return path

    return written


@pytest.fixture
def bench(write: Write) -> ActBench:
    return ActBench.load(write(unary_table()))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, catalogue: Catalogue) -> ActBench:
    """Every class of the three-node space as the published tables have them: nothing about it."""
    table = {}
    for row in range(len(catalogue)):
        first, *others = map(str, catalogue.members(row))
        table[first] = entry(row, others, **({HISTOGRAM: []} if row % 3 == 1 else {}))
    path = tmp_path_factory.mktemp("published") / "whole.json"
    path.write_text(json.dumps(table))
    return ActBench.load(path)


# Loading


@pytest.mark.parametrize("name", ["a-table.json", "a-table.json.gz"])
@pytest.mark.parametrize("kind", [Path, str])
def test_a_file_is_loaded_by_its_path(write: Write, name: str, kind: Callable[..., Any]) -> None:
    bench = ActBench.load(kind(write(unary_table(), name)))
    assert bench.name == "a-table"
    assert bench.functions == tuple(NAMES)
    assert (len(bench), repr(bench)) == (27, "ActBench('a-table': 27 functions, 27 valid)")
    assert bench.about == {"space": "unary(x)", "classes": 10}
    assert bench.expressions == tuple(UNARY)
    for number, field in enumerate(MEASURES):
        expected = [0.1 * number + place / 10_000 for place in range(27)]
        np.testing.assert_allclose(bench.measured[field], expected)
    expected = [[math.sin(place), math.cos(place), place / 100] for place in range(27)]
    np.testing.assert_array_equal(bench.fisher, np.array(expected, dtype=np.float32))
    assert bench.valid.all()
    assert bench.runs == {}
    assert bench.seeds == ()


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_tables_are_loaded_by_name(name: str) -> None:
    bench = ActBench.load(name)
    assert bench.name == name
    assert len(bench) == 2791
    assert len(bench.space) == 5103
    assert set(bench.baselines) == {str(baseline) for baseline in BASELINES}


@pytest.fixture
def own_shipped(tmp_path: Path, write: Write, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = write(unary_table(), "own.json.gz")
    monkeypatch.setattr(_shipped, "_FOLDER", tmp_path)
    checksum = hashlib.sha256(path.read_bytes()).hexdigest()
    monkeypatch.setitem(SHIPPED, "own", checksum)
    return path


def test_what_was_shipped_is_checked(own_shipped: Path) -> None:
    assert shipped("own") == own_shipped
    assert ActBench.load("own").name == "own"
    own_shipped.write_bytes(own_shipped.read_bytes()[:-1])
    with pytest.raises(BenchmarkError, match=r"own.json.gz was changed after it was shipped \(SHA"):
        ActBench.load("own")
    own_shipped.unlink()
    with pytest.raises(BenchmarkError, match="own.json.gz is missing; install the package again"):
        ActBench.load("own")


def test_published_tables_are_fetched(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(unary_table(), "kept.json")
    fetched: list[str] = []

    def fetch(name: str) -> Path:
        fetched.append(name)
        return path

    monkeypatch.setattr(_bench, "fetch", fetch)
    assert ActBench.load("act-bench-vit").name == "act-bench-vit"
    assert fetched == ["act-bench-vit"]


def test_unknown_names_and_what_is_no_table_are_refused(write: Write, tmp_path: Path) -> None:
    with pytest.raises(BenchmarkError, match="no file act-bench-x, and no table.*act-bench-resnet"):
        ActBench.load("act-bench-x")
    with pytest.raises(BenchmarkError, match="cannot be read"):
        ActBench.load(tmp_path)
    with pytest.raises(BenchmarkError, match="a-table holds no functions"):
        ActBench.load(write({ABOUT: {"space": "unary(x)"}}))


# Representations


def both(place: int) -> dict[str, Any]:
    return entry(place, **{QUANTILES: [place + 0.5, 1.0], "Seeds": []})


def test_quantiles_are_preferred_and_either_can_be_had(write: Write) -> None:
    path = write({"relu(x)": both(1), "tanh(x)": both(2)})
    assert ActBench.load(path).representation == "quantiles"
    np.testing.assert_array_equal(ActBench.load(path).fisher, [[1.5, 1.0], [2.5, 1.0]])
    bench = ActBench.load(path, representation="histogram")
    assert bench.representation == "histogram"
    assert bench.fisher.shape == (2, 3)
    assert bench.features.task == "a-table histogram"


def test_a_representation_that_is_not_there_is_refused(write: Write) -> None:
    path = write({"relu(x)": entry(1)})
    assert ActBench.load(path).representation == "histogram"
    with pytest.raises(BenchmarkError, match="no Fisher features as 'quantiles'; it has histogram"):
        ActBench.load(path, representation="quantiles")
    none = write({"relu(x)": entry(1, **{HISTOGRAM: []})}, "none.json")
    assert not ActBench.load(none).valid.any()
    with pytest.raises(BenchmarkError, match="no Fisher features as 'histogram'; it has none"):
        ActBench.load(none, representation="histogram")


def test_invalid_functions_keep_their_reason(write: Write) -> None:
    table = {
        "relu(x)": entry(0),
        "exp(x)": entry(1, **{HISTOGRAM: [], "Failure": "the loss is not finite"}),
        "sinh(x)": entry(2, **{HISTOGRAM: [math.nan, 1.0]}),
    }
    bench = ActBench.load(write(table))
    assert bench.valid.tolist() == [True, False, False]
    assert bench.reasons == {1: "the loss is not finite", 2: "its vector is not finite"}
    assert np.isnan(bench.fisher[1:]).all()


# Functions


def test_rows_are_found_by_any_equal_graph(whole: ActBench, catalogue: Catalogue) -> None:
    for row in range(0, len(whole), 97):
        for member in catalogue.members(row):
            assert whole.row(member) == whole.row(str(member)) == row
    assert len(whole) == 2791


def test_rows_are_found_by_values_where_no_name_is_in_the_table(
    write: Write, catalogue: Catalogue
) -> None:
    members = [str(member) for member in catalogue.members(catalogue.class_of("relu(x)"))]
    bench = ActBench.load(write({members[1]: entry(5)}))
    assert len(members) > 2
    assert {bench.row(member) for member in members} == {0}
    assert bench.row("relu(x)") == 0
    assert bench.baselines == {"relu(x)": 0}


def test_functions_that_are_not_there_are_refused(bench: ActBench) -> None:
    with pytest.raises(
        BenchmarkError, match=r"a-table does not hold add\(x,1\); it holds the func"
    ):
        bench.row("add(x,1)")
    with pytest.raises(ExpressionError, match="tahn"):
        bench.row("tahn(x)")


def test_names_that_are_no_functions_are_refused(write: Write) -> None:
    with pytest.raises(BenchmarkError, match=r"a-table: 'rleu\(x\)' is not the text of a function"):
        _ = ActBench.load(write({"rleu(x)": entry(0)})).expressions


def test_the_space_is_the_tables_or_the_three_node_one(whole: ActBench, bench: ActBench) -> None:
    assert len(whole.space) == 5103
    assert whole.about == {}
    assert len(bench.space) == 27
    assert len(whole.baselines) == len(bench.baselines) == len(BASELINES)
    assert whole.baselines["relu(x)"] == whole.row("max(identity(x),zero(x))")


def test_a_table_of_another_space_is_refused(write: Write) -> None:
    table = unary_table() | {"add(x,1)": entry(30)}
    with pytest.raises(BenchmarkError, match=r"1 of its functions, such as add\(x,1\), are not in"):
        _ = ActBench.load(write(table)).space


# Values


def test_what_was_not_trained_counts_as_guessing_and_the_largest_loss(write: Write) -> None:
    table = unary_table(classes=4)
    table[NAMES[0]] |= dict.fromkeys(MEASURES.values())
    table[NAMES[1]]["Validation Loss"] = "NaN"
    table[NAMES[2]]["Validation Loss"] = math.inf
    bench = ActBench.load(write(table))
    assert bench.chance == 0.25
    assert bench.values()[:2] == pytest.approx([0.25, accuracy(1)])
    assert np.array_equal(bench.values(), bench.values("validation_accuracy"))
    losses = bench.values("validation_loss")
    assert losses[:3] == pytest.approx([losses[26]] * 3)
    assert losses[26] == losses.max() == pytest.approx(0.4 + 26 / 10_000)
    assert np.isfinite(bench.values("seconds")).all()


def test_measures_that_are_not_there_are_refused(write: Write, bench: ActBench) -> None:
    with pytest.raises(BenchmarkError, match="metric must be one of train_accuracy, .*, got 'val'"):
        bench.values("val")
    with pytest.raises(BenchmarkError, match="metric must be one of"):
        bench.objective_of("Validation Accuracy")
    lost = ActBench.load(write({"relu(x)": entry(1, **{"Test Loss": None})}))
    with pytest.raises(BenchmarkError, match="a-table has no finite test_loss"):
        lost.values("test_loss")
    assert lost.values("test_accuracy") == pytest.approx([0.2 + 1e-4])


def test_runs_stand_in_the_column_of_their_seed(write: Write) -> None:
    def runs(seeds: list[int], values: list[float]) -> dict[str, Any]:
        return {"Seeds": seeds} | {f"{key} Runs": values for key in MEASURES.values()}

    table = {
        "relu(x)": entry(0, **runs([0, 1, 2], [0.1, 0.2, 0.3])),
        "tanh(x)": entry(1, **runs([1, 7], [0.5, 0.7])),
        "elu(x)": entry(2, **runs([], [])),
    }
    bench = ActBench.load(write(table))
    assert bench.seeds == (0, 1, 2, 7)
    missing = math.nan
    expected = [[0.1, 0.2, 0.3, missing], [missing, 0.5, missing, 0.7], [missing] * 4]
    for field in MEASURES:
        np.testing.assert_array_equal(bench.runs[field], expected)


# Searches


def trial_of(bench: ActBench, text: str) -> FixedTrial:
    return FixedTrial(bench.space.params_of(text, ACTIVATION))


def test_the_objective_is_the_accuracy_of_the_function(bench: ActBench, whole: ActBench) -> None:
    for place, name in enumerate(NAMES):
        assert bench.objective(trial_of(bench, name)) == pytest.approx(accuracy(place))
        loss = bench.objective_of("test_loss")(trial_of(bench, name))
        assert loss == bench.measured["test_loss"][place]
    graph = "add(zero(x),relu(x))"
    expected = whole.measured["validation_accuracy"][whole.row("relu(x)")]
    assert whole.objective(trial_of(whole, graph)) == expected


def sampler_of(kind: str, bench: ActBench) -> BaseSampler:
    if kind == "aquasurf":
        return AquaSurfSampler(
            bench.space,
            features=bench.features,
            catalogue=bench.catalogue,
            pool_size=40,
            seed=0,
        )
    return RandomSampler(seed=0) if kind == "random" else TPESampler(seed=0)


@pytest.mark.parametrize("kind", ["tpe", "random", "aquasurf"])
def test_any_sampler_searches_a_table(whole: ActBench, kind: str) -> None:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(direction="maximize", sampler=sampler_of(kind, whole))
    study.optimize(whole.objective, n_trials=12)
    assert len(study.trials) == 12
    for trial in study.trials:
        expression = whole.space.expression_of(trial.params, ACTIVATION)
        assert trial.value == pytest.approx(accuracy(whole.row(expression)))
    if kind == "aquasurf":
        rows = [
            whole.row(whole.space.expression_of(trial.params, ACTIVATION)) for trial in study.trials
        ]
        assert len(set(rows)) == 12
        assert set(rows[: len(BASELINES)]) == set(whole.baselines.values())
        # Nothing is tried of which the features say that it is invalid, but for the baselines.
        assert whole.valid[rows[len(BASELINES) :]].all()


def test_features_are_looked_up(whole: ActBench) -> None:
    assert whole.features.task == "whole histogram"
    feature = whole.features("max(identity(x),zero(x))")
    row = whole.row("relu(x)")
    assert feature.valid == bool(whole.valid[row])
    seen: list[tuple[int, int]] = []
    expressions: list[str | Expression] = ["tanh(x)", whole.expressions[1], whole.expressions[3]]
    features = whole.features.many(
        expressions, n_jobs=2, progress=lambda done, total: seen.append((done, total))
    )
    assert seen == [(3, 3)]
    assert features[1].vector is None
    assert features[1].reason == "its vector is empty"
    vector = features[2].vector
    assert vector is not None
    np.testing.assert_array_equal(vector, whole.fisher[3])
    with pytest.raises(BenchmarkError, match="does not hold"):
        whole.features("mul(x,7)")


def test_a_table_can_be_read_without_vectors(write: Write) -> None:
    entries = list(Table(write(unary_table()), vectors=False))
    bench = ActBench("quick", entries)
    assert not bench.valid.any()
    assert np.isfinite(bench.values()).all()
