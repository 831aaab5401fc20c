"""Searches on a small table: by any sampler, repeatable, in processes, kept in a file."""

from __future__ import annotations

import importlib.util
from collections import Counter
from typing import Any

import numpy as np
import optuna
import pytest

from aquasurf_optuna import BASELINES, SURROGATES, Catalogue, SearchSpace
from aquasurf_optuna.benchmark import (
    SAMPLERS,
    Search,
    SearchedTable,
    _samplers,
    _searched_table,
    _searches,
    compare,
    curves_of,
    search,
)
from aquasurf_optuna.exceptions import BenchmarkError, SamplerError
from aquasurf_optuna.surrogate import DEFAULT_SURROGATE
from tests.aquasurf_optuna.benchmark.searched_tables import SCHEMA, small_bench

NO_CMAES = importlib.util.find_spec("cmaes") is None
PEERS = [
    pytest.param(name, marks=pytest.mark.skipif(NO_CMAES, reason="needs cmaes"))
    if name == "cmaes"
    else name
    for name in ("tpe", "tpe-multivariate", "gp", "cmaes", "nsgaii", "random")
]


@pytest.fixture(scope="module")
def table() -> SearchedTable:
    return SearchedTable(small_bench())


def without_seconds(searches: list[Search]) -> list[Search]:
    return [one._replace(seconds=0.0) for one in searches]


def run(table: SearchedTable, name: str, repeat: int = 0, trials: int = 12) -> Search:
    return search(table, name, start="random", repeat=repeat, trials=trials)


@pytest.mark.parametrize("name", ["aquasurf", *PEERS])
def test_a_search_depends_on_sampler_start_and_repeat_alone(
    table: SearchedTable, name: str
) -> None:
    first = run(table, name)
    np.random.default_rng().normal()
    assert without_seconds([first]) == without_seconds([run(SearchedTable(small_bench()), name)])
    assert first.rows != run(table, name, repeat=1).rows
    assert (first.n_initial, len(first.rows), first.trials) == (8, 20, 12)
    # A shorter one is its beginning.
    assert run(table, name, trials=5).rows == first.rows[:13]


@pytest.mark.parametrize("start", ["random", "baselines"])
@pytest.mark.parametrize("name", ["aquasurf", "random", "tpe:valid"])
def test_every_sampler_begins_with_the_same_functions(
    table: SearchedTable, name: str, start: str
) -> None:
    found = search(table, name, start=start, repeat=3, trials=1)
    assert found.rows[: found.n_initial] == table.first_rows(start, 3)


@pytest.mark.skipif(NO_CMAES, reason="needs cmaes")
def test_so_does_cmaes_on_its_integers(table: SearchedTable) -> None:
    found = search(table, "cmaes", start="baselines", repeat=3, trials=1)
    assert found.rows[:8] == table.first_rows("baselines", 3)


def test_what_a_search_begins_with(table: SearchedTable) -> None:
    bench = table.bench
    relu, *others = table.first_rows("random", 0)
    assert bench.functions[relu] == "relu(x)"
    assert len({relu, *others}) == 8
    assert bench.valid[others].all()
    assert table.first_rows("random", 1)[1:] != others
    baselines = table.first_rows("baselines", 0)
    assert [bench.row(str(each)) for each in BASELINES] == baselines


def test_starts_that_cannot_be(table: SearchedTable) -> None:
    with pytest.raises(BenchmarkError, match="start must be one of random, baselines, got 'relu'"):
        table.first_rows("relu", 0)
    bare = SearchedTable(small_bench("sub(unary(x),tanh(x))"))
    assert bare.relu is None
    assert len(bare.first_rows("random", 0)) == 8
    with pytest.raises(BenchmarkError, match="small has none of the baselines; choose another"):
        bare.first_rows("baselines", 0)


@pytest.mark.parametrize("surrogate", SURROGATES)
@pytest.mark.parametrize("features", ["", ":outputs", ":fisher"])
def test_every_surrogate_searches(table: SearchedTable, surrogate: str, features: str) -> None:
    found = run(table, f"aquasurf:{surrogate}{features}", trials=2)
    assert len(found.rows) == 10
    assert table.bench.valid[found.rows].all()


def test_the_default_is_what_the_sampler_proposes(table: SearchedTable) -> None:
    found = run(table, "aquasurf")
    assert found.rows == run(table, f"aquasurf:{DEFAULT_SURROGATE}").rows
    assert found.rows != run(table, "aquasurf:gp:outputs").rows
    # The values follow from the features, so it finds the best one sooner than chance does.
    best = int(table.scores.argmax())
    assert best in found.rows


def test_all_candidates_are_tried_once_and_then_the_best_again(table: SearchedTable) -> None:
    n = int(table.bench.valid.sum())
    found = run(table, "aquasurf", trials=n + 3)
    assert sorted(set(found.rows)) == np.flatnonzero(table.bench.valid).tolist()
    assert Counter(found.rows)[int(table.scores.argmax())] == len(found.rows) - n + 1


def test_a_small_pool_grows() -> None:
    table = SearchedTable(small_bench(), pool_size=10)
    found = run(table, "aquasurf", trials=20)
    assert len(set(found.rows)) == 28


def test_invalid_functions_cost_nothing_where_they_are_removed(table: SearchedTable) -> None:
    plain, valid = run(table, "random", trials=60), run(table, "random:valid", trials=60)
    kept = [row for row in plain.rows if table.bench.valid[row]]
    assert len(kept) < len(plain.rows)
    assert table.bench.valid[valid.rows].all()
    # The same draws, without those that did not count.
    assert valid.rows[: len(kept)] == kept


