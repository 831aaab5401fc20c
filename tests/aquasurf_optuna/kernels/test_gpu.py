"""On a GPU: the same numbers as on a processor, one kernel each way, and only the input kept."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from aquasurf_optuna.activation import Activation
from aquasurf_optuna.discovered import DISCOVERED
from aquasurf_optuna.kernels import Kernel, _fused
from benchmarks.kernels import kept

DEVICE = "cuda"
TEXTS = sorted({str(each.expression) for each in DISCOVERED if not each.is_baseline})
ROUNDING = {torch.float32: 1e-5, torch.bfloat16: 1e-2, torch.float16: 2e-3}

pytestmark = [
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
    pytest.mark.filterwarnings("ignore"),
]


def inputs(dtype: torch.dtype = torch.float32) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return (2 * torch.randn(4, 8, 9, 9, generator=generator)).to(DEVICE, dtype)


def value_and_gradient(activation: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
    leaf = x.detach().requires_grad_()
    value = activation(leaf)
    (gradient,) = torch.autograd.grad(value, leaf, torch.ones_like(value))
    return value.detach(), gradient


@pytest.mark.parametrize("dtype", ROUNDING, ids=str)
@pytest.mark.parametrize("kernel", ["recomputed", "fused"])
@pytest.mark.parametrize("text", TEXTS)
def test_the_numbers_are_those_of_a_processor_in_float64(
    text: str, kernel: Kernel, dtype: torch.dtype
) -> None:
    x = inputs(dtype)
    found = value_and_gradient(Activation(text, kernel=kernel), x)
    expected = value_and_gradient(Activation(text, kernel="composed"), x.cpu().double())
    assert _fused.failure(DEVICE) is None
    for one, other in zip(found, expected, strict=True):
        assert one.dtype == dtype
        scale = float(other.abs().max())
        torch.testing.assert_close(
            one.cpu().double(), other, rtol=ROUNDING[dtype], atol=ROUNDING[dtype] * scale
        )


@pytest.mark.parametrize("text", TEXTS)
def test_only_the_input_is_kept(text: str) -> None:
    assert kept(Activation(text, kernel="fused"), inputs()) == 1


def test_layouts_autocast_and_checkpoints() -> None:
    fused, composed = (Activation(TEXTS[0], kernel=k) for k in ("fused", "composed"))
    for x in (
        inputs().to(memory_format=torch.channels_last),
        inputs()[:, ::2],
        inputs().permute(1, 0, 3, 2),
        inputs()[:0],
        inputs().flatten()[3:],  # neither a multiple of 16 numbers nor at a multiple of 16 bytes
    ):
        for one, other in zip(
            value_and_gradient(fused, x), value_and_gradient(composed, x), strict=True
        ):
            torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)
    with torch.autocast(DEVICE, dtype=torch.bfloat16):
        assert fused(inputs()).dtype == torch.float32
    leaf = inputs().requires_grad_()
    checkpoint(fused, leaf, use_reentrant=False).sum().backward()
    torch.testing.assert_close(leaf.grad, value_and_gradient(fused, inputs())[1])


def test_passes_may_be_recorded_as_a_cuda_graph() -> None:
    expected = value_and_gradient(Activation(TEXTS[0], kernel="fused"), inputs())
    recorded = torch.cuda.make_graphed_callables(
        Activation(TEXTS[0], kernel="fused"), (inputs().requires_grad_(),)
    )
    for one, other in zip(value_and_gradient(recorded, inputs()), expected, strict=True):
        assert torch.equal(one, other)


def test_a_network_learns_the_same() -> None:
    losses = []
    for kernel in ("composed", "fused"):
        torch.manual_seed(0)
        network = nn.Sequential(
            nn.Conv2d(8, 8, 3), Activation(TEXTS[0], kernel=kernel), nn.Flatten(), nn.LazyLinear(3)
        ).to(DEVICE)
        network(inputs())
        optimizer = torch.optim.SGD(network.parameters(), lr=0.05)
        for _ in range(5):
            optimizer.zero_grad()
            loss = network(inputs()).square().mean()
            loss.backward()
            optimizer.step()
        losses.append(float(loss))
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)
