"""One use of a layer's weight: what linear map or convolution it is, and what data it sees."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from aquasurf_optuna.exceptions import UnsupportedModelError
from aquasurf_optuna.features import _kfac, _patches
from aquasurf_optuna.features._kfac import Moments, Rows

_CONVOLUTION = ("input", "weight", "bias", "stride", "padding", "dilation", "groups")
_TRANSPOSED = (
    "input", "weight", "bias", "stride", "padding", "output_padding", "groups", "dilation",
)  # fmt: skip

ARGUMENTS: Mapping[Callable[..., Tensor], Sequence[str]] = {
    F.linear: ("input", "weight", "bias"),
    F.conv1d: _CONVOLUTION,
    F.conv2d: _CONVOLUTION,
    F.conv3d: _CONVOLUTION,
    F.conv_transpose1d: _TRANSPOSED,
    F.conv_transpose2d: _TRANSPOSED,
    F.conv_transpose3d: _TRANSPOSED,
}
"""The functions that use a weight, with the names of their arguments in order."""


class Call(NamedTuple):
    """How a linear map (``geometry`` is None) or a convolution uses its weight.

    Attributes:
        geometry: Where a convolution looks.
        sequence: Inside `nn.MultiheadAttention`, where the samples come second: the length of the
            first axis, which may be folded into the second.
    """

    geometry: _patches.Geometry | None
    sequence: int | None

    def moments(self, inputs: Tensor) -> Moments | Rows:
        """Sum the second moments of what the weight sees, every location a use."""
        if self.geometry is None:
            return _kfac.position_moments(inputs)
        inputs = self._batched(inputs)
        if self._is_pointwise(inputs):
            return _kfac.location_moments(inputs)
        return _patches.patch_moments(inputs, self.geometry)

    def sampled_moments(self, inputs: Tensor, number: int, seed: int) -> Moments | Rows:
        """Estimate :meth:`moments` from so many uses, drawn at random.

        Twice as many uses as features are taken at least, for a factor to have its full rank, and
        all where the drawn ones happen to see nothing but zeros.
        """
        uses = self._uses(inputs)
        number = max(number, 2 * self._features(inputs))
        if number >= uses:
            return self.moments(inputs)
        if self.geometry is None:
            rows = _sampled_positions(inputs, number, seed)
        elif self._is_pointwise(inputs):
            rows = _patches.sampled_locations(self._batched(inputs), number, seed)
        else:
            rows = _patches.sampled_patches(self._batched(inputs), self.geometry, number, seed)
        return _scaled_up(rows, uses) if rows.any() else self.moments(inputs)

    def sums(self, inputs: Tensor, samples: int) -> tuple[Tensor, int]:
        """Sum what the weight sees of each sample over its locations.

        Returns:
            ``(samples, groups, D)`` without the homogeneous coordinate, and the locations.
        """
        if self.geometry is None:
            rows, locations = self._by_sample(inputs, samples)
            return rows[:, None], locations
        per_image = _patches.patch_sums(self._batched(inputs), self.geometry)
        images = _per_sample(len(per_image), samples, tuple(inputs.shape))
        locations = images * self._uses(inputs) // (len(per_image) * self.geometry.groups)
        return per_image.reshape(samples, images, *per_image.shape[1:]).sum(1), locations

    def gradient_moments(self, gradients: Tensor) -> Moments | Rows:
        """Sum the second moments of the gradients by the outputs, every location a use."""
        if self.geometry is None:
            return _kfac.position_moments(gradients)
        return _kfac.location_moments(self._batched(gradients))

    def output_uses(self, output: Tensor) -> int:
        """Count the locations of all samples."""
        channels = -1 if self.geometry is None else -1 - len(self.geometry.kernel)
        return output.numel() // output.shape[channels]

    def sampled_gradient_moments(self, gradients: Tensor, number: int, seed: int) -> Moments | Rows:
        """Estimate :meth:`gradient_moments` likewise."""
        axis = -1 if self.geometry is None else 1
        data = gradients if self.geometry is None else self._batched(gradients)
        uses = data.numel() // data.shape[axis]
        number = max(number, 2 * data.shape[axis])
        if number >= uses:
            return self.gradient_moments(gradients)
        sampled = _sampled_positions if self.geometry is None else _patches.sampled_locations
        rows = sampled(data, number, seed)
        return _scaled_up(rows, uses) if rows.any() else self.gradient_moments(gradients)

    def gradient_sums(self, gradients: Tensor, samples: int) -> Tensor:
        """Sum the gradients of each sample over its locations, ``(samples, I)``."""
        if self.geometry is None:
            return self._by_sample(gradients, samples)[0]
        per_image = self._batched(gradients).double().flatten(2).sum(2)
        images = _per_sample(len(per_image), samples, tuple(gradients.shape))
        return per_image.reshape(samples, images, -1).sum(1)

    def _by_sample(self, data: Tensor, samples: int) -> tuple[Tensor, int]:
        if self.sequence is not None:
            data = data.reshape(self.sequence, -1, data.shape[-1]).transpose(0, 1)
        _per_sample(len(data), samples, tuple(data.shape))
        grouped = data.double().reshape(samples, -1, data.shape[-1])
        return grouped.sum(1), grouped.shape[1]

    def _batched(self, data: Tensor) -> Tensor:
        assert self.geometry is not None
        return data if data.ndim == len(self.geometry.kernel) + 2 else data[None]

    def _uses(self, inputs: Tensor) -> int:
        if self.geometry is None:
            return inputs.numel() // inputs.shape[-1]
        locations = torch.Size(self.geometry.output).numel()
        return len(self._batched(inputs)) * self.geometry.groups * locations

    def _features(self, inputs: Tensor) -> int:
        if self.geometry is None:
            return inputs.shape[-1]
        taps = torch.Size(self.geometry.kernel).numel()
        return taps * self._batched(inputs).shape[1] // self.geometry.groups

    def _is_pointwise(self, inputs: Tensor) -> bool:
        geometry = self.geometry
        assert geometry is not None
        return (
            all(size == 1 for size in geometry.kernel)
            and geometry.groups == 1
            and geometry.output == tuple(self._batched(inputs).shape[2:])
            and not any(geometry.padding)
        )


def read_call(
    function: Callable[..., Tensor],
    arguments: Mapping[str, Any],
    output: Tensor,
    sequence: int | None,
) -> Call:
    """Describe a call of one of the functions in :data:`ARGUMENTS`."""
    if function is F.linear:
        return Call(None, sequence)
    weight: Tensor = arguments["weight"]
    axes = weight.ndim - 2
    kernel = tuple(weight.shape[2:])
    stride, dilation = (_sizes(arguments.get(name, 1), axes) for name in ("stride", "dilation"))
    reach = tuple(d * (k - 1) for k, d in zip(kernel, dilation, strict=True))
    padding = _padding(arguments.get("padding", 0), reach)
    transposed = "output_padding" in ARGUMENTS[function]
    if transposed:
        # The outputs see the inputs spread out by the stride, through a mirrored kernel.
        padding = tuple(r - p for r, p in zip(reach, padding, strict=True))
    ones = (1,) * axes
    return Call(
        _patches.Geometry(
            kernel=kernel,
            stride=ones if transposed else stride,
            dilation=dilation,
            padding=padding,
            output=tuple(output.shape[-axes:]),
            groups=int(arguments.get("groups", 1)),
            spread=stride if transposed else ones,
        ),
        None,
    )


def _sampled_positions(data: Tensor, number: int, seed: int) -> Tensor:
    rows = data.reshape(-1, data.shape[-1])
    return rows[_kfac.places(len(rows), number, seed).to(data.device)]


def _scaled_up(rows: Tensor, uses: int) -> Moments:
    """Sum over rows that stand for so many uses."""
    part = _kfac.position_moments(rows).summed()
    factor = uses / len(rows)
    return Moments(part.second * factor, part.first * factor, uses)


def _padding(padding: str | int | Sequence[int], reach: tuple[int, ...]) -> tuple[int, ...]:
    if isinstance(padding, str):
        return tuple(total // 2 if padding == "same" else 0 for total in reach)
    return _sizes(padding, len(reach))


def _sizes(value: int | Sequence[int], axes: int) -> tuple[int, ...]:
    if isinstance(value, int):
        return (value,) * axes
    return tuple(value) if len(value) == axes else tuple(value) * axes


def _per_sample(leading: int, samples: int, shape: tuple[int, ...]) -> int:
    if leading % samples:
        raise UnsupportedModelError(
            f"sharing='reduce' needs each sample's own data, but a layer saw {shape} for "
            f"{samples} samples, whose first dimension is no multiple of them; use 'expand'"
        )
    return leading // samples
