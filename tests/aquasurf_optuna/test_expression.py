import copy
import math
import pickle
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from aquasurf_optuna.exceptions import AquaSurfError, ExpressionError
from aquasurf_optuna.expression import BASELINES, Expression, program_of
from tests.oracles.operator_oracles import evaluate
from tests.strategies import X, constants, expressions

PUBLISHED = [
    "mul(hard_sigmoid(hard_sigmoid(x)),elu(x))",
    "mul(sigmoid(softsign(x)),elu(x))",
    "div(swish(x),selu(one(x)))",
    "selu(sinh(expm1(arctan(x))))",
    "prod_n(negative(x),sigmoid(x),hard_sigmoid(x))",
    "mul(swish(x),erfc(bessel_i0e(x)))",
    "square(erfc(softplus(x)))",
    "min(square(softplus(x)),negative(x))",
    "swish(mul(-2,x))",
    "x",
]


@pytest.mark.parametrize("text", PUBLISHED)
def test_text_comes_back(text: str) -> None:
    assert str(Expression.parse(text)) == text


@given(expressions(numbers=constants()))
def test_random_trees_come_back(expression: Expression) -> None:
    again = Expression.parse(str(expression))
    assert again == expression
    assert hash(again) == hash(expression)
    assert (again.depth, again.node_count) == (expression.depth, expression.node_count)


@given(expressions(), expressions())
def test_equality_is_that_of_the_text(a: Expression, b: Expression) -> None:
    assert (a == b) == (str(a) == str(b))


def test_spaces_are_allowed() -> None:
    assert str(Expression.parse("  max ( relu( x ),\n\tx ) ")) == "max(relu(x),x)"


def test_depth_and_node_count() -> None:
    expression = Expression.parse("max(relu(x),cosh(elu(x)))")
    assert (expression.depth, expression.node_count) == (3, 4)
    assert (X.depth, X.node_count) == (0, 0)
    assert [str(part) for part in expression.walk()] == [
        "max(relu(x),cosh(elu(x)))",
        "relu(x)",
        "x",
        "cosh(elu(x))",
        "elu(x)",
        "x",
    ]


@pytest.mark.parametrize(
    ("text", "position", "message"),
    [
        ("", 0, "the text is empty .*a function such as"),
        ("   ", 3, "the text is empty"),
        ("rellu(x)", 0, "unknown operator 'rellu' .*did you mean relu"),
        ("Max(x,x)", 0, "unknown operator 'Max' .*did you mean max"),
        ("max(x)", 5, "max got 1 argument .*max takes two arguments"),
        ("relu(x,x)", 6, "relu got more than one argument"),
        ("sum_n(x)", 7, "sum_n got 1 argument .*two or more"),
        ("relu()", 5, r"found '\)'"),
        ("relu(x", 6, "unbalanced parenthesis"),
        ("relu(", 5, "the text ends"),
        ("relu(x))", 7, r"found '\)' after the end"),
        ("relu(x)x", 7, "found 'x' after the end"),
        ("relu x", 5, r"relu is not followed by '\('"),
        ("max(relu(x);x)", 11, "found ';' .*',' or"),
        ("x(x)", 1, "after the end"),
        ("relu(é)", 5, "ASCII"),
        ("__import__('os')", 0, "unknown operator '__import__'"),
        ("relu(-x)", 5, "found '-' .*a function such as relu.x., x, or a number such as 0.5"),
        ("mul(+1,x)", 4, r"found '\+'"),
        ("mul(1,x)2", 8, "found '2' after the end"),
        ("2x", 1, "found 'x' after the end"),
        ("mul(0.5.1,x)", 7, "found '.'"),
        ("mul(1_000,x)", 5, "found '_'"),
        ("add(1e999,x)", 4, "1e999 is not a finite number .*numbers are finite"),
        ("add(x,-inf)", 6, "-inf is not a finite number"),
        ("add( NaN,x)", 5, "NaN is not a finite number"),
        ("infinity", 0, "infinity is not a finite number"),
        ("0.5(x)", 3, "after the end"),
        ("rellu(x)", 0, "known are x, numbers, zero, one"),
    ],
)
def test_bad_text_is_refused(text: str, position: int, message: str) -> None:
    with pytest.raises(ExpressionError, match=message) as caught:
        Expression.parse(text)
    assert caught.value.position == position
    assert caught.value.text == text
    assert repr(text) in str(caught.value)
    assert isinstance(caught.value, (AquaSurfError, ValueError))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("(" * 10_000_000, r"found '\('"),
        ("relu(" * 2_000_000, "too deep .*at most 64"),
        ("sum_n(" + "x," * 5_000_000, "too large .*at most 4096"),
        ("a" * 10_000_000, "unknown operator 'aaa"),
        (" " * 10_000_000, "empty"),
        ("x" + " " * 10_000_000 + ")", "after the end"),
        ("9" * 10_000_000, "9999... is not a finite number"),
    ],
    ids=["parentheses", "calls", "arguments", "name", "spaces", "tail", "digits"],
)
def test_ten_megabytes_end_in_a_short_error(text: str, message: str) -> None:
    with pytest.raises(ExpressionError, match=message) as caught:
        Expression.parse(text)
    assert len(str(caught.value)) < 1000


