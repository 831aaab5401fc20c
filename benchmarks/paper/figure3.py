"""Figure 3: a map of functions by their outputs, and the functions that its inverse gives back.

As in the paper (Appendix E), a function is its values at 80 inputs spaced evenly from -5 to 5, laid
out by UMAP with ``min_dist=0.5``. Outputs have no bound, while a map needs one: they are cut at
±20, as the surrogates cut them, and NaN counts as +20.

The four corners of a grid are four common functions; UMAP's inverse transform says which function
would lie at each of its points. Accuracies play no part, so one table's functions are enough.

    python -m benchmarks.paper.figure3 [--tables NAME_OR_FILE ...] [--output FOLDER]
"""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from aquasurf_optuna.benchmark._bench import ActBench
from aquasurf_optuna.exceptions import BenchmarkError
from aquasurf_optuna.expression import Expression
from aquasurf_optuna.surrogate._checks import OUTPUT_BOUND
from benchmarks.paper import _common as common

Floats = NDArray[np.float64]

N_INPUTS = 80
INPUT_BOUND = 5.0
MIN_DIST = 0.5
N_NEIGHBORS = 15
GRID = 6
SEED = 0
CORNERS = ("sigmoid(x)", "relu(x)", "elu(x)", "tanh(x)")
"""The functions at the corners, clockwise from the upper left."""

_PAIRS = 20_000
_MARGIN = 0.3


class Atlas(NamedTuple):
    """Functions in the plane, and functions that the plane gives back.

    Attributes:
        inputs: ``(80,)``.
        outputs: ``(n, 80)``, bounded.
        points: ``(n, 2)``, where the functions lie.
        corners: Text of each corner -> its row.
        grid: ``(g, g, 2)``, points between the corners; row 0 is the upper edge.
        reconstructions: ``(g, g, 80)``, outputs at those points.
    """

    inputs: Floats
    outputs: Floats
    points: Floats
    corners: dict[str, int]
    grid: Floats
    reconstructions: Floats


class Facts(NamedTuple):
    """How good the inverse is; distances are root mean squares over the inputs (Equation 3).

    Attributes:
        corner_errors: Text of each corner -> distance from the function to its reconstruction.
        step: Median distance between reconstructions at neighbouring points of the grid.
        across: Median distance between reconstructions at opposite edges of the grid.
        nearest: Median distance from a reconstruction to the nearest function.
        random: Median distance between two functions drawn at random.
    """

    corner_errors: dict[str, float]
    step: float
    across: float
    nearest: float
    random: float


def bounded_outputs(functions: Sequence[Expression], inputs: Floats) -> Floats:
    """Return values of functions, ``(n, inputs)``, cut at ±20; NaN counts as +20."""
    x = torch.from_numpy(inputs)
    # A constant gives a single value back.
    raw = np.stack([function(x).expand(len(inputs)).numpy() for function in functions])
    filled = np.nan_to_num(raw, nan=OUTPUT_BOUND, posinf=OUTPUT_BOUND, neginf=-OUTPUT_BOUND)
    return np.asarray(np.clip(filled, -OUTPUT_BOUND, OUTPUT_BOUND), dtype=np.float64)


def between(corners: Floats, size: int) -> Floats:
    """Return points between four corners, by bilinear interpolation.

    Args:
        corners: ``(4, 2)``, clockwise from the upper left.
        size: Points along an edge, g.

    Returns:
        ``(g, g, 2)``; row 0 leads from the first corner to the second.
    """
    share = np.linspace(0.0, 1.0, size)
    down, right = (each[..., None] for each in np.meshgrid(share, share, indexing="ij"))
    upper_left, upper_right, lower_right, lower_left = corners
    upper = (1 - right) * upper_left + right * upper_right
    lower = (1 - right) * lower_left + right * lower_right
    return np.asarray((1 - down) * upper + down * lower)


