"""The order of candidates for several objectives, candidate by candidate."""

from __future__ import annotations

from collections.abc import Sequence

Row = Sequence[float]


def value(row: Row, rows: Sequence[Row], weights: Sequence[float]) -> float:
    """Minus the augmented Chebyshev distance of a candidate to the best of each objective."""
    terms = []
    for objective, weight in enumerate(weights):
        column = [other[objective] for other in rows]
        best, worst = max(column), min(column)
        share = 0.0 if best == worst else (best - row[objective]) / (best - worst)
        terms.append(weight * share)
    return -(max(terms) + 0.01 * sum(terms))


def beaten(row: Row, rows: Sequence[Row]) -> float:
    """The share of all candidates that one is better than, averaged over the objectives."""
    shares = [
        sum(row[objective] > other[objective] for other in rows) / len(rows)
        for objective in range(len(row))
    ]
    return sum(shares) / len(shares)
