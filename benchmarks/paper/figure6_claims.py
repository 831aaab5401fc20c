"""What Figure 6 says of the paper's claims: which features, and which regressor, search best.

Searches with one number begin with the same functions, so two samplers are compared pair by pair:
the difference of their regrets, its mean over the repeats, and the 95% interval of that (1.96
standard errors). Where the interval excludes zero the two are told apart. The paper's claims
(Section 5) are that both features together are better than each alone, that every regressor is
better than random search, and that of the three the nearest neighbours (KNR) are best.

===========  =========================  ======================================================
``regrets``  ``(repeats, t + 1)``       best value of the table less the best found so far
``moment``   column of a table          after so many evaluations, or the mean over all of them
===========  =========================  ======================================================
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from aquasurf_optuna.benchmark import (
    CHECKPOINTS,
    STARTS,
    ActBench,
    Interval,
    Search,
    SearchedTable,
    comparison_markdown,
    curves_of,
    interval,
)
from aquasurf_optuna.benchmark._samplers import LAYOUT_SEEDS
from benchmarks.paper import _common as common
from benchmarks.paper.figure6_panels import CLOSE

Floats = NDArray[np.float64]

REGRESSORS = {"KNR": "aquasurf:paper", "RFR": "aquasurf:umap-forest", "SVR": "aquasurf:umap-svr"}
FEATURES = {"both": "", "Fisher": ":fisher", "outputs": ":outputs"}
NAMES = {
    f"{sampler}{suffix}": f"{regressor} {features}"
    for regressor, sampler in REGRESSORS.items()
    for features, suffix in FEATURES.items()
}
"""Sampler -> how it is written."""
PAPERS = tuple(NAMES)
RANDOM = "random"
MEAN = "mean over all"


class Pair(NamedTuple):
    """Two samplers that are compared; the paper claims that the first one is better."""

    first: str
    second: str

    @property
    def text(self) -> str:
        """What is compared, in words."""
        return f"{NAMES[self.first]} against {NAMES.get(self.second, self.second)}"


FEATURE_PAIRS = tuple(
    Pair(sampler, f"{sampler}{suffix}")
    for sampler in REGRESSORS.values()
    for suffix in FEATURES.values()
    if suffix
)
RANDOM_PAIRS = tuple(Pair(sampler, RANDOM) for sampler in PAPERS)
REGRESSOR_PAIRS = tuple(
    Pair(REGRESSORS[a], REGRESSORS[b]) for a, b in (("KNR", "RFR"), ("KNR", "SVR"), ("RFR", "SVR"))
)


class Tally(NamedTuple):
    """How many of some pairs bear a claim out.

    Attributes:
        better: Pairs whose first sampler has less regret, told apart.
        worse: Pairs whose first sampler has more, told apart.
        open: Pairs that are not told apart.
    """

    better: list[Pair]
    worse: list[Pair]
    open: list[Pair]

    @property
    def pairs(self) -> int:
        """How many there are."""
        return len(self.better) + len(self.worse) + len(self.open)


def regrets_of(bench: ActBench, searches: Sequence[Search]) -> dict[str, Floats]:
    """Return the regret after 0, 1, ... evaluations, ``(repeats, t + 1)`` by sampler."""
    best = SearchedTable(bench).scores.max()
    return {sampler: best - curves for sampler, curves in curves_of(bench, searches).items()}


def moments_of(regrets: Floats) -> dict[str, Floats]:
    """Return the regrets that are compared, ``(repeats,)`` by moment.

    Args:
        regrets: After 0, 1, ..., t evaluations, ``(repeats, t + 1)``, t at least 1.

    Returns:
        Regrets after those of `CHECKPOINTS` that searches come to, after the last evaluation, and
        their mean over evaluations 1 to t.
    """
    last = regrets.shape[1] - 1
    after = [*(n for n in CHECKPOINTS if n < last), last]
    return {**{f"after {n}": regrets[:, n] for n in after}, MEAN: regrets[:, 1:].mean(axis=1)}


def differences(
    regrets: Mapping[str, Floats], pairs: Sequence[Pair]
) -> dict[Pair, dict[str, Interval]]:
    """Return the mean difference of regrets, first less second, by pair and moment.

    Pairs of which a sampler did not search are left out.
    """
    found = {}
    for pair in pairs:
        if pair.first in regrets and pair.second in regrets:
            first, second = moments_of(regrets[pair.first]), moments_of(regrets[pair.second])
            found[pair] = {m: interval(first[m] - second[m]) for m in first}
    return found


def told_apart(difference: Interval) -> bool:
    """Return whether the interval excludes zero; that of a single repeat never does."""
    return abs(difference.mean) > difference.half


def tally(found: Mapping[Pair, Mapping[str, Interval]], moment: str) -> Tally:
    """Sort pairs by whether their first sampler is better."""
    counted = Tally([], [], [])
    for pair, moments in found.items():
        difference = moments[moment]
        if not told_apart(difference):
            counted.open.append(pair)
        elif difference.mean < 0:
            counted.better.append(pair)
        else:
            counted.worse.append(pair)
    return counted


def sentence(regrets: Mapping[str, Floats]) -> str:
    """Say in one sentence what the searches on a table say of the paper's claims.

    Args:
        regrets: By sampler, ``(repeats, t + 1)`` each, at least one sampler.
    """
    last = next(iter(regrets.values())).shape[1] - 1
    moment = f"after {last}"
    parts = [_about_features(regrets, moment), _about_random(regrets, moment)]
    parts.append(_about_order(regrets, moment))
    said = [part for part in parts if part]
    if not said:
        return "No two of the paper's searches were run, so nothing is said of its claims."
    return f"After {last} evaluations " + "; ".join(said) + "."


def _about_features(regrets: Mapping[str, Floats], moment: str) -> str:
    found = differences(regrets, FEATURE_PAIRS)
    if not found:
        return ""
    now, whole = tally(found, moment), tally(found, MEAN)
    verdict = "holds" if len(now.better) == now.pairs else "holds in part"
    if not now.better:
        verdict = "does not hold"
    return (
        f"the claim that both features together are better than each alone {verdict}: better in "
        f"{_counted(now)}, and by the mean regret over all evaluations in {_counted(whole)}"
    )


def _about_random(regrets: Mapping[str, Floats], moment: str) -> str:
    found = differences(regrets, RANDOM_PAIRS)
    return f"{_counted(tally(found, moment))} are better than random search" if found else ""


def _counted(counted: Tally) -> str:
    exceptions = []
    if counted.worse:
        exceptions.append(f"worse: {', '.join(pair.text for pair in counted.worse)}")
    if counted.open:
        exceptions.append(f"not told apart: {len(counted.open)}")
    text = f"{len(counted.better)} of {counted.pairs}"
    return f"{text} ({'; '.join(exceptions)})" if exceptions else text


def _about_order(regrets: Mapping[str, Floats], moment: str) -> str:
    means = {
        regressor: float(moments_of(regrets[sampler])[moment].mean())
        for regressor, sampler in REGRESSORS.items()
        if sampler in regrets
    }
    if len(means) < 2:
        return ""
    ordered = sorted(means, key=lambda regressor: means[regressor])
    text = f"{ordered[0]} {means[ordered[0]]:.4f}"
    for before, after in itertools.pairwise(ordered):
        pair = Pair(REGRESSORS[before], REGRESSORS[after])
        apart = told_apart(differences(regrets, [pair])[pair][moment])
        text += f" {'<' if apart else '≈'} {after} {means[after]:.4f}"
    return f"the regressors on both features come in the order {text}"


def lines(found: Sequence[tuple[ActBench, list[Search]]]) -> list[str]:
    """Return what the figure shows as Markdown.

    Args:
        found: Tables, each with the searches on it.
    """
    first = found[0][1][0]
    repeats = 1 + max(one.repeat for one in found[0][1])
    text = [
        "# Figure 6: searches on tables",
        "",
        f"Searches of {first.trials} evaluations, begun with {STARTS[first.start]}; repeats: "
        f"{repeats}. The dotted lines of the figure are the best function of the table and its "
        f"best baseline, the dashed one is ReLU; accuracies stand at the logarithm of regret + "
        f"{CLOSE:g}. Two samplers are told apart (`<` in an order, "
        "otherwise `≈`) where the 95% interval of the difference of their regrets, repeat by "
        "repeat, excludes zero; the intervals are not corrected for how many there are."
        + _about_layouts(repeats),
        "",
    ]
    regrets = [regrets_of(bench, searches) for bench, searches in found]
    for (bench, _), own in zip(found, regrets, strict=True):
        text.append(f"- {bench.name}: {sentence(own)}")
    for (bench, searches), own in zip(found, regrets, strict=True):
        text += ["", f"## {bench.name}", "", *comparison_markdown(bench, searches).splitlines()]
        text += differences_markdown(own)
    return text


def _about_layouts(repeats: int) -> str:
    if repeats <= LAYOUT_SEEDS:
        return ""
    return (
        f" The repeats share {LAYOUT_SEEDS} UMAP layouts, so of the paper's searches the intervals "
        "leave out a part of what another layout would change."
    )


def differences_markdown(regrets: Mapping[str, Floats]) -> list[str]:
    """Return a table of the differences behind the sentence; nothing if there is no pair."""
    found = differences(regrets, (*FEATURE_PAIRS, *RANDOM_PAIRS, *REGRESSOR_PAIRS))
    if not found:
        return []
    moments = list(next(iter(found.values())))
    head = [
        "",
        "Differences of regrets: below zero the first is better; bold where they are told apart.",
        "",
    ]
    head += common.table_head("regret less that of the other", *moments)
    return head + [
        common.table_row(pair.text, *(_cell(own[moment]) for moment in moments))
        for pair, own in found.items()
    ]


def _cell(difference: Interval) -> str:
    if np.isnan(difference.half):
        return f"{difference.mean:+.4f}"
    text = f"{difference.mean:+.4f} ± {difference.half:.4f}"
    return f"**{text}**" if told_apart(difference) else text
