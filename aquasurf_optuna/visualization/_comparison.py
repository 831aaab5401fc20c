"""The final comparison: one point a training seed, with mean and standard deviation."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import plotly.graph_objects as go

from aquasurf_optuna._naming import display_name
from aquasurf_optuna.activation import as_expression
from aquasurf_optuna.expression import Expression
from aquasurf_optuna.visualization._names import escaped, number, spread, wrapped
from aquasurf_optuna.visualization._style import (
    BLUE,
    GREY,
    INK,
    PAPER,
    VERMILION,
    checked_direction,
    empty_figure,
    new_figure,
    style_axes,
)

_TITLE = "Comparison on fresh seeds"


class ComparisonRow(NamedTuple):
    """The results of one function.

    Attributes:
        name: The name by which the field knows it, or its text.
        values: Its finite results, one a seed.
        n_failed: Seeds without a finite result.
        mean: Mean of `values`; NaN if there are none.
        deviation: Sample standard deviation of `values`; NaN for fewer than two.
        is_found: Whether this is the function to be highlighted.
    """

    name: str
    values: tuple[float, ...]
    n_failed: int
    mean: float
    deviation: float
    is_found: bool

    @property
    def summary(self) -> str:
        """Mean and standard deviation as text."""
        return spread(self.mean, self.deviation)


class _ComparisonInfo(NamedTuple):
    rows: list[ComparisonRow]  # the best first


def plot_comparison(
    results: Mapping[str, Sequence[float]] | Mapping[Expression, Sequence[float]],
    *,
    found: str | Expression | None = None,
    direction: str = "maximize",
    value_name: str = "test accuracy",
) -> go.Figure:
    """Plot the results of several functions, sorted by their means, the best on top.

    Bars span one sample standard deviation to either side of the mean. Results that are not finite
    count as failed seeds: they are left out of the mean, and their number is shown.

    Args:
        results: For each function its results, one a seed.
        found: The function to highlight.
        direction: `"maximize"` or `"minimize"`: which end of the values is the good one.
        value_name: What the results measure, with its unit if it has one.

    Returns:
        The figure; one with a message if there are no results.

    Raises:
        AquaSurfError: If `direction` is not one.
        ExpressionError: If a text does not name a function.
    """
    info = _get_comparison_info(results, found=found, direction=direction)
    if not info.rows:
        return empty_figure(_TITLE, "There are no results.")
    figure = new_figure(_TITLE, height=176 + 44 * len(info.rows))
    style_axes(figure, x=value_name, y="")
    ticks = [_tick(row) for row in info.rows]
    last = len(info.rows) - 0.5
    figure.update_yaxes(
        tickvals=list(range(len(info.rows))), ticktext=ticks, range=[last, -0.5], showgrid=False
    )
    _add_points(figure, info, value_name)
    _add_means(figure, info)
    return figure


def comparison_rows(
    results: Mapping[str, Sequence[float]] | Mapping[Expression, Sequence[float]],
    *,
    found: str | Expression | None = None,
    direction: str = "maximize",
) -> list[ComparisonRow]:
    """Return the rows of the comparison, the best mean first, functions without one last.

    Arguments and errors are those of `plot_comparison`.
    """
    good = checked_direction(direction)
    wanted = None if found is None else as_expression(found)
    rows = []
    for function, raw in results.items():
        expression = as_expression(function)
        values = np.asarray(raw, dtype=np.float64)
        finite = values[np.isfinite(values)]
        rows.append(
            ComparisonRow(
                name=display_name(expression),
                values=tuple(finite.tolist()),
                n_failed=int(values.size - finite.size),
                mean=float(finite.mean()) if finite.size else math.nan,
                deviation=float(finite.std(ddof=1)) if finite.size > 1 else math.nan,
                is_found=expression == wanted,
            )
        )
    sign = -1.0 if good == "maximize" else 1.0
    return sorted(rows, key=lambda row: (math.isnan(row.mean), sign * np.nan_to_num(row.mean)))


def _get_comparison_info(
    results: Mapping[str, Sequence[float]] | Mapping[Expression, Sequence[float]],
    *,
    found: str | Expression | None,
    direction: str,
) -> _ComparisonInfo:
    return _ComparisonInfo(comparison_rows(results, found=found, direction=direction))


def _tick(row: ComparisonRow) -> str:
    name = wrapped(row.name, width=22)
    total = len(row.values) + row.n_failed
    failed = f"<br>({row.n_failed} of {total} failed)" if row.n_failed else ""
    return f"<b>{name}</b>{failed}" if row.is_found else name + failed


def _add_points(figure: go.Figure, info: _ComparisonInfo, value_name: str) -> None:
    for is_found, colour, label in (
        (True, VERMILION, "found function, one seed"),
        (False, BLUE, "one seed"),
    ):
        points = [
            (at, row, value)
            for at, row in enumerate(info.rows)
            for value in row.values
            if row.is_found == is_found
        ]
        if not points:
            continue
        figure.add_scatter(
            x=[value for _, _, value in points],
            y=[at for at, _, _ in points],
            mode="markers",
            marker={"color": colour, "size": 9, "opacity": 0.6},
            name=label,
            hovertext=[
                f"<b>{escaped(row.name)}</b><br>{escaped(value_name)} {number(value)}"
                for _, row, value in points
            ],
            hoverinfo="text",
        )


def _add_means(figure: go.Figure, info: _ComparisonInfo) -> None:
    means = [(at, row) for at, row in enumerate(info.rows) if not math.isnan(row.mean)]
    figure.add_scatter(
        x=[row.mean for _, row in means],
        y=[at for at, _ in means],
        mode="markers",
        marker={"symbol": "diamond", "color": INK, "size": 10, "line": {"color": PAPER}},
        error_x={
            "type": "data",
            "array": [np.nan_to_num(row.deviation) for _, row in means],
            "color": GREY,
            "thickness": 1.6,
        },
        name="mean ± standard deviation",
        hovertext=[
            f"<b>{escaped(row.name)}</b><br>{row.summary}, {len(row.values)} seeds"
            for _, row in means
        ],
        hoverinfo="text",
    )
