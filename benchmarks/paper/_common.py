"""What the scripts of the paper's figures share: command line, tables, look and files.

The colours are those of Okabe and Ito, as in the project's other figures; what differs in colour
differs in shape too.
"""

from __future__ import annotations

import argparse
import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from aquasurf_optuna._whole_file import write_whole
from aquasurf_optuna.benchmark._bench import ActBench
from aquasurf_optuna.benchmark._published import PUBLISHED, cache_folder
from aquasurf_optuna.benchmark._shipped import SHIPPED
from aquasurf_optuna.exceptions import BenchmarkError
from aquasurf_optuna.visualization._style import (
    BLUE,
    GREEN,
    GREY,
    GRID,
    INK,
    LIGHT_GREY,
    ORANGE,
    VERMILION,
)

__all__ = ["BLUE", "GREEN", "GREY", "INK", "LIGHT_GREY", "ORANGE", "VERMILION"]

OUTPUT = Path("benchmarks/results/paper")
SKY, PURPLE, YELLOW = "#56B4E9", "#CC79A7", "#F0E442"
COLOURS = (BLUE, VERMILION, GREEN, ORANGE, PURPLE, SKY, YELLOW, INK)
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")

TITLES = {
    "elu(x)": "ELU",
    "relu(x)": "ReLU",
    "selu(x)": "SELU",
    "sigmoid(x)": "sigmoid",
    "softplus(x)": "Softplus",
    "softsign(x)": "Softsign",
    "swish(x)": "Swish",
    "tanh(x)": "tanh",
}
"""The names that the paper gives the eight standard functions."""

NEGATED = ("elu(x)", "relu(x)", "swish(x)")
"""Functions that are shown with their negatives: the paper's text speaks of ELU."""

_DOTS_PER_INCH = 150
_TWICE = 2.0


class Drawn(NamedTuple):
    """A figure, and the lines of Markdown that say what it shows."""

    figure: Figure
    lines: list[str]


def run(number: int, doc: str | None, draw: Callable[[Sequence[ActBench]], Drawn]) -> None:
    """Read the command line, draw one figure and write it down, as picture and as text.

    Args:
        number: The figure's number in the paper.
        doc: What the script says of itself.
        draw: Makes the figure from the tables.
    """
    parser = parser_of(doc)
    finish(parser, parser.parse_args(), number, draw)


def parser_of(doc: str | None) -> argparse.ArgumentParser:
    """Return what reads the options that every figure has; a script may add its own."""
    parser = argparse.ArgumentParser(description=(doc or "").split("\n", maxsplit=1)[0])
    parser.add_argument(
        "--tables",
        nargs="+",
        default=None,
        help="names or files; by default all that need no network",
    )
    parser.add_argument("--output", type=Path, default=OUTPUT, help="folder for what is made")
    return parser


def finish(
    parser: argparse.ArgumentParser,
    options: argparse.Namespace,
    number: int | str,
    draw: Callable[[Sequence[ActBench]], Drawn],
) -> None:
    """Draw one figure as the options say, and write it down.

    Args:
        parser: Tells the user what is wrong with the options.
        options: What it read.
        number: The figure's number in the paper, with what tells it from others of that number.
        draw: Makes the figure from the tables.
    """
    try:
        drawn = draw(load(options.tables))
    except BenchmarkError as error:
        parser.error(str(error))
    write(options.output, number, drawn)


def load(names: Sequence[str] | None) -> list[ActBench]:
    """Return tables by name or file; those that are at hand if none is named.

    Raises:
        BenchmarkError: If there is none, or one cannot be read.
    """
    wanted = at_hand() if names is None else list(names)
    if not wanted:
        raise BenchmarkError(
            "no table comes with this copy of the package, and no published one was fetched yet; "
            "name files with --tables"
        )
    return [ActBench.load(name) for name in wanted]


def at_hand() -> list[str]:
    """Return the names of the tables that need no network."""
    fetched = (name for name, url in PUBLISHED.items() if _kept(url).is_file())
    return [*SHIPPED, *fetched]


def _kept(url: str) -> Path:
    return cache_folder() / url.rpartition("/")[2]


def write(folder: Path, number: int | str, drawn: Drawn) -> None:
    """Write `figureN.png` and `figureN.md`, and print the text."""
    text = "\n".join(drawn.lines) + "\n"
    write_whole(folder / f"figure{number}.png", as_png(drawn.figure), what="a PNG")
    write_whole(folder / f"figure{number}.md", text.encode(), what="a text")
    print(text)


def new_figure(width: float, height: float) -> Figure:
    """Return an empty figure; without pyplot, which would choose a window system."""
    figure = Figure(figsize=(width, height), dpi=_DOTS_PER_INCH, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def as_png(figure: Figure) -> bytes:
    """Return a figure as PNG; equal figures give equal bytes."""
    target = io.BytesIO()
    # Without the version of matplotlib among the metadata the bytes say only what is drawn.
    figure.savefig(target, format="png", metadata={"Software": None})
    return target.getvalue()


def style(axes: Axes, *, title: str = "", x: str = "", y: str = "") -> None:
    """Give axes the common look."""
    axes.set_title(title, fontsize=10, color=INK)
    axes.set_xlabel(x, fontsize=9, color=INK)
    axes.set_ylabel(y, fontsize=9, color=INK)
    axes.grid(color=GRID, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.tick_params(colors=INK, labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(GREY)


def trained(bench: ActBench) -> NDArray[np.bool_]:
    """Return which rows have a measured validation accuracy, ``(n,)``."""
    return np.asarray(np.isfinite(bench.measured["validation_accuracy"]))


def threshold(bench: ActBench) -> float:
    """Return the accuracy above which a function trains at all: twice that of guessing."""
    return _TWICE * bench.chance


def title_of(function: str) -> str:
    """Return how a function is written in a figure."""
    return TITLES.get(function, function)


def table_row(*cells: object) -> str:
    """Return a row of a Markdown table."""
    return "| " + " | ".join(map(str, cells)) + " |"


def table_head(*cells: str) -> list[str]:
    """Return the first two rows of a Markdown table: text on the left, numbers on the right."""
    return [table_row(*cells), table_row("---", *["---:"] * (len(cells) - 1))]
