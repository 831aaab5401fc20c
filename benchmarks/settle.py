"""Which search is best? Every one on every table, from both starts, and what the project promises.

The searches run on tables of functions that were really trained (`docs/benchmarks.md`), so all
see the same accuracies, and AquaSurfSampler runs in a study as users run it, with the whole table
as its pool. They begin with ReLU and seven random functions, as in Section 5 of the paper, or with
the eight baselines, and go on for a hundred evaluations; a repeat seeds the start and the sampler.

The promises, of the default search begun with ReLU and seven random functions:

- its mean regret after 50 evaluations is at most a quarter of that of the paper's search (UMAP of
  both features, three nearest neighbours), and at most a tenth of TPE's;
- it finds the best function of the whole table within 100 evaluations in 95% of the repeats;
- it finds a function of the top 1% in every repeat, and at the median in at most half of the
  evaluations that TPE takes.

    python -m benchmarks.settle [--tables ...] [--repeats 100] [--jobs 2] [--kept FOLDER]
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from aquasurf_optuna._whole_file import write_whole
from aquasurf_optuna.benchmark import (
    STARTS,
    ActBench,
    Summary,
    compare,
    comparison_markdown,
    summaries,
)
from aquasurf_optuna.benchmark._metrics import BEST, TOP_PERCENT, interval, reached
from benchmarks.paper._common import load
from benchmarks.surrogates import TUNED_ON

OURS, PAPER, TPE = "aquasurf", "aquasurf:paper", "tpe"
METHODS = (
    OURS,
    PAPER,
    TPE,
    "tpe:valid",
    "gp",
    "gp:valid",
    "cmaes",
    "cmaes:valid",
    "random",
    "random:valid",
)
OUTPUT = Path("benchmarks/results/settle.md")
HEAD = f"""# Which search is best?

