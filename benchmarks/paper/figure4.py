"""Figure 4: functions laid out by Fisher eigenvalues, outputs or both, for each table.

The planes are those in which the surrogate `UmapKnnSurrogate` predicts, with the paper's settings,
of all functions with a valid spectrum. Accuracies play no part in them: they are the colours. How
well a plane predicts is measured as the paper's search uses it, by the three nearest neighbours,
each function left out in turn.

Triangles are three standard functions and their negatives. The weights being drawn symmetrically, a
negative trains like its function (Section 4): a plane should have the two side by side.

    python -m benchmarks.paper.figure4 [--tables NAME_OR_FILE ...] [--output FOLDER]
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection
from matplotlib.lines import Line2D
from numpy.typing import NDArray
from scipy import stats
from sklearn.neighbors import NearestNeighbors

from aquasurf_optuna import UmapKnnSurrogate, output_features
from aquasurf_optuna.benchmark._bench import ActBench
from aquasurf_optuna.exceptions import BenchmarkError
from benchmarks.paper import _common as common

Floats = NDArray[np.float64]

FEATURES = {"fisher": "Fisher eigenvalues", "outputs": "outputs", "both": "both"}
NEIGHBOURS = 3
SEED = 0
_FEWEST = 20
_PAIR_COLOURS = (common.VERMILION, common.SKY, common.PURPLE)


class Panel(NamedTuple):
    """A plane of one table and its features.

    Attributes:
        table: Name of the table.
        features: `"fisher"`, `"outputs"` or `"both"`.
        rows: ``(n,)``, rows of the table: all with a valid spectrum and a measured accuracy.
        points: ``(n, 2)``.
        accuracies: ``(n,)``.
        threshold: The accuracy above which a function trains at all.
        pairs: Text of a function -> positions, among the n, of it and of its negative.
    """

    table: str
    features: str
    rows: NDArray[np.intp]
    points: Floats
    accuracies: Floats
    threshold: float
    pairs: dict[str, tuple[int, int]]


class Facts(NamedTuple):
    """How well a plane predicts.

    Attributes:
        correlation: Spearman's, between predictions and accuracies.
        r2: Share of the variance of accuracies that the predictions explain; may be negative.
        r2_training: The same among functions that train at all, predicted from all.
        ranks: Text of a function -> which of its neighbours its negative is, from 1.
    """

    correlation: float
    r2: float
    r2_training: float
    ranks: dict[str, int]


def panels_of(bench: ActBench, *, seed: int = SEED) -> list[Panel]:
    """Lay a table out by each kind of features.

    Raises:
        BenchmarkError: If too few functions have a valid spectrum and an accuracy, or a name is no
            function.
    """
    rows = np.flatnonzero(bench.valid & common.trained(bench))
    if len(rows) < _FEWEST:
        raise BenchmarkError(
            f"{bench.name} has {len(rows)} functions with a valid spectrum and a measured "
            f"accuracy; a map needs {_FEWEST} or more"
        )
    outputs = output_features([bench.expressions[row] for row in rows])
    accuracies = bench.values()[rows]
    pairs = _pairs(bench, rows)
    panels = []
    for features in FEATURES:
        surrogate = UmapKnnSurrogate(features=features, random_state=seed)
        surrogate.embed(outputs, bench.fisher[rows])
        points = surrogate.embedding_
        least = common.threshold(bench)
        panels.append(Panel(bench.name, features, rows, points, accuracies, least, pairs))
    return panels


def _pairs(bench: ActBench, rows: NDArray[np.intp]) -> dict[str, tuple[int, int]]:
    place = {int(row): position for position, row in enumerate(rows)}
    found = {}
    for text in common.NEGATED:
        own = [_position(bench, place, each) for each in (text, f"negative({text})")]
        if own[0] is not None and own[1] is not None:
            found[text] = (own[0], own[1])
    return found


def _position(bench: ActBench, place: dict[int, int], text: str) -> int | None:
    try:
        return place.get(bench.row(text))
    except BenchmarkError:
        return None


def left_out_predictions(points: Floats, values: Floats, *, neighbours: int = NEIGHBOURS) -> Floats:
    """Predict each value from the nearest other points, weighted by inverse distance.

    Args:
        points: ``(n, 2)``.
        values: ``(n,)``.
        neighbours: How many others.

    Returns:
        ``(n,)``. Where others lie in the very same place, they alone count.
    """
    search = NearestNeighbors(n_neighbors=min(neighbours, len(points) - 1)).fit(points)
    distances, indices = search.kneighbors()
    same = distances == 0.0
    inverse = 1.0 / np.where(same, 1.0, distances)
    weights = np.where(same.any(axis=1, keepdims=True), same.astype(float), inverse)
    predicted = (weights * values[indices]).sum(axis=1) / weights.sum(axis=1)
    return np.asarray(predicted, dtype=np.float64)


def facts_of(panel: Panel) -> Facts:
    """Say how well a plane predicts."""
    values = panel.accuracies
    predicted = left_out_predictions(panel.points, values)
    train = values > panel.threshold
    # Of constant values there is no correlation, and SciPy warns.
    varied = np.ptp(values) > 0 and np.ptp(predicted) > 0
    correlation = float(stats.spearmanr(predicted, values).statistic) if varied else math.nan
    ranks = {text: _rank(panel.points, *pair) for text, pair in panel.pairs.items()}
    return Facts(
        correlation,
        explained(values, predicted),
        explained(values[train], predicted[train]),
        ranks,
    )


def explained(values: Floats, predicted: Floats) -> float:
    """Return the share of the variance that predictions explain; NaN if there is no variance."""
    variance = ((values - values.mean()) ** 2).sum() if len(values) else 0.0
    if variance == 0.0:
        return math.nan
    return float(1.0 - ((values - predicted) ** 2).sum() / variance)


def _rank(points: Floats, one: int, other: int) -> int:
    distances = np.linalg.norm(points - points[one], axis=1)
    distances[one] = np.inf
    return int((distances < distances[other]).sum()) + 1


def draw(tables: Sequence[ActBench]) -> common.Drawn:
    """Draw a column a table and a row a kind of features."""
    columns = [panels_of(bench) for bench in tables]
    figure = common.new_figure(4.5 * len(tables), 12.0)
    grid = figure.subplots(len(FEATURES), len(tables), squeeze=False)
    for axes_column, panels in zip(grid.T, columns, strict=True):
        for axes, panel in zip(axes_column, panels, strict=True):
            points = _draw_panel(axes, panel)
        axes_column[0].set_title(panels[0].table, fontsize=12, color=common.INK)
        figure.colorbar(
            points, ax=axes_column, location="bottom", shrink=0.8, aspect=30, pad=0.01,
            label="validation accuracy",
        )  # fmt: skip
    for axes, label in zip(grid[:, 0], FEATURES.values(), strict=True):
        axes.set_ylabel(label, fontsize=11, color=common.INK)
    figure.legend(
        handles=_handles(), loc="outside lower center", ncols=len(common.NEGATED), frameon=False
    )
    return common.Drawn(figure, lines([panel for panels in columns for panel in panels]))


def _draw_panel(axes: Axes, panel: Panel) -> PathCollection:
    # The best lie on top, where a crowd would hide them.
    order = np.argsort(panel.accuracies, kind="stable")
    points = axes.scatter(
        panel.points[order, 0],
        panel.points[order, 1],
        s=7,
        c=panel.accuracies[order],
        cmap="viridis",
        linewidths=0,
    )
    for (text, pair), colour in zip(panel.pairs.items(), _PAIR_COLOURS, strict=False):
        for position, marker in zip(pair, "^v", strict=True):
            axes.scatter(
                panel.points[position, 0],
                panel.points[position, 1],
                s=120,
                marker=marker,
                color=colour,
                edgecolors=common.INK,
                linewidths=1.0,
                zorder=3,
                gid=text,
            )
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_color(common.LIGHT_GREY)
    facts = facts_of(panel)
    axes.set_xlabel(
        f"left out: R² {facts.r2:.2f}, rank correlation {facts.correlation:.2f}",
        fontsize=9,
        color=common.INK,
    )
    return points


def _handles() -> list[Line2D]:
    return [
        Line2D(
            [], [], linestyle="", marker=marker, markersize=10, color=colour,
            markeredgecolor=common.INK, label=f"{sign}{common.title_of(text)}",
        )
        for text, colour in zip(common.NEGATED, _PAIR_COLOURS, strict=True)
        for marker, sign in (("^", ""), ("v", "-"))
    ]  # fmt: skip


def lines(panels: Sequence[Panel]) -> list[str]:
    """Return what the figure shows as Markdown."""
    titles = [common.title_of(text) for text in common.NEGATED]
    found = [
        "# Figure 4: what lies together trains alike",
        "",
        f"Accuracies as predicted by the {NEIGHBOURS} nearest neighbours in the plane, weighted by "
        "inverse distance, each function left out in turn; and which of a function's neighbours "
        "its negative is, from 1. A function trains at all that ends above twice chance.",
        "",
        *common.table_head(
            "table", "features", "functions", "R²", "rank correlation", "R² of those that train",
            *[f"-{title} from {title}" for title in titles],
        ),
    ]  # fmt: skip
    for panel in panels:
        facts = facts_of(panel)
        ranks = [facts.ranks.get(text, "not in it") for text in common.NEGATED]
        found.append(
            common.table_row(
                panel.table, FEATURES[panel.features], f"{len(panel.rows):,}", f"{facts.r2:.3f}",
                f"{facts.correlation:.3f}", f"{facts.r2_training:.3f}", *ranks,
            )
        )  # fmt: skip
    return [
        *found,
        "",
        "The paper's text names ELU and its negative; which other pairs its picture has it does "
        "not say, and those here are ReLU and Swish.",
    ]


def main() -> None:
    """Draw Figure 4."""
    common.run(4, __doc__, draw)


if __name__ == "__main__":
    main()
