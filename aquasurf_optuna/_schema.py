"""Schemas: a tree of places, each of which may take several operators.

A *place* stands for all graphs that choose one of its names and, for every child, a graph of that
child. Graphs are numbered by a mixed-radix number: the place's own choice first, then its children
from left to right, the last one running fastest. So a count is a product, and index and graph turn
into each other without enumeration. A place is also a box, a product of sets, and two boxes of one
shape meet in a box; what is left of one without the other is a few boxes (`difference`).
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence

from aquasurf_optuna._parser import Parser
from aquasurf_optuna.exceptions import ExpressionError, SpaceError
from aquasurf_optuna.expression import Expression
from aquasurf_optuna.operators import N_ARY, OPERATORS, Operator

OPERATOR_PLACEHOLDERS: dict[str, int] = {"unary": 1, "binary": 2, "n_ary": N_ARY}
"""Names of the placeholders for operators, and how many arguments these take."""

CONSTANT = "constant"
"""Name of the placeholder for a number, a leaf."""

PLACEHOLDERS = (*OPERATOR_PLACEHOLDERS, CONSTANT)

SEPARATOR = "|"
"""What stands between the schemas of a union in a text."""

# Subtrees with no more graphs than this keep the expressions that were built.
_LARGEST_REMEMBERED = 20_000


@dataclasses.dataclass(frozen=True)
class Place:
    """One place of a schema and all below it.

    Attributes:
        label: How the schema writes it: a placeholder, an operator, `x` or a number.
        names: What may stand here.
        children: The places of its arguments.
        size: How many graphs it stands for.
    """

    label: str
    names: tuple[str, ...]
    children: tuple[Place, ...] = ()
    size: int = dataclasses.field(init=False, compare=False, repr=False)
    _digits: dict[str, int] = dataclasses.field(init=False, compare=False, repr=False)
    _built: dict[int, Expression] = dataclasses.field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        size = len(self.names) * math.prod(child.size for child in self.children)
        digits = {name: digit for digit, name in enumerate(self.names)}
        for field, value in (("size", size), ("_digits", digits), ("_built", {})):
            object.__setattr__(self, field, value)

    def __reduce__(self) -> tuple[object, ...]:
        # What was built stays here: it is quickly built again.
        return (Place, (self.label, self.names, self.children))

    @property
    def is_free(self) -> bool:
        """Whether the schema leaves the choice here."""
        return self.label in PLACEHOLDERS

    @functools.cached_property
    def free(self) -> tuple[Place, ...]:
        """The free places, in the order of `walk`."""
        return tuple(place for place in self.walk() if place.is_free)

    def __str__(self) -> str:
        if not self.children:
            return self.label
        return f"{self.label}({','.join(map(str, self.children))})"

    def walk(self) -> Iterator[Place]:
        """Yield every place, this one first, from left to right."""
        yield self
        for child in self.children:
            yield from child.walk()

    def build(self, index: int) -> Expression:
        """Return the graph with this index."""
        expression = self._built.get(index)
        if expression is None:
            digit, arguments = self._split(index)
            children = tuple(map(Place.build, self.children, arguments))
            expression = Expression(self.names[digit], children)
            if self.size <= _LARGEST_REMEMBERED:
                self._built[index] = expression
        return expression

    def index(self, expression: Expression) -> int | None:
        """Return the index of a graph, or None if it does not fit."""
        index = self._digits.get(expression.operator)
        if index is None or len(self.children) != len(expression.children):
            return None
        for child, argument in zip(self.children, expression.children, strict=True):
            inner = child.index(argument)
            if inner is None:
                return None
            index = index * child.size + inner
        return index

    def choices(self, index: int) -> list[str]:
        """Return the names that a graph has at the free places, in the order of `walk`."""
        digit, arguments = self._split(index)
        chosen = [self.names[digit]] if self.is_free else []
        for child, argument in zip(self.children, arguments, strict=True):
            chosen += child.choices(argument)
        return chosen

    def index_of_choices(self, chosen: Iterator[str]) -> int:
        """Return the index of the graph with these names at the free places; they all fit."""
        index = self._digits[next(chosen)] if self.is_free else 0
        for child in self.children:
            index = index * child.size + child.index_of_choices(chosen)
        return index

    def _split(self, index: int) -> tuple[int, list[int]]:
        arguments = []
        for child in reversed(self.children):
            index, argument = divmod(index, child.size)
            arguments.append(argument)
        return index, arguments[::-1]


def parse_schemas(text: str, choices: Mapping[str, Sequence[str]]) -> list[Place]:
    """Read one schema, or several with `|` between them.

    Args:
        text: In the notation of expressions; placeholders may stand for operators and numbers.
        choices: What each placeholder stands for.

    Raises:
        SpaceError: With the position in the whole text, what was found and what is allowed.
    """
    places, start = [], 0
    for piece in text.split(SEPARATOR):
        try:
            places.append(_parse(piece, choices))
        except ExpressionError as error:
            located = ExpressionError(
                error.problem,
                text=text,
                position=start + error.position,
                expected=error.expected,
            )
            raise SpaceError(f"this is not a schema: {located}") from error
        start += len(piece) + len(SEPARATOR)
    return places


def _parse(text: str, choices: Mapping[str, Sequence[str]]) -> Place:
    def make(name: str, children: tuple[Place, ...]) -> Place:
        return Place(name, tuple(choices.get(name, (name,))), children)

    placeholders = {
        name: Operator(name, arity, OPERATORS["zero"].function, "")
        for name, arity in OPERATOR_PLACEHOLDERS.items()
    }
    return Parser(text, {**placeholders, **OPERATORS}, make, leaves=(CONSTANT,)).parse()


def check_choices(kind: str, names: Sequence[str]) -> None:
    """Refuse names that a placeholder cannot stand for.

    Raises:
        SpaceError: If one is unknown, repeated or of another kind, or there is none.
    """
    if kind == CONSTANT:
        if not names or len(set(names)) < len(names):
            raise SpaceError(
                f"constant needs one or more different numbers, got {list(names)}; "
                "pass them as constants=(0.5, 1.0)"
            )
        return
    arity = OPERATOR_PLACEHOLDERS[kind]
    allowed = [operator.name for operator in OPERATORS.values() if operator.arity == arity]
    wrong = [name for name in names if name not in allowed]
    if not names or wrong or len(set(names)) < len(names):
        what = f"{wrong} among them" if wrong else f"{list(names)}"
        raise SpaceError(
            f"{kind} needs one or more different {kind} operators, got {what}; "
            f"known are {', '.join(allowed)}"
        )


def contains(a: Place, b: Place) -> bool:
    """Say whether every graph of `b` is one of `a`."""
    return (
        len(a.children) == len(b.children)
        and set(a.names) >= set(b.names)
        and all(map(contains, a.children, b.children))
    )


def meet(a: Place, b: Place) -> bool:
    """Say whether a graph is both of `a` and of `b`."""
    return (
        len(a.children) == len(b.children)
        and not set(a.names).isdisjoint(b.names)
        and all(map(meet, a.children, b.children))
    )


def difference(a: Place, b: Place) -> list[Place]:
    """Return places, no two of which meet, that together hold the graphs of `a` not of `b`."""
    if not meet(a, b):
        return [a]
    common, rest = (_narrowed(a, b.names, keep=keep) for keep in (True, False))
    pieces = [rest] if rest.names else []
    for position, (child, other) in enumerate(zip(a.children, b.children, strict=True)):
        for piece in difference(child, other):
            children = (*common.children[:position], piece, *common.children[position + 1 :])
            pieces.append(dataclasses.replace(common, children=children))
        inside = _intersection(child, other)
        children = (*common.children[:position], inside, *common.children[position + 1 :])
        common = dataclasses.replace(common, children=children)
    return pieces


def _intersection(a: Place, b: Place) -> Place:
    children = tuple(map(_intersection, a.children, b.children))
    return dataclasses.replace(_narrowed(a, b.names, keep=True), children=children)


def _narrowed(place: Place, names: Sequence[str], *, keep: bool) -> Place:
    kept = tuple(name for name in place.names if (name in names) == keep)
    return dataclasses.replace(place, names=kept)


def kept(place: Place, keeps: Callable[[Place, str], bool]) -> Place | None:
    """Return a place with the names that are kept, or None if one of its places has none left."""
    names = place.names
    if place.is_free:
        names = tuple(name for name in names if keeps(place, name))
    children = [kept(child, keeps) for child in place.children]
    known = tuple(child for child in children if child is not None)
    return Place(place.label, names, known) if names and len(known) == len(children) else None


def disjoint(places: Sequence[Place]) -> list[Place]:
    """Return schemas of which no two meet, and which hold the same graphs."""
    found: list[Place] = []
    for place in places:
        if any(contains(other, place) for other in found):
            continue
        # The larger of two stays whole, wherever it came.
        found = [other for other in found if not contains(place, other)]
        pieces = [place]
        for other in found:
            pieces = [rest for piece in pieces for rest in difference(piece, other)]
        found += pieces
    return found


def fixed(expression: Expression) -> Place:
    """Return the place that stands for one graph."""
    return Place(
        expression.operator, (expression.operator,), tuple(map(fixed, expression.children))
    )


def free_names(place: Place) -> set[str]:
    """Return all that may stand at free places."""
    return {name for each in place.walk() if each.is_free for name in each.names}
