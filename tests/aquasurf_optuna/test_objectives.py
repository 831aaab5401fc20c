"""One order for several objectives."""

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from aquasurf_optuna._objectives import drawn_weights, mean_ranks, scalarized
from tests.oracles import scalarisation_oracle

# Of one scale, so that rounding does not decide; many are equal.
NUMBERS = st.integers(-20, 20).map(lambda n: n / 4)


@st.composite
def tables(draw: st.DrawFn) -> NDArray[np.float64]:
    shape = draw(st.tuples(st.integers(1, 8), st.integers(2, 4)))
    return draw(arrays(np.float64, shape, elements=NUMBERS))


@given(tables(), st.integers(0, 1000))
def test_the_value_is_that_of_the_definition(table: NDArray[np.float64], seed: int) -> None:
    weights = drawn_weights(table.shape[1], np.random.default_rng(seed))
    expected = [
        scalarisation_oracle.value(row, table.tolist(), weights.tolist()) for row in table.tolist()
    ]
    np.testing.assert_allclose(scalarized(table, weights), expected, rtol=1e-12, atol=1e-12)


@given(tables())
def test_ranks_are_those_of_the_definition(table: NDArray[np.float64]) -> None:
    table[0, 0] = -np.inf
    expected = [scalarisation_oracle.beaten(row, table.tolist()) for row in table.tolist()]
    np.testing.assert_allclose(mean_ranks(table), expected, rtol=1e-12)


@given(tables(), st.integers(0, 1000))
def test_who_is_dominated_never_comes_before(table: NDArray[np.float64], seed: int) -> None:
    value = scalarized(table, drawn_weights(table.shape[1], np.random.default_rng(seed)))
    for first, a in zip(table, value, strict=True):
        for second, b in zip(table, value, strict=True):
            if (first >= second).all() and (first > second).any():
                assert a > b


@given(tables(), st.integers(0, 1000), st.sampled_from([0.001, 3.0, 1e6]))
def test_scales_of_objectives_do_not_matter(
    table: NDArray[np.float64], seed: int, scale: float
) -> None:
    weights = drawn_weights(table.shape[1], np.random.default_rng(seed))
    scaled = table * np.array([scale, *np.ones(table.shape[1] - 1)]) + 7.0
    np.testing.assert_allclose(scalarized(scaled, weights), scalarized(table, weights), atol=1e-7)


ANGLES = np.linspace(0, np.pi / 2, 9)
FRONTS = {
    "convex": np.stack([np.cos(ANGLES), np.sin(ANGLES)], axis=1),
    "concave": np.stack([1 - np.cos(ANGLES), 1 - np.sin(ANGLES)], axis=1),
    "straight": np.stack([np.linspace(0, 1, 9), np.linspace(1, 0, 9)], axis=1),
    "with a bend": np.stack([np.linspace(0, 1, 9), 1 - np.linspace(0, 1, 9) ** 3], axis=1),
}


@pytest.mark.parametrize("front", FRONTS.values(), ids=FRONTS)
def test_every_point_of_a_front_is_the_best_for_some_weights(front: NDArray[np.float64]) -> None:
    # Points behind the front, which are the best for none.
    behind = front - np.array([0.03, 0.02])
    table = np.concatenate([front, behind])
    rng = np.random.default_rng(0)
    first = {int(np.argmax(scalarized(table, drawn_weights(2, rng)))) for _ in range(500)}

    assert first == set(range(len(front)))


def test_a_sum_would_miss_a_concave_front() -> None:
    # So the test above can fail.
    rng = np.random.default_rng(0)
    front = FRONTS["concave"]
    first = {int(np.argmax(front @ drawn_weights(2, rng))) for _ in range(500)}
    assert first == {0, len(front) - 1}


def test_an_objective_in_which_all_are_alike_says_nothing() -> None:
    table = np.array([[1.0, 5.0], [3.0, 5.0], [2.0, 5.0]])
    for seed in range(5):
        weights = drawn_weights(2, np.random.default_rng(seed))
        assert np.argsort(-scalarized(table, weights)).tolist() == [1, 2, 0]
    np.testing.assert_array_equal(scalarized(np.ones((3, 2)), np.array([0.5, 0.5])), np.zeros(3))


def test_one_objective_is_its_own_order() -> None:
    column = np.array([[3.0], [-1.0], [2.0]])
    np.testing.assert_array_equal(scalarized(column, np.ones(1)), column[:, 0])
    assert scalarized(np.zeros((0, 2)), np.array([0.5, 0.5])).shape == (0,)


def test_failures_rank_below_all_others() -> None:
    ranks = mean_ranks(np.array([[-np.inf, -np.inf], [0.1, -5.0], [0.9, -4.0], [-np.inf, -np.inf]]))
    np.testing.assert_allclose(ranks, [0.0, 0.5, 0.75, 0.0])


@pytest.mark.parametrize("n_objectives", [1, 2, 3, 5])
def test_weights_are_spread_evenly_over_the_simplex(n_objectives: int) -> None:
    rng = np.random.default_rng(3)
    weights = np.array([drawn_weights(n_objectives, rng) for _ in range(4000)])

    np.testing.assert_allclose(weights.sum(axis=1), 1.0)
    assert (weights > 0).all()
    # Mean and variance of the uniform distribution on the simplex; four standard errors at least.
    m = n_objectives
    np.testing.assert_allclose(weights.mean(axis=0), np.full(m, 1 / m), atol=0.02)
    np.testing.assert_allclose(
        weights.var(axis=0), np.full(m, (m - 1) / (m**2 * (m + 1))), atol=0.006
    )


def test_weights_depend_on_the_generator_alone() -> None:
    first, again = (drawn_weights(3, np.random.default_rng(5)) for _ in range(2))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, drawn_weights(3, np.random.default_rng(6)))


# The oracle itself


def test_the_oracle_can_fail() -> None:
    rows = [[0.0, 1.0], [1.0, 0.0], [0.6, 0.6]]
    told = [scalarisation_oracle.value(row, rows, [0.5, 0.5]) for row in rows]
    # By hand: 0.5 + 0.01 * 0.5 for the ends, 0.2 + 0.01 * 0.4 in the middle.
    np.testing.assert_allclose(told, [-0.505, -0.505, -0.204])
    turned = scalarized(-np.array(rows), np.array([0.5, 0.5]))
    assert not np.allclose(turned, told)
    unlike = scalarized(np.array(rows), np.array([0.7, 0.3]))
    assert not np.allclose(unlike, told)
    assert scalarisation_oracle.beaten([0.6, 0.6], rows) == pytest.approx(1 / 3)
    assert scalarisation_oracle.beaten([1.0, 0.0], rows) == pytest.approx(1 / 3)
    assert scalarisation_oracle.beaten([2.0, 2.0], rows) == 1.0
