"""Axes in the look that all these figures share."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aquasurf_optuna.visualization._style import AXIS, GRID, INK, MUTED

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SIZE = (7.2, 4.2)
"""Of a new figure, in inches."""
_LEGEND_BELOW = 0.5  # inches under the axes, where the labels of the ticks end


def axes_of(ax: Axes | None, *, title: str, height: float = SIZE[1]) -> Axes:
    """Return the axes to draw in, new ones unless given.

    Args:
        ax: Axes, or None.
        title: Their title.
        height: Of a new figure, in inches.
    """
    if ax is None:
        # Imported here, since pyplot chooses a window system for the whole process.
        from matplotlib import pyplot

        ax = pyplot.subplots(figsize=(SIZE[0], height), layout="constrained")[1]
    ax.set_title(title, loc="left", color=INK, fontsize=12)
    ax.grid(color=GRID, linewidth=0.8)
    ax.set_axisbelow(True)
    ax.tick_params(colors=INK, labelsize=9)
    ax.spines[["top", "right"]].set_visible(False)
    ax.spines[["left", "bottom"]].set_color(AXIS)
    return ax


def label(ax: Axes, *, x: str, y: str) -> None:
    """Give axes their titles; a dollar sign is one, and begins no formula."""
    ax.set_xlabel(plain(x), color=INK)
    ax.set_ylabel(plain(y), color=INK)


def legend(ax: Axes) -> None:
    """Show the legend under the axes, where it hides no point."""
    from matplotlib.transforms import ScaledTranslation

    handles, _ = ax.get_legend_handles_labels()
    if handles:
        below = ScaledTranslation(0.0, -_LEGEND_BELOW, ax.figure.dpi_scale_trans)
        ax.legend(
            loc="upper left",
            bbox_to_anchor=(0.0, 0.0),
            bbox_transform=ax.transAxes + below,
            ncols=4,
            frameon=False,
            fontsize=9,
        )


def only(ax: Axes, message: str) -> Axes:
    """Show a message where there is nothing to draw."""
    ax.set_axis_off()
    ax.text(0.5, 0.5, plain(message), transform=ax.transAxes, ha="center", color=MUTED)
    return ax


def plain(text: str) -> str:
    """Return a text that matplotlib shows as it stands."""
    return text.replace("$", r"\$")
