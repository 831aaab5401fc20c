"""Progress of a search, after Figure 7 of the paper: one point a trial, and the best so far."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import optuna
import plotly.graph_objects as go

from aquasurf_optuna.expression import BASELINES
from aquasurf_optuna.families import AnySpace
from aquasurf_optuna.visualization._labels import spread_apart
from aquasurf_optuna.visualization._names import escaped, number
from aquasurf_optuna.visualization._style import (
    BLUE,
    GREY,
    LIGHT_GREY,
    MUTED,
    ORANGE,
    PAPER,
    VERMILION,
    Direction,
    empty_figure,
    new_figure,
    style_axes,
)
from aquasurf_optuna.visualization._trials import Baselines, TrialRecord, read_study

_HEIGHT = 500
_PLOT_HEIGHT = 344
_LABEL_GAP = 15.0
_SYMBOLS = {"pruned": "x-thin-open", "failed": "cross-thin-open", "not finite": "asterisk-open"}


class SearchProgressInfo(NamedTuple):
    trials: tuple[TrialRecord, ...]
    direction: Direction
    best_numbers: list[int]
    best_values: list[float]
    baseline_values: dict[str, float]
    # First and last trial number of every run of consecutive baseline trials.
    baseline_spans: list[tuple[int, int]]
    # The values that the axis spans, low to high; None without a complete trial.
    limits: tuple[float, float] | None

    def spans(self, trial: TrialRecord) -> bool:
        """Say whether the axis spans the value of a complete trial."""
        return self.limits is not None and self.limits[0] <= trial.value <= self.limits[1]


def plot_search_progress(
    study: optuna.Study,
    space: AnySpace,
    *,
    name: str = "activation",
    baselines: Baselines = BASELINES,
    value_name: str = "objective value",
) -> go.Figure:
    """Plot every trial's value, the best so far, and the baselines as lines.

    Trials without a finite value are marked along the worse edge of the figure, and so are values
    so bad that showing them would hide the rest.

    Args:
        study: A study with one objective.
        space: The space from which its functions come.
        name: The name under which the space was suggested.
        baselines: Functions to mark. Their values are those of the study's own trials of equal
            functions (the mean, where there are several); a mapping gives other values.
        value_name: What the objective measures, with its unit if it has one.

    Returns:
        The figure; one with a message if no trial is complete.

    Raises:
        AquaSurfError: If the study has several objectives.
        SpaceError: If the trials have no activation of that name, or one of another space.
    """
    info = get_search_progress_info(study, space, name=name, baselines=baselines)
    if info.limits is None:
        return empty_figure("Search progress", "No trial is complete yet.")
    low, high = info.limits
    span = high - low
    strip = low - 0.07 * span if info.direction == "maximize" else high + 0.07 * span
    bottom, top = min(low - 0.04 * span, strip - 0.04 * span), max(high, strip) + 0.05 * span
    figure = new_figure("Search progress", height=_HEIGHT, right=128)
    style_axes(figure, x="trial", y=value_name)
    figure.update_yaxes(range=[bottom, top])
    if info.trials[-1].number < 10:
        figure.update_xaxes(dtick=1)
    for first, last in info.baseline_spans:
        figure.add_vrect(
            x0=first - 0.5, x1=last + 0.5, fillcolor=ORANGE, opacity=0.08, line_width=0
        )
    _add_baselines(figure, info, bottom, top)
    _add_complete(figure, info, value_name)
    _add_marks(figure, info, value_name, strip)
    return figure


def get_search_progress_info(
    study: optuna.Study, space: AnySpace, *, name: str, baselines: Baselines
) -> SearchProgressInfo:
    record = read_study(study, space, name=name, baselines=baselines)
    complete = [trial for trial in record.trials if trial.state == "complete"]
    values = np.array([trial.value for trial in complete])
    best = np.minimum if record.direction == "minimize" else np.maximum
    numbers = [trial.number for trial in complete]
    best_values = best.accumulate(values).tolist() if complete else []
    if complete and record.trials[-1].number > numbers[-1]:
        # The best stays the best while later trials fail.
        numbers = [*numbers, record.trials[-1].number]
        best_values = [*best_values, best_values[-1]]
    return SearchProgressInfo(
        trials=record.trials,
        direction=record.direction,
        best_numbers=numbers,
        best_values=best_values,
        baseline_values=record.baseline_values,
        baseline_spans=_spans([t.number for t in record.trials if t.baseline is not None]),
        limits=value_limits(values, list(record.baseline_values.values()), record.direction),
    )


def _spans(numbers: Sequence[int]) -> list[tuple[int, int]]:
    spans: list[tuple[int, int]] = []
    for each in numbers:
        if spans and each == spans[-1][1] + 1:
            spans[-1] = (spans[-1][0], each)
        else:
            spans.append((each, each))
    return spans


def value_limits(
    values: np.ndarray, lines: Sequence[float], direction: Direction
) -> tuple[float, float] | None:
    """Return what the axis spans: all values but those absurdly far on the worse side."""
    if values.size == 0:
        return None
    sign = 1.0 if direction == "maximize" else -1.0
    best, usual = np.max(sign * values), np.quantile(sign * values, 0.25)
    # Ten times as far from the best as a weak trial: no accuracy, but many a diverged loss.
    marks = np.concatenate([values, np.asarray(lines, dtype=np.float64)])
    marks = marks[np.isfinite(marks)]
    shown = marks[sign * marks >= best - 10.0 * (best - usual)]
    low, high = float(shown.min()), float(shown.max())
    margin = 0.05 * max(abs(low), 1e-3) if low == high else 0.0
    return low - margin, high + margin


def _add_baselines(figure: go.Figure, info: SearchProgressInfo, bottom: float, top: float) -> None:
    """Draw a line for each baseline, its label in the right margin, the best one in colour."""
    # A baseline that diverged has no place on the axis; its trials are marked as being beyond it.
    names = [name for name, value in info.baseline_values.items() if bottom <= value <= top]
    if not names:
        return
    values = np.array([info.baseline_values[name] for name in names])
    best = int(np.argmax(values) if info.direction == "maximize" else np.argmin(values))
    wanted = (values - bottom) / (top - bottom) * _PLOT_HEIGHT
    placed = spread_apart(wanted, gap=_LABEL_GAP, high=_PLOT_HEIGHT)
    for index, (name, value) in enumerate(zip(names, values.tolist(), strict=True)):
        colour = VERMILION if index == best else GREY
        line = {"color": colour, "width": 1.6 if index == best else 1, "dash": "dot"}
        figure.add_hline(y=value, line=line, layer="below")
        figure.add_annotation(
            text=f"{escaped(name)} {number(value)}",
            x=1.0,
            xref="paper",
            y=value,
            ax=22,
            ay=float(wanted[index] - placed[index]),
            xanchor="left",
            showarrow=True,
            arrowhead=0,
            arrowwidth=0.8,
            arrowcolor=colour,
            font={"size": 11, "color": colour if index == best else MUTED},
        )


def _add_complete(figure: go.Figure, info: SearchProgressInfo, value_name: str) -> None:
    """Draw the best so far, and a point for every value that the axis spans."""
    figure.add_scatter(
        x=info.best_numbers,
        y=info.best_values,
        mode="lines",
        line={"color": BLUE, "width": 2, "shape": "hv"},
        name="best so far",
        hoverinfo="skip",
    )
    shown = [trial for trial in info.trials if trial.state == "complete" and info.spans(trial)]
    groups = {
        "searched": ([t for t in shown if t.baseline is None], "circle", BLUE, 8),
        "baseline": ([t for t in shown if t.baseline is not None], "triangle-up", ORANGE, 10),
        "best": ([t for t in shown if t.value == info.best_values[-1]][:1], "star", VERMILION, 15),
    }
    for label, (trials, symbol, colour, size) in groups.items():
        marker = {"symbol": symbol, "color": colour, "size": size, "opacity": 0.9}
        marker["line"] = {"color": PAPER, "width": 0.8}
        _add_points(figure, trials, [t.value for t in trials], label, marker, value_name)


def _add_marks(figure: go.Figure, info: SearchProgressInfo, value_name: str, strip: float) -> None:
    """Mark, at the height `strip`, the trials that have no place on the axis."""
    away = "triangle-down-open" if info.direction == "maximize" else "triangle-up-open"
    groups = {
        state: (symbol, [trial for trial in info.trials if trial.state == state])
        for state, symbol in _SYMBOLS.items()
    }
    complete = [trial for trial in info.trials if trial.state == "complete"]
    groups["beyond the axis"] = (away, [trial for trial in complete if not info.spans(trial)])
    for label, (symbol, trials) in groups.items():
        marker = {"symbol": symbol, "color": LIGHT_GREY, "size": 8}
        marker["line"] = {"color": GREY, "width": 1.6}
        _add_points(figure, trials, [strip] * len(trials), label, marker, value_name)


def _add_points(
    figure: go.Figure,
    trials: Sequence[TrialRecord],
    heights: Sequence[float],
    label: str,
    marker: dict[str, object],
    value_name: str,
) -> None:
    if not trials:
        return
    figure.add_scatter(
        x=[trial.number for trial in trials],
        y=heights,
        mode="markers",
        marker=marker,
        name=label,
        hovertext=[_hover(trial, value_name) for trial in trials],
        hoverinfo="text",
    )


def _hover(trial: TrialRecord, value_name: str) -> str:
    function = "function unknown" if trial.expression is None else str(trial.expression)
    lines = [f"<b>{escaped(function)}</b>"]
    if trial.baseline is not None and trial.baseline != function:
        lines.append(f"equal to {escaped(trial.baseline)}")
    lines.append(f"trial {trial.number}, {trial.state}")
    if trial.state == "complete":
        lines.append(f"{escaped(value_name)} {number(trial.value)}")
    return "<br>".join(lines)
