"""Operators one number at a time, by SciPy and the standard library: slow, and written from the
definitions rather than from torch."""

import math
from collections.abc import Callable

import scipy.special

from aquasurf_optuna.expression import Expression


def _selu(x: float) -> float:
    alpha, scale = 1.6732632423543772848170429916717, 1.0507009873554804934193349852946
    return scale * (x if x > 0 else alpha * math.expm1(x))


def _logistic(x: float) -> float:
    return float(scipy.special.expit(x))


def _softplus(x: float) -> float:
    return max(x, 0.0) + math.log1p(math.exp(-abs(x)))


SCALAR: dict[str, Callable[..., float]] = {
    "zero": lambda x: 0.0,
    "one": lambda x: 1.0,
    "identity": lambda x: x,
    "negative": lambda x: -x,
    "abs": abs,
    "reciprocal": lambda x: 1 / x,
    "square": lambda x: x * x,
    "exp": math.exp,
    "erf": math.erf,
    "erfc": math.erfc,
    "sinh": math.sinh,
    "cosh": math.cosh,
    "tanh": math.tanh,
    "expm1": math.expm1,
    "sigmoid": _logistic,
    "log_sigmoid": lambda x: -_softplus(-x),
    "arcsinh": math.asinh,
    "arctan": math.atan,
    "bessel_i0e": lambda x: float(scipy.special.i0e(x)),
    "bessel_i1e": lambda x: float(scipy.special.i1e(x)),
    "relu": lambda x: max(x, 0.0),
    "elu": lambda x: x if x > 0 else math.expm1(x),
    "selu": _selu,
    "swish": lambda x: x * _logistic(x),
    "softplus": _softplus,
    "softsign": lambda x: x / (1 + abs(x)),
    "hard_sigmoid": lambda x: min(max(0.2 * x + 0.5, 0.0), 1.0),
    "elish": lambda x: (x if x >= 0 else math.expm1(x)) * _logistic(x),
    "gelu": lambda x: 0.5 * x * (1 + math.erf(x / math.sqrt(2))),
    "leakyrelu": lambda x: x if x > 0 else 0.01 * x,
    "mish": lambda x: x * math.tanh(_softplus(x)),
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "mul": lambda a, b: a * b,
    "div": lambda a, b: a / b,
    "pow": math.pow,
    "max": max,
    "min": min,
    "sum_n": lambda *a: math.fsum(a),
    "prod_n": lambda *a: math.prod(a),
    "max_n": max,
    "min_n": min,
}


def evaluate(expression: Expression, x: float) -> float:
    """The function at one point, by plain recursion over the tree."""
    if not expression.children:
        return x if expression.operator == "x" else float(expression.operator)
    arguments = [evaluate(child, x) for child in expression.children]
    return SCALAR[expression.operator](*arguments)


def numerical_derivative(function: Callable[[float], float], x: float, step: float) -> float:
    """Central finite difference."""
    return (function(x + step) - function(x - step)) / (2 * step)
