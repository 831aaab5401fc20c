import copy
import pickle

import pytest
import timm
import torch
import torchvision
from hypothesis import given, settings
from torch import nn
from torch.autograd.gradcheck import GradcheckError

from aquasurf_optuna.activation import Activation, as_factory
from aquasurf_optuna.exceptions import ExpressionError
from aquasurf_optuna.expression import Expression
from aquasurf_optuna.operators import OPERATORS
from tests.strategies import expressions

TEXT = "max(relu(x),cosh(elu(x)))"


@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 3), (2, 3, 4, 5)])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64], ids=str)
def test_any_shape_and_dtype(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(dtype)
    result = Activation(TEXT)(x)
    assert (result.shape, result.dtype) == (x.shape, dtype)
    # Numbers of 16 bits are computed in 32, and rounded once.
    wide = x.float() if dtype == torch.bfloat16 else x
    expected = torch.maximum(wide.relu(), torch.cosh(nn.functional.elu(wide))).to(dtype)
    torch.testing.assert_close(result, expected)


@settings(deadline=None)
@given(expressions())
def test_the_input_is_never_written_to_nor_handed_out(expression: Expression) -> None:
    x = torch.linspace(-3, 3, 13)
    before = x.clone()
    result = Activation(expression, inplace=True)(x)
    result.add_(1)
    assert torch.equal(x, before)


def test_gradients_flow() -> None:
    x = torch.linspace(-2, 2, 9, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(Activation("mul(sigmoid(softsign(x)),elu(x))"), (x,))


def test_gradcheck_can_fail() -> None:
    class Wrong(torch.autograd.Function):
        @staticmethod
        def forward(ctx: object, x: torch.Tensor) -> torch.Tensor:
            return x * x

        @staticmethod
        def backward(ctx: object, gradient: torch.Tensor) -> torch.Tensor:
            return gradient

    x = torch.linspace(1, 2, 3, dtype=torch.float64, requires_grad=True)
    with pytest.raises(GradcheckError, match="Jacobian mismatch"):
        torch.autograd.gradcheck(Wrong.apply, (x,))


@pytest.mark.parametrize("name", OPERATORS)
def test_every_operator_survives_pickle_and_deepcopy(name: str) -> None:
    arity = OPERATORS[name].arity if OPERATORS[name].arity > 0 else 3
    activation = Activation(Expression(name, (Expression("x"),) * arity))
    x = torch.linspace(0.1, 2, 7)
    for again in (pickle.loads(pickle.dumps(activation)), copy.deepcopy(activation)):
        assert torch.equal(again(x), activation(x))
        assert again.expression == activation.expression


def test_the_state_dict_is_empty_and_loads() -> None:
    relu = nn.Sequential(nn.Linear(2, 2), nn.ReLU())
    swapped = nn.Sequential(nn.Linear(2, 2), Activation(TEXT))
    assert not Activation(TEXT).state_dict()
    swapped.load_state_dict(relu.state_dict(), strict=True)
    assert torch.equal(swapped[0].weight, relu[0].weight)


@pytest.mark.parametrize("text", [TEXT, "max(mul(0.5,x),-0.1)"])
def test_compile_without_graph_breaks(text: str) -> None:
    x = torch.linspace(-2, 2, 9)
    activation = Activation(text)
    compiled = torch.compile(activation, fullgraph=True, backend="aot_eager")
    assert torch.allclose(compiled(x), activation(x))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # the compiler's own warnings differ between machines
@pytest.mark.parametrize("text", [TEXT, "max(mul(0.5,x),-0.1)"])
def test_compile_with_the_default_backend(text: str) -> None:
    x = torch.linspace(-2, 2, 9)
    activation = Activation(text)
    assert torch.allclose(torch.compile(activation, fullgraph=True)(x), activation(x))


@pytest.mark.parametrize("text", [TEXT, "max(mul(0.5,x),-0.1)"])
def test_export(text: str) -> None:
    network = nn.Sequential(nn.Linear(3, 3), Activation(text))
    x = torch.linspace(-1, 1, 6).reshape(2, 3)
    exported = torch.export.export(network, (x,))
    assert torch.allclose(exported.module()(x), network(x))


def test_the_factory_makes_fresh_modules_and_pickles() -> None:
    factory = pickle.loads(pickle.dumps(Activation.factory(TEXT)))
    first, second = factory(), factory(inplace=True)
    assert first is not second
    assert str(first) == f"Activation({TEXT})"
    assert factory == Activation.factory(TEXT)
    assert hash(factory) == hash(Activation.factory(TEXT))
    assert factory != Activation.factory("relu(x)")


@pytest.mark.parametrize("name", ["resnet18", "mobilevitv2_050", "efficientnet_b0"])
def test_timm_takes_the_factory(name: str) -> None:
    def sites(act_layer: object, kind: type[nn.Module]) -> int:
        model = timm.create_model(name, num_classes=10, act_layer=act_layer)
        return sum(isinstance(module, kind) for module in model.modules())

    swapped = sites(Activation.factory(TEXT), Activation)
    assert swapped == sites(nn.Hardswish, nn.Hardswish) > 0


def test_torchvision_takes_the_factory() -> None:
    layers = torchvision.ops.MLP(4, [8, 2], activation_layer=Activation.factory(TEXT), inplace=True)
    assert [str(m.expression) for m in layers if isinstance(m, Activation)] == [TEXT]


def test_a_wrong_inplace_is_refused() -> None:
    with pytest.raises(TypeError, match="inplace must be True or False, got 'yes'"):
        Activation(TEXT, inplace="yes")  # type: ignore[arg-type] # the wrong type is the test


def test_other_keywords_are_refused() -> None:
    with pytest.raises(TypeError, match="alpha"):
        Activation(TEXT, alpha=1.0)  # type: ignore[call-arg] # that it is refused is the test


def test_an_activation_with_numbers_survives_pickle_and_deepcopy() -> None:
    activation = Activation("max(mul(0.5,x),-0.1)")
    x = torch.tensor([-1.0, 3.0])
    for again in (pickle.loads(pickle.dumps(activation)), copy.deepcopy(activation), activation):
        assert again(x).tolist() == pytest.approx([-0.1, 1.5])


def test_bad_text_is_refused_at_the_door() -> None:
    with pytest.raises(ExpressionError, match="did you mean relu"):
        Activation("rellu(x)")
    with pytest.raises(ExpressionError, match="did you mean relu"):
        Activation.factory("rellu(x)")


@pytest.mark.parametrize("activation", [TEXT, Expression.parse(TEXT), Activation.factory(TEXT)])
def test_networks_accept_three_forms(activation: object) -> None:
    made = as_factory(activation)()  # type: ignore[arg-type] # one of the three allowed forms
    assert isinstance(made, Activation)
    assert str(made.expression) == TEXT


def test_a_class_is_a_factory() -> None:
    assert as_factory(nn.ReLU) is nn.ReLU


@pytest.mark.parametrize("thing", [nn.ReLU(), 3, None])
def test_what_is_no_factory_is_refused(thing: object) -> None:
    with pytest.raises(TypeError, match="activation must be a text"):
        as_factory(thing)  # type: ignore[arg-type] # the wrong type is the test


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("name", OPERATORS)
def test_every_operator_on_a_gpu(name: str) -> None:
    arity = OPERATORS[name].arity if OPERATORS[name].arity > 0 else 3
    activation = Activation(Expression(name, (Expression("x"),) * arity))
    x = torch.linspace(0.1, 2, 7, dtype=torch.float64)
    torch.testing.assert_close(activation(x.cuda()).cpu(), activation(x))
