"""What a study has run, read from its trials in terms of function classes.

A *combination* holds one class for each activation of a study, or None where a trial did not
suggest that activation; with one activation it is a tuple of one.

Trials are read anew at every proposal, from the storage, so that trials of other samplers, threads
and processes count like one's own. What ran is what ``trial.params`` say, not what was proposed:
enqueued and fixed parameters pass a sampler by.

Written are a *claim*, a system attribute ``aquasurf:<name>`` with the text of the function
proposed, since a running trial has no parameters before its objective asks for them; and a mark on
a trial that was told to have failed. A claimed trial that failed without being told so belonged to
a worker that died: its function is free again, unless that happens again and again.

What a trial counts as, higher being better:

==========================  =====================================================================
finished, a finite value    the value
pruned, with a report       the value of the finished trial that stood nearest at the same step;
                            without one to compare, the report, at most the worst finished value
anything else that ended    minus infinity: a failure
==========================  =====================================================================
"""

from __future__ import annotations

import datetime
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from optuna.study import StudyDirection
from optuna.trial import TrialState

from aquasurf_optuna.exceptions import AquaSurfError

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

    from aquasurf_optuna.catalogue import Catalogue
    from aquasurf_optuna.space import SearchSpace

Combination = tuple[int | None, ...]

FAILED_KEY = "aquasurf:failed"
FAILURE = -math.inf

# A function whose workers die this often takes them with it: it counts as a failure.
_MOST_DEATHS = 3


def claim_key(name: str) -> str:
    """Return the system attribute that holds the claim of an activation."""
    return f"aquasurf:{name}"


@dataclass(frozen=True)
class History:
    """The state of a study.

    Attributes:
        taken: Combinations that are tried, running, claimed or waiting in the queue.
        values: For each combination tried, the mean value of each objective, higher being better;
            minus infinity where there were failures alone. In the order in which they ended.
        first_values: What the first trial of each counted as when it ended. A trial that ends later
            changes nothing in it, so the processes of a study agree on how it came about.
        rivals: Combination of every other running trial, by trial number.
        n_finished: How many of the trials that name a combination have ended.
    """

    taken: frozenset[Combination] = frozenset()
    values: dict[Combination, tuple[float, ...]] = field(default_factory=dict)
    first_values: dict[Combination, tuple[float, ...]] = field(default_factory=dict)
    rivals: dict[int, Combination] = field(default_factory=dict)
    n_finished: int = 0

    @property
    def has_scale(self) -> bool:
        """Whether a value was measured, and not failures alone."""
        return any(math.isfinite(value) for values in self.values.values() for value in values)

    def of_objective(self, objective: int) -> dict[Combination, float]:
        """Return the values of one objective."""
        return {key: values[objective] for key, values in self.values.items()}


class ActivationReader:
    """Reads what trials ran for one activation; remembers what parameters mean.

    Args:
        name: Name under which the space is suggested.
        space: The space.
        catalogue: Its classes.
    """

    def __init__(self, name: str, space: SearchSpace, catalogue: Catalogue) -> None:
        self.claim_key = claim_key(name)
        self._name = name
        self._space = space
        self._catalogue = catalogue
        self._nodes = tuple(space.distributions(name))
        # Keyed by operators, not by trial number: one sampler may serve several studies.
        self._known: dict[tuple[Any, ...], int | None] = {}
        self._known_claims: dict[str, int | None] = {}

    def class_of_params(self, params: Mapping[str, Any]) -> int | None:
        """Return the class that parameters name, or None if they name no function of the space."""
        operators = tuple(params.get(node) for node in self._nodes)
        if operators not in self._known:
            self._known[operators] = self._look_up(params)
        return self._known[operators]

    def class_of_trial(self, trial: FrozenTrial) -> int | None:
        """Return the class that a trial ran, runs or is to run."""
        class_id = self.class_of_params(trial.params)
        if class_id is not None:
            return class_id
        if not trial.state.is_finished():
            fixed = trial.system_attrs.get("fixed_params", {})
            class_id = self.class_of_params({**fixed, **trial.params})
        if class_id is None and trial.state == TrialState.RUNNING:
            class_id = self._class_of_claim(trial.system_attrs.get(self.claim_key))
        return class_id

    def _look_up(self, params: Mapping[str, Any]) -> int | None:
        try:
            return self._catalogue.class_of(self._space.expression_of(params, self._name))
        except AquaSurfError:
            return None

    def _class_of_claim(self, claim: object) -> int | None:
        if not isinstance(claim, str):
            return None
        if claim not in self._known_claims:
            try:
                self._known_claims[claim] = self._catalogue.class_of(claim)
            except AquaSurfError:
                self._known_claims[claim] = None
        return self._known_claims[claim]


