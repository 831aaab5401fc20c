"""Search spaces of activation functions, written as a schema in the paper's notation.

A schema such as `binary(unary(x),unary(x))` is an expression in which `unary`, `binary` and `n_ary`
stand for any operator of that kind; operators written by their own names are fixed. The places that
are free are the nodes, numbered from the outermost inwards and from left to right. A graph of the
space is one choice of operator a node, so a space is a mixed-radix number system: index and
expression turn into each other without enumeration. In Optuna each node is one small categorical
parameter, `activation.0`, `activation.1`, ... for the name `activation`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import optuna
from optuna.distributions import CategoricalDistribution

from aquasurf_optuna._parser import Parser
from aquasurf_optuna.activation import as_expression
from aquasurf_optuna.exceptions import ExpressionError, SpaceError
from aquasurf_optuna.expression import Expression
from aquasurf_optuna.operators import (
    BINARY_OPERATORS,
    LEAF,
    N_ARY,
    N_ARY_OPERATORS,
    OPERATORS,
    UNARY_OPERATORS,
    Operator,
)

THREE_NODE_SCHEMA = "binary(unary(x),unary(x))"
"""The space of the benchmark data sets (Appendix B): 27 x 7 x 27 = 5,103 graphs."""

_PLACEHOLDER_ARITY = {"unary": 1, "binary": 2, "n_ary": N_ARY}


@dataclasses.dataclass(frozen=True)
class _SchemaNode:
    name: str
    children: tuple[_SchemaNode, ...] = ()

    def walk(self) -> Iterator[_SchemaNode]:
        yield self
        for child in self.children:
            yield from child.walk()


class SearchSpace:
    """All expressions that fit one schema.

    Args:
        schema: In the notation of expressions, with `unary`, `binary` and `n_ary` as placeholders.
        unary: Names of the operators that `unary` stands for.
        binary: The same for `binary`.
        n_ary: The same for `n_ary`.

    Raises:
        SpaceError: If the schema cannot be read, has no free place, or an operator is unknown,
            repeated, of another kind, or none is given for a placeholder.
    """

    def __init__(
        self,
        schema: str,
        *,
        unary: Sequence[str] = UNARY_OPERATORS,
        binary: Sequence[str] = BINARY_OPERATORS,
        n_ary: Sequence[str] = N_ARY_OPERATORS,
    ) -> None:
        self._root = _parse_schema(schema)
        self.schema = _schema_text(self._root)
        self._choices = {"unary": tuple(unary), "binary": tuple(binary), "n_ary": tuple(n_ary)}
        free = [node.name for node in self._root.walk() if node.name in _PLACEHOLDER_ARITY]
        if not free:
            raise SpaceError(
                f"schema {schema!r} has no free place; write unary, binary or n_ary where any "
                "operator of that kind may stand"
            )
        for kind in dict.fromkeys(free):
            _check_choices(kind, self._choices[kind])
        self.nodes: tuple[tuple[str, ...], ...] = tuple(self._choices[kind] for kind in free)
        """The operators that each free place may take, outermost first."""
        self._size = 1
        for operators in self.nodes:
            self._size *= len(operators)

    @classmethod
    def three_node(cls) -> SearchSpace:
        """Return the space of the paper's benchmarks, `binary(unary(x),unary(x))`: 5,103 graphs."""
        return cls(THREE_NODE_SCHEMA)

    def __len__(self) -> int:
        return self._size

    def __getitem__(self, index: int) -> Expression:
        """Return the graph with this index; negative ones count from the end.

        Raises:
            IndexError: If there is no such graph.
        """
        position = index + self._size if index < 0 else index
        if not 0 <= position < self._size:
            raise IndexError(f"index {index} is outside a space of {self._size} graphs")
        digits = []
        for operators in reversed(self.nodes):
            position, digit = divmod(position, len(operators))
            digits.append(operators[digit])
        return self._build(digits[::-1])

    def __iter__(self) -> Iterator[Expression]:
        return (self[index] for index in range(self._size))

    def __contains__(self, expression: object) -> bool:
        return isinstance(expression, Expression) and self._match(expression) is not None

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, SearchSpace):
            return NotImplemented
        return (self.schema, self.nodes) == (other.schema, other.nodes)

    def __hash__(self) -> int:
        return hash((self.schema, self.nodes))

    def __repr__(self) -> str:
        return f"SearchSpace({self.schema!r}, {self._size:,} graphs)"

    def index(self, expression: str | Expression) -> int:
        """Return the index of a graph, the inverse of `space[index]`.

        Raises:
            SpaceError: If the space does not contain this graph. A graph of another form with the
                same values is found by `Catalogue.class_of`.
            ExpressionError: If a text does not name a function.
        """
        index = 0
        for operators, name in zip(self.nodes, self._operators_of(expression), strict=True):
            index = index * len(operators) + operators.index(name)
        return index

    def distributions(self, name: str) -> dict[str, CategoricalDistribution]:
        """Return the Optuna parameters under which this space is suggested as `name`.

        Returns:
            One categorical of operator names a node, with the keys `name.0`, `name.1`, ...
        """
        return {
            f"{name}.{node}": CategoricalDistribution(operators)
            for node, operators in enumerate(self.nodes)
        }

    def suggest(self, trial: optuna.trial.BaseTrial, name: str) -> Expression:
        """Let a trial choose a function, as `trial.suggest_float` does a number.

        Args:
            trial: An Optuna trial (or FixedTrial, or FrozenTrial).
            name: Under this name the function is one activation of the study.
        """
        return self._build(
            [
                str(trial.suggest_categorical(key, distribution.choices))
                for key, distribution in self.distributions(name).items()
            ]
        )

    def expression_of(self, params: Mapping[str, Any], name: str) -> Expression:
        """Return the function that a trial's parameters name.

        Args:
            params: `trial.params` or `study.best_params`; other parameters may stand in it.
            name: The name under which the space was suggested.

        Raises:
            SpaceError: If a parameter is missing, or its value is not an operator of that node.
        """
        operators = []
        for key, distribution in self.distributions(name).items():
            if key not in params:
                raise SpaceError(
                    f"parameter {key!r} is missing among {sorted(params)}; was the space "
                    f"suggested under the name {name!r}?"
                )
            if params[key] not in distribution.choices:
                raise SpaceError(
                    f"parameter {key!r} is {params[key]!r}; {self.schema} allows there "
                    f"{', '.join(map(str, distribution.choices))}"
                )
            operators.append(params[key])
        return self._build(operators)

    def params_of(self, expression: str | Expression, name: str) -> dict[str, str]:
        """Return the parameters that name a function, for `study.enqueue_trial` for example.

        Raises:
            SpaceError: If the space does not contain this graph.
            ExpressionError: If a text does not name a function.
        """
        return {
            f"{name}.{node}": operator
            for node, operator in enumerate(self._operators_of(expression))
        }

    def _operators_of(self, expression: str | Expression) -> list[str]:
        parsed = as_expression(expression)
        operators = self._match(parsed)
        if operators is None:
            raise SpaceError(f"{parsed} is not a graph of {self.schema}")
        return operators

    def _match(self, expression: Expression) -> list[str] | None:
        """Return the operators at the free places, or None if the graph does not fit."""
        found: list[str] = []

        def fits(node: _SchemaNode, graph: Expression) -> bool:
            if node.name in _PLACEHOLDER_ARITY:
                found.append(graph.operator)
                known = graph.operator in self._choices[node.name]
            else:
                known = graph.operator == node.name
            return (
                known
                and len(node.children) == len(graph.children)
                and all(map(fits, node.children, graph.children))
            )

        return found if fits(self._root, expression) else None

    def _build(self, operators: Sequence[str]) -> Expression:
        remaining = iter(operators)

        def build(node: _SchemaNode) -> Expression:
            name = next(remaining) if node.name in _PLACEHOLDER_ARITY else node.name
            return Expression(name, tuple(build(child) for child in node.children))

        return build(self._root)


