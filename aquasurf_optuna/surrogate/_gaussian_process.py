"""A Gaussian process straight on the two feature distances, without a map.

Its kernel is a sum of exponential kernels of Equations 2 and 3. A new candidate needs its distances
to what was tried and nothing else, so that candidates join without a refit, and there is no fewest
number of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.stats import norm

from aquasurf_optuna.exceptions import SurrogateError
from aquasurf_optuna.surrogate._acquisition import (
    Acquisition,
    acquisition_values,
    check_acquisition,
)
from aquasurf_optuna.surrogate._base import COLUMN_BYTES, Surrogate
from aquasurf_optuna.surrogate._checks import OUTPUT_BOUND, is_integer, is_number
from aquasurf_optuna.surrogate._distances import DistanceColumns
from aquasurf_optuna.surrogate._gp_fit import Posterior, Prior, fit_hyperparameters
from aquasurf_optuna.surrogate._observations import Observations
from aquasurf_optuna.surrogate._targets import (
    TARGETS,
    Scale,
    Targets,
    rank_scores,
    representative,
    standard_scores,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Indices = NDArray[np.intp]

_MOST_POINTS = 2000
_MOST_FOR_HYPERPARAMETERS = 300
_BLOCK_NUMBERS = 1_000_000
# Of a first handful each trial is best spent near the good ones. On test problems with several good
# neighbourhoods, leaps after that cut regret by a sixth, and on the digits they cost next to none.
_FIRST_LEAP = 20
_LEAP = 3.0


class GaussianProcessSurrogate(Surrogate):
    """Gaussian process whose kernel adds exponentials of the distances of both features.

    The covariance of two candidates is ``w exp(-d_out / l_out) + (1 - w) exp(-d_fisher /
    l_fisher)`` times an amplitude, plus a level common to all and, of an observation with itself,
    noise. Outputs are compared as in Equation 3 and Fisher vectors as in Equation 2, each in units
    of its usual distance among the candidates. Lengths, weight and noise maximise the marginal
    likelihood times weak priors, anew at each :meth:`fit` and from the same start, so that what is
    learned depends on the candidates and the arguments of :meth:`fit` alone.

    Failures count as the worst value, all tied. Running candidates narrow the spread around them as
    if they had turned out as predicted. Other studies, each on a scale of its own, share a part of
    their process with this one; how much is learned as well. While there are no own observations,
    predictions come from the others, as ranks from 0 to 1.

    Cost: the first time that a candidate is observed, its distances to all others (0.1 s for 7,000
    candidates with 13,692 numbers); per fit, a search of hyperparameters over at most 300
    observations (if there are more, the best half and an even spread of the others); per ranking,
    ``t**2`` operations a candidate. Of more than 2,000 observations (fewer where distances would
    take more than 800 MB), predictions come from as many, chosen in the same way.

    Args:
        features: ``"both"``, ``"fisher"`` or ``"outputs"``: which distances count.
        acquisition: How :meth:`acquire` ranks: ``"ucb"``, ``"ei"``, ``"pi"`` or ``"greedy"``.
        exploration: 0 exploits; the higher, the more :meth:`acquire` explores.
        leap_every: A guard against staying in one neighbourhood: whenever the number of
            observations, running ones included, is a multiple of this and 20 or more, ``"ucb"``
            explores three times as much. None leaves it out.
        targets: What the process is fitted to. ``"ranks"``: normal scores of the observations'
            ranks, robust to any scale of values; ``"values"``: the values, standardised.
        output_bound: Outputs are cut at plus and minus this. With None they are taken as they are,
            and must be finite: for outputs that were compressed before.
        random_state: Unused, since nothing is drawn; all surrogates have it.
    """

    def __init__(
        self,
        *,
        features: str = "both",
        acquisition: Acquisition = "ucb",
        exploration: float = 1.0,
        leap_every: int | None = 4,
        targets: Targets = "ranks",
        output_bound: float | None = OUTPUT_BOUND,
        random_state: int = 0,
    ) -> None:
        self.features = features
        self.acquisition = acquisition
        self.exploration = exploration
        self.leap_every = leap_every
        self.targets = targets
        self.output_bound = output_bound
        self.random_state = random_state

    def _place(self) -> None:
        self._columns = DistanceColumns(COLUMN_BYTES)
        self._everywhere: tuple[Floats, Floats] | None = None

    def _placed_more(self, new: dict[str, NDArray[np.float32]]) -> None:
        del new
        self._everywhere = None

    def _learn(self, observations: Observations) -> None:
        self._everywhere = None
        self._scale = self._scale_of(observations)
        rows, studies, targets = self._points(observations, _MOST_FOR_HYPERPARAMETERS)
        hyperparameters = fit_hyperparameters(
            self._between(rows), studies, targets, Prior(), n_others=len(observations.others)
        )
        rows, studies, targets = self._points(observations, self._most_points())
        self._rows = np.concatenate([rows, observations.running])
        studies = np.concatenate([studies, np.zeros(len(observations.running), dtype=np.intp)])
        self.posterior_ = Posterior.of(hyperparameters, self._between(self._rows), studies, targets)
        self._best = self._best_mean(observations)

    def _points(self, observations: Observations, limit: int) -> tuple[Indices, Indices, Floats]:
        """Return rows, studies and targets of at most `limit` observations, own ones first."""
        all_studies = (observations, *observations.others)
        limits = _shares([len(study.rows) for study in all_studies], limit)
        parts = []
        for number, (study, share) in enumerate(zip(all_studies, limits, strict=True)):
            scores = self._scores(study)
            chosen = representative(scores, share)
            parts.append((study.rows[chosen], np.full(len(chosen), number), scores[chosen]))
        rows, studies, targets = (np.concatenate(column) for column in zip(*parts, strict=True))
        return rows, studies, targets

    def _most_points(self) -> int:
        fitting = COLUMN_BYTES // (4 * self.n_rows_ * len(self._parts))
        return int(np.clip(fitting, 1, _MOST_POINTS))

    def _scores(self, observations: Observations) -> Floats:
        if self.targets == "ranks":
            return rank_scores(observations.values)
        return standard_scores(observations.filled)

    def _scale_of(self, observations: Observations) -> Scale:
        if len(observations.rows):
            return Scale.through(self._scores(observations), observations.filled)
        ranks = (np.arange(100) + 0.5) / 100
        return Scale.through(norm.ppf(ranks), ranks)

    def _between(self, rows: Indices) -> list[Floats]:
        scales = self._scales()
        columns = self._columns.of(self._parts, rows.tolist())
        return [
            np.array([column[rows] for column in columns[name]], dtype=np.float64).reshape(
                len(rows), len(rows)
            )
            / scales[name]
            for name in columns
        ]

    def _best_mean(self, observations: Observations) -> float:
        tried = observations.rows if len(observations.rows) else observations.others[0].rows
        return float(self._posterior_at(tried)[0].max())

    def _posterior_at(self, rows: Indices) -> tuple[Floats, Floats]:
        """Mean and standard deviation in units of the targets.

        Of many rows all are computed, which are then at hand for the next question.
        """
        if 2 * len(rows) < self.n_rows_:
            return self._computed(rows)
        if self._everywhere is None:
            self._everywhere = self._computed(np.arange(self.n_rows_))
        mean, std = self._everywhere
        return mean[rows], std[rows]

    def _computed(self, rows: Indices) -> tuple[Floats, Floats]:
        scales = self._scales()
        columns = self._columns.of(self._parts, self._rows.tolist())
        mean, std = np.empty(len(rows)), np.empty(len(rows))
        step = max(1, _BLOCK_NUMBERS // len(self._rows))
        for start in range(0, len(rows), step):
            block = rows[start : start + step]
            where = slice(block[0], block[-1] + 1) if _consecutive(block) else block
            distances = [
                np.array([column[where] for column in columns[name]], dtype=np.float32)
                for name in columns
            ]
            for name, part in zip(columns, distances, strict=True):
                part /= np.float32(scales[name])
            mean[start : start + step], std[start : start + step] = self.posterior_.predict(
                distances
            )
        return mean, std

    def _predicted(self, rows: Indices) -> tuple[Floats, Floats]:
        mean, std = self._posterior_at(rows)
        return self._scale.values_of(mean), self._scale.spread_of(mean, std)

    def _acquired(self, rows: Indices) -> Floats:
        mean, std = self._posterior_at(rows)
        factor = _LEAP if self._leaps() else 1.0
        return acquisition_values(
            self.acquisition, mean, std, best=self._best, exploration=factor * self.exploration
        )

    def _leaps(self) -> bool:
        count = len(self.observations_.rows) + len(self.observations_.running)
        every = self.leap_every
        due = every is not None and count >= _FIRST_LEAP and count % every == 0
        return due and self.acquisition == "ucb"

    def _check_parameters(self) -> None:
        super()._check_parameters()
        owner = type(self).__name__
        check_acquisition(owner, self.acquisition, self.exploration)
        if self.targets not in TARGETS:
            raise SurrogateError(
                f"targets of {owner} must be one of {TARGETS}, but got {self.targets!r}"
            )
        every = self.leap_every
        if every is not None and not (is_integer(every) and every >= 1):
            raise SurrogateError(
                f"leap_every of {owner} must be an integer of at least 1, or None, but got "
                f"{every!r}"
            )
        bound = self.output_bound
        if bound is not None and not (is_number(bound) and 0 < bound < np.inf):
            raise SurrogateError(
                f"output_bound of {owner} must be a finite number above 0, or None for outputs "
                f"taken as they are, but got {bound!r}"
            )


def _shares(sizes: list[int], limit: int) -> list[int]:
    """Share `limit` points among studies: half at least for the own, equal parts for the others."""
    own, *others = sizes
    own_share = max(min(own, limit - sum(others)), min(own, limit - limit // 2))
    return [own_share, *[max(1, (limit - own_share) // len(others)) for _ in others]]


def _consecutive(rows: Indices) -> bool:
    return len(rows) > 0 and bool((np.diff(rows) == 1).all())
