r"""Kronecker factors of one layer's Fisher information, and the logarithms of their eigenvalues.

Pure mathematics on tensors: nothing here knows of modules, hooks or models. The source is Appendix
C of AQuaSurF (Bingham and Miikkulainen, 2023), which follows Grosse and Martens (2016).

Symbols, one meaning in the whole file:

===========  =======================================================================================
``M``        samples in the mini-batch
``T``        locations at which a layer's weights are used on one sample: output pixels of a
             convolution, leading positions of a linear layer, 1 for a plain dense layer
``J, I``     input and output channels (or features)
``G``        groups of a convolution, ``J`` for a depthwise one, else 1
``K``        kernel positions, written ``|Delta|`` in the paper; 1 for a linear layer
``D``        length of one row of the expanded activations: ``(J/G) K``, plus 1 with a bias
``Omega``    ``(D, D)``, second moment of the expanded activations, Equation 17
``Gamma``    ``(I, I)``, second moment of the pre-activation gradients, Equation 18
===========  =======================================================================================

Layout: data are summed as *columns*, ``(features, uses)``, where a use is one (sample, location)
pair, or one (sample, location, group) triple for activations, so that a factor is
``columns @ columns.T`` over a constant. The order of the features does not matter for eigenvalues.

Weight sharing is treated by K-FAC's "expand" rule: every location is a sample of its own.
``Omega`` is the sum over locations averaged over samples (divided by ``M``), ``Gamma`` the average
over both (divided by ``M T``).

Groups follow the paper's rule for depthwise convolutions, where the expanded activations have
``M T J`` rows of length ``K``: the rows of all groups are pooled in one ``Omega``, and ``Gamma``
stays ``(I, I)``. A layer then has ``I (D_without_bias + bias)`` eigenvalues, exactly its number of
weights. ``Omega`` sums over the groups, as the paper's formula does, and is ``G`` times their mean.

Products are accumulated in float64 whatever the network's precision: the rounding of a float32
product would bury every eigenvalue below about 1e-7 of the largest.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

# Convolutions are unfolded for at most so many numbers of patches at a time, 8 MiB of float64, but
# for one sample at least: the memory stays bounded for any batch, and a chunk fits the cache.
_CHUNK_NUMBERS = 2**20
# Rows of a factor computed by one matrix product. Only the part up to the diagonal is computed,
# which saves up to half of the work as the factor grows beyond a few blocks.
_BLOCK_ROWS = 96


class ConvGeometry(NamedTuple):
    """Where a two-dimensional convolution looks; every pair is (height, width)."""

    kernel: tuple[int, int]
    stride: tuple[int, int]
    dilation: tuple[int, int]
    padding: tuple[int, int, int, int]  # left, right, top, bottom
    padding_mode: str  # "constant" (zeros), "reflect", "replicate" or "circular"
    groups: int


class Factor(NamedTuple):
    """A Kronecker factor ``exp(log_scale) * matrix``.

    Attributes:
        matrix: ``(n, n)``, float64, symmetric; its largest entry is 1.
        log_scale: Natural logarithm of what was divided out.
    """

    matrix: Tensor
    log_scale: float


class Moments(NamedTuple):
    """Sums over columns ``c``: the second moments, the first, and their number.

    Attributes:
        second: Sum of ``c c^T``, ``(features, features)``, of which only the part up to the
            diagonal is meant.
        first: Sum of ``c``, ``(features,)``.
        uses: Number of columns.
    """

    second: Tensor
    first: Tensor
    uses: int


def activation_factor(moments: Moments, *, samples: int, ones: float | None) -> Factor:
    """Compute ``Omega`` of Equation 17.

    Args:
        moments: Of the expanded activations, without the homogeneous coordinate.
        samples: ``M``.
        ones: The value of the homogeneous coordinate in the activations' unit, or None without a
            bias.
    """
    second = moments.second
    if ones is not None:
        corner = second.new_full((1, 1), moments.uses * ones * ones)
        side = moments.first.mul(ones)[:, None]
        second = torch.cat([torch.cat([corner, side.T], 1), torch.cat([side, second], 1)])
    return _normalized(second, samples)


def gradient_factor(moments: Moments) -> Factor:
    """Compute ``Gamma`` of Equation 18 from the moments of the pre-activation gradients."""
    return _normalized(moments.second, moments.uses)


def rescaled(factor: Factor, unit: float) -> Factor:
    """Undo that the data of `factor` were divided by `unit`."""
    return Factor(factor.matrix, factor.log_scale + 2 * math.log(unit))


def in_units(data: Tensor, magnitude: float) -> tuple[Tensor, float]:
    """Convert to float64 and divide by a power of two near `magnitude`; squares then stay finite.

    Returns:
        The data in the new unit, exact unless they underflow beside their largest, and the unit.
    """
    unit = math.ldexp(1.0, math.frexp(magnitude)[1] - 1)
    return data.double() / unit, unit


def position_moments(data: Tensor) -> Moments:
    """Sum over the leading positions of ``(..., features)``."""
    return _moments(data.reshape(-1, data.shape[-1]).T)


def location_moments(data: Tensor) -> Moments:
    """Sum over the samples and pixels of ``(M, I, H, W)``."""
    return _moments(data.transpose(0, 1).reshape(data.shape[1], -1))


def patch_moments(inputs: Tensor, geometry: ConvGeometry) -> Moments:
    """Sum over the patches ``((J/G) K,)`` that a convolution sees in ``(M, J, H, W)``."""
    if any(geometry.padding):
        inputs = F.pad(inputs, geometry.padding, mode=geometry.padding_mode)
    # Where rows of pixels are skipped, no two kernel rows see the same ones.
    of_chunk = _strip_moments if geometry.stride[0] == 1 else _window_moments
    height, width = _output_size(inputs.shape[-2:], geometry)
    numbers = inputs.shape[1] * math.prod(geometry.kernel) * height * width
    chunks = torch.split(inputs, max(1, _CHUNK_NUMBERS // numbers))
    total = of_chunk(chunks[0], geometry)
    for chunk in chunks[1:]:
        part = of_chunk(chunk, geometry)
        total.second.add_(part.second)
        total.first.add_(part.first)
        total = total._replace(uses=total.uses + part.uses)
    return total


def log_eigenvalues(factor: Factor, *, precision: float) -> Tensor:
    """Compute the logarithms of a factor's eigenvalues.

    A factor is positive semi-definite; eigenvalues at or below the floor ``n * precision`` times
    the largest one are rounding, not information, and are set to the floor.

    Args:
        factor: The factor, ``(n, n)``.
        precision: Relative size of an eigenvalue that rounding can produce, see
            :func:`relative_precision`.

    Returns:
        ``(n,)``, float64, ascending, on the CPU.

    Raises:
        torch.linalg.LinAlgError: The solver did not converge.
    """
    # On the CPU on purpose: features then depend less on the device that they were computed on.
    eigenvalues: Tensor = torch.linalg.eigvalsh(factor.matrix.cpu())
    floor = len(eigenvalues) * precision * eigenvalues[-1].item()
    return eigenvalues.clamp(min=floor).log() + factor.log_scale


def relative_precision(dtype: torch.dtype) -> float:
    """Give the relative size of the eigenvalues that rounding alone produces in a factor.

    An eigenvalue is a squared singular value of the data, so data rounded to a relative ``eps``
    hide everything below ``eps ** 2``; the float64 products add their own rounding. float16 and
    bfloat16 count as float32, for their coarse values are still exact inputs of the products.
    """
    eps = torch.finfo(dtype if dtype == torch.float64 else torch.float32).eps
    return max(eps**2, torch.finfo(torch.float64).eps)


def pairwise_log_products(omega: Tensor, gamma: Tensor) -> Tensor:
    """Compute the log eigenvalues of ``Omega`` (x) ``Gamma``: all pairwise sums, ascending."""
    return torch.sort((omega[:, None] + gamma[None, :]).flatten()).values


def _moments(columns: Tensor) -> Moments:
    return Moments(_lower_gram(columns), columns.sum(1), columns.shape[1])


def _lower_gram(columns: Tensor) -> Tensor:
    """Compute ``columns @ columns.T`` up to the diagonal; some of the rest is left at zero."""
    size = columns.shape[0]
    gram = columns.new_zeros(size, size)
    for top in range(0, size, _BLOCK_ROWS):
        end = min(top + _BLOCK_ROWS, size)
        torch.mm(columns[top:end], columns[:end].T, out=gram[top:end, :end])
    return gram


def _window_moments(inputs: Tensor, geometry: ConvGeometry) -> Moments:
    """Sum over the patches of padded inputs, any stride.

    Features run over (channel in the group, kernel row, kernel column).
    """
    height, width = _output_size(inputs.shape[-2:], geometry)
    channels = inputs.shape[1] // geometry.groups
    sample, channel, row, column = inputs.stride()
    windows = inputs.as_strided(
        (channels, *geometry.kernel, geometry.groups, len(inputs), height, width),
        (
            channel,
            geometry.dilation[0] * row,
            geometry.dilation[1] * column,
            channels * channel,
            sample,
            geometry.stride[0] * row,
            geometry.stride[1] * column,
        ),
    )
    return _moments(windows.reshape(channels * math.prod(geometry.kernel), -1))


def _strip_moments(inputs: Tensor, geometry: ConvGeometry) -> Moments:
    """Sum over the patches of padded inputs, vertical stride 1, at about half of the work.

    A patch is a pile of strips, one a kernel row, and the strip of kernel row ``i`` at output row
    ``t`` is that of kernel row 0 at ``t + i``. So the second moments of the kernel rows
    ``(i, i + d)`` sum the same products of strips as those of ``(0, d)`` but for a few rows at the
    border, which are exchanged. Features run over (kernel row, channel in the group, kernel
    column).
    """
    height, width = _output_size(inputs.shape[-2:], geometry)
    channels, depth = inputs.shape[1] // geometry.groups, geometry.kernel[0]
    sample, channel, row, column = inputs.stride()
    strips = inputs.as_strided(
        (channels, geometry.kernel[1], inputs.shape[2], geometry.groups, len(inputs), width),
        (
            channel,
            geometry.dilation[1] * column,
            row,
            channels * channel,
            sample,
            geometry.stride[1] * column,
        ),
    ).reshape(channels * geometry.kernel[1], inputs.shape[2], -1)
    features, _, uses_of_row = strips.shape

    def product(first: int, last: int, shift: int) -> Tensor:
        above, below = strips[:, first:last], strips[:, first + shift : last + shift]
        if shift == 0:
            return _lower_gram(above.flatten(1))
        return below.flatten(1) @ above.flatten(1).T

    second = strips.new_zeros(depth, features, depth, features)
    for distance in range(depth):
        shift = distance * geometry.dilation[0]
        block = product(0, height, shift)
        second[distance, :, 0] = block
        for top in range(1, depth - distance):
            start, end = (top - 1) * geometry.dilation[0], top * geometry.dilation[0]
            block = (
                block + product(height + start, height + end, shift) - product(start, end, shift)
            )
            second[top + distance, :, top] = block
    sums = strips.sum(2)
    offsets = range(0, depth * geometry.dilation[0], geometry.dilation[0])
    first = torch.cat([sums[:, offset : offset + height].sum(1) for offset in offsets])
    size = depth * features
    return Moments(second.reshape(size, size), first, height * uses_of_row)


def _normalized(lower: Tensor, count: int) -> Factor:
    matrix = lower.tril() + lower.tril(-1).T
    # The largest entry of a positive semi-definite matrix stands on its diagonal.
    largest = matrix.diagonal().max().item()
    return Factor(matrix / largest, math.log(largest) - math.log(count))


def _output_size(padded: torch.Size, geometry: ConvGeometry) -> tuple[int, int]:
    height, width = (
        (size - dilation * (kernel - 1) - 1) // stride + 1
        for size, kernel, stride, dilation in zip(
            padded, geometry.kernel, geometry.stride, geometry.dilation, strict=True
        )
    )
    return height, width
