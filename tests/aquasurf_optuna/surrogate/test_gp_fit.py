"""The mathematics of the Gaussian process against its definition."""

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.optimize import approx_fprime

from aquasurf_optuna.surrogate._gp_fit import (
    AMPLITUDE_RATE,
    AMPLITUDE_SHAPE,
    LEVEL,
    MIN_NOISE,
    Hyperparameters,
    Posterior,
    Prior,
    cholesky_of,
    fit_hyperparameters,
    negative_log_posterior,
)
from tests.oracles import gp_oracle
from tests.oracles.gp_oracle import Point, Setting

Floats = NDArray[np.float64]

SCALES = (3.0, 2.0, 4.0, 0.7)
STUDIES = np.array([0, 0, 0, 0, 1, 1, 1, 2, 2])
VECTOR = np.array([0.3, -0.4, 0.1, 0.6, 0.7, -0.2, 0.4, -0.5, -2.0, 1.2, -0.5])
"""Four lengths and weights, noise, the agreement of two other studies."""


def points(studies: NDArray[np.intp], seed: int = 0) -> list[Point]:
    rng = np.random.default_rng(seed)
    return [Point(rng.normal(size=5), rng.normal(size=3), int(study)) for study in studies]


def setting(vector: Floats, *, level: float = LEVEL) -> Setting:
    h = Hyperparameters.of_vector(vector, 4)
    return Setting(
        h.lengths.tolist(),
        h.weights.tolist(),
        h.noise,
        h.agreement.tolist(),
        level,
        AMPLITUDE_SHAPE,
        AMPLITUDE_RATE,
    )


def distances(first: list[Point], second: list[Point]) -> list[Floats]:
    table = np.array([[gp_oracle.distances(a, b) for b in second] for a in first]).reshape(
        len(first), len(second), 4
    )
    return list(np.moveaxis(table / SCALES, -1, 0))


def targets(n: int = len(STUDIES)) -> Floats:
    return np.random.default_rng(1).normal(size=n)


def log_odds(p: float) -> float:
    return float(np.log(p / (1 - p)))


def test_a_vector_holds_logarithms_and_log_odds() -> None:
    vector = np.log([2.0, 0.5, 1.0, 3.0, 0.01, 9.0])
    h = Hyperparameters.of_vector(vector, 2)

    np.testing.assert_allclose(h.lengths, [2.0, 0.5])
    np.testing.assert_allclose(h.weights, [0.25, 0.75])
    assert h.noise == pytest.approx(0.01)
    np.testing.assert_allclose(h.agreement, [1.0, 0.9])


def test_a_vector_of_one_comparison_has_no_weight() -> None:
    h = Hyperparameters.of_vector(np.array([0.0, np.log(0.1)]), 1)

    np.testing.assert_allclose(h.weights, [1.0])
    assert h.noise == pytest.approx(0.1)
    np.testing.assert_allclose(h.agreement, [1.0])


def test_the_evidence_is_that_of_a_students_t() -> None:
    seen, moments = points(STUDIES), Prior().moments(4, 2)
    other = VECTOR + np.array([0.5, -0.2, 0.3, 0.4, -0.6, 0.9, 0.1, -0.3, 0.2, -0.4, 0.8])

    def by_definition(vector: Floats) -> float:
        evidence = gp_oracle.log_evidence(seen, targets(), SCALES, setting(vector))
        return -evidence - gp_oracle.log_prior(vector, moments)

    def ours(vector: Floats) -> float:
        between = distances(seen, seen)
        return negative_log_posterior(vector, between, STUDIES, targets(), moments)[0]

    # They differ by a constant.
    assert ours(other) - ours(VECTOR) == pytest.approx(by_definition(other) - by_definition(VECTOR))


def test_the_evidence_oracle_can_fail() -> None:
    seen = points(STUDIES)
    right = gp_oracle.log_evidence(seen, targets(), SCALES, setting(VECTOR))

    for wrong in (VECTOR + each for each in 0.1 * np.eye(len(VECTOR))):
        assert gp_oracle.log_evidence(seen, targets(), SCALES, setting(wrong)) != pytest.approx(
            right, rel=1e-6
        )


