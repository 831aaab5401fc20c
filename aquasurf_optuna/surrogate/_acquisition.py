"""How predictions become an order: from exploitation to exploration (Appendix E).

All take float64 arrays ``(c,)`` of means and standard deviations, in any one unit; higher is
better.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np
from scipy.special import log_ndtr
from scipy.stats import norm

from aquasurf_optuna.exceptions import SurrogateError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

Acquisition = Literal["greedy", "ucb", "ei", "pi"]
ACQUISITIONS: tuple[Acquisition, ...] = ("greedy", "ucb", "ei", "pi")


def acquisition_values(
    name: Acquisition, mean: Floats, std: Floats, *, best: float, exploration: float
) -> Floats:
    """Return what each candidate is worth trying.

    ==========  =====================================================================
    ``greedy``  the mean
    ``ucb``     mean + `exploration` * std, the upper confidence bound
    ``ei``      expected improvement over best + `exploration` * (mean of std)
    ``pi``      logarithm of the probability of that improvement
    ==========  =====================================================================

    Without a spread (std 0 or NaN) the first two are the mean, and the others depend on the sign of
    the improvement alone.

    Args:
        name: The rule.
        mean: Predicted values.
        std: Their standard deviations.
        best: Best value so far.
        exploration: 0 exploits; the higher, the more is explored.

    Raises:
        SurrogateError: If there is no such rule, or `exploration` is negative.
    """
    if name not in ACQUISITIONS:
        raise SurrogateError(f"acquisition must be one of {ACQUISITIONS}, but got {name!r}")
    if not exploration >= 0:
        raise SurrogateError(f"exploration must be 0 or more, but got {exploration!r}")
    spread = np.nan_to_num(std)
    if name == "greedy":
        return mean
    if name == "ucb":
        return np.asarray(mean + exploration * spread, dtype=np.float64)
    threshold = best + exploration * (float(spread.mean()) if len(spread) else 0.0)
    gain = mean - threshold
    positive = np.maximum(spread, np.finfo(np.float64).tiny)
    z = gain / positive
    if name == "pi":
        return np.asarray(log_ndtr(z), dtype=np.float64)
    expected = gain * norm.cdf(z) + spread * norm.pdf(z)
    return np.asarray(np.where(spread > 0, expected, np.maximum(gain, 0.0)), dtype=np.float64)
