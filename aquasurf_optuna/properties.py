"""What kind of function an activation function is: its range, limits, slopes, mean and more.

Everything is found numerically in float64, so it is what a machine computes, not a proof:

- Ranges and monotony from about 19,000 inputs: every thousandth in [-8, 8], and 32 or more a decade
  from there to plus and minus 1e6 and from 1e-9 to 1e-2 on either side of zero. The cells around
  the extremes are then divided until they are exact, or grow without end (a pole).
- Limits at infinity and on either side of zero as `_limits.py` says, up to 2**640.
- Mean and variance of f(Z), Z from N(0, 1), by quadrature as `_moments.py` says.

Bumps narrower than the inputs' spacing, and what happens beyond 1e6 on the way to the limit, are
not seen.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from typing import Literal

import numpy as np
import torch

from aquasurf_optuna._limits import (
    Array,
    Function,
    limit_at_infinity,
    limit_at_zero,
    slope_at_infinity,
)
from aquasurf_optuna._moments import gaussian_moments
from aquasurf_optuna._naming import STANDARD, names_of_equals
from aquasurf_optuna.activation import as_expression
from aquasurf_optuna.derivative import derivative
from aquasurf_optuna.expression import Expression
from aquasurf_optuna.features.outputs import INPUT_BOUND

ZERO_MEAN_TOLERANCE = 1e-9
"""Largest mean, in standard deviations, of a function that counts as having zero mean."""

Monotony = Literal["increasing", "decreasing", "constant", "no"]
Saturation = Literal["left", "right", "both", "no"]
AtZero = Literal["smooth", "kink", "jump", "hole", "pole", "undefined"]

_ROUNDING = 1e-12
_USUAL = 0.9
"""Which quantile of a function's sizes on [-5, 5] is its usual one: ReLU is 0 on half of it."""
_ROUNDS = 7
_CELLS = 64


@dataclasses.dataclass(frozen=True)
class FunctionProperties:
    """The properties of one function. None stands for what does not exist or cannot be told.

    Attributes:
        expression: The function.
        range: Infimum and supremum over the real numbers, infinite where it is unbounded; NaN if
            it has no value anywhere.
        input_range: The same over [-5, 5], the inputs that the paper's features look at.
        limits: At minus and plus infinity: a number, an infinity, or None.
        asymptotic_slopes: At minus and plus infinity, of the line that an unbounded function tends
            to (0 for one that grows more slowly); None for others.
        monotony: Whether it never falls (`"increasing"`), never rises, does neither, or `"no"`,
            which includes functions that are not defined everywhere.
        at_zero: `"smooth"` for a derivative at 0, `"kink"` where the slopes differ or are infinite,
            `"jump"` where the one-sided limits differ, `"hole"` where they agree but not with f(0),
            `"pole"` where one is infinite, `"undefined"` where one does not exist.
        limits_at_zero: From below and from above.
        slopes_at_zero: Left and right derivative, as limits of the derivative.
        mean: E[f(Z)] for Z from N(0, 1); see `_moments.gaussian_moments`.
        variance: Var[f(Z)].
        saturates: On which side it has a finite limit.
        finite_share: Share of the inputs in [-5, 5] with a finite value, from 0 to 1.
        equal_to: Name of the first of the paper's 13 baselines that it equals on the 1,000 fixed
            inputs, or None.
    """

    expression: Expression
    range: tuple[float, float]
    input_range: tuple[float, float]
    limits: tuple[float | None, float | None]
    asymptotic_slopes: tuple[float | None, float | None]
    monotony: Monotony
    at_zero: AtZero
    limits_at_zero: tuple[float | None, float | None]
    slopes_at_zero: tuple[float | None, float | None]
    mean: float
    variance: float
    saturates: Saturation
    finite_share: float
    equal_to: str | None

    @property
    def is_continuous_at_zero(self) -> bool:
        """Whether f(0) is the limit from both sides."""
        return self.at_zero in ("smooth", "kink")

    @property
    def is_differentiable_at_zero(self) -> bool:
        """Whether left and right derivative are the same number."""
        return self.at_zero == "smooth"

    @property
    def is_zero_mean(self) -> bool:
        """Whether the mean is at most `ZERO_MEAN_TOLERANCE` standard deviations from 0."""
        if not math.isfinite(self.variance):
            return False
        return abs(self.mean) <= ZERO_MEAN_TOLERANCE * math.sqrt(self.variance)

    @property
    def is_finite(self) -> bool:
        """Whether every value on [-5, 5] is finite."""
        return self.finite_share == 1.0

    def rows(self) -> dict[str, str]:
        """Return the properties as texts by their names, for lists and tables."""
        zero_mean = " (zero mean)" if self.is_zero_mean else ""
        bound = f"[-{INPUT_BOUND:g}, {INPUT_BOUND:g}]"
        return {
            "range": _span(self.range),
            f"range on {bound}": _span(self.input_range),
            "limit at -inf": _limit_text(self.limits[0], self.asymptotic_slopes[0]),
            "limit at +inf": _limit_text(self.limits[1], self.asymptotic_slopes[1]),
            "monotonic": self.monotony,
            "saturates": {
                "left": "on the left",
                "right": "on the right",
                "both": "on both sides",
            }.get(self.saturates, "no"),
            "at 0": self._zero_text(),
            "mean on N(0, 1)": _text(self.mean) + zero_mean,
            "variance on N(0, 1)": _text(self.variance),
            f"finite on {bound}": _share_text(self.finite_share),
            "equal to": self.equal_to or "none of the standard functions",
        }

    def _zero_text(self) -> str:
        (below, above), (left, right) = (
            tuple(map(_text, pair)) for pair in (self.limits_at_zero, self.slopes_at_zero)
        )
        return {
            "smooth": f"differentiable, slope {right}",
            "kink": f"continuous, with a kink: slope {left} on the left, {right} on the right",
            "jump": f"jumps from {below} to {above}",
            "hole": f"tends to {above}, but has no such value there",
            "pole": f"pole: tends to {below} from the left, to {above} from the right",
            "undefined": f"no limit from both sides: {below} on the left, {above} on the right",
        }[self.at_zero]


