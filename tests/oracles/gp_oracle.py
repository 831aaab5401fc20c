"""A Gaussian process of studies over comparisons, written from its definition, pair by pair.

Study a sees f_a = r_a g + sqrt(1 - r_a^2) h_a + c_a + noise, times the root of an amplitude: g is
common to all, h_a its own, each with the covariance sum of weight * exp(-distance / length); c_a is
its level. The own study, 0, has r = 1.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import multivariate_t, norm

Floats = NDArray[np.float64]


class Setting(NamedTuple):
    """Hyperparameters: one length and weight for each comparison, one agreement for each study."""

    lengths: Sequence[float]
    weights: Sequence[float]
    noise: float
    agreement: Sequence[float]
    level: float
    shape: float
    rate: float


class Point(NamedTuple):
    """A candidate's features, and the study in which it was seen."""

    outputs: Floats
    fisher: Floats
    study: int


def distances(a: Point, b: Point) -> tuple[float, float, float, float]:
    """Manhattan distance of Fisher vectors; Euclidean distances of outputs and of two matrices."""
    fisher = sum(abs(float(x) - float(y)) for x, y in zip(a.fisher, b.fisher, strict=True))
    squares = sum((float(x) - float(y)) ** 2 for x, y in zip(a.outputs, b.outputs, strict=True))
    return fisher, squares**0.5, mirrored(a.outputs, b.outputs), shape(a.outputs, b.outputs)


def mirrored(a: Floats, b: Floats) -> float:
    """Frobenius distance of a aᵀ / |a| and b bᵀ / |b|."""
    first, second = (
        np.outer(v, v) / (np.linalg.norm(v) or 1.0) for v in (a.astype(float), b.astype(float))
    )
    return float(np.linalg.norm(first - second))


def shape(a: Floats, b: Floats) -> float:
    """The same of vectors with mean 0 and length 1, or of 0 for constants."""
    first, second = (v - v.mean() for v in (a.astype(float), b.astype(float)))
    return mirrored(*(v / (np.linalg.norm(v) or 1.0) for v in (first, second)))


def covariance(a: Point, b: Point, scales: Sequence[float], setting: Setting) -> float:
    """Covariance of what two studies see without noise, in units of the amplitude."""
    kernel = sum(
        weight * np.exp(-distance / length)
        for distance, weight, length in zip(
            np.array(distances(a, b)) / scales, setting.weights, setting.lengths, strict=True
        )
    )
    common = setting.agreement[a.study] * setting.agreement[b.study]
    if a.study != b.study:
        return float(common * kernel)
    own = 1.0 - setting.agreement[a.study] ** 2
    return float((common + own) * kernel + setting.level)


def covariances(
    first: Sequence[Point], second: Sequence[Point], scales: Sequence[float], setting: Setting
) -> Floats:
    """All covariances of two lists of points."""
    return np.array([[covariance(a, b, scales, setting) for b in second] for a in first])


def log_evidence(
    points: Sequence[Point], targets: Floats, scales: Sequence[float], setting: Setting
) -> float:
    """Logarithm of the marginal likelihood: a normal mixed over amplitudes is a Student's t."""
    with_noise = covariances(points, points, scales, setting) + setting.noise * np.eye(len(points))
    return float(
        multivariate_t.logpdf(
            targets, shape=with_noise * setting.rate / setting.shape, df=2 * setting.shape
        )
    )


def log_prior(vector: Floats, moments: tuple[Floats, Floats]) -> float:
    """Logarithm of the normal priors."""
    return float(norm.logpdf(vector, *moments).sum())


def posterior(
    points: Sequence[Point],
    targets: Floats,
    places: Sequence[Point],
    scales: Sequence[float],
    setting: Setting,
) -> tuple[Floats, Floats]:
    """Mean and scale of the Student's t that the own study has at other places."""
    inverse = np.linalg.inv(
        covariances(points, points, scales, setting) + setting.noise * np.eye(len(points))
    )
    across = covariances(places, points, scales, setting)
    own = np.diag(covariances(places, places, scales, setting))
    amplitude = (setting.rate + targets @ inverse @ targets / 2) / (setting.shape + len(points) / 2)
    variance = amplitude * (own - np.diag(across @ inverse @ across.T))
    return across @ inverse @ targets, np.sqrt(variance)
