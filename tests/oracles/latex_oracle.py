r"""The printed formulas, read back: slow, and written from how a person reads them.

Precedence: sums before products and quotients, both from left to right; then powers; a minus sign
at the left end belongs to the whole product behind it; a number stands directly before what it
multiplies. `e^{a} - 1` is read as a difference and `x^2` as a power, so `values` computes
`expm1`, `square` and their like in that way too: then the order of all operations is the same on
either side, and values agree bit for bit.
"""

import functools
import re
from collections.abc import Callable

import numpy as np
import scipy.special
from numpy.typing import NDArray

from aquasurf_optuna.expression import Expression

Values = NDArray[np.float64]

_TOKEN = re.compile(
    r"\s*(?P<token>[0-9]+(?:\.[0-9]+)?|\\text\{(?:[A-Za-z0-9]|\\_)+\}|\\left\||\\right\||\\[a-z]+"
    r"|\\[{}]|[-+/^{}()|,xe])"
)

NAMES = {
    r"\sigma": "sigmoid",
    r"\sinh": "sinh",
    r"\cosh": "cosh",
    r"\tanh": "tanh",
    r"\arctan": "arctan",
    r"\text{arcsinh}": "arcsinh",
    r"\text{erf}": "erf",
    r"\text{erfc}": "erfc",
    r"\text{bessel\_i0e}": "bessel_i0e",
    r"\text{bessel\_i1e}": "bessel_i1e",
    r"\text{ReLU}": "relu",
    r"\text{ELU}": "elu",
    r"\text{SELU}": "selu",
    r"\text{Swish}": "swish",
    r"\text{Softplus}": "softplus",
    r"\text{Softsign}": "softsign",
    r"\text{HardSigmoid}": "hard_sigmoid",
    r"\text{ELiSH}": "elish",
    r"\text{GELU}": "gelu",
    r"\text{LeakyReLU}": "leakyrelu",
    r"\text{Mish}": "mish",
}

AFTER_OPERAND = {"", "+", "-", "/", "^", "}", ")", ",", r"\}", r"\cdot", r"\right|"}


def read_latex(text: str) -> Expression:
    """Read a formula; ValueError if it is none."""
    reader = _Reader(text)
    result = reader.sum()
    if reader.next():
        raise ValueError(f"{reader.next()!r} follows in {text!r}")
    return result


class _Reader:
    def __init__(self, text: str) -> None:
        self.tokens: list[str] = []
        place, text = 0, text.rstrip()
        while place < len(text):
            match = _TOKEN.match(text, place)
            if match is None:
                raise ValueError(f"cannot read {text[place:]!r}")
            self.tokens.append(match["token"])
            place = match.end()
        self.after_operand = set(AFTER_OPERAND)

    def next(self) -> str:
        return self.tokens[0] if self.tokens else ""

    def take(self, *expected: str) -> str:
        if not self.tokens or (expected and self.next() not in expected):
            raise ValueError(f"found {self.next()!r}, not {expected}")
        return self.tokens.pop(0)

    def sum(self) -> Expression:
        if self.next() == "-":
            self.take()
            result = Expression("negative", (self.product(),))
        else:
            result = self.product()
        while self.next() in ("+", "-"):
            name = "add" if self.take() == "+" else "sub"
            result = Expression(name, (result, self.product()))
        return result

    def product(self) -> Expression:
        begins_with_number = self.next()[:1].isdigit()
        result = self.power()
        if begins_with_number and self.next() not in self.after_operand:
            if self.next()[0].isdigit():
                raise ValueError("two numbers side by side")
            result = Expression("mul", (result, self.power()))
        while self.next() in ("/", r"\cdot"):
            name = "div" if self.take() == "/" else "mul"
            result = Expression(name, (result, self.power()))
        return result

    def power(self) -> Expression:
        if self.next() == "e":
            self.take()
            self.take("^")
            result = Expression("exp", (self.group("{", "}"),))
        else:
            base = self.atom()
            if self.next() != "^":
                return base
            self.take()
            exponent = self.group("{", "}") if self.next() == "{" else Expression(self.take("2"))
            result = Expression("pow", (base, exponent))
        if self.next() == "^":
            raise ValueError("a power of a power without parentheses")
        return result

    def atom(self) -> Expression:
        token = self.next()
        if token[:1].isdigit():
            return self.number()
        if token == "x":
            return Expression(self.take())
        if token == "(":
            return self.group("(", ")")
        if token in ("|", r"\left|"):
            return self.bars()
        if token in (r"\max", r"\min"):
            return self.extremum()
        self.take()
        if token == r"\log":
            self.take("(")
            self.take(r"\sigma")
            result = Expression("log_sigmoid", (self.group("(", ")"),))
            self.take(")")
            return result
        if token not in NAMES:
            raise ValueError(f"{token!r} is nothing that can stand here")
        return Expression(NAMES[token], (self.group("(", ")"),))

    def number(self) -> Expression:
        digits = self.take()
        if self.next() != r"\times":
            return Expression.parse(digits)
        for token in (r"\times", "10", "^", "{"):
            self.take(token)
        sign = self.take() if self.next() == "-" else ""
        exponent = self.take()
        self.take("}")
        return Expression.parse(f"{digits}e{sign}{exponent}")

    def group(self, opening: str, closing: str) -> Expression:
        self.take(opening)
        result = self.sum()
        self.take(closing)
        return result

    def bars(self) -> Expression:
        # Between plain bars there are no others, so the next one closes; elsewhere it opens.
        before = self.after_operand
        self.after_operand = {*AFTER_OPERAND, *({"|"} if self.next() == "|" else ())}
        result = self.group(self.next(), self.next().replace("left", "right"))
        self.after_operand = before
        return Expression("abs", (result,))

    def extremum(self) -> Expression:
        name = self.take().removeprefix("\\")
        self.take(r"\{")
        arguments = [self.sum()]
        while self.next() == ",":
            self.take()
            arguments.append(self.sum())
        self.take(r"\}")
        return Expression(name if len(arguments) == 2 else f"{name}_n", tuple(arguments))


