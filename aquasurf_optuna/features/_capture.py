"""One forward and one backward pass through a model that is handed back as it came.

Records each layer's ``Omega`` while the forward pass runs, and its pre-activation gradients after
it. The mathematics is in :mod:`aquasurf_optuna.features._kfac`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge, get_gradient_edge

from aquasurf_optuna.exceptions import InvalidSpectrumError, UnsupportedModelError
from aquasurf_optuna.features import _kfac
from aquasurf_optuna.features.layers import Layer

_NORMALIZES_BY_BATCH = nn.modules.batchnorm._NormBase


class LayerRecord(NamedTuple):
    """What the two passes tell about one layer.

    Attributes:
        activations: ``Omega``.
        gradient: Gradient of the summed loss by the layer's output, in the output's shape; None if
            the loss does not depend on it.
        dtype: The layer's own precision.
    """

    activations: _kfac.Factor
    gradient: Tensor | None
    dtype: torch.dtype


class _ForwardRecord(NamedTuple):
    activations: _kfac.Factor
    output: GradientEdge
    dtype: torch.dtype


def capture(
    model: nn.Module,
    layers: Mapping[str, Layer],
    inputs: Tensor,
    loss: Callable[[Tensor], Tensor],
    *,
    seed: int,
) -> dict[str, LayerRecord]:
    """Run the two passes.

    Args:
        model: The network; it comes back as it was, also after an error.
        layers: From :func:`~aquasurf_optuna.features.layers.find_layers`.
        inputs: ``(M, ...)``.
        loss: Maps the network's outputs to the sum of the samples' losses.
        seed: Seeds what the network itself may draw.

    Returns:
        The records by layer, in the order in which the layers ran.

    Raises:
        InvalidSpectrumError: If activations, outputs or the loss are not finite, or vanish.
        UnsupportedModelError: If a layer runs twice, never, or without a graph.
    """
    records: dict[str, _ForwardRecord] = {}
    # Autograd cannot keep a tensor made in inference mode, so the passes leave that mode.
    with torch.inference_mode(False), torch.enable_grad(), _borrowed(model, seed):
        with _recording(layers, records, samples=len(inputs)):
            outputs = model(inputs.clone() if inputs.is_inference() else inputs)
        unused = [name for name in layers if name not in records]
        if unused:
            raise UnsupportedModelError(
                f"layers {unused} have weights but never ran in the forward pass, so their Fisher "
                "information is not defined; remove them from the model"
            )
        total = loss(outputs)
        gradients = _gradients(total, [record.output for record in records.values()])
    return {
        name: LayerRecord(record.activations, gradient, record.dtype)
        for (name, record), gradient in zip(records.items(), gradients, strict=True)
    }


def gradient_factor(name: str, layer: Layer, gradient: Tensor | None) -> _kfac.Factor:
    """Compute ``Gamma`` from the gradient by a layer's output.

    Raises:
        InvalidSpectrumError: If the gradients are not finite, or vanish.
    """
    what = "the gradients that reach it"
    if gradient is None:
        raise InvalidSpectrumError(f"{what} vanish: the loss does not depend on its output", name)
    scaled, unit = _kfac.in_units(working(gradient), magnitude(gradient, what, name))
    if isinstance(layer, nn.Linear):
        moments = _kfac.position_moments(scaled)
    else:
        moments = _kfac.location_moments(scaled.reshape(-1, *scaled.shape[-3:]))
    return _kfac.rescaled(_kfac.gradient_factor(moments), unit)


def magnitude(data: Tensor, what: str, layer: str | None) -> float:
    """Return the largest absolute value.

    Raises:
        InvalidSpectrumError: If a value is not finite, or all are zero.
    """
    largest = float(data.detach().abs().amax()) if data.numel() else 0.0
    if largest == 0.0:
        raise InvalidSpectrumError(f"{what} vanish: all are zero", layer)
    if not largest < float("inf"):
        raise InvalidSpectrumError(f"{what} are not finite", layer)
    return largest


def working(data: Tensor) -> Tensor:
    """Detach, and move to where float64 exists."""
    data = data.detach()
    return data.cpu() if data.device.type == "mps" else data


@contextlib.contextmanager
def private_randomness(seed: int, devices: set[torch.device]) -> Iterator[None]:
    """Seed torch's generators inside the block, and give them back as they were.

    `torch.manual_seed` would also touch, or queue a seed for, GPUs that take no part.
    """
    gpus = sorted(device.index or 0 for device in devices if device.type == "cuda")
    with torch.random.fork_rng(devices=gpus):
        torch.default_generator.manual_seed(seed)
        for gpu in gpus:
            torch.cuda.default_generators[gpu].manual_seed(seed)
        yield


def devices_of(model: nn.Module) -> set[torch.device]:
    """Return where the model's parameters are."""
    return {parameter.device for parameter in model.parameters()}


