"""Other studies, for surrogates that can only learn from one study: predictions added as ranks.

Another study's values are on a scale of its own, so only their order is used. A second model, of
the same kind, is fitted to the ranks of the other study alone, and what it predicts for all ``n``
candidates becomes ranks from 0 to 1. The ranks of all studies are averaged, with these weights:

===============  ================================================================================
this study       ``t``, the number of its observations
another study    ``10 a``, where ``a`` is how well it agrees: the positive part of Kendall's tau
                 between its predictions at this study's rows and this study's values, averaged
                 with 1/2, which stands for five observations more: ``(t tau + 5/2) / (t + 5)``
===============  ================================================================================

So a study that agrees well is worth ten observations, one that contradicts is worth none once there
are enough to tell, and without own observations the others decide alone.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.stats import kendalltau, rankdata

from aquasurf_optuna.surrogate._acquisition import Acquisition, acquisition_values
from aquasurf_optuna.surrogate._base import Surrogate
from aquasurf_optuna.surrogate._observations import Observations

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Indices = NDArray[np.intp]

_WORTH = 10.0
_PRIOR_OBSERVATIONS = 5
_PRIOR_AGREEMENT = 0.5


def unit_ranks(values: Floats) -> Floats:
    """Return ranks from 0 (the lowest) to 1; equal values share the mean of theirs, one gets 1/2.

    Values are equal if six digits of their mantissas are: what is equal but for rounding, such as
    averages of the same values, should not be told apart by it.

    Args:
        values: float64 ``(n,)``, finite or infinite.
    """
    if len(values) < 2:
        return np.full(len(values), 0.5)
    mantissas, exponents = np.frexp(values)
    rounded = np.ldexp(np.round(mantissas, 6), exponents)
    return np.asarray((rankdata(rounded) - 1) / (len(values) - 1), dtype=np.float64)


def agreement(predicted: Floats, values: Floats) -> float:
    """Say how far another study is to be believed, from 0 to 1; 1/2 where nothing is known.

    Args:
        predicted: float64 ``(t,)``, predictions from the other study.
        values: float64 ``(t,)``, this study's values of the same candidates.
    """
    ranks = unit_ranks(predicted), unit_ranks(values)
    tau, known = 0.0, 0
    if all(len(each) and each.min() < each.max() for each in ranks):
        tau, known = float(kendalltau(*ranks).statistic), len(values)
    weighted = known * tau + _PRIOR_OBSERVATIONS * _PRIOR_AGREEMENT
    return max(0.0, weighted / (known + _PRIOR_OBSERVATIONS))


class OneStudySurrogate(Surrogate):
    """A surrogate whose model learns from one study; other studies are added in ranks.

    Subclasses implement :meth:`_model` and :meth:`_model_predicted` in place of :meth:`_learn` and
    :meth:`_predicted`. Where a model knows a spread, they may have the settings `acquisition` and
    `exploration`. With other studies, the spread is that of this study's model; without own
    observations predictions are ranks from 0 to 1, and their spread is not known.

    Attributes:
        model_: The model of this study, set by :meth:`fit`; None without own observations.
    """

    acquisition: Acquisition = "greedy"
    exploration: float = 0.0

    @abstractmethod
    def _model(self, observations: Observations) -> Any:
        """Return a model fitted to the rows and values of one study, of which there are some."""

    @abstractmethod
    def _model_predicted(self, model: Any, rows: Indices) -> tuple[Floats, Floats]:
        """Return its means and standard deviations, each ``(c,)``."""

    def _learn(self, observations: Observations) -> None:
        own = observations.rows
        self.model_ = self._model(observations) if len(own) else None
        self._elsewhere: list[tuple[Any, float]] = []
        for other in observations.others:
            model = self._model(replace(other, values=unit_ranks(other.filled)))
            predicted = self._model_predicted(model, own)[0]
            self._elsewhere.append((model, agreement(predicted, observations.filled)))

    def _predicted(self, rows: Indices) -> tuple[Floats, Floats]:
        if not self._elsewhere:
            return self._model_predicted(self.model_, rows)
        blended = self._blended_ranks()
        if self.model_ is None:
            return blended[rows], np.full(len(rows), np.nan)
        # Back to values: the ranks that this study's predictions have among themselves.
        values, std = self._model_predicted(self.model_, np.arange(self.n_rows_))
        mean = np.interp(blended, np.sort(unit_ranks(values)), np.sort(values))
        return mean[rows], std[rows]

    def _acquired(self, rows: Indices) -> Floats:
        tried = self.observations_.rows
        if not self._elsewhere:
            mean, std = self._model_predicted(self.model_, rows)
            best = float(self.observations_.filled.max())
            return self._worth(mean, std, best)
        # In ranks, since this study's predictions may all be alike.
        blended = self._blended_ranks()
        best = float(blended[tried].max()) if len(tried) else float(blended.max())
        return self._worth(blended[rows], self._rank_spread(rows), best)

    def _worth(self, mean: Floats, std: Floats, best: float) -> Floats:
        return acquisition_values(
            self.acquisition, mean, std, best=best, exploration=self._boldness * self.exploration
        )

    def _blended_ranks(self) -> Floats:
        """Weighted mean of all studies' ranks, ``(n,)``."""
        models = [(model, _WORTH * weight) for model, weight in self._elsewhere]
        if self.model_ is not None:
            models.append((self.model_, float(len(self.observations_.rows))))
        every = np.arange(self.n_rows_)
        ranks = [unit_ranks(self._model_predicted(model, every)[0]) for model, _ in models]
        return np.asarray(np.average(ranks, axis=0, weights=[w for _, w in models]))

    def _rank_spread(self, rows: Indices) -> Floats:
        """This study's spread in units of ranks, ``(c,)``."""
        if self.model_ is None:
            return np.zeros(len(rows))
        values, std = self._model_predicted(self.model_, np.arange(self.n_rows_))
        unit = float(values.std())
        return std[rows] * float(unit_ranks(values).std()) / unit if unit else np.zeros(len(rows))
