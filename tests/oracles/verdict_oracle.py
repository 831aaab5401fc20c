"""Which surrogate the rule chooses, number by number."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from fractions import Fraction

Regrets = Sequence[Sequence[float]]
"""A row for each start on a table, a column for each repeat."""


def mean_of_all(regrets: Regrets) -> float:
    """The mean of all numbers."""
    return statistics.fmean([one for row in regrets for one in row])


def by_seed(regrets: Regrets, others: Regrets, n_seeds: int) -> list[Fraction]:
    """The mean difference of two surrogates for each seed, without rounding."""
    differences: dict[int, list[Fraction]] = {}
    for row, other in zip(regrets, others, strict=True):
        for repeat in range(len(row)):
            difference = Fraction(row[repeat]) - Fraction(other[repeat])
            differences.setdefault(repeat % n_seeds, []).append(difference)
    return [sum(own, Fraction(0)) / len(own) for own in differences.values()]


def error_of_difference(regrets: Regrets, others: Regrets, n_seeds: int) -> float:
    """The standard error of the mean difference of two surrogates, a number for each seed."""
    means = by_seed(regrets, others, n_seeds)
    return math.sqrt(statistics.variance(means) / len(means))


def tied(regrets: dict[str, Regrets], n_seeds: int) -> set[str]:
    """The best surrogate, and those no more than one standard error behind it.

    All seeds have equally many repeats.
    """
    best = min(regrets, key=lambda name: mean_of_all(regrets[name]))
    found = {best}
    for name, own in regrets.items():
        means = by_seed(own, regrets[best], n_seeds)
        behind, square = statistics.mean(means), statistics.variance(means) / len(means)
        if behind <= 0 or behind**2 <= square:
            found.add(name)
    return found


def chosen(regrets: dict[str, Regrets], seconds: dict[str, float], n_seeds: int) -> str:
    """The quickest of those that are tied."""
    return min(tied(regrets, n_seeds), key=lambda name: seconds[name])
