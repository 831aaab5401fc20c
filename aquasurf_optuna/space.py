"""Search spaces of activation functions, written as schemas in the paper's notation.

A schema such as `binary(unary(x),unary(x))` is an expression in which `unary`, `binary` and `n_ary`
stand for any operator of that kind and `constant` for a number; operators written by their own
names are fixed. The places that are free are the nodes, numbered from the outermost inwards and
from left to right. A space is one schema or a union of several, and a graph of it is one choice of
operator a node: index and expression turn into each other without enumeration (`_schema.py`).

In Optuna each node is one small categorical parameter, and a union is a conditional space: the
schema first, then its nodes (`_parameters.py`).
"""

from __future__ import annotations

import bisect
import itertools
import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import optuna
from optuna.distributions import CategoricalDistribution

from aquasurf_optuna._parameters import Choose, Parameters
from aquasurf_optuna._pruning import PRUNED_KEY
from aquasurf_optuna._schema import (
    CONSTANT,
    SEPARATOR,
    Place,
    check_choices,
    disjoint,
    fixed,
    free_names,
    kept,
    parse_schemas,
)
from aquasurf_optuna.activation import as_expression
from aquasurf_optuna.exceptions import ExpressionError, SpaceError
from aquasurf_optuna.expression import Expression
from aquasurf_optuna.operators import (
    BINARY_OPERATORS,
    COATNET_UNARY_OPERATORS,
    N_ARY_OPERATORS,
    UNARY_OPERATORS,
)

THREE_NODE_SCHEMA = "binary(unary(x),unary(x))"
"""The space of the benchmark data sets (Appendix B): 27 x 7 x 27 = 5,103 graphs."""

FOUR_NODE_SCHEMA = (
    "binary(unary(unary(x)),unary(x)) | binary(unary(x),unary(unary(x)))"
    " | n_ary(unary(x),unary(x),unary(x)) | unary(binary(unary(x),unary(x)))"
    " | unary(unary(unary(unary(x))))"
)
"""The space of the searches on CIFAR-100 and ImageNet (Appendix B): 1,023,516 graphs."""

COATNET_BASELINES = (
    "elish",
    "elu",
    "gelu",
    "hard_sigmoid",
    "leakyrelu",
    "mish",
    "relu",
    "selu",
    "sigmoid",
    "softplus",
    "softsign",
    "swish",
    "tanh",
)
"""The 13 baselines of the CoAtNet experiment (Section 6), as operators of `x`."""


