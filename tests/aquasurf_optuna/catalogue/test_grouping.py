"""Classes from fingerprints, against connected components of all linked pairs."""

import itertools

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from aquasurf_optuna.catalogue import Catalogue
from aquasurf_optuna.catalogue._grouping import Neighbours, labels_of, near
from aquasurf_optuna.equality import N_PROBES, RELATIVE_TOLERANCE, STEP, WINDOW, Equality
from aquasurf_optuna.features.outputs import output_features
from aquasurf_optuna.space import SearchSpace
from tests.aquasurf_optuna.test_equality import (
    EQUALITIES,
    Rows,
    ambiguous,
    bounded_rows,
    canonical,
    hard_rows,
)
from tests.oracles import equality_oracle

Partition = set[frozenset[int]]


def partition(labels: NDArray[np.integer]) -> Partition:
    return {frozenset(np.flatnonzero(labels == label).tolist()) for label in np.unique(labels)}


def grouped(values: Rows, equality: Equality) -> Partition:
    rows, prints = canonical(values, equality)
    return partition(labels_of(prints, equality, lambda chosen: rows[chosen]))


def expected_of(values: Rows, equality: Equality) -> Partition:
    """Components of the links of canonical rows, which test_equality.py proves, pair by pair."""
    rows, _ = canonical(values, equality)
    found = [equality.linked(np.broadcast_to(row, rows.shape), rows) for row in rows]
    return equality_oracle.components(len(rows), lambda i, j: bool(found[i][j]))


def chains(seed: int) -> Rows:
    """Rows in steps of just below and just above the tolerance, shuffled; and signs at random."""
    rng = np.random.default_rng(seed)
    rows = []
    for _ in range(3):
        base = rng.standard_normal(1000) + ambiguous(rng)
        for step in rng.choice([0.5, 0.9, 0.99, 1.2, 3.0], 12):
            base = base * (1 + step * RELATIVE_TOLERANCE)
            rows.append(base * rng.choice([-1, 1]))
    return rng.permutation(np.stack(rows))


def families(seed: int) -> Rows:
    return np.concatenate([hard_rows(seed, n_families=2), chains(seed), bounded_rows(seed)])


@pytest.mark.parametrize("equality", EQUALITIES, ids=str)
@pytest.mark.parametrize("seed", range(2))
def test_classes_are_the_components_of_all_links(equality: Equality, seed: int) -> None:
    values = families(seed)
    found = grouped(values, equality)
    assert found == expected_of(values, equality)
    assert 5 < len(found) < len(values)


@pytest.mark.parametrize("equality", EQUALITIES, ids=str)
def test_no_order_changes_the_classes(equality: Equality) -> None:
    values = families(3)
    expected = grouped(values, equality)
    for seed in range(4):
        order = np.random.default_rng(seed).permutation(len(values))
        moved = grouped(values[order], equality)
        assert {frozenset(order[list(group)].tolist()) for group in moved} == expected


def test_the_oracle_notices_a_class_that_is_torn_or_merged() -> None:
    values = families(0)
    plain, signed = Equality(), Equality("tolerance", "sign")
    expected = expected_of(values, plain)
    assert grouped(values, signed) != expected
    torn = values.copy()
    largest = max(expected, key=len)
    torn[min(largest)] *= 1 + 1e-3
    assert grouped(torn, plain) != expected


def test_a_sign_that_hangs_on_rounding_tears_no_class() -> None:
    rows = np.stack([ambiguous(np.random.default_rng(seed)) for seed in range(3)])
    near_rows = np.concatenate([rows * (1 + k * 1e-7) for k in range(3)])
    near_rows[3:6, 3] *= 1 - 4e-7
    near_rows[6:] *= -1
    expected = {frozenset({k, k + 3, k + 6}) for k in range(3)}
    assert grouped(near_rows, Equality("tolerance", "sign")) == expected
    assert len(grouped(near_rows, Equality())) == 6


