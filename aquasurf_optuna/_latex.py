r"""Formulas in LaTeX as the paper prints them, with parentheses only where precedence needs them.

A formula is made from the formulas of its arguments and how tightly these hold together. Sums,
products and quotients are read from left to right, so the first argument may be as loose as the
result, and the others must be tighter. One that begins with a minus sign stands at the left end of
its surroundings, or between delimiters: `-x \\cdot y`, but `y \\cdot (-x)`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from aquasurf_optuna._parser import constant_value
from aquasurf_optuna.operators import TIMES, Level, Operator

_LOOKS_LIKE_A_NUMBER = tuple("0123456789.")


class Formula(NamedTuple):
    """A piece of LaTeX.

    Attributes:
        text: The LaTeX, without dollar signs.
        level: How tightly it holds together.
        is_number: Whether it is a number written in digits.
    """

    text: str
    level: Level
    is_number: bool = False


def formula_of_leaf(name: str) -> Formula:
    """Print `x` or a number."""
    if constant_value(name) is None:
        return Formula(name, Level.ATOM)
    mantissa, _, exponent = name.partition("e")
    if exponent:
        return Formula(rf"{mantissa} \times 10^{{{int(exponent)}}}", Level.PRODUCT)
    return Formula(name, Level.PRODUCT if name.startswith("-") else Level.ATOM, is_number=True)


def formula_of_call(operator: Operator, arguments: Sequence[Formula]) -> Formula:
    """Print an operator applied to arguments."""
    opens = operator.latex.startswith(("{0}", "{args}"))
    binding = operator.binding
    level, texts = binding.level, []
    for place, argument in enumerate(arguments):
        least = binding.others if place else binding.first
        is_leftmost = opens and place == 0
        if least == Level.ENCLOSED:
            texts.append(argument.text)
        elif argument.level < least or (argument.text.startswith("-") and not is_leftmost):
            texts.append(f"({argument.text})")
        else:
            texts.append(argument.text)
            level = min(level, argument.level)
    return Formula(_filled(operator, texts, is_number=arguments[0].is_number), level)


def _filled(operator: Operator, texts: list[str], *, is_number: bool) -> str:
    if operator.separator == TIMES and is_number and not texts[1].startswith(_LOOKS_LIKE_A_NUMBER):
        texts = [texts[0] + texts[1], *texts[2:]]
    text = operator.latex.format(*texts, args=operator.separator.join(texts))
    if operator.latex == "|{0}|" and "|" in texts[0]:
        # Which of two equal bars opens and which closes is not to be guessed.
        return rf"\left|{texts[0]}\right|"
    return text
