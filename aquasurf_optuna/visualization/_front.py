"""The Pareto front of a study in terms of functions: the data of its figure and its report.

A point is a complete trial with finite values. The functions of the front have numbers, in the
order of the first objective; equal functions share one. Where a study searches several activations,
a point has a function for each.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import optuna
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from aquasurf_optuna._naming import display_name, names_of_equals
from aquasurf_optuna.exceptions import AquaSurfError
from aquasurf_optuna.expression import BASELINES, Expression
from aquasurf_optuna.families import AnySpace
from aquasurf_optuna.visualization._style import Direction
from aquasurf_optuna.visualization._trials import check_name, expression_of_trial

Spaces = AnySpace | Mapping[str, AnySpace]
"""A space, or several by the names under which they are suggested."""


class Objective(NamedTuple):
    """One objective of a study: what it measures, and which end of it is the good one."""

    name: str
    direction: Direction

    @property
    def title(self) -> str:
        """Name and direction, for an axis."""
        return f"{self.name} ({self.better} is better)"

    @property
    def better(self) -> str:
        """Which values are the better ones."""
        return "higher" if self.direction == "maximize" else "lower"

    @property
    def short_title(self) -> str:
        """Name and direction, as an arrow."""
        return f"{self.name} {'↑' if self.direction == 'maximize' else '↓'}"


class ParetoPoint(NamedTuple):
    """A complete trial.

    Attributes:
        trial: Its number in the study.
        values: Its finite values, one an objective.
        expressions: Its functions by the names of the activations; one it never chose is left out.
        baseline: Name of the baseline that its only function equals, or None.
        function: Number, from 1, that its functions have on the front; None off the front.
    """

    trial: int
    values: tuple[float, ...]
    expressions: dict[str, Expression]
    baseline: str | None
    function: int | None

    @property
    def label(self) -> str:
        """The functions by the names that the field knows, or by their texts."""
        if self.baseline is not None:
            return self.baseline
        names = {name: display_name(each) for name, each in self.expressions.items()}
        if len(names) < 2:
            return next(iter(names.values()), "function unknown")
        return ", ".join(f"{name} {text}" for name, text in names.items())


class ParetoInfo(NamedTuple):
    """What the figure shows.

    Attributes:
        objectives: The objectives in their order.
        dominated: Points off the front, by trial number.
        front: Points of the front, by the first objective's value, the lowest first.
    """

    objectives: tuple[Objective, ...]
    dominated: tuple[ParetoPoint, ...]
    front: tuple[ParetoPoint, ...]

    def functions(self) -> list[ParetoPoint]:
        """Return the first point of each function of the front, by the functions' numbers."""
        first = {point.function: point for point in reversed(self.front) if point.function}
        return [first[key] for key in sorted(first)]


def get_pareto_info(
    study: optuna.Study,
    space: Spaces,
    *,
    name: str = "activation",
    baselines: Sequence[str | Expression] = BASELINES,
    value_names: Sequence[str] | None = None,
    most: int | None = None,
) -> ParetoInfo:
    """Gather the points; arguments and errors are those of `plot_pareto`.

    There may be any number of objectives from two on, or up to `most`.
    """
    objectives = _objectives(study, value_names, most)
    spaces = dict(space) if isinstance(space, Mapping) else {name: space}
    trials = [
        trial
        for trial in study.get_trials(deepcopy=False, states=[TrialState.COMPLETE])
        if all(math.isfinite(value) for value in trial.values)
    ]
    for key, each in spaces.items():
        check_name(trials, each, key)
    best = {trial.number for trial in study.best_trials}
    chosen = [_expressions(trial, spaces) for trial in trials]
    only = [next(iter(each.values()), None) if len(spaces) == 1 else None for each in chosen]
    equals = names_of_equals(only, baselines)
    points = [
        ParetoPoint(trial.number, tuple(trial.values), expressions, baseline, None)
        for trial, expressions, baseline in zip(trials, chosen, equals, strict=True)
    ]
    front = sorted((p for p in points if p.trial in best), key=lambda p: (p.values, p.trial))
    return ParetoInfo(
        objectives=objectives,
        dominated=tuple(point for point in points if point.trial not in best),
        front=tuple(_numbered(front)),
    )


def _objectives(
    study: optuna.Study, value_names: Sequence[str] | None, most: int | None
) -> tuple[Objective, ...]:
    total = len(study.directions)
    if total < 2 or (most is not None and total > most):
        allowed = "two or more objectives" if most is None else f"2 to {most} objectives"
        raise AquaSurfError(
            f"a Pareto front is drawn of studies with {allowed}, but {study.study_name!r} has "
            f"{total}; plot_search_progress draws one, and sampler.front() lists any number"
        )
    names = value_names or study.metric_names or [f"objective {k}" for k in range(total)]
    if len(names) != total:
        raise AquaSurfError(
            f"value_names must name each of the {total} objectives, but got {list(names)}"
        )
    return tuple(
        Objective(each, "minimize" if direction == StudyDirection.MINIMIZE else "maximize")
        for each, direction in zip(names, study.directions, strict=True)
    )


def _expressions(trial: FrozenTrial, spaces: Mapping[str, AnySpace]) -> dict[str, Expression]:
    found = {name: expression_of_trial(trial, space, name) for name, space in spaces.items()}
    return {name: each for name, each in found.items() if each is not None}


def _numbered(front: Sequence[ParetoPoint]) -> list[ParetoPoint]:
    """Give each point the number of its functions, equal ones the same."""
    known: list[dict[str, Expression]] = []
    numbered = []
    for point in front:
        place = next((k for k, other in enumerate(known) if _equal(point.expressions, other)), None)
        if place is None:
            place = len(known)
            known.append(point.expressions)
        numbered.append(point._replace(function=place + 1))
    return numbered


def _equal(first: Mapping[str, Expression], second: Mapping[str, Expression]) -> bool:
    return first.keys() == second.keys() and all(
        each == second[name] or names_of_equals([each], [second[name]]) != [None]
        for name, each in first.items()
    )
