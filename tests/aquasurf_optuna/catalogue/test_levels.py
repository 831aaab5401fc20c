"""Evaluation level by level against `output_features`, bit for bit, and what it may take."""

import dataclasses
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from aquasurf_optuna import operators
from aquasurf_optuna.catalogue import Catalogue
from aquasurf_optuna.catalogue._levels import Combinations, Levels
from aquasurf_optuna.exceptions import SpaceError
from aquasurf_optuna.features.outputs import WIDTH, output_features
from aquasurf_optuna.operators import OPERATORS
from aquasurf_optuna.space import SearchSpace

MIXED = SearchSpace(
    [
        "binary(unary(unary(x)),constant)",
        "n_ary(unary(x),x,constant) | n_ary(unary(x),unary(x))",
        "tanh(binary(unary(x),mul(0.5,unary(x))))",
        "unary(n_ary(unary(x),binary(x,x)))",
        "constant | x | erf(x)",
    ],
    unary=("zero", "negative", "reciprocal", "erf", "exp", "bessel_i0e", "softplus"),
    binary=("div", "pow", "max"),
    constants=(0, -1.5, 1e300),
)
SIGNED = SearchSpace(
    "unary(unary(unary(x)))", unary=("zero", "negative", "reciprocal", "abs", "identity")
)
REPEATED = SearchSpace(
    "binary(unary(unary(x)),unary(unary(x)))", unary=("zero", "one", "relu", "abs")
)
ROW_BYTES = 8 * WIDTH


@pytest.fixture
def levels() -> Iterator[Levels]:
    with Levels(torch.float64, memory_limit=2**30, spill=None, n_threads=2) as made:
        yield made


def values_of(
    space: SearchSpace,
    dtype: torch.dtype = torch.float64,
    *,
    n_threads: int = 1,
    memory_limit: int = 2**30,
    spill: Path | None = None,
) -> NDArray[np.floating]:
    """Values of every graph of a space, `(g, 1000)`."""
    found = []
    with Levels(dtype, memory_limit=memory_limit, spill=spill, n_threads=n_threads) as levels:
        for part in space.parts:
            combinations = levels.combinations(part)
            rows = scanned(levels, combinations)
            numbers = np.arange(len(combinations), dtype=np.int32)
            found.append(rows[combinations.of_graphs(numbers)])
    return np.concatenate(found)


def scanned(levels: Levels, combinations: Combinations) -> NDArray[np.floating]:
    rows: list[NDArray[np.floating] | None] = [None] * len(combinations)

    def visit(first: int, values: NDArray[np.floating]) -> None:
        for number, row in enumerate(values, start=first):
            assert rows[number] is None
            rows[number] = row.copy()

    levels.scan(combinations, visit)
    return np.stack([row for row in rows if row is not None])


def bits(values: NDArray[np.floating]) -> NDArray[np.integer]:
    """Every bit of every value, 0 and -0 apart; NaN is NaN."""
    whole = np.where(np.isnan(values), values.dtype.type(np.nan), values)
    return whole.view(f"i{values.dtype.itemsize}")


@pytest.mark.parametrize("n_threads", [1, 3])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_every_value_is_that_of_output_features(dtype: torch.dtype, n_threads: int) -> None:
    found = values_of(MIXED, dtype, n_threads=n_threads)
    expected = output_features(list(MIXED), dtype=dtype)
    assert found.dtype == expected.dtype
    assert np.isnan(expected).any()
    assert np.isinf(expected).any()
    np.testing.assert_array_equal(bits(found), bits(expected))


def test_blocks_of_several_tasks_meet_without_overlap(levels: Levels) -> None:
    # 7 operators on 35 * 9 combinations, no multiples of the rows in a block or in a task.
    space = SearchSpace(
        "binary(unary(unary(x)),unary(x))",
        unary=("zero", "one", "identity", "exp", "tanh", "relu", "erf", "square", "sinh"),
    )
    combinations = levels.combinations(space.parts[0])
    assert len(combinations) > 2000
    # Refuses a combination that comes twice, or one too many.
    rows = scanned(levels, combinations)
    assert len(rows) == len(combinations)
    chosen = np.random.default_rng(0).integers(0, len(rows), 100)
    np.testing.assert_array_equal(
        bits(combinations.values(chosen)[:, :1000].numpy()), bits(rows[chosen])
    )


def test_the_comparison_notices_the_sign_of_zero() -> None:
    expected = output_features(list(SIGNED))
    changed = expected.copy()
    place = np.argwhere(changed == 0)[0]
    changed[tuple(place)] *= -1
    np.testing.assert_array_equal(changed, expected)
    assert (bits(changed) != bits(expected)).sum() == 1


def test_zeros_of_both_signs_are_kept_apart(levels: Levels) -> None:
    np.testing.assert_array_equal(bits(values_of(SIGNED)), bits(output_features(list(SIGNED))))
    inner = SIGNED.parts[0].children[0]
    level = levels.level(inner)
    names = [str(inner.build(index)) for index in range(inner.size)]
    row = dict(zip(names, level.row_of.tolist(), strict=True))
    # 1/0 and 1/-0 differ, so that what is below must not become one.
    assert row["identity(zero(x))"] != row["negative(zero(x))"]
    assert row["identity(zero(x))"] == row["abs(zero(x))"] == row["zero(negative(x))"]
    assert row["abs(identity(x))"] == row["abs(negative(x))"]
    catalogue = Catalogue.of(SIGNED)
    plus, minus = (f"reciprocal({inner}(zero(x)))" for inner in ("identity", "negative"))
    assert catalogue.class_of(plus) != catalogue.class_of(minus)
    assert catalogue.class_of("identity(negative(zero(x)))") == catalogue.class_of(
        "zero(identity(identity(x)))"
    )