def atlas_of(bench: ActBench, *, grid: int = GRID, seed: int = SEED) -> Atlas:
    """Lay the functions of a table out, and invert the map between the corners.

    Raises:
        BenchmarkError: If a corner is not in the table, or a name is no function.
    """
    inputs = np.linspace(-INPUT_BOUND, INPUT_BOUND, N_INPUTS)
    outputs = bounded_outputs(bench.expressions, inputs)
    corners = {text: bench.row(text) for text in CORNERS}
    with threadpool_limits(limits=1), warnings.catch_warnings():
        # UMAP warns of packages that it does not need, and of eigenvectors that do not converge.
        warnings.simplefilter("ignore")
        mapper = _mapper(len(outputs), seed)
        points = np.asarray(mapper.fit_transform(outputs.astype(np.float32)), dtype=np.float64)
        wanted = between(points[list(corners.values())], grid)
        flat = mapper.inverse_transform(wanted.reshape(-1, 2).astype(np.float32))
    reconstructions = np.asarray(flat, dtype=np.float64).reshape(grid, grid, N_INPUTS)
    return Atlas(inputs, outputs, points, corners, wanted, reconstructions)


def _mapper(n: int, seed: int) -> Any:
    return importlib.import_module("umap").UMAP(
        metric="euclidean",
        n_neighbors=min(N_NEIGHBORS, n - 1),
        min_dist=MIN_DIST,
        random_state=seed,
        n_jobs=1,
    )


def facts_of(atlas: Atlas, *, seed: int = SEED) -> Facts:
    """Measure how good the inverse is."""
    made = atlas.reconstructions
    ends = made[0, 0], made[0, -1], made[-1, -1], made[-1, 0]
    errors = {
        text: float(_distance(end, atlas.outputs[row]))
        for (text, row), end in zip(atlas.corners.items(), ends, strict=True)
    }
    steps = [_distance(made[1:], made[:-1]).ravel(), _distance(made[:, 1:], made[:, :-1]).ravel()]
    edges = [_distance(made[0], made[-1]), _distance(made[:, 0], made[:, -1])]
    flat = made.reshape(-1, made.shape[-1])
    nearest = [_distance(each, atlas.outputs).min() for each in flat]
    one, other = np.random.default_rng(seed).integers(len(atlas.outputs), size=(2, _PAIRS))
    different = one != other
    return Facts(
        errors,
        float(np.median(np.concatenate(steps))),
        float(np.median(np.concatenate(edges))),
        float(np.median(nearest)),
        float(np.median(_distance(atlas.outputs[one], atlas.outputs[other])[different])),
    )


def _distance(a: Floats, b: Floats) -> Floats:
    return np.asarray(np.sqrt(((a - b) ** 2).mean(axis=-1)))


def draw(tables: Sequence[ActBench]) -> common.Drawn:
    """Draw the map on the left, and what its inverse gives back on the right.

    Raises:
        BenchmarkError: If there is no table.
    """
    if not tables:
        raise BenchmarkError("Figure 3 needs the functions of one table, got none")
    atlas = atlas_of(tables[0])
    figure = common.new_figure(14.0, 6.6)
    left, right = figure.subfigures(1, 2, squeeze=False, width_ratios=(1.0, 1.1))[0]
    whole, near = left.subplots(2, 1, height_ratios=(1.4, 1.0))
    _draw_map(whole, atlas)
    _draw_near(near, atlas)
    size = len(atlas.grid)
    panels = right.subplots(size, size, sharex=True, sharey=True)
    right.suptitle("functions at the crosses, by UMAP's inverse transform", fontsize=10)
    for place in np.ndindex(size, size):
        _draw_function(panels[place], atlas, place)
    return common.Drawn(figure, lines(tables[0].name, atlas))


def _draw_map(axes: Axes, atlas: Atlas) -> None:
    axes.scatter(
        atlas.points[:, 0], atlas.points[:, 1], s=4, color=common.BLUE, alpha=0.45, linewidths=0
    )
    low, high = _frame(atlas)
    axes.add_patch(
        Rectangle(tuple(low), *(high - low), fill=False, edgecolor=common.INK, linewidth=1.0)
    )
    title = f"{len(atlas.points):,} functions by their outputs; the frame is shown below"
    common.style(axes, title=title, y="UMAP 2")


