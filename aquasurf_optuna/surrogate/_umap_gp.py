"""A Gaussian process on the map, which the paper tried and found inconsistent (Appendix E).

Symbols: points ``X (t, 2)`` of the standardised plane, targets ``y (t,)`` with mean 0 and variance
1, and hyperparameters as scikit-learn keeps them: the logarithms of amplitude, length and noise.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.optimize import minimize
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import ConstantKernel, Matern, WhiteKernel

from aquasurf_optuna.surrogate._acquisition import Acquisition, check_acquisition
from aquasurf_optuna.surrogate._targets import representative
from aquasurf_optuna.surrogate._umap_plane import UmapSurrogate

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

#: Amplitude (a variance), length (in standard deviations of the plane) and noise (a variance).
_PRIOR_MEDIANS = np.log([1.0, 0.5, 0.1])
_PRIOR_SPREAD = 1.0
_MOST_POINTS = 2000
_MOST_FOR_HYPERPARAMETERS = 300


@dataclass(frozen=True)
class PlaneProcess:
    """A fitted process, and how to come back to the units of the values.

    Attributes:
        process: scikit-learn's process, fitted to the targets.
        centre: Mean of the values.
        unit: Their standard deviation, or 1.
    """

    process: Any
    centre: float
    unit: float

    def predict(self, points: Floats) -> tuple[Floats, Floats]:
        """Return means and standard deviations, without the noise of an observation, ``(c,)``."""
        mean, std = self.process.predict(points, return_std=True)
        noise = np.exp(self.process.kernel_.theta[2])
        latent = np.sqrt(np.maximum(std**2 - noise, 0.0))
        return self.centre + self.unit * mean, self.unit * latent


def fit_process(points: Floats, values: Floats, running: Floats) -> PlaneProcess:
    """Fit a process with a Matérn 3/2 kernel; running points count as if they came as predicted.

    Hyperparameters maximise the marginal likelihood times log-normal priors, from the medians of
    the priors on; of more than 300 observations, the best half and an even spread of the others
    are used for it, and at most 2,000, chosen likewise, for the predictions.

    Args:
        points: float64 ``(t, 2)``, at least one.
        values: float64 ``(t,)``, finite.
        running: float64 ``(r, 2)``.
    """
    kept = representative(values, _MOST_POINTS)
    points, values = points[kept], values[kept]
    centre, unit = float(values.mean()), float(values.std()) or 1.0
    targets = (values - centre) / unit
    known = representative(targets, _MOST_FOR_HYPERPARAMETERS)
    kernel = _fitted_kernel(points[known], targets[known])
    process = _with_kernel(kernel, points, targets)
    if len(running):
        believed = np.concatenate([targets, process.predict(running)])
        process = _with_kernel(kernel, np.vstack([points, running]), believed)
    return PlaneProcess(process, centre, unit)


def penalty_of(theta: Floats) -> tuple[float, Floats]:
    """Return minus the logarithm of the prior, up to a constant, and its gradient ``(3,)``."""
    away = (theta - _PRIOR_MEDIANS) / _PRIOR_SPREAD
    return 0.5 * float(away @ away), away / _PRIOR_SPREAD


def _fitted_kernel(points: Floats, targets: Floats) -> Any:
    amplitude, length, noise = np.exp(_PRIOR_MEDIANS)
    kernel = ConstantKernel(amplitude) * Matern(length, nu=1.5) + WhiteKernel(noise)
    process = _with_kernel(kernel, points, targets)

    def loss(theta: Floats) -> tuple[float, Floats]:
        likelihood, slope = process.log_marginal_likelihood(theta, eval_gradient=True)
        penalty, away = penalty_of(theta)
        return penalty - likelihood, away - slope

    bounds = [(median - 5.0, median + 5.0) for median in _PRIOR_MEDIANS]
    found = minimize(loss, _PRIOR_MEDIANS, jac=True, method="L-BFGS-B", bounds=bounds)
    return kernel.clone_with_theta(found.x)


def _with_kernel(kernel: Any, points: Floats, targets: Floats) -> Any:
    # scikit-learn's own search warns wherever a hyperparameter comes near a bound: no news.
    return GaussianProcessRegressor(kernel, optimizer=None).fit(points, targets)


class UmapGpSurrogate(UmapSurrogate):
    """UMAP of the features, as for :class:`UmapKnnSurrogate`, and a Gaussian process in its plane.

    Failures count as the worst value. Running candidates narrow the spread around them as if they
    had come as predicted.

    Args:
        features: ``"both"``, ``"fisher"`` or ``"outputs"``: which features shape the embedding.
        acquisition: How :meth:`acquire` ranks: ``"ucb"``, ``"ei"``, ``"pi"`` or ``"greedy"``, the
            four of Appendix E.
        exploration: 0 exploits; the higher, the more :meth:`acquire` explores.
        random_state: Seed of the layout.

    Attributes:
        embedding_: float64 array ``(n, 2)``, set by :meth:`embed`.
    """

    def __init__(
        self,
        *,
        features: str = "both",
        acquisition: Acquisition = "ucb",
        exploration: float = 0.3,
        random_state: int = 0,
    ) -> None:
        self.features = features
        self.acquisition = acquisition
        self.exploration = exploration
        self.random_state = random_state

    def _fitted(self, points: Floats, values: Floats, running: Floats) -> PlaneProcess:
        return fit_process(
            self._standardised(points), values, self._standardised(running.reshape(-1, 2))
        )

    def _at(self, model: PlaneProcess, points: Floats) -> tuple[Floats, Floats]:
        return model.predict(self._standardised(points))

    def _check_parameters(self) -> None:
        super()._check_parameters()
        check_acquisition(type(self).__name__, self.acquisition, self.exploration)
