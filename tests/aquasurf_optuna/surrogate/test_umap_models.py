"""Other models in the plane: a forest, support vectors, a Gaussian process."""

import pickle
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.optimize import approx_fprime
from sklearn.base import clone

from aquasurf_optuna.exceptions import SurrogateError
from aquasurf_optuna.surrogate import UmapForestSurrogate, UmapGpSurrogate, UmapSvrSurrogate
from aquasurf_optuna.surrogate._umap_gp import fit_process, penalty_of
from tests.aquasurf_optuna.surrogate.candidates import clusters
from tests.oracles.surrogate_oracles import (
    matern_log_likelihood,
    matern_process,
    sampled_improvement,
)

Floats = NDArray[np.float64]
EVERY = np.arange(40)
NOBODY = np.zeros((0, 2))


def wave(n: int = 30, seed: int = 0) -> tuple[Floats, Floats]:
    """Points in the plane, and noisy values of a smooth function there."""
    rng = np.random.default_rng(seed)
    points = rng.normal(size=(n, 2))
    return points, 5 + 2 * np.sin(2 * points[:, 0]) + 0.05 * rng.normal(size=n)


def settings_of(fitted: Any) -> dict[str, float]:
    """Amplitude, length and noise of a fitted process."""
    values = np.exp(fitted.process.kernel_.theta)
    return dict(zip(("amplitude", "length", "noise"), values.tolist(), strict=True))


@pytest.fixture(scope="module")
def planes() -> dict[type, bytes]:
    outputs, fisher, _ = clusters()
    kinds = (UmapForestSurrogate, UmapSvrSurrogate, UmapGpSurrogate)
    return {kind: pickle.dumps(kind().embed(outputs, fisher)) for kind in kinds}


def test_a_process_predicts_as_by_inversion() -> None:
    points, values = wave()
    fitted = fit_process(points, values, NOBODY)
    where = np.random.default_rng(1).normal(size=(12, 2))
    mean, std = fitted.predict(where)

    targets = (values - values.mean()) / values.std()
    expected, spread = matern_process(points, targets, where, **settings_of(fitted))
    np.testing.assert_allclose(mean, values.mean() + values.std() * expected, rtol=1e-6)
    np.testing.assert_allclose(std, values.std() * spread, rtol=1e-4)


def test_the_oracle_of_processes_can_fail() -> None:
    points, values = wave()
    settings = settings_of(fit_process(points, values, NOBODY))
    right = matern_process(points, values, points, **settings)
    wrong = matern_process(points, values, points, **{**settings, "length": 0.1})

    assert not np.allclose(right[0], wrong[0], rtol=1e-2)
    assert not np.allclose(right[1], wrong[1], rtol=1e-2)


def test_hyperparameters_are_the_likeliest() -> None:
    points, values = wave()
    found = settings_of(fit_process(points, values, NOBODY))
    targets = (values - values.mean()) / values.std()

    def loss(theta: Floats) -> float:
        names = ("amplitude", "length", "noise")
        settings = dict(zip(names, np.exp(theta).tolist(), strict=True))
        return penalty_of(theta)[0] - matern_log_likelihood(points, targets, **settings)

    best = np.log(list(found.values()))
    for direction in np.vstack([np.eye(3), -np.eye(3)]):
        assert loss(best + 0.1 * direction) > loss(best)


def test_the_prior_is_a_normal_one() -> None:
    theta = np.array([0.3, -1.2, -4.0])
    middle = np.log([1.0, 0.5, 0.1])

    assert penalty_of(middle)[0] == 0.0
    assert penalty_of(middle + 2.0)[0] == pytest.approx(6.0)
    slope = approx_fprime(theta, lambda t: penalty_of(t)[0])
    np.testing.assert_allclose(penalty_of(theta)[1], slope, rtol=1e-5)


def test_running_points_change_no_prediction_and_narrow_the_spread() -> None:
    points, values = wave()
    running = np.array([[2.5, 2.5], [0.1, 0.1]])
    without, beside = fit_process(points, values, NOBODY), fit_process(points, values, running)
    where = np.vstack([running, [[-2.5, 2.5]]])
    (mean, std), (believed, narrowed) = without.predict(where), beside.predict(where)

    np.testing.assert_allclose(believed, mean, rtol=1e-4)
    assert narrowed[0] < 0.7 * std[0]
    assert narrowed[2] == pytest.approx(std[2], rel=0.05)


def test_many_observations_are_thinned(monkeypatch: pytest.MonkeyPatch) -> None:
    points, values = wave(60)
    whole = fit_process(points, values, NOBODY)
    monkeypatch.setattr("aquasurf_optuna.surrogate._umap_gp._MOST_POINTS", 40)
    monkeypatch.setattr("aquasurf_optuna.surrogate._umap_gp._MOST_FOR_HYPERPARAMETERS", 20)
    thinned = fit_process(points, values, NOBODY)

    assert len(thinned.process.X_train_) == 40
    where = np.random.default_rng(1).normal(size=(50, 2))
    assert np.corrcoef(thinned.predict(where)[0], whole.predict(where)[0])[0, 1] > 0.9


