"""Novelty: the unlike first, alone or mixed into another order."""

from typing import Any

import numpy as np
import pytest

from aquasurf_optuna.exceptions import SurrogateError
from aquasurf_optuna.surrogate import NoveltySurrogate, diversified, novelty
from tests.aquasurf_optuna.surrogate.candidates import clusters
from tests.oracles.surrogate_oracles import mean_distance_to_nearest, nearest_average, share_below

EVERY = np.arange(40)


def surrogate(n_neighbors: int = 15) -> NoveltySurrogate:
    outputs, fisher, _ = clusters()
    return NoveltySurrogate(n_neighbors=n_neighbors).embed(outputs, fisher)


@pytest.mark.parametrize("k", [1, 3, 30])
def test_novelty_is_the_mean_distance_to_the_nearest(k: int) -> None:
    known = surrogate(k).fit([3, 1, 8], [0.1, 0.2, -np.inf], running=[20, 30, 8])
    distances = known.distances(EVERY, [1, 3, 8, 20, 30])

    expected = mean_distance_to_nearest(distances, k)
    np.testing.assert_allclose(known.acquire(EVERY), expected)
    np.testing.assert_allclose(novelty(known, EVERY, [30, 20, 8, 8, 3, 1], n_neighbors=k), expected)
    assert k == 30 or not np.allclose(expected, mean_distance_to_nearest(distances, k + 1))


def test_values_make_no_difference() -> None:
    first = surrogate().fit([3, 1], [0.1, 0.9]).acquire(EVERY)

    np.testing.assert_array_equal(first, surrogate().fit([3, 1], [-np.inf, 4.0]).acquire(EVERY))


def test_an_untried_group_comes_first_and_the_tried_last() -> None:
    labels = clusters()[2]
    worth = surrogate(1).fit([0, 1, 2], [1.0, 1.0, 1.0]).acquire(EVERY)

    assert labels[np.argmax(worth)] == 3
    np.testing.assert_allclose(worth[[0, 1, 2]], 0.0, atol=1e-9)


def test_before_anything_is_tried_others_stand_in() -> None:
    labels = clusters()[2]
    worth = surrogate(1).fit([], [], others=[([0, 1], [1.0, 2.0]), ([3], [1.0])]).acquire(EVERY)

    assert labels[np.argmax(worth)] == 2
    with_running = surrogate(1).fit([], [], running=[2], others=[([0], [1.0])]).acquire(EVERY)
    assert labels[np.argmin(with_running)] == 2


def test_nothing_tried_is_no_novelty() -> None:
    np.testing.assert_array_equal(novelty(surrogate(), [4, 5], []), [0.0, 0.0])
    assert novelty(surrogate(), [], [4, 5]).shape == (0,)


def test_predictions_are_those_of_the_nearest() -> None:
    rng = np.random.default_rng(0)
    line = rng.normal(size=(30, 1))
    known = NoveltySurrogate(features="outputs", n_neighbors=3).embed(line)
    rows, values = rng.choice(30, 10, replace=False), rng.normal(size=10)
    flat = np.hstack([line, np.zeros((30, 1))])

    predicted = known.fit(rows, values).predict(np.arange(30))
    np.testing.assert_allclose(predicted, nearest_average(flat[rows], values, flat, k=3), rtol=1e-4)
    assert not np.allclose(predicted, nearest_average(flat[rows], values, flat, k=4), rtol=1e-4)


@pytest.mark.parametrize("diversity", [0, 0.3, 1.0])
def test_a_mixture_is_the_weighted_mean_of_ranks(diversity: float) -> None:
    rng = np.random.default_rng(0)
    worth, unlike = rng.normal(size=9), rng.exponential(size=9)
    mixed = diversified(worth, unlike, diversity)

    expected = (1 - diversity) * share_below(worth) + diversity * share_below(unlike)
    np.testing.assert_allclose(mixed, expected)
    assert not np.allclose(mixed, diversified(unlike, worth, diversity))


@pytest.mark.parametrize("diversity", [-0.1, 1.1, np.nan, "some", True, None])
def test_other_diversities_are_refused(diversity: Any) -> None:
    with pytest.raises(SurrogateError, match="diversity must be a number from 0 to 1, but got"):
        diversified(np.zeros(2), np.zeros(2), diversity)


@pytest.mark.parametrize("n_neighbors", [0, 2.5, True, None])
def test_other_numbers_of_neighbours_are_refused(n_neighbors: Any) -> None:
    with pytest.raises(SurrogateError, match="n_neighbors of NoveltySurrogate must"):
        surrogate(n_neighbors)
