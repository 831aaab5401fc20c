"""The Pareto front of a study as functions: where their values lie, and what they look like."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import optuna
import plotly.graph_objects as go
from numpy.typing import NDArray
from plotly.subplots import make_subplots

from aquasurf_optuna._naming import display_name
from aquasurf_optuna.expression import BASELINES, Expression
from aquasurf_optuna.features.outputs import INPUT_BOUND
from aquasurf_optuna.visualization._curves import curve, curve_inputs, outputs_of, panel_limits
from aquasurf_optuna.visualization._front import (
    Objective,
    ParetoInfo,
    ParetoPoint,
    Spaces,
    get_pareto_info,
)
from aquasurf_optuna.visualization._labels import label_places
from aquasurf_optuna.visualization._names import escaped, number, wrapped
from aquasurf_optuna.visualization._search_progress import value_limits
from aquasurf_optuna.visualization._style import (
    BLUE,
    GREEN,
    GREY,
    GRID,
    INK,
    LIGHT_GREY,
    ORANGE,
    PAPER,
    VEIL,
    VERMILION,
    empty_figure,
    new_figure,
    style_axes,
)

_TITLE = "Pareto front"
_COLUMNS = 3
_MAX_PANELS = 9
_MAX_LABELS = 12
_PLOT_HEIGHT = 430
_SPACE_HEIGHT = 560
_PANEL_HEIGHT = 190
# Sizes in pixels that the axes have in a window of usual width, for placing labels.
_NOMINAL = (800.0, 360.0)
_LONGEST_LABEL = 30
_CURVE_COLOURS = (BLUE, VERMILION, GREEN, ORANGE)


def plot_pareto(
    study: optuna.Study,
    space: Spaces,
    *,
    name: str = "activation",
    baselines: Sequence[str | Expression] = BASELINES,
    value_names: Sequence[str] | None = None,
) -> go.Figure:
    """Plot the values of all trials, the Pareto front among them, and the functions on it.

    Two objectives make a plane with the front as a line, three a space that can be turned. Below
    stand the curves of the front's first nine functions, with the numbers of their points; equal
    functions have one number. Where the study has constraints, the front is that of the trials that
    keep them, as `study.best_trials` says. Trials without finite values are left out.

    Args:
        study: A study with two or three objectives.
        space: The space from which its functions come; a mapping from names to spaces, where the
            study searches several activations.
        name: The name under which a single space was suggested.
        baselines: Functions to mark, where the study searches one activation.
        value_names: What the objectives measure, with their units if they have any;
            `study.metric_names` unless given.

    Returns:
        The figure; one with a message if no trial is complete.

    Raises:
        AquaSurfError: If the study has another number of objectives, or `value_names` has.
        SpaceError: If the trials have no activation of that name, or one of another space.
    """
    info = get_pareto_info(
        study, space, name=name, baselines=baselines, value_names=value_names, most=3
    )
    if not info.front:
        return empty_figure(_TITLE, "No trial is complete yet.")
    functions = [point for point in info.functions() if point.expressions][:_MAX_PANELS]
    figure = _grid(functions, three=len(info.objectives) == 3)
    if len(info.objectives) == 3:
        _add_space(figure, info)
    else:
        _add_plane(figure, info)
    for index, point in enumerate(functions):
        _add_panel(figure, point, row=2 + index // _COLUMNS, column=1 + index % _COLUMNS)
    return figure


def _grid(functions: Sequence[ParetoPoint], *, three: bool) -> go.Figure:
    """Return axes for the values over the whole width, and below them a panel for each function."""
    rows = math.ceil(len(functions) / _COLUMNS)
    titles = [_panel_title(point) for point in functions]
    lines = max((title.count("<br>") + 1 for title in titles), default=1)
    heights = [_SPACE_HEIGHT if three else _PLOT_HEIGHT, *[_PANEL_HEIGHT + 16 * lines] * rows]
    top = {"type": "scene" if three else "xy", "colspan": _COLUMNS}
    nothing = [None] * (_COLUMNS - 1)
    panels: list[list[dict[str, Any] | None]] = [
        [{} if row * _COLUMNS + column < len(functions) else None for column in range(_COLUMNS)]
        for row in range(rows)
    ]
    figure = make_subplots(
        rows=1 + rows,
        cols=_COLUMNS,
        specs=[[top, *nothing], *panels],
        row_heights=heights,
        subplot_titles=["", *titles],
        vertical_spacing=(66 + 16 * lines) / sum(heights) if rows else 0.0,
        horizontal_spacing=0.06,
    )
    figure.update_layout(new_figure(_TITLE, height=sum(heights) + 120).layout)
    figure.update_annotations(font={"size": 12}, yshift=2)
    return figure


def _panel_title(point: ParetoPoint) -> str:
    texts = [
        str(each) if len(point.expressions) == 1 else f"{name} {display_name(each)}"
        for name, each in point.expressions.items()
    ]
    text = "<br>".join(wrapped(each, width=30) for each in texts)
    if point.baseline is not None:
        text += f" = {escaped(point.baseline)}"
    return f"<b>{point.function}</b>  {text}"


def _add_plane(figure: go.Figure, info: ParetoInfo) -> None:
    """Draw the points of two objectives, the front as the edge of what it dominates."""
    first, second = info.objectives
    style_axes(figure, x="", y="")
    limits = [_limits(info, axis) for axis in range(2)]
    figure.update_xaxes(title=escaped(first.title), range=limits[0], row=1, col=1)
    # Two lines, since the axis is short.
    upright = f"{escaped(second.name)}<br>({second.better} is better)"
    figure.update_yaxes(title=upright, range=limits[1], row=1, col=1)
    figure.add_scatter(
        x=[point.values[0] for point in info.front],
        y=[point.values[1] for point in info.front],
        mode="lines",
        line={
            "color": VERMILION,
            "width": 1.6,
            "shape": "hv" if first.direction == "minimize" else "vh",
        },
        hoverinfo="skip",
        showlegend=False,
        row=1,
        col=1,
    )
    for label, points, marker in _groups(info, limits):
        _add_points(figure, info, points, label, marker)
    _add_labels(figure, info, limits)


def _limits(info: ParetoInfo, axis: int) -> list[float]:
    """Return what an axis spans: the front, and all values but those absurdly far from it."""
    direction = info.objectives[axis].direction
    front = [point.values[axis] for point in info.front]
    values = np.array(front + [point.values[axis] for point in info.dominated])
    low, high = value_limits(values, [], direction) or (0.0, 1.0)
    low, high = min(low, *front), max(high, *front)
    margin = 0.06 * (high - low)
    return [low - margin, high + margin]


def _groups(
    info: ParetoInfo, limits: Sequence[Sequence[float]] | None = None
) -> list[tuple[str, list[ParetoPoint], dict[str, object]]]:
    """Return the kinds of points with their names and looks, those behind first."""

    def is_inside(point: ParetoPoint) -> bool:
        return limits is None or all(
            low <= value <= high for value, (low, high) in zip(point.values, limits, strict=True)
        )

    beyond = sum(not is_inside(point) for point in info.dominated)
    suffix = f" ({beyond} more beyond the axes)" if beyond else ""
    white = {"color": PAPER, "width": 0.8}
    searched = {"symbol": "circle", "color": BLUE, "size": 8, "opacity": 0.6, "line": white}
    standard = {"symbol": "diamond", "color": ORANGE, "size": 9, "opacity": 0.9, "line": white}
    best = {"symbol": "circle", "color": VERMILION, "size": 17, "line": white}
    shown = [point for point in info.dominated if is_inside(point)]
    return [
        (f"dominated{suffix}", [p for p in shown if p.baseline is None], searched),
        ("dominated baseline", [p for p in shown if p.baseline is not None], standard),
        ("Pareto front", list(info.front), best),
    ]


def _add_points(
    figure: go.Figure,
    info: ParetoInfo,
    points: Sequence[ParetoPoint],
    label: str,
    marker: dict[str, object],
) -> None:
    if not points:
        return
    is_front = points[0].function is not None
    common = {
        "mode": "markers+text" if is_front else "markers",
        "marker": marker,
        "name": label,
        "text": [str(point.function) for point in points] if is_front else None,
        "textfont": {"color": PAPER, "size": 11},
        "hovertext": [_hover(point, info.objectives) for point in points],
        "hoverinfo": "text",
    }
    axes = {
        key: [point.values[axis] for point in points]
        for axis, key in enumerate("xyz"[: len(info.objectives)])
    }
    if len(info.objectives) == 3:
        figure.add_scatter3d(**axes, **common, row=1, col=1)
    else:
        figure.add_scatter(**axes, **common, textposition="middle center", row=1, col=1)


def _hover(point: ParetoPoint, objectives: Sequence[Objective]) -> str:
    lines = [f"<b>{wrapped(point.label, width=60)}</b>"]
    if len(point.expressions) == 1:
        (expression,) = point.expressions.values()
        lines += [wrapped(text, width=60) for text in (str(expression), expression.latex())]
    lines += [
        f"{escaped(objective.name)} {number(value)}"
        for objective, value in zip(objectives, point.values, strict=True)
    ]
    return "<br>".join([*lines, f"trial {point.trial}"])


def _add_labels(figure: go.Figure, info: ParetoInfo, limits: Sequence[Sequence[float]]) -> None:
    """Write the names of the front's functions beside their points, as far as there is room."""
    points = [p for p in info.front if len(p.label) <= _LONGEST_LABEL]
    if not points or len(info.front) > _MAX_LABELS:
        return
    low, high = np.array(limits, dtype=np.float64).T
    scale = np.array(_NOMINAL) / (high - low)
    places = (np.array([point.values for point in points]) - low) * scale
    others = [p.values for p in (*info.dominated, *info.front)]
    obstacles = np.vstack([(np.array(others) - low) * scale, _frame()])
    texts = [point.label for point in points]
    for point, place in zip(points, label_places(places, texts, obstacles=obstacles), strict=True):
        figure.add_annotation(
            x=point.values[0],
            y=point.values[1],
            text=escaped(point.label),
            showarrow=False,
            font={"size": 11, "color": INK},
            bgcolor=VEIL,
            borderpad=0,
            **place,
            row=1,
            col=1,
        )


