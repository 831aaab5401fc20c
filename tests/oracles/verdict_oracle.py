"""Which surrogate the rule chooses, number by number."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

Regrets = Sequence[Sequence[float]]
"""A row for each start on a table, a column for each repeat."""


def mean_of_all(regrets: Regrets) -> float:
    """The mean of all numbers."""
    return statistics.fmean([one for row in regrets for one in row])


def error_of_difference(regrets: Regrets, others: Regrets, n_seeds: int) -> float:
    """The standard error of the mean difference of two surrogates, a number for each seed."""
    by_seed: dict[int, list[float]] = {}
    for row, other in zip(regrets, others, strict=True):
        for repeat in range(len(row)):
            by_seed.setdefault(repeat % n_seeds, []).append(row[repeat] - other[repeat])
    means = [statistics.fmean(own) for own in by_seed.values()]
    return statistics.stdev(means) / math.sqrt(len(means))


def tied(regrets: dict[str, Regrets], n_seeds: int) -> set[str]:
    """The best surrogate, and those no more than one standard error behind it."""
    means = {name: mean_of_all(own) for name, own in regrets.items()}
    best = min(means, key=lambda name: means[name])
    return {best} | {
        name
        for name, own in regrets.items()
        if means[name] - means[best] <= error_of_difference(own, regrets[best], n_seeds)
    }


def chosen(regrets: dict[str, Regrets], seconds: dict[str, float], n_seeds: int) -> str:
    """The quickest of those that are tied."""
    return min(tied(regrets, n_seeds), key=lambda name: seconds[name])
