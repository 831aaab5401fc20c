"""What the paper's figures share, histograms (Figure 1) and tasks side by side (Figure 2)."""

import math
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from aquasurf_optuna.benchmark._bench import ActBench
from aquasurf_optuna.exceptions import BenchmarkError
from benchmarks.paper import _common as common
from benchmarks.paper import figure1, figure2
from tests.benchmarks.paper_tables import PNG, entry, graph, small, vector

# What the scripts share


def test_only_fetched_tables_are_at_hand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AQUASURF_CACHE", str(tmp_path))
    monkeypatch.setattr(common, "SHIPPED", {"act-bench-own": "checksum"})
    assert common.at_hand() == ["act-bench-own"]
    (tmp_path / "act-bench-resnet.json").write_text("{}")
    assert common.at_hand() == ["act-bench-own", "act-bench-resnet"]


def test_without_any_table_the_message_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AQUASURF_CACHE", str(tmp_path))
    monkeypatch.setattr(common, "SHIPPED", {})
    with pytest.raises(BenchmarkError, match="no table comes with this copy.*--tables"):
        common.load(None)


def test_a_figure_is_written_as_picture_and_text(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    common.write(tmp_path / "new", 1, figure1.draw([small()]))
    assert (tmp_path / "new" / "figure1.png").read_bytes().startswith(PNG)
    text = (tmp_path / "new" / "figure1.md").read_text()
    assert "small" in text
    assert text in capsys.readouterr().out


def test_equal_figures_give_equal_bytes() -> None:
    once, again = (common.as_png(figure1.draw([small()]).figure) for _ in range(2))
    assert once == again


# Figure 1


def test_every_function_is_counted_once() -> None:
    counts = figure1.histogram_of(small())
    assert [int(c.sum()) for c in counts[1:]] == [5, 2, 2]
    middles = (counts.edges[1:] + counts.edges[:-1]) / 2
    chance = int(np.argmin(abs(middles - 0.1)))
    assert middles[chance] == pytest.approx(0.1)
    assert counts.untrained[chance] == 2
    assert counts.valid[chance] == 1
    np.testing.assert_allclose(middles[counts.valid > 0], [0.1, 0.2, 0.6, 0.7, 0.9])


def test_facts_tell_what_was_trained_from_what_is_assumed() -> None:
    facts = figure1.facts_of(small())
    assert (facts.functions, facts.invalid, facts.valid_untrained) == (9, 3, 1)
    # The 0.2 of tanh is twice chance, and not above it.
    assert (facts.valid_trained, facts.valid_failed) == (5, 2)
    assert (facts.invalid_trained, facts.invalid_above, facts.invalid_best) == (2, 1, 0.3)
    assert (facts.best, facts.relu, facts.better) == (0.9, 0.6, 1)


def test_of_a_table_without_trained_invalid_functions_nothing_is_claimed() -> None:
    bench = ActBench(
        "t", [entry(graph("relu"), 0.5, vector=vector(0)), entry(graph("exp"), math.nan)]
    )
    assert math.isnan(figure1.facts_of(bench).invalid_best)
    assert "none was trained" in figure1.lines([bench])[-1]


@pytest.mark.parametrize(("hits", "trials"), [(0, 50), (1, 50), (7, 20)])
def test_the_upper_bound_leaves_five_per_cent(hits: int, trials: int) -> None:
    bound = figure1.upper_bound(hits, trials)
    assert stats.binom.cdf(hits, trials, bound) == pytest.approx(0.05)
    assert stats.binom.cdf(hits, trials, 0.9 * bound) > 0.06


def test_where_all_hit_anything_is_possible() -> None:
    assert figure1.upper_bound(3, 3) == 1.0
    assert figure1.upper_bound(0, 50) == pytest.approx(1 - 0.05 ** (1 / 50))


# Figure 2


def second() -> ActBench:
    """Return a table in which ELU has another name, and the order is another."""
    entries = [
        entry(graph("tanh"), 0.8, vector=vector(2)),
        entry("max(elu(x),elu(x))", 0.4, vector=vector(1), members=(graph("elu"),)),
        entry(graph("relu"), 0.5, vector=vector(0)),
        entry(graph("square"), 0.15, vector=vector(4)),
        entry(graph("swish"), 0.9, vector=vector(6)),
    ]
    return ActBench("second", entries)


def test_functions_are_matched_by_any_of_their_names() -> None:
    pair = figure2.pair_of(small(), second())
    assert pair.functions == tuple(map(graph, ("relu", "elu", "tanh", "square")))
    np.testing.assert_allclose(pair.accuracies, [[0.6, 0.7, 0.2, 0.9], [0.5, 0.4, 0.8, 0.15]])
    assert pair.baselines == {"relu(x)": 0, "elu(x)": 1, "tanh(x)": 2}


def test_only_functions_that_train_in_both_are_ranked() -> None:
    facts = figure2.facts_of(figure2.pair_of(small(), second()))
    assert (facts.functions, facts.both, facts.only_first, facts.only_second) == (4, 2, 1, 1)
    assert facts.correlation == pytest.approx(-1.0)
    # x^2 is best in the first and last in the second; tanh the other way round.
    assert facts.best_elsewhere == (4, 4)
    assert (facts.shared, facts.top) == (0, 1)


def test_a_table_agrees_with_itself() -> None:
    facts = figure2.facts_of(figure2.pair_of(small(), small("again")))
    assert facts.correlation == pytest.approx(1.0)
    assert (facts.best_elsewhere, facts.shared) == ((1, 1), 1)


def test_of_too_few_functions_there_is_no_correlation() -> None:
    bench = ActBench("t", [entry(graph("relu"), 0.5, vector=vector(0))])
    assert math.isnan(figure2.facts_of(figure2.pair_of(bench, bench)).correlation)


def test_every_pair_has_a_panel() -> None:
    drawn = figure2.draw([small(), second(), small("third"), second()])
    assert common.as_png(drawn.figure).startswith(PNG)
    assert sum(line.startswith("| ") for line in drawn.lines) == 2 + 6


def test_what_cannot_be_compared_is_refused() -> None:
    with pytest.raises(BenchmarkError, match="two or more, got 1"):
        figure2.draw([small()])
    other = ActBench("other", [entry(graph("swish"), 0.5, vector=vector(0))])
    with pytest.raises(BenchmarkError, match="no function was trained for both small and other"):
        figure2.pair_of(small(), other)
