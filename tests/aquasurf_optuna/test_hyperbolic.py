"""`arcsinh`, `sinh` and `cosh` on a processor, against torch's own in float64."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.autograd import forward_ad

from aquasurf_optuna import _hyperbolic

PAIRS = [
    (_hyperbolic.arcsinh, torch.asinh),
    (_hyperbolic.sinh, torch.sinh),
    (_hyperbolic.cosh, torch.cosh),
]
EPSILON = torch.finfo(torch.float32).eps
Function = Callable[[Tensor], Tensor]

each = pytest.mark.parametrize(("ours", "torchs"), PAIRS, ids=["arcsinh", "sinh", "cosh"])


def numbers() -> Tensor:
    sizes = torch.cat([torch.logspace(-45, 38.53, 20_001), torch.linspace(0, 100, 20_001)])
    edges = torch.tensor([0.0, 1e30, 3.4e38, float("inf"), float("nan")])
    every = torch.cat([sizes, edges])
    return torch.cat([every, -every])


def agree(found: Tensor, expected: Tensor) -> Tensor:
    """Say which numbers are the same to three units of their last digit, or alike if not finite."""
    rounded = expected.float()
    smallest = torch.finfo(torch.float32).tiny
    close = (found.double() - expected).abs() <= 3 * EPSILON * expected.abs().clamp(min=smallest)
    signs = torch.signbit(found) == torch.signbit(rounded)
    same = (found == rounded) | (found.isnan() & rounded.isnan())
    return torch.where(rounded.isfinite(), close & signs, same)


@each
def test_values_and_slopes_are_right_to_the_last_digits(ours: Function, torchs: Function) -> None:
    x, exact = numbers().requires_grad_(), numbers().double().requires_grad_()
    y, expected = ours(x), torchs(exact)
    assert agree(y.detach(), expected.detach()).all()
    (slope,) = torch.autograd.grad(y.sum(), x)
    (expected_slope,) = torch.autograd.grad(expected.sum(), exact)
    # A slope below the range of float32 may be 0, as torch's own is.
    normal = expected_slope.isnan() | (expected_slope.abs() > 1e-19)
    assert agree(slope, expected_slope)[normal].all()
    assert (slope[~normal].abs() <= 1e-18).all()
    assert not agree(y.detach() * (1 + 4 * EPSILON), expected.detach()).all()


@each
def test_without_gradients_the_values_are_the_same(ours: Function, torchs: Function) -> None:
    x = numbers()
    kept, y = x.clone(), ours(x)
    torch.testing.assert_close(x, kept, rtol=0, atol=0, equal_nan=True)
    assert not y.requires_grad
    with_gradients = ours(x.requires_grad_()).detach()
    torch.testing.assert_close(y, with_gradients, rtol=0, atol=0, equal_nan=True)


@each
def test_second_derivatives(ours: Function, torchs: Function) -> None:
    x = torch.linspace(-3, 3, 41).requires_grad_()
    exact = x.detach().double().requires_grad_()
    for function, at in ((ours, x), (torchs, exact)):
        (slope,) = torch.autograd.grad(function(at).sum(), at, create_graph=True)
        slope.sum().backward()
    assert x.grad is not None
    assert exact.grad is not None
    torch.testing.assert_close(x.grad.double(), exact.grad, rtol=1e-5, atol=1e-6)


@pytest.mark.filterwarnings("ignore:`torch.jit:FutureWarning")
@each
def test_torch_sees_its_own_functions_wherever_it_looks(ours: Function, torchs: Function) -> None:
    x = torch.linspace(-3, 3, 40).reshape(5, 8)
    torch.testing.assert_close(torch.func.vmap(torch.func.vmap(ours))(x), torchs(x))
    torch.testing.assert_close(
        torch.func.vmap(torch.func.vmap(torch.func.grad(ours)))(x),
        torch.func.vmap(torch.func.vmap(torch.func.grad(torchs)))(x),
    )
    with forward_ad.dual_level():
        dual = forward_ad.make_dual(x, torch.ones_like(x))
        tangent = forward_ad.unpack_dual(ours(dual)).tangent
        expected = forward_ad.unpack_dual(torchs(dual)).tangent
    torch.testing.assert_close(tangent, expected)
    traced = torch.jit.trace(ours, x)
    assert any(node.kind() == f"aten::{torchs.__name__}" for node in traced.graph.nodes())
    exported = torch.export.export(_Module(ours), (x,))
    assert f"aten.{torchs.__name__}.default" in str(exported.graph)


class _Module(torch.nn.Module):
    def __init__(self, function: Function) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


@each
@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_other_dtypes_are_torchs(ours: Function, torchs: Function, dtype: torch.dtype) -> None:
    x = torch.linspace(-3, 3, 40).to(dtype)
    assert torch.equal(ours(x), torchs(x))


@each
def test_any_shape_and_memory_format(ours: Function, torchs: Function) -> None:
    x = torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last)
    for each_x in (x, x[:, ::2, 1:], x.expand(7, 2, 3, 4, 5), x[:0], x[0, 0, 0, 0]):
        assert torch.allclose(ours(each_x), torchs(each_x))
        assert ours(each_x).stride() == torchs(each_x).stride()