def test_the_depth_limit_is_exact() -> None:
    deepest = Expression.parse("relu(" * 64 + "x" + ")" * 64)
    assert deepest.depth == 64
    with pytest.raises(ExpressionError, match="too deep"):
        Expression.parse("relu(" * 65 + "x" + ")" * 65)
    with pytest.raises(ExpressionError, match="too deep"):
        Expression("relu", (deepest,))


def test_a_tree_that_doubles_is_stopped() -> None:
    tree = X
    with pytest.raises(ExpressionError, match="too large"):
        for _ in range(30):
            tree = Expression("add", (tree, tree))


@pytest.mark.parametrize(
    ("operator", "children", "message"),
    [
        ("relu", (), "relu got 0 arguments"),
        ("x", (X,), "x got arguments"),
        ("nothing", (X,), "unknown operator"),
        ("0.5", (X,), "0.5 got arguments .*write 0.5 alone"),
        ("0.50", (), "0.50 is not how a number is written here .*Expression.constant"),
        ("1e999", (), "not how a number is written"),
        (0.5, (), "got float .*Expression.constant"),
    ],
)
def test_trees_built_by_hand_are_checked(
    operator: str, children: tuple[Expression, ...], message: str
) -> None:
    with pytest.raises(ExpressionError, match=message):
        Expression(operator, children)


@pytest.mark.parametrize("thing", [None, 3, b"relu(x)", X])
def test_what_is_not_text_is_refused(thing: object) -> None:
    with pytest.raises(ExpressionError, match=r"pass a str such as 'relu\(x\)'"):
        Expression.parse(thing)  # type: ignore[arg-type] # the wrong type is the test


@given(st.text(max_size=40))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        assert Expression.parse(text).depth >= 0
    except ExpressionError as error:
        assert 0 <= error.position <= len(text)


def test_errors_survive_pickling() -> None:
    with pytest.raises(ExpressionError, match="empty") as caught:
        Expression.parse("")
    again = pickle.loads(pickle.dumps(caught.value))
    assert (str(again), again.position) == (str(caught.value), caught.value.position)


@settings(deadline=None)
@given(expressions(), st.floats(-3, 3))
def test_values_agree_with_plain_recursion(expression: Expression, x: float) -> None:
    got = expression(torch.tensor(x, dtype=torch.float64)).item()
    try:
        expected = evaluate(expression, x)
    except (OverflowError, ValueError, ZeroDivisionError):
        return  # the standard library refuses what IEEE arithmetic answers with inf or NaN
    if math.isfinite(expected) and abs(expected) < 1e100:
        # Deep trees amplify the last digit of their parts, hence the wide tolerance.
        assert got == pytest.approx(expected, rel=1e-6, abs=1e-9)


def test_a_shared_part_is_computed_once() -> None:
    shared = Expression.parse("add(exp(x),exp(x))")
    assert [function for function, _ in program_of(shared)] == [torch.exp, torch.add]


def test_whole_numbers_are_refused() -> None:
    with pytest.raises(TypeError, match="needs a floating tensor, got torch.int64"):
        Expression.parse("relu(x)")(torch.arange(3))


def test_copies_are_the_same_object_and_pickle_goes_through_the_text() -> None:
    expression = Expression.parse("max(relu(x),x)")
    assert copy.deepcopy(expression) is expression
    assert copy.copy(expression) is expression
    assert pickle.loads(pickle.dumps(expression)) == expression


