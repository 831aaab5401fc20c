import copy
import math
import pickle
import subprocess
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from aquasurf_optuna.exceptions import AquaSurfError, ExpressionError
from aquasurf_optuna.expression import BASELINES, Expression
from aquasurf_optuna.operators import OPERATORS
from tests.oracles.operator_oracles import evaluate
from tests.strategies import X, expressions

PUBLISHED = [
    "mul(hard_sigmoid(hard_sigmoid(x)),elu(x))",
    "mul(sigmoid(softsign(x)),elu(x))",
    "div(swish(x),selu(one(x)))",
    "selu(sinh(expm1(arctan(x))))",
    "prod_n(negative(x),sigmoid(x),hard_sigmoid(x))",
    "mul(swish(x),erfc(bessel_i0e(x)))",
    "square(erfc(softplus(x)))",
    "min(square(softplus(x)),negative(x))",
    "x",
]


@pytest.mark.parametrize("text", PUBLISHED)
def test_text_comes_back(text: str) -> None:
    assert str(Expression.parse(text)) == text


@given(expressions())
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
        ("relu(1)", 5, "found '1'"),
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
    ],
    ids=["parentheses", "calls", "arguments", "name", "spaces", "tail"],
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
    from aquasurf_optuna.expression import program_of

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


def test_expressions_are_frozen() -> None:
    with pytest.raises(AttributeError, match="cannot assign"):
        X.operator = "relu"  # type: ignore[misc] # that it is refused is the test


@pytest.mark.parametrize(
    ("text", "latex"),
    [
        ("x", "x"),
        ("pow(x,exp(x))", r"\left(x\right)^{e^{x}}"),
        ("div(one(x),erf(x))", r"\frac{1}{\operatorname{erf}\left(x\right)}"),
        ("max(x,zero(x))", r"\max\left\{x, 0\right\}"),
        ("sum_n(x,abs(x),square(x))", r"\left(x + \left|x\right| + \left(x\right)^{2}\right)"),
    ],
)
def test_latex(text: str, latex: str) -> None:
    assert Expression.parse(text).latex() == latex


@given(expressions())
def test_latex_is_balanced(expression: Expression) -> None:
    latex = expression.latex()
    assert latex.count(r"\left") == latex.count(r"\right")
    bare = latex.replace(r"\{", "").replace(r"\}", "")
    assert bare.count("{") == bare.count("}")


@pytest.mark.parametrize("name", OPERATORS)
def test_every_operator_has_latex(name: str) -> None:
    arity = max(OPERATORS[name].arity, 1) if OPERATORS[name].arity > 0 else 3
    assert Expression(name, (X,) * arity).latex()


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
