"""What a report says of a study with several objectives: its Pareto front, as functions."""

from __future__ import annotations

from collections.abc import Sequence

import optuna

from aquasurf_optuna.expression import Expression
from aquasurf_optuna.visualization import plot_pareto
from aquasurf_optuna.visualization._front import ParetoInfo, ParetoPoint, Spaces
from aquasurf_optuna.visualization._names import number
from aquasurf_optuna.visualization._page import Section, Table

_FRONT_TEXT = (
    "Each point is one training run. Those with a number are the Pareto front: no other run is as "
    "good in every objective and better in one. The numbers stand over the curves of the front's "
    "functions; functions that are equal share one."
)


def front_lead(info: ParetoInfo) -> str:
    """Return what there is to say in two sentences."""
    if not info.front:
        return "No trial is complete yet."
    total = len(info.front) + len(info.dominated)
    functions = len(info.functions())
    lead = (
        f"Of {total} complete trials {len(info.front)} are on the Pareto front, with {functions} "
        f"different {'function' if functions == 1 else 'functions'}."
    )
    ends = [
        f"{objective.name} {number(best.values[axis])} by {best.label}"
        for axis, objective in enumerate(info.objectives)
        for best in [_best(info, axis)]
    ]
    return f"{lead} The best in each objective: {'; '.join(ends)}."


def front_facts(study: optuna.Study, info: ParetoInfo) -> dict[str, str]:
    """Return the facts at the head of the report."""
    total = len(study.get_trials(deepcopy=False))
    return {
        "Trials": f"{total} ({len(info.front) + len(info.dominated)} complete and finite)",
        "Objectives": ", ".join(f"{each.direction} {each.name}" for each in info.objectives),
    }


def front_sections(
    study: optuna.Study,
    space: Spaces,
    info: ParetoInfo,
    *,
    name: str,
    baselines: Sequence[str | Expression],
) -> list[Section]:
    """Return the front with its figure, where there is one, and all trials.

    Four objectives and more have no figure.
    """
    figures = []
    if len(info.objectives) <= 3:
        names = [objective.name for objective in info.objectives]
        figures.append(plot_pareto(study, space, name=name, baselines=baselines, value_names=names))
    front = Section(
        heading="Pareto front",
        text=[_FRONT_TEXT],
        figures=figures,
        table=_table(info, list(info.front)),
    )
    every = sorted([*info.front, *info.dominated], key=lambda point: point.trial)
    return [front, Section(heading="All complete trials", table=_table(info, every))]


def _best(info: ParetoInfo, axis: int) -> ParetoPoint:
    sign = 1.0 if info.objectives[axis].direction == "maximize" else -1.0
    return max(info.front, key=lambda point: sign * point.values[axis])


def _table(info: ParetoInfo, points: list[ParetoPoint]) -> Table:
    columns = ("front", "function", *(each.name for each in info.objectives), "known as", "trial")
    rows = [
        (
            "" if point.function is None else str(point.function),
            _text(point),
            *(number(value) for value in point.values),
            point.baseline or "",
            str(point.trial),
        )
        for point in points
    ]
    return Table(columns=columns, rows=rows, code=frozenset({"function"}))


def _text(point: ParetoPoint) -> str:
    if len(point.expressions) < 2:
        return next(map(str, point.expressions.values()), "unknown")
    return ", ".join(f"{name} {each}" for name, each in point.expressions.items())
