"""What a catalogue promises, on spaces like the paper's and, slowly, on those themselves.

Members of a class agree, representatives of two classes do not, and no order matters.
"""

import dataclasses
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.spatial import KDTree

from aquasurf_optuna.catalogue import Catalogue
from aquasurf_optuna.equality import RELATIVE_TOLERANCE, Equality, Invariance, Rule
from aquasurf_optuna.expression import Expression
from aquasurf_optuna.features.outputs import output_features
from aquasurf_optuna.operators import BINARY_OPERATORS, N_ARY_OPERATORS, UNARY_OPERATORS
from aquasurf_optuna.space import FOUR_NODE_SCHEMA, SearchSpace
from tests.oracles import equality_oracle

Rows = NDArray[np.floating]

FEW = ("zero", "one", "negative", "reciprocal", "erf", "erfc", "expm1", "sigmoid")
"""Operators that make many functions in several ways, which differ by rounding."""

LARGEST_DISAGREEMENT = 3e-6
"""Between two members of one class of the paper's spaces, joined by a chain of links.

A link allows 1e-6; measured are 2.7e-6 at most.
"""

_ROWS_AT_ONCE = 2000


def four_node_like(unary: Sequence[str]) -> SearchSpace:
    return SearchSpace(FOUR_NODE_SCHEMA, unary=unary)


@pytest.fixture(scope="module")
def reduced() -> Catalogue:
    """The four-node space with 8 operators of 27: 17,984 graphs."""
    return Catalogue.of(four_node_like(FEW))


@pytest.fixture(scope="module")
def whole() -> Catalogue:
    return Catalogue.of(SearchSpace.four_node())


def rows_of(expressions: Sequence[Expression]) -> Rows:
    return Equality().rows(output_features(expressions))


def disagreement(rows: Rows) -> float:
    """The largest relative difference between two of these rows, at any input."""
    low, high = rows.min(axis=0), rows.max(axis=0)
    nan = np.isnan(rows)
    with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
        part = (high - low) / np.maximum(np.abs(low), np.abs(high))
    part = np.where((low == high) | nan.all(axis=0), 0.0, part)
    # What is left without a number: NaN beside a number, infinity beside minus infinity.
    return float(np.nan_to_num(part, nan=np.inf).max())


def members_in_chunks(catalogue: Catalogue) -> Iterator[list[tuple[Expression, ...]]]:
    """Classes of two members and more, so many at once that rows take some 16 MB."""
    chunk: list[tuple[Expression, ...]] = []
    for class_id in range(len(catalogue)):
        members = catalogue.members(class_id)
        if len(members) > 1:
            chunk.append(members)
        if sum(map(len, chunk)) > _ROWS_AT_ONCE:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


def is_joined(rows: Rows) -> bool:
    """Whether chains of links, found by plain comparisons, join all rows."""
    equality = Equality()
    reached, waiting = [0], list(range(1, len(rows)))
    while reached and waiting:
        row = np.broadcast_to(rows[reached.pop()], (len(waiting), rows.shape[1]))
        near = equality.linked(row, rows[waiting])
        reached += [waiting[place] for place in np.flatnonzero(near)]
        waiting = [waiting[place] for place in np.flatnonzero(~near)]
    return not waiting


def check_members(catalogue: Catalogue) -> tuple[float, int]:
    """Return the largest disagreement within a class, and how many classes are not joined."""
    largest, torn = 0.0, 0
    for chunk in members_in_chunks(catalogue):
        rows = rows_of([member for members in chunk for member in members])
        parts = np.split(rows, np.cumsum([len(members) for members in chunk])[:-1])
        for part in parts:
            largest = max(largest, disagreement(part))
            torn += not is_joined(part)
    return largest, torn


def test_members_of_a_class_agree(reduced: Catalogue) -> None:
    largest, torn = check_members(reduced)
    # Rounding does make members differ, or nothing were tested.
    assert 1e-12 < largest <= LARGEST_DISAGREEMENT
    assert torn == 0


@pytest.mark.slow
def test_members_of_a_class_agree_in_the_four_node_space(whole: Catalogue) -> None:
    largest, torn = check_members(whole)
    print(f"largest disagreement within a class: {largest:.3g}")
    assert RELATIVE_TOLERANCE < largest <= LARGEST_DISAGREEMENT
    assert torn == 0


