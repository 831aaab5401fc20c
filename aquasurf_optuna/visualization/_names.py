"""How functions and numbers are written in figures and reports.

Text in a Plotly figure is read as a small dialect of HTML, so everything that comes from a user
passes `escaped` on its way into one.
"""

from __future__ import annotations

import html
import math
import re
from collections.abc import Iterable, Sequence

from aquasurf_optuna.activation import as_expression
from aquasurf_optuna.equality import linked
from aquasurf_optuna.expression import Expression
from aquasurf_optuna.features.outputs import output_features
from aquasurf_optuna.operators import LEAF

_X = Expression(LEAF)

_PROPER_NAMES = {
    "elish": "ELiSH",
    "elu": "ELU",
    "gelu": "GELU",
    "hard_sigmoid": "HardSigmoid",
    "leakyrelu": "Leaky ReLU",
    "mish": "Mish",
    "relu": "ReLU",
    "selu": "SELU",
    "sigmoid": "Sigmoid",
    "softplus": "Softplus",
    "softsign": "Softsign",
    "swish": "Swish",
    "tanh": "Tanh",
}


def display_name(expression: str | Expression) -> str:
    """Return the name by which the field knows a function, or its text if it has none."""
    parsed = as_expression(expression)
    if parsed.children == (_X,):
        return _PROPER_NAMES.get(parsed.operator, str(parsed))
    return str(parsed)


def names_of_equals(
    expressions: Sequence[Expression | None], known: Iterable[str | Expression]
) -> list[str | None]:
    """Name the functions that equal a known one on the 1,000 fixed inputs.

    The rule is the catalogue's, without evaluating the whole space that a catalogue is made of.

    Args:
        expressions: Functions; None stands for one that is not known.
        known: Functions to recognise.

    Returns:
        For each expression the display name of the first known function that it equals, or None.
    """
    references = [as_expression(each) for each in known]
    present = [expression for expression in expressions if expression is not None]
    if not references or not present:
        return [None] * len(expressions)
    targets = output_features(references)
    names: dict[Expression, str | None] = {}
    for expression, values in zip(present, output_features(present), strict=True):
        hits = (r for r, target in zip(references, targets, strict=True) if linked(values, target))
        hit = next(hits, None)
        names[expression] = None if hit is None else display_name(hit)
    return [None if each is None else names[each] for each in expressions]


def number(value: float) -> str:
    """Write a value with four significant digits, trailing zeros kept: 0.7900, 12.35, 1.5e+09."""
    if not math.isfinite(value):
        return "-"
    if value == 0 or 1e-3 <= abs(value) < 1e5:
        digits = 3 if value == 0 else max(0, 3 - math.floor(math.log10(abs(value))))
        return f"{value:.{digits}f}"
    return f"{value:.3e}"


def spread(mean: float, deviation: float) -> str:
    """Write a mean and its standard deviation (NaN for none) to the same decimal place."""
    if not (math.isfinite(mean) and math.isfinite(deviation)):
        return number(mean)
    text = number(mean)
    decimals = len(text.partition(".")[2])
    return f"{text} ± {number(deviation) if 'e' in text else f'{deviation:.{decimals}f}'}"


def escaped(text: object) -> str:
    """Make text safe for HTML and for the text of a Plotly figure."""
    return html.escape(str(text), quote=True)


def wrapped(text: str, width: int = 26) -> str:
    """Escape a function's text and break it after commas and parentheses, as Plotly breaks lines.

    Args:
        text: Any text.
        width: A line grows up to this many characters where a break is possible.
    """
    # Not before the bare input: "x)" on a line of its own helps nobody.
    pieces = re.split(r"(?<=,)|(?<=\()(?!x)", text)
    lines = [""]
    for piece in pieces:
        if lines[-1] and len(lines[-1]) + len(piece) > width:
            lines.append("")
        lines[-1] += piece
    return "<br>".join(escaped(line) for line in lines)
