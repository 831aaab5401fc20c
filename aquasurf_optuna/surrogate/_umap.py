"""The union of UMAP models, made to follow one seed.

``UMAP(...) + UMAP(...)`` lays its result out with the seed 42 inside, whatever the seeds of its
parents, and computes an embedding of each parent only to drop it. The same steps are therefore
taken here one by one, with the functions that UMAP is made of (McInnes et al., 2018):

    features (n, m) -> nearest neighbours (n, k) -> fuzzy graph (n, n) -> union -> layout (n, 2)

UMAP takes seconds to import, so it is imported when the first embedding is wanted. The last
layouts are remembered: whoever asks again, with a new study or another model on the same map, need
not wait.
"""

from __future__ import annotations

import hashlib
import importlib
import threading
import warnings
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from scipy.sparse.csgraph import connected_components
from sklearn.metrics import pairwise_distances
from sklearn.neighbors import NearestNeighbors
from sklearn.utils.extmath import svd_flip
from threadpoolctl import threadpool_limits

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Features = NDArray[np.floating[Any]]

N_COMPONENTS = 2
MIN_DIST = 0.1
SPREAD = 1.0
# UMAP's own defaults.
_REPULSION_STRENGTH = 1.0
_NEGATIVE_SAMPLE_RATE = 5
_LEARNING_RATE = 1.0

_FEWEST_ROWS_BESIDE = 3

# All distances of n rows of length m cost n^2 m steps, 0.5 ns each on one core; the approximate
# search costs about 20 s to compile once and then grows as n log n. They break even near here:
# 2,000 rows of 2,500 values, or 860 of the 13,692 of All-CNN-C's histograms.
_MOST_STEPS_FOR_ALL_DISTANCES = 1e10

_MOST_REMEMBERED = 32
_remembered: OrderedDict[str, Floats] = OrderedDict()
_remembering = threading.Lock()


@dataclass(frozen=True)
class GraphSettings:
    """How the neighbourhood graph of one feature is built.

    Attributes:
        metric: Name of the distance, as UMAP and scikit-learn know it.
        n_neighbors: Size of a neighbourhood, the row itself included.
    """

    metric: str
    n_neighbors: int


def embed(
    parts: Sequence[tuple[Features, GraphSettings]],
    *,
    seed: int,
    n_components: int = N_COMPONENTS,
) -> Floats:
    """Lay out the union of the parts' neighbourhood graphs in the plane, or in a space.

    Args:
        parts: One or two float arrays ``(n, m_i)``, finite, with how to compare their rows.
        seed: Seed of everything random in it.
        n_components: Number of dimensions.

    Returns:
        float64 array ``(n, n_components)``, the caller's own.
    """
    key = _key(parts, seed, n_components)
    with _remembering:
        known = _remembered.get(key)
    if known is None:
        known = _embedded(parts, seed, n_components)
    with _remembering:
        _remembered[key] = known
        _remembered.move_to_end(key)
        while len(_remembered) > _MOST_REMEMBERED:
            _remembered.popitem(last=False)
    return known.copy()


def forget_layouts() -> None:
    """Lay out anew whatever is asked for from now on."""
    with _remembering:
        _remembered.clear()


def _key(parts: Sequence[tuple[Features, GraphSettings]], seed: int, n_components: int) -> str:
    known = hashlib.sha256(f"{seed} {n_components}".encode())
    for features, settings in parts:
        known.update(f"{settings} {features.dtype} {features.shape}".encode())
        known.update(np.ascontiguousarray(features).data)
    return known.hexdigest()


def _embedded(
    parts: Sequence[tuple[Features, GraphSettings]], seed: int, n_components: int
) -> Floats:
    # The spectral initialisation needs more rows than it has dimensions to find.
    if len(parts[0][0]) < n_components + _FEWEST_ROWS_BESIDE:
        return _classical_scaling(parts, n_components)
    random_state = np.random.RandomState(seed)  # the generator that UMAP takes
    # Numba, which UMAP runs on, sets the number of threads of the OpenMP library that torch shares.
    threads = torch.get_num_threads()
    try:
        # Sums round otherwise with other numbers of threads, and a layout makes much of little.
        with threadpool_limits(limits=1):
            graphs = [_graph(features, settings, random_state) for features, settings in parts]
            return _layout(_united(graphs), parts, random_state, n_components)
    finally:
        torch.set_num_threads(threads)


