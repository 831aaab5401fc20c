"""What the surrogates on a map share: the plane that UMAP lays out, and newcomers in it.

``embedding_``, ``(n, 2)``, is where the union of both neighbourhood graphs puts each candidate.
Embedding is the slow step (seconds for 2,000 rows) and is done once for a pool; fitting and
predicting take milliseconds and follow every trial.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Any

import numpy as np

from aquasurf_optuna.surrogate import _umap
from aquasurf_optuna.surrogate._base import METRICS
from aquasurf_optuna.surrogate._distances import distance_column
from aquasurf_optuna.surrogate._observations import Observations
from aquasurf_optuna.surrogate._transfer import OneStudySurrogate

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Indices = NDArray[np.intp]

_BLOCK_ROWS = 4096


class UmapSurrogate(OneStudySurrogate):
    """A UMAP plane of the candidates, and a model in it, which subclasses bring.

    Attributes:
        fisher_neighbors: Size of a neighbourhood in the graph of the Fisher vectors, the row itself
            included (Appendix D).
        output_neighbors: The same in the graph of the outputs.
        n_components: Number of dimensions; 2 is a plane.
        embedding_: float64 array ``(n, n_components)``, set by :meth:`embed`.
    """

    fisher_neighbors: int = 3
    output_neighbors: int = 15
    n_components: int = _umap.N_COMPONENTS
    embedding_: Floats

    @abstractmethod
    def _fitted(self, points: Floats, values: Floats, running: Floats) -> Any:
        """Return a model of values ``(t,)`` at points ``(t, 2)``; running points are ``(r, 2)``."""

    @abstractmethod
    def _at(self, model: Any, points: Floats) -> tuple[Floats, Floats]:
        """Return its means and standard deviations at points ``(c, 2)``."""

    def _place(self) -> None:
        sizes = {"fisher": self.fisher_neighbors, "outputs": self.output_neighbors}
        parts = [
            (part, _umap.GraphSettings(metric=METRICS[name], n_neighbors=sizes[name]))
            for name, part in self._parts.items()
        ]
        self.embedding_ = _umap.embed(parts, seed=self.random_state, n_components=self.n_components)
        self._middle = self.embedding_.mean(axis=0)
        spread = self.embedding_.std(axis=0)
        self._spread = np.where(spread > 0, spread, 1.0)

    def _placed_more(self, new: dict[str, NDArray[np.float32]]) -> None:
        # Each new row takes the coordinates of the known row nearest to it: the sum of two UMAPs
        # has no transform, and laying out everything anew takes seconds.
        rows = range(len(next(iter(new.values()))))
        placed = self.embedding_[[self._nearest(new, row) for row in rows]]
        self.embedding_ = np.vstack([self.embedding_, placed])

    def _standardised(self, points: Floats) -> Floats:
        """Return points in units of the plane's spread, from its middle, before others joined."""
        return np.asarray((points - self._middle) / self._spread, dtype=np.float64)

    def _nearest(self, new: dict[str, NDArray[np.float32]], row: int) -> int:
        scales = self._scales()
        relative = [
            distance_column(name, self._parts[name], new[name][row]) / scales[name] for name in new
        ]
        return int(np.argmin(np.sum(relative, axis=0)))

    def _model(self, observations: Observations) -> Any:
        points = self.embedding_[observations.rows]
        return self._fitted(points, observations.filled, self.embedding_[observations.running])

    def _model_predicted(self, model: Any, rows: Indices) -> tuple[Floats, Floats]:
        mean, std = np.empty(len(rows)), np.empty(len(rows))
        for start in range(0, len(rows), _BLOCK_ROWS):
            block = slice(start, start + _BLOCK_ROWS)
            mean[block], std[block] = self._at(model, self.embedding_[rows[block]])
        return mean, std
