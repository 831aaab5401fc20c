"""Slow, plain versions of what the surrogate computes."""

import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def umap_graph(features: Floats, metric: str, n_neighbors: int) -> Floats:
    """The neighbourhood graph as UMAP itself builds it, dense, ``(n, n)``."""
    return np.asarray(_fitted(features, metric, n_neighbors).graph_.toarray(), dtype=np.float64)


def umap_union_graph(*parts: tuple[Floats, str, int]) -> Floats:
    """The graph of ``UMAP(...) + UMAP(...)``, dense, ``(n, n)``."""
    first, second = (_fitted(*part) for part in parts)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return np.asarray((first + second).graph_.toarray(), dtype=np.float64)


def _fitted(features: Floats, metric: str, n_neighbors: int) -> Any:
    with warnings.catch_warnings():
        # UMAP remarks on TensorFlow, on n_jobs and on small data.
        warnings.simplefilter("ignore")
        from umap import UMAP

        return UMAP(metric=metric, n_neighbors=n_neighbors, min_dist=0.1).fit(features)


def nearest_average(known: Floats, values: Floats, points: Floats, *, k: int) -> Floats:
    """Mean of the `k` nearest values, weighted by inverse distance, point by point."""
    predicted = []
    for point in points:
        distances = np.array([np.hypot(*(point - other)) for other in known])
        nearest = np.argsort(distances)[:k]
        if distances[nearest[0]] == 0:
            predicted.append(values[nearest[0]])
        else:
            weights = 1 / distances[nearest]
            predicted.append(float(np.sum(weights * values[nearest]) / np.sum(weights)))
    return np.array(predicted)


def relative_distances(outputs: Floats | None, fisher: Floats | None) -> Floats:
    """Distances pair by pair, each in units of its median over all pairs, averaged; ``(n, n)``."""
    relative = []
    for part, power in ((outputs, 2), (fisher, 1)):
        if part is None:
            continue
        n = len(part)
        apart = np.array(
            [[np.sum(np.abs(part[i] - part[j]) ** power) for j in range(n)] for i in range(n)]
        ) ** (1 / power)
        pairs = [apart[i, j] for i in range(n) for j in range(i)]
        relative.append(apart / np.median(pairs))
    return np.asarray(sum(relative) / len(relative), dtype=np.float64)
