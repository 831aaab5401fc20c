"""A panel of Figure 6: curves with bands, accuracies to compare with, and a name for each line.

The axis of accuracies is logarithmic in the regret, since the best searches differ in the last
hundredths, and ReLU is far below. Names stand to the right of the panel, each beside a piece of its
line, and are moved apart where lines end together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from aquasurf_optuna.benchmark import interval
from aquasurf_optuna.visualization._labels import spread_apart
from benchmarks.paper import _common as common

Floats = NDArray[np.float64]
Dashes: TypeAlias = str | tuple[int, tuple[float, ...]]
Line: TypeAlias = dict[str, Any]
"""How matplotlib draws a line, by keyword."""

CLOSE = 0.005
"""Regrets below this are hardly told apart by the axis."""

_TICKS = (0.0, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5)
_MARGIN = 0.05
_BAND_OPACITY = 0.15
_LABEL_GAP = 0.16
"""In inches."""
_LABEL_AT = 1.04, 1.17, 1.19
"""Where the piece of a line begins and ends, and its name begins, in widths of the panel."""


class Look(NamedTuple):
    """How a curve is drawn; two in one panel differ in more than the colour."""

    colour: str
    dashes: Dashes
    marker: str


class Band(NamedTuple):
    """The mean over repeats, and half the width of its 95% interval, ``(evaluations + 1,)`` each.

    The half is NaN where there is a single repeat.
    """

    mean: Floats
    half: Floats


class Curve(NamedTuple):
    """What one sampler's searches came to, and how it is drawn."""

    name: str
    band: Band
    look: Look


class Mark(NamedTuple):
    """An accuracy to compare with."""

    name: str
    value: float
    dashes: Dashes


class Scale(NamedTuple):
    """The axis of accuracies.

    An accuracy y, with regret r = best - y, stands at -log(r + `CLOSE`), which is nearly linear
    where r is below `CLOSE`. Above the best, where only bands come, the axis goes on straight.

    Attributes:
        best: The best accuracy of the table.
        low: The least accuracy that is shown, and
        high: the greatest.
    """

    best: float
    low: float
    high: float

    def forward(self, accuracies: Floats) -> Floats:
        """Return where accuracies stand, in no unit."""
        regrets = self.best - np.asarray(accuracies, dtype=np.float64)
        places: Floats = np.maximum(-regrets, 0.0) / CLOSE
        places -= np.log(np.maximum(regrets, 0.0) + CLOSE)
        return places

    def inverse(self, places: Floats) -> Floats:
        """Return which accuracies stand at places."""
        places = np.asarray(places, dtype=np.float64)
        top = -np.log(CLOSE)
        regrets: Floats = np.exp(-np.minimum(places, top)) - CLOSE
        regrets -= np.maximum(places - top, 0.0) * CLOSE
        return self.best - regrets

    def height_of(self, accuracies: Floats) -> Floats:
        """Return where accuracies stand, 0 at the foot of the panel and 1 at its top."""
        foot, top = self.forward(np.array([self.low, self.high]))
        heights: Floats = (self.forward(accuracies) - foot) / (top - foot)
        return heights

    @property
    def ticks(self) -> list[float]:
        """Accuracies to mark: the best, and those of round regrets."""
        return [self.best - regret for regret in _TICKS if self.best - regret >= self.low]


class _Named(NamedTuple):
    name: str
    # The accuracy at which the line leaves the panel.
    value: float
    line: Line


def band_of(curves: Floats) -> Band:
    """Return the mean over repeats with its interval, step by step.

    Args:
        curves: Best value so far, ``(repeats, evaluations + 1)``.
    """
    steps = [interval(step) for step in curves.T]
    return Band(np.array([s.mean for s in steps]), np.array([s.half for s in steps]))


def scale_of(bands: Sequence[Band], marks: Sequence[Mark]) -> Scale:
    """Return an axis on which curves and marks have room.

    Args:
        bands: At least one.
        marks: At least one; the greatest is the best of the table.
    """
    values = [mark.value for mark in marks]
    lows = [float((band.mean - np.nan_to_num(band.half)).min()) for band in bands]
    best, lowest = max(values), min(*values, *lows)
    scale = Scale(best, lowest, best)
    foot, top = scale.forward(np.array([lowest, best]))
    margin = _MARGIN * max(top - foot, 1.0)
    low, high = scale.inverse(np.array([foot - margin, top + margin]))
    return scale._replace(low=float(low), high=float(high))


def draw_panel(
    axes: Axes, curves: Sequence[Curve], marks: Sequence[Mark], scale: Scale, *, height: float
) -> None:
    """Draw curves, marks and their names.

    Args:
        axes: The panel.
        curves: At least one, all of one length.
        marks: What to compare with.
        scale: The axis of accuracies.
        height: About how high the panel is, in inches.
    """
    n = len(curves[0].band.mean) - 1
    axes.set_xlim(0, n)
    axes.set_yscale("function", functions=(scale.forward, scale.inverse))
    axes.set_ylim(scale.low, scale.high)
    axes.set_yticks(scale.ticks, [f"{tick:.3f}" for tick in scale.ticks])
    axes.minorticks_off()
    named = []
    for mark in marks:
        line: Line = {"color": common.INK, "linestyle": mark.dashes, "linewidth": 0.9}
        axes.axhline(mark.value, zorder=1.5, **line)
        named.append(_Named(f"{mark.name} {mark.value:.3f}", mark.value, line))
    # Markers of different curves stand at different evaluations.
    every = max(1, n // 5)
    for place, (name, band, look) in enumerate(curves):
        line = _draw_curve(axes, band, look, (place * every // len(curves), every))
        named.append(_Named(name, float(band.mean[-1]), line))
    _draw_names(axes, named, scale, gap=_LABEL_GAP / height)


def _draw_curve(axes: Axes, band: Band, look: Look, markers: tuple[int, int]) -> Line:
    steps = np.arange(len(band.mean))
    if np.isfinite(band.half).all():
        edges = band.mean - band.half, band.mean + band.half
        axes.fill_between(steps, *edges, color=look.colour, alpha=_BAND_OPACITY, linewidth=0)
    line: Line = {"color": look.colour, "linestyle": look.dashes, "linewidth": 1.4}
    line |= {"marker": look.marker, "markersize": 4.5, "markeredgewidth": 0.0}
    axes.plot(steps, band.mean, markevery=markers, **line)
    return line


def _draw_names(axes: Axes, named: Sequence[_Named], scale: Scale, *, gap: float) -> None:
    # Of lines that end together the first one's name is the uppermost.
    upwards = named[::-1]
    wanted = scale.height_of(np.array([each.value for each in upwards]))
    placed = spread_apart(wanted, gap=gap, high=1.0)
    first, second, text_at = _LABEL_AT
    middle = (first + second) / 2
    outside: Mapping[str, Any] = {"transform": axes.transAxes, "clip_on": False}
    for (name, _, line), start, end in zip(upwards, wanted, placed, strict=True):
        axes.plot([1.0, first], [start, end], color=common.LIGHT_GREY, linewidth=0.6, **outside)
        axes.plot([first, middle, second], [end] * 3, markevery=[1], **line, **outside)
        axes.text(text_at, end, name, size=7.5, color=common.INK, va="center_baseline", **outside)
