"""Failures apart from values: what is a failure, how likely it is, and what follows from it."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from aquasurf_optuna.exceptions import SurrogateError
from aquasurf_optuna.surrogate import (
    FailureAwareSurrogate,
    GaussianProcessSurrogate,
    NoveltySurrogate,
)
from aquasurf_optuna.surrogate._acquisition import Acquisition, acquisition_values
from aquasurf_optuna.surrogate._failures import failure_level
from tests.aquasurf_optuna.surrogate.candidates import clusters

Floats = NDArray[np.float64]
EVERY = np.arange(40)
LABELS = clusters()[2]
CHANCE = 0.1
#: Groups 0 and 2 fail; in the others the value rises with the row.
VALUES = np.where(LABELS % 2 == 1, 0.5 + LABELS / 10 + EVERY / 1000, CHANCE)


def surrogate(**settings: Any) -> FailureAwareSurrogate:
    outputs, fisher, _ = clusters()
    settings = {"surrogate": GaussianProcessSurrogate(), **settings}
    return FailureAwareSurrogate(**settings).embed(outputs, fisher)


@pytest.mark.parametrize("share", [0.4, 0.5, 0.8])
@pytest.mark.parametrize("n", [10, 40, 200])
@pytest.mark.parametrize("scale", [1.0, -7.0])
def test_chance_is_found(share: float, n: int, scale: float) -> None:
    rng = np.random.default_rng(n)
    n_failed = int(share * n)
    failed = 0.1 + 0.005 * rng.normal(size=n_failed)
    trained = rng.uniform(0.4, 0.9, size=n - n_failed)
    values = abs(scale) * np.concatenate([failed, trained]) + min(scale, 0.0)
    level = failure_level(rng.permutation(values))

    assert values[:n_failed].max() < level < values[n_failed:].min()


@pytest.mark.parametrize("spread", ["even", "normal", "few good", "all alike", "few", "none"])
def test_where_nothing_gathers_nothing_is_a_failure(spread: str) -> None:
    rng = np.random.default_rng(0)
    values = {
        "even": rng.uniform(size=60),
        "normal": rng.normal(size=60),
        "few good": np.concatenate([rng.uniform(0.0, 0.8, 30), np.full(30, 0.9)]),
        "all alike": np.full(9, 0.3),
        "few": np.array([0.1, 0.8]),
        "none": np.array([-np.inf]),
    }[spread]

    assert failure_level(values) == -np.inf


def test_what_exploded_does_not_hide_chance() -> None:
    values = np.array([-np.inf, -1e30, 0.1, 0.1, 0.1, 0.11, 0.5, 0.6, 0.7, 0.8])

    assert 0.11 < failure_level(values) < 0.5


def test_the_level_is_found_or_given() -> None:
    rows = np.arange(16)

    assert CHANCE < surrogate().fit(rows, VALUES[rows]).failure_level_ < 0.5
    assert surrogate(failure_value=0.65).fit(rows, VALUES[rows]).failure_level_ == 0.65
    assert surrogate().fit([0, 1], [-np.inf, 0.5]).failure_level_ == -np.inf


def test_the_chance_of_success_is_learned() -> None:
    chances = surrogate().fit(np.arange(16), VALUES[:16]).chance(EVERY[16:])

    assert chances[LABELS[16:] % 2 == 1].min() > 0.8
    assert chances[LABELS[16:] % 2 == 0].max() < 0.2
    assert 0.02 <= chances.min() < chances.max() <= 0.98


def test_values_are_learned_from_successes_alone() -> None:
    rows = np.arange(16)
    fitted = surrogate().fit(rows, VALUES[:16])
    trained = rows[LABELS[:16] % 2 == 1]

    seen = fitted.members_[0].observations_
    np.testing.assert_array_equal(seen.rows, trained)
    np.testing.assert_array_equal(seen.values, VALUES[trained])
    np.testing.assert_array_equal(fitted.members_[1].observations_.values, LABELS[:16] % 2)


def test_predictions_are_those_of_a_mixture() -> None:
    fitted = surrogate().fit(np.arange(16), VALUES[:16])
    p = fitted.chance(EVERY)
    mean, std = fitted.members_[0].predict(EVERY, return_std=True)
    predicted, spread = fitted.predict(EVERY, return_std=True)

    for row in (3, 17, 22, 36):
        draws = np.random.default_rng(0).random(100_000)
        success = np.random.default_rng(1).normal(mean[row], std[row], size=100_000)
        mixture = np.where(draws < p[row], success, CHANCE)
        assert predicted[row] == pytest.approx(mixture.mean(), abs=3e-3)
        assert spread[row] == pytest.approx(mixture.std(), abs=3e-3)


@pytest.mark.parametrize("acquisition", ["greedy", "ucb", "ei", "pi"])
def test_worth_is_that_of_a_success_times_its_chance(acquisition: Acquisition) -> None:
    fitted = surrogate(acquisition=acquisition, exploration=0.2).fit(np.arange(16), VALUES[:16])
    mean, std = fitted.members_[0].predict(EVERY, return_std=True)
    label, doubt = fitted.members_[1].predict(EVERY, return_std=True)
    p = np.clip(label + doubt, 0.02, 0.98)
    worth = acquisition_values(acquisition, mean, std, best=VALUES[:16].max(), exploration=0.2)

    if acquisition == "pi":
        np.testing.assert_allclose(np.exp(fitted.acquire(EVERY)), p * np.exp(worth))
    else:
        floor = CHANCE if acquisition in ("greedy", "ucb") else 0.0
        np.testing.assert_allclose(fitted.acquire(EVERY), p * (worth - floor), atol=1e-12)


def test_after_failures_alone_the_unlike_come_first() -> None:
    fitted = surrogate().fit([0, 4, 8], [-np.inf] * 3)

    assert LABELS[np.argmin(fitted.acquire(EVERY))] == 0
    np.testing.assert_array_equal(fitted.predict(EVERY), 0.0)
    assert LABELS[np.argmax(fitted.acquire(EVERY))] != 0


@pytest.mark.parametrize("others", [[], [(np.arange(16), VALUES[:16])]])
def test_before_a_success_its_worth_is_not_known(others: Any) -> None:
    fitted = surrogate(failure_value=-2.0).fit([0, 4, 8], [-2.3, -2.2, -2.1], others=others)
    predicted, spread = fitted.predict(EVERY, return_std=True)

    np.testing.assert_array_equal(predicted, -2.2)
    assert np.isnan(spread).all()
    assert len(set(fitted.acquire(EVERY))) > 20


def test_what_fails_elsewhere_is_avoided() -> None:
    others = [(np.arange(16), 100 * VALUES[:16])]
    chances = surrogate().fit([1, 5], [0.5, 0.6], others=others).chance(EVERY[16:])

    assert chances[LABELS[16:] == 0].max() < chances[LABELS[16:] == 1].min()


def test_another_classifier() -> None:
    fitted = surrogate(classifier=NoveltySurrogate(n_neighbors=1))
    fitted.fit([0, 1], [-np.inf, 0.5])

    np.testing.assert_array_equal(fitted.chance([0, 1]), [0.02, 0.98])
    assert isinstance(fitted.members_[1], NoveltySurrogate)


def test_settings_can_be_read_and_changed_as_in_scikit_learn() -> None:
    inner = GaussianProcessSurrogate(features="outputs")
    wrapped = FailureAwareSurrogate(inner)

    assert wrapped.features == "outputs"
    assert wrapped.get_params()["surrogate__features"] == "outputs"
    wrapped.set_params(surrogate__features="both", failure_value=0.2)
    assert (wrapped.features, wrapped.failure_value) == ("both", 0.2)


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"surrogate": "gp"}, "FailureAwareSurrogate is made of .* but got 'gp'"),
        ({"classifier": "gp"}, "FailureAwareSurrogate is made of .* but got 'gp'"),
        ({"surrogate": GaussianProcessSurrogate(features="fim")}, "but got 'fim'"),
        ({"failure_value": -np.inf}, "failure_value of .* finite number or None, but got -inf"),
        ({"failure_value": "chance"}, "failure_value of .* but got 'chance'"),
        ({"acquisition": "best"}, "acquisition of FailureAwareSurrogate .* but got 'best'"),
        ({"exploration": -1}, "exploration of FailureAwareSurrogate .* but got -1"),
        (
            {"classifier": GaussianProcessSurrogate(output_bound=5.0)},
            "members of FailureAwareSurrogate must have one output_bound",
        ),
    ],
)
def test_wrong_settings_are_refused(settings: dict[str, Any], problem: str) -> None:
    with pytest.raises(SurrogateError, match=problem):
        surrogate(**settings)


def test_the_chance_is_asked_for_after_fitting() -> None:
    with pytest.raises(SurrogateError, match=r"call fit\(\)"):
        surrogate().chance([0])