def _frame() -> NDArray[np.float64]:
    """Return points along the edges of the axes, which labels had better not cross."""
    width, height = _NOMINAL
    across, up = np.arange(0.0, width, 8.0), np.arange(0.0, height, 4.0)
    sides = [np.column_stack([np.full_like(up, x), up]) for x in (0.0, width)]
    ends = [np.column_stack([across, np.full_like(across, y)]) for y in (0.0, height)]
    return np.vstack([*sides, *ends])


def _add_space(figure: go.Figure, info: ParetoInfo) -> None:
    """Draw the points of three objectives."""
    for label, points, marker in _groups(info):
        size = 6 if points and points[0].function is not None else 4
        _add_points(figure, info, points, label, {**marker, "size": size, "line": None})
    figure.update_traces(
        textfont={"color": INK, "size": 12},
        textposition="top center",
        selector={"type": "scatter3d"},
    )
    axes = {
        f"{key}axis": {
            "title": {"text": escaped(objective.short_title), "font": {"size": 12}},
            "tickfont": {"size": 10},
            "gridcolor": GRID,
        }
        for key, objective in zip("xyz", info.objectives, strict=True)
    }
    camera = {"eye": {"x": 1.5, "y": -1.5, "z": 0.9}, "center": {"x": 0.0, "y": 0.0, "z": -0.1}}
    figure.update_scenes({**axes, "aspectmode": "cube", "camera": camera})


