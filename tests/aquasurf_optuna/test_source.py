"""The source text that expressions write computes what the expressions compute."""

import ast
import builtins
import dataclasses
import functools
import importlib.util
import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import scipy.special
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from aquasurf_optuna import _source, operators
from aquasurf_optuna._source_tables import BACKENDS
from aquasurf_optuna.exceptions import ExpressionError
from aquasurf_optuna.expression import Expression, apply_operator, program_of
from aquasurf_optuna.operators import BACKENDS as BACKENDS_OF_OPERATORS
from aquasurf_optuna.operators import N_ARY, OPERATORS, Operator, register_operator
from tests.strategies import constants, expressions

INPUTS = np.concatenate(
    [
        [math.nan, math.inf, -math.inf, 0.0, -0.0, 1000.0, -1000.0, 1e300, -1e300, 1e-300, 3.75],
        np.linspace(-12.0, 12.0, 121),
        np.geomspace(1e-6, 700.0, 60),
        -np.geomspace(1e-6, 700.0, 60),
    ]
)
DOUBLE, SINGLE = 1e-11, 3e-5
"""Relative tolerances."""


def margin_of(name: str, backend: str, dtype: str) -> float:
    """What is allowed beside the relative tolerance."""
    if name == "gelu":
        # Erf is near -1 there, and 1 + erf keeps what is left of its digits.
        return 1e-14 if dtype == "float64" else 2e-6
    if backend == "keras" and name in ("elu", "selu"):
        # Keras on TensorFlow computes exp(x) - 1.
        return 2e-7
    # Below 2e-36 single precision has no digits left.
    return 0.0 if dtype == "float64" else 2e-36


def function_of(source: str, name: str = "activation") -> Callable[..., object]:
    namespace: dict[str, object] = {}
    # The text is what this project has just written; nothing of a user's text is in it.
    exec(compile(source, "<source>", "exec"), namespace)
    function = namespace[name]
    assert callable(function)
    return function


@functools.cache
def _jax() -> Any:
    # With floats of 64 bits in this process's JAX; nothing else here uses it.
    jax = pytest.importorskip("jax")
    jax.config.update("jax_enable_x64", True)
    return jax


@functools.cache
def _keras() -> Any:
    if importlib.util.find_spec("keras") is None:
        pytest.skip("Keras is not installed")
    keras = pytest.importorskip("keras")
    if keras.backend.backend() == "jax":
        _jax()
    return keras


def run(source: str, backend: str, x: np.ndarray) -> np.ndarray:
    """Run the source on an array, through the backend's own arrays."""
    convert: Callable[[np.ndarray], object] = np.copy
    if backend == "torch":
        convert = torch.tensor
    if backend == "jax":
        convert = _jax().numpy.asarray
    if backend == "keras":
        convert = functools.partial(_keras().ops.convert_to_tensor, dtype=str(x.dtype))
    result: Any = function_of(source)(convert(x))
    return result.numpy() if isinstance(result, torch.Tensor) else np.asarray(result)


def expected(expression: Expression, x: np.ndarray) -> np.ndarray:
    return expression(torch.from_numpy(x.copy())).numpy()


def agree(got: np.ndarray, wanted: np.ndarray, relative: float, margin: float = 0.0) -> bool:
    # Below 1e-300 numbers lose their digits, and some libraries take them for 0.
    return np.allclose(got, wanted, rtol=relative, atol=margin + 1e-300, equal_nan=True)


def example_of(name: str) -> str:
    arity = OPERATORS[name].arity
    first = "abs(x)" if name == "pow" else "x"
    arguments = [first, "sub(x,0.5)", "mul(-0.7,x)"][: 3 if arity == N_ARY else arity]
    return f"{name}({','.join(arguments)})"


def names_in(tree: ast.AST) -> set[str]:
    return {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}


def imported(tree: ast.Module) -> set[str]:
    return {
        alias.asname or alias.name
        for node in tree.body
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
    }


def defects_of(source: str) -> list[str]:
    """Say what is wrong with a source text by its syntax tree alone."""
    tree = ast.parse(source)
    defined = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
    helpers = defined - {"activation"}
    used = names_in(tree)
    bound = {
        node.id
        for node in ast.walk(tree)
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
    } | {node.arg for node in ast.walk(tree) if isinstance(node, ast.arg)}
    unknown = used - defined - imported(tree) - bound - set(vars(builtins))
    unused = (imported(tree) | helpers) - used
    long = [line for line in source.splitlines() if len(line) > 100]
    found = {"unknown": unknown, "unused": unused, "long": long}
    return [f"{what}: {which}" for what, which in found.items() if which]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", list(OPERATORS))
