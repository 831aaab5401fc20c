"""Slow, plain versions of what the surrogate computes."""

import warnings
from statistics import NormalDist
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


def sampled_improvement(mean: Floats, std: Floats, threshold: float) -> tuple[Floats, Floats]:
    """Expected gain above a threshold, and how often there is one, from even quantiles."""

    normal = NormalDist()
    draws = np.array([normal.inv_cdf((i + 0.5) / 100_000) for i in range(100_000)])
    gains = [np.maximum(m + s * draws - threshold, 0.0) for m, s in zip(mean, std, strict=True)]
    return np.array([g.mean() for g in gains]), np.array([(g > 0).mean() for g in gains])


def kendall(first: Floats, second: Floats) -> float:
    """Kendall's tau-b, counted pair by pair."""
    concordant = discordant = first_only = second_only = 0
    for i in range(len(first)):
        for j in range(i):
            a, b = np.sign(first[i] - first[j]), np.sign(second[i] - second[j])
            concordant += a * b > 0
            discordant += a * b < 0
            first_only += a != 0 and b == 0
            second_only += a == 0 and b != 0
    decided = concordant + discordant
    return float(
        (concordant - discordant) / np.sqrt((decided + first_only) * (decided + second_only))
    )


def share_below(values: Floats) -> Floats:
    """Rank of each value: the share of the others below it, equals as half."""
    shares = []
    for i, value in enumerate(values):
        others = np.delete(values, i)
        shares.append((np.sum(others < value) + 0.5 * np.sum(others == value)) / len(others))
    return np.array(shares)


def mean_distance_to_nearest(distances: Floats, k: int) -> Floats:
    """Mean of the `k` smallest numbers of each row, fewer where there are fewer."""
    return np.array([np.mean(sorted(row)[:k]) for row in distances])


def matern_process(
    points: Floats, targets: Floats, where: Floats, *, amplitude: float, length: float, noise: float
) -> tuple[Floats, Floats]:
    """Mean and standard deviation of a Gaussian process with a Matérn 3/2 kernel, by inversion."""

    def covariance(first: Floats, second: Floats) -> Floats:
        apart = np.array([[np.hypot(*(a - b)) for b in second] for a in first])
        scaled = np.sqrt(3.0) * apart / length
        return np.asarray(amplitude * (1 + scaled) * np.exp(-scaled))

    inverse = np.linalg.inv(covariance(points, points) + noise * np.eye(len(points)))
    across = covariance(where, points)
    variance = amplitude - np.sum((across @ inverse) * across, axis=1)
    return across @ inverse @ targets, np.sqrt(variance)


def matern_log_likelihood(
    points: Floats, targets: Floats, *, amplitude: float, length: float, noise: float
) -> float:
    """Logarithm of the density of the targets under the process, by determinant and inverse."""
    apart = np.array([[np.hypot(*(a - b)) for b in points] for a in points])
    scaled = np.sqrt(3.0) * apart / length
    matrix = amplitude * (1 + scaled) * np.exp(-scaled) + noise * np.eye(len(points))
    quadratic = targets @ np.linalg.inv(matrix) @ targets
    _, log_determinant = np.linalg.slogdet(matrix)
    return float(-0.5 * (quadratic + log_determinant + len(points) * np.log(2 * np.pi)))
