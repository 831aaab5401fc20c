"""Columns of distances: right, kept, and no more than asked for."""

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

from aquasurf_optuna.surrogate import _distances
from aquasurf_optuna.surrogate._distances import DistanceColumns, distance_column

METRICS = {"outputs": "euclidean", "fisher": "cityblock"}


def rows(n: int, width: int, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).normal(size=(n, width)).astype(np.float32)


# Of 70,000 numbers a block holds one row; of 30,000 two, so that the last block is short.
@pytest.mark.parametrize(("n", "width"), [(1, 1), (50, 7), (3, 70_000), (5, 30_000)])
@pytest.mark.parametrize("name", ["outputs", "fisher"])
def test_a_column_is_the_distance_of_all_rows_to_one(name: str, n: int, width: int) -> None:
    part = rows(n, width)

    column = distance_column(name, part, part[n // 2])

    expected = cdist(part.astype(np.float64), part[n // 2 : n // 2 + 1].astype(np.float64),
                     METRICS[name])[:, 0]  # fmt: skip
    assert column.dtype == np.float32
    np.testing.assert_allclose(column, expected, rtol=1e-5)
    assert column[n // 2] == 0.0


def test_equal_rows_are_no_distance_apart() -> None:
    part = np.repeat(rows(1, 1000) * 20, 3, axis=0)

    for name in METRICS:
        np.testing.assert_array_equal(distance_column(name, part, part[0]), 0.0)


def test_what_is_known_is_not_measured_again(monkeypatch: pytest.MonkeyPatch) -> None:
    measured: list[int] = []

    def counted(name: str, part: NDArray[np.float32], row: NDArray[np.float32]) -> object:
        measured.append(len(part))
        return distance_column(name, part, row)

    monkeypatch.setattr(_distances, "distance_column", counted)
    part = rows(10, 4)
    columns = DistanceColumns(budget=10_000)

    columns.of({"outputs": part[:8]}, [1, 2])
    columns.of({"outputs": part[:8]}, [2, 3])
    (longer,) = columns.of({"outputs": part}, [2])["outputs"]

    # Two columns, one more, and of the last the two rows that joined.
    assert measured == [8, 8, 8, 2]
    np.testing.assert_allclose(longer, distance_column("outputs", part, part[2]), rtol=1e-6)


def test_columns_beyond_the_budget_go_when_they_are_not_asked_for() -> None:
    part = rows(10, 4)
    columns = DistanceColumns(budget=3 * part[:, 0].nbytes)

    columns.of({"outputs": part}, range(5))
    kept = columns.of({"outputs": part}, [4, 5])["outputs"]

    assert set(columns._known["outputs"]) == {4, 5}
    for column, row in zip(kept, (4, 5), strict=True):
        np.testing.assert_array_equal(column, distance_column("outputs", part, part[row]))
