"""Figure 6 on a tiny table: what is searched, what is drawn, and what is said of the claims."""

import math
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from numpy.typing import NDArray

from aquasurf_optuna.benchmark import SAMPLERS, ActBench, Interval, Search, SearchedTable
from aquasurf_optuna.benchmark import _comparison as comparison
from aquasurf_optuna.exceptions import BenchmarkError
from benchmarks import settle
from benchmarks.paper import _common as common
from benchmarks.paper import figure6, figure6_claims, figure6_panels
from benchmarks.paper.figure6_claims import MEAN, PAPERS, REGRESSORS, Pair
from benchmarks.paper.figure6_panels import CLOSE, Band, Mark, Scale
from tests.aquasurf_optuna.benchmark.searched_tables import small_bench, small_table

Floats = NDArray[np.float64]
PNG = b"\x89PNG"
TRIALS, REPEATS = 12, 2
KNR, RFR, SVR = REGRESSORS.values()


@pytest.fixture(scope="module")
def bench() -> ActBench:
    return small_bench()


def made_up(bench: ActBench, samplers: Sequence[str], repeats: int = REPEATS) -> list[Search]:
    """Return searches that tried random rows, since those of some samplers take long."""
    table = SearchedTable(bench)
    rng = np.random.default_rng(0)
    found = []
    for sampler in samplers:
        for repeat in range(repeats):
            first = table.first_rows("random", repeat)
            rows = [*first, *map(int, rng.integers(len(bench), size=TRIALS))]
            one = Search(bench.name, sampler, "random", repeat, TRIALS, len(first), rows, 1.0)
            found.append(one)
    return found


def texts_of(figure: Figure) -> list[list[str]]:
    """Return the texts beside each panel."""
    return [[text.get_text() for text in axes.texts] for axes in figure.axes]


# Which searches


def test_every_method_has_a_name_and_a_look() -> None:
    assert len(figure6.METHODS) == len(set(figure6.METHODS)) == 18
    assert set(figure6.METHODS) <= SAMPLERS.keys()
    for row in figure6.ROWS:
        looks = figure6.looks_of(row)
        # Without colours, too, no two are alike.
        assert len({(look.dashes, look.marker) for look in looks.values()}) == len(row.samplers)
        assert len({figure6.name_of(sampler) for sampler in row.samplers}) == len(row.samplers)
    assert {name for row in figure6.ROWS for name in row.samplers} == set(figure6.METHODS)
    assert figure6.name_of("gp:valid") == "GPSampler"
    assert figure6.name_of("aquasurf:paper:fisher") == "KNR Fisher"


def test_the_kept_searches_are_those_of_settle(bench: ActBench, tmp_path: Path) -> None:
    assert figure6.file_of(tmp_path, bench) == settle._file(tmp_path, bench)
    assert figure6.file_of(None, bench) is None


