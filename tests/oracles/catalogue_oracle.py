"""Classes of equal functions by comparing every pair: no sorting, no window, no sparse graph."""

import math

import numpy as np


def linked(a: np.ndarray, b: np.ndarray, tolerance: float) -> bool:
    """Whether two functions agree at every input, one number at a time."""
    for x, y in zip(a.tolist(), b.tolist(), strict=True):
        if math.isnan(x) or math.isnan(y):
            if not (math.isnan(x) and math.isnan(y)):
                return False
        elif math.isinf(x) or math.isinf(y):
            if x != y:
                return False
        elif abs(x - y) > tolerance * max(abs(x), abs(y)):
            return False
    return True


def classes(outputs: np.ndarray, tolerance: float) -> set[frozenset[int]]:
    """Connected components of linked rows, merged until nothing changes."""
    groups = [{row} for row in range(len(outputs))]
    for first in range(len(outputs)):
        for second in range(first + 1, len(outputs)):
            if linked(outputs[first], outputs[second], tolerance):
                together = [g for g in groups if first in g or second in g]
                groups = [g for g in groups if g not in together] + [set().union(*together)]
    return {frozenset(group) for group in groups}
