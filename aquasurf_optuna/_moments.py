"""Mean and variance of a function of a standard normal variable, by adaptive quadrature.

Gauss-Legendre panels of half a standard deviation (so that kinks at 0 and at the edges of
HardSigmoid lie between panels) are halved until each agrees with its halves. All panels of a round
are evaluated in one call, which a scalar routine such as `scipy.integrate.quad` cannot do: a graph
of torch operations costs as much for one number as for a thousand.
"""

from __future__ import annotations

import math

import numpy as np

from aquasurf_optuna._limits import Array, Function

_REACHES = (38, 14)
"""Standard deviations integrated over. At 38 the density is all but 0, so that an infinite value
stays one; the second is for functions that float64 cannot follow to there."""
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(10)
_ROUNDS = 60
_MOST_PANELS = 4096
_PRECISION = 1e-14
_CONVERGED = 1e-9


def gaussian_moments(f: Function) -> tuple[float, float]:
    """Return mean and variance of f(Z), where Z is distributed as N(0, 1).

    Args:
        f: Elementwise, `(n,)` float64 to `(n,)` float64.

    Returns:
        Each of them NaN where its integral does not exist (a pole, a value that is not a number, or
        infinities of both signs), and infinite where it diverges to one side. A function that
        overflows within 14 standard deviations counts as diverging. The variance is NaN where the
        mean is not finite. Means below the rounding error of the integral are 0, variances too.
    """
    mean, size = _expectation(f)
    if not math.isfinite(mean):
        return mean, math.nan
    mean = 0.0 if abs(mean) <= 1e-13 * size else mean
    # The variance of a constant is rounding noise, on which no integral settles.
    variance, _ = _expectation(lambda z: (f(z) - mean) ** 2, least_size=(1e-8 * size) ** 2)
    return mean, 0.0 if variance <= (1e-12 * size) ** 2 else variance


def _expectation(f: Function, least_size: float = 0.0) -> tuple[float, float]:
    """Return E[f(Z)] and the scale on which it is exact, E[|f(Z)|] or `least_size`."""
    for reach in _REACHES:
        result = _integral(f, reach, least_size)
        if not math.isnan(result[0]):
            break
    return result


def _integral(f: Function, reach: int, least_size: float) -> tuple[float, float]:
    left = np.arange(-reach, reach, 0.5)
    width = np.full_like(left, 0.5)
    values = _panels(f, left, width)
    if not np.isfinite(values).all():
        return _sum(values), math.inf
    size = max(float(np.abs(values).sum()), least_size)
    tail = np.abs(left + 0.25) > reach - 1
    if np.abs(values[tail]).sum() > _CONVERGED * size:
        return _divergence(values[tail]), math.inf
    total = 0.0
    for _ in range(_ROUNDS):
        halves = np.stack([left, left + width / 2]), np.stack([width, width]) / 2
        finer = _panels(f, halves[0].ravel(), halves[1].ravel()).reshape(2, -1)
        if not np.isfinite(finer).all():
            return _sum(finer), math.inf
        open_ = np.abs(values - finer.sum(axis=0)) > _PRECISION * size
        total += float(finer[:, ~open_].sum())
        left, width, values = (part[:, open_].ravel() for part in (*halves, finer))
        if not 0 < len(values) <= _MOST_PANELS:
            break
    # What is still open after so many rounds is a pole, or rounding noise of no weight.
    if np.abs(values).sum() > _CONVERGED * size:
        return _divergence(values), math.inf
    return total + float(values.sum()), size


def _panels(f: Function, left: Array, width: Array) -> Array:
    """Integrate f times the density over each panel."""
    z = left[:, None] + width[:, None] * (_NODES + 1.0) / 2.0
    density = np.exp(-(z**2) / 2.0) / math.sqrt(2.0 * math.pi)
    with np.errstate(over="ignore", invalid="ignore"):
        values = f(z.ravel()).reshape(z.shape)
        return np.asarray(((values * density) @ _WEIGHTS) * width / 2.0)


def _sum(values: Array) -> float:
    """Add values of which some are infinite: NaN for infinities of both signs."""
    with np.errstate(invalid="ignore"):
        return float(np.sum(values))


def _divergence(values: Array) -> float:
    """Return the infinity that contributions without end add up to, NaN if they have both signs."""
    signs = np.sign(values[values != 0])
    return math.inf * float(signs[0]) if (signs == signs[0]).all() else math.nan