def _sigmoid(x: Values) -> Values:
    return np.asarray(scipy.special.expit(x))


def _softplus(x: Values) -> Values:
    return np.logaddexp(0.0, x)


def _elu(x: Values) -> Values:
    return np.where(x > 0, x, np.expm1(np.minimum(x, 0.0)))


def _power(x: Values, exponent: float) -> Values:
    # With an array for the exponent NumPy computes what it does for any other power.
    return np.power(x, np.full_like(x, exponent))


FUNCTIONS: dict[str, Callable[..., Values]] = {
    "zero": np.zeros_like,
    "one": np.ones_like,
    "identity": np.positive,
    "negative": np.negative,
    "abs": np.abs,
    "reciprocal": lambda x: _power(x, -1.0),
    "square": lambda x: _power(x, 2.0),
    "exp": np.exp,
    "expm1": lambda x: np.exp(x) - 1.0,
    "erf": scipy.special.erf,
    "erfc": scipy.special.erfc,
    "sinh": np.sinh,
    "cosh": np.cosh,
    "tanh": np.tanh,
    "sigmoid": _sigmoid,
    "log_sigmoid": lambda x: np.log(_sigmoid(x)),
    "arcsinh": np.arcsinh,
    "arctan": np.arctan,
    "bessel_i0e": scipy.special.i0e,
    "bessel_i1e": scipy.special.i1e,
    "relu": lambda x: np.maximum(x, 0.0),
    "elu": _elu,
    "selu": lambda x: 1.05 * np.where(x > 0, x, 1.67 * np.expm1(np.minimum(x, 0.0))),
    "swish": lambda x: x * _sigmoid(x),
    "softplus": _softplus,
    "softsign": lambda x: x / (1.0 + np.abs(x)),
    "hard_sigmoid": lambda x: np.clip(0.2 * x + 0.5, 0.0, 1.0),
    "elish": lambda x: np.where(x >= 0, x, np.expm1(np.minimum(x, 0.0))) * _sigmoid(x),
    "gelu": lambda x: 0.5 * x * (1.0 + scipy.special.erf(x / 1.41)),
    "leakyrelu": lambda x: np.where(x > 0, x, 0.01 * x),
    "mish": lambda x: x * np.tanh(_softplus(x)),
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "div": np.divide,
    "pow": np.power,
    "max": np.maximum,
    "min": np.minimum,
    "sum_n": lambda *a: functools.reduce(np.add, a),
    "prod_n": lambda *a: functools.reduce(np.multiply, a),
    "max_n": lambda *a: functools.reduce(np.maximum, a),
    "min_n": lambda *a: functools.reduce(np.minimum, a),
}


def values(expression: Expression, x: Values) -> Values:
    """Evaluate with the operations that the printed formula shows, in its order."""
    if expression.operator == "x":
        return x
    if not expression.children:
        return np.full_like(x, float(expression.operator))
    with np.errstate(all="ignore"):
        arguments = [values(child, x) for child in expression.children]
        return FUNCTIONS[expression.operator](*arguments)