def test_hash_is_right_in_another_process() -> None:
    expression = Expression.parse("max(relu(x),x)")
    script = (
        "import pickle, sys; from aquasurf_optuna.expression import Expression; "
        "e = pickle.loads(sys.stdin.buffer.read()); "
        "assert {Expression.parse('max(relu(x),x)'): 1}[e] == 1"
    )
    data = pickle.dumps(expression)
    subprocess.run([sys.executable, "-c", script], input=data, check=True, timeout=120)


@pytest.mark.parametrize(
    ("text", "canonical", "value"),
    [
        ("0.5", "0.5", 0.5),
        ("00.50", "0.5", 0.5),
        (".5", "0.5", 0.5),
        ("-.5", "-0.5", -0.5),
        ("2.", "2", 2.0),
        ("2.0", "2", 2.0),
        ("-0", "0", 0.0),
        ("-0.0", "0", 0.0),
        ("1E3", "1000", 1000.0),
        ("1e15", "1000000000000000", 1e15),
        ("10000000000000000", "1e+16", 1e16),
        ("1e16", "1e+16", 1e16),
        ("0.00001", "1e-05", 1e-5),
        ("0.1000000000000000055511151231257827", "0.1", 0.1),
        ("5e-324", "5e-324", 5e-324),
        ("1e-999", "0", 0.0),
    ],
)
def test_numbers_are_leaves_in_their_shortest_form(text: str, canonical: str, value: float) -> None:
    number = Expression.parse(f" {text} ")
    assert (str(number), number.value) == (canonical, value)
    assert number == Expression(canonical) == Expression.constant(value)
    assert (number.depth, number.node_count, number.is_leaf) == (0, 0, True)


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_every_finite_number_comes_back(value: float) -> None:
    number = Expression.constant(value)
    assert number.value == value
    assert Expression.parse(str(number)) == number
    assert float(str(number)) == value


@pytest.mark.parametrize("value", [1, np.float64(1), np.float32(1), np.int64(1), 1.0])
def test_a_constant_takes_any_real_number(value: float) -> None:
    assert Expression.constant(value) == Expression.parse("1")


@pytest.mark.parametrize(
    "value",
    [math.nan, -math.inf, True, "0.5", None, 1j, pytest.param(10**5000, id="huge"), np.bool_(True)],
)
def test_what_is_no_finite_number_is_refused(value: object) -> None:
    with pytest.raises(ExpressionError, match=r"got .*pass a finite number such as 0\.5"):
        Expression.constant(value)  # type: ignore[arg-type] # the wrong type is the test


def test_only_numbers_have_a_value() -> None:
    expression = Expression.parse("mul(-2,relu(x))")
    assert [(part.value, part.is_leaf) for part in expression.walk()] == [
        (None, False),
        (-2.0, True),
        (None, False),
        (None, True),
    ]
    assert (expression.depth, expression.node_count) == (2, 2)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64], ids=str)
def test_a_number_is_a_tensor_like_the_input_without_gradient(dtype: torch.dtype) -> None:
    x = torch.tensor([[math.inf], [math.nan], [1.0]], dtype=dtype, requires_grad=True)
    result = Expression.parse("0.1")(x)
    assert torch.equal(result, torch.full((3, 1), 0.1, dtype=dtype))
    result.sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [[0.0]] * 3


def test_a_number_beyond_the_range_of_the_dtype_is_infinite() -> None:
    number = Expression.parse("mul(-1e300,x)")
    assert number(torch.ones(1)).tolist() == [-math.inf]
    assert number(torch.ones(1, dtype=torch.float64)).tolist() == [-1e300]


def test_a_number_that_occurs_twice_is_computed_once() -> None:
    expression = Expression.parse("add(mul(0.5,x),max(x,0.5))")
    assert len(program_of(expression)) == 4


def test_expressions_are_frozen() -> None:
    with pytest.raises(AttributeError, match="cannot assign"):
        X.operator = "relu"  # type: ignore[misc] # that it is refused is the test


def test_baselines_are_the_papers_eight() -> None:
    assert [str(baseline) for baseline in BASELINES] == [
        "elu(x)",
        "relu(x)",
        "selu(x)",
        "sigmoid(x)",
        "softplus(x)",
        "softsign(x)",
        "swish(x)",
        "tanh(x)",
    ]
