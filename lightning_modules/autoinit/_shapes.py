"""Shapes of results, for the operations where torch's own way to them is slow.

On the meta device torch finds the shape of a convolution and of an adaptive average in Python, for
which it imports its compiler and sympy: four seconds of every new process. Both treat the channels
apart or add them up, so the operation itself tells the shape, from real values of one channel.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

_CONVOLUTIONS = {"conv1d": 3, "conv2d": 4, "conv3d": 5}
_OPTIONS = ("bias", "stride", "padding", "dilation", "groups")
_ADAPTIVE = {"adaptive_avg_pool1d": 3, "adaptive_avg_pool2d": 4, "adaptive_avg_pool3d": 5}


def result_of(
    name: str, function: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]
) -> Any:
    """Return what a torch function returns for tensors on the meta device.

    Args:
        name: The function's name.
        function: The torch function.
        args: Its arguments, tensors on the meta device.
        kwargs: The same.

    Raises:
        Exception: What the function raises for such arguments.
    """
    if name in _CONVOLUTIONS and len(args) > 1:
        values, weight = args[:2]
        given = dict(zip(_OPTIONS, args[2:], strict=False)) | dict(kwargs)
        if not _fit(_CONVOLUTIONS[name], values, weight, given.get("groups", 1)):
            return function(*args, **kwargs)
        options = {key: given[key] for key in given if key not in ("bias", "groups")}
        channels = weight.shape[0]
        one = function(_one_channel(values), _one_channel(weight), **options)
    elif args and isinstance(args[0], Tensor) and args[0].ndim == _ADAPTIVE.get(name):
        values, channels = args[0], args[0].shape[1]
        one = function(_one_channel(values), *args[1:], **kwargs)
    else:
        return function(*args, **kwargs)
    return values.new_empty((values.shape[0], channels, *one.shape[2:]))


def _one_channel(tensor: Tensor) -> Tensor:
    return torch.zeros((1, 1, *tensor.shape[2:]), dtype=torch.float32, device="cpu")


def _fit(ndim: int, values: Tensor, weight: Tensor, groups: int) -> bool:
    """Say whether a convolution's arguments fit each other; torch says what is wrong if not."""
    return (
        values.ndim == weight.ndim == ndim
        and values.dtype == weight.dtype
        and values.shape[1] == weight.shape[1] * groups
        and weight.shape[0] % groups == 0
    )
