"""Simplifying never changes a function, and makes it simpler."""

import importlib
import itertools
import math
import re
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from hypothesis import given, settings

from aquasurf_optuna._identities import IDENTITIES
from aquasurf_optuna.equality import linked
from aquasurf_optuna.exceptions import ExpressionError
from aquasurf_optuna.expression import Expression
from aquasurf_optuna.features.outputs import output_features
from aquasurf_optuna.operators import register_operator
from aquasurf_optuna.simplify import simplify
from aquasurf_optuna.space import SearchSpace
from tests.strategies import constants, expressions

# The package exports the function under the name of its module.
MODULE = importlib.import_module("aquasurf_optuna.simplify")


def simplified(text: str) -> str:
    return str(simplify(Expression.parse(text)))


def size(expression: Expression) -> tuple[int, int]:
    return expression.node_count, sum(node.is_leaf for node in expression.walk())


def on_wide_grid(expression: Expression) -> np.ndarray:
    # Written apart from the routine's own grid, and finer.
    positive = [10 ** (-3 + 4.69897 * k / 299) for k in range(300)]
    x = torch.tensor([*(-p for p in positive), 0.0, *positive], dtype=torch.float64)
    return expression(x).numpy()


def same_function(first: Expression, second: Expression) -> bool:
    return linked(*output_features([first, second])) and linked(
        on_wide_grid(first), on_wide_grid(second)
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("swish(sub(negative(x),identity(x)))", "swish(mul(-2,x))"),
        ("div(swish(x),selu(one(x)))", "div(swish(x),1.0507009873554805)"),
        ("mul(x,one(x))", "x"),
        ("max(x,zero(x))", "relu(x)"),
        ("identity(identity(tanh(x)))", "tanh(x)"),
        ("add(zero(exp(x)),tanh(x))", "tanh(x)"),
        ("sub(erf(x),zero(x))", "erf(x)"),
        ("sub(0,erf(x))", "negative(erf(x))"),
        ("div(erf(x),1)", "erf(x)"),
        ("div(one(x),cosh(x))", "reciprocal(cosh(x))"),
        ("pow(erf(x),one(x))", "erf(x)"),
        ("pow(x,2)", "square(x)"),
        ("pow(x,-1)", "reciprocal(x)"),
        ("pow(x,0)", "1"),
        ("negative(negative(x))", "x"),
        ("sub(x,negative(tanh(x)))", "add(x,tanh(x))"),
        ("add(negative(tanh(x)),x)", "sub(x,tanh(x))"),
        ("max(tanh(x),tanh(x))", "tanh(x)"),
        ("add(tanh(x),tanh(x))", "mul(2,tanh(x))"),
        ("sub(x,x)", "0"),
        ("sub(negative(x),x)", "mul(-2,x)"),
        ("abs(abs(negative(x)))", "abs(x)"),
        ("square(negative(abs(x)))", "square(x)"),
        ("abs(softplus(x))", "softplus(x)"),
        ("abs(mul(x,tanh(x)))", "abs(mul(x,tanh(x)))"),
        ("mul(sigmoid(x),x)", "swish(x)"),
        ("negative(mul(3,x))", "mul(-3,x)"),
        ("mul(4,mul(x,0.25))", "x"),
        ("mul(x,0.5)", "mul(0.5,x)"),
        ("add(add(x,1.5),2)", "add(3.5,x)"),
        ("sub(sub(1,x),0.5)", "sub(0.5,x)"),
        ("selu(one(x))", "1.0507009873554805"),
        ("mul(tanh(x),tanh(x))", "square(tanh(x))"),
        ("reciprocal(reciprocal(cosh(x)))", "cosh(x)"),
        ("reciprocal(reciprocal(x))", "x"),
        ("sub(1,erf(softsign(x)))", "erfc(softsign(x))"),
        ("sub(1,erfc(x))", "erf(x)"),
        ("relu(relu(x))", "relu(x)"),
        ("relu(negative(square(x)))", "0"),
        ("exp(log_sigmoid(x))", "sigmoid(x)"),
        ("negative(softplus(negative(x)))", "log_sigmoid(x)"),
        ("negative(log_sigmoid(negative(x)))", "softplus(x)"),
        ("add(exp(negative(x)),exp(x))", "mul(2,cosh(x))"),
        ("add(-1,exp(x))", "expm1(x)"),
        ("cosh(negative(x))", "cosh(x)"),
        ("negative(arctan(negative(x)))", "arctan(x)"),
        ("max(mul(x,0.01),x)", "leakyrelu(x)"),
        ("div(x,add(abs(x),1))", "softsign(x)"),
        ("div(cosh(x),cosh(x))", "1"),
        ("sum_n(x,tanh(x))", "add(x,tanh(x))"),
        ("sum_n(x,0,tanh(x),0.5,0.25)", "sum_n(0.75,x,tanh(x))"),
        ("prod_n(2,x,0.5)", "x"),
        ("prod_n(x,erf(x),sigmoid(x))", "mul(swish(x),erf(x))"),
        ("max_n(x,max(0,relu(x)),x)", "relu(x)"),
        ("max(-1,exp(x))", "exp(x)"),
        ("min(-1,exp(x))", "-1"),
        ("min_n(x,x,x)", "x"),
        ("sum_n(tanh(x),sum_n(x,erf(x),2),sinh(x))", "sum_n(2,tanh(x),x,erf(x),sinh(x))"),
        ("sum_n(x,x,x)", "mul(3,x)"),
        ("prod_n(x,x,x)", "pow(x,3)"),
    ],
)
def test_simplest_forms(text: str, expected: str) -> None:
    assert simplified(text) == expected
    assert same_function(Expression.parse(text), Expression.parse(expected))


