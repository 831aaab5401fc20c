"""The Pareto front of a study with two objectives, its functions numbered."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import optuna

from aquasurf_optuna.exceptions import AquaSurfError
from aquasurf_optuna.expression import BASELINES, Expression
from aquasurf_optuna.visualization._front import ParetoPoint, Spaces, get_pareto_info
from aquasurf_optuna.visualization._style import BLUE, ORANGE, VERMILION
from aquasurf_optuna.visualization.matplotlib._axes import axes_of, label, legend, only

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def plot_pareto(
    study: optuna.Study,
    space: Spaces,
    *,
    name: str = "activation",
    baselines: Sequence[str | Expression] = BASELINES,
    value_names: Sequence[str] | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Plot the values of all trials and the Pareto front among them.

    A number stands at the first point of each function of the front; the Plotly figure and the
    report say which function has which.

    Args:
        study: As for `aquasurf_optuna.visualization.plot_pareto`, with two objectives.
        space: Likewise.
        name: Likewise.
        baselines: Likewise.
        value_names: Likewise.
        ax: Axes to draw in, or None for new ones.

    Returns:
        The axes; with a message if no trial is complete.

    Raises:
        AquaSurfError: If the study has another number of objectives, or `value_names` has.
        SpaceError: If the trials have no activation of that name, or one of another space.
    """
    info = get_pareto_info(
        study, space, name=name, baselines=baselines, value_names=value_names, most=3
    )
    if len(info.objectives) != 2:
        raise AquaSurfError(
            f"study {study.study_name!r} has {len(info.objectives)} objectives, and this figure "
            "has a plane for two; aquasurf_optuna.visualization.plot_pareto draws three"
        )
    axes = axes_of(ax, title="Pareto front")
    if not info.front:
        return only(axes, "No trial is complete yet.")
    first, second = info.objectives
    label(axes, x=first.title, y=second.title)
    searched = [point for point in info.dominated if point.baseline is None]
    _draw(axes, "dominated", searched, "o", BLUE, 26)
    standard = [point for point in info.dominated if point.baseline is not None]
    _draw(axes, "dominated baseline", standard, "D", ORANGE, 30)
    x, y = zip(*(point.values for point in info.front), strict=True)
    stairs = "steps-post" if first.direction == "minimize" else "steps-pre"
    axes.plot(x, y, drawstyle=stairs, color=VERMILION, lw=1.4)
    _draw(axes, "Pareto front", list(info.front), "o", VERMILION, 90)
    for point in info.functions():
        axes.annotate(
            str(point.function),
            (point.values[0], point.values[1]),
            ha="center",
            va="center",
            color="white",
            fontsize=7,
            zorder=4,
        )
    legend(axes)
    return axes


def _draw(
    axes: Axes, name: str, points: list[ParetoPoint], marker: str, colour: str, size: float
) -> None:
    if points:
        x, y = [each.values[0] for each in points], [each.values[1] for each in points]
        axes.scatter(
            x, y, marker=marker, color=colour, s=size, edgecolors="white", lw=0.6, label=name,
            zorder=3,
        )  # fmt: skip