def test_every_operator_in_every_backend(backend: str, name: str) -> None:
    expression = Expression.parse(example_of(name))
    # Keras takes float64 for float32 wherever it combines types, and so has the range of float32.
    keras = backend == "keras"
    x = INPUTS[~(np.abs(INPUTS) > 80)] if keras else INPUTS
    got = run(expression.to_python(backend), backend, x)
    wanted = expected(expression, x)
    margin = margin_of(name, backend, "float32" if keras else "float64")
    assert agree(got, wanted, SINGLE if keras else DOUBLE, margin)
    if backend == "torch":
        assert np.array_equal(got, wanted, equal_nan=True)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", list(OPERATORS))
def test_single_precision_stays(backend: str, name: str) -> None:
    expression = Expression.parse(example_of(name))
    x = INPUTS[np.abs(INPUTS) < 1001].astype(np.float32)
    got = run(expression.to_python(backend), backend, x)
    assert (got.dtype, got.shape) == (np.float32, x.shape)
    wanted = expected(expression, x)
    assert agree(got, wanted, SINGLE, margin_of(name, backend, "float32"))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    "text", ["0.5", "1", "zero(x)", "max(0.25,-0.5)", "add(1e300,x)", "tanh(0.5)", "sub(x,1e300)"]
)
def test_numbers_have_the_shape_and_dtype_of_the_input(backend: str, text: str) -> None:
    expression = Expression.parse(text)
    for dtype in (np.float32, np.float64):
        x = np.array([[-1.0, math.nan], [2.5, math.inf]], dtype=dtype)
        got = run(expression.to_python(backend), backend, x)
        assert got.shape == (2, 2)
        assert got.dtype in ((np.float32, dtype) if backend == "keras" else (dtype,))
        assert agree(got, expected(expression, x), 1e-6)


@pytest.mark.parametrize(
    ("text", "accuracy"), [("bessel_i0e(x)", 6e-7), ("bessel_i1e(x)", 7e-7), ("erfc(x)", 2e-8)]
)
def test_helpers_for_keras_are_as_accurate_as_they_say(text: str, accuracy: float) -> None:
    source = Expression.parse(text).to_python("keras")
    assert f"to about {accuracy:.0e} of its value".replace("e-0", "e-") in source
    # NumPy has most of the names of keras.ops, and shows the formulas' own errors in float64.
    source = source.replace("from keras import ops", "import numpy as ops\nimport scipy.special")
    function = function_of(source.replace("ops.erf(", "scipy.special.erf("))
    x = np.concatenate([np.linspace(-25.0, 25.0, 20001), np.geomspace(1e-8, 1e8, 999)])
    wanted = getattr(scipy.special, text.removeprefix("bessel_").removesuffix("(x)"))(x)
    errors = np.abs(np.asarray(function(x)) - wanted)
    assert (errors <= accuracy * np.abs(wanted) + 1e-300).all()
    assert not (errors <= 0.1 * accuracy * np.abs(wanted)).all()


@given(expressions(max_leaves=12))
@settings(deadline=None, max_examples=150)
def test_random_expressions_in_torch_are_exact(expression: Expression) -> None:
    got = run(expression.to_python("torch"), "torch", INPUTS)
    assert np.array_equal(got, expected(expression, INPUTS), equal_nan=True)


@given(expressions(max_leaves=4, numbers=constants()))
@settings(deadline=None, max_examples=60)
def test_any_numbers_in_torch_are_exact(expression: Expression) -> None:
    # These are computed by other functions in float32, which differ in the last digit.
    assume(not {node.operator for node in expression.walk()} & {"arcsinh", "cosh", "sinh"})
    x = INPUTS[np.abs(INPUTS) < 1001].astype(np.float32)
    got = run(expression.to_python("torch"), "torch", x)
    assert np.array_equal(got, expected(expression, x), equal_nan=True)


def mismatch(expression: Expression, backend: str) -> str | None:
    """Compare each operator's values from those of its arguments, as the source computes both.

    Whole functions cannot be compared: `sinh(sinh(sinh(x)))` magnifies a last digit at will.
    """
    for node in expression.walk():
        if node.is_leaf:
            continue
        arguments = [run(child.to_python(backend), backend, INPUTS) for child in node.children]
        wanted = apply_operator(node, [torch.from_numpy(each.copy()) for each in arguments])
        got = run(node.to_python(backend), backend, INPUTS)
        margin = margin_of(node.operator, backend, "float64")
        if not agree(got, wanted.numpy(), DOUBLE, margin):
            return str(node)
    return None


@given(expressions(max_leaves=5))
@settings(deadline=None, max_examples=100)
def test_random_expressions_in_numpy_step_by_step(expression: Expression) -> None:
    assert mismatch(expression, "numpy") is None


