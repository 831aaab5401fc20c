import math

import numpy as np
import pytest

from aquasurf_optuna.expression import BASELINES, Expression
from aquasurf_optuna.visualization._names import (
    display_name,
    escaped,
    names_of_equals,
    number,
    spread,
    wrapped,
)


def test_names_of_the_baselines() -> None:
    names = [display_name(each) for each in BASELINES]
    assert names == ["ELU", "ReLU", "SELU", "Sigmoid", "Softplus", "Softsign", "Swish", "Tanh"]
    assert display_name("relu(tanh(x))") == "relu(tanh(x))"
    assert display_name("erf(x)") == "erf(x)"
    assert display_name("x") == "x"


def test_equal_functions_are_named_whatever_their_graph() -> None:
    texts = [
        "max(identity(x),zero(x))",
        "mul(swish(x),one(x))",
        "elu(x)",
        "erf(x)",
        "div(x,zero(x))",
    ]
    parsed = [Expression.parse(text) for text in texts]
    found = names_of_equals([*parsed, None], BASELINES)
    assert found == ["ReLU", "Swish", "ELU", None, None, None]


def test_nearly_equal_functions_are_not_confused() -> None:
    # exp(x) - 1 agrees with expm1 to rounding; leakyrelu differs from relu by a hundredth.
    near, far = Expression.parse("sub(exp(x),one(x))"), Expression.parse("leakyrelu(x)")
    assert names_of_equals([near, far], ["expm1(x)", "relu(x)"]) == ["expm1(x)", None]


def test_nothing_to_name() -> None:
    assert names_of_equals([], BASELINES) == []
    assert names_of_equals([None], BASELINES) == [None]
    assert names_of_equals([Expression.parse("relu(x)")], []) == [None]


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