def test_a_class_of_two_functions_is_noticed() -> None:
    rows = rows_of([Expression.parse(text) for text in ("tanh(x)", "tanh(x)", "erf(x)")])
    assert disagreement(rows[:2]) == 0
    assert disagreement(rows) > 0.01
    assert is_joined(rows[:2])
    assert not is_joined(rows)
    steps = rows[0] * (1 + 0.9 * RELATIVE_TOLERANCE * np.arange(4)[:, None])
    assert is_joined(steps[[0, 3, 1, 2]])
    assert not is_joined(steps[[0, 3, 1]])
    assert disagreement(steps) == pytest.approx(2.7e-6, rel=1e-3)
    for value in (np.nan, np.inf, -np.inf):
        broken = rows[:2].copy()
        broken[1, 5] = value
        assert disagreement(broken) == np.inf
        broken[0, 5] = -value
        assert (disagreement(broken) == np.inf) == bool(np.isinf(value)) != is_joined(broken)
        broken[0, 5] = value
        assert disagreement(broken) == 0
        assert is_joined(broken)


@dataclasses.dataclass(frozen=True)
class NearPairs:
    """Pairs of rows, the nearest first, and how far they are apart: `(n, 2)` and `(n,)`."""

    pairs: NDArray[np.intp]
    apart: NDArray[np.float64]

    def report(self) -> str:
        shares = np.quantile(self.apart, (0, 0.1, 0.25, 0.5, 0.75, 1), method="lower")
        return f"{len(self.apart)} pairs, apart by {', '.join(f'{each:.2g}' for each in shares)}"


def coordinates(rows: Rows) -> NDArray[np.float64]:
    """Logarithms of 24 values, whose differences are relative differences; sign kept apart."""
    places = np.linspace(0, rows.shape[1] - 1, 24).astype(int)
    some = rows[:, places]
    with np.errstate(divide="ignore", invalid="ignore"):
        logarithm = np.clip(np.log(np.abs(some)), -800, 800)
    points = np.where(some < 0, 5000 + logarithm, logarithm)
    return np.nan_to_num(np.where(np.isnan(some), -5000, points), nan=-5000)


