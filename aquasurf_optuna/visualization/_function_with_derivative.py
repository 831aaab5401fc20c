"""One function and its derivative, each beside those of a reference."""

from __future__ import annotations

import functools
from typing import NamedTuple

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from aquasurf_optuna._naming import display_name
from aquasurf_optuna.activation import as_expression
from aquasurf_optuna.expression import Expression
from aquasurf_optuna.features.outputs import INPUT_BOUND
from aquasurf_optuna.visualization._curves import (
    Curve,
    Function,
    curve,
    curve_inputs,
    outputs_of,
    panel_limits,
    slopes_of,
)
from aquasurf_optuna.visualization._names import escaped, wrapped
from aquasurf_optuna.visualization._style import (
    AXIS,
    BLUE,
    GREY,
    GRID,
    new_figure,
    style_axes,
)

_HEIGHT = 420
_LABEL_WIDTH = 90  # characters


class CurvePanel(NamedTuple):
    """What one panel shows."""

    title: str  # plain
    function: Curve
    reference: Curve
    limits: tuple[float, float]


class FunctionInfo(NamedTuple):
    """What a drawing of a function shows, whoever draws it."""

    name: str  # plain
    reference_name: str  # plain
    panels: tuple[CurvePanel, CurvePanel]  # function and derivative


def plot_function(
    expression: str | Expression, *, reference: str | Expression = "relu(x)"
) -> go.Figure:
    """Plot a function and its derivative over [-5, 5], with a reference dashed.

    Lines are broken at jumps and poles. At a kink the derivative is torch's (see `derivative`).

    Args:
        expression: The function.
        reference: The function to compare with.

    Raises:
        ExpressionError: If a text does not name a function.
    """
    info = get_function_info(expression, reference=reference)
    grid = make_subplots(
        rows=1,
        cols=2,
        subplot_titles=[escaped(panel.title) for panel in info.panels],
        horizontal_spacing=0.08,
    )
    figure = grid.update_layout(new_figure(info.name, height=_HEIGHT).layout)
    # The row of tools has a line above the panels' titles.
    figure.update_layout(title=None, margin={"l": 40, "r": 12, "t": 58, "b": 78})
    style_axes(figure, x="x", y="")
    for column, panel in enumerate(info.panels, start=1):
        _add_panel(figure, info, panel, column)
    return figure


def get_function_info(expression: str | Expression, *, reference: str | Expression) -> FunctionInfo:
    """Gather the curves; arguments and errors are those of `plot_function`."""
    parsed, other = as_expression(expression), as_expression(reference)
    panels = (
        _panel(
            "function", functools.partial(outputs_of, parsed), functools.partial(outputs_of, other)
        ),
        _panel(
            "derivative",
            functools.partial(slopes_of, parsed),
            functools.partial(slopes_of, other),
        ),
    )
    return FunctionInfo(str(parsed), display_name(other), panels)


def _panel(title: str, f: Function, reference: Function) -> CurvePanel:
    inputs = curve_inputs()
    limits = panel_limits(f(inputs), reference(inputs))
    return CurvePanel(title, curve(f, limits), curve(reference, limits), limits)


def _add_panel(figure: go.Figure, info: FunctionInfo, panel: CurvePanel, column: int) -> None:
    first = column == 1
    figure.add_scatter(
        x=panel.reference.x.astype("float32"),
        y=panel.reference.y.astype("float32"),
        mode="lines",
        line={"color": GREY, "width": 1.5, "dash": "dash", "simplify": False},
        name=escaped(info.reference_name),
        legendgroup="reference",
        showlegend=first,
        hoverinfo="skip",
        connectgaps=False,
        row=1,
        col=column,
    )
    symbol = "f" if first else "f'"
    figure.add_scatter(
        x=panel.function.x.astype("float32"),
        y=panel.function.y.astype("float32"),
        mode="lines",
        line={"color": BLUE, "width": 2.5, "simplify": False},
        name=wrapped(info.name, width=_LABEL_WIDTH),
        legendgroup="function",
        showlegend=first,
        hovertemplate=f"{symbol}(%{{x:.2f}}) = %{{y:.4g}}<extra></extra>",
        connectgaps=False,
        row=1,
        col=column,
    )
    zero = {"zeroline": True, "zerolinecolor": AXIS, "gridcolor": GRID}
    figure.update_xaxes(range=[-INPUT_BOUND, INPUT_BOUND], dtick=2, **zero, row=1, col=column)
    figure.update_yaxes(range=list(panel.limits), nticks=8, **zero, row=1, col=column)
