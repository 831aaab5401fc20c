"""A search space without its duplicates: classes of equal functions, and one name for each.

Different graphs can be the same function, `max(x,zero(x))` and `relu(x)` for example, and training
both is waste. Two functions count as equal by their values on the 1,000 fixed inputs of
`features/outputs.py`, under one of two rules:

- `"tolerance"` (default): in float64, two functions are linked when at every input both values are
  NaN, both the same infinity, or differ by at most `RELATIVE_TOLERANCE` of the larger one. Classes
  are the connected components of these links, so they do not depend on any order.
- `"identical"`: bit for bit in float32, with -0 equal to 0 and NaN to NaN. This is the paper's rule
  (Appendix E); it separates functions that differ by rounding alone.

Shapes: `g` graphs of the space, `c` classes, outputs `(c, 1000)`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from typing import get_args

import numpy as np
import torch
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from aquasurf_optuna.activation import as_expression
from aquasurf_optuna.equality import RELATIVE_TOLERANCE, Rule, linked, same
from aquasurf_optuna.exceptions import SpaceError
from aquasurf_optuna.expression import Expression
from aquasurf_optuna.features.outputs import output_features
from aquasurf_optuna.operators import OPERATORS
from aquasurf_optuna.space import SearchSpace


class Catalogue:
    """The different functions of a space. Made by `Catalogue.of`.

    Attributes:
        space: The space.
        rule: Which functions count as equal.
        outputs: float64 array `(c, 1000)`, the values of each class's representative.
        is_constant: bool array `(c,)`, True where a function takes one finite value everywhere, up
            to the tolerance.
        is_finite: bool array `(c,)`, True where all values are finite.
    """

    def __init__(self, space: SearchSpace, rule: Rule, outputs: np.ndarray) -> None:
        self.space = space
        self.rule: Rule = rule
        labels = _components(outputs) if rule == "tolerance" else _identical(outputs)
        representatives = _simplest(space, labels)
        # Classes are numbered by their representatives' places in the space.
        order = np.argsort(representatives)
        self._representatives = representatives[order]
        self._class_of_graph = np.argsort(order)[labels]
        known = outputs[self._representatives]
        self._finder = _Finder(known, rule)
        self.outputs = known.astype(np.float64, copy=False)
        self.outputs.setflags(write=False)
        self.is_finite = np.isfinite(self.outputs).all(axis=1)
        self.is_constant = self.is_finite & _constant(self.outputs)

    @classmethod
    def of(cls, space: SearchSpace, rule: Rule = "tolerance") -> Catalogue:
        """Evaluate every graph of a space and group equal functions.

        Args:
            space: The space; every graph is evaluated (about 8 kB a graph in memory).
            rule: `"tolerance"` or `"identical"`; see the module.

        Raises:
            SpaceError: If the rule is neither.
        """
        if rule not in get_args(Rule):
            raise SpaceError(f"rule must be 'tolerance' or 'identical', got {rule!r}")
        dtype = torch.float64 if rule == "tolerance" else torch.float32
        return cls(space, rule, output_features(list(space), dtype=dtype))

    def __len__(self) -> int:
        return len(self._representatives)

    def __getitem__(self, class_id: int) -> Expression:
        """Return the representative of a class: the simplest member, the same on every machine.

        Simplest means fewest operators, then cheapest ones (`Operator.cost`), then first by text.

        Raises:
            IndexError: If there is no such class.
        """
        return self.space[int(self._representatives[self._checked(class_id)])]

    def __repr__(self) -> str:
        return f"Catalogue({self.space!r}, rule={self.rule!r}, {len(self):,} classes)"

    def members(self, class_id: int) -> tuple[Expression, ...]:
        """Return every graph of the space in one class, in the space's order.

        Raises:
            IndexError: If there is no such class.
        """
        graphs = np.flatnonzero(self._class_of_graph == self._checked(class_id))
        return tuple(self.space[int(graph)] for graph in graphs)

    def shuffled(self, seed: int) -> list[int]:
        """Return the classes that are finite and not constant, in a random order.

        Args:
            seed: Decides the order, on every machine alike.
        """
        eligible = np.flatnonzero(self.is_finite & ~self.is_constant)
        order: list[int] = np.random.default_rng(seed).permutation(eligible).tolist()
        return order

    def classes_of(self, expressions: Iterable[str | Expression]) -> dict[int, None]:
        """Return the classes of functions, each once and in order, without those it does not hold.

        Raises:
            ExpressionError: If a text does not name a function.
        """
        classes: dict[int, None] = {}
        for expression in expressions:
            with contextlib.suppress(SpaceError):
                classes[self.class_of(expression)] = None
        return classes

    def class_of(self, expression: str | Expression) -> int:
        """Return the class of a function, by its place in the space or else by its values.

        Args:
            expression: A graph of the space, or any other graph that computes the same as one.

        Raises:
            SpaceError: If no function of the space equals it.
            ExpressionError: If a text does not name a function.
        """
        parsed = as_expression(expression)
        if parsed in self.space:
            return int(self._class_of_graph[self.space.index(parsed)])
        class_id = self._finder.find(parsed)
        if class_id is None:
            raise SpaceError(f"no function of {self.space!r} has the values of {parsed}")
        return class_id

    def _checked(self, class_id: int) -> int:
        if not -len(self) <= class_id < len(self):
            raise IndexError(f"class {class_id} is outside a catalogue of {len(self)} classes")
        return class_id % len(self)


class _Finder:
    """Finds the class of a function that is not a graph of the space."""

    def __init__(self, outputs: np.ndarray, rule: Rule) -> None:
        self._outputs = outputs
        self._rule = rule

    def find(self, expression: Expression) -> int | None:
        dtype = torch.float64 if self._rule == "tolerance" else torch.float32
        values = output_features([expression], dtype=dtype)[0]
        for class_id, known in enumerate(self._outputs):
            equal = linked(values, known) if self._rule == "tolerance" else same(values, known)
            if equal:
                return class_id
        return None


def _components(outputs: np.ndarray) -> np.ndarray:
    """Label the connected components of linked functions, `(g, 1000)` to `(g,)`.

    Functions are sorted by one number each, the mean of sign(v) log(1 + |v|), whose derivative is
    below 1/|v|: linked functions differ in it by no more than the tolerance, so only near
    neighbours have to be compared.
    """
    with np.errstate(over="ignore"):
        squashed = np.sign(outputs) * np.log1p(np.abs(outputs))
    squashed = np.nan_to_num(squashed, nan=-2000.0, posinf=1000.0, neginf=-1000.0)
    key = squashed.mean(axis=1)
    order = np.argsort(key, kind="stable")
    # Twice the tolerance leaves room for the rounding of the mean itself.
    window = np.searchsorted(key[order], key[order] + 2 * RELATIVE_TOLERANCE, side="right")
    links = [
        (order[first], order[second])
        for first in range(len(order))
        for second in range(first + 1, window[first])
        if linked(outputs[order[first]], outputs[order[second]])
    ]
    pairs = np.array(links, dtype=np.int64).reshape(-1, 2)
    size = len(outputs)
    graph = coo_array((np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1])), shape=(size, size))
    return np.asarray(connected_components(graph, directed=False)[1])


def _identical(outputs: np.ndarray) -> np.ndarray:
    """Label functions whose float32 values agree bit for bit, `(g, 1000)` to `(g,)`."""
    # Adding 0 turns -0 into 0; one NaN stands for every NaN.
    canonical = np.where(np.isnan(outputs), np.float32(np.nan), outputs + np.float32(0))
    known: dict[bytes, int] = {}
    return np.array([known.setdefault(row.tobytes(), len(known)) for row in canonical])


def _constant(outputs: np.ndarray) -> np.ndarray:
    with np.errstate(invalid="ignore", over="ignore"):
        spread = outputs.max(axis=1) - outputs.min(axis=1)
        flat: np.ndarray = spread <= RELATIVE_TOLERANCE * np.abs(outputs).max(axis=1)
    return flat


def _simplest(space: SearchSpace, labels: np.ndarray) -> np.ndarray:
    """Return the index in the space of each class's simplest member, `(c,)`."""
    best: dict[int, tuple[int, int, str, int]] = {}
    for graph, (expression, label) in enumerate(zip(space, labels, strict=True)):
        cost = sum(OPERATORS[n.operator].cost for n in expression.walk() if n.children)
        rank = (expression.node_count, cost, str(expression), graph)
        best[int(label)] = min(rank, best.get(int(label), rank))
    return np.array([best[label][3] for label in range(len(best))])
