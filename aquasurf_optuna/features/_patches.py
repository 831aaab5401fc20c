"""Second moments of the patches that a convolution sees.

Pure mathematics on tensors of any number of spatial axes; the symbols are those of
:mod:`aquasurf_optuna.features._kfac`. A patch is one *tap* (kernel position) after the other, each
with its ``C = J/G`` channels, so that the moments are blocks ``(tap, C, tap, C)``:

    block(i, j) = sum over output locations t of  x(s t + d_i) x(s t + d_j)^T

with the stride ``s`` and a tap's place ``d`` in the padded input. Two ways lead there:

*Windows*: the patches are formed, a chunk at a time, and multiplied.

*Lags*, for stride 1: a block sums products of the input with itself at a fixed *lag*
``d_j - d_i``. Taps of equal lag share that sum, but for a few rows and columns at the border, which
are taken off again (inclusion and exclusion over the axes). A 3x3 kernel has 45 blocks and 13 lags.
The sums at all lags together come from Fourier transforms of the zero-padded input, at a fifth of
the products or less, and no patch is ever formed.
"""

from __future__ import annotations

import itertools
import math
import operator
from collections.abc import Iterator
from typing import NamedTuple

import torch
import torch.nn.functional as F
from scipy.fft import next_fast_len
from torch import Tensor

from aquasurf_optuna.features._kfac import Moments, Rows, gram, places, split_by_size

# Below this number of channels, a product of channels is too thin to be worth its call.
_FEWEST_CHANNELS_FOR_LAGS = 8
# Lags are worth it where they take at most this share of the products that windows take; small
# images are mostly border.
_LARGEST_SHARE_OF_LAGS = 0.77
# So many times the usual chunk of samples is transformed together: the products over the samples of
# one frequency would be too thin.
_FOURIER_CHUNKS = 6

Sizes = tuple[int, ...]
Edge = tuple[tuple[int, int], ...]
"""Coordinates on some of the axes: pairs (axis, coordinate)."""


class Geometry(NamedTuple):
    """Where a convolution looks, one entry for each spatial axis.

    Attributes:
        kernel: Taps.
        stride: Steps between output locations.
        dilation: Steps between taps.
        padding: Zeros before the input; negative where the input is cropped.
        output: Output locations.
        groups: ``G``.
        spread: Each input location but the last is followed by so many less one zeros: the stride
            of a transposed convolution, else 1.
    """

    kernel: Sizes
    stride: Sizes
    dilation: Sizes
    padding: Sizes
    output: Sizes
    groups: int
    spread: Sizes


class _Image(NamedTuple):
    """The input without its padding, groups taken as further samples.

    Attributes:
        data: ``(C, samples, ...)``, a view of the input.
        start: Coordinate of the first entry along each axis, counted from the padding's edge.
    """

    data: Tensor
    start: Sizes

    def span(self, axis: int) -> range:
        """Return the coordinates along an axis."""
        return range(self.start[axis], self.start[axis] + self.data.shape[2 + axis])

    def narrowed(self, axis: int, seen: range) -> _Image:
        """Keep the coordinates `seen` of one axis."""
        place = seen.start - self.start[axis] if len(seen) else 0
        start = (*self.start[:axis], seen.start, *self.start[axis + 1 :])
        data = self.data.narrow(2 + axis, place, (len(seen) - 1) * seen.step + 1 if seen else 0)
        every: tuple[slice, ...] = (slice(None),) * (2 + axis)
        return _Image(data[(*every, slice(None, None, seen.step))], start)


def patch_moments(inputs: Tensor, geometry: Geometry) -> Moments | Rows:
    """Sum over the patches of ``(M, J, ...)``, in float64; the groups' patches are pooled.

    Returns:
        Moments of patches ``(K C,)``, or the patches where they are fewer than that.
    """
    image = _image(inputs, geometry)
    taps = _taps(geometry)
    uses = image.data.shape[1] * math.prod(geometry.output)
    if uses < len(taps) * image.data.shape[0]:
        return Rows(_patches(image, taps, geometry).T, uses)
    by_lags = _worth_lags(image, taps, geometry)
    second = (_by_lags if by_lags else _by_windows)(image, taps, geometry)
    summed = image._replace(data=image.data.sum(1, keepdim=True, dtype=torch.float64))
    return Moments(second, _tap_sums(summed, taps, geometry)[0], uses)


