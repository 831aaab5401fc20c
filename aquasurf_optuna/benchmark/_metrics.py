"""How good searches on a table are: regrets, evaluations until a good function, and their spread.

Values are better the higher they are. Evaluations are counted after the functions that a search
begins with, which every search has to pay for: after 0 evaluations a search has these alone.

==============  ======================  ===========================================================
``values``      ``(n,)``                of every row of the table
``found``       ``(evaluations,)``      of the rows that one search tried, in their order
``curves``      ``(repeats, t + 1)``    best value so far of searches after 0, 1, ..., t evaluations
``until``       ``(repeats,)``          evaluations that searches took to a goal; infinite: it never
                                        came
==============  ======================  ===========================================================
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from aquasurf_optuna.exceptions import BenchmarkError

Floats = NDArray[np.float64]

CHECKPOINTS = (10, 25, 50, 100)
"""Evaluations after which regret is told."""

ABOVE_RELU = "better than ReLU"
ABOVE_BASELINES = "better than every baseline"
TOP_PERCENT = "top 1%"
TOP_QUARTER = "top 0.25%"
BEST = "best of all"
SHARES = {TOP_PERCENT: 0.01, TOP_QUARTER: 0.0025}
"""Goal -> share of the whole table that reaches it."""

_Z95 = 1.96


class Interval(NamedTuple):
    """A mean over repeats, with its 95% confidence interval ``mean ± half``.

    The interval is that of the normal approximation, 1.96 standard errors to either side; NaN where
    there is a single repeat.
    """

    mean: float
    half: float


class Reached(NamedTuple):
    """How soon searches reach a goal.

    Attributes:
        median: Evaluations that the median search takes; infinite if half of them never arrive.
        share: Share of the searches that arrive.
    """

    median: float
    share: float


class Summary(NamedTuple):
    """What the searches of one sampler came to.

    Attributes:
        curves: Best value so far, ``(repeats, t + 1)``.
        regrets: Evaluations -> regret of each search, ``(repeats,)``.
        until: Goal -> evaluations that each search takes, ``(repeats,)``.
        different: How many of the searches differ; those of a sampler that draws nothing at random
            are the same wherever they begin with the same functions.
    """

    curves: Floats
    regrets: dict[int, Floats]
    until: dict[str, Floats]
    different: int


def summary_of(
    values: Floats,
    found: Sequence[Floats],
    *,
    n_initial: int,
    evaluations: int,
    relu: int | None = None,
    baselines: Sequence[int] = (),
) -> Summary:
    """Summarise the searches of one sampler on one table.

    Args:
        values: Of all rows, ``(n,)``.
        found: For each search the values of the rows that it tried, those it began with first.
        n_initial: How many of them it began with.
        evaluations: How many evaluations after these count.
        relu: Row of ReLU, if the table has it.
        baselines: Rows of the baselines that the table has.

    Raises:
        BenchmarkError: If there is no search, or one is shorter than its beginning.
    """
    curves = best_so_far(found, n_initial=n_initial, evaluations=evaluations)
    after = [n for n in CHECKPOINTS if n <= evaluations]
    return Summary(
        curves,
        {n: regret_after(values, curves, n) for n in after},
        {
            goal: evaluations_until(curves, least)
            for goal, least in goals_of(values, relu=relu, baselines=baselines).items()
        },
        len({one.tobytes() for one in found}),
    )


def best_so_far(found: Sequence[Floats], *, n_initial: int, evaluations: int) -> Floats:
    """Return the best value so far after 0, 1, ... evaluations, ``(repeats, evaluations + 1)``.

    A search that ended early, since it had nothing left to try, keeps the best that it found.

    Raises:
        BenchmarkError: If there is no search, or one is shorter than its beginning.
    """
    shortest = min(map(len, found), default=0)
    if n_initial < 1 or shortest < n_initial:
        raise BenchmarkError(
            f"searches must hold the {max(n_initial, 1)} functions that they begin with, got "
            f"{len(found)} searches, the shortest of {shortest} functions"
        )
    curves = np.empty((len(found), evaluations + 1))
    for curve, own in zip(curves, found, strict=True):
        best = np.maximum.accumulate(own)[n_initial - 1 : n_initial + evaluations]
        curve[: len(best)] = best
        curve[len(best) :] = best[-1]
    return curves


def regret_after(values: Floats, curves: Floats, evaluations: int) -> Floats:
    """Return the best value of the table less the best found, ``(repeats,)``."""
    regret: Floats = values.max() - curves[:, evaluations]
    return regret


def goals_of(
    values: Floats, *, relu: int | None = None, baselines: Sequence[int] = ()
) -> dict[str, float]:
    """Return the least value that reaches each goal.

    The top of a table are its best ``max(1, round(n * share))`` values; what ties with the last of
    them belongs to it. Goals that need ReLU or the baselines are left out where there are none.
    """
    goals: dict[str, float] = {}
    if relu is not None:
        goals[ABOVE_RELU] = _above(values[relu])
    if len(baselines):
        goals[ABOVE_BASELINES] = _above(values[list(baselines)].max())
    ordered = np.sort(values)
    for goal, share in SHARES.items():
        goals[goal] = float(ordered[-max(1, round(len(values) * share))])
    goals[BEST] = float(ordered[-1])
    return goals


def evaluations_until(curves: Floats, least: float) -> Floats:
    """Return how many evaluations each search takes to a value of at least `least`.

    Returns:
        ``(repeats,)``; 0 if it begins with one, infinite if none comes.
    """
    reached = curves >= least
    return np.where(reached.any(axis=1), reached.argmax(axis=1), np.inf)


def reached(until: Floats) -> Reached:
    """Return the median over searches, and the share of them that arrive."""
    return Reached(float(np.median(until)), float(np.isfinite(until).mean()))


def interval(samples: Floats, *, different: int | None = None) -> Interval:
    """Return the mean over repeats with its 95% confidence interval.

    Args:
        samples: ``(repeats,)``.
        different: How many of them are not repetitions of others; None for all.
    """
    n = len(samples) if different is None else different
    # Of the variance of what differs, Bessel's correction included, for repeats that count once.
    error = float(samples.std()) / math.sqrt(n - 1) if n > 1 else math.nan
    return Interval(float(samples.mean()), _Z95 * error)


def markdown(summaries: Mapping[str, Summary], milliseconds: Mapping[str, float]) -> str:
    """Return a Markdown table of samplers, the lowest regret at the last checkpoint first.

    Args:
        summaries: By sampler; all with the same checkpoints and goals.
        milliseconds: Processor time of one proposal, by sampler.
    """
    first = next(iter(summaries.values()))
    columns = ["sampler", "repeats", *(f"regret after {n}" for n in first.regrets)]
    columns += [f"to {goal}" for goal in first.until]
    columns.append("ms a proposal")
    lines = ["| " + " | ".join(columns) + " |", "|---" * len(columns) + "|"]
    ordered = sorted(summaries, key=lambda name: _order(summaries[name]))
    for name in ordered:
        one = summaries[name]
        cells = [name, _repeats_text(one)]
        cells += [
            _interval_text(interval(regrets, different=one.different))
            for regrets in one.regrets.values()
        ]
        cells += [_reached_text(reached(until), one) for until in one.until.values()]
        cells.append(f"{milliseconds[name]:.1f}")
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _order(one: Summary) -> tuple[float, ...]:
    """Sort by the mean of the best found in the end, then by how soon it was there."""
    return (-float(one.curves[:, -1].mean()), -float(one.curves.mean()))


def _repeats_text(one: Summary) -> str:
    repeats = len(one.curves)
    return str(repeats) if one.different == repeats else f"{repeats}, {one.different} different"


def _interval_text(found: Interval) -> str:
    text = f"{found.mean:.4f}"
    return text if np.isnan(found.half) else f"{text} ± {found.half:.4f}"


def _reached_text(found: Reached, one: Summary) -> str:
    shown = f"{found.median:g}" if np.isfinite(found.median) else f"> {one.curves.shape[1] - 1}"
    return f"{shown} ({found.share:.0%})"


def _above(value: float) -> float:
    return float(np.nextafter(value, np.inf))
