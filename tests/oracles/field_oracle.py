"""Moments of random fields by drawing them, with standard errors: what AutoInit's rules claim.

A field has channels, places and samples. Its values are sums of independent Gaussians that are
shared by all samples, by the places of a sample, by a row of places, or by nothing.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor


class Claim(NamedTuple):
    """`E[x]`, `E[x**2]`, and `E[x x']` within a row, within a sample, and between samples."""

    mean: float
    same: float
    beside: float
    within: float
    between: float


def draw(claim: Claim, shape: tuple[int, int, int, int], generator: torch.Generator) -> Tensor:
    """Draw a Gaussian field `[batch, channels, rows, columns]` with these moments."""
    batch, channels, rows, columns = shape
    levels = [claim.mean**2, claim.between, claim.within, claim.beside, claim.same]
    sizes = [
        (1, channels, 1, 1),
        (batch, channels, 1, 1),
        (batch, channels, rows, 1),
        (batch, channels, rows, columns),
    ]
    field = torch.full((1, 1, 1, 1), claim.mean, dtype=torch.float64)
    for lower, upper, size in zip(levels, levels[1:], sizes, strict=False):
        noise = torch.randn(size, generator=generator, dtype=torch.float64)
        field = field + math.sqrt(upper - lower) * noise
    return field


def measured(fields: Tensor) -> Claim:
    """Return the moments of one drawn tensor `[batch, channels, rows, columns]`."""
    batch, _, rows, columns = fields.shape
    same = float(fields.square().mean())
    row, sample = fields.mean(3).square().mean(), fields.mean((2, 3)).square().mean()
    whole = fields.mean((0, 2, 3)).square().mean()
    # Each mean of products contains those of a value with itself, and of lower levels.
    beside = (columns * row - same) / (columns - 1) if columns > 1 else same
    within = (rows * sample - row) / (rows - 1) if rows > 1 else beside
    between = (batch * whole - sample) / (batch - 1)
    return Claim(float(fields.mean()), same, float(beside), float(within), float(between))


def agrees(
    operation: Callable[[Tensor], Tensor],
    claim: Claim,
    *,
    inputs: Claim,
    shape: tuple[int, int, int, int],
    draws: int = 30,
    sigmas: float = 5.0,
    slack: float = 0.0,
) -> bool:
    """Whether the moments behind an operation fit draws of it, but for `slack` of `same`."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        rows = [measured(operation(draw(inputs, shape, generator))) for _ in range(draws)]
    values = torch.tensor(rows, dtype=torch.float64)
    errors = sigmas * values.std(0) / math.sqrt(draws) + slack * claim.same + 1e-12
    return bool(((values.mean(0) - torch.tensor(claim)).abs() <= errors).all())
