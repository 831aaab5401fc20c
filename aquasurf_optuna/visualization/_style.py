"""The look that all figures share: colours, fonts, axes and the place of the legend.

The colours are those of Okabe and Ito, which people with any kind of colour vision tell apart;
marks that differ in colour differ in shape too.
"""

from __future__ import annotations

from typing import Any, Literal, get_args

import plotly.graph_objects as go

from aquasurf_optuna.exceptions import AquaSurfError
from aquasurf_optuna.visualization._names import escaped

BLUE = "#0072B2"
ORANGE = "#E69F00"
VERMILION = "#D55E00"
GREEN = "#009E73"
GREY = "#8A8F98"
LIGHT_GREY = "#C3C8D0"
INK = "#1F2933"
MUTED = "#5B6470"
GRID = "#E5E9EF"
AXIS = "#B8BEC8"
PAPER = "#FFFFFF"
VEIL = "rgba(255, 255, 255, 0.75)"
"""Behind a label, so that what lies under it does not disturb."""

DARK = {
    PAPER: "#1B222B",
    INK: "#E6EAF0",
    MUTED: "#A7B0BC",
    GRID: "#333D49",
    AXIS: "#566070",
    LIGHT_GREY: "#5E6875",
    GREY: "#98A1AD",
    VEIL: "rgba(27, 34, 43, 0.75)",
    BLUE: "#4AA3DF",
    VERMILION: "#F0803C",
    GREEN: "#1DB58A",
}
"""What stands for each colour on a dark page; those that are not named are seen on either."""

_LINES = {"gridcolor": GRID, "linecolor": GREY, "zerolinecolor": AXIS}
_FLAT = {**_LINES, "automargin": True, "ticks": "", "title": {"standoff": 15}}
_SOLID = {**_LINES, "backgroundcolor": PAPER, "showbackground": True}
_COMMON = {
    "colorway": [BLUE, ORANGE, GREEN, VERMILION, GREY],
    "hovermode": "closest",
    "paper_bgcolor": PAPER,
    "plot_bgcolor": PAPER,
    "xaxis": _FLAT,
    "yaxis": _FLAT,
    "scene": {"xaxis": _SOLID, "yaxis": _SOLID, "zaxis": _SOLID},
}

FONT = "system-ui, -apple-system, 'Segoe UI', 'Liberation Sans', Arial, sans-serif"

Direction = Literal["maximize", "minimize"]


def checked_direction(direction: str) -> Direction:
    """Return a direction if it is one.

    Raises:
        AquaSurfError: If it is neither `"maximize"` nor `"minimize"`.
    """
    if direction not in get_args(Direction):
        raise AquaSurfError(f"direction must be 'maximize' or 'minimize', got {direction!r}")
    return "minimize" if direction == "minimize" else "maximize"


def new_figure(title: str, *, height: int = 460, right: int = 20) -> go.Figure:
    """Return an empty figure in the common look.

    Args:
        title: Plain text; it is escaped here.
        height: In pixels.
        right: Margin to the right of the axes, in pixels.
    """
    return go.Figure(
        layout=go.Layout(
            title={"text": escaped(title), "x": 0.0, "xref": "container", "pad": {"l": 12}},
            template={"layout": _COMMON},
            font={"family": FONT, "size": 13, "color": INK},
            height=height,
            margin={"l": 64, "r": right, "t": 52, "b": 104},
            # Under the axes, where it can hide no point, however narrow the window is.
            legend={
                "orientation": "h",
                "x": 0.0,
                "y": 0.0,
                "yref": "container",
                "yanchor": "bottom",
            },
            hoverlabel={"align": "left", "bgcolor": PAPER, "font": {"family": FONT}},
        )
    )


def style_axes(figure: go.Figure, *, x: str, y: str) -> None:
    """Give the axes their titles (plain text, with units where there are any) and lines."""
    common: dict[str, Any] = {"gridcolor": GRID, "linecolor": GREY, "zeroline": False}
    figure.update_xaxes(title=escaped(x), **common)
    figure.update_yaxes(title=escaped(y), automargin=True, **common)


def empty_figure(title: str, message: str) -> go.Figure:
    """Return a figure that says why there is nothing to see."""
    figure = new_figure(title, height=240)
    figure.update_xaxes(visible=False)
    figure.update_yaxes(visible=False)
    figure.add_annotation(
        text=escaped(message), x=0.5, y=0.5, xref="paper", yref="paper", showarrow=False
    )
    return figure
