"""Printed formulas: as in the paper, and readable in one way only."""

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aquasurf_optuna import operators
from aquasurf_optuna.expression import Expression
from aquasurf_optuna.operators import OPERATORS, register_operator
from tests.oracles.latex_oracle import FUNCTIONS, NAMES, read_latex, values
from tests.strategies import X, constants, expressions

POINTS = np.array([-3.7, -1.0, -0.3, 0.0, 0.4, 1.0, 2.6])


def same(a: Expression, b: Expression) -> bool:
    return np.array_equal(values(a, POINTS), values(b, POINTS), equal_nan=True)


def reads_as(latex: str, text: str) -> bool:
    try:
        return same(read_latex(latex), Expression.parse(text))
    except ValueError:
        return False


@pytest.mark.parametrize(
    ("text", "latex"),
    [
        # Tables 1 and 2.
        (
            "mul(hard_sigmoid(hard_sigmoid(x)),elu(x))",
            r"\text{HardSigmoid}(\text{HardSigmoid}(x)) \cdot \text{ELU}(x)",
        ),
        ("mul(sigmoid(softsign(x)),elu(x))", r"\sigma(\text{Softsign}(x)) \cdot \text{ELU}(x)"),
        ("div(swish(x),selu(one(x)))", r"\text{Swish}(x)/\text{SELU}(1)"),
        ("swish(mul(-2,x))", r"\text{Swish}(-2x)"),
        ("selu(sinh(expm1(arctan(x))))", r"\text{SELU}(\sinh(e^{\arctan(x)} - 1))"),
        ("mul(identity(x),erfc(elu(x)))", r"x \cdot \text{erfc}(\text{ELU}(x))"),
        (
            "prod_n(negative(x),sigmoid(x),hard_sigmoid(x))",
            r"-x \cdot \sigma(x) \cdot \text{HardSigmoid}(x)",
        ),
        ("elu(swish(negative(x)))", r"\text{ELU}(\text{Swish}(-x))"),
        (
            "mul(swish(x),erfc(bessel_i0e(x)))",
            r"\text{Swish}(x) \cdot \text{erfc}(\text{bessel\_i0e}(x))",
        ),
        # Table 3.
        ("square(erfc(softplus(x)))", r"\text{erfc}(\text{Softplus}(x))^2"),
        ("min(square(softplus(x)),negative(x))", r"\min\{\text{Softplus}(x)^2, -x\}"),
        ("arcsinh(elu(swish(x)))", r"\text{arcsinh}(\text{ELU}(\text{Swish}(x)))"),
        # Table 4.
        ("zero(x)", "0"),
        ("one(x)", "1"),
        ("x", "x"),
        ("negative(x)", "-x"),
        ("abs(x)", "|x|"),
        ("reciprocal(x)", "x^{-1}"),
        ("square(x)", "x^2"),
        ("exp(x)", "e^{x}"),
        ("expm1(x)", "e^{x} - 1"),
        ("sigmoid(x)", r"\sigma(x)"),
        ("log_sigmoid(x)", r"\log(\sigma(x))"),
        ("max(x,zero(x))", r"\max\{x, 0\}"),
        ("pow(x,exp(x))", "x^{e^{x}}"),
    ],
)
def test_formulas_are_printed_as_in_the_paper(text: str, latex: str) -> None:
    assert Expression.parse(text).latex() == latex
    assert reads_as(latex, text)


