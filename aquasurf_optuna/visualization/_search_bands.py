"""Several searches, repeated many times: the mean of the best so far, with 95% bands (Figure 6)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import plotly.graph_objects as go
from numpy.typing import ArrayLike, NDArray

from aquasurf_optuna.exceptions import AquaSurfError
from aquasurf_optuna.visualization._labels import spread_apart
from aquasurf_optuna.visualization._names import escaped, number
from aquasurf_optuna.visualization._style import (
    BLUE,
    GREEN,
    GREY,
    INK,
    ORANGE,
    VERMILION,
    empty_figure,
    new_figure,
    style_axes,
)

_HEIGHT = 500
_PLOT_HEIGHT = 344
_LABEL_GAP = 15.0
_TITLE = "Best function found so far"
_Z95 = 1.96
_COLOURS = (BLUE, VERMILION, GREEN, ORANGE, "#CC79A7", "#56B4E9", INK, GREY)
_DASHES = ("solid", "dash", "dot", "dashdot")
_BAND_OPACITY = 0.16


class Band(NamedTuple):
    """The repeats of one search.

    Attributes:
        name: What the search is called.
        repeats: How many there are.
        mean: Mean over them, ``(t + 1,)``.
        half: Half width of its 95% confidence interval, 1.96 standard errors; NaN for one repeat.
    """

    name: str
    repeats: int
    mean: NDArray[np.float64]
    half: NDArray[np.float64]


class _SearchBandsInfo(NamedTuple):
    bands: list[Band]
    lines: dict[str, float]
    # The values that the axis spans, low to high; None without a search.
    limits: tuple[float, float] | None


def plot_search_bands(
    curves: Mapping[str, ArrayLike],
    *,
    lines: Mapping[str, float] | None = None,
    value_name: str = "validation accuracy",
) -> go.Figure:
    """Plot the mean of the best value so far over the evaluations, with 95% confidence bands.

    A band is the mean over repeats plus and minus 1.96 standard errors, pointwise.

    Args:
        curves: Name of each search -> best value after 0, 1, ..., t evaluations, ``(repeats,
            t + 1)``, finite.
        lines: Values to mark, by name: that of the best function there is, or of a baseline.
        value_name: What the values measure, with its unit if it has one.

    Returns:
        The figure; one with a message if there are no searches.

    Raises:
        AquaSurfError: If an array has another shape, or holds what is not finite.
    """
    info = _get_search_bands_info(curves, lines or {})
    if info.limits is None:
        return empty_figure(_TITLE, "There are no searches.")
    figure = new_figure(_TITLE, height=_HEIGHT, right=160 if info.lines else 20)
    style_axes(figure, x="evaluations after those that a search begins with", y=value_name)
    figure.update_yaxes(range=list(info.limits))
    for place, band in enumerate(info.bands):
        colour = _COLOURS[place % len(_COLOURS)]
        _add_band(figure, band, colour)
        # Colours come back after eight searches; the dashes do not with them.
        dash = _DASHES[place // len(_COLOURS) % len(_DASHES)]
        _add_mean(figure, band, {"color": colour, "width": 2, "dash": dash}, value_name)
    _add_lines(figure, info)
    return figure


def _get_search_bands_info(
    curves: Mapping[str, ArrayLike], lines: Mapping[str, float]
) -> _SearchBandsInfo:
    bands = []
    for name, raw in curves.items():
        values = np.asarray(raw, dtype=np.float64)
        if values.ndim != 2 or not values.size or not np.isfinite(values).all():
            raise AquaSurfError(
                f"the curves of {name!r} must be a finite array (repeats, evaluations + 1), got "
                f"shape {values.shape} with {int((~np.isfinite(values)).sum())} values that are "
                "not finite"
            )
        n = len(values)
        error = (
            values.std(axis=0, ddof=1) / math.sqrt(n) if n > 1 else np.full_like(values[0], np.nan)
        )
        bands.append(Band(name, n, values.mean(axis=0), _Z95 * error))
    return _SearchBandsInfo(bands, dict(lines), _limits(bands, lines))


def _limits(bands: Sequence[Band], lines: Mapping[str, float]) -> tuple[float, float] | None:
    if not bands:
        return None
    halves = [np.nan_to_num(band.half) for band in bands]
    edges = [band.mean + half for band, half in zip(bands, halves, strict=True)]
    edges += [band.mean - half for band, half in zip(bands, halves, strict=True)]
    every = np.concatenate([*edges, list(lines.values())])
    low, high = float(every.min()), float(every.max())
    margin = 0.05 * max(high - low, 1e-3)
    return low - margin, high + margin


def _add_lines(figure: go.Figure, info: _SearchBandsInfo) -> None:
    """Draw the values to mark, their names in the right margin."""
    if not info.lines or info.limits is None:
        return
    low, high = info.limits
    wanted = (np.array(list(info.lines.values())) - low) / (high - low) * _PLOT_HEIGHT
    placed = spread_apart(wanted, gap=_LABEL_GAP, high=_PLOT_HEIGHT)
    for (name, value), at, label in zip(info.lines.items(), wanted, placed, strict=True):
        figure.add_hline(y=value, line={"color": GREY, "width": 1, "dash": "dot"}, layer="below")
        figure.add_annotation(
            text=f"{escaped(name)} {number(value)}",
            x=1.0,
            xref="paper",
            y=value,
            ax=22,
            ay=float(at - label),
            xanchor="left",
            showarrow=True,
            arrowhead=0,
            arrowwidth=0.8,
            arrowcolor=GREY,
            font={"size": 11, "color": GREY},
        )


def _add_band(figure: go.Figure, band: Band, colour: str) -> None:
    if band.repeats < 2:
        return
    steps = np.arange(len(band.mean))
    red, green, blue = (int(colour[at : at + 2], 16) for at in (1, 3, 5))
    figure.add_scatter(
        x=np.concatenate([steps, steps[::-1]]),
        y=np.concatenate([band.mean + band.half, (band.mean - band.half)[::-1]]),
        fill="toself",
        fillcolor=f"rgba({red}, {green}, {blue}, {_BAND_OPACITY})",
        mode="none",
        legendgroup=band.name,
        showlegend=False,
        hoverinfo="skip",
    )


def _add_mean(figure: go.Figure, band: Band, line: dict[str, Any], value_name: str) -> None:
    figure.add_scatter(
        x=np.arange(len(band.mean)),
        y=band.mean,
        mode="lines",
        line=line,
        name=escaped(band.name),
        legendgroup=band.name,
        hovertext=[
            f"<b>{escaped(band.name)}</b><br>after {step} evaluations: mean {escaped(value_name)} "
            f"{number(mean)}{'' if math.isnan(half) else f' ± {number(half)}'}<br>"
            f"{band.repeats} repeats"
            for step, (mean, half) in enumerate(zip(band.mean, band.half, strict=True))
        ],
        hoverinfo="text",
    )
