"""When functions are equal, one number at a time; and up to c f + d, by fitting c and d."""

import itertools
import math
import sys
from collections.abc import Callable

import numpy as np

Linked = Callable[[np.ndarray, np.ndarray], bool]


def _number(value: float) -> float:
    return 0.0 if abs(value) < sys.float_info.min else value


def agree(x: float, y: float, tolerance: float) -> bool:
    if math.isnan(x) or math.isnan(y):
        return math.isnan(x) and math.isnan(y)
    if math.isinf(x) or math.isinf(y):
        return x == y
    return abs(x - y) <= tolerance * max(abs(x), abs(y))


def linked(a: np.ndarray, b: np.ndarray, tolerance: float) -> bool:
    """Whether two functions agree at every input; numbers below the normal ones are 0."""
    pairs = zip(map(_number, a.tolist()), map(_number, b.tolist()), strict=True)
    return all(agree(x, y, tolerance) for x, y in pairs)


def linked_up_to_sign(a: np.ndarray, b: np.ndarray, tolerance: float) -> bool:
    return linked(a, b, tolerance) or linked(a, -b, tolerance)


def misfit(a: np.ndarray, b: np.ndarray) -> float:
    """How far a is from every c b + d, at worst, as a part of the largest |a - mean|.

    A constant fits a constant alone. Both are finite and of moderate size.
    """
    spread_a, spread_b = (float(np.abs(each - each.mean()).max()) for each in (a, b))
    flat_a, flat_b = (
        spread <= 1e-9 * float(np.abs(each).max())
        for spread, each in ((spread_a, a), (spread_b, b))
    )
    if flat_a or flat_b:
        return 0.0 if flat_a and flat_b else math.inf
    design = np.stack([(b - b.mean()) / spread_b, np.ones(len(b))], axis=1)
    target = (a - a.mean()) / spread_a
    (c, _), *_ = solution = np.linalg.lstsq(design, target, rcond=None)
    left = float(np.abs(target - design @ solution[0]).max())
    return left if abs(c) > 1e-3 else math.inf


def components(n: int, joined: Callable[[int, int], bool]) -> set[frozenset[int]]:
    """Connected components of n things, merged pair by pair."""
    groups = [{place} for place in range(n)]
    for first, second in itertools.combinations(range(n), 2):
        if joined(first, second):
            together = [group for group in groups if first in group or second in group]
            groups = [group for group in groups if group not in together]
            groups.append(set().union(*together))
    return {frozenset(group) for group in groups}
