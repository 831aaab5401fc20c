"""Rows that others join: the same as a concatenation, without touching what was handed out."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
from numpy.typing import NDArray

from aquasurf_optuna.surrogate import make_surrogate
from aquasurf_optuna.surrogate._growing import GrowingRows


def rows(n: int, seed: int) -> NDArray[np.float32]:
    return np.random.default_rng(seed).normal(size=(n, 3)).astype(np.float32)


def test_it_is_a_concatenation() -> None:
    growing, joined, expected = GrowingRows(), rows(4, 0), rows(4, 0)
    copied = 0
    for number in range(1, 60):
        new = rows(number % 3 + 1, number)
        before = joined
        joined = growing.joined(joined, new)
        expected = np.concatenate([expected, new])
        np.testing.assert_array_equal(joined, expected)
        np.testing.assert_array_equal(before, expected[: len(before)])
        copied += not np.shares_memory(before, joined)
    # Each time there is room for half as many more, from 4 to 122.
    assert 5 < copied < 12


def test_arrays_of_two_histories_stay_apart() -> None:
    growing = GrowingRows()
    first = growing.joined(rows(8, 0), rows(2, 1))
    left = growing.joined(first, rows(1, 2))
    right = growing.joined(first, rows(1, 3))
    np.testing.assert_array_equal(left, np.concatenate([rows(8, 0), rows(2, 1), rows(1, 2)]))
    np.testing.assert_array_equal(right, np.concatenate([rows(8, 0), rows(2, 1), rows(1, 3)]))


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda o: pickle.loads(pickle.dumps(o))])
def test_copies_have_no_room(copied: type) -> None:
    growing = GrowingRows()
    first = growing.joined(rows(8, 0), rows(2, 1))
    other = copied(growing).joined(first, rows(1, 2))
    assert not np.shares_memory(other, first)
    assert len(pickle.dumps(growing)) < 200


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy])
def test_a_surrogate_and_its_copy_grow_apart(duplicate: type) -> None:
    surrogate = make_surrogate("gp", features="fisher", random_state=0)
    surrogate.embed(fisher=rows(6, 0)).extend(fisher=rows(1, 1))
    other = duplicate(surrogate)
    surrogate.extend(fisher=rows(1, 2))
    other.extend(fisher=rows(1, 3))
    for each, last in ((surrogate, 2), (other, 3)):
        expected = np.concatenate([rows(6, 0), rows(1, 1), rows(1, last)])
        np.testing.assert_array_equal(each.known_fisher(np.arange(8)), expected)


def test_a_surrogate_keeps_a_copy_of_what_it_is_given() -> None:
    given, more = rows(6, 0), rows(1, 1)
    surrogate = make_surrogate("gp", features="fisher", random_state=0)
    surrogate.embed(fisher=given).extend(fisher=more)
    expected = np.concatenate([given, more])
    given[:], more[:] = 0, 0
    np.testing.assert_array_equal(surrogate.known_fisher(np.arange(7)), expected)
