"""Values and slopes of a plan, by the chain rule from the input onwards.

A function of one number has one slope, so the chain rule runs beside the values: step by step the
derivative by `x` of everything computed so far. Nothing of the way has to be kept for a backward
pass, and the slope is an ordinary function of `x`, which can be differentiated again.

A slope is a tensor, or a number where it is the same everywhere; 0 where a step does not depend on
`x`, so that nothing is computed for it.

*Careful* multiplication takes 0 times anything as 0. The chain rule needs it where a function is
flat and what is inside of it has run off to infinity: `tanh(exp(x))` at x = 1000 has slope 0, and
plain arithmetic says 0 times infinity, NaN.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from aquasurf_optuna._wrapped import is_wrapped
from aquasurf_optuna.expression import Expression
from aquasurf_optuna.kernels._plan import REPLACED, Plan, Step
from aquasurf_optuna.kernels._slopes import BINARY, UNARY, Function, Slope
from aquasurf_optuna.operators import OPERATORS

PLAIN: Mapping[str, Function] = {}
"""No function is replaced by another."""

SUPPORTED = frozenset({*UNARY, *BINARY, *REPLACED})
"""Operators with a slope here; those of the user's own have none."""


def is_supported(expression: Expression) -> bool:
    """Say whether every operator of a function has a slope here."""
    return all(node.is_leaf or node.operator in SUPPORTED for node in expression.walk())


def value_of(plan: Plan, x: Tensor, replaced: Mapping[str, Function] = PLAIN) -> Tensor:
    """Return the value of a plan.

    Args:
        plan: The plan.
        x: Any shape.
        replaced: Functions to use in place of torch's, by the operator's name.
    """
    return _shaped(_values(plan, x, _functions(replaced))[-1], x)


def slope_of(
    plan: Plan, x: Tensor, replaced: Mapping[str, Function] = PLAIN, *, careful: bool = True
) -> Tensor:
    """Return the derivative of a plan's value by `x`, elementwise.

    Args:
        plan: The plan of a function for which `is_supported` holds.
        x: Any shape.
        replaced: Functions to use in place of torch's, by the operator's name.
        careful: Whether 0 times infinity is 0 (see above).
    """
    functions = _functions(replaced)
    values = _values(plan, x, functions)
    slopes: list[Slope] = [1.0]
    for step, value in zip(plan[1:], values[1:], strict=True):
        partials = _partials(step, value, values, slopes, functions)
        terms = [
            _product(partial, slopes[place], careful=careful)
            for partial, place in zip(partials, step.arguments, strict=True)
        ]
        slopes.append(_sum(terms))
    return _shaped(slopes[-1], x)


def _functions(replaced: Mapping[str, Function]) -> Mapping[str, Function]:
    known = {name: operator.function for name, operator in OPERATORS.items()}
    return {**known, **replaced}


def _values(plan: Plan, x: Tensor, functions: Mapping[str, Function]) -> list[Tensor]:
    values = [x]
    for step in plan[1:]:
        if step.is_number:
            # A number takes the dtype that it meets.
            values.append(torch.full((), step.number, dtype=x.dtype, device=x.device))
        else:
            values.append(functions[step.operator](*[values[place] for place in step.arguments]))
    return values


def _partials(
    step: Step,
    value: Tensor,
    values: Sequence[Tensor],
    slopes: Sequence[Slope],
    functions: Mapping[str, Function],
) -> Sequence[Slope]:
    arguments = [values[place] for place in step.arguments]
    if all(_is_zero(slopes[place]) for place in step.arguments):
        return [0.0] * len(arguments)
    if len(arguments) == 1:
        return [UNARY[step.operator](functions, value, arguments[0])]
    return BINARY[step.operator](value, arguments[0], arguments[1])


def _is_zero(slope: Slope) -> bool:
    return isinstance(slope, float) and slope == 0.0


def _product(first: Slope, second: Slope, *, careful: bool) -> Slope:
    for one, other in ((first, second), (second, first)):
        if isinstance(one, float):
            if one == 0.0:
                return 0.0
            if one == 1.0:
                return other
            return one * other
    assert isinstance(first, Tensor)
    assert isinstance(second, Tensor)
    if not careful:
        return first * second
    flat = (first == 0) | (second == 0)
    if not (torch.compiler.is_compiling() or torch.is_grad_enabled() or is_wrapped(first)):
        # Where few numbers are replaced, replacing them takes no time.
        product = first * second
        return product.masked_fill(flat & product.isnan(), 0.0)
    # The factors are replaced, not the product: so a second derivative has no NaN either.
    return torch.where(flat, 0.0, first) * torch.where(flat, 0.0, second)


def _sum(terms: Sequence[Slope]) -> Slope:
    total: Slope = 0.0
    for term in terms:
        if not _is_zero(term):
            total = term if _is_zero(total) else total + term
    return total


def _shaped(result: Slope, x: Tensor) -> Tensor:
    if isinstance(result, float):
        return torch.full_like(x, result)
    if result.shape == x.shape:
        return result
    return torch.zeros_like(x) + result
