"""One order for several objectives.

Every objective is predicted on its own. For each trial, weights ``w`` are drawn uniformly from the
simplex, and candidates come in the order of the augmented Chebyshev function (ParEGO; Knowles,
2006)::

    -(max over objectives of w_j c_j  +  0.01 sum over objectives of w_j c_j)

where ``c_j`` is 0 for the candidate that the surrogate holds best in objective ``j``, and 1 for the
worst. A point of a Pareto front, whatever its shape, is the best one for some weights, unless it
gains less in one objective than a hundredth of what it costs in another. (Knowles has 0.05, which
passes over all that gain less than a twentieth.)

Shapes: acquired values ``(c, m)`` of ``c`` candidates and ``m`` objectives, weights ``(m,)``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

_AUGMENTATION = 0.01


def drawn_weights(n_objectives: int, rng: np.random.Generator) -> Floats:
    """Draw weights ``(m,)``, which are positive and sum to 1."""
    return np.asarray(rng.dirichlet(np.ones(n_objectives)), dtype=np.float64)


def scalarized(acquired: Floats, weights: Floats) -> Floats:
    """Return one value for each candidate, higher being better.

    Args:
        acquired: ``(c, m)``, higher being better, each column on a scale of its own.
        weights: ``(m,)``.

    Returns:
        float64 ``(c,)``; the column itself where there is one objective.
    """
    if acquired.shape[1] == 1 or len(acquired) == 0:
        return acquired[:, 0]
    best, worst = acquired.max(axis=0), acquired.min(axis=0)
    span = np.where(best > worst, best - worst, 1.0)
    weighted = weights * (best - acquired) / span
    return np.asarray(-(weighted.max(axis=1) + _AUGMENTATION * weighted.sum(axis=1)))


def mean_ranks(values: Floats) -> Floats:
    """Return for each row the mean over the columns of the share of rows that it beats, ``(t,)``.

    Args:
        values: ``(t, m)``, higher being better; minus infinity is beaten by all others.
    """
    beaten = (values[:, None, :] > values[None, :, :]).mean(axis=1)
    return np.asarray(beaten.mean(axis=1), dtype=np.float64)