def test_searches_are_kept_and_not_run_again(
    bench: ActBench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = figure6.Plan(("tpe", "random"), repeats=REPEATS, evaluations=TRIALS, kept=tmp_path)
    first = figure6.draw([bench], plan)
    monkeypatch.setattr(comparison, "search", lambda *_, **__: pytest.fail("searched again"))
    again = figure6.draw([bench], plan)
    assert again.lines == first.lines
    assert common.as_png(again.figure) == common.as_png(first.figure)
    searches = figure6.searches_of(bench, plan)
    assert [(one.sampler, one.repeat) for one in searches] == [
        ("tpe", 0), ("tpe", 1), ("random", 0), ("random", 1),
    ]  # fmt: skip


def test_an_unknown_sampler_is_refused(bench: ActBench) -> None:
    with pytest.raises(BenchmarkError, match="samplers must be among .*'knr'"):
        figure6.draw([bench], figure6.Plan(("knr",)))


def test_the_command_writes_picture_and_text(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    table = small_table(tmp_path / "tiny.json")
    options = f"--tables {table} --samplers random --repeats 1 --jobs 1 --start baselines"
    monkeypatch.setattr(sys, "argv", ["figure6", *options.split(), "--output", str(tmp_path)])
    figure6.main()
    assert (tmp_path / "figure6_baselines.png").read_bytes().startswith(PNG)
    text = (tmp_path / "figure6_baselines.md").read_text()
    assert "Searches of 100 evaluations, begun with the baselines; repeats: 1." in text
    assert text in capsys.readouterr().out


def test_the_command_says_what_is_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    table = small_table(tmp_path / "tiny.json")
    monkeypatch.setattr(sys, "argv", ["figure6", "--tables", str(table), "--repeats", "0"])
    with pytest.raises(SystemExit, match="2"):
        figure6.main()
    assert "repeats must be 1 or more, got 0" in capsys.readouterr().err


# What is drawn


def test_rows_show_what_was_searched() -> None:
    titles = [row.title for row in figure6.ROWS]
    assert [row.title for row in figure6.rows_of(figure6.METHODS)] == titles
    # The first row would show of these what the second shows.
    [only] = figure6.rows_of(["random", "tpe"])
    assert only == figure6.Row(titles[1], ("tpe", "random"))
    # Two rows would show the same.
    assert len(figure6.rows_of(["aquasurf", KNR])) == 1
    rows = figure6.rows_of(["aquasurf:ensemble", "gp:valid"])
    assert [row.samplers for row in rows] == [("gp:valid",), ("aquasurf:ensemble",)]


def test_a_column_for_each_table_and_a_name_for_each_line(bench: ActBench) -> None:
    searches = made_up(bench, figure6.METHODS)
    drawn = figure6.drawn([(bench, searches)] * 2)
    assert common.as_png(drawn.figure).startswith(PNG)
    assert len(drawn.figure.axes) == 6
    scores = SearchedTable(bench).scores
    for texts in texts_of(drawn.figure):
        assert f"best of all {scores.max():.3f}" in texts
        assert f"ReLU {scores[bench.row('relu(x)')]:.3f}" in texts
    first, last = texts_of(drawn.figure)[0], texts_of(drawn.figure)[-1]
    assert {"KNR both", "RFR outputs", "SVR Fisher", "random"} <= set(first)
    assert {"this project", "KNR both", "TPE", "CMA-ES", "random"} <= set(last)
    assert sum(line.startswith("- small: After 12 evaluations") for line in drawn.lines) == 2
    assert sum(line.startswith("| aquasurf:umap-svr |") for line in drawn.lines) == 2


def test_curves_are_the_means_over_repeats(bench: ActBench) -> None:
    searches = made_up(bench, ["random"], repeats=3)
    [axes] = figure6.drawn([(bench, searches)]).figure.axes
    scores = SearchedTable(bench).scores
    best = [[max(scores[one.rows[: 8 + n]]) for n in range(TRIALS + 1)] for one in searches]
    drawn = [np.asarray(line.get_ydata(), dtype=np.float64) for line in axes.lines]
    drawn = [values for values in drawn if len(values) == TRIALS + 1]
    np.testing.assert_allclose(drawn, [np.mean(best, axis=0)])


def test_the_marks_of_a_table(bench: ActBench) -> None:
    scores = SearchedTable(bench).scores
    best, baseline, relu = figure6.marks_of(bench)
    assert best.value == scores.max()
    assert relu == Mark("ReLU", scores[bench.row("relu(x)")], "--")
    texts = {text: scores[bench.row(text)] for text in common.TITLES if text in bench.baselines}
    assert baseline.value == max(texts.values())
    assert baseline.name == common.TITLES[max(texts, key=lambda text: texts[text])]


def test_bands_are_the_mean_and_its_standard_errors() -> None:
    curves = np.random.default_rng(0).normal(size=(7, 5))
    found = figure6_panels.band_of(curves)
    for step in range(5):
        own = [float(value) for value in curves[:, step]]
        mean = sum(own) / 7
        variance = sum((value - mean) ** 2 for value in own) / 6
        assert found.mean[step] == pytest.approx(mean)
        assert found.half[step] == pytest.approx(1.96 * math.sqrt(variance / 7))
    assert np.isnan(figure6_panels.band_of(curves[:1]).half).all()


# The oracle: one accuracy at a time, by the definition of the axis.
def place_of(accuracy: float, best: float) -> float:
    regret = best - accuracy
    return -math.log(regret + CLOSE) if regret >= 0 else -math.log(CLOSE) - regret / CLOSE


def test_the_axis_is_logarithmic_in_the_regret() -> None:
    scale = Scale(0.8, 0.1, 0.81)
    accuracies = np.array([0.1, 0.5, 0.79, 0.8, 0.805, 0.81])
    places = scale.forward(accuracies)
    np.testing.assert_allclose(places, [place_of(value, 0.8) for value in accuracies])
    # The oracle can fail.
    assert not np.allclose(places, [place_of(value, 0.9) for value in accuracies])
    np.testing.assert_allclose(scale.inverse(places), accuracies)
    heights = scale.height_of(accuracies)
    assert heights[[0, -1]].tolist() == pytest.approx([0.0, 1.0])
    assert (np.diff(heights) > 0).all()
    assert scale.ticks == pytest.approx([0.8, 0.79, 0.78, 0.75, 0.7, 0.6, 0.3])


def test_there_is_room_for_curves_and_marks() -> None:
    band = Band(np.array([0.4, 0.7]), np.array([0.1, 0.0]))
    scale = figure6_panels.scale_of([band], [Mark("best", 0.8, ":"), Mark("ReLU", 0.35, "--")])
    assert scale.best == 0.8
    low, high = scale.height_of(np.array([0.3, 0.8]))
    assert low == pytest.approx(1 - high)
    assert 0.02 < low < 0.1
    alone = figure6_panels.scale_of([Band(np.ones(2), np.full(2, np.nan))], [Mark("", 1.0, ":")])
    assert alone.low < 1.0 < alone.high


# What is said


def after(*regrets: float) -> Floats:
    """Return the regrets of four repeats, spread a little, after 0 and after the evaluations."""
    spread = np.array([-0.001, 0.001, -0.002, 0.002])
    return np.stack([np.full(4, 0.5), *(regret + spread for regret in regrets)], axis=1)


def test_moments_are_the_checkpoints_the_end_and_the_mean() -> None:
    regrets = np.random.default_rng(0).uniform(size=(3, 31))
    found = figure6_claims.moments_of(regrets)
    assert list(found) == ["after 10", "after 25", "after 30", MEAN]
    np.testing.assert_array_equal(found["after 25"], regrets[:, 25])
    np.testing.assert_allclose(found[MEAN], [sum(row[1:]) / 30 for row in regrets])
    assert list(figure6_claims.moments_of(regrets[:, :11])) == ["after 10", MEAN]


def test_differences_are_taken_repeat_by_repeat() -> None:
    rng = np.random.default_rng(0)
    first, second = rng.uniform(size=(2, 5, 4))
    pair = Pair(KNR, "random")
    found = figure6_claims.differences({KNR: first, "random": second}, [pair, Pair(KNR, SVR)])
    assert list(found) == [pair]
    own = [float(first[repeat, 3] - second[repeat, 3]) for repeat in range(5)]
    mean = sum(own) / 5
    error = math.sqrt(sum((value - mean) ** 2 for value in own) / 4 / 5)
    assert found[pair]["after 3"] == pytest.approx((mean, 1.96 * error))
    # What all repeats share cancels, which it does not where repeats are mixed up.
    shifts = 10.0 * np.arange(5)[:, None]
    shifted = {KNR: first + shifts, "random": second + shifts}
    assert figure6_claims.differences(shifted, [pair])[pair]["after 3"] == pytest.approx(
        (mean, 1.96 * error)
    )
    mixed = {KNR: first + shifts, "random": (second + shifts)[::-1]}
    assert figure6_claims.differences(mixed, [pair])[pair]["after 3"].half > 10 * error


@pytest.mark.parametrize(
    ("difference", "apart"),
    [
        (Interval(-0.2, 0.1), True),
        (Interval(0.2, 0.1), True),
        (Interval(-0.1, 0.1), False),
        (Interval(0.0, 0.0), False),
        (Interval(0.2, math.nan), False),
    ],
)
def test_what_is_told_apart(difference: Interval, apart: bool) -> None:
    assert figure6_claims.told_apart(difference) is apart


def test_pairs_are_counted_by_who_is_better() -> None:
    pairs = [Pair(sampler, "random") for sampler in (KNR, RFR, SVR)]
    intervals = [Interval(-1.0, 0.5), Interval(1.0, 0.5), Interval(-0.1, 0.5)]
    found = {pair: {"m": each} for pair, each in zip(pairs, intervals, strict=True)}
    counted = figure6_claims.tally(found, "m")
    assert counted == ([pairs[0]], [pairs[1]], [pairs[2]])
    assert counted.pairs == 3


def the_papers() -> dict[str, Floats]:
    """Return regrets that bear every claim of the paper out."""
    base = {KNR: 0.1, RFR: 0.2, SVR: 0.3}
    rng = np.random.default_rng(0)
    found = {
        name: after(base[regressor] + (0.0 if name == regressor else 0.05))
        for regressor in base
        for name in (regressor, f"{regressor}:fisher", f"{regressor}:outputs")
    }
    found["random"] = after(0.4)
    return {name: own + 1e-4 * rng.normal(size=own.shape) for name, own in found.items()}


def test_the_sentence_where_all_claims_hold() -> None:
    text = figure6_claims.sentence(the_papers())
    assert text.startswith("After 1 evaluations the claim that both features together are better")
    assert "each alone holds: better in 6 of 6, and by the mean regret over all evalua" in text
    assert "in 6 of 6; 9 of 9 are better than random search; " in text
    assert "order KNR 0.1000 < RFR 0.2" in text
    assert text.endswith(".")


def test_the_sentence_follows_the_numbers() -> None:
    regrets = the_papers()
    regrets[f"{KNR}:fisher"] = regrets[KNR] - 0.05
    regrets[SVR] = regrets[RFR].copy()
    regrets["random"] = regrets[f"{RFR}:outputs"].copy()
    text = figure6_claims.sentence(regrets)
    assert "holds in part: better in 5 of 6 (worse: KNR both against KNR Fisher)" in text
    assert "; 5 of 9 (worse: SVR Fisher against random, SVR" in text
    assert "not told apart: 2) are better than random search" in text
    assert "KNR 0.1000 < RFR 0.2000 ≈ SVR 0.2000" in text


def test_the_sentence_where_no_claim_holds() -> None:
    same = dict.fromkeys(PAPERS, after(0.2))
    text = figure6_claims.sentence(same)
    assert "each alone does not hold: better in 0 of 6 (not told apart: 6)" in text
    assert "random" not in text
    assert "KNR 0.2000 ≈ RFR 0.2000 ≈ SVR 0.2000" in text
    alone = figure6_claims.sentence({"tpe": after(0.2), KNR: after(0.1)})
    assert alone.startswith("No two of the paper's searches were run")


def test_the_differences_behind_the_sentence_are_told() -> None:
    lines = figure6_claims.differences_markdown(the_papers())
    assert sum(line.startswith("| ") for line in lines) == 2 + 6 + 9 + 3
    [line] = [line for line in lines if line.startswith("| KNR both against KNR Fisher")]
    assert line.count("**-0.0499 ± 0.0001**") == 2
    [line] = [line for line in lines if line.startswith("| RFR both against SVR both")]
    assert line.count("**-0.") == 2
    assert figure6_claims.differences_markdown({"tpe": after(0.2)}) == []
    one = {name: own[:1] for name, own in the_papers().items()}
    assert not any("±" in line or "**" in line for line in figure6_claims.differences_markdown(one))


def test_shared_layouts_are_spoken_of(bench: ActBench) -> None:
    few, many = (made_up(bench, ["random"], repeats=repeats) for repeats in (10, 11))
    assert "UMAP" not in "\n".join(figure6_claims.lines([(bench, few)]))
    assert "The repeats share 10 UMAP layouts" in "\n".join(figure6_claims.lines([(bench, many)]))
