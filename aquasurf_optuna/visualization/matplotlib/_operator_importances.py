"""Which operators made functions better or worse."""

from __future__ import annotations

from typing import TYPE_CHECKING

import optuna

from aquasurf_optuna.families import AnySpace
from aquasurf_optuna.visualization._operator_importances import (
    OperatorEffect,
    get_operator_importances_info,
)
from aquasurf_optuna.visualization._style import BLUE, GREY, VERMILION
from aquasurf_optuna.visualization.matplotlib._axes import axes_of, label, legend, only

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_ROW_HEIGHT = 0.22  # inches


def plot_operator_importances(
    study: optuna.Study,
    space: AnySpace,
    *,
    name: str = "activation",
    value_name: str = "objective value",
    ax: Axes | None = None,
) -> Axes:
    """Plot by how much the value of functions with an operator differs from that of the others.

    Args:
        study: As for `aquasurf_optuna.visualization.plot_operator_importances`.
        space: Likewise.
        name: Likewise.
        value_name: Likewise.
        ax: Axes to draw in, or None for new ones.

    Returns:
        The axes; with a message if no two complete trials differ in their operators.

    Raises:
        AquaSurfError: If the study has several objectives.
        SpaceError: If the trials have no activation of that name, or one of another space.
    """
    info = get_operator_importances_info(study, space, name=name)
    axes = axes_of(ax, title="Operators", height=1.8 + _ROW_HEIGHT * len(info.effects))
    if not info.effects:
        return only(axes, "No two complete trials differ in their operators yet.")
    label(axes, x=f"difference in {value_name}, with the operator less without it", y="")
    rows = {each.operator: row for row, each in enumerate(reversed(info.effects))}
    better = [each for each in info.effects if each.helps(info.direction)]
    worse = [each for each in info.effects if each.harms(info.direction)]
    rest = [each for each in info.effects if each not in better and each not in worse]
    _draw(axes, rows, "better", better, "o", BLUE)
    _draw(axes, rows, "worse", worse, "X", VERMILION)
    _draw(axes, rows, "not decided", rest, "o", GREY)
    axes.axvline(0.0, color=GREY, lw=1.0, ls=":")
    axes.set_yticks(list(rows.values()), labels=list(rows))
    legend(axes)
    return axes


def _draw(
    axes: Axes,
    rows: dict[str, int],
    name: str,
    effects: list[OperatorEffect],
    marker: str,
    colour: str,
) -> None:
    if effects:
        axes.errorbar(
            [each.effect for each in effects],
            [rows[each.operator] for each in effects],
            xerr=[each.half for each in effects],
            fmt=marker,
            color=colour,
            mfc="none" if name == "not decided" else colour,
            ms=5,
            lw=1.2,
            label=name,
        )
