"""The rule that chooses the default surrogate."""

import math

import numpy as np
import pytest

from aquasurf_optuna.benchmark._samplers import LAYOUT_SEEDS
from benchmarks import verdict
from benchmarks.verdict import Floats, standard_error, verdict_markdown, verdicts
from tests.oracles.verdict_oracle import chosen, error_of_difference, mean_of_all, tied

NAMES = "abcde"


def drawn(seed: int, n_groups: int, n_repeats: int) -> tuple[dict[str, Floats], dict[str, float]]:
    """Return regrets of surrogates that are nearly as good as one another, and their times."""
    rng = np.random.default_rng(seed)
    hard = rng.gamma(1.0, 0.02, (n_groups, n_repeats))
    regrets = {name: hard + rng.normal(0.0, 0.01, hard.shape) for name in NAMES}
    return regrets, {name: float(rng.gamma(2.0)) for name in NAMES}


@pytest.mark.parametrize("n_groups", [1, 2, 6])
# Of those repeats that share a seed with another there are none, or as many of each seed.
@pytest.mark.parametrize("n_repeats", [2, 7, LAYOUT_SEEDS, 2 * LAYOUT_SEEDS, 5 * LAYOUT_SEEDS])
def test_it_is_the_oracle_s_verdict(n_groups: int, n_repeats: int) -> None:
    n_tied = set()
    for seed in range(10):
        regrets, seconds = drawn(seed, n_groups, n_repeats)
        lists = {name: own.tolist() for name, own in regrets.items()}
        found = verdicts(regrets, seconds)
        assert sorted(one.name for one in found) == list(NAMES)
        assert found[0].name == chosen(lists, seconds, LAYOUT_SEEDS)
        assert {one.name for one in found if one.tied} == tied(lists, LAYOUT_SEEDS)
        best = lists[min(found, key=lambda one: one.regret).name]
        for one in found:
            own = lists[one.name]
            assert one.seconds == seconds[one.name]
            assert one.regret == pytest.approx(mean_of_all(own))
            assert one.behind == pytest.approx(mean_of_all(own) - mean_of_all(best), abs=1e-12)
            error = error_of_difference(own, best, LAYOUT_SEEDS)
            assert one.error == pytest.approx(error, abs=1e-12)
        n_tied.add(sum(one.tied for one in found))
    # The rule had something to decide.
    assert len(n_tied) > 1


def test_the_oracle_can_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    regrets, seconds = drawn(0, 2, 2 * LAYOUT_SEEDS)
    lists = {name: own.tolist() for name, own in regrets.items()}
    right = verdicts(regrets, seconds)
    assert right[0].name == chosen(lists, seconds, LAYOUT_SEEDS)
    slower = {name: -time for name, time in seconds.items()}
    assert verdicts(regrets, slower)[0].name != chosen(lists, seconds, LAYOUT_SEEDS)
    # Were all repeats independent, the errors would be others.
    monkeypatch.setattr(verdict, "LAYOUT_SEEDS", 1000)
    best = lists[min(right, key=lambda one: one.regret).name]
    behind = [one for one in verdicts(regrets, seconds) if one.behind > 0]
    assert behind
    for one in behind:
        error = error_of_difference(lists[one.name], best, LAYOUT_SEEDS)
        assert one.error != pytest.approx(error, rel=1e-3)


def test_the_lowest_regret_wins_over_all_tables_and_starts() -> None:
    found = verdicts(
        {
            "good here": np.array([[0.0, 0.0], [0.5, 0.5]]),
            "good there": np.array([[0.4, 0.4], [0.0, 0.0]]),
        },
        {"good here": 0.1, "good there": 1.0},
    )
    assert [(one.name, one.tied) for one in found] == [("good there", True), ("good here", False)]
    assert [one.regret for one in found] == pytest.approx([0.2, 0.25])
    assert [one.behind for one in found] == pytest.approx([0.0, 0.05])


def test_of_those_within_a_standard_error_of_the_difference_the_quickest_wins() -> None:
    found = verdicts(
        {
            "best": np.array([[0.0, 1.0]]),
            # Behind by 0.1 on average; the differences 0.3 and -0.1 have a standard error of 0.2.
            "quick": np.array([[0.3, 0.9]]),
            # Behind by a quarter as well, each time: no error, so no tie.
            "quickest": np.array([[0.25, 1.25]]),
        },
        {"best": 5.0, "quick": 0.1, "quickest": 0.01},
    )
    assert [one.name for one in found] == ["quick", "best", "quickest"]
    assert [one.tied for one in found] == [True, True, False]
    assert (found[0].behind, found[0].error) == pytest.approx((0.1, 0.2))


def test_what_is_never_behind_is_tied_and_names_decide_between_equals() -> None:
    same = np.array([[0.1, 0.2]])
    found = verdicts({"b": same, "a": same}, {"a": 1.0, "b": 1.0})
    assert [(one.name, one.tied) for one in found] == [("a", True), ("b", True)]


@pytest.mark.parametrize("n_repeats", [3, 7, 2 * LAYOUT_SEEDS])
def test_what_fails_in_one_repeat_alone_is_tied_whatever_the_rounding(n_repeats: int) -> None:
    # Its mean and the standard error of it are the same number.
    for worse in np.random.default_rng(0).uniform(0.01, 0.2, 50):
        regrets = {"best": np.zeros((2, n_repeats)), "once": np.zeros((2, n_repeats))}
        regrets["once"][1, 2] = worse
        lists = {name: own.tolist() for name, own in regrets.items()}
        assert tied(lists, LAYOUT_SEEDS) == {"best", "once"}
        assert all(one.tied for one in verdicts(regrets, {"best": 1.0, "once": 1.0}))


def test_repeats_of_one_seed_count_once() -> None:
    once = np.random.default_rng(0).normal(size=LAYOUT_SEEDS)
    assert standard_error(np.tile(once, 10)) == pytest.approx(standard_error(once))
    assert standard_error(once) == pytest.approx(np.std(once, ddof=1) / math.sqrt(LAYOUT_SEEDS))


def test_a_single_repeat_tells_of_no_tie() -> None:
    found = verdicts({"a": np.array([[0.1]]), "b": np.array([[0.2]])}, {"a": 1.0, "b": 0.1})
    assert [(one.name, one.tied) for one in found] == [("a", True), ("b", False)]
    assert np.isnan(found[1].error)
    assert "nan" not in verdict_markdown(found)


def test_searches_that_are_missing_are_refused() -> None:
    with pytest.raises(ValueError, match=r"'b': \(2, 2\).*run the searches that are missing"):
        verdicts({"a": np.zeros((2, 3)), "b": np.zeros((2, 2))}, {"a": 1.0, "b": 1.0})
    with pytest.raises(ValueError, match="got {}"):
        verdicts({}, {})


def test_the_table_has_a_line_for_each_in_their_order() -> None:
    found = verdicts(
        {"a": np.array([[0.0, 1.0]]), "b": np.array([[0.25, 1.25]])}, {"a": 0.002, "b": 0.0011}
    )
    assert verdict_markdown(found).splitlines()[2:] == [
        "| a | 0.5000 | 0.0000 ± 0.0000 | yes | 2.0 |",
        "| b | 0.7500 | 0.2500 ± 0.0000 |  | 1.1 |",
    ]
