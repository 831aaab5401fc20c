"""What the Optuna parameters of a space are, in words: for whoever meets `activation.1` in a table.

The names of parameters are fixed, since stored studies depend on them, so they are explained.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import NamedTuple

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution

from aquasurf_optuna._schema import CONSTANT, Place
from aquasurf_optuna.families import AnySpace, PiecewiseLinearFamily, RationalFamily
from aquasurf_optuna.operators import LEAF
from aquasurf_optuna.space import SearchSpace

_SCHEMAS = "the schemas"
_ORDINALS = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth")


class Meaning(NamedTuple):
    """A parameter in words.

    Attributes:
        key: Its name in Optuna.
        words: What it decides, in plain text.
        allowed: What it may be, in plain text.
    """

    key: str
    words: str
    allowed: str


def meanings(space: AnySpace, name: str) -> list[Meaning]:
    """Return every parameter of a space in words, in the order of `space.distributions(name)`."""
    distributions = space.distributions(name)
    words = _of_schemas(space, name) if isinstance(space, SearchSpace) else _of_family(space, name)
    return [
        Meaning(key, text, _SCHEMAS if key == _schema_key(name) else _allowed(distributions[key]))
        for key, text in zip(distributions, words, strict=True)
    ]


def formulas(space: AnySpace, name: str) -> dict[str, str]:
    """Return, for each schema, the function with parameters in the places that they decide.

    The schemas are written as `name.schema` has them. A family has no such formula.
    """
    if not isinstance(space, SearchSpace):
        return {}
    keys = _node_keys(space, name)
    written = [_formula(part, keys) for part in space.parts]
    schemas = space.distributions(name).get(_schema_key(name))
    labels = [space.schema] if schemas is None else map(str, schemas.choices)
    return dict(zip(labels, written, strict=True))


def _node_keys(space: SearchSpace, name: str) -> Iterator[str]:
    return (key for key in space.distributions(name) if key != _schema_key(name))


def _schema_key(name: str) -> str:
    return f"{name}.schema"


def _formula(place: Place, keys: Iterator[str]) -> str:
    head = next(keys) if place.is_free else place.label
    if not place.children:
        return head
    return f"{head}({', '.join([_formula(child, keys) for child in place.children])})"


def _of_schemas(space: SearchSpace, name: str) -> Iterator[str]:
    keys = _node_keys(space, name)
    several = len(space.parts) > 1
    if several:
        yield f"which of {len(space.parts)} schemas the function has"
    for number, part in enumerate(space.parts, start=1):
        prefix = f"in schema {number}: " if several else ""
        for words in _of_place(part, "outermost operator", keys):
            yield prefix + words


def _of_place(place: Place, where: str, keys: Iterator[str]) -> Iterator[str]:
    parent = place.label
    if place.is_free:
        parent = next(keys)
        yield f"{where}, {_kind(place)}"
    for number, child in enumerate(place.children):
        which = "argument" if len(place.children) == 1 else _which(number)
        yield from _of_place(child, f"{which} of {parent}", keys)


def _kind(place: Place) -> str:
    if place.label == CONSTANT:
        return "a number"
    applied = " of x" if all(child.label == LEAF for child in place.children) else ""
    return f"{place.label.replace('_', '-')}{applied}"


def _which(number: int) -> str:
    if number < len(_ORDINALS):
        return f"{_ORDINALS[number]} argument"
    return f"argument {number + 1}"


def _of_family(space: AnySpace, name: str) -> list[str]:
    parameters = [key.removeprefix(f"{name}.") for key in space.distributions(name)]
    if isinstance(space, RationalFamily):
        return [_coefficient(each) for each in parameters]
    if isinstance(space, PiecewiseLinearFamily):
        return _slopes(space)
    return [f"{each} of a member" for each in parameters]


def _coefficient(parameter: str) -> str:
    part = "numerator" if parameter.startswith("a") else "denominator"
    power = int(parameter[1:])
    return f"coefficient of x^{power} in the {part}" if power else f"constant of the {part}"


def _slopes(family: PiecewiseLinearFamily) -> list[str]:
    knots = [f"{knot:g}" for knot in family.knots]
    between = [f"slope from {a} to {b}" for a, b in itertools.pairwise(knots)]
    return [f"slope below {knots[0]}", *between, f"slope above {knots[-1]}", "value at 0"]


def _allowed(distribution: BaseDistribution) -> str:
    if isinstance(distribution, CategoricalDistribution):
        return ", ".join(map(str, distribution.choices))
    assert isinstance(distribution, FloatDistribution)
    return f"{distribution.low:g} to {distribution.high:g}"
