"""Continuous families: activation functions that real parameters describe, instead of a graph.

A member is an ordinary `Expression` with numbers in it, so features, the store, `Activation` and
LaTeX take it like any other. In Optuna each parameter is one float, `f.a0`, `f.a1`, ... for the
name `f`, which any sampler of floats suggests: TPE, CMA-ES, a Gaussian process. `AquaSurfSampler`
searches graphs; beside it, a family is sampled by its base sampler.
"""

from __future__ import annotations

import abc
import dataclasses
import functools
import itertools
import math
import numbers
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import optuna
from optuna.distributions import FloatDistribution

from aquasurf_optuna.activation import as_expression
from aquasurf_optuna.exceptions import SpaceError
from aquasurf_optuna.expression import Expression
from aquasurf_optuna.operators import LEAF
from aquasurf_optuna.space import SearchSpace

_X = Expression(LEAF)
# Both keep a member far within the limits of one expression.
_LARGEST_DEGREE = 30
_MOST_KNOTS = 64
# Parameters computed from a member's numbers may pass a bound by rounding.
_ROUNDING = 1e-9


class ContinuousFamily(abc.ABC):
    """What all families have in common; its subclasses say how a member is written.

    A member's numbers, in the order in which its text has them, are its *coefficients*.
    """

    def distributions(self, name: str) -> dict[str, FloatDistribution]:
        """Return the Optuna parameters under which this family is suggested as `name`."""
        return {
            f"{name}.{parameter}": FloatDistribution(-bound, bound)
            for parameter, bound in self._bounds.items()
        }

    def suggest(self, trial: optuna.trial.BaseTrial, name: str) -> Expression:
        """Let a trial choose a function, as `trial.suggest_float` does a number.

        Args:
            trial: An Optuna trial (or FixedTrial, or FrozenTrial).
            name: Under this name the function is one activation of the study.
        """
        return self._member(
            [
                trial.suggest_float(key, distribution.low, distribution.high)
                for key, distribution in self.distributions(name).items()
            ]
        )

    def expression_of(self, params: Mapping[str, Any], name: str) -> Expression:
        """Return the function that a trial's parameters describe.

        Args:
            params: `trial.params` or `study.best_params`; other parameters may stand in it.
            name: The name under which the family was suggested.

        Raises:
            SpaceError: If a parameter is missing, no number, or outside its bounds.
        """
        values = []
        for key, distribution in self.distributions(name).items():
            if key not in params:
                raise SpaceError(
                    f"parameter {key!r} is missing among {sorted(params)}; was the family "
                    f"suggested under the name {name!r}?"
                )
            value = params[key]
            if not _is_number(value) or not distribution.low <= value <= distribution.high:
                raise SpaceError(
                    f"parameter {key!r} is {value!r}; {self!r} allows there numbers from "
                    f"{distribution.low:g} to {distribution.high:g}"
                )
            values.append(float(value))
        return self._member(values)

    def is_suggested(self, params: Mapping[str, Any], name: str) -> bool:
        """Say whether parameters hold all that describes a function, whatever their values."""
        return all(key in params for key in self.distributions(name))

    def params_of(self, expression: str | Expression, name: str) -> dict[str, float]:
        """Return the parameters that describe a member, for `study.enqueue_trial` for example.

        Where parameters are sums of the member's numbers, they are exact up to rounding.

        Raises:
            SpaceError: If the expression is not written as a member is, or a parameter would be
                outside its bounds.
            ExpressionError: If a text does not name a function.
        """
        parsed = as_expression(expression)
        coefficients = self._matched(parsed)
        if coefficients is None:
            raise SpaceError(
                f"{parsed} is no member of {self!r}; members are written like {self._examples[0]}"
            )
        params = {}
        values = self._parameters(coefficients)
        for (key, allowed), value in zip(self.distributions(name).items(), values, strict=True):
            within = min(max(value, allowed.low), allowed.high)
            if abs(value - within) > _ROUNDING * allowed.high:
                raise SpaceError(
                    f"{parsed} has {key!r} = {value!r}; {self!r} allows there numbers from "
                    f"{allowed.low:g} to {allowed.high:g}"
                )
            params[key] = within
        return params

    def sample(self, n: int, *, seed: int) -> list[Expression]:
        """Draw members with parameters uniform within their bounds.

        Args:
            n: How many.
            seed: The same seed gives the same members.

        Raises:
            ValueError: If `n` is no whole number from 1 on.
        """
        if isinstance(n, bool) or not isinstance(n, (int, np.integer)) or n < 1:
            raise ValueError(f"n must be 1 function or more, got {n!r}")
        bounds = np.array(list(self._bounds.values()))
        rows = np.random.default_rng(seed).uniform(-bounds, bounds, size=(int(n), len(bounds)))
        return [self._member(row) for row in rows.tolist()]

    @property
    @abc.abstractmethod
    def _bounds(self) -> dict[str, float]:
        """Parameter -> the largest absolute value that it may have."""

    @abc.abstractmethod
    def _coefficients(self, parameters: Sequence[float]) -> list[float]:
        """Return a member's coefficients."""

    @abc.abstractmethod
    def _parameters(self, coefficients: Sequence[float]) -> list[float]:
        """Return a member's parameters, the inverse of `_coefficients`."""

    @abc.abstractmethod
    def _written(self, coefficients: Sequence[Expression]) -> Expression:
        """Write a member down."""

    def _member(self, parameters: Sequence[float]) -> Expression:
        coefficients = self._coefficients(parameters)
        return self._written([Expression.constant(value) for value in coefficients])

    @functools.cached_property
    def _examples(self) -> tuple[Expression, Expression]:
        """Two members that have no coefficient in common."""
        halves, quarters = ([Expression.constant(v)] * len(self._bounds) for v in (0.5, 0.25))
        return self._written(halves), self._written(quarters)

    def _matched(self, expression: Expression) -> list[float] | None:
        """Return the coefficients of a member; None if the expression is none."""
        found: list[float] = []

        def fits(node: Expression, one: Expression, other: Expression) -> bool:
            if one.is_leaf and one != other:
                if node.value is not None:
                    found.append(node.value)
                return node.value is not None
            return (
                node.operator == one.operator
                and len(node.children) == len(one.children)
                and all(map(fits, node.children, one.children, other.children))
            )

        return found if fits(expression, *self._examples) else None


