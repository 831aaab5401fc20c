"""Distributed data parallel: two processes with fused kernels learn what one learns without."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest
import torch
from torch import Tensor, distributed, multiprocessing, nn
from torch.nn.parallel import DistributedDataParallel

from aquasurf_optuna.activation import Activation
from aquasurf_optuna.kernels import Kernel

TEXT = "mul(swish(x),erfc(bessel_i0e(x)))"
RANKS = 2

pytestmark = pytest.mark.skipif(not distributed.is_available(), reason="torch has no distributed")


def network(kernel: Kernel) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(2, 4, 3), Activation(TEXT, kernel=kernel), nn.Flatten(), nn.Linear(144, 3)
    )


def batch() -> Tensor:
    return torch.randn(3, 8, 2, 8, 8, generator=torch.Generator().manual_seed(1))


def train(model: nn.Module, images: Tensor) -> None:
    """Take a step for each batch; the loss is a mean, so that those of equal halves average."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    for step in images:
        optimizer.zero_grad()
        model(step).square().mean().backward()
        optimizer.step()


def on_a_rank(rank: int, port: int, folder: Path) -> None:
    torch.set_num_threads(1)
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    distributed.init_process_group("gloo", rank=rank, world_size=RANKS)
    model = DistributedDataParallel(network("fused"))
    train(model, batch().chunk(RANKS, dim=1)[rank])
    torch.save(model.module.state_dict(), folder / f"{rank}.pt")
    distributed.destroy_process_group()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.slow
def test_two_ranks_learn_what_one_process_learns(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    alone = network("composed")
    before = {name: value.clone() for name, value in alone.state_dict().items()}
    train(alone, batch())
    multiprocessing.spawn(on_a_rank, args=(port, tmp_path), nprocs=RANKS)
    for rank in range(RANKS):
        found = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        for name, value in alone.state_dict().items():
            torch.testing.assert_close(found[name], value)
            assert (value - before[name]).abs().max() > 1e-4
