"""Spectra of the Fisher information, layer by layer, after Figure 5 of the paper."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import plotly.graph_objects as go
from numpy.typing import ArrayLike, NDArray
from plotly.subplots import make_subplots

from aquasurf_optuna._naming import display_name
from aquasurf_optuna.exceptions import AquaSurfError
from aquasurf_optuna.expression import Expression
from aquasurf_optuna.visualization._names import escaped
from aquasurf_optuna.visualization._style import (
    BLUE,
    GREEN,
    GREY,
    GRID,
    INK,
    ORANGE,
    VERMILION,
    empty_figure,
    new_figure,
)

Layers = Mapping[str, ArrayLike]
"""Name of a layer -> its log eigenvalues, as `fisher_log_eigenvalues` returns them."""

_TITLE = "Fisher eigenvalues at initialization"
_MOST_POINTS = 200
_ROW_HEIGHT = 230
_COLOURS = (BLUE, VERMILION, GREEN, ORANGE, GREY, INK)
_DASHES = ("solid", "dash", "dot", "dashdot")


class _Line(NamedTuple):
    name: str
    layer: str
    log_eigenvalues: NDArray[np.float64]  # (k,), rising, at most 200
    shares: NDArray[np.float64]  # (k,), the part of the layer's eigenvalues at or below, 0 to 1


class _SpectraInfo(NamedTuple):
    names: list[str]
    layers: list[str]
    lines: list[_Line]
    # Functions of which there is no spectrum.
    invalid: list[str]


def plot_spectra(
    spectra: Mapping[str, Layers] | Mapping[Expression, Layers], *, columns: int = 3
) -> go.Figure:
    """Plot the distribution of the log eigenvalues of each layer, one panel a layer.

    A curve rises at a log eigenvalue where the layer has many: its height is the share of the
    layer's eigenvalues that lie at or below. Curves of more than 200 eigenvalues are drawn through
    200 of their quantiles. A function and its negative have spectra that are alike (Figure 5).

    Args:
        spectra: Each function, and its spectrum: what `fisher_log_eigenvalues` returns, or a
            mapping like it from a layer to log eigenvalues ``(weights,)``. An empty one is that of
            a function whose spectrum is invalid; it is named in the figure.
        columns: Panels in a row.

    Returns:
        The figure; one with a message if there is no spectrum.

    Raises:
        AquaSurfError: If functions have different layers, a layer has no finite numbers in one
            dimension, or `columns` is below 1.
    """
    if columns < 1:
        raise AquaSurfError(f"columns must be at least 1, got {columns}")
    info = _get_spectra_info(spectra)
    if not info.layers:
        message = "There are no spectra."
        if info.invalid:
            message = f"No spectrum is valid: {', '.join(info.invalid)}."
        return empty_figure(_TITLE, message)
    columns = min(columns, len(info.layers))
    rows = math.ceil(len(info.layers) / columns)
    grid = make_subplots(
        rows=rows,
        cols=columns,
        subplot_titles=[escaped(layer) for layer in info.layers],
        vertical_spacing=0.24 / rows,
        horizontal_spacing=0.16 / columns,
        shared_yaxes=True,
        x_title="log eigenvalue",
        y_title="share of the layer's eigenvalues",
    )
    height = rows * _ROW_HEIGHT + 150
    figure = grid.update_layout(new_figure(_TITLE, height=height).layout)
    figure.update_annotations(font={"size": 12})
    for line in info.lines:
        place = info.layers.index(line.layer)
        _add_line(figure, info, line, row=place // columns + 1, column=place % columns + 1)
    if info.invalid:
        figure.add_annotation(
            text=escaped(f"invalid, and so not drawn: {', '.join(info.invalid)}"),
            x=0.0, y=1.0, xref="paper", yref="paper", yshift=34, xanchor="left",
            showarrow=False, font={"size": 12, "color": VERMILION},
        )  # fmt: skip
    figure.update_xaxes(gridcolor=GRID, linecolor=GREY, zeroline=False)
    figure.update_yaxes(gridcolor=GRID, linecolor=GREY, zeroline=False, range=[-0.03, 1.03])
    return figure


def _get_spectra_info(
    spectra: Mapping[str, Layers] | Mapping[Expression, Layers],
) -> _SpectraInfo:
    given = {display_name(function): dict(layers) for function, layers in spectra.items()}
    valid = {name: layers for name, layers in given.items() if layers}
    names = list(valid)
    layers = list(valid[names[0]]) if names else []
    lines = []
    for name, spectrum in valid.items():
        if set(spectrum) != set(layers):
            raise AquaSurfError(
                f"all functions must have the layers {layers}, those of {names[0]!r}, but {name!r} "
                f"has {list(spectrum)}"
            )
        for layer in layers:
            lines.append(_Line(name, layer, *_distribution(spectrum[layer], name, layer)))
    return _SpectraInfo(names, layers, lines, [name for name in given if name not in valid])


def _distribution(
    raw: ArrayLike, name: str, layer: str
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    values = np.sort(np.asarray(raw, dtype=np.float64))
    if values.ndim != 1 or not values.size or not np.isfinite(values).all():
        raise AquaSurfError(
            f"the log eigenvalues of {name!r} in layer {layer!r} must be finite numbers in one "
            f"dimension, got shape {values.shape} with {int((~np.isfinite(values)).sum())} that "
            "are not finite"
        )
    chosen = np.linspace(0, values.size - 1, min(values.size, _MOST_POINTS)).round().astype(int)
    return values[chosen], (chosen + 1) / values.size


def _add_line(figure: go.Figure, info: _SpectraInfo, line: _Line, *, row: int, column: int) -> None:
    place = info.names.index(line.name)
    figure.add_scatter(
        x=line.log_eigenvalues.astype(np.float32),
        y=line.shares.astype(np.float32),
        mode="lines",
        line={
            "color": _COLOURS[place % len(_COLOURS)],
            # Neighbours differ in more than colour.
            "dash": _DASHES[place % len(_DASHES)],
            "width": 2,
            "shape": "hv",
        },
        name=escaped(line.name),
        legendgroup=line.name,
        showlegend=line.layer == info.layers[0],
        hovertemplate="%{y:.0%} at or below %{x:.2f}<extra>" + escaped(line.name) + "</extra>",
        row=row,
        col=column,
    )
