"""A Gaussian process straight on the distances of both features, without a map.

Its kernel is a sum of exponential kernels of comparisons (`_distances.py`). A new candidate needs
its distances to what was tried and nothing else, so that candidates join without a refit, and there
is no fewest number of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from scipy.stats import norm

from aquasurf_optuna.exceptions import SurrogateError
from aquasurf_optuna.surrogate._acquisition import (
    Acquisition,
    acquisition_values,
    check_acquisition,
)
from aquasurf_optuna.surrogate._base import COLUMN_BYTES, METRICS, Surrogate, usual_distance
from aquasurf_optuna.surrogate._checks import OUTPUT_BOUND, is_number, needed_features
from aquasurf_optuna.surrogate._distances import FEATURE_OF, DistanceColumns
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


class GaussianProcessSurrogate(Surrogate):
    """Gaussian process whose kernel adds exponentials of several distances of both features.

    The covariance of two candidates is the sum of ``w_c exp(-d_c / l_c)`` over comparisons c, with
    weights that sum to 1, times an amplitude, plus a level common to all and, of an observation
    with itself, noise. Each distance is in units of its median among the candidates:

    ============  ==================================================================
    ``fisher``    of Fisher vectors, as in Equation 2
    ``outputs``   of outputs, as in Equation 3
    ``mirrored``  of outputs, where f(x) and -f(x) are alike
    ``shape``     of outputs, where f(x) and c f(x) + d are alike
    ============  ==================================================================

    Networks with normalisation, and weights drawn from symmetric distributions, can hardly tell
    apart what the last two take for alike. Lengths, weights and noise maximise the marginal
    likelihood times weak priors, anew at each :meth:`fit` and from the same start, so that what is
    learned depends on the candidates and the arguments of :meth:`fit` alone.

    Failures count as the worst value, all tied. Running candidates narrow the spread around them as
    if they had turned out as predicted. Other studies, each on a scale of its own, share a part of
    their process with this one; how much is learned as well. While there are no own observations,
    predictions come from the others, as ranks from 0 to 1.

    Cost: the first time that a candidate is observed, its distances to all others (0.1 s for 7,000
    candidates with 13,692 numbers), and in memory the outputs once more, for ``shape``; per fit, a
    search of hyperparameters over at most 300 observations (if there are more, the best half and an
    even spread of the others); per ranking, ``t**2`` operations a candidate. Of more than 2,000
    observations (fewer where distances would take more than 800 MB), predictions come from as many,
    chosen in the same way.

    Args:
        features: ``"both"``, ``"fisher"`` or ``"outputs"``: which distances count.
        acquisition: How :meth:`acquire` ranks: ``"ucb"``, ``"ei"``, ``"pi"`` or ``"greedy"``.
        exploration: 0 exploits; the higher, the more :meth:`acquire` explores.
        comparisons: Some of those above, of features that count; None for all of these.
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
        exploration: float = 2.0,
        comparisons: Sequence[str] | None = None,
        targets: Targets = "ranks",
        output_bound: float | None = OUTPUT_BOUND,
        random_state: int = 0,
    ) -> None:
        self.features = features
        self.acquisition = acquisition
        self.exploration = exploration
        self.comparisons = comparisons
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
        fitting = COLUMN_BYTES // (4 * self.n_rows_ * len(self._scales_compared))
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
        scales = self._scales_compared
        columns = self._columns.of(self._parts, rows.tolist(), list(scales))
        return [
            np.array([column[rows] for column in columns[name]], dtype=np.float64).reshape(
                len(rows), len(rows)
            )
            / scale
            for name, scale in scales.items()
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
        scales = self._scales_compared
        columns = self._columns.of(self._parts, self._rows.tolist(), list(scales))
        mean, std = np.empty(len(rows)), np.empty(len(rows))
        step = max(1, _BLOCK_NUMBERS // len(self._rows))
        for start in range(0, len(rows), step):
            block = rows[start : start + step]
            where = slice(block[0], block[-1] + 1) if _consecutive(block) else block
            distances = [
                np.array([column[where] for column in columns[name]], dtype=np.float32)
                for name in columns
            ]
            for scale, part in zip(scales.values(), distances, strict=True):
                part /= np.float32(scale)
            mean[start : start + step], std[start : start + step] = self.posterior_.predict(
                distances
            )
        return mean, std

    def _predicted(self, rows: Indices) -> tuple[Floats, Floats]:
        mean, std = self._posterior_at(rows)
        return self._scale.values_of(mean), self._scale.spread_of(mean, std)

    def _acquired(self, rows: Indices) -> Floats:
        mean, std = self._posterior_at(rows)
        return acquisition_values(
            self.acquisition,
            mean,
            std,
            best=self._best,
            exploration=self._boldness * self.exploration,
        )

    def _measure_scales(self) -> None:
        super()._measure_scales()
        sample = {name: part[self._rows_for_scales()] for name, part in self._parts.items()}
        among = list(range(len(next(iter(sample.values())))))
        columns = DistanceColumns(COLUMN_BYTES).of(sample, among, self._compared())
        self._scales_compared = {
            name: self._scales_known[name] if name in METRICS else usual_distance(np.array(found))
            for name, found in columns.items()
        }

    def _compared(self) -> list[str]:
        """Return the comparisons that count, in one order whatever that of the setting."""
        chosen = self.comparisons
        return [c for c in self._possible() if chosen is None or c in chosen]

    def _possible(self) -> list[str]:
        return [c for c, of in FEATURE_OF.items() if of in needed_features(self.features)]

    def _check_parameters(self) -> None:
        super()._check_parameters()
        owner = type(self).__name__
        check_acquisition(owner, self.acquisition, self.exploration)
        if self.targets not in TARGETS:
            raise SurrogateError(
                f"targets of {owner} must be one of {TARGETS}, but got {self.targets!r}"
            )
        chosen = self.comparisons
        possible = self._possible()
        if chosen is not None and (
            isinstance(chosen, str) or not chosen or not set(chosen) <= set(possible)
        ):
            raise SurrogateError(
                f"comparisons of {owner} must be some of {possible}, those of "
                f"features={self.features!r}, or None for all, but got {chosen!r}"
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
