"""Slow, obviously right versions of the Fisher mathematics: loops over patches, dense matrices."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from aquasurf_optuna.features._patches import Geometry

Array = NDArray[np.float64]


def conv_factors(conv: nn.Conv2d, inputs: Array, gradients: Array) -> tuple[Array, Array]:
    """Omega (Eq. 17) and Gamma (Eq. 18), one patch and one location at a time.

    inputs (M, J, H, W), gradients (M, I, H', W') by the convolution's outputs.
    """
    samples, _, height, width = gradients.shape
    omega, gamma = 0.0, 0.0
    for m, y, x in itertools.product(range(samples), range(height), range(width)):
        for group in range(conv.groups):
            row = with_one(conv, conv_patch(conv, inputs[m], y, x, group))
            omega = omega + np.outer(row, row)
        column = gradients[m, :, y, x]
        gamma = gamma + np.outer(column, column)
    return omega / samples, gamma / (samples * height * width)


def linear_factors(linear: nn.Linear, inputs: Array, gradients: Array) -> tuple[Array, Array]:
    """The same for inputs (M, ..., J) and gradients (M, ..., I)."""
    samples = len(inputs)
    rows = inputs.reshape(-1, inputs.shape[-1])
    columns = gradients.reshape(-1, gradients.shape[-1])
    omega = sum(np.outer(with_one(linear, row), with_one(linear, row)) for row in rows)
    gamma = sum(np.outer(column, column) for column in columns)
    return omega / samples, gamma / len(columns)


def conv_by_patches(conv: nn.Conv2d, inputs: Array, height: int, width: int) -> Array:
    """The convolution itself, (M, I, height, width), from the same patches: checks the oracle."""
    outputs = np.zeros((len(inputs), conv.out_channels, height, width))
    weight = conv.weight.detach().double().numpy().reshape(conv.out_channels, -1)
    bias = None if conv.bias is None else conv.bias.detach().double().numpy()
    per_group = conv.out_channels // conv.groups
    for m, i, y, x in np.ndindex(*outputs.shape):
        outputs[m, i, y, x] = weight[i] @ conv_patch(conv, inputs[m], y, x, i // per_group)
        outputs[m, i, y, x] += 0.0 if bias is None else bias[i]
    return outputs


def conv_patch(conv: nn.Conv2d, image: Array, y: int, x: int, group: int) -> Array:
    """The inputs (J/G * K,) that output pixel (y, x) of a group sees in one image (J, H, W)."""
    top, left = before(conv, 0), before(conv, 1)
    channels = conv.in_channels // conv.groups
    values = []
    for c in range(group * channels, (group + 1) * channels):
        for ky, kx in itertools.product(*map(range, conv.kernel_size)):
            row = y * conv.stride[0] + ky * conv.dilation[0] - top
            column = x * conv.stride[1] + kx * conv.dilation[1] - left
            values.append(pixel(image[c], row, column, conv.padding_mode))
    return np.array(values)


def before(conv: nn.Conv2d, axis: int) -> int:
    """How many pixels of padding stand before the image."""
    if conv.padding == "valid":
        return 0
    if conv.padding == "same":
        return conv.dilation[axis] * (conv.kernel_size[axis] - 1) // 2
    return int(conv.padding[axis])


def pixel(channel: Array, row: int, column: int, mode: str) -> float:
    """A pixel of the endless image that a padding mode makes of (H, W)."""
    (height, width) = channel.shape
    if mode == "zeros":
        inside = 0 <= row < height and 0 <= column < width
        return float(channel[row, column]) if inside else 0.0
    place = {"reflect": mirrored, "replicate": nearest, "circular": wrapped}[mode]
    return float(channel[place(row, height), place(column, width)])


def mirrored(index: int, size: int) -> int:
    if index < 0:
        return -index
    return 2 * (size - 1) - index if index >= size else index


def nearest(index: int, size: int) -> int:
    return min(max(index, 0), size - 1)


def wrapped(index: int, size: int) -> int:
    return index % size


def with_one(layer: nn.Linear | nn.Conv2d, row: Array) -> Array:
    """The homogeneous coordinate of a layer with a bias."""
    return row if layer.bias is None else np.concatenate([[1.0], row])


def kronecker_eigenvalues(omega: Array, gamma: Array) -> Array:
    """Eigenvalues of the dense Kronecker product, ascending."""
    return np.linalg.eigvalsh(np.kron(omega, gamma))


def layer_fisher(
    model: nn.Module,
    layer: nn.Linear | nn.Conv2d,
    inputs: Tensor,
    losses: Callable[[Tensor, int], list[tuple[float, Tensor]]],
) -> Array:
    """The exact Fisher block of one layer: the mean of weighted outer products of gradients.

    `losses(outputs, m)` gives the weighted losses of sample m, outputs (1, ...): a pair (p, loss)
    for each label that it may have.
    """
    parameters = [p for p in (layer.weight, layer.bias) if p is not None]
    fisher = 0.0
    for m in range(len(inputs)):
        for weight, loss in losses(model(inputs[m : m + 1]), m):
            parts = torch.autograd.grad(loss, parameters, retain_graph=True)
            gradient = torch.cat([part.flatten() for part in parts]).double().numpy()
            fisher = fisher + weight * np.outer(gradient, gradient)
    return np.asarray(fisher / len(inputs))


def all_label_losses(outputs: Tensor, _: int) -> list[tuple[float, Tensor]]:
    """Every label with its probability under the model: Equation 1 without sampling."""
    log_probabilities = outputs.log_softmax(1)[0]
    return [(value.exp().item(), -value) for value in log_probabilities]


def assert_same_spectrum(
    log_eigenvalues: Tensor, eigenvalues: Array, *, rtol: float = 1e-7, floor: float = 1e-11
) -> None:
    """Equal lengths, and equal values where they are above `floor` of the largest."""
    assert log_eigenvalues.dtype == torch.float64
    assert log_eigenvalues.shape == eigenvalues.shape
    actual, expected = log_eigenvalues.exp().numpy(), np.sort(eigenvalues)
    np.testing.assert_allclose(actual, expected, rtol=rtol, atol=floor * expected[-1])


class Use(NamedTuple):
    """One use of a weight in a network.

    `apply(weight)` gives its outputs once more, with their channels on the axis `channels`;
    `gradient` is that of the summed loss by them.
    """

    apply: Callable[[Tensor], Tensor]
    gradient: Tensor
    channels: int = -1
    groups: int = 1


def shared_factors(
    uses: list[Use], weight: Tensor, *, samples: int, bias: bool, transposed: bool = False
) -> tuple[Array, Array]:
    """Omega (Eq. 17) and Gamma (Eq. 18) of a weight of any kind, one location at a time."""
    omega, gamma, locations = 0.0, 0.0, 0
    for use in uses:
        for row in seen_rows(use, weight, transposed=transposed):
            extended = np.concatenate([[1.0], row]) if bias else row
            omega = omega + np.outer(extended, extended)
        for column in use.gradient.movedim(use.channels, -1).flatten(0, -2).double().numpy():
            gamma, locations = gamma + np.outer(column, column), locations + 1
    return np.asarray(omega / samples), np.asarray(gamma / locations)


def seen_rows(use: Use, weight: Tensor, *, transposed: bool) -> Iterator[Array]:
    """What each location and group sees: the derivative of one output by its own weights."""
    weight = weight.detach().double().requires_grad_()
    outputs = use.apply(weight).movedim(use.channels, -1)
    width = outputs.shape[-1] // use.groups
    for location in outputs.flatten(0, -2):
        for group in range(use.groups):
            (slope,) = torch.autograd.grad(location[group * width], weight, retain_graph=True)
            own = slope.chunk(use.groups)[group][:, 0] if transposed else slope[group * width]
            assert own.count_nonzero() == slope.count_nonzero(), "an output has weights of others"
            yield own.flatten().numpy()


class ByHand:
    """A network written out by hand, for the Kronecker factors of its linear maps."""

    def __init__(self) -> None:
        self.layers: dict[str, tuple[Tensor, bool]] = {}
        self.uses: dict[str, list[tuple[Tensor, Tensor]]] = {}

    def linear(self, name: str, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        """A linear map, as one matrix product."""
        outputs = x @ weight.detach().T
        # Something to differentiate by, whatever x is.
        outputs = outputs + torch.zeros_like(outputs, requires_grad=True)
        outputs = outputs if bias is None else outputs + bias.detach()
        self.layers[name] = (weight, bias is not None)
        self.uses.setdefault(name, []).append((x.detach(), outputs))
        return outputs

    def eigenvalues(self, loss: Tensor, samples: int) -> dict[str, Array]:
        """The eigenvalues of each layer, in the order of first use."""
        found = {}
        for name, uses in self.uses.items():
            weight, bias = self.layers[name]
            listed = [
                Use(functools.partial(_product, x), _gradient(loss, outputs)) for x, outputs in uses
            ]
            factors = shared_factors(listed, weight, samples=samples, bias=bias)
            found[name] = kronecker_eigenvalues(*factors)
        return found


def _product(x: Tensor, weight: Tensor) -> Tensor:
    return x @ weight.T


def _gradient(loss: Tensor, outputs: Tensor) -> Tensor:
    (gradient,) = torch.autograd.grad(loss, outputs, retain_graph=True, allow_unused=True)
    return torch.zeros_like(outputs) if gradient is None else gradient


def patch_rows(inputs: Array, geometry: Geometry) -> Array:
    """The patches of inputs (M, J, ...), one number at a time: (M groups locations, K C)."""
    channels = inputs.shape[1] // geometry.groups
    rows = []
    for image in inputs:
        for group, *location in np.ndindex(geometry.groups, *geometry.output):
            own = image[group * channels : (group + 1) * channels]
            taps = np.ndindex(*geometry.kernel)
            rows.append(np.concatenate([entry(own, location, tap, geometry) for tap in taps]))
    return np.array(rows)


def entry(image: Array, location: list[int], tap: tuple[int, ...], geometry: Geometry) -> Array:
    """The channels (C,) of an image (C, ...) that a kernel's tap sees from an output location."""
    place = []
    for axis, size in enumerate(image.shape[1:]):
        start = geometry.stride[axis] * location[axis] - geometry.padding[axis]
        spread_place = start + geometry.dilation[axis] * tap[axis]
        index, between = divmod(spread_place, geometry.spread[axis])
        if between or not 0 <= index < size:
            return np.zeros(len(image))
        place.append(index)
    return image[(slice(None), *place)]
