"""Which surrogate becomes the default? Every one that has a name, from both starts, and a rule.

The searches run on tables of functions that were really trained (`docs/benchmarks.md`), with
AquaSurfSampler in a study as users run it, and are kept in the files of `benchmarks/settle.py`: the
two share them, and what was interrupted goes on.

Settings, the default surrogate among them, are chosen on one table, act-bench-digits-resnet, and
reported on the others, which had no part in the choice. So by default this runs on that one alone.

    python -m benchmarks.surrogates [--tables act-bench-digits-resnet] [--only NAMES]
        [--repeats 100] [--jobs 2] [--kept FOLDER] [--output benchmarks/results/surrogates.md]
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from aquasurf_optuna._whole_file import write_whole
from aquasurf_optuna.benchmark import (
    STARTS,
    ActBench,
    Search,
    compare,
    comparison_markdown,
    summaries,
)
from aquasurf_optuna.exceptions import BenchmarkError
from aquasurf_optuna.surrogate import DEFAULT_SURROGATE, SURROGATES, make_surrogate
from aquasurf_optuna.surrogate._umap import forget_layouts
from aquasurf_optuna.surrogate._umap_plane import UmapSurrogate
from benchmarks.paper._common import load
from benchmarks.paper.figure6 import file_of
from benchmarks.verdict import DECISIVE, RULE, Floats, verdict_markdown, verdicts

TUNED_ON = "act-bench-digits-resnet"
TWINS = {"umap-knn"}
"""Names of what has another name too."""
NAMES = tuple(name for name in SURROGATES if name not in TWINS)
EVALUATIONS = 100
OUTPUT = Path("benchmarks/results/surrogates.md")

HEAD = (
    "# Surrogates\n\n"
    f"Settings, the default surrogate among them, are chosen on {TUNED_ON} alone. What they come "
    "to on the other tables, which had no part in the choice, is for "
    "`python -m benchmarks.settle` to say.\n"
)
ABOUT_TIME = (
    "A proposal takes what it does in the median search, and its share, one in "
    f"{EVALUATIONS}, of what it takes to lay out a map, for the surrogates that have one: the "
    "repeats above share their maps, which a single search has to make."
)

Group = tuple[ActBench, list[Search]]
"""A table, and the searches on it from one start."""


def sampler_of(name: str) -> str:
    """Return the sampler, a key of `SAMPLERS`, that searches with a surrogate."""
    return f"aquasurf:{name}"


def searches_of(bench: ActBench, start: str, options: argparse.Namespace) -> list[Search]:
    """Run the searches on a table that are not kept yet, and return all.

    Raises:
        BenchmarkError: As :func:`compare`.
    """
    return compare(
        bench,
        [sampler_of(name) for name in options.only],
        repeats=options.repeats,
        trials=EVALUATIONS,
        start=start,
        jobs=options.jobs,
        kept=file_of(options.kept, bench),
        again=[sampler_of(name) for name in options.again],
    )


def has_map(name: str) -> bool:
    """Say whether a surrogate lays out a map of its candidates before it predicts."""
    return isinstance(make_surrogate(name, features="both", random_state=0), UmapSurrogate)


def layout_seconds(bench: ActBench) -> float:
    """Return the processor time that it takes to lay out the map of a table."""

    def one() -> float:
        [search] = compare(bench, [sampler_of("paper")], repeats=1, trials=1, progress=False)
        return search.seconds

    # What is imported and compiled once in a process belongs to none of them.
    one()
    remembered = one()
    forget_layouts()
    return max(one() - remembered, 0.0)


def regrets_of(groups: Sequence[Group], names: Sequence[str]) -> dict[str, Floats]:
    """Return the regrets of each surrogate that decide, a row for each table and start."""
    found = [summaries(bench, searches) for bench, searches in groups]
    return {
        name: np.array([one[sampler_of(name)].regrets[DECISIVE] for one in found]) for name in names
    }


def seconds_of(groups: Sequence[Group], name: str, layout: float) -> float:
    """Return the processor time of a proposal, with its share of the layout of a map."""
    own = [one for _, group in groups for one in group if one.sampler == sampler_of(name)]
    median = float(np.median([one.seconds / max(len(one.rows) - one.n_initial, 1) for one in own]))
    return median + (layout / EVALUATIONS if has_map(name) else 0.0)


def report(groups: Sequence[Group], names: Sequence[str], layout: float) -> str:
    """Return everything as Markdown.

    Args:
        groups: The searches on each table from each start.
        names: Of the surrogates.
        layout: Processor time of laying out a map.
    """
    only = "" if tuple(names) == NAMES else f" --only {' '.join(names)}"
    texts = [HEAD, f"To make this again: `python -m benchmarks.surrogates{only}`.\n"]
    for bench, searches in groups:
        texts.append(f"## {bench.name}, begun with {STARTS[searches[0].start]}\n")
        texts.append(comparison_markdown(bench, searches))
    ranked = verdicts(
        regrets_of(groups, names), {name: seconds_of(groups, name, layout) for name in names}
    )
    texts.append(f"## By the rule it is {ranked[0].name}; the default is {DEFAULT_SURROGATE}\n")
    texts.append(f"{RULE}\n\n{ABOUT_TIME}\n")
    texts.append(verdict_markdown(ranked) + "\n")
    return "\n".join(texts)


def main() -> None:
    """Run what is missing, and write the tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--tables", nargs="+", default=[TUNED_ON], help="names or files")
    parser.add_argument("--only", nargs="+", default=list(NAMES), choices=NAMES, metavar="NAME")
    parser.add_argument("--repeats", type=int, default=100)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--again", nargs="+", default=[], help="surrogates that have changed")
    parser.add_argument("--kept", type=Path, default=None, help="folder of searches that ended")
    parser.add_argument("--output", type=Path, default=OUTPUT)
    options = parser.parse_args()
    try:
        tables = load(options.tables)
        groups = [(b, searches_of(b, start, options)) for b in tables for start in STARTS]
        on_map = any(map(has_map, options.only))
        layout = float(np.mean([layout_seconds(b) for b in tables])) if on_map else 0.0
        text = report(groups, options.only, layout)
    except BenchmarkError as error:
        parser.error(str(error))
    write_whole(options.output, text.encode(), what="a text")
    print(text)


if __name__ == "__main__":
    main()
