"""Where labels go so that they do not cover each other. Everything here is in pixels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import isotonic_regression

_CHARACTER_WIDTH = 6.6
_LINE_HEIGHT = 14.0
_OFFSET = 8.0

# Where a label may stand around its point, as the shift of its middle in units of (half its width +
# offset, half its height + offset); up is positive. The first is taken where several are free.
_PLACES = ((0, 1), (0, -1), (1, 0), (-1, 0), (1, 1), (-1, 1), (1, -1), (-1, -1))
_X_ANCHORS = {-1: "right", 0: "center", 1: "left"}
_Y_ANCHORS = {-1: "top", 0: "middle", 1: "bottom"}


def spread_apart(positions: ArrayLike, *, gap: float, high: float) -> NDArray[np.float64]:
    """Move labels along a line as little as possible (least squares) so that none overlap.

    Args:
        positions: Where the labels want to be, in any order.
        gap: Least distance between two.
        high: Labels are kept in [0, high]; if they cannot all fit, they pass its upper end.

    Returns:
        Their new places, in the order they came.
    """
    wanted = np.asarray(positions, dtype=np.float64)
    if wanted.size == 0:
        return wanted
    order = np.argsort(wanted, kind="stable")
    steps = gap * np.arange(wanted.size)
    # p_i + gap <= p_(i+1) holds exactly where p_i - i * gap does not decrease.
    moved = np.asarray(isotonic_regression(wanted[order] - steps).x)
    moved = np.clip(moved, 0.0, max(0.0, high - steps[-1])) + steps
    placed = np.empty(wanted.size)
    placed[order] = moved
    return placed


def label_places(
    points: np.ndarray, texts: Sequence[str], *, obstacles: np.ndarray | None = None
) -> list[dict[str, object]]:
    """Choose for each point on which side its label stands, greedily.

    Args:
        points: `(n, 2)`, where the labelled points are.
        texts: Their n labels.
        obstacles: `(m, 2)`, other points that labels had better leave free.

    Returns:
        Anchors and shifts as a Plotly annotation takes them.
    """
    blocked = points if obstacles is None else np.vstack([points, obstacles])
    boxes: list[tuple[float, float, float, float]] = []
    chosen = []
    for point, text in zip(points, texts, strict=True):
        size = (_CHARACTER_WIDTH * len(text), _LINE_HEIGHT)
        options = {place: _box(point, size, place) for place in _PLACES}
        costs = {place: _cost(box, boxes, blocked) for place, box in options.items()}
        best = min(costs, key=lambda place: costs[place])
        chosen.append(_anchored(*best))
        boxes.append(options[best])
    return chosen


def _anchored(x: int, y: int) -> dict[str, object]:
    return {
        "xanchor": _X_ANCHORS[x],
        "yanchor": _Y_ANCHORS[y],
        "xshift": _OFFSET * x,
        "yshift": _OFFSET * y,
    }


def _box(
    point: np.ndarray, size: tuple[float, float], shift: tuple[int, int]
) -> tuple[float, float, float, float]:
    half_width, half_height = size[0] / 2, size[1] / 2
    x = float(point[0]) + shift[0] * (half_width + _OFFSET)
    y = float(point[1]) + shift[1] * (half_height + _OFFSET)
    return x - half_width, x + half_width, y - half_height, y + half_height


def _cost(
    box: tuple[float, float, float, float],
    others: Sequence[tuple[float, float, float, float]],
    points: np.ndarray,
) -> float:
    left, right, bottom, top = box
    overlap = sum(
        max(0.0, min(right, r) - max(left, le)) * max(0.0, min(top, t) - max(bottom, b))
        for le, r, b, t in others
    )
    inside = (points > (left, bottom)) & (points < (right, top))
    # Two labels on each other are worse than a label on a point.
    return overlap + 30.0 * float(np.count_nonzero(inside.all(axis=1)))
