"""Small networks that several test files share."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn


def seeded(build: Callable[[], nn.Module], seed: int = 0) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return build()


def batch(*shape: int, seed: int = 1, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def small_cnn(activation: Callable[..., nn.Module] = nn.Tanh) -> nn.Sequential:
    """Takes (M, 2, 6, 6), returns (M, 3)."""
    return nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1),
        activation(),
        nn.Conv2d(4, 4, 3, stride=2),
        activation(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(4, 3),
    )


def seeded_cnn(activation: Callable[..., nn.Module] = nn.Tanh) -> nn.Module:
    return seeded(lambda: small_cnn(activation))


class Apply(nn.Module):
    """Lets tests put any function into a Sequential."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


def dense(*between: nn.Module, outputs: int = 3) -> nn.Sequential:
    """Takes (M, 4), returns (M, outputs); the layers are "first" and "last"."""
    model = nn.Sequential()
    model.add_module("first", seeded(lambda: nn.Linear(4, 5)))
    for number, module in enumerate(between):
        model.add_module(f"between{number}", module)
    model.add_module("last", seeded(lambda: nn.Linear(5, outputs)))
    return model


def assert_equal_spectra(actual: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert actual.keys() == expected.keys()
    for name in expected:
        assert torch.equal(actual[name], expected[name]), name
