"""Rules of the layers that get weights: linear maps and convolutions.

Independent weights of variance `s**2` and mean 0 turn `E[x x']` into `s**2` times its sum over
what the layer reads, at two places by the same weights; zero padding leaves terms of this sum out.
`s` is such that `same`, on average over the places of the output, becomes 1.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from lightning_modules.autoinit._call import Call, rule
from lightning_modules.autoinit._signal import (
    Moments,
    Origin,
    Signal,
    channels,
    compact,
    constant,
)


@rule("linear")
def linear(call: Call) -> Signal | None:
    """Sum over the last axis."""
    given = call.bound("input", "weight", "bias")
    fan_in = call.shape[-1]

    def summed(moment: Tensor) -> Tensor:
        return moment.mean(-1, keepdim=True) * fan_in

    return _weighted(call, summed, axis=-1, given=given)


@rule("conv1d", "conv2d", "conv3d")
def convolved(call: Call) -> Signal | None:
    """Sum over the kernel and the channels of a group."""
    given = call.bound("input", "weight", "bias", "stride", "padding", "dilation", "groups")
    options = {key: given[key] for key in ("stride", "padding", "dilation")}
    return _convolved(call, given, options, fan_in=given["weight"].shape[1])


@rule("conv_transpose1d", "conv_transpose2d", "conv_transpose3d")
def convolved_backwards(call: Call) -> Signal | None:
    """Sum over the kernel and the channels of a group."""
    given = call.bound(
        "input", "weight", "bias", "stride", "padding", "output_padding", "groups", "dilation"
    )
    options = {key: given[key] for key in ("stride", "padding", "output_padding", "dilation")}
    return _convolved(call, given, options, fan_in=call.shape[1] // (given["groups"] or 1))


def _convolved(
    call: Call, given: dict[str, Any], options: dict[str, Any], fan_in: int
) -> Signal | None:
    weight = given["weight"]
    if len(call.shape) != call.result.ndim or not isinstance(weight, Tensor):
        return None
    ones = torch.ones(1, 1, *weight.shape[2:], dtype=torch.float64)
    options = {key: value for key, value in options.items() if value is not None}
    if weight.ndim != len(call.shape):
        return None

    def summed(moment: Tensor) -> Tensor:
        places = moment.mean(1, keepdim=True).expand(-1, 1, *call.shape[2:])
        output: Tensor = call.function(places, ones, **options)
        return compact(output) * fan_in

    return _weighted(call, summed, axis=1, given=given)


def _weighted(
    call: Call, summed: Callable[[Tensor], Tensor], *, axis: int, given: dict[str, Any]
) -> Signal | None:
    if len(call.traced) > 1 or call.traced[0] is not given["input"]:
        return None
    moments = call.moments
    same = summed(moments.same)
    power = float(same.mean())
    call.tracer.weigh(given["weight"], given["bias"], power)
    zero, unit = constant(0.0, call.result.ndim), channels(call.result.shape, axis)
    elsewhere = [summed(moments.beside), summed(moments.within)]
    # A vector has no other place than its own.
    elsewhere = [same, same] if call.result.ndim < 3 else elsewhere
    fields = [same, *elsewhere, summed(moments.between)]
    origin = Origin(call.traced[0].signal, given["weight"][0].numel())
    return Signal(Moments._make([zero, *(field / power for field in fields), unit]), origin)
