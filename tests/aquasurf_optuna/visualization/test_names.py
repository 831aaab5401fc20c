import math

import numpy as np
import pytest

from aquasurf_optuna.visualization._names import (
    escaped,
    number,
    spread,
    wrapped,
)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.79, "0.7900"),
        (12.345, "12.35"),
        (0.0, "0.000"),
        (-3.0, "-3.000"),
        (1234.5, "1234"),
        (1.5e9, "1.500e+09"),
        (2e-7, "2.000e-07"),
        (math.nan, "-"),
        (math.inf, "-"),
    ],
)
def test_numbers_have_four_digits(value: float, text: str) -> None:
    assert number(value) == text


def test_a_deviation_ends_at_the_decimal_of_its_mean() -> None:
    assert spread(0.7917, 0.0076381) == "0.7917 ± 0.0076"
    assert spread(12.345, 1.0) == "12.35 ± 1.00"
    assert spread(0.5, math.nan) == "0.5000"
    assert spread(1.5e9, 2.0e7) == "1.500e+09 ± 2.000e+07"


def test_wrapping_keeps_every_character_and_escapes() -> None:
    text = "div(bessel_i0e(hard_sigmoid(x)),leakyrelu(hard_sigmoid(x)))"
    lines = wrapped(text, width=26).split("<br>")
    assert "".join(lines) == text
    assert len(lines) > 1
    assert max(map(len, lines)) <= 26
    assert not any(line.startswith("x") for line in lines)
    assert wrapped("relu(x)") == "relu(x)"
    assert wrapped("<b>,&") == "&lt;b&gt;,&amp;"


def test_escaping() -> None:
    assert escaped("<script>'\"&") == "&lt;script&gt;&#x27;&quot;&amp;"
    assert escaped(np.float64(1.5)) == "1.5"