@functools.lru_cache(maxsize=1024)
def _properties_of(expression: Expression) -> FunctionProperties:
    f = _values_of(expression)
    inputs = _inputs()
    outputs = f(inputs)
    near = np.abs(inputs) <= INPUT_BOUND
    limits = (limit_at_infinity(f, -1.0), limit_at_infinity(f, 1.0))
    around = (limit_at_zero(f, -1.0), limit_at_zero(f, 1.0))
    slopes = _slopes_at_zero(expression)
    mean, variance = gaussian_moments(f)
    inner = _range(f, inputs[near], outputs[near], around)
    outer = _range(f, inputs, outputs, (*limits, *around))
    return FunctionProperties(
        expression=expression,
        # What was found in one of them belongs to both.
        range=(float(np.fmin(outer[0], inner[0])), float(np.fmax(outer[1], inner[1]))),
        input_range=inner,
        limits=limits,
        asymptotic_slopes=(_asymptote(f, limits[0], -1.0), _asymptote(f, limits[1], 1.0)),
        monotony=_monotony(outputs, outputs[near]),
        at_zero=_at_zero(float(f(np.zeros(1))[0]), around, slopes),
        limits_at_zero=around,
        slopes_at_zero=slopes,
        mean=mean,
        variance=variance,
        saturates=_saturation(limits),
        finite_share=float(np.isfinite(f(_uniform_inputs())).mean()),
        equal_to=names_of_equals([expression], STANDARD)[0],
    )


def properties_of(expression: str | Expression) -> FunctionProperties:
    """Find out what kind of function an expression is; about 30 ms, once a function.

    Args:
        expression: The function, as text or parsed.

    Raises:
        ExpressionError: If a text does not name a function.
    """
    return _properties_of(as_expression(expression))


def _values_of(expression: Expression) -> Function:
    def f(x: Array) -> Array:
        with torch.no_grad():
            return np.array(expression(torch.from_numpy(x)).numpy(), dtype=np.float64)

    return f


@functools.cache
def _inputs() -> Array:
    tiny, far = np.geomspace(1e-9, 1e-2, 225), np.geomspace(8.0, 1e6, 1025)
    return np.unique(np.concatenate([np.arange(-8000, 8001) / 1000, tiny, -tiny, far, -far]))


@functools.cache
def _uniform_inputs() -> Array:
    return np.linspace(-INPUT_BOUND, INPUT_BOUND, 10_001)


def _range(
    f: Function, inputs: Array, outputs: Array, limits: tuple[float | None, ...]
) -> tuple[float, float]:
    known = [limit for limit in limits if limit is not None]
    values = np.array([*outputs[~np.isnan(outputs)], *known])
    if not values.size:
        return math.nan, math.nan
    low, high = float(values.min()), float(values.max())
    # An infinity needs no search for something beyond it.
    if math.isfinite(high):
        high = max(high, _supremum(f, inputs, outputs))
    if math.isfinite(low):
        low = min(low, -_supremum(lambda x: -f(x), inputs, -outputs))
    return low + 0.0, high + 0.0