def patch_sums(inputs: Tensor, geometry: Geometry) -> Tensor:
    """Sum the patches of ``(M, J, ...)`` over the locations, in float64.

    Returns:
        ``(M, G, K C)``.
    """
    image = _image(inputs, geometry)
    image = image._replace(data=image.data.double())
    return _tap_sums(image, _taps(geometry), geometry).reshape(len(inputs), geometry.groups, -1)


def sampled_patches(inputs: Tensor, geometry: Geometry, number: int, seed: int) -> Tensor:
    """Draw patches of ``(M, J, ...)`` without replacement, the same places for every network.

    Returns:
        ``(number, K C)`` in the dtype of the inputs.
    """
    image = _image(inputs, geometry)
    padded = _padded(image, geometry)
    sizes = (padded.shape[0], *geometry.output)
    chosen = places(math.prod(sizes), number, seed).to(padded.device)
    sample, *locations = torch.unravel_index(chosen, sizes)
    steps = zip(locations, geometry.stride, strict=True)
    corners = [location * stride for location, stride in steps]
    rows = []
    for tap in itertools.product(*map(range, geometry.kernel)):
        offsets = map(operator.mul, tap, geometry.dilation)
        rows.append(padded[(sample, *map(operator.add, corners, offsets))])
    return torch.cat(rows, 1)


def sampled_locations(data: Tensor, number: int, seed: int) -> Tensor:
    """Draw locations of ``(M, I, ...)`` without replacement, the same for every network.

    Returns:
        ``(number, I)`` in the dtype of the data.
    """
    last = data.movedim(1, -1)
    chosen = places(last[..., 0].numel(), number, seed).to(data.device)
    return last[torch.unravel_index(chosen, last.shape[:-1])]


def _worth_lags(image: _Image, taps: list[Sizes], geometry: Geometry) -> bool:
    channels = image.data.shape[0]
    if channels < _FEWEST_CHANNELS_FOR_LAGS or len(taps) == 1 or max(geometry.stride) > 1:
        return False
    blocks = len(taps) * (len(taps) + 1) // 2
    lags = _lags(taps)
    windows = blocks * math.prod(geometry.output)
    canvases = len(lags) * math.prod(_canvas(image, lags).sizes)
    return canvases <= _LARGEST_SHARE_OF_LAGS * windows


def _lags(taps: list[Sizes]) -> list[Sizes]:
    return list(dict.fromkeys(_lag(a, b) for a, b in _pairs(taps)))


def _image(inputs: Tensor, geometry: Geometry) -> _Image:
    data = _spread(inputs, geometry.spread)
    grouped = data.reshape(len(data), geometry.groups, -1, *data.shape[2:])
    return _Image(grouped.movedim(2, 0).flatten(1, 2), geometry.padding)


def _spread(inputs: Tensor, spread: Sizes) -> Tensor:
    """Put zeros between the inputs."""
    if all(step == 1 for step in spread):
        return inputs
    sizes = [(size - 1) * step + 1 for size, step in zip(inputs.shape[2:], spread, strict=True)]
    wide = inputs.new_zeros(*inputs.shape[:2], *sizes)
    every = [slice(None, None, step) for step in (1, 1, *spread)]
    wide[tuple(every)] = inputs
    return wide


def _padded(image: _Image, geometry: Geometry) -> Tensor:
    """Pad or crop to what the kernel sees, ``(samples, ..., C)``."""
    sides: list[int] = []
    for axis in reversed(range(len(geometry.kernel))):
        reach = geometry.dilation[axis] * (geometry.kernel[axis] - 1) + 1
        seen = geometry.stride[axis] * (geometry.output[axis] - 1) + reach
        sides += [image.start[axis], seen - image.span(axis).stop]
    return F.pad(image.data, sides).movedim(0, -1)


