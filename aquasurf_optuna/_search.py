"""In what order combinations of functions are tried.

Baselines come first, then the candidates as the surrogate ranks them. Where the user fixed some
nodes, only functions that have a graph with these operators there are meant.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import optuna

from aquasurf_optuna._explanation import Explanation, Neighbour
from aquasurf_optuna._history import History
from aquasurf_optuna._objectives import mean_ranks, scalarized
from aquasurf_optuna.surrogate import diversified, novelty

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from numpy.typing import NDArray

    from aquasurf_optuna._candidates import CandidatePool
    from aquasurf_optuna._combinations import Combinations
    from aquasurf_optuna._history import Combination
    from aquasurf_optuna._site import Site

    Floats = NDArray[np.float64]
    Fixed = Sequence[Mapping[str, Any]]

_logger = optuna.logging.get_logger(f"optuna.{__name__}")

_NEAREST = 3

# With several objectives, weights that are drawn anew for each proposal explore already: with the
# two of the tests, the front of 30 trials dominates 3.74 with this and 3.59 with 1 (12 seeds).
_BOLDNESS_OF_SEVERAL = 0.5


class Choice(NamedTuple):
    """What might be tried next.

    Attributes:
        key: The combination.
        params: Parameters of a graph for each site.
        reason: A key of ``_explanation.REASONS``.
        rank: Place in the ranking, from 1, or None.
        n_candidates: How many were ranked.
    """

    key: Combination
    params: tuple[dict[str, Any], ...]
    reason: str
    rank: int | None = None
    n_candidates: int = 0


@dataclass(frozen=True)
class Transfer:
    """What another study has shown: values of each combination, higher being better."""

    values: dict[Combination, tuple[float, ...]]


class Search:
    """The search of one sampler.

    Args:
        sites: The activations.
        combinations: The candidates.
        pool: Their features, in the surrogate.
        diversity: From 0, none, to 1: how much a candidate counts that is unlike all tried ones.
    """

    def __init__(
        self,
        sites: Sequence[Site],
        combinations: Combinations,
        pool: CandidatePool,
        *,
        diversity: float,
    ) -> None:
        self.pool = pool
        self.combinations = combinations
        self.transfers: list[Transfer] = []
        self._sites = tuple(sites)
        self._diversity = diversity
        self._told_unmeasured = False
        self._followed: list[tuple[Combination, tuple[float, ...]]] = []
        self._fitted: tuple[History, int, int, int] | None = None

    def warm_up(self, history: History) -> None:
        """Place the candidates, and do what the first fit needs of the baselines and of a study.

        A distance to all candidates is measured for each: a tenth of a second for 7,000 of them
        with the paper's histograms.
        """
        self._bring_up_to_date(history)
        for objective in range(_n_objectives(history) if history.values else 0):
            self._fit(self.pool, history, objective)
        rows = [self.pool.rows[k] for k in self.combinations.baselines() if k in self.pool.rows]
        if rows:
            self.pool.surrogate.fit(rows, np.zeros(len(rows)))
            self.pool.surrogate.acquire(list(self.pool.rows.values()))
            self._fitted = None

    def in_order(self, history: History, fixed: Fixed, weights: Floats) -> Iterator[Choice]:
        """Yield what is neither tried nor running, the next to try first.

        Args:
            history: The study so far.
            fixed: For each site, the operators that are settled, by node. Where there are any,
                functions outside the candidates that fit follow at the end, unranked. Without any,
                functions that nobody has measured yet follow where other processes measure: a
                proposal waits for none of them.
            weights: Of the objectives, ``(m,)``.
        """
        seen: set[Combination] = set(history.taken)
        yield from self._choices(self.combinations.baselines(), fixed, "baseline", seen)
        while True:
            ranked, is_ranked = self._ranked(history, fixed, weights, seen)
            reason = "predicted" if is_ranked else "first"
            yield from self._choices(ranked, fixed, reason, seen)
            # Whoever is still here has met others at all of them. What is fixed is met by few: a
            # larger pool would be measured for nothing.
            if any(fixed) or not self.combinations.grow():
                break
        if any(fixed):
            yield from self._choices(self._outside(fixed), fixed, "unranked", seen)
        elif not all(site.source.measures for site in self._sites):
            yield from self._choices(self._unmeasured(), fixed, "unmeasured", seen)

    def repeated(self, history: History, fixed: Fixed, rng: np.random.Generator) -> Choice:
        """Return what to do where nothing is left to try: the best known, or else any function."""
        complete = [key for key in history.values if None not in key]
        if complete:
            ranks = mean_ranks(np.array([history.values[key] for key in complete]))
            best = [complete[i] for i in np.argsort(-ranks, kind="stable")]
            choice = next(self._choices(best, fixed, "repeated", set()), None)
            if choice is not None:
                return choice
        drawn = [
            site.drawn_by_chance(nodes, rng) for site, nodes in zip(self._sites, fixed, strict=True)
        ]
        return Choice(tuple(c for c, _ in drawn), tuple(params for _, params in drawn), "chance")

    def predicted(self, history: History, key: Combination) -> tuple[Floats, Floats] | None:
        """Predict one combination, which need not be a candidate.

        Nothing that is proposed later depends on whether it was asked for.

        Returns:
            Means and standard deviations of the objectives, each ``(m,)``, higher being better;
            None if there is no value to learn from, or the features of the combination, or of all
            those tried, are not valid.
        """
        if not (history.has_scale and self.pool.is_valid(key)):
            return None
        self._lay_out()
        return self._predicted(self._pool_with([*self._learned_from(history), key]), history, key)

    def _predicted(
        self, pool: CandidatePool, history: History, key: Combination
    ) -> tuple[Floats, Floats] | None:
        found = []
        for objective in range(_n_objectives(history)):
            if not self._fit(pool, history, objective):
                return None
            mean, std = pool.surrogate.predict([pool.rows[key]], return_std=True)
            found.append((float(mean[0]), float(std[0])))
        means, stds = np.array(found).T
        return means, stds

    def explanation(self, choice: Choice, history: History, weights: Floats) -> Explanation:
        """Return why a choice was made; values are higher the better."""
        functions = self._texts(choice.key)
        if choice.reason != "predicted":
            return Explanation(functions, choice.reason)
        pool = self._pool_with([choice.key])
        predicted = self._predicted(pool, history, choice.key) if history.has_scale else None
        means, stds = predicted if predicted is not None else (np.zeros(0), np.zeros(0))
        return Explanation(
            functions,
            choice.reason,
            surrogate=type(self.pool.surrogate).__name__,
            predicted=tuple(means.tolist()),
            spread=tuple(s if np.isfinite(s) else None for s in stds.tolist()),
            weights=tuple(weights.tolist()) if len(weights) > 1 else (),
            rank=choice.rank,
            n_candidates=choice.n_candidates,
            n_observed=sum(key in pool.rows for key in history.values),
            nearest=_nearest(pool, self._texts, choice.key, history),
        )

    def _ranked(
        self, history: History, fixed: Fixed, weights: Floats, seen: set[Combination]
    ) -> tuple[list[Combination], bool]:
        """Return the candidates that nobody has and whether there was anything to rank by.

        The best comes first.
        """
        pool, free = self._free(history, fixed, seen)
        if not free or not (history.values or self.transfers):
            return free, False
        pool.add(self._learned_from(history))
        rows = np.array([pool.rows[key] for key in free])
        columns = []
        boldness = 1.0 if len(weights) == 1 else _BOLDNESS_OF_SEVERAL
        for objective in range(len(weights)):
            if not self._fit(pool, history, objective):
                return free, False
            columns.append(pool.surrogate.acquire(rows, boldness=boldness))
        score = scalarized(np.stack(columns, axis=1), weights)
        if self._diversity > 0:
            score = diversified(score, _novelty(pool, history, rows), self._diversity)
        return [free[i] for i in np.argsort(-score, kind="stable")], True

    def _free(
        self, history: History, fixed: Fixed, seen: set[Combination]
    ) -> tuple[CandidatePool, list[Combination]]:
        candidates = self._bring_up_to_date(history)
        pool = self.pool
        if any(fixed):
            candidates = [key for key in candidates if self._fits(key, fixed)]
            if len(self._sites) > 1:
                more = self.combinations.fitting(fixed)
                pool = self._pool_with(more)
                candidates = list(dict.fromkeys([*candidates, *more]))
        return pool, [key for key in candidates if key in pool.rows and key not in seen]

    def _pool_with(self, keys: Sequence[Combination]) -> CandidatePool:
        """Return the pool, or a copy of it with what is missing.

        What was asked for once stays out: a process that joins later does not know of it.
        """
        new = [key for key in keys if not self.pool.has_met(key)]
        self.pool.measure(new)
        if not any(self.pool.is_valid(key) for key in new):
            return self.pool
        pool = self.pool.copy()
        pool.add(new)
        return pool

    def _bring_up_to_date(self, history: History) -> list[Combination]:
        """Return the candidates, all of them placed as far as they are valid.

        The study is gone through from its start, one function after another, whether or not this
        process was there. So a process that joins later has the same candidates, placed the same.
        """
        self._lay_out()
        for part in self._parts(history):
            if self.combinations.follows:
                self._follow(part)
            self.pool.add([self._followed[-1][0]])
        candidates = self.combinations.all(History())
        self.pool.add(candidates)
        return candidates

    def _lay_out(self) -> None:
        """Place first what does not depend on what was tried."""
        if not self.pool.rows:
            self.pool.add(self.combinations.all(History()))
            self.pool.add(self._learned_from(History()))

    def _parts(self, history: History) -> Iterator[History]:
        """Yield the history up to each function that ended since the last call."""
        firsts = list(history.first_values.items())
        if firsts[: len(self._followed)] != self._followed:
            # A trial has come in between, or this is another study.
            self._followed = []
            self.combinations.restart()
        for first in firsts[len(self._followed) :]:
            self._followed.append(first)
            yield History(values=dict(self._followed))

    def _follow(self, part: History) -> None:
        while True:
            candidates = self.combinations.all(part)
            self.pool.add(candidates)
            free = (key for key in candidates if key in self.pool.rows and key not in part.values)
            if next(free, None) is not None or not self.combinations.grow():
                return

    def _learned_from(self, history: History) -> list[Combination]:
        others = [key for transfer in self.transfers for key in transfer.values]
        return [*history.values, *others]

    def _fit(self, pool: CandidatePool, history: History, objective: int) -> bool:
        """Fit to one objective; False where nothing tried has valid features."""
        pool.add(self._learned_from(history))
        state = (history, objective, len(pool.rows), len(self.transfers))
        if pool is self.pool and self._fitted == state:
            return True
        rows = pool.rows
        observed = {rows[key]: v[objective] for key, v in history.values.items() if key in rows}
        others = []
        for transfer in self.transfers:
            found = {
                rows[key]: values[objective]
                for key, values in transfer.values.items()
                if key in rows and objective < len(values)
            }
            if found:
                others.append((list(found), list(found.values())))
        if not observed and not others:
            return False
        running = [rows[key] for key in dict.fromkeys(history.rivals.values()) if key in rows]
        pool.surrogate.fit(list(observed), list(observed.values()), running=running, others=others)
        if pool is self.pool:
            self._fitted = state
        return True

    def _outside(self, fixed: Fixed) -> Iterable[Combination]:
        if len(self._sites) > 1:
            return self.combinations.fitting(fixed)
        site = self._sites[0]
        return ((class_id,) for class_id in site.shuffled)

    def _unmeasured(self) -> Iterator[Combination]:
        """Yield combinations at random, without those that are known to be invalid."""
        for key in zip(*(site.shuffled for site in self._sites), strict=False):
            if not self.pool.is_ruled_out(key):
                self._tell_unmeasured()
                yield key

    def _tell_unmeasured(self) -> None:
        if not self._told_unmeasured:
            self._told_unmeasured = True
            _logger.warning(
                "every function with valid Fisher features in the store is tried or running; until "
                "there are more, functions are drawn at random (AquaSurfSampler.measure, or "
                "`aquasurf features`, in other processes fills the store)"
            )

    def _choices(
        self,
        keys: Iterable[Combination],
        fixed: Fixed,
        reason: str,
        seen: set[Combination],
    ) -> Iterator[Choice]:
        """Yield choices for those of `keys` that fit and were not seen; they are then."""
        n_candidates = len(keys) if isinstance(keys, list) else 0
        for place, key in enumerate(keys):
            if key in seen:
                continue
            params = [
                None if class_id is None else site.params_of(class_id, nodes)
                for site, class_id, nodes in zip(self._sites, key, fixed, strict=True)
            ]
            found = tuple(each for each in params if each is not None)
            if len(found) == len(params):
                seen.add(key)
                rank = place + 1 if reason == "predicted" else None
                yield Choice(key, found, reason, rank, n_candidates)

    def _fits(self, key: Combination, fixed: Fixed) -> bool:
        return all(
            not nodes or (class_id is not None and site.params_of(class_id, nodes) is not None)
            for site, class_id, nodes in zip(self._sites, key, fixed, strict=True)
        )

    def _texts(self, key: Combination) -> dict[str, str]:
        return {
            site.name: str(site.expression(class_id))
            for site, class_id in zip(self._sites, key, strict=True)
            if class_id is not None
        }


def _n_objectives(history: History) -> int:
    return len(next(iter(history.values.values())))


def _novelty(pool: CandidatePool, history: History, rows: NDArray[np.intp]) -> Floats:
    known = [
        pool.rows[key]
        for key in dict.fromkeys([*history.values, *history.rivals.values()])
        if key in pool.rows
    ]
    return novelty(pool.surrogate, rows, known)


def _nearest(
    pool: CandidatePool,
    texts: Callable[[Combination], dict[str, str]],
    key: Combination,
    history: History,
) -> tuple[Neighbour, ...]:
    tried = [other for other in history.values if other in pool.rows]
    if not tried:
        return ()
    rows = [pool.rows[other] for other in tried]
    distances = pool.surrogate.distances([pool.rows[key]], rows)[0]
    return tuple(
        Neighbour(
            texts(tried[i]),
            tuple(v if np.isfinite(v) else None for v in history.values[tried[i]]),
            float(distances[i]),
        )
        for i in np.argsort(distances, kind="stable")[:_NEAREST]
    )
