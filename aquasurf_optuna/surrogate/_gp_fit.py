"""A Gaussian process of studies over distances: its kernel, its likelihood, its posterior.

Symbols and shapes, for N points, of which each is a candidate seen in one study:

==============  ============  ===================================================================
``distances``   ``(N, N)``    one for each comparison, divided by the usual distance of candidates
``studies``     ``(N,)``      study of each point; 0 is the own one
``targets``     ``(N,)``      what was seen, about 0 and of the size of 1
``K``           ``(N, N)``    sum over comparisons of weight * exp(-distance / length)
``R``           ``(N, N)``    1 within a study, r_a r_b between studies a and b; r_0 is 1
==============  ============  ===================================================================

The covariance of the targets is s (R*K + B + noise I): B is 1 within a study, so that every study
has a level of its own, and s is the amplitude. With one common part for all studies and a part of
its own for each (r_a says how much is common), R is positive semidefinite whatever the r_a are.

Hyperparameters maximise the marginal likelihood times weak priors (Rasmussen and Williams,
*Gaussian Processes for Machine Learning*, Section 5.4). The amplitude, which has an inverse gamma
prior, is integrated out, so that few points leave it wide rather than wrong.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.linalg import cho_solve, solve_triangular
from scipy.optimize import minimize
from scipy.special import expit, softmax

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Indices = NDArray[np.intp]

LEVEL = 1.0
"""Variance of a study's level, in units of the amplitude."""

AMPLITUDE_SHAPE = 2.0
AMPLITUDE_RATE = 2.0
"""The inverse gamma prior of the amplitude."""

MIN_NOISE = 1e-4
_EXTRA_NOISE = (0.0, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1)
MIN_VARIANCE = 1e-5
_DIGITS_OF_MEAN = 6
_DIGITS_OF_VARIANCE = 5


@dataclass(frozen=True)
class Prior:
    """Normal priors of the hyperparameters' logarithms (agreement: log odds).

    Weights are proportional to exponentials; of a single comparison there is none.
    """

    length: tuple[float, float] = (0.0, 1.5)
    weight: tuple[float, float] = (0.0, 2.0)
    noise: tuple[float, float] = (np.log(0.05), 1.0)
    agreement: tuple[float, float] = (1.0, 1.5)

    def moments(self, n_comparisons: int, n_others: int) -> tuple[Floats, Floats]:
        """Return means and standard deviations, in the order of :class:`Hyperparameters`."""
        rows = [self.length] * n_comparisons + [self.weight] * _n_weights(n_comparisons)
        rows += [self.noise]
        table = np.array(rows + [self.agreement] * n_others)
        return table[:, 0], table[:, 1]


@dataclass(frozen=True)
class Hyperparameters:
    """What the kernel is made of.

    Attributes:
        lengths: float64 ``(comparisons,)``, in units of the usual distance.
        weights: float64 ``(comparisons,)``, which sum to 1.
        noise: Variance of the noise in units of the amplitude.
        agreement: float64 ``(studies,)``, the r_a, of which the first is 1.
    """

    lengths: Floats
    weights: Floats
    noise: float
    agreement: Floats

    @classmethod
    def of_vector(cls, vector: Floats, n_comparisons: int) -> Hyperparameters:
        """Read the vector that is optimised: logarithms and log odds."""
        end = n_comparisons + _n_weights(n_comparisons)
        lengths = np.exp(vector[:n_comparisons])
        weights = softmax(vector[n_comparisons:end]) if n_comparisons > 1 else np.ones(1)
        noise = float(np.exp(vector[end]))
        agreement = np.concatenate([[1.0], expit(vector[end + 1 :])])
        return cls(lengths, weights, noise, agreement)


def _n_weights(n_comparisons: int) -> int:
    return n_comparisons if n_comparisons > 1 else 0


def between_studies(agreement: Floats, studies: Indices) -> Floats:
    """Return R, ``(N, N)``."""
    r = agreement[studies]
    same = studies[:, None] == studies[None, :]
    return np.where(same, 1.0, r[:, None] * r[None, :])


def cholesky_of(covariance: Floats) -> Floats:
    """Return the lower Cholesky factor, of the matrix with as much noise more as it takes.

    Distances are float32: of nearly equal candidates and a short length, what rounding does to a
    covariance may exceed the noise.

    Raises:
        numpy.linalg.LinAlgError: If noise of the size of the matrix is not enough.
    """
    identity = np.eye(len(covariance))
    for extra in _EXTRA_NOISE:
        with contextlib.suppress(np.linalg.LinAlgError):
            return np.asarray(np.linalg.cholesky(covariance + extra * identity), dtype=np.float64)
    return np.asarray(np.linalg.cholesky(covariance + identity), dtype=np.float64)


