"""The surrogate: what it predicts from, that a seed decides it, and what it refuses."""

import pickle
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.spatial.distance import cdist
from sklearn.base import clone
from sklearn.ensemble import RandomForestRegressor
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor

from aquasurf_optuna.exceptions import SurrogateError
from aquasurf_optuna.surrogate import UmapKnnSurrogate, _umap
from tests.oracles.surrogate_oracles import nearest_average, umap_graph, umap_union_graph

Floats = NDArray[np.float64]

MANHATTAN = _umap.GraphSettings(metric="manhattan", n_neighbors=3)
EUCLIDEAN = _umap.GraphSettings(metric="euclidean", n_neighbors=15)


def clusters(n: int = 40, seed: int = 0) -> tuple[Floats, Floats, NDArray[np.intp]]:
    """Four clusters in outputs and in Fisher vectors: features of both, and the cluster numbers."""
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % 4
    outputs = 3.0 * rng.normal(size=(4, 50))[labels] + 0.3 * rng.normal(size=(n, 50))
    fisher = 9.0 * rng.normal(size=(4, 20))[labels] + 0.3 * rng.normal(size=(n, 20))
    return outputs, fisher, labels


@pytest.fixture(scope="module")
def embedded() -> UmapKnnSurrogate:
    outputs, fisher, _ = clusters()
    return UmapKnnSurrogate(random_state=0).embed(outputs, fisher)


@pytest.fixture
def surrogate(embedded: UmapKnnSurrogate) -> UmapKnnSurrogate:
    return pickle.loads(pickle.dumps(embedded))


@pytest.mark.parametrize("settings", [MANHATTAN, EUCLIDEAN], ids=lambda s: s.metric)
@pytest.mark.parametrize("n_duplicates", [0, 6])
def test_the_graph_is_that_of_umap(settings: _umap.GraphSettings, n_duplicates: int) -> None:
    features = np.random.default_rng(0).normal(size=(40, 10)).astype(np.float32).astype(np.float64)
    features[40 - n_duplicates :] = features[0]
    graph = _umap._graph(features, settings, np.random.RandomState(0))
    # Among more duplicates than neighbours, which are the nearest is anyone's choice.
    rows = slice(None) if n_duplicates < settings.n_neighbors else slice(1, 40 - n_duplicates)

    expected = umap_graph(features, settings.metric, settings.n_neighbors)
    np.testing.assert_allclose(graph.toarray()[rows, rows], expected[rows, rows], atol=1e-5)


def test_the_graph_oracle_can_fail() -> None:
    features = np.random.default_rng(0).normal(size=(40, 10))
    graph = _umap._graph(features, MANHATTAN, np.random.RandomState(0))

    assert not np.allclose(graph.toarray(), umap_graph(features, "euclidean", 3), atol=1e-5)
    assert not np.allclose(graph.toarray(), umap_graph(features, "manhattan", 4), atol=1e-5)


def test_the_union_is_the_sum_of_two_umaps() -> None:
    outputs, fisher, _ = clusters()
    random_state = np.random.RandomState(0)
    graphs = [
        _umap._graph(part, settings, random_state)
        for part, settings in ((fisher, MANHATTAN), (outputs, EUCLIDEAN))
    ]
    union = _umap._united(graphs).toarray()

    expected = umap_union_graph((fisher, "manhattan", 3), (outputs, "euclidean", 15))
    # A bisection in the union turns rounding into differences of this size.
    np.testing.assert_allclose(union, expected, atol=3e-3)
    wrong = umap_union_graph((fisher, "manhattan", 3), (outputs, "euclidean", 14))
    assert not np.allclose(union, wrong, atol=3e-3)


@pytest.mark.slow  # the approximate search takes half a minute to compile
def test_wide_features_are_searched_approximately(monkeypatch: pytest.MonkeyPatch) -> None:
    features = clusters()[0]
    exact, distances = _umap._neighbours(features, "euclidean", 5, np.random.RandomState(0))
    monkeypatch.setattr(_umap, "_MOST_STEPS_FOR_ALL_DISTANCES", 0)
    found, about = _umap._neighbours(features, "euclidean", 5, np.random.RandomState(0))

    assert np.mean(np.sort(exact, axis=1) == np.sort(found, axis=1)) > 0.9
    np.testing.assert_allclose(about[:, 1], distances[:, 1], rtol=1e-4)


def test_neighbours_are_exact_and_begin_with_the_row_itself() -> None:
    features = clusters()[0]
    indices, distances = _umap._neighbours(features, "euclidean", 4, np.random.RandomState(0))

    every = cdist(features, features)
    np.testing.assert_array_equal(indices[:, 0], np.arange(len(features)))
    assert not distances[:, 0].any()
    np.testing.assert_allclose(distances, np.sort(every, axis=1)[:, :4], rtol=1e-6)