def _library() -> Any:
    """Import UMAP, without its remark that TensorFlow, which nothing here needs, is missing."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return importlib.import_module("umap.umap_")


def _graph(features: Features, settings: GraphSettings, random_state: Any) -> Any:
    """Build the fuzzy graph of one feature, as ``UMAP(...).fit(features).graph_`` does."""
    # UMAP cuts neighbourhoods down like this where it warns that the data are too few.
    n_neighbors = min(settings.n_neighbors, len(features) - 1)
    indices, distances = _neighbours(features, settings.metric, n_neighbors, random_state)
    return _library().fuzzy_simplicial_set(
        features,
        n_neighbors,
        random_state,
        settings.metric,
        knn_indices=indices,
        knn_dists=distances,
    )[0]


def _neighbours(
    features: Features, metric: str, n_neighbors: int, random_state: Any
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Find each row's nearest rows, itself first: ``(n, n_neighbors)`` indices and distances."""
    if features.shape[0] ** 2 * features.shape[1] > _MOST_STEPS_FOR_ALL_DISTANCES:
        found: tuple[NDArray[np.int32], NDArray[np.float32]] = _library().nearest_neighbors(
            features.astype(np.float32, copy=False),
            n_neighbors,
            metric,
            {},
            False,
            random_state,
            n_jobs=1,
        )[:2]
        return found
    features = features.astype(np.float64)
    search = NearestNeighbors(n_neighbors=n_neighbors, metric=metric, algorithm="brute")
    indices = search.fit(features).kneighbors(features, return_distance=False)
    # The search takes Euclidean distances from scalar products, so that a row lies 1e-8 away from
    # itself and from its duplicates, where UMAP tells zero from non-zero: measure those few again.
    order = {"manhattan": 1, "euclidean": 2}[metric]
    distances = np.stack(
        [np.linalg.norm(features - features[column], ord=order, axis=1) for column in indices.T],
        axis=1,
    )
    ranks = np.argsort(distances, axis=1, kind="stable")
    return (
        np.take_along_axis(indices, ranks, axis=1).astype(np.int32),
        np.take_along_axis(distances, ranks, axis=1).astype(np.float32),
    )


def _united(graphs: Sequence[Any]) -> Any:
    if len(graphs) == 1:
        return graphs[0]
    for graph in graphs:
        _cut_weak_edges(graph)
    union = _library().general_simplicial_set_union(*graphs)
    return _library().reset_local_connectivity(union, True)


def _cut_weak_edges(graph: Any) -> None:
    """Set to zero the edges too weak to be visited in a layout, as UMAP's own layouts do.

    ``UMAP(...) + UMAP(...)`` unites graphs that were laid out before, and a layout leaves its mark
    on the graph: without it, faint edges come out of the union strong.
    """
    epochs = 500 if graph.shape[0] <= 10_000 else 200
    graph.data[graph.data < graph.data.max() / epochs] = 0.0


def _layout(
    graph: Any,
    parts: Sequence[tuple[Features, GraphSettings]],
    random_state: Any,
    n_components: int,
) -> Floats:
    """Optimise coordinates for `graph`, which is that of the one part or the union of two."""
    features, settings = parts[0]
    # Components of one feature's graph are placed by their distances in that feature; for those of
    # a union there is no such distance, and UMAP begins at random.
    spectral = len(parts) == 1 or connected_components(graph)[0] == 1
    a, b = _library().find_ab_params(SPREAD, MIN_DIST)
    with warnings.catch_warnings():
        # Where the eigenvectors do not converge, UMAP says so and begins at random: no news.
        warnings.simplefilter("ignore")
        embedding, _ = _library().simplicial_set_embedding(
            features.astype(np.float32, copy=False),
            graph,
            n_components,
            _LEARNING_RATE,
            a,
            b,
            _REPULSION_STRENGTH,
            _NEGATIVE_SAMPLE_RATE,
            None,
            "spectral" if spectral else "random",
            random_state,
            settings.metric,
            {},
            False,
            {},
            False,
        )
    return np.asarray(embedding, dtype=np.float64)


def _classical_scaling(
    parts: Sequence[tuple[Features, GraphSettings]], n_components: int
) -> Floats:
    """Place a handful of rows so that their distances are as in the features.

    Distances are divided by the largest of their feature and averaged over the features.
    """
    distances = np.mean([_scaled_distances(*part) for part in parts], axis=0)
    n = len(distances)
    centring = np.eye(n) - 1.0 / n
    values, vectors = np.linalg.eigh(-0.5 * centring @ distances**2 @ centring)
    # The sign of an eigenvector is arbitrary: fix it, so that every machine agrees.
    vectors, _ = svd_flip(vectors, None)
    scaled = (vectors * np.sqrt(np.maximum(values, 0.0)))[:, ::-1]
    embedding = np.zeros((n, n_components))
    embedding[:, : min(n, n_components)] = scaled[:, :n_components]
    return embedding


def _scaled_distances(features: Features, settings: GraphSettings) -> Floats:
    distances: Floats = pairwise_distances(features.astype(np.float64), metric=settings.metric)
    largest = float(distances.max())
    return distances / largest if largest > 0 else distances
