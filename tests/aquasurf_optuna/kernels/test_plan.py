import pytest
import torch
from hypothesis import given, settings

from aquasurf_optuna.expression import Expression
from aquasurf_optuna.kernels._chain import is_supported, value_of
from aquasurf_optuna.kernels._plan import Step, plan_of
from tests.strategies import expressions


def operators_of(text: str) -> list[str]:
    return [step.operator or str(step.number) for step in plan_of(Expression.parse(text))[1:]]


@pytest.mark.parametrize(
    ("text", "operators"),
    [
        ("x", []),
        ("identity(identity(x))", []),
        ("add(selu(x),zero(x))", ["selu"]),
        ("add(zero(x),selu(x))", ["selu"]),
        ("sub(selu(x),zero(x))", ["selu"]),
        ("sub(zero(x),selu(x))", ["0.0", "selu", "sub"]),
        ("mul(one(x),selu(x))", ["selu"]),
        ("div(selu(x),one(x))", ["selu"]),
        ("max(tanh(x),tanh(x))", ["tanh"]),
        ("mul(hard_sigmoid(x),hard_sigmoid(x))", ["hard_sigmoid", "mul"]),
        ("add(mul(tanh(x),erf(x)),mul(erf(x),tanh(x)))", ["tanh", "erf", "mul", "add"]),
        ("sum_n(x,tanh(x),x)", ["tanh", "add", "add"]),
        ("prod_n(negative(x),sigmoid(x),one(x))", ["negative", "sigmoid", "mul"]),
        ("add(one(x),one(x))", ["2.0"]),
        ("mul(2,x)", ["2.0", "mul"]),
    ],
)
def test_nothing_is_computed_twice_or_in_vain(text: str, operators: list[str]) -> None:
    assert sorted(operators_of(text)) == sorted(operators)


def test_what_holds_only_numbers_is_one_number() -> None:
    plan = plan_of(Expression.parse("div(swish(x),selu(one(x)))"))
    [number] = [step.number for step in plan if step.is_number]
    assert number == pytest.approx(1.0507009873554805)
    assert plan[-1].operator == "div"


def test_steps_look_at_earlier_ones() -> None:
    plan = plan_of(Expression.parse("max_n(tanh(x),erf(tanh(x)),mul(x,0.5),x)"))
    for place, step in enumerate(plan):
        assert all(argument < place for argument in step.arguments)
    assert plan[0] == Step("x")


@settings(deadline=None)
@given(expressions())
def test_a_plan_has_the_functions_values(expression: Expression) -> None:
    x = torch.linspace(-3, 3, 25, dtype=torch.float64)
    assert is_supported(expression)
    torch.testing.assert_close(
        value_of(plan_of(expression), x), expression(x), rtol=1e-12, atol=0.0, equal_nan=True
    )