@pytest.mark.parametrize("acquisition", ["greedy", "ucb", "ei", "pi"])
def test_the_papers_four_rules_on_the_plane(planes: dict[type, bytes], acquisition: Any) -> None:
    surrogate = pickle.loads(planes[UmapGpSurrogate])
    surrogate.set_params(acquisition=acquisition, exploration=0.2)
    labels = clusters()[2]
    values = labels[:8] / 10 + 0.1 * np.sin(EVERY[:8])
    mean, std = surrogate.fit(EVERY[:8], values).predict(EVERY, return_std=True)
    worth = surrogate.acquire(EVERY)

    threshold = values.max() + 0.2 * std.mean()
    gain, probability = sampled_improvement(mean, std, threshold)
    expected = {"greedy": mean, "ucb": mean + 0.2 * std, "ei": gain, "pi": probability}
    said = np.exp(worth) if acquisition == "pi" else worth
    np.testing.assert_allclose(said, expected[acquisition], atol=2e-3)


def test_the_spread_of_a_forest_is_that_of_its_trees(planes: dict[type, bytes]) -> None:
    surrogate = pickle.loads(planes[UmapForestSurrogate])
    rng = np.random.default_rng(0)
    surrogate.fit(np.arange(20), rng.normal(size=20))
    mean, std = surrogate.predict(EVERY, return_std=True)

    trees = surrogate.model_.estimators_
    each = np.array([tree.predict(surrogate.embedding_) for tree in trees])
    assert len(trees) == 100
    np.testing.assert_allclose(mean, surrogate.model_.predict(surrogate.embedding_))
    np.testing.assert_allclose(std**2, np.mean((each - mean) ** 2, axis=0))
    assert std.max() > 0.1


def test_a_forest_can_explore(planes: dict[type, bytes]) -> None:
    surrogate = pickle.loads(planes[UmapForestSurrogate])
    surrogate.set_params(acquisition="ucb", exploration=2.0)
    surrogate.fit(np.arange(20), np.random.default_rng(0).normal(size=20))
    mean, std = surrogate.predict(EVERY, return_std=True)

    np.testing.assert_allclose(surrogate.acquire(EVERY), mean + 2.0 * std)


def test_support_vectors_know_no_spread_and_no_scale(planes: dict[type, bytes]) -> None:
    surrogate = pickle.loads(planes[UmapSvrSurrogate])
    values = np.random.default_rng(0).normal(size=20)
    mean, std = surrogate.fit(np.arange(20), values).predict(EVERY, return_std=True)
    scaled = surrogate.fit(np.arange(20), 1000 * values + 5).predict(EVERY)

    assert np.isnan(std).all()
    np.testing.assert_allclose(scaled, 1000 * mean + 5, rtol=1e-3, atol=1.0)


def test_a_large_tolerance_costs_support_vectors_their_opinion(planes: dict[type, bytes]) -> None:
    surrogate = pickle.loads(planes[UmapSvrSurrogate])
    surrogate.set_params(tolerance=10.0)
    predicted = surrogate.fit(np.arange(20), clusters()[2][:20]).predict(EVERY)

    np.testing.assert_allclose(predicted, predicted[0])


def test_one_seed_lays_all_of_them_out_alike(planes: dict[type, bytes]) -> None:
    layouts = [pickle.loads(plane).embedding_ for plane in planes.values()]

    np.testing.assert_array_equal(layouts[0], layouts[1])
    np.testing.assert_array_equal(layouts[0], layouts[2])


@pytest.mark.parametrize("kind", [UmapForestSurrogate, UmapSvrSurrogate, UmapGpSurrogate])
def test_they_are_scikit_learn_estimators(kind: Any) -> None:
    changed = kind(features="fisher", random_state=5)

    assert clone(changed).get_params() == changed.get_params()


@pytest.mark.parametrize(
    ("surrogate", "problem"),
    [
        (UmapForestSurrogate(n_trees=0), "n_trees of UmapForestSurrogate .* but got 0"),
        (UmapForestSurrogate(n_trees=1.5), "n_trees of UmapForestSurrogate .* but got 1.5"),
        (UmapForestSurrogate(exploration=-1), "exploration of UmapForestSurrogate .* but got -1"),
        (UmapSvrSurrogate(penalty=0), "penalty of UmapSvrSurrogate .* above 0, but got 0"),
        (UmapSvrSurrogate(tolerance=-1), "tolerance of UmapSvrSurrogate .* but got -1"),
        (UmapSvrSurrogate(tolerance=np.inf), "tolerance of UmapSvrSurrogate .* but got inf"),
        (UmapGpSurrogate(acquisition="most"), "acquisition of UmapGpSurrogate .* but got 'most'"),
        (UmapGpSurrogate(features="fim"), "features of UmapGpSurrogate .* but got 'fim'"),
    ],
)
def test_wrong_settings_are_refused(surrogate: Any, problem: str) -> None:
    outputs, fisher, _ = clusters(6)
    with pytest.raises(SurrogateError, match=problem):
        surrogate.embed(outputs, fisher)
