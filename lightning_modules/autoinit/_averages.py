"""Rules of averages over places: pooling, sums and means, softmax and attention.

The average of `n` values of one channel has the second moment `(same + (n - 1) apart) / n`, where
`apart` is `E[x x']` for two different places, and the product of two averages over other places is
`apart` itself. Windows of pooling that overlap count as different places.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from lightning_modules.autoinit._arithmetic import without
from lightning_modules.autoinit._call import Call, TracedTensor, plain, rule
from lightning_modules.autoinit._quadrature import largest, softmax_concentration
from lightning_modules.autoinit._signal import (
    Moments,
    Shares,
    Signal,
    apart,
    constant,
    grouped,
    leaning,
    place_axes,
)

_AVERAGE_POOLS: dict[int, Callable[..., Tensor]] = {
    3: F.avg_pool1d,
    4: F.avg_pool2d,
    5: F.avg_pool3d,
}


@rule("mean")
def mean(call: Call) -> Signal | None:
    """Average over any axes but the first."""
    given = call.bound("input", "dim", "keepdim")
    axes = _axes(call, given["dim"])
    if axes is None:
        return None
    moments = averaged(call.moments, call.shape, axes)
    return Signal(moments if given["keepdim"] else _without_axes(moments, axes))


@rule("sum")
def total(call: Call) -> Signal | None:
    """Add up over any axes but the first: the average, times the number of terms."""
    given = call.bound("input", "dim", "keepdim")
    axes = _axes(call, given["dim"])
    if axes is None:
        return None
    count = math.prod(call.shape[axis] for axis in axes)
    moments = averaged(call.moments, call.shape, axes).scaled(float(count**2))
    return Signal(moments if given["keepdim"] else _without_axes(moments, axes))


def _axes(call: Call, dim: object) -> list[int] | None:
    if isinstance(dim, int):
        dim = [dim]
    if not isinstance(dim, Sequence) or not dim:
        return None
    axes = [axis % len(call.shape) for axis in dim]
    return None if 0 in axes else axes


def averaged(moments: Moments, shape: Sequence[int], axes: Sequence[int]) -> Moments:
    """Return the moments of the average over some axes, which stay with size 1.

    Args:
        moments: Of a tensor.
        shape: Its shape.
        axes: Of places, of channels, or of both; not the first.
    """
    over = moments.replaced(lambda moment: moment.mean(dim=tuple(axes), keepdim=True))
    places = place_axes(moments)
    inside = [axis for axis in places if axis in axes]
    left = [axis for axis in places if axis not in axes and shape[axis] > 1]
    count = math.prod(shape[axis] for axis in inside)
    same = (over.same + (count - 1) * apart(over, shape, inside)) / count
    # The last axis of places has only one place left, if it was averaged over.
    beside = same
    if left and left[-1] == places[-1]:
        beside = (over.beside + (count - 1) * over.within) / count
    within = over.within if any(axis != places[-1] for axis in left) else beside
    over = over._replace(same=same, beside=beside, within=within)
    return _over_channels(over, shape, axes)


def _over_channels(moments: Moments, shape: Sequence[int], axes: Sequence[int]) -> Moments:
    count = math.prod(shape[axis] for axis in axes if moments.unit.shape[axis] > 1)
    square = moments.mean**2
    changed = [(moment + (count - 1) * square) / count for moment in moments[1:-1]]
    unit = moments.unit
    for axis in axes:
        unit = unit.narrow(axis, 0, 1)
    return Moments._make([moments.mean, *changed, unit])


def _without_axes(moments: Moments, axes: Sequence[int]) -> Moments:
    return Moments._make(moment.squeeze(tuple(axes)) for moment in moments)


@rule("adaptive_avg_pool1d", "adaptive_avg_pool2d", "adaptive_avg_pool3d")
def pooled_to_size(call: Call) -> Signal:
    """Average over windows whose number is given."""
    if call.result.shape[2:].numel() == 1:
        return Signal(averaged(call.moments, call.shape, range(2, len(call.shape))))
    count = math.prod(call.shape[2:]) / call.result.shape[2:].numel()
    return Signal(_pooled(call, max(count, 1.0)))


@rule("avg_pool1d", "avg_pool2d", "avg_pool3d")
def pooled(call: Call) -> Signal:
    """Average over windows."""
    return Signal(_pooled(call, _window(call)))


def _pooled(call: Call, count: float) -> Moments:
    over = call.moments.replaced(call.on_places)
    elsewhere = apart(over, call.shape, place_axes(over))
    same = (over.same + (count - 1) * elsewhere) / count
    if call.result.shape[2:].numel() == 1:
        elsewhere = same
    return over._replace(same=same, beside=elsewhere, within=elsewhere)


def _window(call: Call) -> int:
    size = call.bound("input", "kernel_size")["kernel_size"]
    sides = len(call.shape) - 2
    return math.prod(size) if len(_tuple(size)) == sides else _tuple(size)[0] ** sides


def _tuple(size: int | Sequence[int]) -> tuple[int, ...]:
    return (size,) if isinstance(size, int) else tuple(size)


@rule("max_pool1d", "max_pool2d", "max_pool3d")
def largest_in_window(call: Call) -> Signal | None:
    """Take the largest of a window, all of whose places count as inside the image."""
    given = call.bound("input", "kernel_size", "stride", "padding", "dilation", "ceil_mode")
    if not isinstance(call.result, Tensor) or set(_tuple(given["dilation"] or 1)) != {1}:
        return None
    signal = call.traced[0].signal
    groups, group, _ = grouped(signal.root.moments)
    outputs = largest(signal.function, groups, _window(call))
    pool = _AVERAGE_POOLS[len(call.shape)]

    def everywhere(column: Tensor) -> Tensor:
        moment = column[group]
        full = moment.expand(*moment.shape[:2], *call.shape[2:])
        padding, ceil = given["padding"] or 0, bool(given["ceil_mode"])
        return pool(
            full, given["kernel_size"], given["stride"], padding, ceil, count_include_pad=False
        )

    fields = [everywhere(column) for column in outputs.unbind(1)]
    return Signal(Moments._make([*fields, signal.root.moments.unit]))


@rule("softmax")
def softmax(call: Call) -> Signal | None:
    """Weigh an axis by shares of one; what all its entries have in common cancels."""
    axis = _axes(call, call.bound("input", "dim")["dim"])
    if axis is None:
        return None
    count, moments = call.shape[axis[0]], call.moments
    of_places = moments.unit.shape[axis[0]] == 1
    common = moments.beside if of_places else moments.mean**2
    variance = float((moments.same - common).mean())
    if count == 1 or variance <= 0 or (of_places and axis != place_axes(moments)[-1:]):
        return None
    excess = softmax_concentration(variance, count)
    # All pairs of shares, of one softmax or of two, add up to one.
    others = [(count - excess) / (count - 1), 1.0, 1.0]
    if not of_places:
        others = [
            excess ** (float((moment - common).mean()) / variance)
            for moment in (moments.beside, moments.within, moments.between)
        ]
    values = [1.0 / count, *(part / count**2 for part in (excess, *others))]
    fields = [constant(value, len(call.shape)) for value in values]
    found = Moments._make([*fields, moments.unit])
    origin = call.traced[0].signal.origin
    return Shares(found, origin, variance, count) if of_places else Signal(found)


@rule("scaled_dot_product_attention")
def attended(call: Call) -> Signal | None:
    """Average values by a softmax over products of queries and keys.

    Given a query, its products with the keys are Gaussian, and what all keys have in common cancels
    in the softmax. The averages of two queries agree the more, the more the queries are correlated.
    """
    given = call.bound("query", "key", "value", "attn_mask", "dropout_p", "is_causal", "scale")
    three = [given[name] for name in ("query", "key", "value")]
    if given["is_causal"] or not all(isinstance(one, TracedTensor) for one in three):
        return None
    query, key, value = (tensor.signal.moments for tensor in three)
    count, size = plain(three[1]).shape[-2:]
    scale = given["scale"] or 1.0 / math.sqrt(size)
    variance = scale**2 * size * float(query.same.mean() * (key.same - key.beside).mean())
    variance += _bias_variance(given["attn_mask"])
    excess = softmax_concentration(variance, count) if count > 1 else 1.0
    alike = min(max(float(query.beside.mean() / query.same.mean()), 0.0), 1.0)
    value = value.replaced(lambda moment: moment.mean(-2, keepdim=True))

    mixed = [
        share * value.same + (1.0 - share) * value.beside
        for share in (excess / count, excess**alike / count)
    ]
    origin = three[1].signal.origin
    if origin and origin == three[2].signal.origin:
        gain = leaning(variance, value, origin)
        mixed = [mixed[0] + gain, mixed[1] + gain * alike]
    outputs = value._replace(same=mixed[0], beside=mixed[1], within=mixed[1])
    return Signal(without(outputs, given["dropout_p"] or 0.0, call))


def _bias_variance(mask: object) -> float:
    """Return how much a learned bias on the products varies from key to key."""
    if not isinstance(mask, Tensor) or mask.is_meta or mask.dtype == torch.bool:
        return 0.0
    return float(mask.detach().double().var(-1, unbiased=False).mean())