def _taps(geometry: Geometry) -> list[Sizes]:
    places = zip(geometry.kernel, geometry.dilation, strict=True)
    return list(itertools.product(*(range(0, n * step, step) for n, step in places)))


def _tap_sums(image: _Image, taps: list[Sizes], geometry: Geometry) -> Tensor:
    """Sum the patches over the locations, ``(samples, K C)``."""
    sums = [_seen(image, tap, geometry)[0].flatten(2).sum(2) for tap in taps]
    return torch.cat(sums).T


def _seen(image: _Image, tap: Sizes, geometry: Geometry) -> tuple[Tensor, tuple[slice, ...]]:
    """Return what a tap sees of an image, without padding, and at which output locations."""
    places = []
    for axis, (offset, stride) in enumerate(zip(tap, geometry.stride, strict=True)):
        whole = image.span(axis)
        first = max(0, -((offset - whole.start) // stride))
        last = max(first, min(geometry.output[axis], (whole.stop - 1 - offset) // stride + 1))
        places.append(slice(first, last))
        coordinates = range(stride * first + offset, stride * last + offset, stride)
        image = image.narrowed(axis, coordinates)
    return image.data, tuple(places)


def _by_windows(image: _Image, taps: list[Sizes], geometry: Geometry) -> Tensor:
    channels, samples = image.data.shape[:2]
    size = len(taps) * channels
    second = image.data.new_zeros(size, size, dtype=torch.float64)
    for start, stop in split_by_size(samples, size * math.prod(geometry.output)):
        chunk = image._replace(data=image.data[:, start:stop])
        gram(_patches(chunk, taps, geometry), second)
    return second


def _patches(image: _Image, taps: list[Sizes], geometry: Geometry) -> Tensor:
    """Form the patches, ``(K C, uses)``, float64."""
    shape = (len(taps), *image.data.shape[:2], *geometry.output)
    patches = image.data.new_zeros(shape, dtype=torch.float64)
    for column, tap in zip(patches, taps, strict=True):
        values, places = _seen(image, tap, geometry)
        column[(..., *places)] = values
    return patches.flatten(2).flatten(0, 1)


def _by_lags(image: _Image, taps: list[Sizes], geometry: Geometry) -> Tensor:
    channels = image.data.shape[0]
    lags = _lags(taps)
    whole = dict(zip(lags, _by_fourier(image, lags), strict=True))
    borders: dict[tuple[Sizes, Edge], Tensor] = {}
    shape = (len(taps), channels, len(taps), channels)
    second = image.data.new_zeros(shape, dtype=torch.float64)
    rows = {tap: place for place, tap in enumerate(taps)}
    for a, b in _pairs(taps):
        lag = _lag(a, b)
        # Transposed, into the part up to the diagonal.
        block = second[rows[b], :, rows[a]].copy_(whole[lag].T)
        for sign, edge in _edges(image, a, lag, geometry):
            if (lag, edge) not in borders:
                borders[lag, edge] = _edge_product(image, lag, dict(edge)).T
            block.add_(borders[lag, edge], alpha=sign)
    return second.flatten(2).flatten(0, 1)


def _pairs(taps: list[Sizes]) -> Iterator[tuple[Sizes, Sizes]]:
    return itertools.combinations_with_replacement(taps, 2)


def _lag(a: Sizes, b: Sizes) -> Sizes:
    return tuple(map(operator.sub, b, a))


class _Canvas(NamedTuple):
    """Room for an image, and beyond it as many zeros as the longest lag.

    So a cyclic shift meets no data that a shift would not.
    """

    image: _Image
    sizes: Sizes

    def filled(self, start: int, stop: int) -> Tensor:
        """Copy some samples, ``(C, samples, ...)``, float64."""
        data = self.image.data[:, start:stop]
        canvas = data.new_zeros(*data.shape[:2], *self.sizes, dtype=torch.float64)
        canvas[tuple(slice(size) for size in data.shape)] = data
        return canvas

    def chunks(self, factor: int = 1) -> Iterator[tuple[int, int]]:
        """Cut the samples into chunks `factor` times as large as usual."""
        channels, samples = self.image.data.shape[:2]
        return split_by_size(samples, channels * math.prod(self.sizes) // factor)


def _canvas(image: _Image, lags: list[Sizes]) -> _Canvas:
    reach = [max(map(abs, distances)) for distances in zip(*lags, strict=True)]
    needed = map(operator.add, image.data.shape[2:], reach)
    return _Canvas(image, tuple(next_fast_len(size, real=True) for size in needed))


def _by_fourier(image: _Image, lags: list[Sizes]) -> Tensor:
    """Sum the products of an image with itself at each lag, ``(lags, C, C)``.

    By the correlation theorem: the sum at a lag is a Fourier coefficient of ``conj(A(f)) A(f)^T``,
    with ``A`` the transform of the image: one product of channels a frequency, for all lags
    together.
    """
    canvas = _canvas(image, lags)
    channels = image.data.shape[0]
    axes = tuple(range(2, image.data.ndim))
    cosines, sines = _fourier_weights(lags, canvas.sizes, image.data.device)
    totals = image.data.new_zeros(len(lags), channels * channels, dtype=torch.float64)
    for start, stop in canvas.chunks(_FOURIER_CHUNKS):
        spectrum = torch.fft.rfftn(canvas.filled(start, stop), dim=axes).flatten(2).permute(2, 0, 1)
        real, imag = spectrum.real.contiguous(), spectrum.imag.contiguous()
        del spectrum
        for low, high in split_by_size(len(real), 4 * channels * channels):
            a, b = real[low:high], imag[low:high]
            even = torch.bmm(a, a.mT).baddbmm_(b, b.mT)
            odd = torch.bmm(a, b.mT)
            odd = odd - odd.mT
            totals.addmm_(cosines[:, low:high], even.flatten(1))
            totals.addmm_(sines[:, low:high], odd.flatten(1), alpha=-1)
    return totals.view(len(lags), channels, channels)


def _fourier_weights(
    lags: list[Sizes], sizes: Sizes, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Weigh the frequencies of a real transform for each lag, ``(lags, frequencies)`` twice."""
    steps = [torch.arange(size, dtype=torch.float64) / size for size in sizes]
    steps[-1] = steps[-1][: sizes[-1] // 2 + 1]
    frequencies = torch.stack(torch.meshgrid(*steps, indexing="ij")).flatten(1)
    angles = 2 * torch.pi * torch.tensor(lags, dtype=torch.float64) @ frequencies
    # The half of the spectrum that is left out mirrors this one, but for its first frequency and
    # the last one of an even size.
    last = frequencies[-1]
    weights = (2.0 - ((last == 0) | (last == 0.5)).double()) / math.prod(sizes)
    return (angles.cos() * weights).to(device), (angles.sin() * weights).to(device)


def _edges(image: _Image, tap: Sizes, lag: Sizes, geometry: Geometry) -> Iterator[tuple[int, Edge]]:
    """Yield what a tap does not see of a lag's whole sum, with signs."""
    outside: list[list[tuple[int, int] | None]] = []
    for axis, (offset, distance) in enumerate(zip(tap, lag, strict=True)):
        window = range(offset, offset + geometry.output[axis])
        both = _common(image.span(axis), distance)
        outside.append([None, *((axis, place) for place in both if place not in window)])
    for choice in itertools.product(*outside):
        edge = tuple(fixed for fixed in choice if fixed is not None)
        if edge:
            yield (-1) ** len(edge), edge


def _edge_product(image: _Image, lag: Sizes, edge: dict[int, int]) -> Tensor:
    """Sum the products at a lag where the first coordinate lies on an edge, ``(C, C)``."""
    first = second = image
    for axis, distance in enumerate(lag):
        place = edge.get(axis)
        seen = _common(image.span(axis), distance) if place is None else range(place, place + 1)
        first = first.narrowed(axis, seen)
        second = second.narrowed(axis, range(seen.start + distance, seen.stop + distance))
    return first.data.double().flatten(1) @ second.data.double().flatten(1).T


def _common(whole: range, distance: int) -> range:
    """Return the coordinates that have a partner at a distance."""
    start = max(whole.start, whole.start - distance)
    return range(start, max(start, min(whole.stop, whole.stop - distance)))
