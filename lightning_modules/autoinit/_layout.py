"""Rules of operations that move values about: what they do to a tensor, they do to its moments."""

from __future__ import annotations

import torch
from torch import Tensor

from lightning_modules.autoinit._call import Call, plain, rule
from lightning_modules.autoinit._signal import Moments, Signal, apart, compact, constant, place_axes


@rule(
    "view", "reshape", "permute", "transpose", "movedim", "moveaxis", "swapaxes", "swapdims", "t",
    "T", "mT", "flatten", "unflatten", "view_as", "reshape_as", "repeat", "tile", "roll",
    "pixel_shuffle", "pixel_unshuffle",
)  # fmt: skip
def rearranged(call: Call) -> list[Signal] | None:
    """Move values; another axis of places may be the last one afterwards, so they count alike."""
    moments = call.moments
    alike = apart(moments, call.shape, place_axes(moments))
    return _moved(call, moments._replace(beside=alike, within=alike))


@rule(
    "squeeze", "unsqueeze", "expand", "expand_as", "chunk", "split", "tensor_split", "unbind",
    "narrow", "select", "getitem", "flip", "channel_shuffle", "index_select",
)  # fmt: skip
def picked(call: Call) -> list[Signal] | None:
    """Move values, the last axis of places staying the last."""
    return _moved(call, call.moments)


def _moved(call: Call, moments: Moments) -> list[Signal] | None:
    """Put each moment through the operation itself."""
    if len(call.traced) > 1 and call.name not in ("expand_as", "view_as", "reshape_as"):
        return None
    parts = [call.moved(moment) for moment in moments]
    origin = call.traced[0].signal.origin
    return [Signal(Moments._make(fields), origin) for fields in zip(*parts, strict=True)]


@rule(
    "contiguous", "clone", "detach", "data", "to", "type", "type_as", "float", "double", "half",
    "bfloat16", "cpu", "cuda", "requires_grad", "alias",
)  # fmt: skip
def kept(call: Call) -> Signal:
    """Pass the signal on."""
    return call.traced[0].signal


@rule("pad")
def padded(call: Call) -> Signal | None:
    """Pad the moments as the values are: with zeros, or with values from elsewhere."""
    given = call.bound("input", "pad", "mode", "value")
    reach = len(given["pad"]) // 2
    if given["value"] or len(call.shape) - reach < 2:
        return None
    moments = call.moments
    fields = [call.moved(moment.expand(call.shape))[0] for moment in moments[:-1]]
    return Signal(Moments._make([*fields, moments.unit]))


@rule("cat", "concat", "concatenate")
def joined(call: Call) -> Signal | None:
    """Lay the moments side by side; along an axis of channels, no channel is another's."""
    given = call.bound("tensors", "dim", dim=0)
    axis = given["dim"]
    if len(call.constants) or not axis:
        return None
    signals = [tensor.signal.moments for tensor in call.traced]
    shapes = [tuple(plain(tensor).shape) for tensor in call.traced]
    pairs = list(zip(signals, shapes, strict=True))
    fields = [
        compact(torch.cat([moments[i].expand(shape) for moments, shape in pairs], dim=axis))
        for i in range(len(pairs[0][0]) - 1)
    ]
    return Signal(Moments._make([*fields, _joined_units(pairs, axis)]))


def _joined_units(pairs: list[tuple[Moments, tuple[int, ...]]], axis: int) -> Tensor:
    units, offset = [], 0.0
    along_channels = any(moments.unit.shape[axis] > 1 for moments, _ in pairs)
    if not along_channels:
        return pairs[0][0].unit
    for moments, shape in pairs:
        units.append((moments.unit + offset).expand(shape))
        offset = float(units[-1].max()) + 1
    return compact(torch.cat(units, dim=axis))


@rule("interpolate", "upsample")
def interpolated(call: Call) -> Signal | None:
    """Mix places as the interpolation weighs them.

    A mixture `sum_i w_i x_i` has the second moment `sum_i w_i**2 same + (1 - sum_i w_i**2) apart`.
    """
    shape = call.shape
    places = torch.Size(shape[2:]).numel()
    if places > _MOST_PLACES:
        return None
    impulses = torch.eye(places, dtype=torch.float64).reshape(places, 1, *shape[2:])
    weights = call.on(impulses)
    moments = call.moments.replaced(call.on_places)
    elsewhere = apart(moments, shape, place_axes(moments))

    def mixture(shares: Tensor) -> Tensor:
        squares = (shares**2).sum(0, keepdim=True)
        return squares * moments.same + (1 - squares) * elsewhere

    same, count = mixture(weights), weights[0].numel()
    # Neighbours share sources: the mean over all places tells how much pairs have in common.
    whole = mixture(weights.flatten(2).mean(-1).reshape(places, 1, *[1] * (len(shape) - 2)))
    elsewhere = elsewhere + (count * whole - same).mean() / (count - 1) - elsewhere.mean()
    return Signal(moments._replace(same=compact(same), beside=elsewhere, within=elsewhere))


_MOST_PLACES = 1024
"""Interpolation from more places than this is left alone: its weights would fill the memory."""


@rule("new_empty", "new_zeros", "empty_like", "zeros_like")
def emptied(call: Call) -> Signal:
    """Start a tensor that other operations fill."""
    zero = constant(0.0, call.result.ndim)
    return Signal(Moments._make([zero] * len(Moments._fields)))


@rule("bernoulli")
def drawn(call: Call) -> Signal | None:
    """Draw one value a sample, as stochastic depth does: 1 with probability `p`, else 0."""
    p = call.bound("input", "p")["p"]
    if not isinstance(p, float) or call.result.numel() != len(call.result):
        return None
    share = constant(p, call.result.ndim)
    return Signal(Moments(share, share, share, share, share**2, share * 0))
