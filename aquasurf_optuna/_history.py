"""What a study has run, read from its trials in terms of function classes.

Trials are read anew at every proposal, from the storage, so that trials of other samplers, threads
and processes count like one's own. What ran is what ``trial.params`` say, not what was proposed:
enqueued and fixed parameters pass a sampler by.

A *claim* is the one thing written: a system attribute ``aquasurf:<name>`` with the text of the
function proposed, since a running trial has no parameters before its objective asks for them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from optuna.trial import TrialState

from aquasurf_optuna.exceptions import AquaSurfError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from optuna.trial import FrozenTrial

    from aquasurf_optuna.catalogue import Catalogue
    from aquasurf_optuna.space import SearchSpace


@dataclass(frozen=True)
class History:
    """The state of a study for one activation.

    Attributes:
        taken: Classes that are tried, running, claimed or waiting in the queue.
        values: Mean value of each class tried, higher being better, failures included.
        rivals: Claimed class of every other running trial, by trial number.
        has_scale: Whether a value was measured. With failures alone, `values` are made up.
    """

    taken: frozenset[int]
    values: dict[int, float]
    rivals: dict[int, int]
    has_scale: bool


class HistoryReader:
    """Reads the trials of studies for one activation; remembers what parameters mean.

    Args:
        name: Name under which the space is suggested.
        space: The space.
        catalogue: Its classes.
    """

    def __init__(self, name: str, space: SearchSpace, catalogue: Catalogue) -> None:
        self.claim_key = f"aquasurf:{name}"
        self._name = name
        self._space = space
        self._catalogue = catalogue
        self._nodes = tuple(space.distributions(name))
        # Keyed by operators, not by trial number: one sampler may serve several studies.
        self._known: dict[tuple[Any, ...], int | None] = {}
        self._known_claims: dict[str, int | None] = {}

    def read(
        self, trials: Iterable[FrozenTrial], *, maximize: bool, exclude: int | None = None
    ) -> History:
        """Read `trials`, leaving out the one with the number `exclude`.

        A failed or pruned trial, or one whose value is not finite, counts as bad as the worst
        finished one; below it where the finished ones are all alike, since a failure must differ.
        """
        taken: set[int] = set()
        rivals: dict[int, int] = {}
        scores: dict[int, list[float | None]] = {}
        for trial in trials:
            if trial.number == exclude:
                continue
            class_id = self._class_of_trial(trial)
            if class_id is None:
                continue
            taken.add(class_id)
            if trial.state == TrialState.RUNNING:
                rivals[trial.number] = class_id
            elif trial.state.is_finished():
                scores.setdefault(class_id, []).append(_score(trial, maximize=maximize))
        has_scale = any(score is not None for some in scores.values() for score in some)
        return History(frozenset(taken), _mean_values(scores), rivals, has_scale)

    def class_of_params(self, params: Mapping[str, Any]) -> int | None:
        """Return the class that parameters name, or None if they name no function of the space."""
        operators = tuple(params.get(node) for node in self._nodes)
        if operators not in self._known:
            self._known[operators] = self._look_up(params)
        return self._known[operators]

    def _look_up(self, params: Mapping[str, Any]) -> int | None:
        try:
            return self._catalogue.class_of(self._space.expression_of(params, self._name))
        except AquaSurfError:
            return None

    def _class_of_trial(self, trial: FrozenTrial) -> int | None:
        class_id = self.class_of_params(trial.params)
        if class_id is not None or trial.state.is_finished():
            return class_id
        fixed = trial.system_attrs.get("fixed_params", {})
        class_id = self.class_of_params({**fixed, **trial.params})
        if class_id is None and self.claim_key in trial.system_attrs:
            class_id = self._class_of_claim(str(trial.system_attrs[self.claim_key]))
        return class_id

    def _class_of_claim(self, claim: str) -> int | None:
        if claim not in self._known_claims:
            try:
                self._known_claims[claim] = self._catalogue.class_of(claim)
            except AquaSurfError:
                self._known_claims[claim] = None
        return self._known_claims[claim]


def _score(trial: FrozenTrial, *, maximize: bool) -> float | None:
    if trial.state != TrialState.COMPLETE or trial.value is None or not math.isfinite(trial.value):
        return None
    return trial.value if maximize else -trial.value


def _mean_values(scores: Mapping[int, list[float | None]]) -> dict[int, float]:
    finished = [score for some in scores.values() for score in some if score is not None]
    failure = min(finished, default=0.0)
    if finished and failure == max(finished):
        failure -= 1.0
    return {
        class_id: math.fsum(failure if score is None else score for score in some) / len(some)
        for class_id, some in scores.items()
    }