def test_a_level_holds_each_distinct_row_once(levels: Levels) -> None:
    for part in REPEATED.parts:
        for place in part.children:
            level = levels.level(place)
            graphs = [place.build(index) for index in range(place.size)]
            expected = bits(output_features(graphs))
            assert len(level.values) == len(np.unique(expected, axis=0)) < place.size
            np.testing.assert_array_equal(bits(level.values[level.row_of, :1000].numpy()), expected)


def test_equal_subexpressions_are_evaluated_once(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = {"relu": 0, "add": 0}

    def counting(name: str) -> operators.Operator:
        known = OPERATORS[name]

        def function(*arguments: Tensor) -> Tensor:
            rows[name] += len(arguments[0])
            return known.function(*arguments)

        return dataclasses.replace(known, function=function)

    for name in rows:
        monkeypatch.setitem(operators._known, name, counting(name))
    with Levels(torch.float64, memory_limit=2**30, spill=None, n_threads=1) as levels:
        combinations = levels.combinations(REPEATED.parts[0])
        scanned(levels, combinations)
    # Both arguments are the same place, whose 16 graphs are four functions: 0, 1, relu and |x|.
    assert len(combinations) == 7 * 4 * 4
    assert rows["add"] == 4 * 4
    # Of x, to tell it apart and to keep it; of the four; and to keep relu(relu(x)), relu(abs(x)).
    assert rows["relu"] == (1 + 1) + 4 + 2
    assert REPEATED.size == 7 * 16 * 16


def test_too_little_memory_is_told(tmp_path: Path) -> None:
    # Two levels below the outermost: of x, one row, and of unary(x), seven.
    space = SearchSpace("unary(unary(x))", unary=MIXED.parts[0].children[0].names)
    enough = 8 * ROW_BYTES
    values_of(space, memory_limit=enough)
    with pytest.raises(
        SpaceError,
        match=r"the values of 7 subexpressions take 0\.0 GiB, .* the limit of 0\.0 GiB does not "
        r"hold them; pass a folder .* as spill=, a larger memory_limit=, or a smaller space",
    ):
        values_of(space, memory_limit=enough - 1)
    with pytest.raises(SpaceError, match="the values of 1 subexpressions take"):
        Catalogue.of(space, memory_limit=0)
    assert len(Catalogue.of(space, memory_limit=0, spill=tmp_path)) == len(Catalogue.of(space))


@pytest.mark.parametrize("memory_limit", [0, 4 * ROW_BYTES])
def test_a_folder_takes_what_finds_no_room(tmp_path: Path, memory_limit: int) -> None:
    expected = bits(values_of(MIXED))
    seen: list[int] = []
    with Levels(torch.float64, memory_limit=memory_limit, spill=tmp_path, n_threads=2) as levels:
        for part in MIXED.parts:
            levels.combinations(part)
        seen = [file.stat().st_size for file in tmp_path.iterdir()]
    assert len(seen) > 3
    assert all(size % ROW_BYTES == 0 for size in seen)
    assert list(tmp_path.iterdir()) == []
    found = values_of(MIXED, memory_limit=memory_limit, spill=tmp_path, n_threads=2)
    np.testing.assert_array_equal(bits(found), expected)


def test_nothing_stays_in_the_folder_after_an_error(tmp_path: Path) -> None:
    def stopped(done: int, total: int) -> None:
        assert list(tmp_path.iterdir())
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):  # it has no message
        Catalogue.of(REPEATED, memory_limit=0, spill=tmp_path, progress=stopped)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_full_or_missing_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(FileNotFoundError, match="nowhere"):
        Catalogue.of(REPEATED, memory_limit=0, spill=tmp_path / "nowhere")
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(NotADirectoryError, match="file"):
        Catalogue.of(REPEATED, memory_limit=0, spill=file)
    assert list(tmp_path.iterdir()) == [file]
    file.unlink()

    def full(handle: int, start: int, n_bytes: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full, raising=False)
    with pytest.raises(OSError, match="No space left on device"):
        Catalogue.of(REPEATED, memory_limit=0, spill=tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_threads": 0}, "n_threads is a whole number from 1 on, or None .*, got 0"),
        ({"n_threads": 1.5}, "n_threads is a whole number from 1 on, or None .*, got 1.5"),
        ({"n_threads": True}, "n_threads is a whole number from 1 on, or None .*, got True"),
        ({"memory_limit": -1}, "memory_limit is a number of bytes from 0 on, .* got -1"),
        ({"memory_limit": "1 GB"}, "memory_limit is a number of bytes .* got '1 GB'"),
        ({"memory_limit": float("nan")}, "memory_limit is a number of bytes .* got nan"),
    ],
)
def test_impossible_resources_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(SpaceError, match=message):
        Catalogue.of(REPEATED, **options)


def test_a_text_is_no_space() -> None:
    with pytest.raises(SpaceError, match=r"one of a SearchSpace, got 'unary\(x\)'"):
        Catalogue.of("unary(x)")  # type: ignore[arg-type] # the wrong type is the test


def test_progress_counts_to_the_end() -> None:
    told: list[tuple[int, int]] = []
    Catalogue.of(MIXED, progress=lambda done, total: told.append((done, total)))
    done = [each for each, _ in told]
    assert done == sorted(done)
    assert {total for _, total in told} == {done[-1]}


@pytest.mark.parametrize("n_threads", [1, 2, 5])
def test_threads_change_no_class(n_threads: int) -> None:
    one = Catalogue.of(MIXED, n_threads=1)
    many = Catalogue.of(MIXED, n_threads=n_threads)
    assert [str(many[c]) for c in range(len(many))] == [str(one[c]) for c in range(len(one))]
    np.testing.assert_array_equal(many._classes.of_graph, one._classes.of_graph)