@dataclasses.dataclass(frozen=True)
class RationalFamily(ContinuousFamily):
    """Rational functions without poles: the "safe" Padé activation unit.

    `(a0 + a1 x + ... + am x^m) / (1 + |b1 x + ... + bn x^n|)`, both polynomials in Horner's form.
    Source: Molina, Schramowski and Kersting, "Padé Activation Units: End-to-end Learning of
    Flexible Activation Functions in Deep Networks", ICLR 2020.

    The parameters of the name `f` are `f.a0`, ..., `f.am` and `f.b1`, ..., `f.bn`.

    Args:
        numerator_degree: m, from 1 to 30.
        denominator_degree: n, from 1 to 30.
        bound: No coefficient is larger in absolute value.

    Raises:
        SpaceError: If an argument is outside what is allowed.
    """

    numerator_degree: int = 5
    denominator_degree: int = 4
    bound: float = dataclasses.field(default=1.0, kw_only=True)

    def __post_init__(self) -> None:
        for name in ("numerator_degree", "denominator_degree"):
            degree = getattr(self, name)
            whole = isinstance(degree, int) and not isinstance(degree, bool)
            if not whole or not 1 <= degree <= _LARGEST_DEGREE:
                raise SpaceError(
                    f"{name} must be a whole number from 1 to {_LARGEST_DEGREE}, got {degree!r}"
                )
        object.__setattr__(self, "bound", _checked_bound("bound", self.bound))

    @property
    def _bounds(self) -> dict[str, float]:
        numerator = [f"a{power}" for power in range(self.numerator_degree + 1)]
        denominator = [f"b{power}" for power in range(1, self.denominator_degree + 1)]
        return dict.fromkeys([*numerator, *denominator], self.bound)

    def _coefficients(self, parameters: Sequence[float]) -> list[float]:
        return list(parameters)

    def _parameters(self, coefficients: Sequence[float]) -> list[float]:
        return list(coefficients)

    def _written(self, coefficients: Sequence[Expression]) -> Expression:
        numerator = _horner(coefficients[: self.numerator_degree + 1])
        rest = _horner(coefficients[self.numerator_degree + 1 :])
        size = Expression("abs", (Expression("mul", (_X, rest)),))
        denominator = Expression("add", (Expression.constant(1), size))
        return Expression("div", (numerator, denominator))


