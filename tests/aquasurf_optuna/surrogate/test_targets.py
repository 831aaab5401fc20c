"""Values as ranks and back, and the choice of a few of many."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from scipy.stats import norm

from aquasurf_optuna.surrogate._targets import (
    Scale,
    rank_scores,
    representative,
    standard_scores,
)


def test_scores_follow_the_order_alone() -> None:
    values = np.array([0.3, -np.inf, 0.7, 0.1])

    scores = rank_scores(values)

    assert_allclose(scores, norm.ppf([0.625, 0.125, 0.875, 0.375]))
    np.testing.assert_array_equal(scores, rank_scores(np.array([3.0, -np.inf, 1e30, 2.5])))


def test_equals_share_a_score() -> None:
    scores = rank_scores(np.array([-np.inf, 1.0, -np.inf, 1.0]))

    assert_allclose(scores, norm.ppf([0.25, 0.75, 0.25, 0.75]))


def test_values_are_standardised() -> None:
    scores = standard_scores(np.array([1.0, 2.0, 6.0]))

    assert scores.mean() == pytest.approx(0.0)
    assert scores.std() == pytest.approx(1.0)
    assert_allclose(np.diff(scores)[1] / np.diff(scores)[0], 4.0)


@pytest.mark.parametrize("scores", [rank_scores, standard_scores])
def test_alike_values_are_zero_and_none_are_none(scores: object) -> None:
    assert callable(scores)
    np.testing.assert_array_equal(scores(np.full(3, 0.5)), 0.0)
    assert scores(np.zeros(0)).shape == (0,)


def test_a_scale_goes_through_what_was_seen_and_on_beyond_it() -> None:
    scale = Scale.through(np.array([1.0, -1.0, 1.0, 0.0]), np.array([5.0, 2.0, 5.0, 4.0]))

    assert_allclose(scale.values_of(np.array([-1.0, 0.0, 1.0, 0.5])), [2.0, 4.0, 5.0, 4.5])
    # From -1 to 1 it rises by 3.
    assert_allclose(scale.values_of(np.array([-3.0, 3.0])), [-1.0, 8.0])
    assert_allclose(scale.spread_of(np.array([0.0]), np.array([1.0])), [1.5])


def test_of_alike_values_the_unit_is_one() -> None:
    scale = Scale.through(np.zeros(2), np.full(2, 0.7))

    assert_allclose(scale.values_of(np.array([0.0, 0.5])), [0.7, 1.2])


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=20))
@settings(deadline=None, max_examples=50)
def test_scores_come_back_as_the_values(values: list[float]) -> None:
    array = np.array(values)
    scores = rank_scores(array)
    scale = Scale.through(scores, array)

    assert_allclose(scale.values_of(scores), array)
    at = np.linspace(-4, 4, 50)
    assert (np.diff(scale.values_of(at)) >= 0).all()


def test_few_stand_for_many() -> None:
    values = np.random.default_rng(0).permutation(100).astype(float)

    chosen = representative(values, 11)

    assert (np.diff(chosen) > 0).all()
    # The best six, and of the other 94, from 93 down to 0, every 23rd or so.
    np.testing.assert_array_equal(
        np.sort(values[chosen])[::-1], [99, 98, 97, 96, 95, 94, 93, 70, 47, 23, 0]
    )


@given(n=st.integers(0, 60), limit=st.integers(1, 60))
@settings(deadline=None)
def test_as_many_as_allowed_are_chosen(n: int, limit: int) -> None:
    values = np.random.default_rng(n).normal(size=n)

    chosen = representative(values, limit)

    assert len(set(chosen.tolist())) == len(chosen) == min(n, limit)
    assert n == 0 or values.argmax() in chosen