@given(expressions(max_leaves=30), st.sampled_from(list(BACKENDS)))
@settings(deadline=None, max_examples=150)
def test_text_is_sound(expression: Expression, backend: str) -> None:
    source = expression.to_python(backend)
    assert defects_of(source) == []
    assert source == Expression.parse(str(expression)).to_python(backend)
    assert source.endswith("\n")


def test_unsound_text_is_noticed() -> None:
    sound = Expression.parse("elish(x)").to_python("torch")
    assert defects_of(sound) == []
    assert defects_of(sound.replace("import torch\n", "import torch\nimport math\n"))
    assert defects_of(sound.replace("import torch\n", ""))
    assert defects_of(sound.replace("return _elish(x)", "return x"))
    assert defects_of(sound + "#" * 101)


@pytest.mark.parametrize("backend", ["torch", "numpy"])
def test_a_wrong_table_entry_is_noticed(monkeypatch: pytest.MonkeyPatch, backend: str) -> None:
    expression = Expression.parse("add(x,tanh(x))")
    assert mismatch(expression, backend) is None
    wrong = {**BACKENDS[backend].patterns, "tanh": BACKENDS[backend].patterns["arctan"]}
    changed = dataclasses.replace(BACKENDS[backend], patterns=wrong)
    monkeypatch.setattr(_source, "BACKENDS", {**BACKENDS, backend: changed})
    assert mismatch(expression, backend) == "tanh(x)"


def calls_in(source: str, name: str) -> int:
    return source.count(f"{name}(")


def test_each_subexpression_is_computed_once() -> None:
    text = "add(mul(tanh(exp(x)),exp(x)),max_n(exp(x),tanh(exp(x)),x))"
    source = Expression.parse(text).to_python("torch")
    assert calls_in(source, "torch.exp") == 1
    assert calls_in(source, "torch.tanh") == 1
    assert "y1 = torch.exp(x)" in source
    assert "y2 = torch.tanh(y1)" in source


def test_an_argument_that_a_pattern_names_twice_is_computed_once() -> None:
    source = Expression.parse("swish(erfc(x))").to_python("numpy")
    assert calls_in(source, "special.erfc") == 1


def test_what_zero_and_one_do_not_need_is_left_out() -> None:
    source = Expression.parse("div(swish(identity(x)),selu(one(exp(x))))").to_python("torch")
    assert "return F.silu(x) / F.selu(torch.ones_like(x))" in source
    assert calls_in(source, "torch.exp") == 0


def test_parentheses_are_kept_where_they_count() -> None:
    source = Expression.parse("sub(x,sub(mul(add(x,1),2),negative(x)))").to_python("numpy")
    assert "y = x - ((x + 1.0) * 2.0 - -x)" in source


def test_the_module_reads_as_a_person_would_write_it() -> None:
    assert Expression.parse("mul(0.5,max(relu(x),elish(x)))").to_python("jax", name="best") == (
        '"""An activation function for JAX."""\n'
        "\n"
        "import jax\n"
        "import jax.numpy as jnp\n"
        "\n"
        "\n"
        "def _elish(x: jax.Array) -> jax.Array:\n"
        '    """Return sigmoid(x) times x, or times exp(x) - 1 for negative x."""\n'
        "    return jnp.where(x < 0.0, jnp.expm1(jnp.minimum(x, 0.0)), x) * jax.nn.sigmoid(x)\n"
        "\n"
        "\n"
        "def best(x: jax.Array) -> jax.Array:\n"
        '    """Return mul(0.5,max(relu(x),elish(x))), elementwise."""\n'
        "    return 0.5 * jnp.maximum(jax.nn.relu(x), _elish(x))\n"
    )


@pytest.mark.parametrize("backend", ["torch", "numpy"])
def test_long_functions_are_broken_into_lines(backend: str) -> None:
    terms = [f"tanh(mul({i},softsign(x)))" for i in range(40)]
    expression = Expression.parse(f"sum_n({','.join(terms)})")
    source = expression.to_python(backend)
    assert defects_of(source) == []
    assert agree(run(source, backend, INPUTS), expected(expression, INPUTS), 1e-11)
    document = ast.get_docstring(ast.parse(source).body[-1])  # type: ignore[arg-type]
    assert document is not None
    text = "".join(document.partition("\n")[2].split())
    assert Expression.parse(text) == expression


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_deepest_expression_has_a_source(backend: str) -> None:
    expression = Expression.parse("log_sigmoid(" * 64 + "x" + ")" * 64)
    assert defects_of(expression.to_python(backend)) == []


def test_numpy_takes_lists_and_whole_numbers() -> None:
    function = function_of(Expression.parse("hard_sigmoid(x)").to_python("numpy"))
    assert np.array_equal(function([0, 1, -5]), np.array([0.5, 0.7, 0.0]))
    half = function(np.array([0.25], dtype=np.float16))
    assert isinstance(half, np.ndarray)
    assert half.dtype == np.float16


