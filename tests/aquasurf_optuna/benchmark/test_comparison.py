"""Many searches on a small table: in processes, kept in a file, and what they came to."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from aquasurf_optuna.benchmark import (
    Search,
    SearchedTable,
    compare,
    comparison_markdown,
    curves_of,
    search,
    summaries,
)
from aquasurf_optuna.exceptions import BenchmarkError
from tests.aquasurf_optuna.benchmark.searched_tables import small_bench


def without_seconds(searches: list[Search]) -> list[Search]:
    return [one._replace(seconds=0.0) for one in searches]


def test_a_search_that_would_go_the_same_way_runs_once(tmp_path: Path) -> None:
    bench = small_bench()
    kept = tmp_path / "kept.jsonl"
    found = compare(
        bench, ["aquasurf:paper", "random"], repeats=12, trials=4, start="baselines", kept=kept,
        progress=False,
    )  # fmt: skip
    table = SearchedTable(bench)
    for one in found:
        assert (
            one.rows
            == search(table, one.sampler, start="baselines", repeat=one.repeat, trials=4).rows
        )
    assert [one.repeat for one in found] == [*range(12), *range(12)]
    assert len(kept.read_text().splitlines()) == 1 + 10 + 12
    # Begun with other functions, a search goes another way.
    compare(bench, ["aquasurf:paper"], repeats=12, trials=4, kept=kept, progress=False)
    assert len(kept.read_text().splitlines()) == 1 + 10 + 12 + 12


def test_a_comparison_is_the_same_in_processes(tmp_path: Path) -> None:
    bench, names = small_bench(), ["aquasurf", "random"]
    here = compare(bench, names, repeats=3, trials=6, progress=False)
    assert [(one.sampler, one.repeat) for one in here] == [(n, r) for n in names for r in range(3)]
    there = compare(
        bench, names, repeats=3, trials=6, jobs=2, kept=tmp_path / "kept", progress=False
    )
    assert without_seconds(here) == without_seconds(there)
    table = SearchedTable(bench)
    alone = [search(table, s.sampler, start="random", repeat=s.repeat, trials=6) for s in here]
    assert without_seconds(alone) == without_seconds(here)


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    ran: list[tuple[str, int]] = []

    def counting(table: SearchedTable, sampler: str, **options: Any) -> Search:
        ran.append((sampler, options["repeat"]))
        return search(table, sampler, **options)

    monkeypatch.setattr("aquasurf_optuna.benchmark._comparison.search", counting)
    return ran


def test_what_is_kept_does_not_run_again(tmp_path: Path, counted: list[tuple[str, int]]) -> None:
    bench, kept = small_bench(), tmp_path / "folder" / "kept.jsonl"

    def compared(*names: str, **options: Any) -> list[Search]:
        counted.clear()
        settings = {"repeats": 2, "trials": 4, "kept": kept, "progress": False, **options}
        return compare(bench, names, **settings)

    first = compared("random")
    assert len(counted) == 2
    assert compared("random") == first
    assert counted == []
    assert compared("tpe", "random", repeats=3)[3:5] == first
    assert counted == [("tpe", 0), ("tpe", 1), ("tpe", 2), ("random", 2)]
    shorter = compared("random", trials=2)
    assert counted == []
    assert [one.rows for one in shorter] == [one.rows[:10] for one in first]
    assert shorter[0].seconds == pytest.approx(first[0].seconds * 10 / 12)
    longer = compared("random", trials=6)
    assert len(counted) == 2
    assert [one.rows[:12] for one in longer] == [one.rows for one in first]
    compared("random", start="baselines")
    assert len(counted) == 2
    compared("random", "tpe", again=["tpe"])
    assert counted == [("tpe", 0), ("tpe", 1)]


def test_an_interrupted_comparison_goes_on(
    tmp_path: Path, counted: list[tuple[str, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    bench, kept = small_bench(), tmp_path / "kept.jsonl"
    whole = compare(bench, ["random", "tpe"], repeats=2, trials=3, progress=False)

    def failing(table: SearchedTable, sampler: str, **options: Any) -> Search:
        if len(counted) == 3:
            raise KeyboardInterrupt
        counted.append((sampler, 0))
        return search(table, sampler, **options)

    counted.clear()
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("aquasurf_optuna.benchmark._comparison.search", failing)
        compare(bench, ["random", "tpe"], repeats=2, trials=3, kept=kept, progress=False)
    # The last line was not finished when it was killed.
    kept.write_bytes(kept.read_bytes()[:-20])
    counted.clear()
    options = {"repeats": 2, "trials": 3, "kept": kept, "progress": False}
    assert without_seconds(compare(bench, ["random", "tpe"], **options)) == (without_seconds(whole))
    assert len(counted) == 2
    counted.clear()
    compare(bench, ["random", "tpe"], **options)
    assert counted == []


def test_searches_of_another_table_are_refused(tmp_path: Path) -> None:
    bench, kept = small_bench(), tmp_path / "kept.jsonl"
    compare(bench, ["random"], repeats=1, trials=1, kept=kept, progress=False)
    other = small_bench()
    other.measured["validation_accuracy"][3] += 0.001
    for changed, options in (
        (other, {}),
        (bench, {"metric": "test_accuracy"}),
        (bench, {"pool_size": 5}),
    ):
        with pytest.raises(BenchmarkError, match="holds searches on another table, metric or pool"):
            compare(changed, ["random"], repeats=1, kept=kept, progress=False, **options)
    kept.write_text("something\n")
    with pytest.raises(BenchmarkError, match="It is of something; this is"):
        compare(bench, ["random"], repeats=1, kept=kept, progress=False)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rows": [0, 1, 54_000]}, "line 2, is no search: rows must be some of"),
        ({"rows": [0]}, "line 2, is no search: rows must be some of"),
        ({"row": 3}, "line 2, is no search"),
        ({"rows": None}, "line 2, is no search"),
    ],
)
def test_damaged_lines(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    bench, kept = small_bench(), tmp_path / "kept.jsonl"
    compare(bench, ["random"], repeats=1, trials=1, kept=kept, progress=False)
    header, line = kept.read_text().splitlines()
    kept.write_text(f"{header}\n{json.dumps({**json.loads(line), **change})}\n")
    with pytest.raises(BenchmarkError, match=message):
        compare(bench, ["random"], repeats=1, trials=1, kept=kept, progress=False)


@pytest.mark.parametrize(
    ("names", "options", "message"),
    [
        ([], {}, "samplers must be among aquasurf, tpe, .* got none"),
        (["tpe", "pso"], {}, "samplers must be among .* got 'pso'"),
        (["aquasurf:valid"], {}, "got 'aquasurf:valid'"),
        (["tpe"], {"repeats": 0}, "repeats must be 1 or more, got 0"),
        (["tpe"], {"trials": -1}, "trials must be 1 or more, got -1"),
        (["tpe"], {"jobs": 0}, "jobs must be 1 or more, or -1 for every core, got 0"),
        (["tpe"], {"start": "relu"}, "start must be one of"),
        (["tpe"], {"again": ["gp"]}, "again must be among the samplers tpe, got gp"),
    ],
)
def test_bad_arguments(names: list[str], options: dict[str, Any], message: str) -> None:
    with pytest.raises(BenchmarkError, match=message):
        compare(small_bench(), names, progress=False, **options)


def test_what_searches_came_to() -> None:
    bench = small_bench()
    searches = compare(bench, ["random", "aquasurf"], repeats=4, trials=12, progress=False)
    found = summaries(bench, searches)
    best = bench.values().max()
    for name, one in found.items():
        own = [search for search in searches if search.sampler == name]
        assert one.curves.shape == (4, 13)
        for curve, each in zip(one.curves, own, strict=True):
            assert curve[-1] == bench.values()[each.rows].max()
        assert one.regrets[10].tolist() == (best - one.curves[:, 10]).tolist()
    assert np.median(found["aquasurf"].until["best of all"]) < math.inf
    curves = curves_of(bench, searches)
    assert {name: curve.tolist() for name, curve in curves.items()} == {
        name: one.curves.tolist() for name, one in found.items()
    }
    text = comparison_markdown(bench, searches)
    assert text.startswith(f"small: {len(bench)} functions, {bench.valid.sum()} with a valid")
    assert f"best validation accuracy {best:.4f}" in text
    assert "| aquasurf | 4 | " in text


def test_searches_that_do_not_belong_together() -> None:
    bench = small_bench()
    searches = compare(bench, ["random"], repeats=1, trials=2, progress=False)
    mixed = [*searches, searches[0]._replace(start="baselines")]
    for wrong in ([], mixed, [searches[0]._replace(table="other")]):
        with pytest.raises(BenchmarkError, match="searches must be of the table small, with one"):
            summaries(bench, wrong)
