"""The plane: neighbours stay neighbours, a seed decides it, and newcomers find a place."""

import pickle
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.spatial.distance import cdist
from threadpoolctl import threadpool_info, threadpool_limits

from aquasurf_optuna.surrogate import UmapKnnSurrogate, _umap
from tests.aquasurf_optuna.surrogate.candidates import clusters

Floats = NDArray[np.float64]


@pytest.fixture(scope="module")
def embedded() -> UmapKnnSurrogate:
    outputs, fisher, _ = clusters()
    return UmapKnnSurrogate(random_state=0).embed(outputs, fisher)


@pytest.fixture
def surrogate(embedded: UmapKnnSurrogate) -> UmapKnnSurrogate:
    return pickle.loads(pickle.dumps(embedded))


@pytest.mark.parametrize("features", ["both", "fisher", "outputs"])
def test_the_seed_decides_the_embedding(features: str) -> None:
    outputs, fisher, _ = clusters()

    def embedding(seed: int) -> Floats:
        _umap.forget_layouts()
        surrogate = UmapKnnSurrogate(features=features, random_state=seed)
        return np.asarray(surrogate.embed(outputs, fisher).embedding_)

    first = embedding(1)
    np.testing.assert_array_equal(first, embedding(1))
    assert not np.allclose(first, embedding(2))


def test_the_embedding_does_not_hang_on_the_number_of_threads(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    outputs, fisher, _ = clusters(300)

    def embedding(threads: int) -> Floats:
        _umap.forget_layouts()
        with threadpool_limits(limits=threads):
            return np.asarray(UmapKnnSurrogate().embed(outputs, fisher).embedding_)

    seen: list[int] = []
    layout = _umap._layout

    def watched(*arguments: Any) -> Floats:
        seen.extend(pool["num_threads"] for pool in threadpool_info())
        return layout(*arguments)

    monkeypatch.setattr(_umap, "_layout", watched)
    np.testing.assert_array_equal(embedding(1), embedding(2))
    assert set(seen) == {1}


def test_the_same_is_laid_out_once(monkeypatch: pytest.MonkeyPatch) -> None:
    outputs, fisher, _ = clusters()
    layout, laid_out = _umap._layout, []

    def watched(*arguments: Any) -> Floats:
        laid_out.append(arguments)
        return layout(*arguments)

    monkeypatch.setattr(_umap, "_layout", watched)
    _umap.forget_layouts()
    first = UmapKnnSurrogate().embed(outputs, fisher).embedding_
    kept = first.copy()
    first += 1.0
    np.testing.assert_array_equal(UmapKnnSurrogate().embed(outputs, fisher).embedding_, kept)
    assert len(laid_out) == 1
    others = [
        UmapKnnSurrogate(random_state=1),
        UmapKnnSurrogate(features="outputs"),
        UmapKnnSurrogate(fisher_neighbors=4),
        UmapKnnSurrogate(output_neighbors=5),
        UmapKnnSurrogate(n_components=3),
    ]
    for number, other in enumerate(others, start=2):
        assert not np.array_equal(other.embed(outputs, fisher).embedding_[:, :2], kept)
        assert len(laid_out) == number
    UmapKnnSurrogate().embed(outputs + 1e-3, fisher)
    assert len(laid_out) == len(others) + 2


def test_only_the_last_layouts_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_umap, "_MOST_REMEMBERED", 2)
    _umap.forget_layouts()
    outputs, fisher, _ = clusters()
    for seed in range(4):
        UmapKnnSurrogate(random_state=seed).embed(outputs, fisher)
        assert len(_umap._remembered) == min(seed + 1, 2)


@pytest.mark.parametrize("n_components", [1, 2, 3])
@pytest.mark.parametrize("n", [2, 5, 30])
def test_a_layout_has_the_dimensions_it_is_told(n_components: int, n: int) -> None:
    outputs, fisher, _ = clusters(n)
    surrogate = UmapKnnSurrogate(n_components=n_components).embed(outputs, fisher)
    assert surrogate.embedding_.shape == (n, n_components)
    assert np.isfinite(surrogate.fit([0], [1.0]).predict([1])).all()


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


def test_torch_keeps_its_number_of_threads() -> None:
    rng = np.random.default_rng(0)
    before = torch.get_num_threads()
    assert before == 1
    UmapKnnSurrogate(features="outputs").embed(rng.normal(size=(30, 5)), None)
    assert torch.get_num_threads() == before
