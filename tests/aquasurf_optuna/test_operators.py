import math

import pytest
import torch

from aquasurf_optuna.operators import (
    BINARY_OPERATORS,
    COATNET_UNARY_OPERATORS,
    N_ARY,
    N_ARY_OPERATORS,
    OPERATORS,
    UNARY_OPERATORS,
)
from tests.oracles.operator_oracles import SCALAR, numerical_derivative

# Away from the kinks at 0, -2.5 and 2.5, on both sides of them.
POINTS = (-4.1, -2.3, -1.2, -0.37, 0.21, 0.83, 1.9, 2.8)
# A negative base has no real power unless the exponent is a whole number.
POSITIVE = tuple(abs(point) for point in POINTS)


def arguments_of(name: str) -> tuple[tuple[float, ...], ...]:
    arity = OPERATORS[name].arity
    first = POSITIVE if name == "pow" else POINTS
    others = tuple(point + 0.5 for point in reversed(POINTS))
    third = tuple(0.7 * point for point in POINTS)
    return tuple(zip(*(first, others, third)[: 3 if arity == N_ARY else arity], strict=True))


def test_counts_are_those_of_the_paper() -> None:
    assert len(UNARY_OPERATORS) == 27
    assert len(COATNET_UNARY_OPERATORS) == 31
    assert len(BINARY_OPERATORS) == 7
    assert len(N_ARY_OPERATORS) == 4
    assert set(OPERATORS) == {*COATNET_UNARY_OPERATORS, *BINARY_OPERATORS, *N_ARY_OPERATORS}
    assert set(OPERATORS) == set(SCALAR)


@pytest.mark.parametrize("name", OPERATORS)
def test_values_agree_with_the_definition(name: str) -> None:
    for arguments in arguments_of(name):
        tensors = [torch.tensor(a, dtype=torch.float64) for a in arguments]
        got = OPERATORS[name].function(*tensors).item()
        assert got == pytest.approx(SCALAR[name](*arguments), rel=1e-12, abs=0.0)


@pytest.mark.parametrize("name", OPERATORS)
def test_gradients_agree_with_finite_differences(name: str) -> None:
    for arguments in arguments_of(name):
        tensors = [torch.tensor(a, dtype=torch.float64, requires_grad=True) for a in arguments]
        gradients = torch.autograd.grad(OPERATORS[name].function(*tensors), tensors)
        for place, gradient in enumerate(gradients):
            expected = numerical_derivative(
                lambda value, place=place, arguments=arguments: SCALAR[name](
                    *arguments[:place], value, *arguments[place + 1 :]
                ),
                arguments[place],
                1e-5,
            )
            assert gradient.item() == pytest.approx(expected, rel=1e-6, abs=1e-7)


@pytest.mark.parametrize("name", OPERATORS)
@pytest.mark.parametrize(
    "dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64], ids=str
)
def test_every_dtype_keeps_shape_and_arguments(name: str, dtype: torch.dtype) -> None:
    columns = zip(*arguments_of(name), strict=True)
    tensors = [torch.tensor(c, dtype=dtype).reshape(2, 2, 2).requires_grad_() for c in columns]
    before = [tensor.detach().clone() for tensor in tensors]
    result = OPERATORS[name].function(*tensors)
    assert (result.shape, result.dtype) == ((2, 2, 2), dtype)
    result.sum().backward()
    for tensor, original in zip(tensors, before, strict=True):
        assert torch.equal(tensor.detach(), original)
        assert tensor.grad is not None
        assert tensor.grad.isfinite().all()


@pytest.mark.parametrize("name", ["relu", "max", "min", "max_n", "min_n"])
def test_nan_comes_through(name: str) -> None:
    operator = OPERATORS[name]
    nan, one = torch.tensor([math.nan]), torch.tensor([1.0])
    sides = [[nan]] if operator.arity == 1 else [[nan, one], [one, nan]]
    for side in sides:
        assert operator.function(*side).isnan().all()


@pytest.mark.parametrize("name", ["zero", "one"])
def test_constants_are_constant_at_infinity_too(name: str) -> None:
    x = torch.tensor([math.inf, -math.inf, math.nan, 0.0], requires_grad=True)
    result = OPERATORS[name].function(x)
    result.sum().backward()
    assert result.tolist() == [SCALAR[name](0.0)] * 4
    assert x.grad is not None
    assert x.grad.tolist() == [0.0] * 4


def test_softplus_is_exact_where_torch_by_default_is_not() -> None:
    x = torch.tensor(25.0, dtype=torch.float64)
    assert OPERATORS["softplus"].function(x).item() == pytest.approx(
        SCALAR["softplus"](25.0), 1e-15
    )
    assert torch.nn.functional.softplus(x).item() != SCALAR["softplus"](25.0)


@pytest.mark.parametrize("name", ["relu", "tanh", "erfc", "pow"])
def test_the_oracle_fails_on_a_wrong_operator(name: str) -> None:
    right = [SCALAR[name](*arguments) for arguments in arguments_of(name)]
    assert not any(
        value * (1 + 1e-9) == pytest.approx(value, rel=1e-12, abs=0.0) for value in right if value
    )
    steep = numerical_derivative(lambda x: x**3, 2.0, 1e-5)
    assert steep == pytest.approx(12.0, rel=1e-6)
    assert steep != pytest.approx(12.1, rel=1e-6)