@contextlib.contextmanager
def _borrowed(model: nn.Module, seed: int) -> Iterator[None]:
    """Set the mode for the features, and hand the model back as it was.

    Normalisation uses the batch's own statistics, for those of an untrained model say nothing;
    everything else, dropout included, is as in evaluation, for the features to be deterministic.
    """
    modules = list(model.modules())
    training = [module.training for module in modules]
    buffers = [dict(module._buffers) for module in modules]
    try:
        for module in modules:
            module.training = isinstance(module, _NORMALIZES_BY_BATCH)
            # Copies take the updates, so that a graph of the caller's that holds the originals
            # stays valid, which writing the old values back would not leave it.
            for name, buffer in module._buffers.items():
                module._buffers[name] = None if buffer is None else buffer.clone()
        with private_randomness(seed, devices_of(model)):
            yield
    finally:
        for module, was_training, own in zip(modules, training, buffers, strict=True):
            module.training = was_training
            module._buffers.clear()
            module._buffers.update(own)


@contextlib.contextmanager
def _recording(
    layers: Mapping[str, Layer], records: dict[str, _ForwardRecord], *, samples: int
) -> Iterator[None]:
    """Fill `records` while the layers run."""
    with contextlib.ExitStack() as hooks:
        for name, layer in layers.items():
            hook = _record_hook(name, records, samples)
            # First in line, to see the layer's own output before another hook replaces it.
            handle = layer.register_forward_hook(hook, prepend=True, with_kwargs=True)
            hooks.callback(handle.remove)
        yield


def _record_hook(
    name: str, records: dict[str, _ForwardRecord], samples: int
) -> Callable[[Layer, tuple[Any, ...], dict[str, Any], Tensor], Tensor | None]:
    def hook(
        layer: Layer, args: tuple[Any, ...], kwargs: dict[str, Any], output: Tensor
    ) -> Tensor | None:
        if name in records:
            raise UnsupportedModelError(
                f"layer {name!r} ran twice in one forward pass (shared weights), for which these "
                "Kronecker factors do not hold; use one layer for each place"
            )
        if not torch.is_grad_enabled():
            raise UnsupportedModelError(
                f"layer {name!r} runs under torch.no_grad() or similar inside the model, so no "
                "gradient reaches it; remove that"
            )
        data = args[0] if args else kwargs["input"]
        # At once, for the input may be overwritten later, and for bad functions to be found early.
        activations = _activation_factor(name, layer, data, samples)
        if output.requires_grad:
            # An edge, unlike a tensor, stays with this value when an activation overwrites it.
            records[name] = _ForwardRecord(activations, get_gradient_edge(output), data.dtype)
            return None
        # Frozen, with nothing trainable before it: the graph begins here.
        leaf = output.detach().requires_grad_()
        records[name] = _ForwardRecord(activations, get_gradient_edge(leaf), data.dtype)
        return leaf.clone()

    return hook


def _activation_factor(name: str, layer: Layer, data: Tensor, samples: int) -> _kfac.Factor:
    largest = magnitude(data, "the activations that enter", name)
    bias = layer.bias is not None
    with torch.no_grad():
        scaled, unit = _kfac.in_units(working(data), max(largest, 1.0) if bias else largest)
        if isinstance(layer, nn.Linear):
            moments = _kfac.position_moments(scaled)
        else:
            scaled = scaled.reshape(-1, *scaled.shape[-3:])
            moments = _kfac.patch_moments(scaled, _geometry(layer))
        ones = 1.0 / unit if bias else None
        return _kfac.rescaled(_kfac.activation_factor(moments, samples=samples, ones=ones), unit)


def _geometry(conv: nn.Conv2d) -> _kfac.ConvGeometry:
    sides: list[int] = []
    for axis in (1, 0):  # width first, as torch.nn.functional.pad counts
        if isinstance(conv.padding, str):
            reach = conv.dilation[axis] * (conv.kernel_size[axis] - 1)
            total = reach if conv.padding == "same" else 0
            sides += [total // 2, total - total // 2]
        else:
            sides += [conv.padding[axis]] * 2
    return _kfac.ConvGeometry(
        kernel=(conv.kernel_size[0], conv.kernel_size[1]),
        stride=(conv.stride[0], conv.stride[1]),
        dilation=(conv.dilation[0], conv.dilation[1]),
        padding=(sides[0], sides[1], sides[2], sides[3]),
        padding_mode="constant" if conv.padding_mode == "zeros" else conv.padding_mode,
        groups=conv.groups,
    )


def _gradients(total: Tensor, outputs: list[GradientEdge]) -> tuple[Tensor | None, ...]:
    if not total.requires_grad:
        raise InvalidSpectrumError("the network's outputs do not depend on any of its layers")
    return torch.autograd.grad(total, outputs, allow_unused=True)
