"""The paper's surrogate: nearest neighbours in the plane, or any regressor."""

import pickle
from typing import Any

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.ensemble import RandomForestRegressor
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor

from aquasurf_optuna.exceptions import SurrogateError
from aquasurf_optuna.surrogate import UmapKnnSurrogate
from tests.aquasurf_optuna.surrogate.candidates import clusters
from tests.oracles.surrogate_oracles import nearest_average


@pytest.fixture(scope="module")
def embedded() -> UmapKnnSurrogate:
    outputs, fisher, _ = clusters()
    return UmapKnnSurrogate(random_state=0).embed(outputs, fisher)


@pytest.fixture
def surrogate(embedded: UmapKnnSurrogate) -> UmapKnnSurrogate:
    return pickle.loads(pickle.dumps(embedded))


def test_prediction_is_weighted_nearest_neighbour_regression(surrogate: UmapKnnSurrogate) -> None:
    rng = np.random.default_rng(0)
    rows, values = rng.choice(40, size=12, replace=False), rng.normal(size=12)
    surrogate.fit(rows, values)
    plane = surrogate.embedding_

    expected = nearest_average(plane[rows], values, plane, k=3)
    np.testing.assert_allclose(surrogate.predict(np.arange(40)), expected, rtol=1e-9)
    np.testing.assert_allclose(surrogate.predict(rows), values, rtol=1e-9)


def test_the_regression_oracle_can_fail(surrogate: UmapKnnSurrogate) -> None:
    rng = np.random.default_rng(0)
    rows, values = rng.choice(40, size=12, replace=False), rng.normal(size=12)
    surrogate.fit(rows, values)
    plane = surrogate.embedding_

    wrong = nearest_average(plane[rows], values, plane, k=4)
    assert not np.allclose(surrogate.predict(np.arange(40)), wrong)


def test_good_neighbours_promise_good_values(surrogate: UmapKnnSurrogate) -> None:
    labels = clusters()[2]
    surrogate.fit(np.arange(8), labels[:8])

    predicted = surrogate.predict(np.arange(8, 40))
    assert np.corrcoef(predicted, labels[8:])[0, 1] > 0.9


def test_another_regressor(surrogate: UmapKnnSurrogate) -> None:
    forest = RandomForestRegressor(n_estimators=5, random_state=0)
    surrogate.regressor = forest
    predicted = surrogate.fit([0, 1, 2, 3], [0.0, 1.0, 2.0, 3.0]).predict(np.arange(40))

    assert isinstance(surrogate.regressor_, RandomForestRegressor)
    assert surrogate.regressor_ is not forest
    assert not hasattr(forest, "estimators_")
    np.testing.assert_array_equal(
        predicted,
        surrogate.regressor_.predict(surrogate.embedding_),
    )


def test_another_nearest_neighbour_regressor_works_from_the_first_trial_on(
    surrogate: UmapKnnSurrogate,
) -> None:
    surrogate.regressor = KNeighborsRegressor(n_neighbors=8)

    np.testing.assert_array_equal(surrogate.fit([0, 1], [0.0, 1.0]).predict([7]), [0.5])


def test_it_is_a_scikit_learn_estimator() -> None:
    regressor = KNeighborsRegressor()
    surrogate = UmapKnnSurrogate(
        features="fisher", n_neighbors=5, regressor=regressor, random_state=3
    )
    copy = clone(surrogate)

    assert set(surrogate.get_params(deep=False)) == {
        "features",
        "n_neighbors",
        "regressor",
        "fisher_neighbors",
        "output_neighbors",
        "n_components",
        "random_state",
    }
    assert (copy.features, copy.n_neighbors, copy.random_state) == ("fisher", 5, 3)
    assert surrogate.regressor is regressor


def test_a_pickled_surrogate_predicts_the_same(surrogate: UmapKnnSurrogate) -> None:
    surrogate.fit([0, 1], [0.0, 1.0])
    copy = pickle.loads(pickle.dumps(surrogate))

    rows = np.arange(40)
    np.testing.assert_array_equal(copy.predict(rows), surrogate.predict(rows))


@pytest.mark.parametrize(
    ("parameters", "problem"),
    [
        ({"features": "fim"}, r"features of UmapKnnSurrogate .* but got 'fim'"),
        ({"n_neighbors": 0}, "n_neighbors of UmapKnnSurrogate must .* but got 0"),
        ({"n_neighbors": 2.5}, "n_neighbors of UmapKnnSurrogate must .* but got 2.5"),
        ({"fisher_neighbors": 1}, "fisher_neighbors of .* at least 2, but got 1"),
        ({"output_neighbors": 1.0}, "output_neighbors of .* at least 2, but got 1.0"),
        ({"n_components": 0}, "n_components of .* at least 1, but got 0"),
        ({"random_state": -1}, "random_state of UmapKnnSurrogate must .* but got -1"),
        ({"random_state": None}, "random_state of UmapKnnSurrogate must .* but got None"),
        ({"regressor": "svr"}, "regressor of UmapKnnSurrogate must .* but got 'svr'"),
        ({"regressor": KNeighborsClassifier()}, "regressor of .* but got KNeighborsClassifier"),
    ],
)
def test_wrong_parameters_are_refused(parameters: dict[str, Any], problem: str) -> None:
    outputs, fisher, _ = clusters()
    surrogate = UmapKnnSurrogate(**parameters)

    with pytest.raises(SurrogateError, match=problem):
        surrogate.embed(outputs, fisher)