def _add_panel(figure: go.Figure, point: ParetoPoint, *, row: int, column: int) -> None:
    """Draw the curves of one point's functions over [-5, 5], ReLU dashed behind them."""
    inputs = curve_inputs()
    values = [outputs_of(each, inputs) for each in point.expressions.values()]
    relu = np.maximum(inputs, 0.0)
    limits = panel_limits(np.concatenate(values), relu)
    first = (row, column) == (2, 1)
    several = len(point.expressions) > 1
    common = {"mode": "lines", "row": row, "col": column}
    figure.add_scatter(
        x=inputs.astype(np.float32),
        y=relu.astype(np.float32),
        line={"color": GREY, "width": 1.5, "dash": "dash"},
        name="ReLU",
        legendgroup="reference",
        showlegend=first,
        hoverinfo="skip",
        **common,
    )
    for index, (name, expression) in enumerate(point.expressions.items()):
        drawn = curve(functools.partial(outputs_of, expression), limits)
        figure.add_scatter(
            x=drawn.x.astype(np.float32),
            y=drawn.y.astype(np.float32),
            line={
                "color": _CURVE_COLOURS[index % len(_CURVE_COLOURS)],
                "width": 2.5,
                "dash": "solid" if index < len(_CURVE_COLOURS) else "dot",
                "simplify": False,
            },
            name=escaped(name) if several else "function",
            legendgroup=f"function {index}",
            showlegend=first,
            hovertemplate="f(%{x:.2f}) = %{y:.3f}<extra></extra>",
            connectgaps=False,
            **common,
        )
    zero = {"zeroline": True, "zerolinecolor": LIGHT_GREY, "gridcolor": GRID, "tickfont_size": 10}
    figure.update_xaxes(range=[-INPUT_BOUND, INPUT_BOUND], dtick=2, **zero, row=row, col=column)
    figure.update_yaxes(range=list(limits), nticks=6, **zero, row=row, col=column)
