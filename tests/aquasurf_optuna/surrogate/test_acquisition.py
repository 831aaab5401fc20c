"""From predictions to an order: the four rules against what they mean."""

from typing import Any

import numpy as np
import pytest

from aquasurf_optuna.exceptions import SurrogateError
from aquasurf_optuna.surrogate import (
    EnsembleSurrogate,
    FailureAwareSurrogate,
    GaussianProcessSurrogate,
    UmapForestSurrogate,
    UmapGpSurrogate,
)
from aquasurf_optuna.surrogate._acquisition import (
    ACQUISITIONS,
    acquisition_values,
    check_acquisition,
)
from tests.aquasurf_optuna.surrogate.candidates import clusters
from tests.oracles.surrogate_oracles import sampled_improvement

MEAN = np.array([0.2, 0.5, 0.5, 0.9, -1.0])
STD = np.array([0.3, 0.1, 0.6, 0.2, 1.5])


def test_greedy_and_ucb_are_sums() -> None:
    greedy = acquisition_values("greedy", MEAN, STD, best=0.6, exploration=0.3)
    ucb = acquisition_values("ucb", MEAN, STD, best=0.6, exploration=0.3)

    np.testing.assert_array_equal(greedy, MEAN)
    np.testing.assert_allclose(ucb, MEAN + 0.3 * STD)


@pytest.mark.parametrize("exploration", [0.0, 0.5])
def test_improvements_are_those_of_draws(exploration: float) -> None:
    threshold = 0.6 + exploration * STD.mean()
    expected, probability = sampled_improvement(MEAN, STD, threshold)
    ei = acquisition_values("ei", MEAN, STD, best=0.6, exploration=exploration)
    pi = acquisition_values("pi", MEAN, STD, best=0.6, exploration=exploration)

    np.testing.assert_allclose(ei, expected, atol=4e-3)
    np.testing.assert_allclose(np.exp(pi), probability, atol=4e-3)


def test_the_oracle_of_improvements_can_fail() -> None:
    expected, probability = sampled_improvement(MEAN, STD, 0.7)

    assert not np.allclose(
        acquisition_values("ei", MEAN, STD, best=0.6, exploration=0), expected, atol=4e-3
    )
    assert not np.allclose(
        np.exp(acquisition_values("pi", MEAN, STD, best=0.6, exploration=0)), probability, atol=4e-3
    )


@pytest.mark.parametrize("name", ACQUISITIONS)
@pytest.mark.parametrize("std", [np.zeros(5), np.full(5, np.nan)])
def test_without_a_spread_the_mean_decides(name: Any, std: Any) -> None:
    worth = acquisition_values(name, MEAN, std, best=0.6, exploration=0.3)

    assert not np.isnan(worth).any()
    assert worth[3] == worth.max() > worth[4]


@pytest.mark.parametrize("name", ACQUISITIONS)
def test_nobody_to_rank(name: Any) -> None:
    nothing = np.zeros(0)

    assert acquisition_values(name, nothing, nothing, best=0.6, exploration=0.3).shape == (0,)


def test_far_below_the_best_probabilities_still_differ() -> None:
    worth = acquisition_values(
        "pi", np.array([-90.0, -80.0]), np.ones(2), best=0.0, exploration=0.0
    )

    assert np.isfinite(worth).all()
    assert worth[0] < worth[1]


@pytest.mark.parametrize(
    ("acquisition", "exploration", "problem"),
    [
        ("best", 0.3, "acquisition of X must be one of .* but got 'best'"),
        ("ucb", -0.1, "exploration of X must be a finite number, 0 or more, but got -0.1"),
        ("ucb", np.nan, "exploration of X must be .* but got nan"),
        ("ucb", np.inf, "exploration of X must be .* but got inf"),
        ("ucb", "much", "exploration of X must be .* but got 'much'"),
        ("ucb", True, "exploration of X must be .* but got True"),
    ],
)
def test_other_rules_are_refused(acquisition: Any, exploration: Any, problem: str) -> None:
    with pytest.raises(SurrogateError, match=problem):
        check_acquisition("X", acquisition, exploration)


@pytest.mark.parametrize("acquisition", ["ucb", "ei", "pi"])
@pytest.mark.parametrize(
    "kind", [GaussianProcessSurrogate, UmapGpSurrogate, UmapForestSurrogate, FailureAwareSurrogate]
)
def test_boldness_is_a_factor_on_the_exploration(kind: Any, acquisition: str) -> None:
    outputs, fisher, _ = clusters()
    inner = [GaussianProcessSurrogate()] if kind is FailureAwareSurrogate else []
    rows, values = np.arange(10), np.linspace(0.0, 1.0, 10)

    def fitted(exploration: float) -> Any:
        surrogate = kind(*inner, acquisition=acquisition, exploration=exploration)
        return surrogate.embed(outputs, fisher).fit(rows, values)

    whole, half = fitted(1.0), fitted(0.5)
    expected = half.acquire(np.arange(40))
    np.testing.assert_array_equal(whole.acquire(np.arange(40), boldness=0.5), expected)
    assert not np.array_equal(whole.acquire(np.arange(40)), expected)
    vote = EnsembleSurrogate([whole]).embed(outputs, fisher).fit(rows, values)
    order = np.argsort(vote.acquire(np.arange(40), boldness=0.5), kind="stable")
    np.testing.assert_array_equal(order, np.argsort(expected, kind="stable"))


@pytest.mark.parametrize("boldness", [-1.0, np.nan, np.inf, "high"])
def test_a_boldness_that_is_none(boldness: Any) -> None:
    outputs, fisher, _ = clusters()
    surrogate = GaussianProcessSurrogate().embed(outputs, fisher).fit([0, 1], [0.0, 1.0])
    with pytest.raises(SurrogateError, match="boldness must be a finite number, 0 or more"):
        surrogate.acquire([2], boldness=boldness)
