"""What AutoInit knows of a tensor: moments, place by place, that belong to random weights.

Over random weights, the channels of a wide layer are independent copies of one random field over
places (pixels, tokens) and samples, and the field is Gaussian behind a layer with weights. Its
first two moments are kept. For the value `x` of a channel at a place:

    mean      E[x]
    same      E[x**2]
    beside    E[x x'] with x' of the same channel and sample, elsewhere on the last axis of places
    within    E[x x'] with x' of the same channel and sample, elsewhere on another axis of places
    between   E[x x'] with x' of the same channel, in another sample

The last three decide what an average over places (global pooling, attention) or a
subtracted mean (batch norm) leaves of the signal. That any two places of an axis are alike holds
 for inputs that are independent from pixel to pixel, since a convolution with independent
weights does not correlate the places it reads from (R. Novak et al., "Bayesian Deep Convolutional
Networks with Many Channels are Gaussian Processes", ICLR 2019, arXiv:1810.05148). Zero padding
makes the moments differ from place to place.

Shapes: a moment is a float64 tensor on the CPU that broadcasts to the shape `S` of its tensor, with
as many axes, and of size 1 along each axis on which it is constant. Axis 0 is the batch.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from aquasurf_optuna.exceptions import InitializationError
from lightning_modules.autoinit._quadrature import Function, MeanVariance, transformed

_MOST_GROUPS = 8
"""Places are sorted into this many groups of like variance before an activation."""
_DIGITS = 7
"""Moments equal to so many significant digits are one group, and one key of a cache."""


class Moments(NamedTuple):
    """The moments of the module's docstring, and which channel an entry belongs to.

    Attributes:
        mean: `E[x]`.
        same: `E[x**2]`.
        beside: `E[x x']` along the last axis of places.
        within: `E[x x']` between other places of a sample.
        between: `E[x x']` between samples.
        unit: A number for each channel; an axis on which it changes is one of channels, and any
            other axis but the first is one of places.
    """

    mean: Tensor
    same: Tensor
    beside: Tensor
    within: Tensor
    between: Tensor
    unit: Tensor

    def replaced(self, change: Callable[[Tensor], Tensor]) -> Moments:
        """Return the moments, each put through `change`; the channels stay."""
        return Moments._make([*map(change, self[:-1]), self.unit])

    def scaled(self, factor: float | Tensor) -> Moments:
        """Return the moments of the signal times the root of `factor`."""
        return self._replace(
            mean=self.mean * factor**0.5,
            same=self.same * factor,
            beside=self.beside * factor,
            within=self.within * factor,
            between=self.between * factor,
        )


def place_axes(moments: Moments) -> list[int]:
    """Return the axes of places: all but the batch and those of channels."""
    unit = moments.unit
    return [axis for axis in range(1, unit.ndim) if unit.shape[axis] == 1]


def apart(moments: Moments, shape: Sequence[int], axes: Sequence[int]) -> Tensor:
    """Return `E[x x']` for two different places, on average over those of some axes of places."""
    last = place_axes(moments)[-1:]
    row = math.prod(shape[axis] for axis in last if axis in axes)
    count = math.prod(shape[axis] for axis in axes)
    if count == 1:
        return moments.same
    return ((row - 1) * moments.beside + (count - row) * moments.within) / (count - 1)


def constant(value: float, axes: int) -> Tensor:
    """Return a moment that is the same everywhere."""
    return torch.full((1,) * axes, value, dtype=torch.float64)


def channels(shape: Sequence[int], axis: int) -> Tensor:
    """Return the `unit` of a tensor of this shape whose channels lie along one axis."""
    sizes = [1] * len(shape)
    sizes[axis] = shape[axis]
    return torch.arange(shape[axis], dtype=torch.float64).reshape(sizes)


def compact(moment: Tensor) -> Tensor:
    """Return a moment with size 1 along each axis on which it is constant."""
    for axis, size in enumerate(moment.shape):
        first = moment.narrow(axis, 0, min(size, 1))
        if size > 1 and torch.equal(first.expand_as(moment), moment):
            moment = first
    return moment


class Origin(NamedTuple):
    """What a layer with weights read.

    Attributes:
        signal: Its input.
        fan_in: Values of the input behind one of its outputs.
    """

    signal: Signal
    fan_in: int


class Signal:
    """The moments of one tensor.

    Args:
        moments: The moments.
        origin: Where the values are outputs of a layer with weights, rearranged at most.
    """

    origin: Origin | None = None

    def __init__(self, moments: Moments, origin: Origin | None = None) -> None:
        self.moments = moments
        self.origin = origin

    @property
    def root(self) -> Signal:
        """The signal that this one is an elementwise function of: itself, unless it says so."""
        return self

    def function(self, x: Tensor) -> Tensor:
        """Map values of the root to values of this signal."""
        # A function further on may write to its input.
        return x.clone()


class Pointwise(Signal):
    """An elementwise function of another signal, whose values count as Gaussian.

    Moments are only integrated where something needs them, so that of `x * sigmoid(x)`, written
    with functions, just the product is.

    Args:
        root: What the function is of.
        function: Float64 values to float64 values.
        where: The function's place in the network, for errors.
    """

    def __init__(self, root: Signal, function: Function, where: str) -> None:
        self._root = root
        self._function = function
        self._where = where

    @property
    def root(self) -> Signal:
        """The signal that this one is a function of."""
        return self._root

    def function(self, x: Tensor) -> Tensor:
        """Map values of the root to values of this signal."""
        return self._function(x)

    @functools.cached_property
    def moments(self) -> Moments:  # type: ignore[override]  # an attribute there
        """The moments behind the function.

        Raises:
            InitializationError: If the function allows no weights behind it, see `activated`.
        """
        try:
            return _through(self._function, self._root.moments)
        except InitializationError as error:
            raise InitializationError(f"{self._where}: {error}") from None


class Shares(Signal):
    """A softmax over places.

    Args:
        moments: The moments.
        origin: Of what the softmax is of.
        variance: Of what the softmax is of, over the places.
        count: The places.
    """

    def __init__(
        self, moments: Moments, origin: Origin | None, variance: float, count: int
    ) -> None:
        super().__init__(moments)
        self.origin = origin
        self.variance = variance
        self.count = count


def leaning(variance: float, values: Moments, origin: Origin) -> Tensor:
    """Return what an average gains when its shares and its values are of one origin.

    Shares that grow with one direction of the origin favour values that lie in it: the average of
    the origin moves along this direction, by its variance in it, and so does that of the values.

    Args:
        variance: Of the logarithm of the shares, over the places.
        values: Moments of what is averaged.
        origin: Of shares and values.

    Returns:
        To be added to the average's second moment.
    """
    return variance * (values.same - values.beside) / origin.fan_in


def _through(function: Function, moments: Moments) -> Moments:
    """Put Gaussian values of these moments through an elementwise function."""
    rows, group, average = grouped(moments)
    outputs = transformed(function, rows, average)
    return Moments._make([*(column[group] for column in outputs.unbind(1)), moments.unit])


def grouped(moments: Moments) -> tuple[Tensor, Tensor, MeanVariance]:
    """Sort places into groups of like moments.

    Returns:
        The groups' moments `[G, 5]`; the group of each place, a tensor of group numbers that
        broadcasts as moments do; mean and variance over all places.
    """
    shape = functools.reduce(torch.add, moments[:-1]).shape
    rows = torch.stack([field.expand(shape).reshape(-1) for field in moments[:-1]], dim=1)
    mean, same = rows[:, 0].mean().item(), rows[:, 1].mean().item()
    variance = max(same - mean**2, 0.0)
    average = MeanVariance(_rounded(mean), _rounded(variance))
    distinct, group = torch.unique(_rounded_tensor(rows), dim=0, return_inverse=True)
    if len(distinct) > _MOST_GROUPS:
        distinct, group = _merged(rows)
    return distinct, group.reshape(shape), average


def _merged(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Merge places of like variance into the largest number of groups, of equal size."""
    order = (rows[:, 1] - rows[:, 0] ** 2).argsort()
    parts = order.chunk(_MOST_GROUPS)
    group = torch.empty(len(rows), dtype=torch.long)
    for number, part in enumerate(parts):
        group[part] = number
    return _rounded_tensor(torch.stack([rows[part].mean(0) for part in parts])), group


def _rounded(value: float) -> float:
    return float(f"{value:.{_DIGITS - 1}e}")


def _rounded_tensor(values: Tensor) -> Tensor:
    digits = 10.0 ** (_DIGITS - 1 - values.abs().clamp(min=1e-300).log10().floor())
    return (values * digits).round() / digits
