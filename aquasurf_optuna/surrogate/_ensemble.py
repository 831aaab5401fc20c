"""Several surrogates as one: the mean of their ranks decides."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from aquasurf_optuna.surrogate._base import Surrogate
from aquasurf_optuna.surrogate._observations import Observations
from aquasurf_optuna.surrogate._transfer import unit_ranks
from aquasurf_optuna.surrogate._wrapping import WrappingSurrogate

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Indices = NDArray[np.intp]


class EnsembleSurrogate(WrappingSurrogate):
    """Several surrogates that vote.

    :meth:`acquire` is the mean of the ranks that the members' own :meth:`acquire` gives among all
    candidates, so that members with different rules and units count alike. :meth:`predict` is the
    mean of their predictions; its variance is the mean of their variances (0 of those that know
    none) plus the variance of their predictions, the disagreement. Running candidates and other
    studies go to each member, which treats them in its own way.

    Args:
        members: Surrogates, at least one. They are cloned, never fitted themselves.

    Attributes:
        members_: The fitted members.
    """

    def __init__(self, members: Sequence[Surrogate]) -> None:
        self.members = members

    def _settings(self) -> Sequence[Surrogate]:
        return self.members

    def _learn(self, observations: Observations) -> None:
        for member in self.members_:
            self._fit_member(member, observations)

    def _predicted(self, rows: Indices) -> tuple[Floats, Floats]:
        predictions = [member.predict(rows, return_std=True) for member in self.members_]
        means = np.array([mean for mean, _ in predictions])
        variances = np.nan_to_num([std**2 for _, std in predictions])
        return means.mean(axis=0), np.sqrt(variances.mean(axis=0) + means.var(axis=0))

    def _acquired(self, rows: Indices) -> Floats:
        every = np.arange(self.n_rows_)
        ranks = [
            unit_ranks(member.acquire(every, boldness=self._boldness)) for member in self.members_
        ]
        return np.asarray(np.mean(ranks, axis=0)[rows])
