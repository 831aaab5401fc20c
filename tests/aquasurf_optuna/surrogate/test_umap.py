"""The graphs that UMAP lays out: those of UMAP itself, and of the sum of two."""

import warnings

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from aquasurf_optuna.surrogate import _umap
from tests.aquasurf_optuna.surrogate.candidates import clusters
from tests.oracles.surrogate_oracles import umap_graph, umap_union_graph

MANHATTAN = _umap.GraphSettings(metric="manhattan", n_neighbors=3)
EUCLIDEAN = _umap.GraphSettings(metric="euclidean", n_neighbors=15)


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


def test_importing_the_surrogate_is_quick_and_quiet() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert hasattr(_umap._library(), "UMAP")