@pytest.mark.parametrize("n_comparisons", [1, 2, 4])
@pytest.mark.parametrize("n_others", [0, 1, 2])
def test_the_gradient_is_that_of_finite_differences(n_comparisons: int, n_others: int) -> None:
    studies = STUDIES.copy()
    studies = studies[studies <= n_others]
    between = distances(points(studies), points(studies))[:n_comparisons]
    moments = Prior().moments(n_comparisons, n_others)
    vector = moments[0] + np.linspace(-0.8, 0.9, len(moments[0]))
    seen = targets(len(studies))

    _, gradient = negative_log_posterior(vector, between, studies, seen, moments)
    differences = approx_fprime(
        vector, lambda v: negative_log_posterior(v, between, studies, seen, moments)[0], 1e-6
    )

    np.testing.assert_allclose(gradient, differences, rtol=1e-4, atol=1e-5)


def test_predictions_follow_from_the_definition() -> None:
    seen = points(STUDIES)
    places = points(np.zeros(6, dtype=np.intp), seed=2)
    h = Hyperparameters.of_vector(VECTOR, 4)

    fitted = Posterior.of(h, distances(seen, seen), STUDIES, targets())
    mean, std = fitted.predict([d.astype(np.float32) for d in distances(seen, places)])

    expected = gp_oracle.posterior(seen, targets(), places, SCALES, setting(VECTOR))
    np.testing.assert_allclose(mean, expected[0], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(std, expected[1], rtol=1e-4)


def test_the_posterior_oracle_can_fail() -> None:
    seen, places = points(STUDIES), points(np.zeros(6, dtype=np.intp), seed=2)
    right = gp_oracle.posterior(seen, targets(), places, SCALES, setting(VECTOR))
    wrong = gp_oracle.posterior(seen, targets(), places, SCALES, setting(VECTOR, level=0.5))
    elsewhere = gp_oracle.posterior(
        [seen[0]._replace(study=1), *seen[1:]], targets(), places, SCALES, setting(VECTOR)
    )

    for mean, std in (wrong, elsewhere):
        assert not np.allclose(mean, right[0], rtol=1e-3)
        assert not np.allclose(std, right[1], rtol=1e-3)


def test_a_running_candidate_counts_as_if_it_had_turned_out_as_predicted() -> None:
    seen = points(np.zeros(5, dtype=np.intp))
    running = points(np.zeros(2, dtype=np.intp), seed=3)
    places = points(np.zeros(6, dtype=np.intp), seed=2)
    h = Hyperparameters.of_vector(VECTOR[:9], 4)
    everything = [*seen, *running]
    fitted = Posterior.of(
        h, distances(everything, everything), np.zeros(7, dtype=np.intp), targets(5)
    )
    mean, std = fitted.predict([d.astype(np.float32) for d in distances(everything, places)])

    believed, _ = gp_oracle.posterior(seen, targets(5), running, SCALES, setting(VECTOR[:9]))
    expected = gp_oracle.posterior(
        everything, np.append(targets(5), believed), places, SCALES, setting(VECTOR[:9])
    )
    without = gp_oracle.posterior(seen, targets(5), places, SCALES, setting(VECTOR[:9]))
    np.testing.assert_allclose(mean, expected[0], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(mean, without[0], rtol=1e-4, atol=1e-5)
    # An invented value that comes as foreseen would lower the amplitude, too: that it must not.
    ratio = std / expected[1]
    np.testing.assert_allclose(ratio, ratio[0], rtol=1e-4)
    assert ratio[0] > 1
    assert (std < without[1]).all()


def test_hyperparameters_are_at_a_minimum() -> None:
    seen = points(STUDIES)
    between, moments = distances(seen, seen), Prior().moments(4, 2)
    h = fit_hyperparameters(between, STUDIES, targets(), Prior(), n_others=2)
    vector = np.array(
        [
            *np.log(h.lengths),
            # The prior draws logarithms of weights, which have a common factor to spare, to 0.
            *(np.log(h.weights) - np.log(h.weights).mean()),
            np.log(h.noise),
            *(log_odds(r) for r in h.agreement[1:]),
        ]
    )

    value, gradient = negative_log_posterior(vector, between, STUDIES, targets(), moments)

    assert h.noise > 2 * MIN_NOISE
    np.testing.assert_allclose(gradient, 0.0, atol=1e-2)
    assert value < negative_log_posterior(moments[0], between, STUDIES, targets(), moments)[0]


def smooth(x: Floats, seed: int) -> Floats:
    """A draw of the process with the given places on a line as its only comparison."""
    kernel = np.exp(-np.abs(x[:, None] - x) / 1.5) + 1e-9 * np.eye(len(x))
    return np.linalg.cholesky(kernel) @ np.random.default_rng(seed).normal(size=len(x))


@pytest.mark.parametrize("agrees", [True, False])
def test_agreement_is_learned(agrees: bool) -> None:
    x = np.linspace(0, 10, 60)
    own = smooth(x, 0)
    other = own + 0.05 * smooth(x, 1) if agrees else smooth(x, 2)
    studies = np.repeat([0, 1], 60)
    between = np.abs(np.tile(x, 2)[:, None] - np.tile(x, 2))

    seen = np.concatenate([own, other])
    h = fit_hyperparameters([between], studies, seen, Prior(), n_others=1)

    assert h.agreement[1] > 0.9 if agrees else h.agreement[1] < 0.5


def test_a_study_without_points_keeps_the_agreement_of_the_prior() -> None:
    between = distances(points(STUDIES), points(STUDIES))

    h = fit_hyperparameters(between, STUDIES, targets(), Prior(), n_others=3)

    assert h.agreement[3] == pytest.approx(1 / (1 + np.exp(-Prior().agreement[0])))


def test_the_useful_comparison_gets_the_weight() -> None:
    rng = np.random.default_rng(0)
    x, useless = np.linspace(0, 10, 60), rng.normal(size=60)
    between = [np.abs(v[:, None] - v) for v in (x, useless)]

    first, second = (
        fit_hyperparameters(each, np.zeros(60, dtype=np.intp), smooth(x, 0), Prior(), n_others=0)
        for each in (between, between[::-1])
    )

    assert first.weights[0] > 0.7
    np.testing.assert_allclose(first.weights, second.weights[::-1], atol=0.02)


def test_rounding_does_not_end_a_search() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=40)
    between = np.abs(x[:, None] - x)
    # Three points, two of them alike but not to the third: no distances of any vectors.
    between[0, 1] = between[1, 0] = 0.0
    between[2, 0] = between[0, 2] = 0.0
    between[1, 2] = between[2, 1] = 1.0
    studies, seen = np.zeros(40, dtype=np.intp), rng.normal(size=40)
    kernel = np.exp(-between / 0.1)
    assert np.linalg.eigvalsh(kernel + LEVEL)[0] < -10 * MIN_NOISE

    h = fit_hyperparameters([between], studies, seen, Prior(), n_others=0)
    short = Hyperparameters(np.array([0.1]), np.ones(1), MIN_NOISE, np.ones(1))
    for one in (h, short):
        mean, std = Posterior.of(one, [between], studies, seen).predict(
            [between.astype(np.float32)]
        )
        assert np.isfinite(mean).all()
        assert (std > 0).all()


def test_the_factor_is_that_of_the_matrix_where_there_is_one() -> None:
    rows = np.random.default_rng(0).normal(size=(6, 6))
    covariance = rows @ rows.T
    lower = cholesky_of(covariance)
    np.testing.assert_allclose(lower @ lower.T, covariance)
    np.testing.assert_array_equal(lower, np.tril(lower))
    with pytest.raises(np.linalg.LinAlgError):
        cholesky_of(-5.0 * np.eye(3))
