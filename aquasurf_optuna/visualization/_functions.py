"""Functions drawn beside a reference, as small multiples, after Figure 8 of the paper."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray
from plotly.subplots import make_subplots

from aquasurf_optuna._naming import display_name, names_of_equals
from aquasurf_optuna.activation import as_expression
from aquasurf_optuna.exceptions import AquaSurfError
from aquasurf_optuna.expression import BASELINES, Expression
from aquasurf_optuna.features.outputs import INPUT_BOUND
from aquasurf_optuna.visualization._curves import outputs_of, panel_limits
from aquasurf_optuna.visualization._names import number, wrapped
from aquasurf_optuna.visualization._style import (
    AXIS,
    BLUE,
    GREY,
    GRID,
    empty_figure,
    new_figure,
)

_TITLE = "Functions"
_N_POINTS = 401
_ROW_HEIGHT = 236
_TITLE_LINES = 4


class _Panel(NamedTuple):
    expression: Expression
    title: str  # in Plotly's dialect of HTML
    outputs: NDArray[np.float64]  # (401,), NaN where the line is broken
    limits: tuple[float, float]


class _FunctionsInfo(NamedTuple):
    inputs: NDArray[np.float64]  # (401,)
    reference_name: str
    reference: NDArray[np.float64]  # (401,)
    panels: list[_Panel]


def plot_functions(
    expressions: Sequence[str | Expression],
    values: Sequence[float] | None = None,
    *,
    reference: str | Expression = "relu(x)",
    columns: int = 3,
    legend: bool = True,
) -> go.Figure:
    """Plot functions over [-5, 5], one panel each, with a reference dashed in every panel.

    Args:
        expressions: The functions, the best first if they have an order.
        values: A value for each, written in its title; NaN for none.
        reference: The function to compare with.
        columns: Panels in a row.
        legend: Whether to say which line is which.

    Returns:
        The figure; one with a message if there is no function.

    Raises:
        AquaSurfError: If there is not one value a function, or `columns` is below 1.
        ExpressionError: If a text does not name a function.
    """
    if columns < 1:
        raise AquaSurfError(f"columns must be at least 1, got {columns}")
    info = _get_functions_info(expressions, values, reference=reference)
    if not info.panels:
        return empty_figure(_TITLE, "There are no functions.")
    columns = min(columns, len(info.panels))
    rows = math.ceil(len(info.panels) / columns)
    lines = max(panel.title.count("<br>") for panel in info.panels) + 1
    height = rows * (_ROW_HEIGHT + 16 * (lines - 1)) + (60 if legend else 16)
    grid = make_subplots(
        rows=rows,
        cols=columns,
        subplot_titles=[panel.title for panel in info.panels],
        vertical_spacing=(0.16 + 0.05 * (lines - 1)) / rows,
        horizontal_spacing=0.18 / columns,
    )
    figure = grid.update_layout(new_figure(_TITLE, height=height).layout)
    # The panels' titles stand where the figure's own title would.
    margin = {"l": 34, "r": 12, "t": 30 + 16 * (lines - 1), "b": 56 if legend else 26}
    figure.update_layout(title=None, margin=margin)
    figure.update_layout(showlegend=legend)
    figure.update_annotations(font={"size": 12}, yshift=4)
    for index, panel in enumerate(info.panels):
        _add_panel(figure, info, panel, row=index // columns + 1, column=index % columns + 1)
    return figure


def _get_functions_info(
    expressions: Sequence[str | Expression],
    values: Sequence[float] | None,
    *,
    reference: str | Expression,
) -> _FunctionsInfo:
    if values is not None and len(values) != len(expressions):
        raise AquaSurfError(
            f"values must hold one number a function: {len(expressions)} functions, "
            f"{len(values)} values"
        )
    parsed = [as_expression(expression) for expression in expressions]
    inputs = np.linspace(-INPUT_BOUND, INPUT_BOUND, _N_POINTS)
    comparison = outputs_of(as_expression(reference), inputs)
    numbers = [math.nan] * len(parsed) if values is None else [float(v) for v in values]
    panels = []
    equals = names_of_equals(parsed, BASELINES)
    for expression, equal, value in zip(parsed, equals, numbers, strict=True):
        outputs = outputs_of(expression, inputs)
        limits = panel_limits(outputs, comparison)
        panels.append(
            _Panel(expression, _title(expression, equal, value), _broken(outputs, limits), limits)
        )
    return _FunctionsInfo(inputs, display_name(reference), comparison, panels)


def _title(expression: Expression, equal: str | None, value: float) -> str:
    lines = wrapped(str(expression)).split("<br>")
    # A function of a continuous family has dozens of numbers: the panel needs its place.
    if len(lines) > _TITLE_LINES:
        lines = [*lines[: _TITLE_LINES - 1], "..."]
    title = "<br>".join(lines)
    if equal is not None and equal != display_name(expression):
        title += f" = {equal}"
    return title if math.isnan(value) else f"{title}<br><b>{number(value)}</b>"


def _broken(outputs: NDArray[np.float64], limits: tuple[float, float]) -> NDArray[np.float64]:
    """Put NaN where a line is far outside the panel: a pole then draws no vertical stroke."""
    low, high = limits
    room = 3.0 * (high - low)
    # Comparisons with NaN are false, so what is not finite is left out as well.
    inside = (outputs > low - room) & (outputs < high + room)
    return np.where(inside, outputs, np.nan)


def _add_panel(
    figure: go.Figure, info: _FunctionsInfo, panel: _Panel, *, row: int, column: int
) -> None:
    first = row == column == 1
    # Four decimals of a panel two hundred pixels high are plenty, and float32 halves the file.
    inputs = info.inputs.astype(np.float32)
    figure.add_scatter(
        x=inputs,
        y=info.reference.astype(np.float32),
        mode="lines",
        line={"color": GREY, "width": 1.5, "dash": "dash", "simplify": False},
        name=info.reference_name,
        legendgroup="reference",
        showlegend=first,
        hoverinfo="skip",
        row=row,
        col=column,
    )
    figure.add_scatter(
        x=inputs,
        y=panel.outputs.astype(np.float32),
        mode="lines",
        line={"color": BLUE, "width": 2.5, "simplify": False},
        name="function",
        legendgroup="function",
        showlegend=first,
        hovertemplate="f(%{x:.2f}) = %{y:.3f}<extra></extra>",
        connectgaps=False,
        row=row,
        col=column,
    )
    zero = {"zeroline": True, "zerolinecolor": AXIS, "gridcolor": GRID, "tickfont_size": 10}
    bound = INPUT_BOUND
    figure.update_xaxes(
        range=[-bound, bound], tickvals=[-4, -2, 0, 2, 4], **zero, row=row, col=column
    )
    figure.update_yaxes(range=list(panel.limits), nticks=6, **zero, row=row, col=column)
