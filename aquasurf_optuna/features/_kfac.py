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

import functools
import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from threadpoolctl import ThreadpoolController
from torch import Tensor

# Convolutions are unfolded for at most so many numbers of patches at a time, 8 MiB of float64, but
# for one sample at least: the memory stays bounded for any batch, and a chunk fits the cache.
_CHUNK_NUMBERS = 2**20
# Rows of a factor computed by one matrix product. Only the part up to the diagonal is computed,
# which saves up to half of the work as the factor grows beyond a few blocks.
_BLOCK_ROWS = 64


class Factor(NamedTuple):
    """A Kronecker factor ``exp(log_scale) * matrix``, or the factor of its rows in place of it.

    Attributes:
        matrix: ``(n, n)`` or, with the same positive eigenvalues, ``(fewer, fewer)``; float64, of
            which only the part up to the diagonal is meant. Its largest entry is 1.
        log_scale: Natural logarithm of what was divided out.
        size: ``n``.
    """

    matrix: Tensor
    log_scale: float
    size: int


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

    def scaled(self, factor: float) -> Moments:
        """Return the moments of the columns times `factor`."""
        if factor == 1.0:
            return self
        return self._replace(second=self.second * factor**2, first=self.first * factor)

    def summed(self) -> Moments:
        """Return the sums."""
        return self


class Rows(NamedTuple):
    """The columns themselves, where there are fewer of them than features.

    Attributes:
        data: ``(columns, features)``, float64.
        uses: Number of columns that they stand for.
    """

    data: Tensor
    uses: int

    def scaled(self, factor: float) -> Rows:
        """Return the columns times `factor`."""
        return self if factor == 1.0 else self._replace(data=self.data * factor)

    def summed(self) -> Moments:
        """Return the sums."""
        columns = self.data.T
        second = columns.new_zeros(len(columns), len(columns))
        gram(columns, second)
        return Moments(second, columns.sum(1), self.uses)


def activation_factor(sums: Moments | Rows, *, samples: int, ones: float | None) -> Factor:
    """Compute ``Omega`` of Equation 17.

    Args:
        sums: Of the expanded activations, without the homogeneous coordinate.
        samples: ``M``.
        ones: The value of the homogeneous coordinate in the activations' unit, or None without a
            bias.
    """
    if ones is None:
        return _factor(sums, samples)
    if isinstance(sums, Rows):
        column = sums.data.new_full((len(sums.data), 1), ones)
        return _factor(sums._replace(data=torch.cat([column, sums.data], 1)), samples)
    features = len(sums.first)
    second = sums.second.new_empty(features + 1, features + 1)
    second[0, 0] = sums.uses * ones * ones
    second[1:, 0] = sums.first * ones
    second[1:, 1:] = sums.second
    return _factor(sums._replace(second=second), samples)


def gradient_factor(sums: Moments | Rows) -> Factor:
    """Compute ``Gamma`` of Equation 18 from the sums over the pre-activation gradients."""
    return _factor(sums, sums.uses)


def _factor(sums: Moments | Rows, count: int) -> Factor:
    if isinstance(sums, Moments):
        matrix, size = sums.second, len(sums.second)
    else:
        matrix, size = sums.data.new_zeros(len(sums.data), len(sums.data)), sums.data.shape[1]
        gram(sums.data, matrix)
    # The largest entry of a positive semi-definite matrix stands on its diagonal.
    largest = matrix.diagonal().max().item()
    return Factor(matrix / largest, math.log(largest) - math.log(count), size)


def position_moments(data: Tensor) -> Moments | Rows:
    """Sum over the leading positions of ``(..., features)``, in float64."""
    rows = data.reshape(-1, data.shape[-1])
    if len(rows) < rows.shape[1]:
        return Rows(rows.double(), len(rows))
    second = data.new_zeros(rows.shape[1], rows.shape[1], dtype=torch.float64)
    first = data.new_zeros(rows.shape[1], dtype=torch.float64)
    for start, stop in split_by_size(*rows.shape):
        columns = rows[start:stop].double().T
        gram(columns, second)
        first += columns.sum(1)
    return Moments(second, first, len(rows))


def location_moments(data: Tensor) -> Moments | Rows:
    """Sum over the samples and locations of ``(M, I, ...)``, in float64."""
    if data.shape[1] > data.numel() // data.shape[1]:
        return position_moments(data.movedim(1, -1))
    features = data.shape[1]
    second = data.new_zeros(features, features, dtype=torch.float64)
    first = data.new_zeros(features, dtype=torch.float64)
    numbers = data[0].numel()
    for start, stop in split_by_size(len(data), numbers):
        chunk = data[start:stop].transpose(0, 1)
        columns = chunk.to(torch.float64, memory_format=torch.contiguous_format).flatten(1)
        gram(columns, second)
        first += columns.sum(1)
    return Moments(second, first, len(data) * (numbers // features))


def places(count: int, number: int, seed: int) -> Tensor:
    """Draw `number` of `count` places without replacement, in order, on the CPU."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randperm(count, generator=generator)[:number].sort().values


def split_by_size(count: int, numbers: int) -> Iterator[tuple[int, int]]:
    """Cut `count` things of so many numbers each into chunks that fit the cache: (start, stop)."""
    step = max(1, _CHUNK_NUMBERS // max(1, numbers))
    for start in range(0, count, step):
        yield start, min(start + step, count)


def gram(columns: Tensor, total: Tensor) -> None:
    """Add ``columns @ columns.T`` up to the diagonal to `total`; some of the rest is not added."""
    size = columns.shape[0]
    for top in range(0, size, _BLOCK_ROWS):
        end = min(top + _BLOCK_ROWS, size)
        total[top:end, :end].addmm_(columns[top:end], columns[:end].T)


def log_eigenvalues(factor: Factor, *, precision: float) -> Tensor:
    """Compute the logarithms of a factor's eigenvalues.

    A factor is positive semi-definite; eigenvalues at or below the floor ``n * precision`` times
    the largest one are rounding, not information, and are set to the floor.

    Args:
        factor: The factor, of size ``n``.
        precision: Relative size of an eigenvalue that rounding can produce, see
            :func:`relative_precision`.

    Returns:
        ``(n,)``, float64, ascending, on the CPU.

    Raises:
        numpy.linalg.LinAlgError: The solver did not converge.
    """
    # On the CPU on purpose: features then depend less on the device that they were computed on.
    # NumPy's solver is up to 1.7 times as fast as torch's here, with as many threads.
    with _blas().limit(limits=torch.get_num_threads(), user_api="blas"):
        eigenvalues = np.linalg.eigvalsh(factor.matrix.cpu().numpy())
    floor = factor.size * precision * eigenvalues[-1]
    values = np.log(np.maximum(eigenvalues, floor))
    missing = np.full(factor.size - len(values), np.log(floor))
    return torch.from_numpy(np.concatenate([missing, values]) + factor.log_scale)


@functools.cache
def _blas() -> ThreadpoolController:
    return ThreadpoolController()


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
    sums = (omega[:, None] + gamma[None, :]).flatten().numpy()
    # In place, and several times as fast as torch's sort.
    sums.sort()
    return torch.from_numpy(sums)
