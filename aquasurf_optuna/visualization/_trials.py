"""The trials of a study as figures and reports need them: which function, which value, what state.

A trial's value is NaN unless it completed with a finite value.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import optuna
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from aquasurf_optuna._naming import display_name, names_of_equals
from aquasurf_optuna._pruning import reason_of
from aquasurf_optuna.exceptions import AquaSurfError, SpaceError
from aquasurf_optuna.expression import BASELINES, Expression
from aquasurf_optuna.families import AnySpace
from aquasurf_optuna.visualization._style import Direction

Baselines = Sequence[str | Expression] | Mapping[str, float] | Mapping[Expression, float]
"""Functions to mark; a mapping gives their values, which otherwise come from the study's trials."""

_STATES = {
    TrialState.COMPLETE: "complete",
    TrialState.PRUNED: "pruned",
    TrialState.FAIL: "failed",
}


class TrialRecord(NamedTuple):
    """One finished trial.

    Attributes:
        number: The trial's number in its study.
        state: `"complete"`, `"pruned"`, `"failed"`, or `"not finite"` for an infinite value.
        value: The objective's value; NaN unless the state is `"complete"`.
        expression: The function, or None where the trial ended before it chose one.
        baseline: Name of the baseline that the function equals, or None.
        seconds: How long it took; NaN where the study does not know.
        reason: Why it has no value; empty where it has one.
    """

    number: int
    state: str
    value: float
    expression: Expression | None
    baseline: str | None
    seconds: float = math.nan
    reason: str = ""


class StudyRecord(NamedTuple):
    """What a study has done so far.

    Attributes:
        name: The study's name.
        direction: `"maximize"` or `"minimize"`.
        trials: Its finished trials by number.
        baseline_values: Value of each baseline by its name: given, or the mean of its own trials.
    """

    name: str
    direction: Direction
    trials: tuple[TrialRecord, ...]
    baseline_values: dict[str, float]

    def ranked(self) -> list[tuple[TrialRecord, Expression]]:
        """Return the complete trials and their functions, the best first, equals as they ran.

        A trial whose objective never asked for a function is left out.
        """
        sign = -1.0 if self.direction == "maximize" else 1.0
        complete = [
            (trial, trial.expression)
            for trial in self.trials
            if trial.state == "complete" and trial.expression is not None
        ]
        return sorted(complete, key=lambda pair: (sign * pair[0].value, pair[0].number))


def read_study(
    study: optuna.Study,
    space: AnySpace,
    *,
    name: str = "activation",
    baselines: Baselines = BASELINES,
) -> StudyRecord:
    """Read the finished trials of a study.

    Args:
        study: A study with one objective.
        space: The space from which its functions come.
        name: The name under which the space was suggested.
        baselines: See `Baselines`.

    Raises:
        AquaSurfError: If the study has several objectives.
        SpaceError: If the trials have no activation of that name, or one of another space.
    """
    if len(study.directions) > 1:
        raise AquaSurfError(
            f"study {study.study_name!r} has {len(study.directions)} objectives; figures are drawn "
            "of studies with one"
        )
    trials = [t for t in study.get_trials(deepcopy=False) if t.state in _STATES]
    check_name(trials, space, name)
    expressions = [expression_of_trial(trial, space, name) for trial in trials]
    equals = names_of_equals(expressions, baselines)
    records = tuple(
        TrialRecord(
            trial.number,
            *_outcome(trial),
            expression,
            baseline,
            _seconds(trial),
            reason_of(trial),
        )
        for trial, expression, baseline in zip(trials, expressions, equals, strict=True)
    )
    direction: Direction = "maximize" if study.direction == StudyDirection.MAXIMIZE else "minimize"
    return StudyRecord(study.study_name, direction, records, _baseline_values(records, baselines))


def _seconds(trial: FrozenTrial) -> float:
    return math.nan if trial.duration is None else trial.duration.total_seconds()


def _outcome(trial: FrozenTrial) -> tuple[str, float]:
    state = _STATES[trial.state]
    if state != "complete" or trial.value is None:
        return state, math.nan
    if not math.isfinite(trial.value):
        return "not finite", math.nan
    return state, trial.value


def expression_of_trial(trial: FrozenTrial, space: AnySpace, name: str) -> Expression | None:
    if not space.is_suggested(trial.params, name):
        return None
    try:
        return space.expression_of(trial.params, name)
    except SpaceError:
        # A sampler that knows nothing of graphs left out has chosen one: pruned by `suggest`.
        if trial.state == TrialState.PRUNED:
            return None
        raise


def check_name(trials: Sequence[FrozenTrial], space: AnySpace, name: str) -> None:
    """Refuse a name or a space with which the trials cannot be read."""
    keys = {key for trial in trials for key in trial.params}
    expected = set(space.distributions(name))
    # A node, a node of one of several schemas, or the schema.
    node = re.compile(rf"{re.escape(name)}\.(\d+(\.\d+)?|schema)")
    own = {key for key in keys if key in expected or node.fullmatch(key)}
    if not own and any(trial.state == TrialState.COMPLETE for trial in trials):
        raise SpaceError(
            f"no trial has an activation named {name!r} (parameters {sorted(expected)}); the "
            f"trials' parameters are {sorted(keys)}"
        )
    if own - expected:
        raise SpaceError(
            f"the trials have the parameters {sorted(own)}, but {space!r} has only "
            f"{sorted(expected)}; give the space from which the functions were suggested"
        )


def _baseline_values(records: Sequence[TrialRecord], baselines: Baselines) -> dict[str, float]:
    if isinstance(baselines, Mapping):
        return {display_name(key): float(value) for key, value in baselines.items()}
    found: dict[str, list[float]] = {display_name(each): [] for each in baselines}
    for record in records:
        if record.baseline is not None and record.state == "complete":
            found[record.baseline].append(record.value)
    return {name: math.fsum(values) / len(values) for name, values in found.items() if values}