def near_pairs(
    n_rows: int,
    get: Callable[[NDArray[np.intp]], Rows],
    *,
    n_pairs: int,
    queries: NDArray[np.intp],
    within: float,
) -> NearPairs:
    """Find neighbours of some rows among all, and how far whole rows are apart.

    Args:
        n_rows: How many rows there are.
        get: Returns some of them.
        n_pairs: How many pairs to draw, if there are more.
        queries: The rows whose neighbours are looked for, the eight nearest of each.
        within: Largest relative difference at the inputs of `coordinates`.
    """
    blocks = [np.arange(a, min(a + 4096, n_rows)) for a in range(0, n_rows, 4096)]
    points = np.concatenate([coordinates(get(block)) for block in blocks])
    tree = KDTree(points)
    _, neighbours = tree.query(points[queries], k=9, p=np.inf, distance_upper_bound=within)
    pairs = np.stack([np.repeat(queries, 9), neighbours.reshape(-1)], axis=1)
    # The tree says n_rows where there is no neighbour.
    pairs = pairs[(pairs[:, 0] != pairs[:, 1]) & (pairs[:, 1] < n_rows)]
    pairs = np.unique(np.sort(pairs, axis=1), axis=0)
    rng = np.random.default_rng(0)
    pairs = pairs[rng.permutation(len(pairs))[:n_pairs]]
    apart = []
    for some in np.array_split(pairs, max(1, len(pairs) // 1000)):
        a, b = get(some[:, 0]), get(some[:, 1])
        apart += [disagreement(np.stack(each)) for each in zip(a, b, strict=True)]
    order = np.argsort(apart)
    return NearPairs(pairs[order], np.array(apart)[order])


def linked_pairs(found: NearPairs, get: Callable[[NDArray[np.intp]], Rows]) -> int:
    """How many of the pairs are linked, by the oracle."""
    return sum(
        equality_oracle.linked(a, b, RELATIVE_TOLERANCE)
        for some in np.array_split(found.pairs, len(found.pairs) // 1000 + 1)
        for a, b in zip(get(some[:, 0]), get(some[:, 1]), strict=True)
    )


def test_no_two_representatives_are_linked(reduced: Catalogue) -> None:
    rows = Equality().rows(reduced.outputs)
    everything = np.arange(len(rows))
    found = near_pairs(len(rows), rows.__getitem__, n_pairs=20_000, queries=everything, within=0.1)
    print(found.report())
    assert linked_pairs(found, rows.__getitem__) == 0
    # They are near: many agree to some digits everywhere, and still are different functions.
    assert len(found.apart) > 500
    assert found.apart[0] < 1e-4
    assert (found.apart < 0.1).sum() > 100


def test_a_class_that_is_there_twice_is_noticed(reduced: Catalogue) -> None:
    rows = Equality().rows(reduced.outputs)
    twice = np.concatenate([rows, rows[[17]] * (1 + 5e-7), rows[[len(rows) // 2]]])
    everything = np.arange(len(twice))
    found = near_pairs(
        len(twice), twice.__getitem__, n_pairs=20_000, queries=everything, within=0.1
    )
    assert linked_pairs(found, twice.__getitem__) == 2
    assert (found.apart[:2] < RELATIVE_TOLERANCE).all()


@pytest.mark.slow
def test_no_two_representatives_of_the_four_node_space_are_linked(whole: Catalogue) -> None:
    def get(classes: NDArray[np.intp]) -> Rows:
        return Equality().rows(whole.outputs_of(classes))

    queries = np.random.default_rng(1).choice(len(whole), 40_000, replace=False)
    found = near_pairs(len(whole), get, n_pairs=20_000, queries=queries, within=0.01)
    print(found.report())
    assert len(found.apart) == 20_000
    assert linked_pairs(found, get) == 0
    assert (found.apart < 1e-5).sum() > 20
    assert (found.apart < 0.01).sum() > 1000


def classes_as_texts(catalogue: Catalogue) -> set[frozenset[str]]:
    return {frozenset(map(str, catalogue.members(c))) for c in range(len(catalogue))}


def names(catalogue: Catalogue) -> set[str]:
    return {str(catalogue[class_id]) for class_id in range(len(catalogue))}


def shuffled(space_of: Sequence[str], seed: int, schema: str = FOUR_NODE_SCHEMA) -> SearchSpace:
    """The same space with operators and schemas in another order."""
    rng = np.random.default_rng(seed)

    def order(names: Sequence[str]) -> tuple[str, ...]:
        return tuple(names[place] for place in rng.permutation(len(names)))

    return SearchSpace(
        order(schema.split(" | ")),
        unary=order(space_of),
        binary=order(BINARY_OPERATORS),
        n_ary=order(N_ARY_OPERATORS),
    )


@pytest.mark.parametrize("invariance", ["none", "affine"])
def test_no_order_changes_classes_or_names(invariance: Invariance) -> None:
    few = FEW[:5]
    expected = Catalogue.of(four_node_like(few), invariance=invariance)
    for seed in range(2):
        space = shuffled(few, seed)
        assert list(space)[:9] != list(expected.space)[:9]
        other = Catalogue.of(space, invariance=invariance)
        assert classes_as_texts(other) == classes_as_texts(expected)
        assert names(other) == names(expected)


def hashes(catalogue: Catalogue) -> NDArray[np.int64]:
    """One number for each graph, of its text and its representative's; sorted."""
    found = np.empty(catalogue.space.size, np.int64)
    done = 0
    for class_id in range(len(catalogue)):
        name = str(catalogue[class_id])
        for member in catalogue.members(class_id):
            found[done] = hash((str(member), name))
            done += 1
    assert done == len(found)
    return np.sort(found)


@pytest.mark.slow
def test_no_order_changes_the_four_node_space(whole: Catalogue) -> None:
    other = Catalogue.of(shuffled(UNARY_OPERATORS, 0))
    assert len(other) == len(whole)
    np.testing.assert_array_equal(hashes(other), hashes(whole))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("make", "rule", "count", "room"),
    [
        # Table of Appendix E, bit for bit in the arithmetic of TensorFlow: rounding differs.
        (SearchSpace.four_node, "identical", 425_896, 0.015),
        (SearchSpace.coatnet, "identical", 146_779, 0.015),
        (SearchSpace.four_node, "tolerance", 386_940, 0.001),
        (SearchSpace.coatnet, "tolerance", 134_646, 0.001),
    ],
)
def test_counts_are_those_of_the_paper(
    make: Callable[[], SearchSpace], rule: Rule, count: int, room: float
) -> None:
    assert len(Catalogue.of(make(), rule)) == pytest.approx(count, rel=room)
