"""How functions and numbers are written in figures and reports.

Text in a Plotly figure is read as a small dialect of HTML, so everything that comes from a user
passes `escaped` on its way into one.
"""

from __future__ import annotations

import html
import math
import re


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
