import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from torch import Tensor

from aquasurf_optuna import derivative
from aquasurf_optuna.exceptions import ExpressionError
from aquasurf_optuna.expression import Expression
from aquasurf_optuna.operators import COATNET_UNARY_OPERATORS
from tests.strategies import expressions

# Away from the kinks at 0, -2.5 and 2.5.
POINTS = torch.tensor([-4.1, -2.3, -1.2, -0.37, 0.21, 0.83, 1.9, 2.8], dtype=torch.float64)
STEP = 1e-5


def central_differences(expression: Expression, x: Tensor) -> Tensor:
    return (expression(x + STEP) - expression(x - STEP)) / (2 * STEP)


@pytest.mark.parametrize("name", COATNET_UNARY_OPERATORS)
def test_slopes_agree_with_central_differences(name: str) -> None:
    expression = Expression.parse(f"{name}(x)")
    found = derivative(expression, POINTS)
    torch.testing.assert_close(found, central_differences(expression, POINTS), rtol=1e-6, atol=1e-7)


@given(expressions())
@settings(max_examples=50, deadline=None, derandomize=True)
def test_slopes_of_any_function(expression: Expression) -> None:
    left, right = expression(POINTS - STEP), expression(POINTS + STEP)
    half = (expression(POINTS + STEP / 2) - expression(POINTS - STEP / 2)) / STEP
    found, expected = derivative(expression, POINTS), central_differences(expression, POINTS)
    # Where two step sizes agree, the differences are the slope: no kink, pole or overflow is near.
    size = torch.maximum(left.abs(), right.abs()) / STEP
    good = (half - expected).abs() <= 1e-7 * expected.abs() + 1e-13 * size
    good &= found.isfinite()
    error = (found - expected).abs()[good]
    assert (error <= 1e-4 * expected.abs()[good] + 1e-9 * size[good] + 1e-9).all()


def test_the_oracle_fails_on_a_wrong_slope() -> None:
    expression = Expression.parse("tanh(x)")
    wrong = derivative(expression, POINTS) * (1 + 1e-4)
    with pytest.raises(AssertionError, match="not close"):
        torch.testing.assert_close(
            wrong, central_differences(expression, POINTS), rtol=1e-6, atol=1e-7
        )


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_any_shape_and_dtype(dtype: torch.dtype) -> None:
    for shape in ((), (0,), (2, 1, 4)):
        x = torch.full(shape, 0.5, dtype=dtype)
        found = derivative("square(x)", x)
        assert (found.shape, found.dtype, found.requires_grad) == (shape, dtype, False)
        assert found.tolist() == torch.ones_like(x).tolist()
        assert x.tolist() == torch.full(shape, 0.5).tolist()


def test_a_caller_without_gradients() -> None:
    with torch.no_grad():
        assert derivative("square(x)", torch.tensor(3.0)).item() == 6.0
        assert not torch.is_grad_enabled()
    with torch.inference_mode():
        assert derivative("square(x)", torch.tensor(3.0)).item() == 6.0


def test_the_callers_graph_is_left_alone() -> None:
    x = torch.tensor([1.0, 2.0], requires_grad=True)
    derivative("tanh(x)", x)
    assert x.grad is None
    assert derivative("x", x).tolist() == [1.0, 1.0]
    assert derivative("one(x)", x).tolist() == derivative("0.5", x).tolist() == [0.0, 0.0]


def test_kinks_have_the_values_that_torch_gives_them() -> None:
    zero = torch.zeros(1)
    slopes = {name: derivative(f"{name}(x)", zero).item() for name in ("relu", "abs", "elu")}
    assert slopes == {"relu": 0.0, "abs": 0.0, "elu": 1.0}
    assert math.isinf(derivative("reciprocal(x)", zero).item())


def test_errors() -> None:
    with pytest.raises(TypeError, match=r"floating tensor, got torch\.int64"):
        derivative("relu(x)", torch.arange(3))
    with pytest.raises(TypeError, match=r"needs a tensor, got ndarray"):
        derivative("relu(x)", np.zeros(3))  # type: ignore[arg-type] # the wrong type is the test
    with pytest.raises(ExpressionError, match="unknown operator 'rule'"):
        derivative("rule(x)", torch.zeros(1))