@dataclasses.dataclass(frozen=True)
class PiecewiseLinearFamily(ContinuousFamily):
    """Continuous functions that are linear between given knots, and beyond them.

    Written as the tangent at zero and one ReLU a knot, which begins at the knot and leads away from
    zero; so `f(0)` is the offset exactly. With `s0` the slope left of the first knot and `sk` that
    right of the k-th one, such a ReLU has the factor `sk - s(k-1)`.

    The parameters of the name `f` are `f.slope0`, ..., one more than there are knots, and
    `f.offset`, the value at zero.

    Args:
        knots: Where the slope may change: 1 to 64 finite numbers, ascending.
        slope_bound: No slope is larger in absolute value.
        offset_bound: Nor is the offset larger than this.

    Raises:
        SpaceError: If an argument is outside what is allowed.
    """

    knots: Sequence[float] = (-2.0, -1.0, 0.0, 1.0, 2.0)
    slope_bound: float = dataclasses.field(default=2.0, kw_only=True)
    offset_bound: float = dataclasses.field(default=1.0, kw_only=True)

    def __post_init__(self) -> None:
        object.__setattr__(self, "knots", _checked_knots(self.knots))
        for name in ("slope_bound", "offset_bound"):
            object.__setattr__(self, name, _checked_bound(name, getattr(self, name)))

    @property
    def _bounds(self) -> dict[str, float]:
        slopes = dict.fromkeys((f"slope{k}" for k in range(len(self.knots) + 1)), self.slope_bound)
        return {**slopes, "offset": self.offset_bound}

    @property
    def _middle(self) -> int:
        """Which slope the function has at zero; left of zero where a knot is at zero."""
        return sum(knot < 0 for knot in self.knots)

    def _coefficients(self, parameters: Sequence[float]) -> list[float]:
        *slopes, offset = parameters
        changes = [right - left for left, right in itertools.pairwise(slopes)]
        return [offset, slopes[self._middle], *changes]

    def _parameters(self, coefficients: Sequence[float]) -> list[float]:
        offset, slope, *changes = coefficients
        middle = self._middle
        rightwards = itertools.accumulate(changes[middle:], initial=slope)
        # From the middle to the left each change is taken back.
        leftwards = itertools.accumulate((-c for c in reversed(changes[:middle])), initial=slope)
        return [*reversed(list(leftwards)[1:]), *rightwards, offset]

    def _written(self, coefficients: Sequence[Expression]) -> Expression:
        offset, slope, *changes = coefficients
        terms = [offset, Expression("mul", (slope, _X))]
        for knot, change in zip(self.knots, changes, strict=True):
            terms.append(Expression("mul", (change, _relu_from(knot))))
        return Expression("sum_n", tuple(terms))


def _relu_from(knot: float) -> Expression:
    """Return the ReLU that begins at a knot and leads away from zero."""
    if knot == 0:
        return Expression("relu", (_X,))
    place = Expression.constant(knot)
    return Expression("relu", (Expression("sub", (_X, place) if knot > 0 else (place, _X)),))


def _horner(coefficients: Sequence[Expression]) -> Expression:
    """Write a polynomial in x, its constant first."""
    result = coefficients[-1]
    for coefficient in reversed(coefficients[:-1]):
        result = Expression("add", (coefficient, Expression("mul", (_X, result))))
    return result


def _is_number(value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        return False
    return math.isfinite(value)


def _checked_bound(name: str, bound: float) -> float:
    if not _is_number(bound) or bound <= 0:
        raise SpaceError(f"{name} must be a positive finite number, got {bound!r}")
    return float(bound)


def _checked_knots(knots: Sequence[float]) -> tuple[float, ...]:
    given = tuple(knots) if isinstance(knots, (Sequence, np.ndarray)) else ()
    ascending = all(map(_is_number, given)) and all(a < b for a, b in itertools.pairwise(given))
    if not ascending or not 1 <= len(given) <= _MOST_KNOTS:
        raise SpaceError(
            f"knots must be 1 to {_MOST_KNOTS} finite numbers in ascending order, got {knots!r}"
        )
    return tuple(map(float, given))


AnySpace = SearchSpace | ContinuousFamily
"""What a study can suggest functions from: graphs, or a continuous family."""
