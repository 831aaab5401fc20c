"""Other studies: how far they are believed, and that only their order counts."""

import numpy as np
import pytest
from numpy.typing import NDArray

from aquasurf_optuna.surrogate import NoveltySurrogate
from aquasurf_optuna.surrogate._transfer import agreement, unit_ranks
from tests.aquasurf_optuna.surrogate.candidates import clusters
from tests.oracles.surrogate_oracles import kendall, share_below

Floats = NDArray[np.float64]
EVERY = np.arange(40)


def surrogate() -> NoveltySurrogate:
    """The quickest of those that learn from one study."""
    outputs, fisher, _ = clusters()
    return NoveltySurrogate(n_neighbors=3).embed(outputs, fisher)


@pytest.mark.parametrize("seed", range(5))
def test_ranks_are_the_share_of_what_is_below(seed: int) -> None:
    values = np.random.default_rng(seed).integers(0, 6, size=12).astype(np.float64)

    np.testing.assert_allclose(unit_ranks(values), share_below(values))
    assert not np.allclose(unit_ranks(values), share_below(-values))


def test_ranks_of_few() -> None:
    assert unit_ranks(np.zeros(0)).shape == (0,)
    np.testing.assert_array_equal(unit_ranks(np.array([7.0])), [0.5])
    np.testing.assert_array_equal(unit_ranks(np.array([-np.inf, 3.0])), [0.0, 1.0])
    np.testing.assert_array_equal(unit_ranks(np.array([0.3, 0.1 + 0.2, 1e-9])), [0.75, 0.75, 0.0])


@pytest.mark.parametrize("seed", range(5))
def test_agreement_is_kendalls_tau_beside_a_prior(seed: int) -> None:
    rng = np.random.default_rng(seed)
    first, second = rng.integers(0, 5, size=(2, 9)).astype(np.float64)
    expected = (9 * kendall(first, second) + 5 * 0.5) / 14

    assert agreement(first, second) == pytest.approx(max(0.0, expected))
    assert agreement(first, second) != pytest.approx(kendall(first, second))


def test_without_knowledge_another_study_is_half_believed() -> None:
    nothing, alike = np.zeros(0), np.ones(4)

    assert agreement(nothing, nothing) == 0.5
    assert agreement(np.array([1.0]), np.array([2.0])) == 0.5
    assert agreement(alike, np.arange(4.0)) == 0.5


def test_a_contradiction_is_not_believed() -> None:
    values = np.arange(20.0)

    assert agreement(-values, values) == 0.0
    assert agreement(values, values) == pytest.approx(22.5 / 25)


def test_the_blend_is_the_weighted_mean_of_ranks() -> None:
    rng = np.random.default_rng(0)
    rows, other = rng.choice(40, 12, replace=False), rng.choice(40, 15, replace=False)
    values, elsewhere = rng.normal(size=12), rng.normal(size=15)
    blended = surrogate().fit(rows, values, others=[(other, elsewhere)])

    own = surrogate().fit(rows, values).predict(EVERY)
    there = surrogate().fit(other, share_below(elsewhere)).predict(EVERY)
    tau = kendall(there[np.sort(rows)], values[np.argsort(rows)])
    weight = 10 * max(0.0, (12 * tau + 2.5) / 17)
    expected = (12 * share_below(own) + weight * share_below(there)) / (12 + weight)
    np.testing.assert_allclose(blended._blended_ranks(), expected)
    np.testing.assert_array_equal(np.argsort(blended.predict(EVERY)), np.argsort(expected))


def test_predictions_stay_on_the_scale_of_the_own_values() -> None:
    rng = np.random.default_rng(1)
    rows, values = rng.choice(40, 8, replace=False), 100 + rng.normal(size=8)
    predicted = surrogate().fit(rows, values, others=[(EVERY, rng.normal(size=40))]).predict(EVERY)

    assert values.min() <= predicted.min() < predicted.max() <= values.max()


def test_what_others_foretell_helps_where_little_is_known() -> None:
    labels = clusters()[2]
    rows, values = np.array([0, 1, 4, 5]), np.array([0.0, 1.0, 0.0, 1.0])
    others = [(np.arange(8, 24), 5.0 * labels[8:24])]

    alone = surrogate().fit(rows, values).predict(EVERY[24:])
    helped = surrogate().fit(rows, values, others=others).predict(EVERY[24:])
    assert kendall(helped, labels[24:]) > kendall(alone, labels[24:]) + 0.1


def test_a_study_that_contradicts_makes_no_difference() -> None:
    labels = clusters()[2]
    rows = np.arange(24)
    alone = surrogate().fit(rows, labels[:24])
    beside = surrogate().fit(rows, labels[:24], others=[(rows, -labels[:24])])

    np.testing.assert_allclose(beside.predict(EVERY), alone.predict(EVERY), atol=1e-9)


def test_others_decide_among_candidates_that_are_all_alike_here() -> None:
    labels = clusters()[2]
    fitted = surrogate().fit([0], [0.3], others=[(np.arange(8), labels[:8])])

    np.testing.assert_allclose(fitted.predict(EVERY), 0.3, rtol=1e-12)
    assert kendall(fitted._blended_ranks(), labels.astype(np.float64)) > 0.85
