"""The simplest graph of each class against sorting all members in plain Python."""

import dataclasses

import numpy as np
import pytest
from numpy.typing import NDArray

from aquasurf_optuna import operators
from aquasurf_optuna.catalogue import Catalogue
from aquasurf_optuna.catalogue._simplest import simplest
from aquasurf_optuna.expression import Expression
from aquasurf_optuna.operators import OPERATORS
from aquasurf_optuna.space import SearchSpace

SPACES = {
    # 9 to 16 names take 4 bits each, which fill a word of 64 bits to the last.
    "four_bits": SearchSpace(
        "binary(unary(unary(unary(x))),unary(x))",
        unary=("zero", "one", "abs", "relu", "tanh", "erf"),
        binary=("add", "div", "pow", "min", "max"),
    ),
    "one_bit": SearchSpace("unary(unary(unary(x)))", unary=("relu",)),
    "unary": SearchSpace("unary(unary(x)) | unary(unary(unary(x))) | x | relu(x)"),
    "n_ary": SearchSpace(
        "n_ary(unary(x),unary(x)) | n_ary(unary(x),unary(x),unary(x)) | n_ary(x,unary(x),x,x)"
        " | n_ary(n_ary(x,x),unary(x),unary(x)) | n_ary(n_ary(x,x,unary(x)),unary(x))",
        unary=("zero", "one", "relu", "abs"),
    ),
    "numbers": SearchSpace(
        "binary(constant,unary(x)) | binary(unary(x),constant) | constant | binary(constant,x)",
        unary=("zero", "one", "identity", "relu"),
        constants=(0, 0.5, 0.55, -1, -10, 1, 10, 1e300, 1e-5),
    ),
    # 12 operators and more: some 19 names of 4 bits each take two words.
    "long": SearchSpace(
        "sum_n(tanh(unary(unary(x))),relu(unary(x)),abs(unary(x)),binary(erf(exp(x)),binary(x,x)))"
        " | sum_n(tanh(unary(x)),relu(unary(x)),abs(unary(x)),binary(erf(exp(x)),binary(x,x)),x)",
        unary=("zero", "one", "identity", "relu"),
        binary=("add", "mul", "max"),
    ),
}


def weight(expression: Expression) -> tuple[int, int, str]:
    """What is compared: operators, their cost, the text."""
    cost = sum(OPERATORS[node.operator].cost for node in expression.walk() if node.children)
    return expression.node_count, cost, str(expression)


def by_sorting(space: SearchSpace, labels: NDArray[np.intp]) -> list[int]:
    weights = [weight(expression) for expression in space]
    members: dict[int, list[int]] = {}
    for graph, label in enumerate(labels.tolist()):
        members.setdefault(label, []).append(graph)
    members.pop(-1, None)
    return [min(members[label], key=weights.__getitem__) for label in sorted(members)]


def random_labels(space: SearchSpace, n_classes: int, seed: int) -> NDArray[np.intp]:
    """Every class from 0 on has a graph, and some graphs have none."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(-1, n_classes, space.size)
    labels[rng.permutation(space.size)[:n_classes]] = np.arange(n_classes)
    return labels


@pytest.mark.parametrize("name", SPACES)
@pytest.mark.parametrize("part_of_space", [0.0, 0.02, 0.3, 1.0])
def test_the_simplest_is_the_first_by_sorting(name: str, part_of_space: float) -> None:
    space = SPACES[name]
    n_classes = max(1, int(space.size * part_of_space))
    labels = random_labels(space, n_classes, seed=n_classes)
    found = simplest(space.parts, labels)
    assert found.tolist() == by_sorting(space, labels)


@pytest.mark.parametrize("name", SPACES)
def test_all_graphs_are_in_the_order_of_sorting(name: str) -> None:
    # Classes of two, and of one graph with every other: all comparisons decide, also by the text.
    space = SPACES[name]
    graphs = sorted(range(space.size), key=lambda graph: weight(space[graph]))
    rng = np.random.default_rng(0)
    for place in rng.integers(0, len(graphs), 30).tolist():
        labels = np.full(space.size, -1)
        labels[graphs[place:]] = 0
        assert simplest(space.parts, labels).tolist() == [graphs[place]]


def test_neighbours_in_the_order_are_told_apart_by_their_last_letter() -> None:
    space = SPACES["four_bits"]
    graphs = sorted(range(space.size), key=lambda graph: weight(space[graph]))
    for offset in (0, 1):
        labels = np.full(space.size, -1)
        pairs = np.array(graphs[offset : offset + (space.size - 1) // 2 * 2]).reshape(-1, 2)
        labels[pairs] = np.arange(len(pairs))[:, None]
        np.testing.assert_array_equal(simplest(space.parts, labels), pairs[:, 0])


def test_the_oracle_notices_another_order() -> None:
    space = SPACES["numbers"]
    labels = random_labels(space, 5, seed=0)
    found = by_sorting(space, labels)
    reverse = [max(np.flatnonzero(labels == k), key=lambda g: weight(space[g])) for k in range(5)]
    assert found != reverse
    by_text = [min(np.flatnonzero(labels == k), key=lambda g: str(space[g])) for k in range(5)]
    assert found != by_text


def test_a_cost_of_any_size_weighs_less_than_an_operator(monkeypatch: pytest.MonkeyPatch) -> None:
    space = SearchSpace("unary(x) | unary(unary(x))", unary=("relu", "abs", "tanh"))
    for name, cost in (("relu", 2**40), ("abs", 2**70), ("tanh", 3)):
        known = dataclasses.replace(OPERATORS[name], cost=cost)
        monkeypatch.setitem(operators._known, name, known)
    for wanted in (["relu(x)", "tanh(tanh(x))"], ["tanh(abs(x))", "abs(abs(x))"], ["abs(x)"]):
        labels = np.full(space.size, -1)
        labels[[space.index(text) for text in wanted]] = 0
        assert [str(space[int(g)]) for g in simplest(space.parts, labels)] == wanted[:1]


@pytest.mark.parametrize("name", SPACES)
def test_a_catalogue_names_each_class_so(name: str) -> None:
    space = SPACES[name]
    catalogue = Catalogue.of(space.without(space[0], space[-1]) if space.size > 2 else space)
    for class_id in range(len(catalogue)):
        assert catalogue[class_id] == min(catalogue.members(class_id), key=weight)
    numbers = [catalogue.space.index(catalogue[c]) for c in range(len(catalogue))]
    assert numbers == sorted(numbers)