def test_what_is_removed_is_told_to_have_failed(
    table: SearchedTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[float] = []
    tell = optuna.Study.tell

    def telling(study: optuna.Study, trial: optuna.Trial, values: float) -> object:
        told.append(values)
        return tell(study, trial, values)

    monkeypatch.setattr(optuna.Study, "tell", telling)
    found = run(table, "random:valid", trials=60)
    counted = [float(table.scores[row]) for row in found.rows]
    assert [value for value in told if value != 0.1] == counted
    assert told.count(0.1) == len(told) - len(counted) > 0


def test_a_sampler_that_proposes_invalid_functions_alone_ends(
    table: SearchedTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    constant = table.bench.space.params_of("zero(x)", "activation")

    class Stubborn(optuna.samplers.RandomSampler):
        def sample_independent(self, study, trial, param_name, param_distribution):
            asked.append(trial.number)
            return constant[param_name]

    method = _samplers.Method(lambda _, seed: Stubborn(seed=seed), valid_only=True)
    for module in (_samplers, _searches):
        monkeypatch.setattr(module, "SAMPLERS", {"stubborn": method})
    found = run(table, "stubborn")
    assert found.rows == table.first_rows("random", 0)
    assert len(set(asked)) == 300


def test_a_method_needs_no_name_among_the_samplers(table: SearchedTable) -> None:
    method = _samplers.Method(lambda _, seed: optuna.samplers.RandomSampler(seed=seed))
    found = search(table, "mine", start="random", repeat=3, trials=6, method=method)
    assert found.sampler == "mine"
    assert found.rows == run(table, "random", repeat=3, trials=6).rows
    with pytest.raises(BenchmarkError, match="samplers must be among .* got 'mine'"):
        run(table, "mine")


@pytest.mark.skipif(NO_CMAES, reason="needs cmaes")
def test_cmaes_searches_integers_by_itself(
    table: SearchedTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[dict[str, Any]] = []
    sample = optuna.samplers.CmaEsSampler.sample_relative

    def sampling(sampler, study, trial, search_space):
        params = sample(sampler, study, trial, search_space)
        seen.append(params)
        return params

    monkeypatch.setattr(optuna.samplers.CmaEsSampler, "sample_relative", sampling)
    run(table, "cmaes")
    # Enqueued trials aside, all nodes of all schemas come from CMA-ES itself.
    assert [set(params) for params in seen[-12:]] == [set(table.distributions)] * 12


def test_integers_name_the_same_functions(table: SearchedTable) -> None:
    method = SAMPLERS["cmaes"]
    for row in range(len(table.bench)):
        params = method.params_of(table, row)
        whole = dict.fromkeys(table.distributions, 0) | params
        expression = method.suggest(table, optuna.trial.FixedTrial(whole))
        assert table.bench.row(expression) == row


def test_cmaes_that_is_not_there(table: SearchedTable, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    for name in ("cmaes", "cmaes:valid"):
        with pytest.raises(BenchmarkError, match="needs the package cmaes: pip install cmaes"):
            run(table, name)
    assert run(table, "random", trials=1).rows


def test_a_loss_is_searched_for_its_lowest_value() -> None:
    bench = small_bench()
    table = SearchedTable(bench, "validation_loss")
    losses = bench.values("validation_loss")
    assert table.scores.tolist() == (-losses).tolist()
    assert table.failed == -losses.max()
    found = search(table, "aquasurf", start="random", repeat=0, trials=12)
    assert losses.argmin() in found.rows
    searches = compare(
        bench, ["random"], repeats=2, trials=4, metric="validation_loss", progress=False
    )
    curves = curves_of(bench, searches, "validation_loss")["random"]
    assert (np.diff(curves, axis=1) <= 0).all()
    assert curves[0, -1] == losses[searches[0].rows].min()
    with pytest.raises(BenchmarkError, match="metric must be one of .* got 'accuracy'"):
        SearchedTable(bench, "accuracy")


def test_a_table_with_holes_is_refused() -> None:
    with pytest.raises(BenchmarkError, match=r"small does not hold tanh\(x\)"):
        compare(small_bench(without=("tanh(x)",)), ["random"], repeats=1, progress=False)


def test_outputs_are_remembered_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = Catalogue.of(SearchSpace(SCHEMA))
    for most in (20_000, 3):
        monkeypatch.setattr(_searched_table, "_MOST_REMEMBERED", most)
        known = _searched_table.RememberingCatalogue.of(SearchSpace(SCHEMA))
        some = [4, 2, 4]
        assert known.outputs_of(some).tobytes() == plain.outputs_of(some).tobytes()
        assert [known[c] for c in range(-1, len(known))] == [
            plain[c] for c in range(-1, len(plain))
        ]
        with pytest.raises(IndexError, match="class 99 is outside"):
            known[99]


def test_searching_leaves_optuna_as_it_was(
    table: SearchedTable, capfd: pytest.CaptureFixture[str]
) -> None:
    before = optuna.logging.get_verbosity()
    run(table, "tpe-multivariate")
    assert optuna.logging.get_verbosity() == before
    with pytest.raises(SamplerError, match="pool_size must be"):
        run(SearchedTable(table.bench, pool_size=0), "aquasurf")
    assert optuna.logging.get_verbosity() == before
    assert capfd.readouterr().err == ""
