"""Figure 1: how validation accuracies are distributed, with and without invalid functions.

Where a table leaves functions with an invalid spectrum untrained, they stand at chance by
assumption, and are drawn apart from what was measured; the sample of them that was trained shows
what the assumption is worth.

    python -m benchmarks.paper.figure1 [--tables NAME_OR_FILE ...] [--output FOLDER]
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray
from scipy import stats

from aquasurf_optuna.benchmark._bench import ActBench
from benchmarks.paper import _common as common

BINS = 51
_CONFIDENCE = 0.95
_LEAST_SHOWN = 0.6  # functions; less than one, so that a single one is seen on a logarithmic axis


class Histogram(NamedTuple):
    """Counts of functions by validation accuracy, and what they come to.

    Attributes:
        edges: ``(bins + 1,)``; bins are 0.02 wide, and chance (0.1) is in the middle of one.
        valid: ``(bins,)``, trained functions with a valid spectrum.
        invalid: ``(bins,)``, trained functions with an invalid one.
        untrained: ``(bins,)``, functions that were not trained, at chance.
    """

    edges: NDArray[np.float64]
    valid: NDArray[np.int64]
    invalid: NDArray[np.int64]
    untrained: NDArray[np.int64]


class Facts(NamedTuple):
    """What a histogram is for, in numbers.

    Attributes:
        functions: All functions.
        invalid: Those with an invalid spectrum.
        valid_untrained: Those with a valid one that were not trained all the same.
        valid_trained: Trained ones with a valid spectrum.
        valid_failed: Those of them that end at twice chance or below.
        invalid_trained: Trained ones with an invalid spectrum.
        invalid_above: Those of them that end above twice chance.
        invalid_best: The best accuracy of those; NaN if none was trained.
        best: The best accuracy of all.
        relu: The accuracy of ReLU; NaN if it is not in the table.
        better: How many are better than the best baseline.
    """

    functions: int
    invalid: int
    valid_untrained: int
    valid_trained: int
    valid_failed: int
    invalid_trained: int
    invalid_above: int
    invalid_best: float
    best: float
    relu: float
    better: int


def histogram_of(bench: ActBench) -> Histogram:
    """Count a table's functions."""
    edges = np.linspace(-0.01, 1.01, BINS + 1)
    there, values = common.trained(bench), bench.values()

    def count(rows: NDArray[np.bool_]) -> NDArray[np.int64]:
        return np.histogram(values[rows], bins=edges)[0].astype(np.int64)

    return Histogram(edges, count(there & bench.valid), count(there & ~bench.valid), count(~there))


def facts_of(bench: ActBench) -> Facts:
    """Say what a table's histogram shows."""
    there, values, valid = common.trained(bench), bench.values(), bench.valid
    above = values > common.threshold(bench)
    sample = there & ~valid
    baselines = [values[row] for row in bench.baselines.values()]
    return Facts(
        functions=len(bench),
        invalid=int((~valid).sum()),
        valid_untrained=int((valid & ~there).sum()),
        valid_trained=int((valid & there).sum()),
        valid_failed=int((valid & there & ~above).sum()),
        invalid_trained=int(sample.sum()),
        invalid_above=int((sample & above).sum()),
        invalid_best=float(values[sample].max()) if sample.any() else float("nan"),
        best=float(values.max()),
        relu=float(values[bench.row("relu(x)")]) if "relu(x)" in bench.baselines else float("nan"),
        better=int((values > max(baselines)).sum()) if baselines else 0,
    )


def upper_bound(hits: int, trials: int) -> float:
    """Return the share that is exceeded with a probability of 5% at most (Clopper and Pearson).

    Args:
        hits: How often it was so.
        trials: Out of how many.
    """
    if hits >= trials:
        return 1.0
    return float(stats.beta.ppf(_CONFIDENCE, hits + 1, trials - hits))


def draw(tables: Sequence[ActBench]) -> common.Drawn:
    """Draw a panel a table."""
    figure = common.new_figure(4.4 * len(tables), 4.2)
    panels = figure.subplots(1, len(tables), squeeze=False, sharey=True)[0]
    for axes, bench in zip(panels, tables, strict=True):
        _draw_panel(axes, bench)
    panels[0].set_ylabel("functions (logarithmic)")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(
        handles,
        labels,
        loc="outside lower center",
        ncols=min(len(tables), 2),
        frameon=False,
        fontsize=9,
    )
    return common.Drawn(figure, lines(tables))


def _draw_panel(axes: Axes, bench: ActBench) -> None:
    counts = histogram_of(bench)
    # Each is drawn over the former: what is seen of it is what the next one lacks.
    layers = (
        (counts.valid + counts.invalid + counts.untrained, common.LIGHT_GREY, "///",
         "not trained: at chance by assumption"),
        (counts.valid + counts.invalid, common.VERMILION, "", "trained, spectrum invalid"),
        (counts.valid, common.BLUE, "", "trained, spectrum valid"),
    )  # fmt: skip
    for values, colour, hatch, label in layers:
        axes.stairs(
            values,
            counts.edges,
            baseline=_LEAST_SHOWN,
            fill=True,
            facecolor="white" if hatch else colour,
            edgecolor=common.GREY if hatch else colour,
            hatch=hatch,
            linewidth=0.4,
            label=label,
        )
    axes.axvline(bench.chance, color=common.INK, linewidth=0.8, linestyle=":", label="chance")
    common.style(axes, title=bench.name, x="validation accuracy")
    axes.set_yscale("log")
    axes.set_xlim(-0.01, 1.01)
    axes.set_ylim(bottom=_LEAST_SHOWN)


def lines(tables: Sequence[ActBench]) -> list[str]:
    """Return what the figure shows as Markdown."""
    found = [
        "# Figure 1: validation accuracies",
        "",
        "A function fails that ends at twice chance or below.",
        "",
        *common.table_head(
            "table", "functions", "invalid spectrum", "valid and trained", "fail of those", "share",
            "ReLU", "best", "better than every baseline",
        ),
    ]  # fmt: skip
    for bench in tables:
        facts = facts_of(bench)
        share = facts.valid_failed / max(1, facts.valid_trained)
        found.append(
            common.table_row(
                bench.name, f"{facts.functions:,}", f"{facts.invalid:,}",
                f"{facts.valid_trained:,}", f"{facts.valid_failed:,}", f"{share:.0%}",
                f"{facts.relu:.3f}", f"{facts.best:.3f}", facts.better,
            )
        )  # fmt: skip
    return [*found, "", *[_about_invalid(bench.name, facts_of(bench)) for bench in tables]]


def _about_invalid(name: str, facts: Facts) -> str:
    rest = facts.invalid - facts.invalid_trained
    text = f"- {name}: of {facts.invalid:,} functions with an invalid spectrum, "
    if facts.invalid_trained == 0:
        return f"{text}none was trained; they stand at chance by assumption."
    bound = upper_bound(facts.invalid_above, facts.invalid_trained)
    text += (
        f"{facts.invalid_trained:,} were trained: {facts.invalid_above} ended above twice chance "
        f"(best {facts.invalid_best:.3f})"
    )
    if rest:
        text += (
            f", so with 95% confidence at most {bound:.1%} of them would; the other {rest:,} stand "
            "at chance by assumption"
        )
    if facts.valid_untrained:
        text += f". {facts.valid_untrained:,} valid ones have no accuracy and stand at chance too"
    return f"{text}."


def main() -> None:
    """Draw Figure 1."""
    common.run(1, __doc__, draw)


if __name__ == "__main__":
    main()
