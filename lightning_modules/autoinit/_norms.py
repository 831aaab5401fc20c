"""Rules of normalisation in training mode, by the statistics of the batch or of the sample.

A normalisation subtracts what the entries it averages over have in common and divides by what is
left. Over a large batch and many places, a channel's mean is what its samples share (`between`), so
that behind a batch norm two samples have nothing in common.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor

from lightning_modules.autoinit._call import Call, rule
from lightning_modules.autoinit._signal import Moments, Signal, apart, compact, place_axes


@rule("batch_norm")
def batch_norm(call: Call) -> Signal:
    """Subtract each channel's mean over samples and places, divide by its deviation."""
    given = call.bound(
        "input", "running_mean", "running_var", "weight", "bias", "training", "momentum", "eps",
        eps=1e-5,
    )  # fmt: skip
    moments = call.moments
    axes = tuple(axis for axis in range(len(call.shape)) if axis != 1)
    # Where padding makes a place's mean smaller, the mean over places is more than it has.
    own = moments.between.clamp(min=0.0).sqrt()
    centre = own.mean(dim=axes, keepdim=True)
    common = 2.0 * own * centre - centre**2
    left = moments._replace(
        mean=moments.mean * 0.0,
        same=moments.same - common,
        beside=moments.beside - common,
        within=moments.within - common,
        between=moments.between - common,
    )
    variance = left.same.mean(dim=axes, keepdim=True)
    return _affine(left.scaled(1.0 / (variance + given["eps"])), given)


@rule("layer_norm")
def layer_norm(call: Call) -> Signal:
    """Normalise over the last axes of each sample."""
    given = call.bound("input", "normalized_shape", "weight", "bias", "eps", eps=1e-5)
    axes = range(len(call.shape) - len(given["normalized_shape"]), len(call.shape))
    return _affine(_of_sample(call, list(axes), 1, given["eps"]), given)


@rule("group_norm")
def group_norm(call: Call) -> Signal:
    """Normalise over the channels of a group and all places of each sample."""
    given = call.bound("input", "num_groups", "weight", "bias", "eps", eps=1e-5)
    axes = list(range(1, len(call.shape)))
    return _affine(_of_sample(call, axes, given["num_groups"], given["eps"]), given)


@rule("instance_norm")
def instance_norm(call: Call) -> Signal:
    """Normalise over the places of each channel of each sample."""
    given = call.bound(
        "input", "running_mean", "running_var", "weight", "bias", "use_input_stats", "momentum",
        "eps", eps=1e-5,
    )  # fmt: skip
    axes = list(range(1, len(call.shape)))
    return _affine(_of_sample(call, axes, call.shape[1], given["eps"]), given)


@rule("rms_norm")
def rms_norm(call: Call) -> Signal:
    """Divide by the root of the mean square over the last axes of each sample."""
    given = call.bound("input", "normalized_shape", "weight", "eps")
    axes = range(len(call.shape) - len(given["normalized_shape"]), len(call.shape))
    power = call.moments.same.mean(dim=tuple(axes), keepdim=True)
    return _affine(call.moments.scaled(1.0 / (power + (given["eps"] or 0.0))), given)


def _of_sample(call: Call, axes: Sequence[int], groups: int, eps: float) -> Moments:
    moments = call.moments
    over = moments.replaced(lambda moment: moment.mean(dim=tuple(axes), keepdim=True))
    sizes = {axis: call.shape[axis] for axis in axes}
    units = math.prod(size for axis, size in sizes.items() if moments.unit.shape[axis] > 1)
    places = math.prod(sizes.values()) // units
    units //= groups
    others = (units - 1) * over.mean**2
    # The mean of one sample's group squared, and its product with that of another place or sample.
    within = apart(over, call.shape, [axis for axis in axes if axis in place_axes(moments)])
    common = ((over.same + (places - 1) * within) / places + others) / units
    elsewhere = common if places > 1 else (over.within + others) / units
    left = Moments(
        moments.mean - over.mean,
        moments.same - common,
        moments.beside - (common if places > 1 else (over.beside + others) / units),
        moments.within - elsewhere,
        moments.between - (over.between + others) / units,
        moments.unit,
    )
    variance = left.same.mean(dim=tuple(axes), keepdim=True)
    return left.scaled(1.0 / (variance + eps)).replaced(compact)


def _affine(moments: Moments, given: dict[str, Tensor | None]) -> Signal:
    """Scale and shift by the layer's own parameters, on average over channels."""
    weight, bias = given.get("weight"), given.get("bias")
    if weight is None:
        return Signal(moments)
    scale = weight.detach().double().cpu()
    shift = scale * 0.0 if bias is None else bias.detach().double().cpu()
    square, both, rest = (
        float(values.mean()) for values in (scale**2, 2.0 * scale * shift, shift**2)
    )
    mean = moments.mean * float(scale.mean()) + float(shift.mean())
    moved = [moment * square + moments.mean * both + rest for moment in moments[1:-1]]
    return Signal(Moments._make([mean, *moved, moments.unit]))
