"""The public door: check, find every layer's scale, and only then draw."""

from __future__ import annotations

import math
from typing import TypeVar

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from aquasurf_optuna.exceptions import UnsupportedModelError
from lightning_modules.autoinit._quadrature import MeanVariance
from lightning_modules.autoinit._trace import Unknown, follow

ModelT = TypeVar("ModelT", bound=nn.Module)

_CUT = 2.0
"""Weights beyond so many standard deviations of the normal distribution are not drawn."""


def _std_of_cut_normal(cut: float) -> float:
    """Return the standard deviation of a standard normal that is cut at `cut` on both sides."""
    density = math.exp(-0.5 * cut**2) / math.sqrt(2.0 * math.pi)
    return math.sqrt(1.0 - 2.0 * cut * density / math.erf(cut / math.sqrt(2.0)))


def autoinit_(
    model: ModelT,
    input_shape: tuple[int, ...],
    *,
    mean: float = 0.0,
    variance: float = 1.0,
    unknown: Unknown = "error",
) -> ModelT:
    """Initialise a network in place so that every weighted layer's outputs have mean 0, variance 1.

    One forward pass without values follows the signal's moments through the network in training
    mode. Each linear and convolutional layer that it meets gets weights from a normal distribution
    truncated at two standard deviations, and zero biases. Everything else stays as it is:
    normalisation parameters, positional embeddings, layers that the pass does not meet, modes,
    hooks and buffers. Weights come from torch's global generator, so `torch.manual_seed` decides
    them. After an error, nothing has changed.

    Args:
        model: Any network whose forward pass takes one tensor and asks for no values.
        input_shape: Shape of one input without the batch, `(3, 32, 32)` for example.
        mean: Mean of the network's inputs.
        variance: Variance of the network's inputs, above 0; they count as independent of each other
            within an image.
        unknown: `"error"` refuses an operation whose effect on the moments is not known, `"warn"`
            names it in a warning and lets the signal pass unchanged.

    Returns:
        The same model.

    Raises:
        InitializationError: If an activation is constant, not finite, or without a second moment
            that float32 can hold, or if no weights give a layer's outputs unit variance.
        UnsupportedModelError: If layers share weights, a layer runs twice, the forward pass fails
            on tensors without values, or an operation is unknown.
        ValueError: If another argument is not what is described above.
    """
    _check(input_shape, mean, variance, unknown)
    # Hooks and copies do not reach inside compiled code.
    network = getattr(model, "_orig_mod", model)
    _refuse_shared(network)
    # Trying whether an unknown operation is elementwise may draw numbers.
    with torch.random.fork_rng(devices=[]):
        found, _ = follow(network, input_shape, MeanVariance(mean, variance), unknown)
    correction = _std_of_cut_normal(_CUT)
    for layer in found:
        std = layer.std / correction
        nn.init.trunc_normal_(layer.weight, std=std, a=-_CUT * std, b=_CUT * std)
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)
    return model


def _check(input_shape: tuple[int, ...], mean: float, variance: float, unknown: str) -> None:
    if not (math.isfinite(mean) and math.isfinite(variance) and variance > 0):
        raise ValueError(
            "autoinit_ needs the finite mean and the positive, finite variance of the inputs, "
            f"got mean={mean!r}, variance={variance!r}"
        )
    whole = isinstance(input_shape, tuple | list | torch.Size)
    if not whole or not input_shape or not all(isinstance(n, int) and n > 0 for n in input_shape):
        raise ValueError(
            "autoinit_ needs the shape of one input without the batch, such as (3, 32, 32), got "
            f"input_shape={input_shape!r}"
        )
    if unknown not in ("error", "warn"):
        raise ValueError(f"autoinit_: unknown must be 'error' or 'warn', got {unknown!r}")


def _refuse_shared(model: nn.Module) -> None:
    owners: dict[int, str] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        if is_lazy(parameter):
            raise UnsupportedModelError(
                f"autoinit_ needs parameters with a shape, but {name!r} gets one in the first "
                "forward pass only; run one beforehand"
            )
        layer = name.rpartition(".")[0] or type(model).__name__
        owner = owners.setdefault(id(parameter), layer)
        if owner != layer:
            raise UnsupportedModelError(
                f"autoinit_ cannot serve two signals with one weight: layers {owner!r} and "
                f"{layer!r} share a parameter; give each its own"
            )
