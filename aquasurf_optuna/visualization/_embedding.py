"""The candidates of a search in two dimensions, coloured by value, after Figure 4 of the paper."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import plotly.graph_objects as go
from numpy.typing import ArrayLike, NDArray

from aquasurf_optuna._naming import names_of_equals
from aquasurf_optuna.activation import as_expression
from aquasurf_optuna.exceptions import AquaSurfError
from aquasurf_optuna.expression import BASELINES, Expression
from aquasurf_optuna.visualization._labels import label_places
from aquasurf_optuna.visualization._names import escaped, number
from aquasurf_optuna.visualization._sparkline import sparkline
from aquasurf_optuna.visualization._style import (
    GREY,
    INK,
    LIGHT_GREY,
    PAPER,
    VEIL,
    VERMILION,
    Direction,
    checked_direction,
    empty_figure,
    new_figure,
    style_axes,
)

_HEIGHT = 580
# Sizes in pixels that the axes have in a window of usual width, for placing labels.
_NOMINAL = (800.0, 420.0)


class _EmbeddingInfo(NamedTuple):
    coordinates: NDArray[np.float64]  # (n, 2)
    values: NDArray[np.float64]  # (n,), NaN where there is none
    texts: tuple[str, ...]
    untried: NDArray[np.intp]  # rows, as in the following
    tried: NDArray[np.intp]
    failed: NDArray[np.intp]
    baselines: dict[str, int]  # name to row
    best: int | None
    direction: Direction
    shapes: tuple[str, ...]  # a line of text for each
    path: NDArray[np.intp]  # rows in the order in which they were tried


def plot_embedding(
    coordinates: ArrayLike,
    expressions: Sequence[str | Expression],
    values: ArrayLike,
    *,
    failed: ArrayLike | None = None,
    baselines: Sequence[str | Expression] = BASELINES,
    direction: str = "maximize",
    value_name: str = "objective value",
    order: ArrayLike | None = None,
) -> go.Figure:
    """Plot where the surrogate puts the candidates, and what is known of them.

    Args:
        coordinates: `(n, 2)`, one row a candidate.
        expressions: The n candidates.
        values: `(n,)`, their observed values; NaN where a candidate was not tried or failed.
        failed: `(n,)` of bool, True for candidates whose trials failed or were pruned.
        baselines: Functions to label, found among the candidates by their values.
        direction: `"maximize"` or `"minimize"`: which end of the values is the good one. Good is
            bright in either case.
        value_name: What the values measure, with its unit if it has one.
        order: `(n,)`, numbers in whose order candidates were tried; NaN where one was not. With it
            a line shows the path of the search.

    Returns:
        The figure; one with a message if there is no candidate.

    Raises:
        AquaSurfError: If the lengths do not agree, or `direction` is not one.
        ExpressionError: If a text does not name a function.
    """
    info = _get_embedding_info(
        coordinates,
        expressions,
        values,
        failed=failed,
        baselines=baselines,
        direction=direction,
        order=order,
    )
    title = "Embedding of the candidates"
    if not info.texts:
        return empty_figure(title, "There are no candidates.")
    figure = new_figure(title, height=_HEIGHT)
    style_axes(figure, x="UMAP dimension 1", y="UMAP dimension 2")
    figure.update_xaxes(showticklabels=False)
    figure.update_yaxes(showticklabels=False)
    plain = {"color": LIGHT_GREY, "size": 5, "opacity": 0.7}
    _add(figure, info, info.untried, "not tried", plain, value_name)
    cross = {"symbol": "x-thin", "size": 7, "line": {"color": GREY, "width": 1.5}}
    _add(figure, info, info.failed, "failed or pruned", cross, value_name)
    _add_path(figure, info)
    scale = _colour_scale(info, value_name)
    circle = {**scale, "size": 10, "line": {"color": INK, "width": 0.6}}
    _add(figure, info, info.tried, "tried", circle, value_name)
    _add_baselines(figure, info, scale, value_name)
    if info.best is not None:
        star = {"symbol": "star", "size": 18, "color": VERMILION}
        star["line"] = {"color": PAPER, "width": 1.2}
        _add(figure, info, np.array([info.best]), "best", star, value_name)
    return figure


def _get_embedding_info(
    coordinates: ArrayLike,
    expressions: Sequence[str | Expression],
    values: ArrayLike,
    *,
    failed: ArrayLike | None,
    baselines: Sequence[str | Expression],
    direction: str,
    order: ArrayLike | None = None,
) -> _EmbeddingInfo:
    size = len(expressions)
    places = np.asarray(coordinates, dtype=np.float64)
    places = places.reshape(0, 2) if places.size == 0 else places
    known = np.asarray(values, dtype=np.float64)
    bad = np.zeros(size, dtype=bool) if failed is None else np.asarray(failed, dtype=bool)
    when = np.full(size, np.nan) if order is None else np.asarray(order, dtype=np.float64)
    for what, array, shape in (
        ("coordinates", places, (size, 2)),
        ("values", known, (size,)),
        ("failed", bad, (size,)),
        ("order", when, (size,)),
    ):
        if array.shape != shape:
            raise AquaSurfError(
                f"{what} must have shape {shape}, as there are {size} expressions; "
                f"got {array.shape}"
            )
    good = checked_direction(direction)
    parsed = [as_expression(expression) for expression in expressions]
    tried = np.flatnonzero(np.isfinite(known))
    names = names_of_equals(parsed, baselines)
    found = {name: row for row, name in reversed(list(enumerate(names))) if name is not None}
    sign = 1.0 if good == "maximize" else -1.0
    return _EmbeddingInfo(
        coordinates=places,
        values=known,
        texts=tuple(map(str, parsed)),
        untried=np.flatnonzero(~np.isfinite(known) & ~bad),
        tried=tried,
        failed=np.flatnonzero(~np.isfinite(known) & bad),
        baselines=dict(sorted(found.items())),
        best=int(tried[np.argmax(sign * known[tried])]) if tried.size else None,
        direction=good,
        shapes=tuple(map(sparkline, parsed)),
        path=np.argsort(when, kind="stable")[: int(np.isfinite(when).sum())],
    )


def _colour_scale(info: _EmbeddingInfo, value_name: str) -> dict[str, object]:
    if not info.tried.size:
        return {"color": LIGHT_GREY}
    known = info.values[info.tried]
    return {
        "colorscale": "Viridis",
        # Good is bright, whichever way the objective goes.
        "reversescale": info.direction == "minimize",
        "cmin": float(known.min()),
        "cmax": float(known.max()),
        "colorbar": {
            "title": {"text": escaped(value_name), "side": "right"},
            "thickness": 12,
            "len": 0.9,
        },
    }


def _add(
    figure: go.Figure,
    info: _EmbeddingInfo,
    rows: NDArray[np.intp],
    label: str,
    marker: dict[str, object],
    value_name: str,
) -> None:
    if not rows.size:
        return
    if "colorscale" in marker:
        marker = {**marker, "color": info.values[rows]}
    figure.add_scatter(
        x=info.coordinates[rows, 0],
        y=info.coordinates[rows, 1],
        marker=marker,
        name=label,
        hovertext=[_hover(info, int(row), value_name) for row in rows],
        hoverinfo="text",
        mode="markers",
    )


def _add_path(figure: go.Figure, info: _EmbeddingInfo) -> None:
    if len(info.path) < 2:
        return
    figure.add_scatter(
        x=info.coordinates[info.path, 0],
        y=info.coordinates[info.path, 1],
        mode="lines",
        line={"color": GREY, "width": 1},
        opacity=0.45,
        name="path of the search",
        hoverinfo="skip",
    )


def _add_baselines(
    figure: go.Figure, info: _EmbeddingInfo, scale: dict[str, object], value_name: str
) -> None:
    names, rows = list(info.baselines), np.array(list(info.baselines.values()), dtype=np.intp)
    if not names:
        return
    marker = {"symbol": "triangle-up", "size": 14, "line": {"color": INK, "width": 1.4}}
    tried = np.isfinite(info.values[rows])
    coloured, white = {**marker, **scale, "showscale": False}, {**marker, "color": PAPER}
    _add(figure, info, rows[tried], "baseline", coloured, value_name)
    _add(figure, info, rows[~tried], "baseline without a value", white, value_name)
    low, high = info.coordinates.min(axis=0), info.coordinates.max(axis=0)
    pixels = (info.coordinates - low) / np.maximum(high - low, 1e-12) * _NOMINAL
    others = np.setdiff1d(np.concatenate([info.tried, info.failed]), rows)
    places = label_places(pixels[rows], names, obstacles=pixels[others])
    for name, row, place in zip(names, rows.tolist(), places, strict=True):
        x, y = info.coordinates[row].tolist()
        figure.add_annotation(
            x=x,
            y=y,
            text=escaped(name),
            showarrow=False,
            font={"size": 12, "color": INK},
            bgcolor=VEIL,
            borderpad=0,
            **place,
        )


def _hover(info: _EmbeddingInfo, row: int, value_name: str) -> str:
    lines = [f"<b>{escaped(info.texts[row])}</b>", info.shapes[row]]
    lines += [f"equal to {escaped(name)}" for name, at in info.baselines.items() if at == row]
    if np.isfinite(info.values[row]):
        lines.append(f"{escaped(value_name)} {number(float(info.values[row]))}")
    else:
        lines.append("failed or pruned" if row in info.failed else "not tried")
    return "<br>".join(lines)
