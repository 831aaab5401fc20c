"""Values as targets of a regression, and predictions back in the units of the values.

Ranks make no assumption on how values are spread: differences among good functions count as much as
those between good and useless ones, and a value that explodes does no harm.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from scipy.stats import norm, rankdata

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

Targets = Literal["ranks", "values"]
TARGETS: tuple[Targets, ...] = ("ranks", "values")


def rank_scores(values: Floats) -> Floats:
    """Return normal scores: the standard normal quantiles of (rank - 1/2) / t; equals share one.

    Args:
        values: float64 ``(t,)``; minus infinity is the lowest.

    Returns:
        float64 ``(t,)``.
    """
    if len(values) == 0:
        return np.zeros(0)
    return np.asarray(norm.ppf((rankdata(values) - 0.5) / len(values)), dtype=np.float64)


def standard_scores(values: Floats) -> Floats:
    """Return finite values less their mean, in units of their standard deviation (if not 0)."""
    if len(values) == 0:
        return np.zeros(0)
    return np.asarray((values - values.mean()) / (values.std() or 1.0), dtype=np.float64)


@dataclass(frozen=True)
class Scale:
    """A monotone map from targets to values, linear between those seen and beyond them.

    Attributes:
        targets: float64 ``(k,)``, increasing.
        values: float64 ``(k,)``, increasing.
        slope: Of the map beyond the ends: values' range over targets' range.
    """

    targets: Floats
    values: Floats
    slope: float

    @classmethod
    def through(cls, targets: Floats, values: Floats) -> Scale:
        """Return the map through pairs of which equals are equal; values are finite."""
        targets, first = np.unique(targets, return_index=True)
        values = values[first]
        constant = len(targets) < 2
        # Of values that are all alike nothing is known of their unit: 1, as good as any other.
        slope = 1.0 if constant else (values[-1] - values[0]) / (targets[-1] - targets[0])
        return cls(targets, values, float(slope))

    def values_of(self, targets: Floats) -> Floats:
        """Return the values of targets, float64 ``(c,)``."""
        beyond = targets - np.clip(targets, self.targets[0], self.targets[-1])
        within = np.interp(targets, self.targets, self.values)
        return np.asarray(within + self.slope * beyond, dtype=np.float64)

    def spread_of(self, mean: Floats, std: Floats) -> Floats:
        """Return half of how far apart the values one deviation above and below the mean are."""
        return 0.5 * (self.values_of(mean + std) - self.values_of(mean - std))


def representative(values: Floats, limit: int) -> NDArray[np.intp]:
    """Choose at most `limit` observations: the best half, and of the rest an even spread by value.

    Args:
        values: float64 ``(t,)``.
        limit: 1 or more.

    Returns:
        Places in `values`, increasing; all of them where they are few enough.
    """
    if len(values) <= limit:
        return np.arange(len(values))
    order = np.argsort(-values, kind="stable")
    best, rest = order[: limit - limit // 2], order[limit - limit // 2 :]
    spread = np.linspace(0, len(rest) - 1, limit // 2).round().astype(np.intp)
    return np.sort(np.concatenate([best, rest[spread]]))
