"""A model of "trains at all" beside a model of "how well".

Half of the functions with valid features still end at chance. Such values say nothing of how well
a neighbour that trains does, and a smooth model bends under them. Here the values of successes have
a model of their own. The other is a regression on labels, 1 for a success and 0 for a failure: its
predictions, cut to [0.02, 0.98], are taken for chances of success.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from aquasurf_optuna.exceptions import SurrogateError
from aquasurf_optuna.surrogate._acquisition import (
    Acquisition,
    acquisition_values,
    check_acquisition,
)
from aquasurf_optuna.surrogate._base import Surrogate
from aquasurf_optuna.surrogate._checks import is_number
from aquasurf_optuna.surrogate._gaussian_process import GaussianProcessSurrogate
from aquasurf_optuna.surrogate._observations import Observations
from aquasurf_optuna.surrogate._wrapping import WrappingSurrogate

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    Floats = NDArray[np.float64]
    Indices = NDArray[np.intp]

_FEWEST_AT_CHANCE = 3
_SHARE_AT_CHANCE = 1 / 3
_BAND = 0.1
_LEAST_CHANCE = 0.02


def failure_level(values: Floats) -> float:
    """Find the level at or below which values are failures: that of chance, if many end there.

    The level is looked for at the lower quartile of the finite values. It is one of chance if at
    least three of them, and a third, lie within a tenth of the way from there to the best value;
    the upper end of that band is returned. Minus infinity is a failure in any case.

    Args:
        values: float64 ``(t,)``, minus infinity for a failure.

    Returns:
        The level; minus infinity where there is none.
    """
    finite = values[np.isfinite(values)]
    if len(finite) < _FEWEST_AT_CHANCE:
        return -np.inf
    chance = float(np.quantile(finite, 0.25, method="lower"))
    band = _BAND * (float(finite.max()) - chance)
    n_there = np.count_nonzero(np.abs(finite - chance) <= band)
    enough = n_there >= max(_FEWEST_AT_CHANCE, _SHARE_AT_CHANCE * len(finite))
    return chance + band if enough and band > 0 else -np.inf


class FailureAwareSurrogate(WrappingSurrogate):
    """A surrogate for the values of what trains, beside a model of the chance that it trains.

    :meth:`acquire` is what the candidate is worth if it trains, times the chance p that it does:
    of ``"greedy"`` and ``"ucb"`` the worth above a failure, of ``"ei"`` the expected improvement,
    and of ``"pi"`` the probability of improvement (as in constrained Bayesian optimisation, Gardner
    et al., 2014). There p is taken one standard deviation above its mean, so that candidates of
    which little is known are not written off; while nothing has trained, it alone ranks.

    :meth:`predict` is the mean and the standard deviation of a mixture: a failure with 1 - p, a
    success with p. While all observations are failures, what a success is worth is not known, and
    predictions are those of a failure, without a spread.

    Running candidates go to both models, and so do other studies, in which the level of failure is
    always found as for ``failure_value=None``.

    Args:
        surrogate: The model of the values of successes; cloned, never fitted itself.
        classifier: The model of the labels; cloned. None stands for a Gaussian process on the same
            features, fitted to the labels as they are.
        failure_value: Values at or below this are failures, as minus infinity always is. None
            finds the level, see :func:`failure_level`.
        acquisition: How :meth:`acquire` ranks: ``"ucb"``, ``"ei"``, ``"pi"`` or ``"greedy"``.
        exploration: 0 exploits; the higher, the more :meth:`acquire` explores.

    Attributes:
        failure_level_: The level used, set by :meth:`fit`.
    """

    def __init__(
        self,
        surrogate: Surrogate,
        *,
        classifier: Surrogate | None = None,
        failure_value: float | None = None,
        acquisition: Acquisition = "ucb",
        exploration: float = 0.3,
    ) -> None:
        self.surrogate = surrogate
        self.classifier = classifier
        self.failure_value = failure_value
        self.acquisition = acquisition
        self.exploration = exploration

    def chance(self, rows: ArrayLike) -> Floats:
        """Return the chance that rows train.

        Args:
            rows: int array ``(c,)``, indices of embedded rows.

        Returns:
            float64 array ``(c,)``, from 0.02 to 0.98.

        Raises:
            SurrogateError: If nothing is fitted yet, or a row does not exist.
        """
        self._require("observations_", "fit")
        return _as_chance(self.members_[1].predict(rows))

    def _settings(self) -> Sequence[Surrogate]:
        return [self.surrogate, self._classifier()]

    def _classifier(self) -> Surrogate:
        if self.classifier is not None:
            return self.classifier
        # What is no surrogate is refused after this.
        return GaussianProcessSurrogate(
            features=getattr(self.surrogate, "features", "both"),
            targets="values",
            output_bound=getattr(self.surrogate, "output_bound", None),
        )

    def _learn(self, observations: Observations) -> None:
        given = self.failure_value
        self.failure_level_ = failure_level(observations.values) if given is None else float(given)
        trained = observations.values > self.failure_level_
        elsewhere = [(o, o.values > failure_level(o.values)) for o in observations.others]
        self.members_[1].fit(
            observations.rows,
            trained.astype(np.float64),
            running=observations.running,
            others=[(other.rows, worked.astype(np.float64)) for other, worked in elsewhere],
        )
        rows, values = observations.rows[trained], observations.values[trained]
        successes = [(o.rows[worked], o.values[worked]) for o, worked in elsewhere if worked.any()]
        self._any_success = bool(len(rows) or successes)
        if self._any_success:
            self.members_[0].fit(rows, values, running=observations.running, others=successes)
        # Without successes of its own the surrogate of values predicts ranks, from 0 to 1.
        self._best = float(values.max(initial=-np.inf)) if len(rows) else 1.0
        self._floor = _level_of_failures(observations.filled, trained) if len(rows) else 0.0

    def _predicted(self, rows: Indices) -> tuple[Floats, Floats]:
        own = self.observations_
        if not self._any_success or (
            len(own.rows) and not (own.values > self.failure_level_).any()
        ):
            failure = float(np.median(own.filled)) if len(own.rows) else 0.0
            return np.full(len(rows), failure), np.full(len(rows), np.nan)
        mean, std = self.members_[0].predict(rows, return_std=True)
        p, gain = self.chance(rows), mean - self._floor
        variance = p * np.nan_to_num(std) ** 2 + p * (1 - p) * gain**2
        return self._floor + p * gain, np.sqrt(variance)

    def _acquired(self, rows: Indices) -> Floats:
        label, doubt = self.members_[1].predict(rows, return_std=True)
        hope = label + np.nan_to_num(doubt)
        if not self._any_success:
            return hope
        p = _as_chance(hope)
        mean, std = self.members_[0].predict(rows, return_std=True)
        worth = acquisition_values(
            self.acquisition,
            mean,
            std,
            best=self._best,
            exploration=self._boldness * self.exploration,
        )
        if self.acquisition == "pi":
            return np.log(p) + worth
        if self.acquisition == "ei":
            return p * worth
        return p * (worth - self._floor)

    def _check_parameters(self) -> None:
        super()._check_parameters()
        check_acquisition(type(self).__name__, self.acquisition, self.exploration)
        value = self.failure_value
        if value is not None and (not is_number(value) or not np.isfinite(value)):
            raise SurrogateError(
                f"failure_value of {type(self).__name__} must be a finite number or None, "
                f"but got {value!r}"
            )


def _as_chance(labels: Floats) -> Floats:
    return np.clip(labels, _LEAST_CHANCE, 1 - _LEAST_CHANCE)


def _level_of_failures(values: Floats, trained: NDArray[np.bool_]) -> float:
    """Median of failures, or the worst success where there are none."""
    return float(np.median(values[~trained])) if not trained.all() else float(values.min())
