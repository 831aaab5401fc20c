import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aquasurf_optuna.visualization._labels import label_places, spread_apart

positions = st.lists(st.floats(0, 300), max_size=12)


@given(positions)
def test_labels_end_up_apart_in_order_and_inside(wanted: list[float]) -> None:
    placed = spread_apart(wanted, gap=15.0, high=300.0)
    order = np.argsort(wanted, kind="stable")
    assert len(placed) == len(wanted)
    assert (np.diff(placed[order]) >= 15.0 - 1e-9).all()
    assert all(-1e-9 <= each <= 300.0 + 1e-9 for each in placed)


def test_labels_far_from_each_other_stay() -> None:
    np.testing.assert_allclose(spread_apart([100, 0, 50], gap=15, high=300), [100, 0, 50])


def test_a_pair_moves_by_half_each() -> None:
    np.testing.assert_allclose(spread_apart([100, 100], gap=20, high=300), [90, 110])


def test_too_many_labels_pass_the_upper_end_only() -> None:
    np.testing.assert_allclose(spread_apart([5, 5, 5], gap=20, high=30), [0, 20, 40])


def overlap(a: np.ndarray, b: np.ndarray) -> bool:
    return bool((a[0] < b[1]) and (b[0] < a[1]) and (a[2] < b[3]) and (b[2] < a[3]))


def boxes(points: np.ndarray, texts: list[str]) -> list[np.ndarray]:
    """Left, right, bottom and top of the labels as placed, six pixels a letter, twelve high."""
    found = []
    for (x, y), text, place in zip(points, texts, label_places(points, texts), strict=True):
        width, height = 6.0 * len(text), 12.0
        left = {"left": 0.0, "center": -width / 2, "right": -width}[str(place["xanchor"])]
        low = {"bottom": 0.0, "middle": -height / 2, "top": -height}[str(place["yanchor"])]
        left, low = left + x + float(str(place["xshift"])), low + y + float(str(place["yshift"]))
        found.append(np.array([left, left + width, low, low + height]))
    return found


def test_labels_of_close_points_do_not_cover_each_other() -> None:
    points = np.array([[100.0, 100.0], [104.0, 101.0], [97.0, 99.0]])
    placed = boxes(points, ["Softplus", "ReLU", "ELU"])
    for i, one in enumerate(placed):
        assert not any(overlap(one, other) for other in placed[:i])
    same = np.array([0.0, 9.0, 0.0, 9.0])
    assert overlap(same, same + 1)


def test_a_label_avoids_other_points() -> None:
    point = np.array([[100.0, 100.0]])
    [free] = label_places(point, ["ReLU"])
    [moved] = label_places(point, ["ReLU"], obstacles=np.array([[100.0, 115.0]]))
    assert (free["xanchor"], free["yanchor"]) == ("center", "bottom")
    assert (moved["xanchor"], moved["yanchor"]) == ("center", "top")


def test_no_labels() -> None:
    assert label_places(np.empty((0, 2)), []) == []
    with pytest.raises(ValueError, match="argument 2 is shorter"):
        label_places(np.zeros((2, 2)), ["one"])
