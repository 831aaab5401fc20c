"""A model of "trains at all" beside a model of "how well".

Half of the functions with valid features still end at chance. Such values say nothing of how well
a neighbour that trains does, and a smooth model bends under them. Here the values of successes have
a model of their own, and the chance of success another:

    chance of success at x = (a r + sum_i w_i k(x, x_i) s_i) / (a + sum_i w_i k(x, x_i))

with s_i 1 for a success and 0 for a failure, r the rate of successes, a = 1, weights w_i of 1 (1/2
for other studies) and k = exp(-d / length), d the distance of :meth:`Surrogate.distances`: a kernel
smoother that returns to the rate where nothing is known. The length is that, of a few, which
foretells each observation best from all others.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from aquasurf_optuna.exceptions import SurrogateError
from aquasurf_optuna.surrogate._acquisition import (
    Acquisition,
    acquisition_values,
    check_acquisition,
)
from aquasurf_optuna.surrogate._base import Observations, Surrogate, is_number
from aquasurf_optuna.surrogate._wrapping import WrappingSurrogate

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Indices = NDArray[np.intp]

_LENGTHS = (0.03, 0.1, 0.2, 0.4, 0.8)
_RATE_WEIGHT = 1.0
_OTHERS_WEIGHT = 0.5
_FEWEST_AT_CHANCE = 3
_SHARE_AT_CHANCE = 1 / 3
_BAND = 0.1
_BLOCK_ROWS = 4096


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


@dataclass(frozen=True)
class SuccessModel:
    """A kernel smoother of successes; the formula is at the top of this module.

    Attributes:
        successes: float64 ``(t,)``, 1 or 0.
        weights: float64 ``(t,)``.
        length: Of the kernel, in units of the distances.
        rate: What it returns to far from everything.
    """

    successes: Floats
    weights: Floats
    length: float
    rate: float

    @classmethod
    def of(cls, distances: Floats, successes: Floats, weights: Floats) -> SuccessModel:
        """Choose the length by the likelihood of each observation given all others.

        Args:
            distances: float64 ``(t, t)``, between the observations.
            successes: float64 ``(t,)``.
            weights: float64 ``(t,)``.
        """
        rate = float((weights @ successes + 0.5) / (weights.sum() + 1.0))
        models = [cls(successes, weights, length, rate) for length in _LENGTHS]
        others = np.where(np.eye(len(successes), dtype=bool), np.inf, distances)
        chances = [model.chance(others) for model in models]
        fits = [weights @ np.log(np.abs(successes - 1 + chance)) for chance in chances]
        return models[int(np.argmax(fits))]

    def chance(self, distances: Floats) -> Floats:
        """Return the chance of success at distances ``(c, t)`` from the observations, ``(c,)``."""
        near = self.weights * np.exp(-distances / self.length)
        return np.asarray(
            (_RATE_WEIGHT * self.rate + near @ self.successes) / (_RATE_WEIGHT + near.sum(axis=1))
        )


class FailureAwareSurrogate(WrappingSurrogate):
    """A surrogate for the values of what trains, beside a model of the chance that it trains.

    :meth:`acquire` is what the candidate is worth if it trains, times the chance p that it does:
    of ``"greedy"`` and ``"ucb"`` the worth above a failure, of ``"ei"`` the expected improvement,
    and of ``"pi"`` the probability of improvement (as in constrained Bayesian optimisation, Gardner
    et al., 2014). :meth:`predict` is the mean and the standard deviation of that mixture: a failure
    with 1 - p, a success with p. While nothing has trained, p alone ranks, and every prediction is
    that of a failure.

    Running candidates, and what trained in other studies, go to the surrogate of values. In other
    studies the level of failure is always found as for ``failure_value=None``.

    Args:
        surrogate: The model of the values of successes; cloned, never fitted itself.
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
        failure_value: float | None = None,
        acquisition: Acquisition = "ucb",
        exploration: float = 0.3,
    ) -> None:
        self.surrogate = surrogate
        self.failure_value = failure_value
        self.acquisition = acquisition
        self.exploration = exploration

    def chance(self, rows: Indices) -> Floats:
        """Return the chance that rows ``(c,)`` train, float64 ``(c,)``, after :meth:`fit`."""
        self._require("observations_", "fit")
        chances = np.empty(len(rows))
        for start in range(0, len(rows), _BLOCK_ROWS):
            block = slice(start, start + _BLOCK_ROWS)
            chances[block] = self._success.chance(self.distances(rows[block], self._known_rows))
        return chances

    def _settings(self) -> Sequence[Surrogate]:
        return [self.surrogate]

    def _learn(self, observations: Observations) -> None:
        given = self.failure_value
        self.failure_level_ = failure_level(observations.values) if given is None else float(given)
        levels = [self.failure_level_, *[failure_level(o.values) for o in observations.others]]
        studies = (observations, *observations.others)
        worked = [s.values > level for s, level in zip(studies, levels, strict=True)]
        self._known_rows = np.concatenate([study.rows for study in studies])
        weights = [
            np.full(len(study.rows), 1.0 if study is observations else _OTHERS_WEIGHT)
            for study in studies
        ]
        self._success = SuccessModel.of(
            self.distances(self._known_rows, self._known_rows),
            np.concatenate(worked).astype(np.float64),
            np.concatenate(weights),
        )
        self._learn_values(observations, worked)

    def _learn_values(self, observations: Observations, worked: list[NDArray[np.bool_]]) -> None:
        own, *others = [
            Observations(s.rows[w], s.values[w], observations.running)
            for s, w in zip((observations, *observations.others), worked, strict=True)
        ]
        kept = tuple(other for other in others if len(other.rows))
        self._any_success = len(own.rows) > 0 or len(kept) > 0
        failed = observations.filled[~worked[0]]
        # Of other studies alone, the values are ranks, and the lowest is 0.
        self._floor = float(np.median(failed)) if len(failed) else 0.0
        if len(own.rows):
            self._floor = min(self._floor if len(failed) else np.inf, float(own.values.min()))
        elif kept:
            self._floor = 0.0
        if self._any_success:
            self._fit_member(
                self.members_[0],
                Observations(own.rows, own.values, observations.running, kept),
            )
            self._best = float(own.values.max()) if len(own.rows) else 1.0

    def _predicted(self, rows: Indices) -> tuple[Floats, Floats]:
        if not self._any_success:
            return np.full(len(rows), self._floor), np.full(len(rows), np.nan)
        mean, std = self.members_[0].predict(rows, return_std=True)
        p, gain = self.chance(rows), mean - self._floor
        variance = p * np.nan_to_num(std) ** 2 + p * (1 - p) * gain**2
        return self._floor + p * gain, np.sqrt(variance)

    def _acquired(self, rows: Indices) -> Floats:
        p = self.chance(rows)
        if not self._any_success:
            return p
        mean, std = self.members_[0].predict(rows, return_std=True)
        worth = acquisition_values(
            self.acquisition, mean, std, best=self._best, exploration=self.exploration
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
