"""The ablations: searches with other settings, and what is said of them."""

from __future__ import annotations

import argparse
import pickle
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from aquasurf_optuna.benchmark import ActBench, Search, SearchedTable, Summary, search
from aquasurf_optuna.benchmark._metrics import TOP_PERCENT
from aquasurf_optuna.exceptions import BenchmarkError
from aquasurf_optuna.surrogate import GaussianProcessSurrogate, _umap
from benchmarks.ablations import _searching, kernel, searching
from benchmarks.ablations._report import Question, answer, report
from benchmarks.ablations._searching import (
    DEFAULT,
    PAPER,
    Surrogated,
    Variant,
    VariantTable,
    run_searches,
    summarised,
    with_features,
)
from tests.aquasurf_optuna.benchmark.searched_tables import small_bench, small_table
from tests.benchmarks.layouts import lay_out_by_distances


@pytest.fixture(autouse=True)
def quick_layouts(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Lay out by distances alone: UMAP takes half a minute to come, and is tested elsewhere."""

    lay_out_by_distances(monkeypatch)
    yield
    _umap.forget_layouts()


# Searches.


@pytest.fixture(scope="module")
def bench() -> ActBench:
    return small_bench()


def without_seconds(searches: dict[_searching.Key, Search]) -> list[Search]:
    return [one._replace(seconds=0.0) for one in searches.values()]


@pytest.mark.parametrize(
    ("name", "made"), [("aquasurf", Surrogated()), ("aquasurf:paper", Surrogated("paper"))]
)
def test_as_it_stands_a_variant_is_the_sampler_that_has_a_name(
    bench: ActBench, name: str, made: Surrogated
) -> None:
    found = run_searches(
        bench, [Variant("mine", {name: made})], repeats=1, evaluations=6, progress=False
    )
    plain = search(SearchedTable(bench), name, start="random", repeat=0, trials=6)
    assert found["mine", name, 0].rows == plain.rows


def test_a_surrogate_has_the_seed_of_its_repeat(bench: ActBench) -> None:
    table = SearchedTable(bench)
    made = Surrogated(searching.UmapKnnSurrogate(n_neighbors=5))
    surrogate = made(table, 13)._search.pool.surrogate
    assert (surrogate.random_state, surrogate.n_neighbors) == (3, 5)
    assert made.surrogate.random_state == 0


def test_a_pool_of_its_own_for_each_repeat(bench: ActBench) -> None:
    table = SearchedTable(bench, pool_size=5)
    orders = {tuple(Surrogated(seeds=None)(table, r)._sites[0].shuffled) for r in (3, 13)}
    shared = {tuple(Surrogated()(table, r)._sites[0].shuffled) for r in (3, 13)}
    assert (len(orders), len(shared)) == (2, 1)


def test_other_features_change_the_search_and_not_its_start(bench: ActBench) -> None:
    changed = np.random.default_rng(0).normal(size=bench.fisher.shape).astype(np.float32)
    changed[~bench.valid] = np.nan
    base = SearchedTable(bench)
    lost = base.first_rows("random", 0)[3]
    changed[lost] = np.nan
    variant = Variant("changed", {DEFAULT: Surrogated()}, changed)
    table = VariantTable(base, variant)
    assert table.first_rows("random", 0) == base.first_rows("random", 0)
    assert table.bench.features(bench.functions[lost]).reason == (
        "it has no valid spectrum with changed"
    )
    valid = int(np.flatnonzero(table.bench.valid)[0])
    found = table.bench.features(bench.functions[valid]).vector
    assert found is not None
    assert found.tobytes() == changed[valid].tobytes()
    assert bench.valid[lost]
    assert bench.features(bench.functions[lost]).valid
    both = run_searches(
        bench,
        [variant, Variant("default", {DEFAULT: Surrogated()}, bench.fisher)],
        repeats=1,
        evaluations=8,
        progress=False,
    )
    rows = both["changed", DEFAULT, 0].rows
    assert rows[:8] == both["default", DEFAULT, 0].rows[:8] == base.first_rows("random", 0)
    assert rows != both["default", DEFAULT, 0].rows
    assert table.bench.valid[rows[8:]].all()


def test_reasons_of_the_table_stay(bench: ActBench) -> None:
    other = with_features(bench, bench.fisher, "mine")
    assert other.reasons == bench.reasons
    assert other.valid.tolist() == bench.valid.tolist()
    assert other.features is not bench.features


def test_what_ended_does_not_run_again(
    bench: ActBench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[tuple[str, int]] = []

    def counting(table: SearchedTable, sampler: str, **options: object) -> Search:
        ran.append((sampler, int(str(options["repeat"]))))
        return search(table, sampler, **options)  # type: ignore[arg-type] # passed on as they came

    monkeypatch.setattr(_searching, "search", counting)
    some = [Variant("a", {"x": Surrogated()}), Variant("b", {"x": Surrogated()}, pool_size=9)]
    options = {"evaluations": 3, "kept": tmp_path, "progress": False}
    first = run_searches(bench, some, repeats=2, **options)
    assert ran == [("x", 0), ("x", 1), ("x", 0), ("x", 1)]
    assert list(first) == [(v, "x", r) for v in "ab" for r in range(2)]
    assert run_searches(bench, some, repeats=2, **options) == first
    assert len(ran) == 4
    (tmp_path / "b.jsonl").write_text("\n".join((tmp_path / "b.jsonl").read_text().split("\n")[:2]))
    again = run_searches(bench, some, repeats=3, **options)
    assert len(ran) == 4 + 4
    assert without_seconds({key: again[key] for key in first}) == without_seconds(first)
    other = Variant("a", {"x": Surrogated()}, bench.fisher + np.float32(1))
    with pytest.raises(BenchmarkError, match="holds searches on another table"):
        run_searches(bench, [other], repeats=1, **options)


def test_searches_in_one_layout_are_one_job_which_can_be_sent(bench: ActBench) -> None:
    _, variants = searching.questions_of()
    by_name = {variant.name: variant for variant in variants}
    keys = [(v.name, s, r) for v in variants for s in v.makers for r in range(30)]
    jobs = _searching._jobs(by_name, keys)
    assert sorted(key for job in jobs for key in job.keys) == sorted(keys)
    for job in jobs:
        assert len({repeat % 10 for _, _, repeat in job.keys}) == 1
        assert len({by_name[name].layout for name in job.variants}) == 1
    largest = max(jobs, key=lambda job: len(job.variants))
    assert set(largest.variants) == {"default", *(f"n_neighbors-{k}" for k in (1, 5, 10))}
    assert len(largest.keys) == 4 * 3
    job = next(job for job in jobs if "pool-100" in job.variants)
    base = SearchedTable(bench)
    sent = pickle.loads(pickle.dumps((base, job._replace(keys=job.keys[:1]))))
    here = _searching._run(base, job._replace(keys=job.keys[:1]), 4)
    [(_, one)], [(_, other)] = here, _searching._run_elsewhere(*sent, 4)
    assert one.rows == other.rows


def test_what_searches_came_to(bench: ActBench) -> None:
    variants = [Variant("a", {DEFAULT: Surrogated()}), Variant("b", {DEFAULT: Surrogated()})]
    searches = run_searches(bench, variants, repeats=3, evaluations=12, progress=False)
    found = summarised(bench, searches, 12)
    assert list(found) == [("a", DEFAULT), ("b", DEFAULT)]
    values = bench.values()
    for repeat in range(3):
        tried = searches["b", DEFAULT, repeat].rows[: 8 + 10]
        regret = values.max() - values[tried].max()
        assert found["b", DEFAULT].regrets[10][repeat] == regret


# What is said.


def summary(regrets: list[float], *, top: float = 5.0) -> Summary:
    own = np.array(regrets)
    return Summary(
        np.zeros((len(own), 101)),
        {10: own + 0.3, 25: own + 0.2, 50: own, 100: own * 0.0},
        {TOP_PERCENT: np.full(len(own), top)},
        len(own),
    )


QUESTION = Question("Which?", {"one": "1", "two": "2", "three": "3"}, "two")


@pytest.mark.parametrize(
    ("regrets", "said"),
    [
        (
            ([0.3, 0.5], [0.1, 0.3], [0.3, 0.3]),
            "the default, two: 0.2000 ± 0.1960, so it stays.",
        ),
        # Equal to the best one, it is the best one.
        (
            ([0.2, 0.2], [0.2, 0.2], [0.2, 0.2]),
            "the default, two: 0.2000 ± 0.0000, so it stays.",
        ),
        # The differences are 0.2 and 0.0: a mean of 0.1, with an error of 0.1 times 1.96.
        (
            ([0.1, 0.3], [0.3, 0.3], [0.9, 0.9]),
            "one: 0.2000 ± 0.1960; the default, two, is 0.1000 ± 0.1960 above it on the same "
            "repeats, within one 95% interval, so it stays.",
        ),
        # As far apart in the mean, but by the same each time.
        (
            ([0.1, 0.3], [0.2, 0.4], [0.9, 0.9]),
            "one: 0.2000 ± 0.1960; the default, two, is 0.1000 ± 0.0000 above it on the same "
            "repeats, more than one 95% interval, so on this table it does not stay.",
        ),
        (
            ([0.1], [0.2], [0.9]),
            "one: 0.1000; a single repeat does not decide whether the default stays.",
        ),
    ],
)
def test_the_answer_follows_from_the_numbers(regrets: tuple[list[float], ...], said: str) -> None:
    found = {(name, DEFAULT): summary(own) for name, own in zip("123", regrets, strict=True)}
    lowest = "The lowest regret after 50 evaluations with the default surrogate is that of "
    assert answer(QUESTION, found) == lowest + said


def test_the_search_that_decides() -> None:
    found = {(name, DEFAULT): summary([0.1, 0.1]) for name in "123"}
    found |= {(name, PAPER): summary([float(name)] * 2) for name in "123"}
    assert "default surrogate is that of the default, two: 0.1000" in answer(QUESTION, found)
    decided = Question("Which?", QUESTION.settings, "two", decided_by=PAPER)
    assert "paper's surrogate is that of one: 1.0000" in answer(decided, found)


def test_a_table_has_a_row_for_each_setting_and_search(bench: ActBench) -> None:
    found = {(name, kind): summary([0.1, 0.2]) for name in "123" for kind in (DEFAULT, PAPER)}
    found["3", PAPER] = summary([0.1, 0.3], top=np.inf)
    times = {"one": 0.1, "two": 0.25, "three": 1.0}
    question = Question("Which?", QUESTION.settings, "two", seconds=times)
    text = report(bench, [question], found, title="All", command="python", remarks=["Mind."])
    rows = [line for line in text.split("\n") if line.startswith("|")]
    assert len(rows) == 2 + 6
    assert rows[3] == (
        "| **two** (default) | default | 0.4500 ± 0.0980 | 0.3500 ± 0.0980 | 0.1500 ± 0.0980 | "
        "0.0000 ± 0.0000 | 5 (100%) | 0.250 |"
    )
    assert "| three | paper's |" in rows[-1]
    assert "> 100 (0%)" in rows[-1]
    assert text.count("(default)") == 2
    assert answer(question, found) in text.split("\n")
    assert "Mind." in text
    bare = report(bench, [QUESTION], found, title="All", command="python")
    assert "seconds to measure" not in bare


# The scripts.


def test_the_defaults_are_those_of_the_code() -> None:
    questions, variants = searching.questions_of()
    assert [question.default for question in questions] == [
        "3 in the graph of the spectra, 15 in that of the outputs",
        "2 dimensions",
        "k = 3",
        "2000 functions",
    ]
    assert [len(question.settings) for question in questions] == [9, 4, 4, 6]
    assert [question.decided_by for question in questions] == [PAPER, PAPER, PAPER, DEFAULT]
    for question in questions[:3]:
        assert question.settings[question.default] == "default"
    by_name = {variant.name: variant for variant in variants}
    assert len(by_name) == len(variants) == 9 + 3 + 3 + 6
    assert {name for one in questions for name in one.settings.values()} == by_name.keys()
    made = by_name["fisher_neighbors-15_output_neighbors-5"].makers[PAPER].surrogate
    assert made.get_params() == {
        **searching.MAP,
        "fisher_neighbors": 15,
        "output_neighbors": 5,
    }
    assert by_name["default"].makers[PAPER].surrogate.get_params() == searching.MAP


def options(table: Path, kept: Path, repeats: int) -> argparse.Namespace:
    return argparse.Namespace(table=str(table), kept=kept, repeats=repeats, jobs=1)


def test_searching_from_end_to_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, some in (
        ("FISHER_NEIGHBORS", (3,)),
        ("OUTPUT_NEIGHBORS", (5, 15)),
        ("DIMENSIONS", (1, 2)),
        ("NEIGHBORS", (1, 3)),
        ("POOLS", (10,)),
    ):
        monkeypatch.setattr(searching, name, some)
    path = small_table(tmp_path / "small.json")
    text = searching.run(options(path, tmp_path / "kept", 1))
    assert text.count("**") == 2 * 5
    assert (
        text.count("a single repeat does not decide") + text.count("is that of the default, ") == 4
    )
    kept = sorted(file.name for file in (tmp_path / "kept" / "small" / "searching").iterdir())
    assert kept == [
        "default.jsonl",
        "n_components-1.jsonl",
        "n_neighbors-1.jsonl",
        "output_neighbors-5.jsonl",
        "pool-10.jsonl",
        "pool-2000.jsonl",
        "pool-all.jsonl",
    ]
    monkeypatch.setattr(_searching, "search", None)
    assert searching.run(options(path, tmp_path / "kept", 1)) == text


def test_the_kernel_from_end_to_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel, "COMPARISONS", (("fisher",), ("outputs", "shape")))
    monkeypatch.setattr(kernel, "EXPLORATIONS", (1.0, 2.0))
    path = small_table(tmp_path / "small.json")
    text = kernel.run(options(path, tmp_path / "kept", 1))
    questions, variants = kernel.questions_of()
    made = {one.name: one.makers[DEFAULT].surrogate for one in variants}
    assert made["default"].get_params() == GaussianProcessSurrogate().get_params()
    assert made["outputs_shape"].comparisons == ("outputs", "shape")
    assert made["exploration-1"].exploration == 1.0
    # The default has a row in the table of each question.
    assert [question.settings[question.default] for question in questions] == ["default"] * 2
    assert text.count("(default)") == 2
    for question in questions:
        for setting in question.settings:
            assert setting in text
    kept = sorted(file.stem for file in (tmp_path / "kept" / "small" / "kernel").iterdir())
    assert kept == sorted(made)
