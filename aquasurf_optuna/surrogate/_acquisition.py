"""How predictions become an order: from exploitation to exploration (Appendix E).

All take float64 arrays ``(c,)`` of means and standard deviations, in any one unit; higher is
better.
"""

from __future__ import annotations

import numbers
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from scipy.special import log_ndtr
from scipy.stats import norm

from aquasurf_optuna.exceptions import SurrogateError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

Acquisition = Literal["greedy", "ucb", "ei", "pi"]
ACQUISITIONS: tuple[Acquisition, ...] = ("greedy", "ucb", "ei", "pi")


#: Deviations from the threshold: farther, their square would overflow.
_FARTHEST = 1e100


def check_acquisition(owner: str, acquisition: object, exploration: Any) -> None:
    """Refuse settings that :func:`acquisition_values` does not know.

    Args:
        owner: Whose settings they are, for the message.
        acquisition: The rule.
        exploration: How much it explores.

    Raises:
        SurrogateError: If there is no such rule, or `exploration` is no finite number from 0 on.
    """
    if acquisition not in ACQUISITIONS:
        raise SurrogateError(
            f"acquisition of {owner} must be one of {ACQUISITIONS}, but got {acquisition!r}"
        )
    number = isinstance(exploration, numbers.Real) and not isinstance(exploration, bool)
    if not (number and 0 <= float(exploration) < np.inf):
        raise SurrogateError(
            f"exploration of {owner} must be a finite number, 0 or more, but got {exploration!r}"
        )


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
        SurrogateError: As for :func:`check_acquisition`.
    """
    check_acquisition("acquisition_values", name, exploration)
    spread = np.nan_to_num(std)
    if name == "greedy":
        return mean
    if name == "ucb":
        return np.asarray(mean + exploration * spread, dtype=np.float64)
    threshold = best + exploration * (float(spread.mean()) if len(spread) else 0.0)
    gain = mean - threshold
    positive = np.maximum(spread, np.finfo(np.float64).tiny)
    with np.errstate(over="ignore"):
        z = np.clip(gain / positive, -_FARTHEST, _FARTHEST)
    if name == "pi":
        return np.asarray(log_ndtr(z), dtype=np.float64)
    expected = gain * norm.cdf(z) + spread * norm.pdf(z)
    return np.asarray(np.where(spread > 0, expected, np.maximum(gain, 0.0)), dtype=np.float64)