The default surrogate and its settings were chosen on {TUNED_ON} (`benchmarks/surrogates.py`); the
other tables had no part in it. Means with 95% confidence intervals over repeats; "to the top 1%" is
the median number of evaluations, with the share of the repeats that get there where it is not all.
"""
EVALUATIONS = 100
DECISIVE = 50


class Promise(NamedTuple):
    """One promise, and what was measured.

    Attributes:
        what: In words.
        most: The figure must not be above this; or
        least: not below this.
        figure: What was measured.
    """

    what: str
    most: float
    least: float
    figure: float

    @property
    def kept(self) -> bool:
        """Whether the figure is within what was promised."""
        return self.least <= self.figure <= self.most


def promises(found: Mapping[str, Summary]) -> list[Promise]:
    """Say what of the promises a comparison keeps.

    Args:
        found: Summaries by sampler, of searches begun with ReLU and seven random functions; those
            of the default search, the paper's and TPE's among them.
    """
    ours, tpe = found[OURS], found[TPE]
    regret = {name: float(found[name].regrets[DECISIVE].mean()) for name in (OURS, PAPER, TPE)}
    top, theirs = ours.until[TOP_PERCENT], tpe.until[TOP_PERCENT]
    return [
        Promise(
            f"regret after {DECISIVE} over the paper's",
            0.25,
            0.0,
            _ratio(regret[OURS], regret[PAPER]),
        ),
        Promise(f"regret after {DECISIVE} over TPE's", 0.1, 0.0, _ratio(regret[OURS], regret[TPE])),
        Promise(
            f"repeats that find the best function within {EVALUATIONS}",
            1.0,
            0.95,
            float(np.isfinite(ours.until[BEST]).mean()),
        ),
        Promise(
            "median evaluations to a top-1% function over TPE's",
            0.5,
            0.0,
            _ratio(float(np.median(top)), float(np.median(theirs))),
        ),
        Promise("repeats that find a top-1% function", 1.0, 1.0, float(np.isfinite(top).mean())),
    ]


def _ratio(ours: float, theirs: float) -> float:
    """Return a ratio; of nothing to nothing it is 1, and to what never comes 0."""
    if ours == theirs:
        return 1.0
    return float(np.divide(ours, theirs)) if theirs > 0 else np.inf


def short_markdown(found: Mapping[str, Mapping[str, Summary]]) -> str:
    """Return the regret that decides and the median way to the top 1%, of samplers by table.

    Args:
        found: Table -> sampler -> summary; all tables with the same samplers.
    """
    heads = [f"{table}: regret after {DECISIVE} | to the {TOP_PERCENT}" for table in found]
    lines = ["| sampler | " + " | ".join(heads) + " |", "|---" * (2 * len(found) + 1) + "|"]
    for sampler in next(iter(found.values())):
        cells = []
        for one in (own[sampler] for own in found.values()):
            mean, half = interval(one.regrets[DECISIVE], different=one.different)
            median, share = reached(one.until[TOP_PERCENT])
            cells += [f"{mean:.3f} ± {half:.3f}", _median_text(median, share)]
        lines.append(f"| {sampler} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _median_text(median: float, share: float) -> str:
    shown = f"{median:g}" if np.isfinite(median) else f"> {EVALUATIONS}"
    return shown if share == 1.0 else f"{shown} ({share:.0%})"


def promises_markdown(by_table: Mapping[str, Sequence[Promise]]) -> str:
    """Return what was promised and measured as Markdown, a line for each table."""
    first = next(iter(by_table.values()))
    heads = [f"{one.what} ({_allowed(one)})" for one in first]
    lines = ["| table | " + " | ".join(heads) + " |", "|---" * (len(heads) + 1) + "|"]
    for table, own in by_table.items():
        cells = [f"{one.figure:.3g}{'' if one.kept else ' **missed**'}" for one in own]
        lines.append(f"| {table} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _allowed(one: Promise) -> str:
    return f"at least {one.least:g}" if one.least > 0 else f"at most {one.most:g}"


def main() -> None:
    """Run what is missing, and write the tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--tables", nargs="+", default=None, help="names or files")
    parser.add_argument("--samplers", nargs="+", default=list(METHODS))
    parser.add_argument("--starts", nargs="+", default=list(STARTS), choices=list(STARTS))
    parser.add_argument("--repeats", type=int, default=100)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--again", nargs="+", default=[], help="samplers that have changed")
    parser.add_argument("--kept", type=Path, default=None, help="folder of searches that ended")
    parser.add_argument("--output", type=Path, default=OUTPUT)
    options = parser.parse_args()
    texts: list[str] = []
    short: dict[str, Mapping[str, Summary]] = {}
    kept_promises: dict[str, list[Promise]] = {}
    for bench in load(options.tables):
        for start in options.starts:
            searches = compare(
                bench,
                options.samplers,
                repeats=options.repeats,
                trials=EVALUATIONS,
                start=start,
                jobs=options.jobs,
                kept=_file(options.kept, bench),
                again=options.again,
            )
            texts += [f"## {bench.name}, begun with {STARTS[start]}\n"]
            texts.append(comparison_markdown(bench, searches))
            found = summaries(bench, searches)
            if start == "random":
                short[bench.name] = found
            if start == "random" and {OURS, PAPER, TPE} <= found.keys():
                kept_promises[bench.name] = promises(found)
    only = "" if tuple(options.samplers) == METHODS else f" --samplers {' '.join(options.samplers)}"
    first = [HEAD, f"To make this again: `python -m benchmarks.settle{only}`.\n"]
    if short:
        first += ["## In short: begun with ReLU and seven random functions\n"]
        first += [short_markdown(short) + "\n"]
    if kept_promises:
        first += ["## What was promised\n", promises_markdown(kept_promises) + "\n"]
    text = "\n".join([*first, *texts])
    write_whole(options.output, text.encode(), what="a text")
    print(text)


def _file(folder: Path | None, bench: ActBench) -> Path | None:
    return None if folder is None else folder / f"{bench.name}.jsonl"


if __name__ == "__main__":
    main()