class HistoryReader:
    """Reads the trials of studies.

    Args:
        readers: One for each activation.
        running_timeout: After how many seconds a running trial counts as that of a dead worker;
            None for never.
    """

    def __init__(
        self, readers: Sequence[ActivationReader], running_timeout: float | None = None
    ) -> None:
        self._readers = tuple(readers)
        self._timeout = running_timeout

    def read(
        self,
        trials: Iterable[FrozenTrial],
        directions: Sequence[StudyDirection],
        *,
        exclude: int | None = None,
    ) -> History:
        """Read `trials`, leaving out the one with the number `exclude`."""
        taken: set[Combination] = set()
        rivals: dict[int, Combination] = {}
        ended: list[tuple[Combination, FrozenTrial]] = []
        deaths: Counter[Combination] = Counter()
        for trial in trials:
            if trial.number == exclude:
                continue
            key = self.combination_of(trial)
            if key is None:
                continue
            is_dead = self._is_dead(trial)
            if is_dead:
                deaths[key] += 1
                if deaths[key] < _MOST_DEATHS:
                    continue
            taken.add(key)
            if is_dead or trial.state.is_finished():
                ended.append((key, trial))
            elif trial.state == TrialState.RUNNING:
                rivals[trial.number] = key
        ended.sort(key=lambda pair: (_ended_at(pair[1]), pair[1].number))
        return History(
            frozenset(taken), *_values_of(ended, directions), rivals, n_finished=len(ended)
        )

    def combination_of(self, trial: FrozenTrial) -> Combination | None:
        """Return the combination of a trial, or None if it names no function of any activation."""
        key = tuple(reader.class_of_trial(trial) for reader in self._readers)
        return None if all(class_id is None for class_id in key) else key

    def _is_dead(self, trial: FrozenTrial) -> bool:
        """Say whether the trial's worker died, as far as can be seen."""
        if trial.state == TrialState.RUNNING and self._timeout is not None:
            started = trial.datetime_start
            return (
                started is not None
                and (datetime.datetime.now() - started).total_seconds() > self._timeout
            )
        claimed = any(reader.claim_key in trial.system_attrs for reader in self._readers)
        return trial.state == TrialState.FAIL and claimed and FAILED_KEY not in trial.system_attrs


class _Scores:
    """What an ended trial counts as beside those known to have finished; see the top."""

    def __init__(self, directions: Sequence[StudyDirection]) -> None:
        self._signs = [1.0 if d == StudyDirection.MAXIMIZE else -1.0 for d in directions]
        self._finished: list[tuple[FrozenTrial, float]] = []
        self._worst = math.inf

    def learn(self, trial: FrozenTrial) -> None:
        """Compare later ones with this trial, if it has finished with a value."""
        value = self._values(trial)[0] if trial.state == TrialState.COMPLETE else FAILURE
        if value != FAILURE:
            self._finished.append((trial, value))
            self._worst = min(self._worst, value)

    def of(self, trial: FrozenTrial) -> tuple[float, ...]:
        """Return the values of the objectives."""
        if trial.state == TrialState.COMPLETE:
            return self._values(trial)
        if trial.state == TrialState.PRUNED and len(self._signs) == 1:
            return (self._pruned(trial),)
        return (FAILURE,) * len(self._signs)

    def _values(self, trial: FrozenTrial) -> tuple[float, ...]:
        values: Sequence[float] = trial.values or ()
        if len(values) != len(self._signs):
            return (FAILURE,) * len(self._signs)
        return tuple(
            sign * value if math.isfinite(value) else FAILURE
            for sign, value in zip(self._signs, values, strict=True)
        )

    def _pruned(self, trial: FrozenTrial) -> float:
        reports = trial.intermediate_values
        step = max(reports, default=None)
        if step is None or not math.isfinite(reports[step]):
            return FAILURE
        report = self._signs[0] * reports[step]
        gaps = [
            (abs(self._signs[0] * other.intermediate_values[step] - report), value)
            for other, value in self._finished
            if math.isfinite(other.intermediate_values.get(step, math.nan))
        ]
        return min(gaps)[1] if gaps else min(report, self._worst)


def _ended_at(trial: FrozenTrial) -> datetime.datetime:
    # A worker that died before it could say so has left the time of its start at most.
    return trial.datetime_complete or trial.datetime_start or datetime.datetime.min


def _values_of(
    ended: Sequence[tuple[Combination, FrozenTrial]], directions: Sequence[StudyDirection]
) -> tuple[dict[Combination, tuple[float, ...]], dict[Combination, tuple[float, ...]]]:
    """Return the mean values and the first values, given trials in the order of their ends."""
    scores = _Scores(directions)
    first_values: dict[Combination, tuple[float, ...]] = {}
    for key, trial in ended:
        if key not in first_values:
            first_values[key] = scores.of(trial)
        scores.learn(trial)
    return _mean_values([(key, scores.of(trial)) for key, trial in ended]), first_values


def _mean_values(
    scores: Sequence[tuple[Combination, tuple[float, ...]]],
) -> dict[Combination, tuple[float, ...]]:
    """Average over the trials of a combination; a failure beside others is the worst of all."""
    by_key: dict[Combination, list[tuple[float, ...]]] = {}
    for key, values in scores:
        by_key.setdefault(key, []).append(values)
    n_objectives = len(scores[0][1]) if scores else 0
    worst = [
        min((values[j] for _, values in scores if math.isfinite(values[j])), default=FAILURE)
        for j in range(n_objectives)
    ]
    return {
        key: tuple(_mean([values[j] for values in some], worst[j]) for j in range(n_objectives))
        for key, some in by_key.items()
    }


def _mean(values: Sequence[float], worst: float) -> float:
    if all(value == FAILURE for value in values):
        return FAILURE
    return math.fsum(worst if value == FAILURE else value for value in values) / len(values)