def test_a_long_chain_is_one_class() -> None:
    steps = 1 + 0.9 * RELATIVE_TOLERANCE * np.arange(60)[:, None]
    rows = np.linspace(1, 2, 1000) * steps
    assert grouped(rows, Equality()) == {frozenset(range(60))}
    gap = np.delete(rows, 30, axis=0)
    assert grouped(gap, Equality()) == {frozenset(range(30)), frozenset(range(30, 59))}


def test_rows_of_one_bit_pattern_need_no_comparison() -> None:
    def never(_: NDArray[np.intp]) -> NDArray[np.floating]:
        raise AssertionError("rows were asked for")

    values = np.repeat(np.random.default_rng(0).standard_normal((3, 1000)), 4, axis=0)
    for equality in EQUALITIES:
        _, prints = canonical(values, equality)
        assert len(partition(labels_of(prints, equality, never))) == 3
    one = np.ones((1, 1000))
    _, prints = canonical(one, Equality())
    assert labels_of(prints, Equality(), never).tolist() == [0]


def brute_near(sums: NDArray[np.int64], probes: NDArray[np.int32]) -> set[frozenset[int]]:
    def close(a: int, b: int) -> bool:
        return all(
            abs(x - y) <= WINDOW for x, y in zip(*sums[[a, b]].tolist(), strict=True)
        ) and all(abs(x - y) <= STEP for x, y in zip(*probes[[a, b]].tolist(), strict=True))

    return {frozenset(pair) for pair in itertools.combinations(range(len(sums)), 2) if close(*pair)}


def pairs_found(sums: NDArray[np.int64], probes: NDArray[np.int32]) -> list[frozenset[int]]:
    return [
        frozenset(pair)
        for a, b in near(sums, probes)
        for pair in zip(a.tolist(), b.tolist(), strict=True)
    ]


@pytest.mark.parametrize("spread", [1, 2 * WINDOW, 10**12])
@pytest.mark.parametrize("n", [0, 1, 2, 70])
def test_near_pairs_are_those_of_all_pairs(n: int, spread: int) -> None:
    rng = np.random.default_rng(n + spread)
    sums = rng.choice(rng.integers(-spread, spread + 1, 9), (n, 4)) + rng.integers(-2, 3, (n, 4))
    probes = np.zeros((n, N_PROBES), np.int32)
    probes[:, 5] = rng.choice([0, STEP, STEP + 1, 2**31 - 1, -(2**31)], n)
    found = pairs_found(sums, probes)
    assert len(found) == len(set(found))
    assert set(found) == brute_near(sums, probes)
    neighbours = Neighbours(sums)
    by_sums = brute_near(sums, np.zeros_like(probes))
    for number in range(n):
        of = {frozenset({number, other}) for other in neighbours.of(sums[number]).tolist()}
        assert of == {frozenset({number}), *(pair for pair in by_sums if number in pair)}


@pytest.mark.parametrize("column", range(4))
def test_near_pairs_at_the_edge(column: int) -> None:
    sums, probes = np.zeros((4, 4), np.int64), np.zeros((4, N_PROBES), np.int32)
    sums[1, column], sums[2, column] = WINDOW, 2 * WINDOW + 1
    probes[3, 7], probes[2, 7] = STEP + 1, STEP
    expected = {frozenset({0, 1})}
    assert brute_near(sums, probes) == set(pairs_found(sums, probes)) == expected
    probes[3, 7] = STEP
    expected |= {frozenset({0, 3}), frozenset({1, 3})}
    assert brute_near(sums, probes) == set(pairs_found(sums, probes)) == expected


@pytest.mark.parametrize("equality", EQUALITIES, ids=str)
def test_classes_of_a_space_are_the_components(equality: Equality) -> None:
    space = SearchSpace(
        "binary(unary(x),unary(x)) | unary(unary(x))",
        unary=("zero", "one", "negative", "erf", "erfc"),
        binary=("add", "sub", "mul"),
    )
    catalogue = Catalogue.of(space, equality.rule, invariance=equality.invariance)
    outputs = output_features(list(space), dtype=getattr(torch, equality.dtype.name))
    found = {
        frozenset(map(space.index, catalogue.members(class_id)))
        for class_id in range(len(catalogue))
    }
    assert found == expected_of(outputs, equality)
    assert len(found) < space.size / 2
