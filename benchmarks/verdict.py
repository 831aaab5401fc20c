"""What searches on a table came to: regrets, proposals until a good function, and a verdict."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from benchmarks.tables import Table

N_INITIAL = 8
N_PROPOSALS = 100
CHECKPOINTS = (10, 25, 50, 100)
DECISIVE = 50
"""Proposals after which the regret decides about the default."""


class Search(NamedTuple):
    """One search.

    Attributes:
        table: Name of the table.
        start: What it began with.
        method: Name of the surrogate or sampler.
        seed: See the top of the module.
        rows: Rows tried, the first eight included; one may come twice.
        seconds: Processor time of all proposals and the layout; NaN if it is not known.
    """

    table: str
    start: str
    method: str
    seed: int
    rows: list[int]
    seconds: float


class Summary(NamedTuple):
    """What the searches of one method came to, over seeds.

    Attributes:
        method: The surrogate or sampler.
        regrets: `(seeds, checkpoints)`, in the order of the seeds.
        matched: `(seeds,)`, proposals until a function that is no baseline is as good as the best
            baseline; infinite if none came.
        top: `(seeds,)`, the same until one of the best hundredth of all functions.
        seconds: `(seeds,)`, processor time a proposal.
    """

    method: str
    regrets: NDArray[np.float64]
    matched: NDArray[np.float64]
    top: NDArray[np.float64]
    seconds: NDArray[np.float64]


def summary(table: Table, searches: Iterable[Search]) -> Summary:
    """Summarise the searches of one method from one start."""
    ordered = sorted(searches, key=lambda search: search.seed)
    scores, baselines = table.scores, table.baselines
    best_baseline = scores[baselines].max()
    good = np.sort(scores)[-max(1, round(len(scores) / 100))]
    regrets, matched, top = [], [], []
    for search in ordered:
        found = scores[search.rows]
        best = np.maximum.accumulate(found)
        regrets.append([scores.max() - best[_last(best, n)] for n in CHECKPOINTS])
        new = ~np.isin(search.rows, baselines)
        matched.append(_first(new & (found >= best_baseline)))
        top.append(_first(new & (found >= good)))
    seconds = [s.seconds / max(len(s.rows) - N_INITIAL, 1) for s in ordered]
    return Summary(ordered[0].method, *map(np.array, (regrets, matched, top, seconds)))


def _last(best: NDArray[np.float64], n: int) -> int:
    """Return the place of the n-th proposal, or of the last one where the candidates ran out."""
    return min(N_INITIAL + n, len(best)) - 1


def _first(hits: NDArray[np.bool_]) -> float:
    """Return the number of the first proposal that is a hit; 0 if the search began with it."""
    found = np.flatnonzero(hits)
    return float(max(found[0] - N_INITIAL + 1, 0)) if len(found) else np.inf


def markdown(summaries: Sequence[Summary]) -> str:
    """Return one start of one table as Markdown, the lowest regret first."""
    lines = [
        "| surrogate or sampler | seeds | "
        + " | ".join(f"regret after {n}" for n in CHECKPOINTS)
        + " | to match the best baseline | to a top-1% function | processor ms a proposal |",
        "|---|" + "---|" * (len(CHECKPOINTS) + 4),
    ]
    decisive = CHECKPOINTS.index(DECISIVE)
    for one in sorted(summaries, key=lambda summary: summary.regrets[:, decisive].mean()):
        cells = [f"{mean:.4f} ± {error:.4f}" for mean, error in _means(one.regrets)]
        cells += [_median(one.matched), _median(one.top), _milliseconds(one.seconds)]
        cells.insert(0, str(len(one.regrets)))
        lines.append(f"| {one.method} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _means(columns: NDArray[np.float64]) -> list[tuple[float, float]]:
    """Return mean and standard error of each column."""
    errors = columns.std(axis=0, ddof=1) / np.sqrt(len(columns))
    return list(zip(columns.mean(axis=0), errors, strict=True))


def _median(counts: NDArray[np.float64]) -> str:
    middle = float(np.median(counts))
    shown = f"{middle:g}" if np.isfinite(middle) else f"> {N_PROPOSALS}"
    return f"{shown} ({np.isfinite(counts).mean():.0%})"


RULE = (
    f"The rule: the lowest regret after {DECISIVE} proposals wins, averaged over all tables, "
    "starts and seeds. Surrogates that are behind it by no more than one standard error of the "
    "difference, taken seed by seed, are tied with it, and of those the quickest is chosen."
)


def _milliseconds(seconds: NDArray[np.float64]) -> str:
    known = seconds[np.isfinite(seconds)]
    return f"{1000 * np.median(known):.1f}" if len(known) else ""


class Verdict(NamedTuple):
    """The regret that decides, of one surrogate.

    Attributes:
        method: The surrogate.
        regret: Mean over the tables, starts and seeds.
        behind: Mean of how much worse it is than the best surrogate, seed by seed.
        error: Standard error of `behind`.
        seconds: Median processor time a proposal.
        tied: Whether it is the best one, or behind by one standard error at most.
    """

    method: str
    regret: float
    behind: float
    error: float
    seconds: float
    tied: bool


def verdicts(groups: Sequence[Sequence[Summary]], peers: Collection[str]) -> list[Verdict]:
    """Apply `RULE` to all tables and starts (`groups`); the first one returned is the choice.

    `peers` are no surrogates, and not chosen; nor is what has fewer seeds than others.
    """
    decisive = CHECKPOINTS.index(DECISIVE)
    n_seeds = max(len(one.regrets) for group in groups for one in group)
    common = set.intersection(
        *({one.method for one in group if len(one.regrets) == n_seeds} for group in groups)
    )
    regrets, seconds = {}, {}
    for method in sorted(common - set(peers)):
        own = [next(one for one in group if one.method == method) for group in groups]
        regrets[method] = np.mean([one.regrets[:, decisive] for one in own], axis=0)
        seconds[method] = float(np.nanmedian(np.concatenate([one.seconds for one in own])))
    best = min(regrets, key=lambda method: float(regrets[method].mean()))
    found = []
    for method, regret in regrets.items():
        behind = regret - regrets[best]
        error = float(behind.std(ddof=1) / np.sqrt(len(behind)))
        tied = method == best or float(behind.mean()) <= error
        found.append(
            Verdict(
                method, float(regret.mean()), float(behind.mean()), error, seconds[method], tied
            )
        )
    return sorted(
        found, key=lambda one: (not one.tied, one.seconds if one.tied else one.regret, one.method)
    )


def verdict_markdown(found: Sequence[Verdict]) -> str:
    """Return verdicts as Markdown."""
    lines = [
        f"| surrogate | regret after {DECISIVE} | behind the best, seed by seed | tied "
        "| processor ms a proposal |",
        "|---|---|---|---|---|",
    ]
    lines += [
        f"| {one.method} | {one.regret:.4f} | {one.behind:.4f} ± {one.error:.4f} | "
        f"{'yes' if one.tied else ''} | {1000 * one.seconds:.1f} |"
        for one in found
    ]
    return "\n".join(lines)
