"""Figure 6: searches on tables, by the paper's regressors, by this project's, and by Optuna's.

Every search begins with ReLU and seven random functions, as in Section 5 of the paper, or with the
baselines, and evaluates a hundred functions more. The curves are means over repeats of the best
validation accuracy so far, with 95% bands (1.96 standard errors, point by point). Searches are kept
in the files of `benchmarks/settle.py`: the two share them, and what was interrupted goes on.

    python -m benchmarks.paper.figure6 [--tables NAME_OR_FILE ...] [--repeats 100] [--jobs 2]
        [--kept FOLDER] [--start random|baselines] [--samplers ...] [--output FOLDER]
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from matplotlib.axes import Axes

from aquasurf_optuna.benchmark import (
    STARTS,
    ActBench,
    Search,
    SearchedTable,
    compare,
    curves_of,
)
from benchmarks.paper import _common as common
from benchmarks.paper import figure6_claims as claims
from benchmarks.paper import figure6_panels as panels

EVALUATIONS = 100
OURS = "aquasurf"
PEERS = {"tpe": "TPE", "gp": "GPSampler", "cmaes": "CMA-ES", "random": "random"}
"""Samplers of Optuna, and how they are written."""
VALID = ":valid"
PEERS_VALID = tuple(f"{name}{VALID}" for name in PEERS)
METHODS = (OURS, *claims.PAPERS, *PEERS, *PEERS_VALID)

_NAMES = {OURS: "this project", **claims.NAMES, **PEERS}
_WIDTH, _HEIGHT, _TOP = 5.2, 3.0, 0.4
_EDGE = 0.1
# A row of many curves is higher.
_MANY, _HIGHER = 8, 1.4
_DASHES: tuple[panels.Dashes, ...] = ("-", "--", ":")
_LOOKS = {
    # Colour and marker say the regressor, dashes the features.
    **{
        f"{sampler}{suffix}": panels.Look(colour, dashes, marker)
        for sampler, colour, marker in zip(
            claims.REGRESSORS.values(), common.COLOURS, common.MARKERS, strict=False
        )
        for suffix, dashes in zip(claims.FEATURES.values(), _DASHES, strict=True)
    },
    OURS: panels.Look(common.PURPLE, "-", "D"),
    "tpe": panels.Look(common.ORANGE, "--", "v"),
    "gp": panels.Look(common.SKY, "-.", "P"),
    "cmaes": panels.Look(common.INK, (0, (5.0, 1.0, 1.0, 1.0, 1.0, 1.0)), "X"),
    "random": panels.Look(common.GREY, (0, (5.0, 2.0)), "*"),
}


class Plan(NamedTuple):
    """Which searches there are on each table.

    Attributes:
        samplers: Keys of `SAMPLERS`.
        repeats: How often each searches.
        evaluations: How many functions a search evaluates after those that it begins with.
        start: Key of `STARTS`.
        jobs: Processes.
        kept: Folder of the searches that ended; None keeps none.
    """

    samplers: tuple[str, ...] = METHODS
    repeats: int = 100
    evaluations: int = EVALUATIONS
    start: str = "random"
    jobs: int = 1
    kept: Path | None = None


class Row(NamedTuple):
    """What the panels of a row show.

    Attributes:
        title: In words.
        samplers: Whose searches.
    """

    title: str
    samplers: tuple[str, ...]


ROWS = (
    Row("the paper's regressors", (*claims.PAPERS, "random")),
    Row("this project, the paper's KNR,\nOptuna's samplers", (OURS, claims.PAPERS[0], *PEERS)),
    Row(
        "the same, where invalid functions\ncost Optuna's samplers nothing",
        (OURS, claims.PAPERS[0], *PEERS_VALID),
    ),
)


def searches_of(bench: ActBench, plan: Plan) -> list[Search]:
    """Run the searches on a table that are not kept yet, and return all.

    Raises:
        BenchmarkError: If the plan asks for what there is not, the table lacks functions of its
            space, or the file that is kept is of another table.
    """
    return compare(
        bench,
        plan.samplers,
        repeats=plan.repeats,
        trials=plan.evaluations,
        start=plan.start,
        jobs=plan.jobs,
        kept=file_of(plan.kept, bench),
    )


def file_of(folder: Path | None, bench: ActBench) -> Path | None:
    """Return where searches on a table are kept: where `benchmarks/settle.py` keeps them."""
    return None if folder is None else folder / f"{bench.name}.jsonl"


def marks_of(bench: ActBench) -> list[panels.Mark]:
    """Return the accuracies to compare with, as far as the table has them."""
    table = SearchedTable(bench)
    marks = [panels.Mark("best of all", float(table.scores.max()), ":")]
    if bench.baselines:
        text, row = max(bench.baselines.items(), key=lambda each: table.scores[each[1]])
        marks.append(panels.Mark(f"{common.title_of(text)}", float(table.scores[row]), ":"))
    if table.relu is not None:
        marks.append(panels.Mark("ReLU", float(table.scores[table.relu]), "--"))
    return marks


def rows_of(samplers: Sequence[str]) -> list[Row]:
    """Return the rows in which some samplers are shown.

    A row that would show nothing, or only what another row shows, is left out; samplers that have
    no row are shown in one of their own.
    """
    known = {name for row in ROWS for name in row.samplers}
    others = Row("other samplers", tuple(name for name in samplers if name not in known))
    rows = [
        row._replace(samplers=tuple(name for name in row.samplers if name in samplers))
        for row in (*ROWS, others)
    ]
    sets = [set(row.samplers) for row in rows]
    return [
        row
        for place, (row, own) in enumerate(zip(rows, sets, strict=True))
        if own and not any(own < other for other in sets) and own not in sets[:place]
    ]


def name_of(sampler: str) -> str:
    """Return how a sampler is written in the figure; the row says whether it is one of `VALID`."""
    return _NAMES.get(sampler.removesuffix(VALID), sampler)


def looks_of(row: Row) -> dict[str, panels.Look]:
    """Return how each curve of a row is drawn."""
    looks: dict[str, panels.Look] = {}
    for place, sampler in enumerate(row.samplers):
        another = panels.Look(
            common.COLOURS[place % len(common.COLOURS)],
            _DASHES[place % len(_DASHES)],
            common.MARKERS[place % len(common.MARKERS)],
        )
        looks[sampler] = _LOOKS.get(sampler.removesuffix(VALID), another)
    return looks


def draw(tables: Sequence[ActBench], plan: Plan) -> common.Drawn:
    """Run the searches, and draw a column for each table.

    Raises:
        BenchmarkError: As :func:`searches_of`.
    """
    return drawn([(bench, searches_of(bench, plan)) for bench in tables])


def drawn(found: Sequence[tuple[ActBench, list[Search]]]) -> common.Drawn:
    """Draw searches that have ended, a column for each table, all by the same samplers."""
    rows = rows_of(list(dict.fromkeys(one.sampler for one in found[0][1])))
    heights = [_HEIGHT * (_HIGHER if len(row.samplers) > _MANY else 1.0) for row in rows]
    figure = common.new_figure(_WIDTH * len(found), sum(heights) + _TOP)
    # So that the names do not touch the edge.
    figure.set_layout_engine("constrained", w_pad=_EDGE)
    grid = figure.subplots(len(rows), len(found), squeeze=False, sharex=True, height_ratios=heights)
    for column, (bench, searches) in zip(grid.T, found, strict=True):
        _draw_column(column, bench, searches, rows, heights)
    for axes, row in zip(grid[:, 0], rows, strict=True):
        label = f"{row.title}\n\nmean best accuracy, log of regret"
        axes.set_ylabel(label, fontsize=9, color=common.INK)
    return common.Drawn(figure, claims.lines(found))


def _draw_column(
    column: Sequence[Axes],
    bench: ActBench,
    searches: Sequence[Search],
    rows: Sequence[Row],
    heights: Sequence[float],
) -> None:
    bands = {name: panels.band_of(own) for name, own in curves_of(bench, searches).items()}
    marks = marks_of(bench)
    # One for the column, so that its panels compare.
    scale = panels.scale_of([*bands.values()], marks)
    for axes, row, height in zip(column, rows, heights, strict=True):
        common.style(axes)
        curves = [panels.Curve(name_of(s), bands[s], look) for s, look in looks_of(row).items()]
        panels.draw_panel(axes, curves, marks, scale, height=height)
    column[0].set_title(bench.name, fontsize=10, color=common.INK)
    column[-1].set_xlabel("evaluations", fontsize=9, color=common.INK)


def main() -> None:
    """Draw Figure 6."""
    parser = common.parser_of(__doc__)
    parser.add_argument("--samplers", nargs="+", default=list(METHODS))
    parser.add_argument("--start", choices=list(STARTS), default="random")
    parser.add_argument("--repeats", type=int, default=100)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--kept", type=Path, default=None, help="folder of searches that ended")
    options = parser.parse_args()
    plan = Plan(
        samplers=tuple(options.samplers),
        repeats=options.repeats,
        start=options.start,
        jobs=options.jobs,
        kept=options.kept,
    )
    number = "6" if plan.start == "random" else f"6_{plan.start}"
    common.finish(parser, options, number, lambda tables: draw(tables, plan))


if __name__ == "__main__":
    main()
