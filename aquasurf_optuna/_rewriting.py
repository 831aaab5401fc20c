"""Apply identities to one node of an expression.

The left side of an identity is matched with the node, arguments of `add`, `mul`, `max` and `min` in
either order; each way to match gives a binding of letters to subexpressions, and from it the right
side is built. What identities of a fixed number of arguments cannot say stands here as code:
numbers, their order, and operators of any number of arguments.
"""

from __future__ import annotations

import ast
import dataclasses
import functools
import itertools
import math
from collections.abc import Iterator, Mapping, Sequence

import torch

from aquasurf_optuna._identities import (
    BINARY_OF,
    COMMUTATIVE,
    KEEP_SIGN,
    NEVER_NEGATIVE,
    ONE_IS_ENOUGH,
)
from aquasurf_optuna._parser import constant_value
from aquasurf_optuna.expression import Expression, apply_operator

Identities = tuple[tuple[str, str], ...]
"""Left and right sides, see `_identities.py`."""

Binding = dict[str, Expression]
"""What each letter stands for."""

_LETTERS = frozenset("fghpqcdm")

# The pairs of arguments of an n-ary operator are tried; this keeps them few.
_MOST_PAIRED = 8


@dataclasses.dataclass(frozen=True)
class _Pattern:
    """One side of an identity: an operator, a number's text or a letter, and arguments."""

    name: str
    children: tuple[_Pattern, ...] = ()


def rewrites(node: Expression, identities: Identities) -> Iterator[Expression]:
    """Yield what this node may be instead, by its outermost operators; some are no simpler."""
    if node.is_leaf:
        return
    computed = _computed(node.operator, node.children)
    if computed is not None:
        yield computed
    yield from _ordered(node)
    if node.operator in BINARY_OF:
        yield from _rewrites_of_n_ary(node, identities)
    for left, right in _of_operator(node.operator, identities):
        for binding in _matches(left, node, {}):
            yield _built(right, binding)


def _ordered(node: Expression) -> Iterator[Expression]:
    """Numbers come first where the order does not matter."""
    if node.operator in COMMUTATIVE or node.operator in BINARY_OF:
        children = sorted(node.children, key=lambda child: child.value is None)
        if children != list(node.children):
            yield Expression(node.operator, tuple(children))


def _rewrites_of_n_ary(node: Expression, identities: Identities) -> Iterator[Expression]:
    """Open what is nested, and rewrite two arguments by the identities of the binary operator."""
    binary = BINARY_OF[node.operator]
    children = list(node.children)
    if len(children) == 2:
        yield Expression(binary, node.children)
    if len(set(children)) == 1:
        count = Expression.constant(len(children))
        times = {"sum_n": ("mul", (count, children[0])), "prod_n": ("pow", (children[0], count))}
        yield Expression(*times[node.operator]) if node.operator in times else children[0]
    nested = {node.operator, binary}
    opened = [each.children if each.operator in nested else (each,) for each in children]
    if len(opened) < sum(map(len, opened)):
        yield Expression(node.operator, tuple(itertools.chain(*opened)))
    for first, second in itertools.combinations(range(min(len(children), _MOST_PAIRED)), 2):
        rest = [each for i, each in enumerate(children) if i not in (first, second)]
        for new in _fewer_of_two(binary, children[first], children[second], identities):
            # A deeper argument could pass the limit of depth.
            if new.depth < node.depth:
                yield _joined(node.operator, [*rest[:first], new, *rest[first:]])


@functools.lru_cache(maxsize=65_536)
def _fewer_of_two(
    binary: str, first: Expression, second: Expression, identities: Identities
) -> tuple[Expression, ...]:
    """Return what a pair of arguments may be instead and has no more operators than they have."""
    most = first.node_count + second.node_count
    found = rewrites(Expression(binary, (first, second)), identities)
    return tuple(new for new in found if new.node_count <= most)


def _joined(operator: str, children: Sequence[Expression]) -> Expression:
    return children[0] if len(children) == 1 else Expression(operator, tuple(children))


def _computed(operator: str, children: tuple[Expression, ...]) -> Expression | None:
    """Return an operator's value where all its arguments are numbers and it is finite."""
    numbers = [child.value for child in children]
    if any(number is None for number in numbers):
        return None
    tensors = [torch.tensor([number], dtype=torch.float64) for number in numbers]
    value = float(apply_operator(Expression(operator, children), tensors))
    return Expression.constant(value) if math.isfinite(value) else None


@functools.lru_cache(maxsize=64)
def _of_operator(operator: str, identities: Identities) -> tuple[tuple[_Pattern, _Pattern], ...]:
    """Return the identities whose left side has this outermost operator."""
    pairs = [(_read(left), _read(right)) for left, right in identities]
    return tuple(pair for pair in pairs if pair[0].name == operator)


@functools.lru_cache(maxsize=1024)
def _read(text: str) -> _Pattern:
    # The notation is part of Python's; this only reads it.
    return _pattern(ast.parse(text, mode="eval").body)


def _pattern(node: ast.expr) -> _Pattern:
    if isinstance(node, ast.Call):
        return _Pattern(ast.unparse(node.func), tuple(map(_pattern, node.args)))
    return _Pattern(ast.unparse(node))


def _matches(pattern: _Pattern, node: Expression, binding: Binding) -> Iterator[Binding]:
    """Yield every way to read a node as a pattern, given what some letters stand for."""
    if pattern.name in _LETTERS:
        if pattern.name not in binding:
            if _fits(pattern.name, node):
                yield {**binding, pattern.name: node}
        elif binding[pattern.name] == node:
            yield binding
        return
    if pattern.name != node.operator or len(pattern.children) != len(node.children):
        return
    yield from _matches_of_all(pattern.children, node.children, binding)
    if pattern.name in COMMUTATIVE:
        yield from _matches_of_all(pattern.children, node.children[::-1], binding)


def _matches_of_all(
    patterns: Sequence[_Pattern], nodes: Sequence[Expression], binding: Binding
) -> Iterator[Binding]:
    if not patterns:
        yield binding
        return
    for found in _matches(patterns[0], nodes[0], binding):
        yield from _matches_of_all(patterns[1:], nodes[1:], found)


def _fits(letter: str, node: Expression) -> bool:
    if letter in "cdm":
        return node.value is not None and (letter != "m" or node.value <= 0)
    return letter in "fgh" or never_negative(node)


@functools.lru_cache(maxsize=4096)
def never_negative(node: Expression) -> bool:
    """Say whether the form of a function shows that it is never negative."""
    if node.is_leaf:
        return node.value is not None and node.value >= 0
    if node.operator in NEVER_NEGATIVE:
        return True
    if node.operator in ONE_IS_ENOUGH:
        return any(map(never_negative, node.children))
    if node.operator == "pow":
        return never_negative(node.children[0])
    return node.operator in KEEP_SIGN and all(map(never_negative, node.children))


def _built(pattern: _Pattern, binding: Mapping[str, Expression]) -> Expression:
    if pattern.name in binding:
        return binding[pattern.name]
    if constant_value(pattern.name) is not None:
        return Expression(pattern.name)
    children = tuple(_built(child, binding) for child in pattern.children)
    return _computed(pattern.name, children) or Expression(pattern.name, children)
