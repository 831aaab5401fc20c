"""Shapes found from one channel, against those that torch finds on the meta device."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from lightning_modules.autoinit._shapes import result_of

CONVOLUTIONS = [F.conv1d, F.conv2d, F.conv3d]
POOLS = [F.adaptive_avg_pool1d, F.adaptive_avg_pool2d, F.adaptive_avg_pool3d]


def empty(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.empty(shape, dtype=dtype, device="meta")


def shape_of(function: Any, *args: Any, **kwargs: Any) -> tuple[Any, ...]:
    result = result_of(function.__name__, function, args, kwargs)
    return tuple(result.shape), result.dtype, result.device.type


def torchs(function: Any, *args: Any, **kwargs: Any) -> tuple[Any, ...]:
    result = function(*args, **kwargs)
    return tuple(result.shape), result.dtype, result.device.type


@pytest.mark.parametrize("axes", [1, 2, 3])
def test_convolutions_have_torchs_shapes(axes: int) -> None:
    function, seen = CONVOLUTIONS[axes - 1], set()
    sizes = (9, 10, 7)[:axes]
    for kernel, stride, padding, dilation, groups in itertools.product(
        (1, 3), (1, 2), (0, 1, "valid", "same"), (1, 2), (1, 2)
    ):
        if padding == "same" and stride != 1:
            continue
        values = empty(2, 4, *sizes)
        weight = empty(6, 4 // groups, *(kernel,) * axes)
        options = (stride, padding, dilation, groups)
        expected = torchs(function, values, weight, empty(6), *options)
        assert shape_of(function, values, weight, empty(6), *options) == expected
        named = dict(zip(("stride", "padding", "dilation", "groups"), options, strict=True))
        assert shape_of(function, values, weight, **named) == expected
        assert shape_of(function, values, weight, bias=None, **named) == expected
        assert shape_of(function, input=values, weight=weight, **named) == expected
        seen.add(expected)
    assert len(seen) > 4


@pytest.mark.parametrize("axes", [1, 2, 3])
def test_adaptive_averages_have_torchs_shapes(axes: int) -> None:
    function: Any = POOLS[axes - 1]
    values = empty(2, 4, *(9, 10, 7)[:axes], dtype=torch.float16)
    sizes: list[Any] = [1, 3, (2,) * axes]
    if axes > 1:
        sizes.append((None,) * axes)
    for size in sizes:
        assert shape_of(function, values, size) == torchs(function, values, size)
        assert shape_of(function, values, output_size=size) == torchs(function, values, size)
    assert shape_of(function, values[0], 2) == torchs(function, values[0], 2)


def test_a_batch_of_one_without_its_axis_has_torchs_shape() -> None:
    values, weight = empty(4, 9, 9), empty(6, 4, 3, 3)
    assert shape_of(F.conv2d, values, weight) == torchs(F.conv2d, values, weight)


@pytest.mark.parametrize(
    "arguments",
    [
        (empty(2, 5, 9, 9), empty(6, 4, 3, 3)),
        (empty(2, 4, 2, 2), empty(6, 4, 3, 3)),
    ],
    ids=["channels", "too small"],
)
def test_what_does_not_fit_is_refused_by_torch(arguments: tuple[Tensor, ...]) -> None:
    with pytest.raises(RuntimeError):
        result_of("conv2d", F.conv2d, arguments, {})
