"""Which operators made functions better or worse, over the trials of a study."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import optuna
import plotly.graph_objects as go
from scipy.stats import t as student

from aquasurf_optuna.expression import Expression
from aquasurf_optuna.families import AnySpace
from aquasurf_optuna.operators import LEAF
from aquasurf_optuna.visualization._names import escaped, number
from aquasurf_optuna.visualization._style import (
    BLUE,
    GREY,
    VERMILION,
    Direction,
    empty_figure,
    new_figure,
    style_axes,
)
from aquasurf_optuna.visualization._trials import read_study

_TITLE = "Operators"
_ROW_HEIGHT = 20
_LEVEL = 0.95


class OperatorEffect(NamedTuple):
    """What the functions with an operator came to, beside those without it.

    Attributes:
        operator: Its name.
        n_with: Trials whose function has it.
        n_without: Trials whose function has it not.
        effect: Mean value with it less the mean value without it; NaN where all or none have it.
        half: Half the width of the 95% confidence interval of that (Welch's); NaN where one side
            has fewer than two trials.
    """

    operator: str
    n_with: int
    n_without: int
    effect: float
    half: float

    def helps(self, direction: Direction) -> bool:
        """Say whether the whole interval is on the better side."""
        worst = self.effect - self.half if direction == "maximize" else self.effect + self.half
        return worst > 0 if direction == "maximize" else worst < 0

    def harms(self, direction: Direction) -> bool:
        """Say whether the whole interval is on the worse side."""
        return self.helps("minimize" if direction == "maximize" else "maximize")


class OperatorImportancesInfo(NamedTuple):
    direction: Direction
    effects: list[OperatorEffect]  # the most helpful first


def plot_operator_importances(
    study: optuna.Study,
    space: AnySpace,
    *,
    name: str = "activation",
    value_name: str = "objective value",
) -> go.Figure:
    """Plot by how much the value of functions with an operator differs from that of the others.

    A point is the mean value of the complete trials whose function has the operator, anywhere in
    its graph, less the mean of the others; bars are 95% confidence intervals (Welch's). A search
    does not draw at random: operators that stand beside good ones look good with them.

    Args:
        study: A study with one objective.
        space: The space from which its functions come.
        name: The name under which the space was suggested.
        value_name: What the objective measures, with its unit if it has one.

    Returns:
        The figure; one with a message if no two complete trials differ in their operators.

    Raises:
        AquaSurfError: If the study has several objectives.
        SpaceError: If the trials have no activation of that name, or one of another space.
    """
    info = get_operator_importances_info(study, space, name=name)
    if not info.effects:
        return empty_figure(_TITLE, "No two complete trials differ in their operators yet.")
    figure = new_figure(_TITLE, height=190 + _ROW_HEIGHT * len(info.effects))
    style_axes(figure, x=f"difference in {value_name}, with the operator less without it", y="")
    groups = {
        "better": ([e for e in info.effects if e.helps(info.direction)], "circle", BLUE),
        "worse": ([e for e in info.effects if e.harms(info.direction)], "x", VERMILION),
    }
    decided = {each.operator for members, _, _ in groups.values() for each in members}
    undecided = [each for each in info.effects if each.operator not in decided]
    groups["not decided"] = (undecided, "circle-open", GREY)
    for label, (members, symbol, colour) in groups.items():
        if members:
            figure.add_scatter(
                x=[each.effect for each in members],
                y=[escaped(each.operator) for each in members],
                mode="markers",
                marker={"symbol": symbol, "color": colour, "size": 9},
                error_x={
                    "array": np.nan_to_num([each.half for each in members]),
                    "color": colour,
                    "thickness": 1.4,
                    "width": 0,
                },
                name=label,
                hovertext=[_hover(each, value_name) for each in members],
                hoverinfo="text",
            )
    figure.add_vline(x=0.0, line={"color": GREY, "width": 1, "dash": "dot"})
    figure.update_yaxes(
        # The first of the list stands at the top, and every operator has its name.
        categoryorder="array",
        categoryarray=[escaped(each.operator) for each in reversed(info.effects)],
        dtick=1,
        tickfont_size=11,
    )
    return figure


def get_operator_importances_info(
    study: optuna.Study, space: AnySpace, *, name: str
) -> OperatorImportancesInfo:
    record = read_study(study, space, name=name, baselines=())
    pairs = [
        (set(_operators(trial.expression)), trial.value)
        for trial in record.trials
        if trial.state == "complete" and trial.expression is not None
    ]
    effects = []
    for operator in sorted({operator for operators, _ in pairs for operator in operators}):
        with_it = [value for operators, value in pairs if operator in operators]
        without = [value for operators, value in pairs if operator not in operators]
        if with_it and without:
            effects.append(_effect(operator, with_it, without))
    sign = -1.0 if record.direction == "maximize" else 1.0
    effects.sort(key=lambda each: (sign * each.effect, each.operator))
    return OperatorImportancesInfo(record.direction, effects)


def _operators(expression: Expression) -> Iterator[str]:
    if expression.operator != LEAF:
        yield expression.operator
    for child in expression.children:
        yield from _operators(child)


def _effect(operator: str, with_it: list[float], without: list[float]) -> OperatorEffect:
    effect = math.fsum(with_it) / len(with_it) - math.fsum(without) / len(without)
    half = math.nan
    if min(len(with_it), len(without)) >= 2:
        parts = [np.var(side, ddof=1) / len(side) for side in (with_it, without)]
        total = float(sum(parts))
        half = 0.0
        if total > 0:
            # Welch and Satterthwaite's degrees of freedom.
            rest = sum(
                part**2 / (len(side) - 1)
                for part, side in zip(parts, (with_it, without), strict=True)
            )
            half = float(student.ppf(0.5 + _LEVEL / 2, total**2 / rest)) * math.sqrt(total)
    return OperatorEffect(operator, len(with_it), len(without), effect, half)


def _hover(each: OperatorEffect, value_name: str) -> str:
    spread = "" if math.isnan(each.half) else f" ± {number(each.half)}"
    return "<br>".join(
        [
            f"<b>{escaped(each.operator)}</b>",
            f"{escaped(value_name)} differs by {number(each.effect)}{spread}",
            f"{each.n_with} trials with it, {each.n_without} without",
        ]
    )
