"""The drawing of a function as a PNG, by matplotlib: the same curves as in the web page."""

from __future__ import annotations

import io
import os
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

from aquasurf_optuna._whole_file import write_whole
from aquasurf_optuna.expression import Expression
from aquasurf_optuna.features.outputs import INPUT_BOUND
from aquasurf_optuna.visualization._function_with_derivative import (
    CurvePanel,
    FunctionInfo,
    get_function_info,
)
from aquasurf_optuna.visualization._style import BLUE, GREY, GRID, INK

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_SIZE = (9.6, 4.2)  # inches
_DOTS_PER_INCH = 150
_LABEL_WIDTH = 90  # characters


def write_png(
    path: str | os.PathLike[str],
    expression: str | Expression,
    *,
    reference: str | Expression = "relu(x)",
) -> Path:
    """Draw a function and its derivative as `plot_function` does, into a PNG file.

    The file appears whole or not at all. Missing folders are made.

    Args:
        path: Where to write; an existing file is replaced.
        expression: The function.
        reference: The function to compare with.

    Returns:
        The path.

    Raises:
        ExpressionError: If a text does not name a function.
        OSError: If the file cannot be written.
    """
    info = get_function_info(expression, reference=reference)
    return write_whole(path, _drawn(info), what="a PNG")


def _drawn(info: FunctionInfo) -> bytes:
    # Imported here, since it takes a second that no other command should; and without pyplot,
    # which would choose a window system and keep figures for the whole process.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=_SIZE, dpi=_DOTS_PER_INCH, layout="constrained")
    FigureCanvasAgg(figure)
    for axes, panel in zip(figure.subplots(1, 2), info.panels, strict=True):
        _draw_panel(axes, info, panel)
    handles, labels = figure.axes[0].get_legend_handles_labels()
    labels = [textwrap.fill(label, _LABEL_WIDTH) for label in labels]
    figure.legend(handles, labels, loc="outside lower center", ncols=2, frameon=False)
    target = io.BytesIO()
    # Without the version of matplotlib among the metadata the bytes say only what is drawn.
    figure.savefig(target, format="png", metadata={"Software": None})
    return target.getvalue()


def _draw_panel(axes: Axes, info: FunctionInfo, panel: CurvePanel) -> None:
    axes.axhline(0.0, color=GREY, linewidth=0.6)
    axes.axvline(0.0, color=GREY, linewidth=0.6)
    reference, function = panel.reference, panel.function
    axes.plot(reference.x, reference.y, "--", color=GREY, linewidth=1.2, label=info.reference_name)
    axes.plot(function.x, function.y, color=BLUE, linewidth=2.0, label=info.name)
    axes.set_title(panel.title, fontsize=11, color=INK)
    axes.set_xlabel("x", color=INK)
    axes.set_xlim(-INPUT_BOUND, INPUT_BOUND)
    axes.set_ylim(*panel.limits)
    axes.grid(color=GRID, linewidth=0.8)
    axes.tick_params(colors=INK, labelsize=9)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(GREY)
