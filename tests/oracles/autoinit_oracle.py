"""Mean and variance of a function of a Gaussian by drawing it, with their standard errors."""

import math
from collections.abc import Callable

import torch
from torch import Tensor


def agrees(
    function: Callable[[Tensor], Tensor],
    *,
    inputs: tuple[float, float],
    outputs: tuple[float, float],
    draws: int = 1_000_000,
    sigmas: float = 5.0,
) -> bool:
    """Whether (mean, variance) `outputs` fit draws of `function(z)`, z ~ N(mean, variance)."""
    generator = torch.Generator().manual_seed(0)
    z = torch.randn(draws, generator=generator, dtype=torch.float64)
    y = function(inputs[0] + math.sqrt(inputs[1]) * z)
    squares = (y - y.mean()) ** 2
    pairs = ((y, outputs[0]), (squares, outputs[1]))
    return all(
        abs(float(values.mean()) - claimed) <= sigmas * float(values.std()) / math.sqrt(draws)
        for values, claimed in pairs
    )
