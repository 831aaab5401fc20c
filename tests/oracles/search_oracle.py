"""Searches on a table judged by the definitions, one evaluation after another."""

import math
from collections.abc import Sequence


def best_after(found: Sequence[float], n_initial: int, evaluations: int) -> float:
    """The best of what a search began with and so many evaluations more."""
    return max(found[: n_initial + evaluations])


def first_reaching(
    found: Sequence[float], n_initial: int, evaluations: int, good: Sequence[bool]
) -> float:
    """Evaluations until the first value that is good; 0 among the first ones, infinite if never."""
    for place, is_good in enumerate(good[: n_initial + evaluations]):
        if is_good:
            return float(max(0, place + 1 - n_initial))
    return math.inf


def in_top(values: Sequence[float], value: float, share: float) -> bool:
    """Whether fewer rows than the share's number are better than this value."""
    number = max(1, round(len(values) * share))
    return sum(other > value for other in values) < number


def middle(values: Sequence[float]) -> float:
    """The median of numbers that may be infinite."""
    ordered = sorted(values)
    half = len(ordered) // 2
    if len(ordered) % 2:
        return ordered[half]
    return (ordered[half - 1] + ordered[half]) / 2