@pytest.mark.parametrize(
    "text",
    [
        "div(x,x)",  # 0 / 0
        "sub(1,erf(x))",  # 0 from x = 6 on, erfc is not
        "add(cosh(x),sinh(x))",  # digits cancel
        "pow(square(x),0.5)",  # is |x|, pow(x, 1) is not
        "reciprocal(0)",  # no number
        "mul(0,div(tanh(x),x))",  # 0 times NaN
        "sub(exp(exp(x)),exp(exp(x)))",  # infinity less infinity
    ],
)
def test_what_is_no_identity_everywhere_stays(text: str) -> None:
    assert simplified(text) == text


def test_parts_without_x_are_computed_in_double_precision() -> None:
    value = simplify(Expression.parse("erfc(softplus(one(exp(x))))")).value
    x = torch.ones(1, dtype=torch.float64)
    assert value == Expression.parse("erfc(softplus(x))")(x).item()
    value = simplify(Expression.parse("tanh(add(0.5,erf(zero(x))))")).value
    assert value == pytest.approx(math.tanh(0.5), rel=1e-15)


@given(expressions(max_leaves=8))
@settings(deadline=None, max_examples=150)
def test_random_functions_stay_the_same_and_grow_no_larger(expression: Expression) -> None:
    result = simplify(expression)
    assert same_function(expression, result)
    assert size(result) <= size(expression)
    assert simplify(result) == result


@given(expressions(max_leaves=5, numbers=constants()))
@settings(deadline=None, max_examples=60)
def test_extreme_numbers_do_no_harm(expression: Expression) -> None:
    result = simplify(expression)
    assert same_function(expression, result)
    assert size(result) <= size(expression)
    assert simplify(result) == result


def test_the_comparison_of_functions_can_fail() -> None:
    relu = Expression.parse("relu(x)")
    assert not same_function(relu, Expression.parse("elu(x)"))
    # Only far out do these two differ.
    far = Expression.parse("max(relu(x),sub(mul(2,x),45))")
    assert linked(*output_features([relu, far]))
    assert not same_function(relu, far)


def tokens_of(text: str) -> list[str]:
    return re.findall(r"[-.\w]+|[(),]", text)


def instances(text: str) -> Iterator[Expression]:
    """Put subexpressions for the letters of one side of an identity."""
    numbers = [("0.5", "3"), ("-2", "0.25")]
    whatever = [("x", "tanh(x)", "softsign(x)"), ("softsign(x)", "cosh(x)", "x")]
    whatever += [("erf(x)", "sigmoid(x)", "arctan(x)"), ("cosh(x)", "tanh(x)", "sigmoid(x)")]
    positive = [("sigmoid(x)", "square(x)"), ("cosh(x)", "abs(x)")]
    for (c, d), (f, g, h), (p, q) in itertools.product(numbers, whatever, positive):
        letters = {"m": "-0.5", "c": c, "d": d, "f": f, "g": g, "h": h, "p": p, "q": q}
        yield Expression.parse("".join(letters.get(each, each) for each in tokens_of(text)))