@pytest.mark.parametrize("features", ["both", "fisher", "outputs"])
def test_the_seed_decides_the_embedding(features: str) -> None:
    outputs, fisher, _ = clusters()

    def embedding(seed: int) -> Floats:
        surrogate = UmapKnnSurrogate(features=features, random_state=seed)
        return np.asarray(surrogate.embed(outputs, fisher).embedding_)

    first = embedding(1)
    np.testing.assert_array_equal(first, embedding(1))
    assert not np.allclose(first, embedding(2))


def test_the_global_random_state_is_left_alone() -> None:
    def state() -> Any:
        return np.random.get_state()[1].copy()  # noqa: NPY002  # the legacy state is in question

    before = state()
    UmapKnnSurrogate().embed(*clusters()[:2])
    np.testing.assert_array_equal(before, state())


@pytest.mark.parametrize("features", ["both", "fisher", "outputs"])
def test_neighbours_in_the_features_are_neighbours_in_the_plane(features: str) -> None:
    outputs, fisher, labels = clusters()
    embedding = UmapKnnSurrogate(features=features).embed(outputs, fisher).embedding_

    assert embedding.shape == (40, 2)
    assert embedding.dtype == np.float64
    distances = cdist(embedding, embedding)
    np.fill_diagonal(distances, np.inf)
    assert np.mean(labels[distances.argmin(axis=1)] == labels) > 0.9


def test_features_that_are_not_asked_for_are_not_needed() -> None:
    outputs, fisher, _ = clusters()
    noise = np.random.default_rng(1).normal(size=fisher.shape)

    alone = UmapKnnSurrogate(features="outputs").embed(outputs).embedding_
    beside = UmapKnnSurrogate(features="outputs").embed(outputs, noise).embedding_
    np.testing.assert_array_equal(alone, beside)
    alone = UmapKnnSurrogate(features="fisher").embed(fisher=fisher).embedding_
    beside = UmapKnnSurrogate(features="fisher").embed(outputs, fisher).embedding_
    np.testing.assert_array_equal(alone, beside)


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 6, 16, 17])
@pytest.mark.parametrize("features", ["both", "fisher", "outputs"])
def test_few_rows_are_enough(n: int, features: str) -> None:
    outputs, fisher, _ = clusters(n)
    surrogate = UmapKnnSurrogate(features=features).embed(outputs, fisher).fit([0], [1.5])

    assert surrogate.embedding_.shape == (n, 2)
    assert np.isfinite(surrogate.embedding_).all()
    np.testing.assert_allclose(surrogate.predict(np.arange(n)), 1.5)


@pytest.mark.parametrize("n", [2, 3])
def test_the_distances_of_few_rows_are_kept(n: int) -> None:
    outputs = clusters(n)[0]
    embedding = UmapKnnSurrogate(features="outputs").embed(outputs).embedding_

    distances = cdist(outputs, outputs)
    np.testing.assert_allclose(cdist(embedding, embedding), distances / distances.max(), atol=1e-7)


@pytest.mark.parametrize("n", [3, 8, 40])
def test_equal_rows_are_no_obstacle(n: int) -> None:
    surrogate = UmapKnnSurrogate().embed(np.ones((n, 5)), np.ones((n, 7)))

    assert np.isfinite(surrogate.embedding_).all()


def test_wild_outputs_are_cut() -> None:
    outputs = clusters()[0]
    wild, tame = outputs.copy(), outputs.copy()
    wild[3, :4] = [np.inf, -np.inf, np.nan, 1e300]
    tame[3, :4] = [20.0, -20.0, 20.0, 20.0]

    def embedding(values: Floats) -> Floats:
        return np.asarray(UmapKnnSurrogate(features="outputs").embed(values).embedding_)

    np.testing.assert_array_equal(embedding(wild), embedding(tame))


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


def test_observations_accumulate(surrogate: UmapKnnSurrogate) -> None:
    plane = surrogate.embedding_.copy()
    np.testing.assert_array_equal(surrogate.fit([4], [2.0]).predict([5, 6]), [2.0, 2.0])
    surrogate.fit([4, 5], [2.0, 3.0])

    np.testing.assert_array_equal(surrogate.predict([5]), [3.0])
    np.testing.assert_array_equal(surrogate.embedding_, plane)


def test_a_row_observed_twice_counts_once_with_its_mean(surrogate: UmapKnnSurrogate) -> None:
    twice = surrogate.fit([1, 2, 1, 3, 5], [0.0, 5.0, 2.0, 6.0, 9.0]).predict(np.arange(40))
    once = surrogate.fit([1, 2, 3, 5], [1.0, 5.0, 6.0, 9.0]).predict(np.arange(40))

    np.testing.assert_array_equal(twice, once)


def test_nothing_to_predict(surrogate: UmapKnnSurrogate) -> None:
    assert surrogate.fit([0], [1.0]).predict([]).shape == (0,)


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


