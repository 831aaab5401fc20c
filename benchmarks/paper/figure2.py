"""Figure 2: validation accuracies of one table against those of another, for every pair.

Only functions that were trained for both tables are shown. Whether they rank alike is asked of
those that train at all in both, that is, end above twice chance.

    python -m benchmarks.paper.figure2 [--tables NAME_OR_FILE ...] [--output FOLDER]
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray
from scipy import stats

from aquasurf_optuna.benchmark._bench import ActBench
from aquasurf_optuna.exceptions import BenchmarkError
from benchmarks.paper import _common as common

_COLUMNS = 3
_LEGEND_COLUMNS = {1: 3, 2: 5, 3: 9}
_TOP = 0.01


class Pair(NamedTuple):
    """The functions that were trained for two tables.

    Attributes:
        names: The two tables.
        functions: Their texts in the first table, n of them.
        accuracies: ``(2, n)``.
        thresholds: Twice chance in each.
        baselines: Text of a standard function -> its position among the n.
    """

    names: tuple[str, str]
    functions: tuple[str, ...]
    accuracies: NDArray[np.float64]
    thresholds: tuple[float, float]
    baselines: dict[str, int]

    @property
    def train(self) -> NDArray[np.bool_]:
        """Which functions train at all in each, ``(2, n)``."""
        return self.accuracies > np.array(self.thresholds)[:, None]


class Facts(NamedTuple):
    """How far two tables agree.

    Attributes:
        functions: Trained for both.
        both: Train at all in both.
        only_first: Train at all in the first alone.
        only_second: Train at all in the second alone.
        correlation: Spearman's, over those that train at all in both.
        best_elsewhere: Rank in the second table of the best function of the first, from 1; and the
            other way round.
        shared: How many of the best 1% of one are among the best 1% of the other.
        top: How many functions that 1% is.
    """

    functions: int
    both: int
    only_first: int
    only_second: int
    correlation: float
    best_elsewhere: tuple[int, int]
    shared: int
    top: int


def pair_of(first: ActBench, second: ActBench) -> Pair:
    """Match two tables function by function.

    Raises:
        BenchmarkError: If no function was trained for both.
    """
    there = common.trained(first), common.trained(second)
    matched: list[tuple[int, int]] = []
    for row in np.flatnonzero(there[0]):
        other = _row(second, first.functions[row])
        if other is not None and there[1][other]:
            matched.append((int(row), other))
    if not matched:
        raise BenchmarkError(
            f"no function was trained for both {first.name} and {second.name}; name tables of one "
            "space with --tables"
        )
    rows = np.array(matched).T
    place = {int(row): position for position, row in enumerate(rows[0])}
    return Pair(
        (first.name, second.name),
        tuple(first.functions[row] for row in rows[0]),
        np.stack([first.values()[rows[0]], second.values()[rows[1]]]),
        (common.threshold(first), common.threshold(second)),
        {text: place[row] for text, row in first.baselines.items() if row in place},
    )


def _row(bench: ActBench, function: str) -> int | None:
    try:
        return bench.row(function)
    except BenchmarkError:
        return None


def facts_of(pair: Pair) -> Facts:
    """Say how far two tables agree."""
    train = pair.train
    both = train.all(axis=0)
    top = max(1, math.ceil(_TOP * len(pair.functions)))
    order = np.argsort(-pair.accuracies, axis=1, kind="stable")
    best = order[:, 0]
    return Facts(
        functions=len(pair.functions),
        both=int(both.sum()),
        only_first=int((train[0] & ~train[1]).sum()),
        only_second=int((train[1] & ~train[0]).sum()),
        correlation=_spearman(*pair.accuracies[:, both]),
        best_elsewhere=(_rank(pair.accuracies[1], best[0]), _rank(pair.accuracies[0], best[1])),
        shared=len(set(order[0, :top].tolist()) & set(order[1, :top].tolist())),
        top=top,
    )


def _spearman(x: NDArray[np.float64], y: NDArray[np.float64]) -> float:
    # Of constant values, or fewer than two, there is no correlation, and SciPy warns.
    if len(x) < 2 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return math.nan
    return float(stats.spearmanr(x, y).statistic)


def _rank(values: NDArray[np.float64], row: int) -> int:
    return int((values > values[row]).sum()) + 1


def draw(tables: Sequence[ActBench]) -> common.Drawn:
    """Draw a panel for every pair of tables.

    Raises:
        BenchmarkError: If there are fewer than two.
    """
    if len(tables) < 2:
        raise BenchmarkError(
            f"Figure 2 compares tables, so it needs two or more, got {len(tables)}; name another "
            "one with --tables"
        )
    pairs = [pair_of(first, second) for first, second in itertools.combinations(tables, 2)]
    columns = min(_COLUMNS, len(pairs))
    rows = math.ceil(len(pairs) / columns)
    figure = common.new_figure(4.4 * columns, 4.3 * rows + 0.4)
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes, pair in zip(panels, pairs, strict=False):
        _draw_panel(axes, pair)
    for axes in panels[len(pairs) :]:
        axes.set_axis_off()
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(
        handles,
        labels,
        loc="outside lower center",
        ncols=_LEGEND_COLUMNS[columns],
        frameon=False,
        fontsize=8,
    )
    return common.Drawn(figure, lines(pairs))


def _draw_panel(axes: Axes, pair: Pair) -> None:
    x, y = pair.accuracies
    facts = facts_of(pair)
    axes.scatter(x, y, s=7, color=common.GREY, alpha=0.5, linewidths=0, label="others")
    marks = zip(pair.baselines.items(), common.COLOURS, common.MARKERS, strict=False)
    for (text, row), colour, marker in marks:
        axes.scatter(
            x[row],
            y[row],
            s=90 if marker == "*" else 52,
            color=colour,
            marker=marker,
            edgecolors="white",
            linewidths=0.7,
            zorder=3,
            label=common.title_of(text),
        )
    common.style(
        axes,
        title=f"rank correlation {facts.correlation:.2f} over {facts.both:,} functions",
        x=f"validation accuracy, {pair.names[0]}",
        y=f"validation accuracy, {pair.names[1]}",
    )


def lines(pairs: Sequence[Pair]) -> list[str]:
    """Return what the figure shows as Markdown."""
    found = [
        "# Figure 2: one table against another",
        "",
        "A function trains at all that ends above twice chance. The correlation is Spearman's, "
        "over the functions that train at all in both tables; ranks count from 1.",
        "",
        *common.table_head(
            "tables", "trained for both", "train in both", "only in the first",
            "only in the second", "rank correlation", "rank of the first's best in the second",
            "of the second's in the first", "shared by the best 1%",
        ),
    ]  # fmt: skip
    for pair in pairs:
        facts = facts_of(pair)
        found.append(
            common.table_row(
                " and ".join(pair.names), f"{facts.functions:,}", f"{facts.both:,}",
                facts.only_first, facts.only_second, f"{facts.correlation:.3f}",
                *facts.best_elsewhere, f"{facts.shared} of {facts.top}",
            )
        )  # fmt: skip
    return found


def main() -> None:
    """Draw Figure 2."""
    common.run(2, __doc__, draw)


if __name__ == "__main__":
    main()
