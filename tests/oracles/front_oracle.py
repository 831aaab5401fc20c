"""Pareto fronts and the area that they dominate, by the definitions."""

import itertools
from collections.abc import Sequence

Values = Sequence[Sequence[float]]
SIGNS = {"maximize": 1.0, "minimize": -1.0}


def dominates(first: Sequence[float], second: Sequence[float], directions: Sequence[str]) -> bool:
    """Whether `first` is nowhere worse than `second`, and somewhere better."""
    gains = [SIGNS[d] * (a - b) for a, b, d in zip(first, second, directions, strict=True)]
    return min(gains) >= 0 and max(gains) > 0


def front_of(values: Values, directions: Sequence[str]) -> set[int]:
    """The places of the values that no other one dominates."""
    return {
        place
        for place, value in enumerate(values)
        if not any(dominates(other, value, directions) for other in values)
    }


def dominated_area(values: Values, reference: Sequence[float], directions: Sequence[str]) -> float:
    """The area of the rectangles between two-dimensional values and a reference, counted once.

    The plane is cut at every coordinate; a cell counts if the corner farthest from the reference is
    no better than some value.
    """
    signs = [SIGNS[direction] for direction in directions]
    gains = [
        [sign * (v - r) for v, r, sign in zip(value, reference, signs, strict=True)]
        for value in values
    ]
    across, up = (
        sorted({0.0, *(gain[axis] for gain in gains if gain[axis] > 0)}) for axis in (0, 1)
    )
    area = 0.0
    for left, right in itertools.pairwise(across):
        for low, high in itertools.pairwise(up):
            if any(gain[0] >= right and gain[1] >= high for gain in gains):
                area += (right - left) * (high - low)
    return area
