"""A mini-batch: one tensor, or the several that a network takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

Inputs = Tensor | Sequence[Tensor] | Mapping[str, Tensor]
"""One tensor, several in the order of the arguments, or several by the arguments' names."""


def check_batch(inputs: Inputs) -> None:
    """Refuse what is no mini-batch.

    Raises:
        ValueError: If `inputs` holds no tensor, something else, or no sample.
    """
    tensors = _parts(inputs)
    named = " or several, in a tuple or a dictionary"
    if not tensors or not all(isinstance(part, Tensor) for part in tensors):
        came = ", ".join(type(part).__name__ for part in tensors) or "nothing"
        raise ValueError(
            f"inputs must be a tensor of one sample or more, (M, ...),{named}, got {came}"
        )
    first = tensors[0]
    if first.ndim == 0 or len(first) == 0:
        raise ValueError(
            f"inputs must be a tensor of one sample or more, (M, ...),{named}, "
            f"got {tuple(first.shape)}"
        )
    devices = {part.device for part in tensors}
    if len(devices) > 1:
        raise ValueError(f"inputs must be on one device, got {sorted(map(str, devices))}")


def tensors_of(inputs: Inputs) -> list[Tensor]:
    """Return the tensors of a checked batch; the first one's length is the number of samples."""
    return list(_parts(inputs))


def outputs_of(model: nn.Module, inputs: Inputs) -> Any:
    """Call the model on the batch."""
    if isinstance(inputs, Tensor):
        return model(_normal(inputs))
    if isinstance(inputs, Mapping):
        return model(**{name: _normal(part) for name, part in inputs.items()})
    return model(*map(_normal, inputs))


def check_inputs(model: nn.Module, inputs: Inputs) -> None:
    """Refuse a batch that this model cannot take.

    Raises:
        ValueError: If it is on another device, in another dtype, or not finite.
    """
    check_batch(inputs)
    parameters = list(model.parameters())
    devices, dtypes = {p.device for p in parameters}, {p.dtype for p in parameters}
    for part in tensors_of(inputs):
        if len(devices) == 1 and part.device not in devices:
            raise ValueError(
                f"inputs must be on the model's device {next(iter(devices))}, got {part.device}; "
                "move one of them with .to(device)"
            )
        if len(dtypes) == 1 and part.is_floating_point() and part.dtype not in dtypes:
            raise ValueError(
                f"inputs must have the model's dtype {next(iter(dtypes))}, got {part.dtype}; "
                "convert one of them with .to(dtype)"
            )
        if not part.isfinite().all():
            raise ValueError("inputs must be finite, got NaN or infinity; mend the batch")


def devices_of(model: nn.Module) -> set[torch.device]:
    """Return where the model's parameters are."""
    return {parameter.device for parameter in model.parameters()}


def _parts(inputs: Inputs) -> Sequence[Tensor]:
    if isinstance(inputs, Tensor):
        return (inputs,)
    if isinstance(inputs, Mapping):
        return tuple(inputs.values())
    return tuple(inputs) if isinstance(inputs, Sequence) else (inputs,)


def _normal(part: Tensor) -> Tensor:
    # Autograd cannot keep a tensor made in inference mode. A graph of the caller's is not ours.
    return part.clone() if part.is_inference() else part.detach()
