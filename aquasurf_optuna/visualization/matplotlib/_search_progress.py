"""Progress of a search, after Figure 7 of the paper."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import optuna

from aquasurf_optuna.expression import BASELINES
from aquasurf_optuna.families import AnySpace
from aquasurf_optuna.visualization._names import number
from aquasurf_optuna.visualization._search_progress import (
    SearchProgressInfo,
    get_search_progress_info,
)
from aquasurf_optuna.visualization._style import BLUE, GREY, ORANGE, VERMILION
from aquasurf_optuna.visualization._trials import Baselines, TrialRecord
from aquasurf_optuna.visualization.matplotlib._axes import axes_of, label, legend, only, plain

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MARKERS = {"pruned": "x", "failed": "+", "not finite": (6, 2, 0)}


def plot_search_progress(
    study: optuna.Study,
    space: AnySpace,
    *,
    name: str = "activation",
    baselines: Baselines = BASELINES,
    value_name: str = "objective value",
    ax: Axes | None = None,
) -> Axes:
    """Plot every trial's value, the best so far, and the baselines as lines.

    Args:
        study: As for `aquasurf_optuna.visualization.plot_search_progress`.
        space: Likewise.
        name: Likewise.
        baselines: Likewise.
        value_name: Likewise.
        ax: Axes to draw in, or None for new ones.

    Returns:
        The axes; with a message if no trial is complete.

    Raises:
        AquaSurfError: If the study has several objectives.
        SpaceError: If the trials have no activation of that name, or one of another space.
    """
    info = get_search_progress_info(study, space, name=name, baselines=baselines)
    axes = axes_of(ax, title="Search progress")
    if info.limits is None:
        return only(axes, "No trial is complete yet.")
    label(axes, x="trial", y=value_name)
    for first, last in info.baseline_spans:
        axes.axvspan(first - 0.5, last + 0.5, color=ORANGE, alpha=0.08, linewidth=0)
    _draw_baselines(axes, info)
    axes.step(
        info.best_numbers, info.best_values, where="post", color=BLUE, lw=2, label="best so far"
    )
    shown = [trial for trial in info.trials if trial.state == "complete" and info.spans(trial)]
    _draw(axes, "searched", [t for t in shown if t.baseline is None], "o", color=BLUE, s=26)
    _draw(axes, "baseline", [t for t in shown if t.baseline is not None], "^", color=ORANGE, s=40)
    best = [t for t in shown if t.value == info.best_values[-1]][:1]
    _draw(axes, "best", best, "*", color=VERMILION, s=140)
    _draw_marks(axes, info)
    legend(axes)
    return axes


def _draw(
    axes: Axes, name: str, trials: list[TrialRecord], marker: str, *, color: str, s: float
) -> None:
    if trials:
        x, y = [trial.number for trial in trials], [trial.value for trial in trials]
        axes.scatter(
            x, y, marker=marker, color=color, s=s, edgecolors="white", lw=0.6, label=name, zorder=3
        )


def _draw_baselines(axes: Axes, info: SearchProgressInfo) -> None:
    """Draw a line for each baseline on the axis; the best one is named."""
    low, high = info.limits or (-np.inf, np.inf)
    shown = {name: v for name, v in info.baseline_values.items() if low <= v <= high}
    if not shown:
        return
    pick = max if info.direction == "maximize" else min
    best = pick(shown, key=lambda name: shown[name])
    for name, value in shown.items():
        axes.axhline(value, color=VERMILION if name == best else GREY, lw=1.0, ls=":")
    axes.annotate(
        plain(f"{best} {number(shown[best])}"),
        (1.0, shown[best]),
        xycoords=("axes fraction", "data"),
        xytext=(4, 0),
        textcoords="offset points",
        va="center",
        color=VERMILION,
        fontsize=9,
        annotation_clip=False,
    )


def _draw_marks(axes: Axes, info: SearchProgressInfo) -> None:
    """Mark, along the worse edge, the trials that have no place on the axis."""
    away = "v" if info.direction == "maximize" else "^"
    edge = 0.02 if info.direction == "maximize" else 0.98
    groups: dict[str, tuple[Any, list[TrialRecord]]] = {
        state: (marker, [trial for trial in info.trials if trial.state == state])
        for state, marker in _MARKERS.items()
    }
    complete = [trial for trial in info.trials if trial.state == "complete"]
    groups["beyond the axis"] = (away, [trial for trial in complete if not info.spans(trial)])
    for name, (marker, trials) in groups.items():
        if trials:
            axes.scatter(
                [trial.number for trial in trials],
                [edge] * len(trials),
                transform=axes.get_xaxis_transform(),
                marker=marker,
                color=GREY,
                s=28,
                label=name,
            )
