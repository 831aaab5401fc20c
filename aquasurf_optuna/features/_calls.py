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
        if all(size == 1 for size in self.geometry.kernel) and self._sees_all(inputs):
            return _kfac.location_moments(inputs)
        return _patches.patch_moments(inputs, self.geometry)

    def sampled_moments(self, inputs: Tensor, number: int, seed: int) -> Moments | Rows:
        """Estimate :meth:`moments` from so many uses, drawn at random."""
        uses = self._uses(inputs)
        if number >= uses:
            return self.moments(inputs)
        if self.geometry is None:
            generator = torch.Generator().manual_seed(seed)
            chosen = torch.randperm(uses, generator=generator)[:number].to(inputs.device)
            rows = inputs.reshape(-1, inputs.shape[-1])[chosen]
        else:
            rows = _patches.sampled_patches(self._batched(inputs), self.geometry, number, seed)
        part = _kfac.position_moments(rows).summed()
        factor = uses / number
        return Moments(part.second * factor, part.first * factor, uses)

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

    def _sees_all(self, inputs: Tensor) -> bool:
        geometry = self.geometry
        assert geometry is not None
        return (
            geometry.groups == 1
            and geometry.output == tuple(inputs.shape[2:])
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