@pytest.mark.parametrize(
    ("text", "latex"),
    [
        ("add(add(x,1),x)", "x + 1 + x"),
        ("add(x,add(1,x))", "x + (1 + x)"),
        ("sub(x,sub(1,x))", "x - (1 - x)"),
        ("sum_n(x,abs(x),square(x))", "x + |x| + x^2"),
        ("mul(add(x,1),x)", r"(x + 1) \cdot x"),
        ("mul(2,add(x,1))", "2(x + 1)"),
        ("mul(mul(x,x),x)", r"x \cdot x \cdot x"),
        ("mul(x,mul(x,x))", r"x \cdot (x \cdot x)"),
        ("div(mul(x,2),x)", r"x \cdot 2/x"),
        ("mul(div(x,2),x)", r"(x/2) \cdot x"),
        ("div(x,mul(2,x))", "x/(2x)"),
        ("div(x,div(2,x))", "x/(2/x)"),
        ("add(x,div(x,2))", "x + x/2"),
        ("negative(div(x,2))", "-x/2"),
        ("negative(add(x,1))", "-(x + 1)"),
        ("negative(negative(x))", "-(-x)"),
        ("negative(-2)", "-(-2)"),
        ("add(x,-2)", "x + (-2)"),
        ("sub(x,mul(-2,x))", "x - (-2x)"),
        ("mul(x,negative(x))", r"x \cdot (-x)"),
        ("mul(2,negative(x))", "2(-x)"),
        ("mul(2,3)", r"2 \cdot 3"),
        ("mul(2,one(x))", r"2 \cdot 1"),
        ("mul(2,identity(3))", r"2 \cdot 3"),
        ("mul(2,mul(3,x))", "2(3x)"),
        ("mul(2,pow(3,x))", r"2 \cdot 3^{x}"),
        ("mul(2,square(x))", "2x^2"),
        ("mul(0.5,exp(x))", "0.5e^{x}"),
        ("mul(one(x),x)", r"1 \cdot x"),
        ("prod_n(2,x,x)", r"2x \cdot x"),
        ("square(negative(x))", "(-x)^2"),
        ("negative(square(x))", "-x^2"),
        ("pow(-2,x)", "(-2)^{x}"),
        ("square(square(x))", "(x^2)^2"),
        ("square(mul(2,x))", "(2x)^2"),
        ("square(expm1(x))", "(e^{x} - 1)^2"),
        ("pow(x,-0.5)", "x^{-0.5}"),
        ("identity(add(x,1))", "x + 1"),
        ("mul(identity(add(x,1)),x)", r"(x + 1) \cdot x"),
        ("abs(add(x,-1))", "|x + (-1)|"),
        ("abs(abs(x))", r"\left||x|\right|"),
        ("max_n(x,-1,add(x,1))", r"\max\{x, -1, x + 1\}"),
        ("1.5e-10", r"1.5 \times 10^{-10}"),
        ("mul(-1e20,x)", r"-1 \times 10^{20} \cdot x"),
        ("pow(1e20,x)", r"(1 \times 10^{20})^{x}"),
    ],
)
def test_parentheses_are_where_precedence_needs_them(text: str, latex: str) -> None:
    assert Expression.parse(text).latex() == latex
    assert reads_as(latex, text)


@settings(deadline=None)
@given(expressions(max_leaves=8))
def test_formulas_are_read_in_one_way(expression: Expression) -> None:
    assert same(read_latex(expression.latex()), expression)


@given(constants(), st.sampled_from(sorted(OPERATORS)))
def test_every_number_is_read_back(number: Expression, name: str) -> None:
    arity = OPERATORS[name].arity
    expression = Expression(name, (number,) * arity if arity > 0 else (number, X, number))
    assert same(read_latex(expression.latex()), expression)


@pytest.mark.parametrize(
    "text",
    [
        "mul(add(x,1),x)",
        "mul(x,add(x,1))",
        "mul(2,add(x,1))",
        "square(add(x,1))",
        "square(mul(2,x))",
        "square(negative(x))",
        "div(x,mul(2,x))",
        "div(1,add(x,1))",
        "negative(add(x,1))",
        "sub(x,add(x,1))",
        "add(x,negative(x))",
        "mul(x,negative(x))",
        "square(square(x))",
        "abs(sub(abs(x),1))",
    ],
)
def test_the_reader_notices_a_missing_parenthesis(text: str) -> None:
    latex = Expression.parse(text).latex()
    bare = (
        re.sub(r"(?<![a-z}])\(([^()]*)\)", r"\1", latex)
        .replace(r"\left|", "")
        .replace(r"\right|", "")
    )
    assert bare != latex
    assert reads_as(latex, text)
    assert not reads_as(bare, text)


def test_the_reader_knows_every_operator() -> None:
    assert set(FUNCTIONS) == set(OPERATORS)
    assert set(NAMES.values()) < set(OPERATORS)


def test_an_own_pattern_is_an_atom_without_parentheses_of_its_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(operators, "_known", dict(operators._known))
    monkeypatch.setattr("aquasurf_optuna.expression.OPERATORS", operators._known)
    register_operator("log1p_abs", lambda x: x.abs().log1p(), latex=r"\ln(1 + |{0}|)")
    register_operator("gap", lambda a, b: a - b, latex=r"\Delta_{{{0}}}^{{{1}}}", arity=2)
    register_operator("turned", lambda x: -x, latex="-{0}")
    for text, latex in (
        ("square(log1p_abs(add(x,1)))", r"\ln(1 + |x + 1|)^2"),
        ("mul(2,gap(x,negative(x)))", r"2\Delta_{x}^{-x}"),
        ("turned(add(x,1))", "-x + 1"),
        ("mul(x,turned(x))", r"x \cdot (-x)"),
    ):
        expression = Expression.parse(text)
        assert expression.latex() == latex