def _supremum(f: Function, inputs: Array, outputs: Array) -> float:
    """Divide the cells around the largest output until it is exact, or climbs a pole."""
    if np.isnan(outputs).all():
        return -math.inf
    place = int(np.nanargmax(outputs))
    best, climbs = [float(outputs[place])], inputs
    for _ in range(_ROUNDS):
        low, high = climbs[max(place - 1, 0)], climbs[min(place + 1, climbs.size - 1)]
        climbs = np.linspace(low, high, _CELLS + 1)
        values = np.where(np.isnan(finer := f(climbs)), -math.inf, finer)
        place = int(np.argmax(values))
        best.append(max(best[-1], float(values[place])))
    if not math.isfinite(best[-1]):
        return best[-1]
    steps = np.diff(best)[-4:]
    # Toward an extreme or a jump the steps shrink with the cells; toward a pole they do not, be it
    # only that of a logarithm.
    endless = (steps[1:] >= 0.95 * steps[:-1]).all() and steps[-1] > 1e-6 * abs(best[-1])
    return math.inf if endless else best[-1]


def _asymptote(f: Function, limit: float | None, sign: float) -> float | None:
    return slope_at_infinity(f, sign) if limit is not None and math.isinf(limit) else None


def _monotony(outputs: Array, near: Array) -> Monotony:
    finite = np.isfinite(outputs)
    # Relative to the values, and to what the function is near zero, where its terms may be larger.
    sizes_near = np.abs(near[np.isfinite(near)])
    usual = float(np.quantile(sizes_near, _USUAL)) if sizes_near.size else 0.0
    with np.errstate(invalid="ignore"):
        rises = np.diff(outputs)
        sizes = np.maximum(np.abs(outputs[1:]), np.abs(outputs[:-1]))
    rises[outputs[1:] == outputs[:-1]] = 0.0
    sizes[~np.isfinite(sizes)] = 0.0
    noise = _ROUNDING * (sizes + usual)
    # With NaN among the outputs neither holds.
    never_falls, never_rises = bool((rises >= -noise).all()), bool((rises <= noise).all())
    if finite.all() and np.ptp(outputs) <= _ROUNDING * np.abs(outputs).max():
        return "constant"
    if never_falls and not never_rises:
        return "increasing"
    return "decreasing" if never_rises and not never_falls else "no"


def _slopes_at_zero(expression: Expression) -> tuple[float | None, float | None]:
    def slope(x: Array) -> Array:
        return np.asarray(derivative(expression, torch.from_numpy(x)).numpy())

    return limit_at_zero(slope, -1.0), limit_at_zero(slope, 1.0)


def _at_zero(
    value: float,
    limits: tuple[float | None, float | None],
    slopes: tuple[float | None, float | None],
) -> AtZero:
    below, above = limits
    if below is None or above is None:
        return "undefined"
    if math.isinf(below) or math.isinf(above):
        return "pole"
    if not _agree(below, above):
        return "jump"
    if not _agree(value, above):
        return "hole"
    left, right = slopes
    if left is None or right is None or not _agree(left, right):
        return "kink"
    return "smooth"


def _agree(a: float, b: float) -> bool:
    """Say whether two numbers are the same up to what a limit is exact to."""
    return math.isfinite(a) and math.isclose(a, b, rel_tol=1e-6, abs_tol=1e-9)


def _saturation(limits: tuple[float | None, float | None]) -> Saturation:
    left, right = (limit is not None and math.isfinite(limit) for limit in limits)
    if left and right:
        return "both"
    return "left" if left else "right" if right else "no"


def _text(number: float | None) -> str:
    if number is None:
        return "none"
    return "undefined" if math.isnan(number) else f"{number:.6g}"


def _span(bounds: tuple[float, float]) -> str:
    low, high = bounds
    if math.isnan(low):
        return _text(low)
    return f"{_text(low)} only" if low == high else f"{_text(low)} to {_text(high)}"


def _limit_text(limit: float | None, slope: float | None) -> str:
    return _text(limit) if slope is None else f"{_text(limit)}, slope {_text(slope)}"


def _share_text(share: float) -> str:
    if share == 1.0:
        return "everywhere"
    return f"not at {100 * (1 - share):.3g} % of the inputs" if share else "nowhere"