def test_new_rows_stand_beside_their_nearest_neighbours(surrogate: UmapKnnSurrogate) -> None:
    outputs, fisher, _ = clusters()
    before = surrogate.embedding_.copy()
    surrogate.extend(outputs[[7, 9]] + 1e-3, fisher[[7, 9]] + 1e-3)

    np.testing.assert_array_equal(surrogate.embedding_, np.vstack([before, before[[7, 9]]]))
    np.testing.assert_array_equal(surrogate.fit([40], [4.0]).predict([7]), [4.0])


def test_both_features_decide_where_new_rows_stand(surrogate: UmapKnnSurrogate) -> None:
    outputs, fisher, labels = clusters()
    # Half-way between rows 0 and 1 in the outputs, at row 1 in the Fisher vectors.
    surrogate.extend((outputs[:1] + outputs[1:2]) / 2, fisher[1:2])

    assert labels[0] != labels[1]
    np.testing.assert_array_equal(surrogate.embedding_[40], surrogate.embedding_[1])


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
        "random_state",
    }
    assert (copy.features, copy.n_neighbors, copy.random_state) == ("fisher", 5, 3)
    assert surrogate.regressor is regressor


def test_a_pickled_surrogate_predicts_the_same(surrogate: UmapKnnSurrogate) -> None:
    surrogate.fit([0, 1], [0.0, 1.0])
    copy = pickle.loads(pickle.dumps(surrogate))

    rows = np.arange(40)
    np.testing.assert_array_equal(copy.predict(rows), surrogate.predict(rows))


def test_embedding_again_forgets_the_observations(surrogate: UmapKnnSurrogate) -> None:
    outputs, fisher, _ = clusters()
    surrogate.fit([0], [1.0]).embed(outputs, fisher)

    with pytest.raises(SurrogateError, match=r"call fit\(\)"):
        surrogate.predict([0])


def test_importing_the_surrogate_is_quick_and_quiet() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert hasattr(_umap._library(), "UMAP")


@pytest.mark.parametrize(
    ("parameters", "problem"),
    [
        ({"features": "fim"}, r"features of UmapKnnSurrogate .* but got 'fim'"),
        ({"n_neighbors": 0}, "n_neighbors of UmapKnnSurrogate must .* but got 0"),
        ({"n_neighbors": 2.5}, "n_neighbors of UmapKnnSurrogate must .* but got 2.5"),
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


@pytest.mark.parametrize(
    ("outputs", "fisher", "problem"),
    [
        (None, np.ones((4, 2)), "features='both' needs outputs, but got None"),
        (np.ones((4, 2)), None, "features='both' needs fisher, but got None"),
        (np.ones((4, 2)), np.ones((5, 2)), "equally many rows"),
        (np.ones(4), np.ones((4, 2)), r"outputs must be a non-empty array .* got \(4,\)"),
        (np.ones((0, 2)), np.ones((0, 2)), r"fisher must be a non-empty array .* got \(0, 2\)"),
        (np.ones((4, 2)), np.diag([1, 1, np.nan, 1]), "fisher must be finite, but row 2 is not"),
    ],
)
def test_wrong_features_are_refused(outputs: Any, fisher: Any, problem: str) -> None:
    with pytest.raises(SurrogateError, match=problem):
        UmapKnnSurrogate().embed(outputs, fisher)


@pytest.mark.parametrize(
    ("rows", "values", "problem"),
    [
        ([0, 1], [1.0], "equally long"),
        ([], [], "at least one observation"),
        ([0, 40], [1.0, 2.0], "integers from 0 to 39"),
        ([-1], [1.0], "integers from 0 to 39"),
        ([0.5], [1.0], "one-dimensional array of integers"),
        ([[0]], [[1.0]], "one-dimensional array of integers"),
        ([0, 3], [1.0, np.nan], "but got nan for row 3"),
    ],
)
def test_wrong_observations_are_refused(
    surrogate: UmapKnnSurrogate, rows: Any, values: Any, problem: str
) -> None:
    with pytest.raises(SurrogateError, match=problem):
        surrogate.fit(rows, values)


@pytest.mark.parametrize(
    ("call", "problem"),
    [
        (lambda s: s.fit([0], [1.0]), r"call embed\(\)"),
        (lambda s: s.extend(np.ones((1, 2)), np.ones((1, 2))), r"call embed\(\)"),
        (lambda s: s.predict([0]), r"call fit\(\)"),
    ],
)
def test_the_order_of_calls_is_told(call: Callable[[Any], Any], problem: str) -> None:
    with pytest.raises(SurrogateError, match=problem):
        call(UmapKnnSurrogate())


def test_new_rows_must_have_the_same_columns(surrogate: UmapKnnSurrogate) -> None:
    with pytest.raises(SurrogateError, match="fisher must have 20 columns, as in embed, but got 3"):
        surrogate.extend(np.ones((1, 50)), np.ones((1, 3)))


def test_torch_keeps_its_number_of_threads() -> None:
    rng = np.random.default_rng(0)
    before = torch.get_num_threads()
    assert before == 1
    UmapKnnSurrogate(features="outputs").embed(rng.normal(size=(30, 5)), None)
    assert torch.get_num_threads() == before
