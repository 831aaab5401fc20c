"""The summed loss whose gradients make the Fisher information, and the labels sampled for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from aquasurf_optuna.exceptions import InvalidSpectrumError, UnsupportedModelError

Loss = Literal["cross_entropy"] | Callable[[Tensor, Tensor], Tensor]


def check_loss(loss: Loss, targets: Tensor | None, inputs: Tensor) -> None:
    """Refuse losses and targets that fit neither each other nor the inputs.

    Raises:
        ValueError: If so.
    """
    if not callable(loss) and loss != "cross_entropy":
        raise ValueError(
            f"loss must be 'cross_entropy' or a callable loss(outputs, targets), got {loss!r}"
        )
    if targets is None:
        if callable(loss):
            raise ValueError(
                "a loss of your own needs targets, for no labels can be sampled from it"
            )
        return
    if not isinstance(targets, Tensor) or targets.ndim == 0 or len(targets) != len(inputs):
        came = tuple(targets.shape) if isinstance(targets, Tensor) else type(targets).__name__
        raise ValueError(
            f"targets must be a tensor with one entry for each of the {len(inputs)} inputs, "
            f"got {came}"
        )
    if targets.device != inputs.device:
        raise ValueError(
            f"targets must be on the device of the inputs, {inputs.device}, got {targets.device}"
        )


def summed_loss(
    outputs: Tensor, *, targets: Tensor | None, loss: Loss, samples: int, seed: int
) -> Tensor:
    """Compute the sum of the samples' losses, the labels sampled where no targets are given.

    A sum, not a mean, so that the gradient by one sample's activations is that sample's own.

    Raises:
        InvalidSpectrumError: If the outputs or the loss are not finite.
        UnsupportedModelError: If the outputs are not what the loss takes.
        ValueError: If the targets do not fit the outputs, or a callable returns something else.
    """
    if not isinstance(outputs, Tensor):
        raise UnsupportedModelError(
            f"the model must return one tensor, got a {type(outputs).__name__}"
        )
    if not outputs.isfinite().all():
        raise InvalidSpectrumError("the network's outputs are not finite")
    if callable(loss) and targets is not None:
        total = _own_loss(loss(outputs, targets), samples)
    else:
        total = _cross_entropy(outputs, targets, samples, seed)
    if not total.isfinite():
        raise InvalidSpectrumError("the loss is not finite")
    return total


def _own_loss(losses: object, samples: int) -> Tensor:
    if not isinstance(losses, Tensor) or losses.ndim == 0 or len(losses) != samples:
        came = tuple(losses.shape) if isinstance(losses, Tensor) else type(losses).__name__
        raise ValueError(
            f"loss must return one loss for each of the {samples} samples, for example with "
            f"reduction='none', got {came}"
        )
    return losses.sum()


def _cross_entropy(outputs: Tensor, targets: Tensor | None, samples: int, seed: int) -> Tensor:
    if outputs.ndim != 2 or len(outputs) != samples or outputs.shape[1] < 2:
        raise UnsupportedModelError(
            f"cross-entropy needs logits of shape ({samples}, classes) with 2 classes or more, the "
            f"model returned {tuple(outputs.shape)}"
        )
    logits = outputs if outputs.dtype == torch.float64 else outputs.float()
    if targets is None:
        return F.cross_entropy(logits, _sampled_labels(logits, seed), reduction="sum")
    classes = logits.shape[1]
    if targets.is_floating_point():
        fits = targets.shape == logits.shape
        targets = targets.to(logits.dtype)
    else:
        fits = targets.ndim == 1 and int(targets.min()) >= 0 and int(targets.max()) < classes
        targets = targets.long()
    if not fits:
        raise ValueError(
            f"targets must be {samples} class numbers from 0 to {classes - 1}, or probabilities of "
            f"shape {tuple(logits.shape)}, got {targets.dtype} of shape {tuple(targets.shape)}"
        )
    return F.cross_entropy(logits, targets, reduction="sum")


def _sampled_labels(logits: Tensor, seed: int) -> Tensor:
    """Draw one label a sample from the network's prediction.

    By inverting the distribution function at numbers from a CPU generator: the draw is the same on
    every device, and small changes of the prediction change few labels.
    """
    generator = torch.Generator().manual_seed(seed)
    uniform = torch.rand(len(logits), 1, generator=generator, dtype=torch.float64)
    cumulated = logits.detach().cpu().double().softmax(1).cumsum(1)
    labels = torch.searchsorted(cumulated, uniform, right=True).squeeze(1)
    return labels.clamp(max=logits.shape[1] - 1).to(logits.device)
