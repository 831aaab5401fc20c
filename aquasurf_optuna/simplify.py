"""Rewrite an expression as a simpler one that computes the same function.

The identities of `_identities.py` are applied to every subexpression, the innermost first, as long
as one of them makes the whole simpler. Each step is then checked by numbers, not taken on trust:
the whole function must keep its values, NaN and infinities included, on the 1,000 fixed inputs of
`features/outputs.py` and on a wide grid. A step that changes them is not taken.

*Simpler* means fewer operators, then fewer leaves, then fewer inputs `x` among them, then fewer
oddities: numbers that stand behind other arguments although their order does not matter, and n-ary
operators of two arguments. Each is a natural number, so that there are no endless chains of steps.
"""

from __future__ import annotations

import functools

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from aquasurf_optuna._identities import BINARY_OF, COMMUTATIVE, IDENTITIES
from aquasurf_optuna._rewriting import Identities, rewrites
from aquasurf_optuna.equality import linked
from aquasurf_optuna.exceptions import ExpressionError
from aquasurf_optuna.expression import Expression, apply_operator
from aquasurf_optuna.features.outputs import standard_inputs
from aquasurf_optuna.operators import LEAF

# A thousandth of what makes two functions linked, so that many steps together stay within it.
_STEP_TOLERANCE = 1e-9
_GRID = np.geomspace(1e-3, 50.0, 100)


def simplify(expression: Expression) -> Expression:
    """Return the simplest form of a function that rewriting finds.

    The result is linked (see `equality.py`) with the original on the 1,000 fixed inputs, and just
    as close to it on a grid of 0 and 100 numbers of either sign from 0.001 to 50. It may differ
    for inputs far outside, in the last digits of its values, and in which of several slopes it has
    at a kink. Subexpressions without `x` become numbers, computed in float64.

    It is deterministic, never larger than the original, and simplifying it again changes nothing.

    Args:
        expression: Any function. Tens of operators take milliseconds.

    Raises:
        ExpressionError: If it is no `Expression`.
    """
    if not isinstance(expression, Expression):
        raise ExpressionError(
            f"got {type(expression).__name__}",
            text=repr(expression),
            position=0,
            expected="an Expression; Expression.parse makes one of a text",
        )
    values = _Values()
    current = expression
    while (simpler := _step(current, values)) is not None:
        current = simpler
    return current if linked(values.of(current), values.of(expression)) else expression


class _Values:
    """Values of functions, each distinct subexpression computed once."""

    def __init__(self) -> None:
        inputs = np.concatenate([standard_inputs().numpy(), -_GRID, [0.0], _GRID])
        self._x = torch.from_numpy(inputs)
        self._known: dict[Expression, Tensor] = {Expression(LEAF): self._x}

    def of(self, expression: Expression) -> NDArray[np.float64]:
        """Return the values of a function, float64 `(1201,)`."""
        return self._of(expression).numpy()

    def _of(self, expression: Expression) -> Tensor:
        if expression not in self._known:
            arguments = [self._of(child) for child in expression.children] or [self._x]
            self._known[expression] = apply_operator(expression, arguments)
        return self._known[expression]


def _step(current: Expression, values: _Values) -> Expression | None:
    """Return the first simpler form of the whole that keeps its values; None if there is none."""
    # From the end of the walk, arguments come before what they are arguments of.
    for node in dict.fromkeys(reversed([*current.walk()])):
        for new in _simpler(node, IDENTITIES):
            candidate = _replaced(current, node, new)
            if _agree(values.of(candidate), values.of(current)):
                return candidate
    return None


@functools.lru_cache(maxsize=4096)
def _simpler(node: Expression, identities: Identities) -> tuple[Expression, ...]:
    """Return what a node may be instead and is simpler."""
    size = _size(node)
    return tuple(new for new in rewrites(node, identities) if _size(new) < size)


@functools.lru_cache(maxsize=65_536)
def _size(expression: Expression) -> tuple[int, int, int, int]:
    """What is compared, the weightiest first, to say which of two forms is simpler."""
    if expression.is_leaf:
        return 0, 1, int(expression.value is None), 0
    sizes = [_size(child) for child in expression.children]
    _, leaves, inputs, oddities = map(sum, zip(*sizes, strict=True))
    return expression.node_count, leaves, inputs, oddities + _oddities(expression)


def _oddities(node: Expression) -> int:
    """Count late numbers, and one for an n-ary operator of two arguments."""
    if node.operator not in COMMUTATIVE and node.operator not in BINARY_OF:
        return 0
    others = [child.value is None for child in node.children]
    late = others[others.index(True) :].count(False) if True in others else 0
    return late + (node.operator in BINARY_OF and len(others) == 2)


def _replaced(whole: Expression, old: Expression, new: Expression) -> Expression:
    """Put one subexpression for another wherever it occurs."""
    if whole == old:
        return new
    children = tuple(_replaced(child, old, new) for child in whole.children)
    return whole if children == whole.children else Expression(whole.operator, children)


def _agree(a: NDArray[np.float64], b: NDArray[np.float64]) -> bool:
    tiny = float(np.finfo(np.float64).tiny)
    return np.allclose(a, b, rtol=_STEP_TOLERANCE, atol=tiny, equal_nan=True)