def depths_of_letters(text: str) -> dict[str, int]:
    """How many operators there are around each letter that is no number, at most."""
    depths: dict[str, int] = {}
    depth = 0
    for token in tokens_of(text):
        depth += {"(": 1, ")": -1}.get(token, 0)
        if token in set("fghpq"):
            depths[token] = max(depth, depths.get(token, 0))
    return depths


@pytest.mark.parametrize(("left", "right"), IDENTITIES)
def test_no_identity_makes_functions_deeper(left: str, right: str) -> None:
    # Otherwise a step could pass the limit of depth.
    before, after = depths_of_letters(left), depths_of_letters(right)
    assert all(depth <= before[letter] for letter, depth in after.items())


@pytest.mark.parametrize(("left", "right"), IDENTITIES)
def test_every_identity_holds_and_makes_functions_simpler(left: str, right: str) -> None:
    holds = 0
    for before, after in zip(instances(left), instances(right), strict=True):
        after = simplify(after)
        result = simplify(before)
        assert same_function(before, result)
        if same_function(before, after):
            holds += 1
            assert size(result) <= size(after)
    assert holds


@pytest.mark.parametrize(
    "wrong",
    [
        ("tanh(f)", "f"),
        ("elu(f)", "f"),  # on one side
        ("hard_sigmoid(f)", "add(0.5,mul(0.2,f))"),  # near 0
        ("erf(mul(0.1,f))", "tanh(f)"),
        ("negative(relu(negative(f)))", "mul(1.00001,f)"),  # by little
        ("exp(exp(f))", "exp(f)"),
    ],
)
def test_a_false_identity_is_caught(
    monkeypatch: pytest.MonkeyPatch, wrong: tuple[str, str]
) -> None:
    text = "".join("x" if token == "f" else token for token in tokens_of(wrong[0]))
    for outer in ("{}", "add(cosh(x),{})"):
        expression = Expression.parse(outer.format(text))
        before = simplify(expression)
        with monkeypatch.context() as patch:
            patch.setattr(MODULE, "IDENTITIES", (wrong, *IDENTITIES))
            assert simplify(expression) == before


def test_without_the_checks_a_false_identity_would_be_taken(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    expression = Expression.parse("elu(add(x,zero(x)))")
    monkeypatch.setattr(MODULE, "IDENTITIES", (("elu(f)", "f"), *IDENTITIES))
    assert str(simplify(expression)) == "elu(x)"
    monkeypatch.setattr(MODULE, "_agree", lambda a, b: True)
    # The last of the checks is of the whole; where it fails, nothing is changed.
    assert simplify(expression) == expression
    monkeypatch.setattr(MODULE, "linked", lambda a, b: True)
    assert str(simplify(expression)) == "x"


def test_three_node_space() -> None:
    space = SearchSpace.three_node()
    simpler = 0
    for index in range(0, len(space), 3):
        expression = space[index]
        result = simplify(expression)
        assert size(result) <= size(expression)
        simpler += size(result) < size(expression)
    # 1,071 of the 5,103 graphs hold zero, one or identity; of others two halves are alike.
    assert 400 <= simpler <= 600


@pytest.mark.usefixtures("forgotten_operators")
def test_own_operators_take_part() -> None:
    register_operator("sine_to_simplify", torch.sin)
    assert simplified("mul(sine_to_simplify(x),one(x))") == "sine_to_simplify(x)"
    assert simplify(Expression.parse("sine_to_simplify(0.5)")).value == pytest.approx(
        0.479425538604
    )


def test_large_expressions_come_to_an_end() -> None:
    terms = ",".join(f"mul({k},tanh(x))" for k in range(60))
    deep = "identity(" * 60 + "x" + ")" * 60
    assert simplified(deep) == "x"
    result = simplify(Expression.parse(f"sum_n({terms})"))
    assert same_function(Expression.parse(f"sum_n({terms})"), result)
    assert size(result) < size(Expression.parse(f"sum_n({terms})"))


@pytest.mark.parametrize("value", ["relu(x)", None, 1.0])
def test_other_than_expressions_are_refused(value: object) -> None:
    with pytest.raises(
        ExpressionError, match=r"got \w+ .*an Expression; Expression.parse makes one"
    ):
        simplify(value)  # type: ignore[arg-type]
