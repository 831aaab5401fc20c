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

Layout: data enters as *columns*, ``(features, uses)``, where a use is one (sample, location) pair,
or one (sample, location, group) triple for activations, so that a factor is ``columns @ columns.T``
over a constant.

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
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

# Patches are unfolded this many numbers at a time (8 MiB of float64): the memory stays bounded for
# any batch, and a chunk stays in the cache between its copy and its product.
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


def activation_factor(columns: Iterable[Tensor], *, samples: int, ones: float | None) -> Factor:
    """Compute ``Omega`` of Equation 17.

    Args:
        columns: Chunks ``(D, uses)``, without the homogeneous row.
        samples: ``M``.
        ones: The value of the homogeneous coordinate in the chunks' unit, or None without a bias.
    """
    gram, total, uses = _gram(columns)
    if ones is not None:
        corner = gram.new_full((1, 1), uses * ones * ones)
        side = total.mul(ones)[:, None]
        gram = torch.cat([torch.cat([corner, side.T], 1), torch.cat([side, gram], 1)])
    return _normalized(gram, samples)


def gradient_factor(columns: Tensor) -> Factor:
    """Compute ``Gamma`` of Equation 18 from columns ``(I, M T)`` of pre-activation gradients."""
    gram, _, uses = _gram([columns])
    return _normalized(gram, uses)


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


def patch_columns(inputs: Tensor, geometry: ConvGeometry) -> Iterator[Tensor]:
    """Expand ``(M, J, H, W)`` activations into chunks of patches ``((J/G) K, uses)``.

    Rows run over (channel in the group, kernel row, kernel column), as the weights do.
    """
    if any(geometry.padding):
        inputs = F.pad(inputs, geometry.padding, mode=geometry.padding_mode)
    channels = inputs.shape[1] // geometry.groups
    height, width = _output_size(inputs.shape[-2:], geometry)
    features = channels * math.prod(geometry.kernel)
    step = max(1, _CHUNK_NUMBERS // (features * geometry.groups * height * width))
    for chunk in torch.split(inputs, step):
        sample, channel, row, column = chunk.stride()
        windows = chunk.as_strided(
            (channels, *geometry.kernel, geometry.groups, len(chunk), height, width),
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
        yield windows.reshape(features, -1)


def position_columns(data: Tensor) -> Tensor:
    """Turn ``(..., features)`` into columns ``(features, uses)``."""
    return data.reshape(-1, data.shape[-1]).T


def location_columns(data: Tensor) -> Tensor:
    """Turn ``(M, I, H, W)`` into columns ``(I, M H W)``."""
    return data.transpose(0, 1).reshape(data.shape[1], -1)


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


def _gram(columns: Iterable[Tensor]) -> tuple[Tensor, Tensor, int]:
    """Return ``sum(C @ C.T)``, the sum of all columns, and how many columns there were."""
    gram = total = None
    uses = 0
    for chunk in columns:
        size = chunk.shape[0]
        if gram is None or total is None:
            gram, total = chunk.new_zeros(size, size), chunk.new_zeros(size)
        for top in range(0, size, _BLOCK_ROWS):
            end = min(top + _BLOCK_ROWS, size)
            gram[top:end, :end].addmm_(chunk[top:end], chunk[:end].T)
        total += chunk.sum(1)
        uses += chunk.shape[1]
    if gram is None or total is None:
        raise ValueError("a factor needs at least one sample, none came")
    return gram.tril() + gram.tril(-1).T, total, uses


def _normalized(gram: Tensor, count: int) -> Factor:
    # The largest entry of a positive semi-definite matrix stands on its diagonal.
    largest = gram.diagonal().max().item()
    return Factor(gram / largest, math.log(largest) - math.log(count))


def _output_size(padded: torch.Size, geometry: ConvGeometry) -> tuple[int, int]:
    height, width = (
        (size - dilation * (kernel - 1) - 1) // stride + 1
        for size, kernel, stride, dilation in zip(
            padded, geometry.kernel, geometry.stride, geometry.dilation, strict=True
        )
    )
    return height, width
