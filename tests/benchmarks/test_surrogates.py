"""The comparison of surrogates: which searches run, what decides, and what is written."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from aquasurf_optuna.benchmark import SAMPLERS, STARTS, ActBench, Search, SearchedTable
from aquasurf_optuna.benchmark import _comparison as comparison
from aquasurf_optuna.surrogate import DEFAULT_SURROGATE, SURROGATES, _umap
from benchmarks import surrogates
from benchmarks.paper.figure6 import file_of
from benchmarks.surrogates import NAMES, has_map, layout_seconds, regrets_of, seconds_of
from benchmarks.verdict import RULE
from tests.aquasurf_optuna.benchmark.searched_tables import small_bench, small_table
from tests.benchmarks.layouts import lay_out_by_distances

TRIALS = 10


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Search less, and lay out by distances alone: UMAP takes long to come."""

    lay_out_by_distances(monkeypatch)
    monkeypatch.setattr(surrogates, "EVALUATIONS", TRIALS)
    monkeypatch.setattr(surrogates, "DECISIVE", TRIALS)
    yield
    _umap.forget_layouts()


@pytest.fixture(scope="module")
def bench() -> ActBench:
    return small_bench()


def run(monkeypatch: pytest.MonkeyPatch, folder: Path, *arguments: str) -> str:
    """Run the script on the small table in this process, and return what it wrote."""
    table, output = small_table(folder / "small.json"), folder / "surrogates.md"
    given = ["--tables", str(table), "--kept", str(folder / "kept"), "--output", str(output)]
    monkeypatch.setattr(sys, "argv", ["surrogates", *given, "--jobs", "1", *arguments])
    surrogates.main()
    return output.read_text()


def made_up(
    bench: ActBench, names: Sequence[str], start: str, *, seconds: Sequence[float]
) -> list[Search]:
    """Return searches that tried random rows."""
    table, rng = SearchedTable(bench), np.random.default_rng(0)
    found = []
    for name in names:
        for repeat, time in enumerate(seconds):
            first = table.first_rows(start, repeat)
            rows = [*first, *map(int, rng.integers(len(bench), size=TRIALS))]
            found.append(
                Search(
                    bench.name, f"aquasurf:{name}", start, repeat, TRIALS, len(first), rows, time
                )
            )
    return found


def test_every_surrogate_searches_once() -> None:
    assert {*NAMES, "umap-knn"} == SURROGATES.keys()
    assert "umap-knn" not in NAMES
    assert {surrogates.sampler_of(name) for name in NAMES} <= SAMPLERS.keys()


def test_which_have_a_map() -> None:
    on_map = [name for name in NAMES if has_map(name)]
    assert on_map == ["paper", "umap-forest", "umap-svr", "umap-gp"]


def test_the_report_has_both_starts_and_the_choice(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    text = run(monkeypatch, tmp_path, "--only", "gp", "paper", "novelty", "--repeats", "2")
    assert text.startswith("# Surrogates\n\nSettings, the default surrogate among them, are chosen")
    for start in STARTS.values():
        assert f", begun with {start}\n" in text
    assert text.count("| aquasurf:paper | 2") == 2
    head, _, verdict = text.partition("## By the rule it is ")
    assert f"; the default is {DEFAULT_SURROGATE}\n\n{RULE}" in verdict
    choice = verdict.partition(";")[0]
    rows = [line for line in verdict.splitlines() if line.startswith("| ")][1:]
    assert rows[0].startswith(f"| {choice} | ")
    assert sorted(row.split(" | ")[0] for row in rows) == ["| gp", "| novelty", "| paper"]
    assert "| surrogate |" not in head


def test_searches_are_kept_where_settle_keeps_them(
    bench: ActBench, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    first = run(monkeypatch, tmp_path, "--only", "gp", "--repeats", "2")
    [file] = (tmp_path / "kept").iterdir()
    assert file == file_of(tmp_path / "kept", bench)
    monkeypatch.setattr(comparison, "search", lambda *_, **__: pytest.fail("searched again"))
    assert run(monkeypatch, tmp_path, "--only", "gp", "--repeats", "2") == first


def test_the_regrets_are_those_of_the_searches(bench: ActBench) -> None:
    groups = [
        (bench, made_up(bench, ["gp", "paper"], start, seconds=[1.0, 1.0, 1.0])) for start in STARTS
    ]
    scores = SearchedTable(bench).scores
    found = regrets_of(groups, ["gp", "paper"])
    assert {name: own.shape for name, own in found.items()} == {"gp": (2, 3), "paper": (2, 3)}
    for name, own in found.items():
        for (_, searches), row in zip(groups, own, strict=True):
            mine = [one for one in searches if one.sampler == f"aquasurf:{name}"]
            for one, regret in zip(mine, row, strict=True):
                best = max(float(scores[tried]) for tried in one.rows)
                assert regret == pytest.approx(max(scores) - best)
    assert len({own.tobytes() for own in found.values()}) == 2


def test_a_proposal_takes_what_it_does_at_the_median_and_its_share_of_the_map(
    bench: ActBench,
) -> None:
    groups = [(bench, made_up(bench, ["gp", "paper"], "random", seconds=[1.0, 9.0, 2.0]))]
    assert seconds_of(groups, "gp", 5.0) == pytest.approx(2.0 / TRIALS)
    assert seconds_of(groups, "paper", 5.0) == pytest.approx((2.0 + 5.0) / TRIALS)


def test_a_layout_takes_what_a_search_without_it_spares(
    bench: ActBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    layouts: list[NDArray[np.float64]] = []
    anew: list[bool] = []

    def embedded(parts: Any, seed: int, n_components: int) -> NDArray[np.float64]:
        layouts.append(_umap._classical_scaling(parts, n_components))
        return layouts[-1]

    def timed(bench: ActBench, samplers: Sequence[str], **options: Any) -> list[Search]:
        before = len(layouts)
        [one] = comparison.compare(bench, samplers, **options)
        anew.append(len(layouts) > before)
        # The first one imports, too.
        seconds = 60.0 if len(anew) == 1 else 7.0 if anew[-1] else 2.0
        return [one._replace(seconds=seconds)]

    monkeypatch.setattr(_umap, "_embedded", embedded)
    monkeypatch.setattr(surrogates, "compare", timed)
    assert layout_seconds(bench) == pytest.approx(5.0)
    assert anew == [True, False, True]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--only", "umap-knn"], "invalid choice: 'umap-knn'"),
        (["--repeats", "0"], "repeats must be 1 or more, got 0"),
        (["--only", "gp", "--again", "paper"], "again must be among the samplers aquasurf:gp"),
    ],
)
def test_what_is_wrong_on_the_command_line_is_said(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
) -> None:
    with pytest.raises(SystemExit, match="2"):
        run(monkeypatch, tmp_path, *arguments)
    assert message in capsys.readouterr().err
    assert not (tmp_path / "surrogates.md").exists()
