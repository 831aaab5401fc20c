"""The key of a function's class: shared by equal functions, and by no others."""

from collections import defaultdict

import hypothesis
import numpy as np
import pytest

from aquasurf_optuna.catalogue import Catalogue
from aquasurf_optuna.equality import linked
from aquasurf_optuna.expression import Expression
from aquasurf_optuna.features.outputs import _key_of, function_key, output_features, standard_inputs
from aquasurf_optuna.space import SearchSpace


def key(text: str) -> str:
    return function_key(Expression.parse(text))


def test_keys_are_the_classes_of_the_three_node_space(
    three_node: SearchSpace, catalogue: Catalogue
) -> None:
    keys_of_class, classes_of_key = defaultdict(set), defaultdict(set)
    for expression in three_node:
        class_id = catalogue.class_of(expression)
        keys_of_class[class_id].add(function_key(expression))
        classes_of_key[function_key(expression)].add(class_id)

    assert len(three_node) == 5103
    assert len(classes_of_key) == len(catalogue) == 2791
    assert [len(keys) for keys in keys_of_class.values()] == [1] * 2791
    assert [len(classes) for classes in classes_of_key.values()] == [1] * 2791


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("relu(x)", "max(x,zero(x))"),
        ("zero(x)", "negative(zero(x))"),  # 0 and -0
        ("div(zero(x),zero(x))", "negative(div(zero(x),zero(x)))"),  # NaN and -NaN
        ("add(sigmoid(x),x)", "add(x,sigmoid(x))"),
        ("max(x,0)", "relu(x)"),
        ("2", "add(one(x),1)"),
        # Not the same bits.
        ("tanh(x)", "div(sinh(x),cosh(x))"),
    ],
)
def test_equal_functions_share_a_key(first: str, second: str) -> None:
    assert key(first) == key(second)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("x", "negative(x)"),
        ("div(one(x),zero(x))", "negative(div(one(x),zero(x)))"),  # the two infinities
        ("div(one(x),zero(x))", "div(zero(x),zero(x))"),
        ("zero(x)", "div(zero(x),zero(x))"),
        ("sinh(x)", "tanh(x)"),
    ],
)
def test_other_functions_have_other_keys(first: str, second: str) -> None:
    assert key(first) != key(second)


def test_a_key_is_the_same_everywhere() -> None:
    # Stores of earlier versions and of other machines hold this one.
    assert key("swish(x)") == "29082c174422f475890ed16ecdf222e0"


@pytest.mark.parametrize(("factor", "same"), [(1 + 1e-12, True), (1 + 2e-6, False)])
def test_one_key_means_linked_values(factor: float, same: bool) -> None:
    values = output_features([Expression.parse("swish(x)")])[0]

    assert linked(values, values * factor) is same
    assert (_key_of(values) == _key_of(values * factor)) is same


@hypothesis.given(
    hypothesis.strategies.floats(1e-300, 1e300), hypothesis.strategies.floats(-2e-6, 2e-6)
)
def test_values_that_print_the_same_are_linked(value: float, change: float) -> None:
    first, second = np.full(1000, value), np.full(1000, value * (1 + change))

    assert linked(first, second) or _key_of(first) != _key_of(second)


def test_outputs_with_numbers() -> None:
    texts = ("x", "2", "mul(-0.5,x)", "pow(x,2)", "add(2,mul(-0.5,x))")
    got = output_features([Expression.parse(text) for text in texts])
    x = standard_inputs().numpy()
    expected = [x, np.full_like(x, 2.0), -0.5 * x, x**2, 2 - 0.5 * x]
    np.testing.assert_allclose(got, expected, rtol=1e-15)
