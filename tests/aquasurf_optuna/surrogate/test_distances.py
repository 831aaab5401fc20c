"""Columns of distances: right, kept, and no more than asked for."""

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

from aquasurf_optuna.surrogate import _distances
from aquasurf_optuna.surrogate._distances import (
    FEATURE_OF,
    OUTPUTS_OF_ONE,
    DistanceColumns,
    distance_column,
    shapes,
)
from tests.oracles.gp_oracle import mirrored, shape

Rows = NDArray[np.float32]
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


def awkward_rows() -> Rows:
    """Rows, their mirrors, and rows linear in them; nearly equal ones, constants, and zeros."""
    some = rows(4, 60)
    like_some = [-some, 3 * some[:2] + 1, -0.01 * some[:2], some[:2] + 1e-4]
    constants = np.repeat(np.array([[7.3], [0.0], [0.0]], dtype=np.float32), 60, axis=1)
    # A length that is nothing beside the others.
    return np.vstack([some, *like_some, constants, 1e-12 * some[:2], 300 * some[:2]])


def test_mirrors_and_shapes_are_compared_as_matrices() -> None:
    part = awkward_rows()
    shaped = shapes(part)

    for row, one in enumerate(part):
        np.testing.assert_allclose(
            distance_column("mirrored", part, one),
            [mirrored(other, one) for other in part],
            rtol=1e-4,
            atol=1e-5,
        )
        np.testing.assert_allclose(
            distance_column("shape", shaped, shaped[row]),
            [shape(other, one) if _varies(other, one) else _apart(other, one) for other in part],
            rtol=1e-4,
            atol=1e-5,
        )


def _varies(*some: Rows) -> bool:
    return all(np.ptp(each) > 1e-6 for each in some)


def _apart(a: Rows, b: Rows) -> float:
    """Constants are all one shape, at distance 1 from any other: rounding is no shape."""
    return float(np.ptp(a) > 1e-6) + float(np.ptp(b) > 1e-6)


def test_the_oracles_of_mirrors_and_shapes_can_fail() -> None:
    one, other = rows(2, 60)

    assert mirrored(one, -one) == pytest.approx(0.0, abs=1e-6)
    assert shape(one, 3 * one + 1) == pytest.approx(0.0, abs=1e-3)
    assert mirrored(one, 3 * one) > 1
    assert mirrored(one, other) > 1
    assert shape(one, other) > 1


@pytest.mark.parametrize("name", ["mirrored", "shape"])
def test_each_of_several_functions_has_a_mirror_of_its_own(name: str) -> None:
    one, other = rows(5, OUTPUTS_OF_ONE), rows(5, OUTPUTS_OF_ONE, seed=1)
    pair = np.hstack([one, other])
    turned = np.hstack([one, -other])
    columns = DistanceColumns(budget=1_000_000)

    both = columns.of({"outputs": np.vstack([pair, turned])}, [0, 7], [name])[name]
    apart = [
        np.array(DistanceColumns(1_000_000).of({"outputs": each}, [0], [name])[name][0])
        for each in (one, other)
    ]

    np.testing.assert_allclose(both[0][:5], np.hypot(*apart), rtol=1e-5)
    np.testing.assert_allclose(both[0][5:], both[0][:5], rtol=1e-5, atol=1e-3)


@pytest.mark.parametrize("name", ["mirrored", "shape"])
def test_what_joins_is_compared_as_if_it_had_been_there(name: str) -> None:
    part = awkward_rows()
    columns = DistanceColumns(budget=1_000_000)

    columns.of({"outputs": part[:6]}, [2], [name])
    columns.of({"outputs": part[:9]}, [2, 8], [name])
    joined = columns.of({"outputs": part}, [2, 8, 14], [name])[name]

    at_once = DistanceColumns(1_000_000).of({"outputs": part}, [2, 8, 14], [name])[name]
    np.testing.assert_array_equal(joined, at_once)


def test_equal_rows_are_no_distance_apart() -> None:
    part = np.repeat(rows(1, 1000) * 20, 3, axis=0)

    for name in FEATURE_OF:
        np.testing.assert_array_equal(distance_column(name, part, part[0]), 0.0)


def test_what_is_known_is_not_measured_again(monkeypatch: pytest.MonkeyPatch) -> None:
    measured: list[int] = []

    column_of = _distances._column

    def counted(name: str, part: Rows, norms: Rows | None, row: Rows) -> Rows:
        measured.append(len(part))
        return column_of(name, part, norms, row)

    monkeypatch.setattr(_distances, "_column", counted)
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