def _parse_schema(schema: str) -> _SchemaNode:
    placeholders = {
        name: Operator(name, arity, OPERATORS["zero"].function, "")
        for name, arity in _PLACEHOLDER_ARITY.items()
    }
    if not isinstance(schema, str):
        raise SpaceError(f"a schema is a text such as {THREE_NODE_SCHEMA!r}, got {schema!r}")
    try:
        return Parser(schema, {**placeholders, **OPERATORS}, _SchemaNode).parse()
    except ExpressionError as error:
        raise SpaceError(f"this is not a schema: {error}") from error


def _schema_text(node: _SchemaNode) -> str:
    if node.name == LEAF:
        return LEAF
    return f"{node.name}({','.join(map(_schema_text, node.children))})"


def _check_choices(kind: str, names: tuple[str, ...]) -> None:
    arity = _PLACEHOLDER_ARITY[kind]
    allowed = [operator.name for operator in OPERATORS.values() if operator.arity == arity]
    wrong = [name for name in names if name not in allowed]
    if not names or wrong or len(set(names)) < len(names):
        what = f"{wrong} among them" if wrong else f"{list(names)}"
        raise SpaceError(
            f"{kind} needs one or more different {kind} operators, got {what}; "
            f"known are {', '.join(allowed)}"
        )
