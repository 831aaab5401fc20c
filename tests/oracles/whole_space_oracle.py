"""Slow, plain versions of what `_compressed_outputs.py` and `_whole_space.py` compute."""

import math
from collections.abc import Collection, Mapping, Sequence


def output_distance(a: Sequence[float], b: Sequence[float], bound: float) -> float:
    """Equation 3, one number at a time: root mean square difference of the outputs, cut."""
    total = 0.0
    for x, y in zip(a, b, strict=True):
        x, y = (bound if math.isnan(z) else max(-bound, min(bound, z)) for z in (x, y))
        total += (x - y) ** 2
    return math.sqrt(total / len(a))


def spread_choice(
    worth: Mapping[int, float],
    points: Mapping[int, Sequence[float]],
    known: Collection[int],
    n: int,
    least: float,
) -> list[int]:
    """Go through classes by worth, then by number, and take each that is apart from all before.

    Args:
        worth: Of each class that may be taken.
        points: Coordinates of these, and of all in `known`.
        known: Classes from which to keep away.
        n: How many to take; those passed over follow, in the same order, if others do not suffice.
        least: Smallest distance.
    """
    chosen: list[int] = []
    passed: list[int] = []
    for class_id in sorted(worth, key=lambda each: (-worth[each], each)):
        if len(chosen) == n:
            break
        apart = all(math.dist(points[class_id], points[k]) >= least for k in [*known, *chosen])
        (chosen if apart else passed).append(class_id)
    return (chosen + passed)[:n]