def negative_log_posterior(
    vector: Floats,
    distances: Sequence[Floats],
    studies: Indices,
    targets: Floats,
    moments: tuple[Floats, Floats],
) -> tuple[float, Floats]:
    """Return what the hyperparameters minimise, and its gradient.

    Args:
        vector: Hyperparameters as :meth:`Hyperparameters.of_vector` reads them.
        distances: For each comparison ``(N, N)``.
        studies: int ``(N,)``.
        targets: float64 ``(N,)``.
        moments: Means and standard deviations of the normal priors of `vector`.

    Returns:
        The negative logarithm of likelihood times prior, up to a constant; and ``(h,)``.
    """
    h = Hyperparameters.of_vector(vector, len(distances))
    n = len(targets)
    ratio = between_studies(h.agreement, studies)
    pieces = [np.exp(-d / length) for d, length in zip(distances, h.lengths, strict=True)]
    kernel = sum(w * piece for w, piece in zip(h.weights, pieces, strict=True))
    same = studies[:, None] == studies[None, :]
    covariance = ratio * kernel + LEVEL * same + h.noise * np.eye(n)
    lower = cholesky_of(covariance)
    inverse = cho_solve((lower, True), np.eye(n), check_finite=False)
    alpha = inverse @ targets
    amplitude = (AMPLITUDE_RATE + 0.5 * targets @ alpha) / (AMPLITUDE_SHAPE + 0.5 * n)
    value = (AMPLITUDE_SHAPE + 0.5 * n) * np.log(amplitude) + np.log(np.diag(lower)).sum()
    # dvalue = 0.5 * sum(sensitivity * dcovariance)
    sensitivity = inverse - np.outer(alpha, alpha) / amplitude
    shared = sensitivity * ratio
    gradient = [
        0.5 * w * np.sum(shared * piece * d) / length
        for w, piece, d, length in zip(h.weights, pieces, distances, h.lengths, strict=True)
    ]
    if len(distances) > 1:
        slopes = 0.5 * np.array([np.sum(shared * piece) for piece in pieces])
        gradient.extend(h.weights * (slopes - h.weights @ slopes))
    gradient.append(0.5 * h.noise * np.trace(sensitivity))
    weighted = np.where(same, 0.0, sensitivity * kernel) @ h.agreement[studies]
    for study in range(1, len(h.agreement)):
        r = h.agreement[study]
        gradient.append(r * (1 - r) * weighted[studies == study].sum())
    centre, width = moments
    standard = (vector - centre) / width
    return value + 0.5 * standard @ standard, np.array(gradient) + standard / width


def fit_hyperparameters(
    distances: Sequence[Floats], studies: Indices, targets: Floats, prior: Prior, *, n_others: int
) -> Hyperparameters:
    """Find the most probable hyperparameters, from the priors' means on, in at most 40 steps."""
    centre, width = prior.moments(len(distances), n_others)
    bounds = list(zip(centre - 4 * width, centre + 4 * width, strict=True))
    at_noise = len(distances) + _n_weights(len(distances))
    bounds[at_noise] = (np.log(MIN_NOISE), max(bounds[at_noise][1], 0.0))
    found = minimize(
        negative_log_posterior,
        centre,
        args=(distances, studies, targets, (centre, width)),
        jac=True,
        method="L-BFGS-B",
        bounds=bounds,
        options={"maxiter": 40},
    )
    return Hyperparameters.of_vector(found.x, len(distances))


@dataclass(frozen=True)
class Posterior:
    """The process given the points; immutable.

    Attributes:
        hyperparameters: Of the kernel.
        studies: int ``(N,)``.
        alpha: float64 ``(N,)``: the mean is the covariance with the points times it.
        whiten: float32 ``(N, N)``, the inverse of the covariance's lower Cholesky factor.
        amplitude: s.
    """

    hyperparameters: Hyperparameters
    studies: Indices
    alpha: Floats
    whiten: NDArray[np.float32]
    amplitude: float

    @classmethod
    def of(
        cls,
        hyperparameters: Hyperparameters,
        distances: Sequence[Floats],
        studies: Indices,
        targets: Floats,
    ) -> Posterior:
        """Condition on the points; those after the last target only narrow the spread.

        A running candidate has no target: were it to turn out as predicted, the mean would stay as
        it is everywhere, and the variance would shrink as for any other point.
        """
        h, n, seen = hyperparameters, len(studies), len(targets)
        kernel = sum(
            w * np.exp(-d / length)
            for d, w, length in zip(distances, h.weights, h.lengths, strict=True)
        )
        same = studies[:, None] == studies[None, :]
        covariance = between_studies(h.agreement, studies) * kernel + LEVEL * same
        lower = cholesky_of(covariance + h.noise * np.eye(n))
        own = lower[:seen, :seen]
        half = solve_triangular(own, targets, lower=True)
        alpha = np.zeros(n)
        alpha[:seen] = solve_triangular(own, half, lower=True, trans="T")
        amplitude = (AMPLITUDE_RATE + 0.5 * half @ half) / (AMPLITUDE_SHAPE + 0.5 * seen)
        whiten = solve_triangular(lower, np.eye(n), lower=True)
        return cls(h, studies, alpha, whiten.astype(np.float32), float(amplitude))

    def predict(self, distances: Sequence[NDArray[np.float32]]) -> tuple[Floats, Floats]:
        """Predict the own study at other places.

        Args:
            distances: For each comparison ``(N, c)``, float32, from the points to the places.

        Returns:
            Mean and standard deviation, without noise, float64 ``(c,)`` each.
        """
        h = self.hyperparameters
        covariance = np.zeros_like(distances[0])
        for d, weight, length in zip(distances, h.weights, h.lengths, strict=True):
            covariance += np.float32(weight) * np.exp(d * np.float32(-1.0 / length))
        covariance *= h.agreement[self.studies, None].astype(np.float32)
        covariance[self.studies == 0] += np.float32(LEVEL)
        white = self.whiten @ covariance
        # Equal candidates must stay equal, wherever they stand in a block and on any machine: the
        # digits that the order of a sum decides are cut off.
        variance = 1.0 + LEVEL - np.einsum("ij,ij->j", white, white).astype(np.float64)
        variance = np.maximum(np.round(variance, _DIGITS_OF_VARIANCE), MIN_VARIANCE)
        mean = np.round(self.alpha @ covariance, _DIGITS_OF_MEAN)
        return mean, np.sqrt(self.amplitude * variance)
