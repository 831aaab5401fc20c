"""Metrics of searches, against the definitions."""

from __future__ import annotations

import math
import statistics

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aquasurf_optuna.benchmark import _metrics
from aquasurf_optuna.benchmark._metrics import (
    BEST,
    SHARES,
    TOP_PERCENT,
    TOP_QUARTER,
    best_so_far,
    evaluations_until,
    goals_of,
    interval,
    markdown,
    reached,
    regret_after,
    summary_of,
)
from aquasurf_optuna.exceptions import BenchmarkError
from tests.oracles.search_oracle import best_after, first_reaching, in_top, middle

# Few different values, so that there are ties.
VALUES = st.lists(st.integers(0, 30).map(lambda k: k / 30), min_size=12, max_size=700)


@given(VALUES, st.integers(0, 2**31), st.integers(1, 8), st.integers(1, 60))
def test_a_summary_is_what_the_definitions_say(
    numbers: list[float], seed: int, n_initial: int, evaluations: int
) -> None:
    values = np.array(numbers)
    rng = np.random.default_rng(seed)
    lengths = rng.integers(n_initial, n_initial + evaluations + 5, 4)
    found = [values[rng.integers(0, len(values), length)] for length in lengths]
    relu, baselines = 3, [3, 5, 7]
    one = summary_of(
        values,
        found,
        n_initial=n_initial,
        evaluations=evaluations,
        relu=relu,
        baselines=baselines,
    )
    assert set(one.regrets) == {n for n in (10, 25, 50, 100) if n <= evaluations}
    for n, regrets in one.regrets.items():
        expected = [max(numbers) - best_after(list(own), n_initial, n) for own in found]
        assert regrets.tolist() == expected
    is_good = {
        _metrics.ABOVE_RELU: lambda v: v > values[relu],
        _metrics.ABOVE_BASELINES: lambda v: v > max(values[baselines]),
        TOP_PERCENT: lambda v: in_top(numbers, v, 0.01),
        TOP_QUARTER: lambda v: in_top(numbers, v, 0.0025),
        BEST: lambda v: v == max(numbers),
    }
    assert list(one.until) == list(is_good)
    for goal, good in is_good.items():
        expected = [
            first_reaching(list(own), n_initial, evaluations, [bool(good(v)) for v in own])
            for own in found
        ]
        assert one.until[goal].tolist() == expected
        assert reached(one.until[goal]).median == middle(expected)
        assert reached(one.until[goal]).share == statistics.mean(map(math.isfinite, expected))


def test_the_oracle_can_fail() -> None:
    found = [0.1, 0.5, 0.2, 0.9]
    assert best_after(found, 1, 2) == 0.5
    assert best_after(found, 1, 3) == 0.9
    good = [value >= 0.5 for value in found]
    assert first_reaching(found, 1, 3, good) == 1
    assert first_reaching(found, 2, 2, good) == 0
    assert first_reaching(found, 1, 2, [value > 0.5 for value in found]) == math.inf
    table = [k / 1000 for k in range(1000)]
    assert [in_top(table, value, 0.01) for value in (0.99, 0.989)] == [True, False]
    assert middle([1, 5, math.inf]) == 5
    assert middle([1, 5, math.inf, math.inf]) == math.inf


def test_a_small_search_by_hand() -> None:
    curves = best_so_far([np.array([0.3, 0.1, 0.2, 0.6, 0.5, 0.9])], n_initial=2, evaluations=3)
    assert curves.tolist() == [[0.3, 0.3, 0.6, 0.6]]
    assert regret_after(np.array([1.0, 0.0]), curves, 2).tolist() == [0.4]
    assert evaluations_until(curves, 0.6).tolist() == [2]
    assert evaluations_until(curves, 0.61).tolist() == [math.inf]
    assert evaluations_until(curves, 0.3).tolist() == [0]


def test_a_search_that_ended_early_keeps_what_it_found() -> None:
    curves = best_so_far([np.array([0.3, 0.4])], n_initial=1, evaluations=4)
    assert curves.tolist() == [[0.3, 0.4, 0.4, 0.4, 0.4]]


def test_the_top_of_a_table() -> None:
    values = np.arange(2791) / 2791
    goals = goals_of(values)
    assert [int((values >= goals[goal]).sum()) for goal in SHARES] == [28, 7]
    assert (values >= goals[BEST]).sum() == 1
    # Of a small table the best one is the top; what ties with it belongs to it.
    assert goals_of(np.array([0.1, 0.7, 0.7]))[TOP_QUARTER] == 0.7
    assert set(goals) == {*SHARES, BEST}


def test_better_is_strictly_better() -> None:
    values = np.array([0.5, 0.5, 0.6])
    goals = goals_of(values, relu=0, baselines=[0, 1])
    assert [goal for goal, least in goals.items() if least <= 0.5] == []
    assert all(least <= 0.6 for least in goals.values())


def test_the_interval() -> None:
    samples = np.random.default_rng(0).normal(size=50)
    mean, half = interval(samples)
    assert mean == pytest.approx(statistics.mean(samples.tolist()))
    assert half == pytest.approx(1.96 * statistics.stdev(samples.tolist()) / math.sqrt(50))
    assert math.isnan(interval(np.array([0.3])).half)


def test_repetitions_tell_nothing_new() -> None:
    samples = np.array([0.1, 0.4, 0.6])
    once, again = interval(samples), interval(np.tile(samples, 100), different=3)
    assert again.mean == pytest.approx(once.mean)
    assert again.half == pytest.approx(once.half)
    assert math.isnan(interval(np.full(100, 0.3), different=1).half)


def test_the_interval_holds_the_mean_95_times_of_100() -> None:
    rng = np.random.default_rng(1)
    found = [interval(rng.exponential(size=100)) for _ in range(2000)]
    held = np.mean([abs(one.mean - 1.0) <= one.half for one in found])
    assert 0.92 < held < 0.97


def test_searches_that_are_none() -> None:
    with pytest.raises(BenchmarkError, match="searches must hold the 2 functions .* 0 searches"):
        best_so_far([], n_initial=2, evaluations=3)
    with pytest.raises(BenchmarkError, match="got 1 searches, the shortest of 1 functions"):
        best_so_far([np.array([0.1])], n_initial=2, evaluations=3)
    with pytest.raises(BenchmarkError, match="must hold the 1 functions"):
        best_so_far([np.array([0.1])], n_initial=0, evaluations=3)


def test_the_markdown() -> None:
    values = np.linspace(0, 1, 101)
    good, bad = (
        summary_of(values, list(map(np.array, own)), n_initial=1, evaluations=10, relu=20)
        for own in (
            [[0.1, 1.0, *[0.0] * 9], [0.1, 1.0, *[0.1] * 9]],
            [[0.1, *[0.3] * 10], [0.1, *[0.3] * 10]],
        )
    )
    head, _, first, second = markdown(
        {"bad": bad, "good": good}, {"bad": 1.0, "good": 2.25}
    ).splitlines()
    assert head.count("|") == first.count("|") == second.count("|")
    assert [cell.strip() for cell in first.split("|")[1:5]] == [
        "good",
        "2",
        "0.0000 ± 0.0000",
        "1 (100%)",
    ]
    assert first.endswith("| 1 (100%) | 2.2 |")
    assert second.startswith("| bad | 2, 1 different | 0.7000 | 1 (100%) | > 10 (0%) |")
    single = summary_of(values, [np.array([0.1, *[0.3] * 10])], n_initial=1, evaluations=10)
    assert "| one | 1 | 0.7000 | > 10 (0%) |" in markdown({"one": single}, {"one": 0.0})