def test_numpy_leaves_its_input_alone() -> None:
    x = INPUTS.copy()
    run(Expression.parse("add(x,relu(x))").to_python("numpy"), "numpy", x)
    assert np.array_equal(x, INPUTS, equal_nan=True)


def test_torch_source_has_the_gradient_of_the_expression() -> None:
    expression = Expression.parse("mul(elish(x),add(0.5,max(tanh(x),one(x))))")
    x = torch.linspace(-3, 3, 31, dtype=torch.float64, requires_grad=True)
    function = function_of(expression.to_python("torch"))
    (got,) = torch.autograd.grad(function(x).sum(), x)  # type: ignore[attr-defined]
    (wanted,) = torch.autograd.grad(expression(x).sum(), x)
    assert torch.equal(got, wanted)


@pytest.mark.parametrize("backend", ["tensorflow", "", "Torch", None, 3])
def test_unknown_backends_are_refused(backend: object) -> None:
    with pytest.raises(
        ExpressionError, match="unknown backend .*known are torch, jax, keras, numpy"
    ):
        Expression.parse("relu(x)").to_python(backend)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["1st", "a b", "", "def", "None", "f(x)\nimport os", None])
def test_names_that_are_no_identifiers_are_refused(name: object) -> None:
    with pytest.raises(ExpressionError, match="cannot name a function.*Python identifier"):
        Expression.parse("relu(x)").to_python("torch", name=name)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["torch", "F", "_elish", "x", "__debug__"])
def test_names_that_the_source_needs_are_refused(name: str) -> None:
    with pytest.raises(ExpressionError, match="another meaning in the source.*another name"):
        Expression.parse("relu(x)").to_python("torch", name=name)


def test_tables_cover_the_same_operators_and_backends() -> None:
    assert set(BACKENDS) == set(BACKENDS_OF_OPERATORS)
    tables = {frozenset(library.patterns) for library in BACKENDS.values()}
    dissolved = {"zero", "one", "identity", "sum_n", "prod_n", "max_n", "min_n"}
    assert {names | dissolved for names in tables} == {
        frozenset(name for name, operator in OPERATORS.items() if not operator.sources)
    }


@pytest.fixture
def own() -> Iterator[Callable[..., Operator]]:
    """Register operators, and forget them, which a user cannot."""
    before = dict(operators._known)
    yield register_operator
    operators._known.clear()
    operators._known.update(before)
    program_of.cache_clear()


def test_own_operators_bring_their_source(own: Callable[..., Operator]) -> None:
    sources = {"torch": "torch.sin({0}) + torch.cos({0})", "numpy": "np.sin({0}) + np.cos({0})"}
    own("wave_of_source", lambda x: torch.sin(x) + torch.cos(x), sources=sources)
    expression = Expression.parse("mul(2,wave_of_source(sub(x,exp(x))))")
    x = np.linspace(-3, 3, 13)
    for backend in sources:
        source = expression.to_python(backend)
        assert defects_of(source) == []
        assert source.count("y1") == 3
        assert agree(run(source, backend, x), expected(expression, x), 1e-12)
    with pytest.raises(
        ExpressionError, match=r"'wave_of_source' has no source for jax at position 6 "
    ):
        expression.to_python("jax")
    with pytest.raises(
        ExpressionError, match=r"sources=\{'keras': ...\}.*uses keras, ops and math"
    ):
        expression.to_python("keras")


def test_own_operators_of_any_number_of_arguments(own: Callable[..., Operator]) -> None:
    own(
        "mean_of_source",
        lambda *a: torch.stack(a).mean(0),
        arity=N_ARY,
        sources={"torch": "torch.stack([{args}]).mean(0)"},
    )
    many = ",".join(f"tanh(mul({i},x))" for i in range(1, 31))
    for text in ("mean_of_source(x,exp(x),2)", f"mean_of_source({many})"):
        expression = Expression.parse(text)
        source = expression.to_python("torch")
        assert defects_of(source) == []
        got = run(source, "torch", INPUTS)
        assert np.array_equal(got, expected(expression, INPUTS), equal_nan=True)


@pytest.mark.parametrize(
    ("pattern", "problem"),
    [
        ("torch.sin({0}", "no such expression"),
        ("import os; {0}", "no such expression"),
        ("numpy.sin({0})", "unknown 'numpy'"),
    ],
)
def test_own_sources_that_are_no_expressions_are_refused(
    own: Callable[..., Operator], pattern: str, problem: str
) -> None:
    own("sine_of_source", torch.sin, sources={"torch": pattern})
    with pytest.raises(
        ExpressionError, match=f"'sine_of_source' .*{problem}.*uses torch, F and math"
    ):
        Expression.parse("sine_of_source(x)").to_python("torch")
