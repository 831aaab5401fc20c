"""Unlike functions: novelty search, and novelty mixed into another ranking (Appendix F).

Novelty is that of Lehman and Stanley (2011): the mean distance to the nearest things seen so far.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from aquasurf_optuna.exceptions import SurrogateError
from aquasurf_optuna.surrogate._base import Surrogate
from aquasurf_optuna.surrogate._checks import is_integer, is_number
from aquasurf_optuna.surrogate._observations import Observations
from aquasurf_optuna.surrogate._transfer import OneStudySurrogate, unit_ranks

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    Floats = NDArray[np.float64]
    Indices = NDArray[np.intp]

#: Lehman and Stanley's number of neighbours.
N_NEIGHBORS = 15
_BLOCK_ROWS = 4096


def novelty(
    surrogate: Surrogate, rows: ArrayLike, tried: ArrayLike, *, n_neighbors: int = N_NEIGHBORS
) -> Floats:
    """Measure how unlike everything tried some rows are.

    Args:
        surrogate: Its candidates and its distance count, see :meth:`Surrogate.distances`.
        rows: int array ``(c,)``.
        tried: int array ``(t,)``, also what is running.
        n_neighbors: How many of the nearest tried rows count; all while there are fewer.

    Returns:
        float64 array ``(c,)``: mean distances, where 1 is the usual distance of two candidates. 0
        while nothing is tried.

    Raises:
        SurrogateError: If a row does not exist.
    """
    seen = np.unique(np.asarray(tried, dtype=np.intp))
    every = np.asarray(rows)
    if len(seen) == 0:
        return np.zeros(len(every))
    k = min(n_neighbors, len(seen))
    found = [
        np.partition(surrogate.distances(every[start : start + _BLOCK_ROWS], seen), k - 1)[:, :k]
        for start in range(0, len(every), _BLOCK_ROWS)
    ]
    return np.concatenate([np.zeros(0), *[block.mean(axis=1) for block in found]])


def diversified(acquired: Floats, novelty: Floats, diversity: float) -> Floats:
    """Mix novelty into a ranking: the weighted mean of the ranks of both.

    Args:
        acquired: float64 ``(c,)``, what each candidate is worth, see :meth:`Surrogate.acquire`.
        novelty: float64 ``(c,)``, see :func:`novelty`.
        diversity: Weight of novelty: 0 for the ranking as it is, 1 for novelty alone.

    Returns:
        float64 ``(c,)`` from 0 to 1, the highest first.

    Raises:
        SurrogateError: If `diversity` is no number from 0 to 1.
    """
    if not is_number(diversity) or not 0 <= diversity <= 1:
        raise SurrogateError(f"diversity must be a number from 0 to 1, but got {diversity!r}")
    return (1 - diversity) * unit_ranks(acquired) + diversity * unit_ranks(novelty)


class NoveltySurrogate(OneStudySurrogate):
    """Ranks candidates by how unlike all that was tried they are, whatever its values.

    :meth:`acquire` is the mean distance to the nearest tried or running candidates, see
    :func:`novelty`; before there are any, those of other studies stand in. :meth:`predict` is
    k-nearest regression in the same distance, weighted by its inverse. No spread is known.

    Args:
        features: ``"both"``, ``"fisher"`` or ``"outputs"``: which distances count.
        n_neighbors: How many of the nearest ones count, in both.
        random_state: Unused, since nothing is drawn; all surrogates have it.
    """

    def __init__(
        self, *, features: str = "both", n_neighbors: int = N_NEIGHBORS, random_state: int = 0
    ) -> None:
        self.features = features
        self.n_neighbors = n_neighbors
        self.random_state = random_state

    def _place(self) -> None:
        """Nothing: distances are all there is to know."""

    def _placed_more(self, new: dict[str, NDArray[np.float32]]) -> None:
        """Nothing either."""

    def _model(self, observations: Observations) -> Observations:
        return observations

    def _model_predicted(self, model: Observations, rows: Indices) -> tuple[Floats, Floats]:
        mean = np.empty(len(rows))
        for start in range(0, len(rows), _BLOCK_ROWS):
            block = slice(start, start + _BLOCK_ROWS)
            distances = self.distances(rows[block], model.rows)
            mean[block] = nearest_mean(distances, model.filled, self.n_neighbors)
        return mean, np.full(len(rows), np.nan)

    def _acquired(self, rows: Indices) -> Floats:
        known = self.observations_
        seen = np.concatenate([known.rows, known.running])
        if len(seen) == 0:
            seen = np.concatenate([other.rows for other in known.others])
        return novelty(self, rows, seen, n_neighbors=self.n_neighbors)

    def _check_parameters(self) -> None:
        super()._check_parameters()
        if not is_integer(self.n_neighbors) or self.n_neighbors < 1:
            raise SurrogateError(
                f"n_neighbors of {type(self).__name__} must be an integer of at least 1, "
                f"but got {self.n_neighbors!r}"
            )


def nearest_mean(distances: Floats, values: Floats, n_neighbors: int) -> Floats:
    """Average the values of the nearest, weighted by inverse distance.

    Where some are at distance 0, they alone count.

    Args:
        distances: float64 ``(c, t)``.
        values: float64 ``(t,)``.
        n_neighbors: At most this many count.

    Returns:
        float64 ``(c,)``.
    """
    k = min(n_neighbors, len(values))
    nearest = np.argpartition(distances, k - 1, axis=1)[:, :k]
    near = np.take_along_axis(distances, nearest, axis=1)
    same = near == 0
    weights = np.where(same.any(axis=1, keepdims=True), same, 1 / np.where(same, 1.0, near))
    return np.asarray((weights * values[nearest]).sum(axis=1) / weights.sum(axis=1))