def _draw_near(axes: Axes, atlas: Atlas) -> None:
    axes.scatter(
        atlas.points[:, 0], atlas.points[:, 1], s=9, color=common.BLUE, alpha=0.45, linewidths=0
    )
    axes.scatter(
        atlas.grid[..., 0], atlas.grid[..., 1], s=28, color=common.INK, marker="x", linewidths=1.0
    )
    middle = atlas.grid.mean(axis=(0, 1))
    for text, row in atlas.corners.items():
        point = atlas.points[row]
        outwards = (point - middle) / np.linalg.norm(point - middle)
        axes.scatter(point[0], point[1], s=60, color=common.ORANGE, edgecolors=common.INK, zorder=5)
        axes.annotate(
            common.title_of(text),
            point,
            xytext=tuple(np.array([36, 24]) * outwards),
            textcoords="offset points",
            ha="center",
            va="center",
            fontsize=11,
            fontweight="bold",
            color=common.INK,
            bbox={"boxstyle": "round,pad=0.1", "facecolor": "white", "edgecolor": "none"},
        )
    common.style(axes, x="UMAP 1", y="UMAP 2")
    low, high = _frame(atlas)
    axes.set_xlim(low[0], high[0])
    axes.set_ylim(low[1], high[1])


def _frame(atlas: Atlas) -> tuple[Floats, Floats]:
    """Return the lower left and the upper right of what is around the grid."""
    low, high = atlas.grid.min(axis=(0, 1)), atlas.grid.max(axis=(0, 1))
    margin = _MARGIN * (high - low).max()
    return low - margin, high + margin


def _draw_function(axes: Axes, atlas: Atlas, place: tuple[int, ...]) -> None:
    last = len(atlas.grid) - 1
    corner = dict(zip(((0, 0), (0, last), (last, last), (last, 0)), atlas.corners, strict=True))
    text = corner.get((place[0], place[1]))
    axes.axhline(0.0, color=common.LIGHT_GREY, linewidth=0.6)
    axes.axvline(0.0, color=common.LIGHT_GREY, linewidth=0.6)
    if text is not None:
        own = atlas.outputs[atlas.corners[text]]
        axes.plot(atlas.inputs, own, color=common.ORANGE, linewidth=3.0, alpha=0.7)
        axes.set_title(common.title_of(text), fontsize=9, pad=2)
    axes.plot(atlas.inputs, atlas.reconstructions[place], color=common.BLUE, linewidth=1.3)
    axes.set_ylim(-2.5, 5.5)
    axes.set_xticks([-5, 0, 5])
    axes.set_yticks([-2, 0, 2, 4])
    axes.tick_params(labelsize=7)


def lines(name: str, atlas: Atlas) -> list[str]:
    """Return what the figure shows as Markdown."""
    facts = facts_of(atlas)
    errors = ", ".join(f"{common.title_of(t)} {e:.2f}" for t, e in facts.corner_errors.items())
    cut = np.abs(atlas.outputs).max(axis=1) >= OUTPUT_BOUND
    return [
        "# Figure 3: functions that the map gives back",
        "",
        f"{len(atlas.points):,} functions of {name}, each by {N_INPUTS} outputs at inputs spaced "
        f"evenly from -{INPUT_BOUND:g} to {INPUT_BOUND:g}; UMAP with {N_NEIGHBORS} neighbours and "
        f"min_dist {MIN_DIST:g}. Outputs are cut at ±{OUTPUT_BOUND:g}, as the surrogates cut them, "
        f"and NaN counts as +{OUTPUT_BOUND:g}: {int(cut.sum()):,} functions touch the bound.",
        "",
        "Distances are root mean squares over the inputs; all but the first are medians.",
        "",
        f"- From a corner's function to its reconstruction: {errors}.",
        f"- Between reconstructions at neighbouring points of the grid: {facts.step:.2f}; at "
        f"opposite edges: {facts.across:.2f}.",
        f"- From a reconstruction to the nearest function: {facts.nearest:.2f}; between two "
        f"functions drawn at random: {facts.random:.2f}.",
        "",
        "Thick orange lines in the picture are the four functions themselves. Which four the paper "
        "took its text does not say.",
    ]


def main() -> None:
    """Draw Figure 3."""
    common.run(3, __doc__, draw)


if __name__ == "__main__":
    main()