class SearchSpace:
    """All expressions that fit a schema, or one of several.

    Args:
        schema: In the notation of expressions, with `unary`, `binary`, `n_ary` and `constant` as
            placeholders. Several may be given, as a sequence or in one text with `|` between them.
        unary: Names of the operators that `unary` stands for.
        binary: The same for `binary`.
        n_ary: The same for `n_ary`.
        constants: The numbers that `constant` stands for.

    Raises:
        SpaceError: If a schema cannot be read (with the position and the reason), none has a free
            place, or an operator or a number is unknown, repeated, of another kind, or none is
            given for a placeholder.
    """

    def __init__(
        self,
        schema: str | Sequence[str],
        *,
        unary: Sequence[str] = UNARY_OPERATORS,
        binary: Sequence[str] = BINARY_OPERATORS,
        n_ary: Sequence[str] = N_ARY_OPERATORS,
        constants: Sequence[float] = (),
    ) -> None:
        choices = {
            "unary": tuple(unary),
            "binary": tuple(binary),
            "n_ary": tuple(n_ary),
            CONSTANT: tuple(map(_number, constants)),
        }
        several = schema if isinstance(schema, (list, tuple)) else [schema]
        schemas = [each for each in several if isinstance(each, str)]
        if not schemas or len(schemas) < len(several):
            raise SpaceError(
                f"a schema is a text such as {THREE_NODE_SCHEMA!r}, or several, got {schema!r}"
            )
        places = [place for each in schemas for place in parse_schemas(each, choices)]
        free = {node.label for place in places for node in place.walk() if node.is_free}
        if not free:
            raise SpaceError(
                f"schema {schema!r} has no free place; write unary, binary, n_ary or constant "
                "where any operator of that kind, or any of some numbers, may stand"
            )
        for kind in sorted(free):
            check_choices(kind, choices[kind])
        self._set(disjoint(places), ())

    @classmethod
    def three_node(cls) -> SearchSpace:
        """Return the space of the paper's benchmarks, `binary(unary(x),unary(x))`: 5,103 graphs."""
        return cls(THREE_NODE_SCHEMA)

    @classmethod
    def four_node(cls) -> SearchSpace:
        """Return the union of the five schemas of Appendix B: 1,023,516 graphs."""
        return cls(FOUR_NODE_SCHEMA)

    @classmethod
    def coatnet(cls) -> SearchSpace:
        """Return the space of the CoAtNet experiment (Section 6, Appendix B): 238,341 graphs.

        Three-node graphs of 31 unary operators, and the 13 baselines.
        """
        graphs = cls(
            "binary(unary(unary(x)),unary(x)) | unary(unary(unary(x)))",
            unary=COATNET_UNARY_OPERATORS,
        )
        return graphs | cls("unary(x)", unary=COATNET_BASELINES)

    @classmethod
    def named(cls, text: str) -> SearchSpace:
        """Return a space by its name, `three_node`, `four_node` or `coatnet`, or by its schema.

        Raises:
            SpaceError: If the text is no name, and no schema either.
        """
        known = {each.__name__: each for each in (cls.three_node, cls.four_node, cls.coatnet)}
        return known[text.strip()]() if text.strip() in known else cls(text)

    @classmethod
    def of_places(cls, places: Sequence[Place], excluded: Iterable[int] = ()) -> SearchSpace:
        """Return the union of schemas that are at hand as places, no two of which meet.

        Args:
            places: The schemas; see `_schema.py`.
            excluded: Numbers of graphs that are left out.
        """
        space = cls.__new__(cls)
        space._set(places, excluded)
        return space

    def _set(self, places: Sequence[Place], excluded: Iterable[int]) -> None:
        self.parts: tuple[Place, ...] = tuple(places)
        """The schemas, no two of which have a graph in common."""
        self.excluded: tuple[int, ...] = tuple(sorted(set(excluded)))
        """Places, in the numbering of the whole schemas, of the graphs that are left out."""
        self._starts = [0, *itertools.accumulate(place.size for place in self.parts)]
        # Before the k-th excluded graph stand so many others.
        self._gaps = [graph - k for k, graph in enumerate(self.excluded)]
        self._parameters = Parameters(self.parts)
        self._by_root: dict[str, list[int]] = {}
        for number, place in enumerate(self.parts):
            for name in place.names:
                self._by_root.setdefault(name, []).append(number)

    @property
    def schema(self) -> str:
        """The schema as a text, several with `|` between them."""
        return f" {SEPARATOR} ".join(map(str, self.parts))

    @property
    def size(self) -> int:
        """How many graphs there are; counted, not enumerated."""
        return self._starts[-1] - len(self.excluded)

    def __len__(self) -> int:
        return self.size

    def __bool__(self) -> bool:
        # Through `len` it would fail above 2**63 graphs.
        return self.size > 0

    def __getitem__(self, index: int) -> Expression:
        """Return the graph with this index; negative ones count from the end.

        Raises:
            IndexError: If there is no such graph.
        """
        position = index + self.size if index < 0 else index
        if not 0 <= position < self.size:
            raise IndexError(f"index {index} is outside a space of {self.size} graphs")
        part, inside = self._locate(self._with_excluded(position))
        return self.parts[part].build(inside)

    def __iter__(self) -> Iterator[Expression]:
        return (self[index] for index in range(self.size))

    def __contains__(self, expression: object) -> bool:
        return isinstance(expression, Expression) and self._find(expression) is not None

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, SearchSpace):
            return NotImplemented
        return (self.parts, self.excluded) == (other.parts, other.excluded)

    def __hash__(self) -> int:
        return hash((self.parts, self.excluded))

    def __reduce__(self) -> tuple[Any, ...]:
        return (SearchSpace.of_places, (self.parts, self.excluded))

    def __repr__(self) -> str:
        return f"SearchSpace({self.schema!r}, {self.size:,} graphs)"

    def __or__(self, other: SearchSpace | str | Expression) -> SearchSpace:
        """Return the union with another space, or with one more function.

        A graph of both counts once, in the first.

        Raises:
            ExpressionError: If a text does not name a function.
        """
        if isinstance(other, (str, Expression)):
            other = SearchSpace.of_places([fixed(as_expression(other))])
        if not isinstance(other, SearchSpace):
            return NotImplemented
        union = SearchSpace.of_places(disjoint([*self.parts, *other.parts]))
        left_out = [
            graph
            for space, rest in ((self, other), (other, self))
            for graph in space._excluded_graphs()
            if graph not in rest
        ]
        return union.without(*left_out)

    def restrict(
        self,
        *,
        unary: Sequence[str] | None = None,
        binary: Sequence[str] | None = None,
        n_ary: Sequence[str] | None = None,
    ) -> SearchSpace:
        """Return the part of the space whose free places take only these operators.

        A kind that is not given stays as it is. Operators written in the schema stay, and a schema
        is dropped where no operator is left for one of its places.

        Raises:
            SpaceError: If an operator is unknown, repeated or of another kind, or nothing is left.
        """
        wanted = {"unary": unary, "binary": binary, "n_ary": n_ary}
        given = {kind: tuple(names) for kind, names in wanted.items() if names is not None}
        for kind, names in given.items():
            check_choices(kind, names)
        return self._filtered(lambda place, name: name in given.get(place.label, (name,)))

    def without(self, *unwanted: str | Expression) -> SearchSpace:
        """Return the space without some operators or some graphs.

        Args:
            unwanted: The name of an operator, `"pow"`, which then stands at no free place; or a
                graph, `"max(relu(x),tanh(x))"`. Equal functions with other graphs stay.

        Raises:
            SpaceError: If a graph is not in the space, a name is no operator, or nothing is left.
            ExpressionError: If a text with parentheses does not name a function.
        """
        names = {each for each in unwanted if isinstance(each, str) and _is_name(each)}
        for name in sorted(names - {name for part in self.parts for name in free_names(part)}):
            raise SpaceError(f"{name!r} stands at no free place of {self.schema}")
        graphs = [
            as_expression(each)
            for each in unwanted
            if not isinstance(each, str) or each not in names
        ]
        for graph in graphs:
            self.index(graph)
        space = self._filtered(lambda _, name: name not in names) if names else self
        # Numbers of graphs change where operators go.
        found = (space._find(graph) for graph in graphs)
        excluded = {*space.excluded, *(graph for graph in found if graph is not None)}
        return self._left(space.parts, excluded)

    def index(self, expression: str | Expression) -> int:
        """Return the index of a graph, the inverse of `space[index]`.

        Raises:
            SpaceError: If the space does not contain this graph. A graph of another form with the
                same values is found by `Catalogue.class_of`.
            ExpressionError: If a text does not name a function.
        """
        graph = self._find_or_refuse(expression)
        return graph - bisect.bisect_left(self.excluded, graph)

    def find(self, expression: Expression) -> int | None:
        """Return the index of a graph, or None if the space does not contain it."""
        graph = self._find(expression)
        return None if graph is None else graph - bisect.bisect_left(self.excluded, graph)

    def sample(self, n: int, *, seed: int | None = None, replace: bool = False) -> list[Expression]:
        """Draw graphs, each with the same probability.

        Args:
            n: How many.
            seed: Makes the draw repeatable.
            replace: Whether one may come twice.

        Raises:
            SpaceError: If `n` is negative, or there are not so many and none may come twice.
        """
        check_draw(n, self.size, "graphs", replace=replace)
        rng = random.Random(seed)
        drawn: Iterator[int] = (rng.randrange(self.size) for _ in itertools.count())
        if not replace:
            # Of more than half of the space nearly every draw would be one that came before.
            few = 2 * n <= self.size
            drawn = _different(drawn) if few else iter(rng.sample(range(self.size), n))
        return [self[index] for index in itertools.islice(drawn, n)]

    def distributions(self, name: str) -> dict[str, CategoricalDistribution]:
        """Return the Optuna parameters under which this space is suggested as `name`.

        Returns:
            One categorical of operator names a node, with the keys `name.0`, `name.1`, ...; for a
            union `name.schema` and then, for schema number 2, `name.2.0`, `name.2.1`, ...
        """
        return self._parameters.distributions(name)

    def suggest(self, trial: optuna.trial.BaseTrial, name: str) -> Expression:
        """Let a trial choose a function, as `trial.suggest_float` does a number.

        Args:
            trial: An Optuna trial (or FixedTrial, or FrozenTrial).
            name: Under this name the function is one activation of the study.

        Raises:
            optuna.TrialPruned: If a sampler that does not know of it chose an excluded graph.
        """
        graph = self._chosen(
            name, lambda key, choices: str(trial.suggest_categorical(key, choices))
        )
        expression = self._graph(graph)
        if self._is_excluded(graph):
            reason = f"{expression} is excluded from the search space"
            trial.set_user_attr(PRUNED_KEY, reason)
            raise optuna.TrialPruned(reason)
        return expression

    def expression_of(self, params: Mapping[str, Any], name: str) -> Expression:
        """Return the function that a trial's parameters name.

        Args:
            params: `trial.params` or `study.best_params`; other parameters may stand in it.
            name: The name under which the space was suggested.

        Raises:
            SpaceError: If a parameter is missing, its value is not an operator of that node, or the
                graph is excluded.
        """
        graph = self._chosen(name, lambda key, choices: self._checked(params, name, key, choices))
        if self._is_excluded(graph):
            raise SpaceError(f"{self._graph(graph)} is excluded from this space")
        return self._graph(graph)

    def is_suggested(self, params: Mapping[str, Any], name: str) -> bool:
        """Say whether parameters hold all that names a function, whatever their values."""
        return self._parameters.are_complete(name, params)

    def params_of(self, expression: str | Expression, name: str) -> dict[str, str]:
        """Return the parameters that name a function, for `study.enqueue_trial` for example.

        Raises:
            SpaceError: If the space does not contain this graph.
            ExpressionError: If a text does not name a function.
        """
        part, inside = self._locate(self._find_or_refuse(expression))
        return self._parameters.of_graph(name, part, inside)

    def _chosen(self, name: str, choose: Choose) -> int:
        part, inside = self._parameters.chosen(name, choose)
        return self._starts[part] + inside

    def _checked(
        self, params: Mapping[str, Any], name: str, key: str, choices: tuple[str, ...]
    ) -> str:
        if key not in params:
            raise SpaceError(
                f"parameter {key!r} is missing among {sorted(params)}; was the space "
                f"suggested under the name {name!r}?"
            )
        if params[key] not in choices:
            raise SpaceError(
                f"parameter {key!r} is {params[key]!r}; {self.schema} allows there "
                f"{', '.join(choices)}"
            )
        return str(params[key])

    def _find_or_refuse(self, expression: str | Expression) -> int:
        parsed = as_expression(expression)
        graph = self._find(parsed)
        if graph is None:
            raise SpaceError(f"{parsed} is not a graph of {self.schema}")
        return graph

    def _find(self, expression: Expression) -> int | None:
        """Return the number of a graph, excluded ones counted; None if it is not in the space."""
        for number in self._by_root.get(expression.operator, ()):
            inside = self.parts[number].index(expression)
            if inside is not None:
                graph = self._starts[number] + inside
                return None if self._is_excluded(graph) else graph
        return None

    def _graph(self, graph: int) -> Expression:
        part, inside = self._locate(graph)
        return self.parts[part].build(inside)

    def _locate(self, graph: int) -> tuple[int, int]:
        part = bisect.bisect_right(self._starts, graph) - 1
        return part, graph - self._starts[part]

    def _with_excluded(self, index: int) -> int:
        return index + bisect.bisect_right(self._gaps, index)

    def _is_excluded(self, graph: int) -> bool:
        place = bisect.bisect_left(self.excluded, graph)
        return place < len(self.excluded) and self.excluded[place] == graph

    def _excluded_graphs(self) -> Iterator[Expression]:
        return map(self._graph, self.excluded)

    def _filtered(self, keeps: Callable[[Place, str], bool]) -> SearchSpace:
        parts = [part for part in (kept(part, keeps) for part in self.parts) if part is not None]
        space = SearchSpace.of_places(parts)
        excluded = (space._find(graph) for graph in self._excluded_graphs())
        return self._left(parts, {graph for graph in excluded if graph is not None})

    def _left(self, parts: Sequence[Place], excluded: set[int]) -> SearchSpace:
        """Return what is left of some schemas; one whose graphs are all left out goes too."""
        ordered = sorted(excluded)
        left: list[Place] = []
        renumbered: list[int] = []
        start = end = 0
        for part in parts:
            first, last = (bisect.bisect_left(ordered, at) for at in (start, start + part.size))
            if last - first < part.size:
                left.append(part)
                renumbered += [graph - start + end for graph in ordered[first:last]]
                end += part.size
            start += part.size
        if not left:
            raise SpaceError(f"nothing is left of {self.schema}")
        return SearchSpace.of_places(left, renumbered)


def _number(value: float) -> str:
    try:
        return str(Expression.constant(value))
    except ExpressionError as error:
        raise SpaceError(
            f"constants are finite numbers such as (0.5, 1.0), got {value!r} among them"
        ) from error


def _is_name(text: str) -> bool:
    return "(" not in text and text.strip() != "x"


def _different(numbers: Iterator[int]) -> Iterator[int]:
    known: set[int] = set()
    for number in numbers:
        if number not in known:
            known.add(number)
            yield number


def check_draw(n: int, available: int, what: str, *, replace: bool) -> None:
    """Refuse to draw fewer than none, or more than there are where none may come twice.

    Raises:
        SpaceError: In these cases.
    """
    if n < 0 or (n > available and not replace):
        raise SpaceError(
            f"n must be between 0 and {available}, the number of {what}, got {n}; replace=True "
            "draws more"
        )
