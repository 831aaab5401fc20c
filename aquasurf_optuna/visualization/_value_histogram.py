"""How the values of all trials are spread, after Figure 1 of the paper."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import optuna
import plotly.graph_objects as go
from numpy.typing import NDArray

from aquasurf_optuna.expression import BASELINES
from aquasurf_optuna.families import AnySpace
from aquasurf_optuna.visualization._names import escaped, number
from aquasurf_optuna.visualization._search_progress import value_limits
from aquasurf_optuna.visualization._style import (
    BLUE,
    ORANGE,
    VERMILION,
    empty_figure,
    new_figure,
    style_axes,
)
from aquasurf_optuna.visualization._trials import Baselines, read_study

_TITLE = "How the functions turned out"
_HEIGHT = 460
_FEWEST_BARS, _MOST_BARS = 10, 40
_MOST_TICKS = 8


class _ValueHistogramInfo(NamedTuple):
    best_baseline: tuple[str, float] | None
    edges: NDArray[np.float64]  # (bins + 1,); empty without a complete trial
    searched: NDArray[np.intp]  # (bins,) trials of the search
    baselines: NDArray[np.intp]  # (bins,) trials of baselines
    n_beyond: int  # values so bad that showing them would hide the rest
    n_without: int  # trials without a finite value


def plot_value_histogram(
    study: optuna.Study,
    space: AnySpace,
    *,
    name: str = "activation",
    baselines: Baselines = BASELINES,
    value_name: str = "objective value",
) -> go.Figure:
    """Plot how many trials ended at which value, those of baselines apart, with the best of these.

    Trials without a finite value, and values so bad that showing them would hide the rest, are
    counted in the title.

    Args:
        study: A study with one objective.
        space: The space from which its functions come.
        name: The name under which the space was suggested.
        baselines: Functions to mark, as in `plot_search_progress`.
        value_name: What the objective measures, with its unit if it has one.

    Returns:
        The figure; one with a message if no trial is complete.

    Raises:
        AquaSurfError: If the study has several objectives.
        SpaceError: If the trials have no activation of that name, or one of another space.
    """
    info = _get_value_histogram_info(study, space, name=name, baselines=baselines)
    if not info.edges.size:
        return empty_figure(_TITLE, "No trial is complete yet.")
    figure = new_figure(_TITLE + _left_out(info), height=_HEIGHT)
    style_axes(figure, x=value_name, y="trials")
    figure.update_layout(barmode="stack", bargap=0.04)
    figure.update_yaxes(rangemode="tozero", tickformat="d")
    # A tick at every edge, or every few.
    every = math.ceil((len(info.edges) - 1) / _MOST_TICKS)
    ticks = info.edges[::every]
    figure.update_xaxes(tickvals=ticks, ticktext=[f"{tick:.6g}" for tick in ticks])
    middles, widths = (info.edges[1:] + info.edges[:-1]) / 2, np.diff(info.edges)
    for counts, label, colour, pattern in (
        (info.searched, "searched", BLUE, ""),
        (info.baselines, "baseline", ORANGE, "/"),
    ):
        if counts.any():
            figure.add_bar(
                x=middles,
                y=counts,
                width=widths,
                name=label,
                marker={"color": colour, "pattern": {"shape": pattern}},
                customdata=np.column_stack([info.edges[:-1], info.edges[1:]]),
                hovertemplate="%{y} from %{customdata[0]:.4g} to %{customdata[1]:.4g}"
                f"<extra>{label}</extra>",
            )
    if info.best_baseline is not None:
        best, value = info.best_baseline
        figure.add_vline(x=value, line={"color": VERMILION, "width": 1.6, "dash": "dot"})
        figure.add_annotation(
            text=f"{escaped(best)} {number(value)}",
            x=value, y=1.0, yref="paper", yanchor="bottom", showarrow=False,
            font={"size": 11, "color": VERMILION},
        )  # fmt: skip
    return figure


def _get_value_histogram_info(
    study: optuna.Study, space: AnySpace, *, name: str, baselines: Baselines
) -> _ValueHistogramInfo:
    record = read_study(study, space, name=name, baselines=baselines)
    complete = [trial for trial in record.trials if trial.state == "complete"]
    values = np.array([trial.value for trial in complete], dtype=np.float64)
    is_baseline = np.array([trial.baseline is not None for trial in complete], dtype=bool)
    lines = record.baseline_values
    pick = max if record.direction == "maximize" else min
    best = pick(lines, key=lambda each: lines[each]) if lines else None
    limits = value_limits(values, [] if best is None else [lines[best]], record.direction)
    edges, shown = np.zeros(0), np.zeros(len(values), dtype=bool)
    if limits is not None:
        low, high = limits
        shown = (values >= low) & (values <= high)
        n_bars = len(np.histogram_bin_edges(values[shown], bins="auto", range=limits)) - 1
        # Few trials deserve more bars than the rule gives them, many fewer than it may.
        edges = _round_edges(low, high, int(np.clip(n_bars, _FEWEST_BARS, _MOST_BARS)))
    counts = [
        np.histogram(values[shown & group], bins=edges)[0] if edges.size else np.zeros(0, np.intp)
        for group in (~is_baseline, is_baseline)
    ]
    return _ValueHistogramInfo(
        best_baseline=None if best is None else (best, lines[best]),
        edges=edges,
        searched=counts[0],
        baselines=counts[1],
        n_beyond=int((~shown).sum()),
        n_without=len(record.trials) - len(complete),
    )


def _round_edges(low: float, high: float, n: int) -> NDArray[np.float64]:
    """Return the edges of about `n` bars from `low` or below to `high` or above, round numbers."""
    from matplotlib.ticker import MaxNLocator

    locator = MaxNLocator(n, steps=[1, 2, 2.5, 5, 10])
    return np.asarray(locator.tick_values(low, high), dtype=np.float64)


def _left_out(info: _ValueHistogramInfo) -> str:
    told = []
    if info.n_beyond:
        told.append(f"{info.n_beyond} beyond the axis")
    if info.n_without:
        told.append(f"{info.n_without} without a value")
    return f" ({', '.join(told)})" if told else ""
