"""What has to be computed for a function: each value once, and nothing that changes no value.

A plan is a list of steps. Step 0 is the input `x`; every other one is a number, or an operator of
one or two earlier steps. N-ary operators become chains of binary ones. Subexpressions that are
equal, also up to the order of a sum or a product, are one step; `identity(x)`, sums with 0 and
products with 1 are no step at all; and what holds only numbers is one number.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import torch

from aquasurf_optuna.expression import Expression
from aquasurf_optuna.operators import LEAF, OPERATORS

_CHAINED = {"sum_n": "add", "prod_n": "mul", "max_n": "max", "min_n": "min"}
_COMMUTATIVE = frozenset({"add", "mul", "max", "min"})
_CONSTANTS = {"zero": 0.0, "one": 1.0}

REPLACED = frozenset({*_CHAINED, *_CONSTANTS, "identity"})
"""Operators that are no step of any plan: others stand for them."""


class Step(NamedTuple):
    """One value.

    Attributes:
        operator: Name of an operator; `""` for a number.
        arguments: Places of its arguments in the plan.
        number: The number; 0 for an operator.
    """

    operator: str
    arguments: tuple[int, ...] = ()
    number: float = 0.0

    @property
    def is_number(self) -> bool:
        """Whether this is a number."""
        return not self.operator


INPUT = Step(LEAF)
Plan = tuple[Step, ...]
"""Steps, arguments first; the last is the function's value."""


@functools.lru_cache(maxsize=4096)
def plan_of(expression: Expression) -> Plan:
    """Return the plan of a function."""
    builder = _Builder()
    place = builder.place(expression)
    return builder.used_for(place)


class _Builder:
    def __init__(self) -> None:
        self._steps = [INPUT]
        self._known = {INPUT: 0}

    def place(self, node: Expression) -> int:
        """Return where the value of a subexpression is, making it if it is new."""
        if node.operator == LEAF:
            return 0
        if node.value is not None:
            return self._add(Step("", number=node.value))
        if node.operator in _CONSTANTS:
            return self._add(Step("", number=_CONSTANTS[node.operator]))
        places = [self.place(child) for child in node.children]
        if node.operator not in _CHAINED:
            return self._apply(node.operator, *places)
        return functools.reduce(
            lambda first, second: self._apply(_CHAINED[node.operator], first, second), places
        )

    def used_for(self, place: int) -> Plan:
        """Return the plan of one value, without what it does not need."""
        needed = {0}
        waiting = [place]
        while waiting:
            step = waiting.pop()
            needed.add(step)
            waiting += [each for each in self._steps[step].arguments if each not in needed]
        # The value stays the last: a step looks at earlier ones, and no later one is needed.
        moved = {old: new for new, old in enumerate(sorted(needed))}
        steps = [
            step._replace(arguments=tuple(moved[each] for each in step.arguments))
            for old, step in enumerate(self._steps)
            if old in needed
        ]
        return tuple(steps)

    def _apply(self, operator: str, *places: int) -> int:
        numbers = [step.number for step in (self._steps[p] for p in places) if step.is_number]
        if len(numbers) == len(places):
            # A network may be built on a device where tensors have no numbers.
            values = [torch.tensor(n, dtype=torch.float64, device="cpu") for n in numbers]
            return self._add(Step("", number=float(OPERATORS[operator].function(*values))))
        kept = self._without_effect(operator, *places)
        if kept is not None:
            return kept
        if operator in _COMMUTATIVE:
            places = tuple(sorted(places))
        return self._add(Step(operator, places))

    def _without_effect(self, operator: str, *places: int) -> int | None:
        """Return the argument that the result is equal to, bit for bit, or None."""
        if operator == "identity":
            return places[0]
        if len(places) == 1:
            return None
        first, second = places
        if operator in ("max", "min") and first == second:
            return first
        # -0 + 0 is 0, and so nearly the same that nobody tells them apart.
        neutral = {"add": 0.0, "sub": 0.0, "mul": 1.0, "div": 1.0}.get(operator)
        if self._steps[second] == Step("", number=neutral or 0.0) and neutral is not None:
            return first
        if operator in _COMMUTATIVE and self._steps[first] == Step("", number=neutral or 0.0):
            return second if neutral is not None else None
        return None

    def _add(self, step: Step) -> int:
        if step not in self._known:
            self._known[step] = len(self._steps)
            self._steps.append(step)
        return self._known[step]
