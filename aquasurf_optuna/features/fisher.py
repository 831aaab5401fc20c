"""Fisher eigenvalues of a network at initialisation: :func:`fisher_log_eigenvalues`."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from typing import get_args

import numpy as np
import torch
from torch import Tensor, nn

from aquasurf_optuna.exceptions import InvalidSpectrumError
from aquasurf_optuna.features import _kfac
from aquasurf_optuna.features._batch import Inputs, check_batch, check_inputs, tensors_of
from aquasurf_optuna.features._capture import BatchParts, LayerRecord, capture
from aquasurf_optuna.features._sums import (
    Settings,
    Sharing,
    activation_factor,
    gradient_factor,
)
from aquasurf_optuna.features.layers import LayerTypes, Weights, no_layers
from aquasurf_optuna.features.losses import Fisher, Loss, check_loss, loss_terms

DEFAULT_MAX_USES = 4096
"""From how many uses of a layer its factors are estimated, unless told otherwise."""


class FisherSpectrum(dict[str, Tensor]):
    """Log eigenvalues by layer, and what they leave out.

    Attributes:
        not_covered: For each parameter that no layer stands for, by its full name, the reason.
    """

    def __init__(
        self, layers: Mapping[str, Tensor] | None = None, *, not_covered: Mapping[str, str] = {}
    ) -> None:
        super().__init__(layers or {})
        self.not_covered = dict(not_covered)


def fisher_log_eigenvalues(
    model: nn.Module,
    inputs: Inputs,
    targets: Tensor | None = None,
    *,
    loss: Loss = "cross_entropy",
    fisher: Fisher | None = None,
    sharing: Sharing = "expand",
    max_uses: int | None = DEFAULT_MAX_USES,
    seed: int = 0,
    skip: LayerTypes = (),
) -> FisherSpectrum:
    """Compute the eigenvalues of a network's Fisher information, layer by layer.

    The Fisher information is approximated by one Kronecker product ``Omega (x) Gamma`` a layer
    (K-FAC; Appendix C, Equations 13 to 18, the bias as a homogeneous coordinate). A layer is a
    weight, frozen or not, that the forward pass uses in a linear map or in a convolution of one to
    three axes, plain or transposed, with any kernel, stride, padding, dilation and number of
    groups: in `nn.Linear`, `nn.Conv2d` and their like, in `nn.MultiheadAttention`, or in a call of
    `torch.nn.functional.linear` and the like anywhere else. A weight that is used several times,
    also by several modules, is one layer. Everything else that has parameters is listed in the
    result's `not_covered`; normalisation is left out as in the paper.

    It takes one forward pass, one backward pass for each term of the loss (one but for "exact"),
    and some matrix products. Normalisation over the batch uses the batch's own statistics, dropout
    is off. The model comes back as it was: parameters, gradients, buffers, modes, hooks and torch's
    random state, also after an error.

    Args:
        model: The network; its parameters are on one device. With the default loss its outputs are
            logits ``(M, classes)``.
        inputs: A mini-batch ``(M, ...)`` on the model's device, in its dtype; or several tensors,
            in a tuple or, by the names of the model's arguments, in a dictionary.
        targets: For the empirical Fisher information only; see
            :func:`~aquasurf_optuna.features.losses.loss_terms` for what each loss takes.
        loss: ``"cross_entropy"``, ``"binary_cross_entropy"``, ``"mse"``, ``"gaussian"``,
            ``"poisson"``, a :class:`~aquasurf_optuna.features.losses.Likelihood` of your own, or a
            callable ``loss(outputs, targets)`` that returns one loss a sample, which needs targets.
        fisher: ``"sampled"`` draws the targets from the network's own prediction, ``"exact"`` sums
            over all of them (a backward pass for each class or output), ``"empirical"`` uses the
            given ones. None is "empirical" with targets and "sampled" without.
        sharing: What locations that share weights (pixels, tokens, repeated uses) count as:
            ``"expand"`` takes each as a sample of its own, as the paper does, ``"reduce"`` averages
            over them first (Eschenhagen et al., 2023; see
            :mod:`aquasurf_optuna.features._sums`).
        max_uses: Each factor is estimated from so many uses of its layer in the batch, (sample,
            location) pairs, drawn at random; from twice its size at least, and from all where there
            are fewer. None always counts all. The distances between functions keep their order
            (rank correlation above 0.999, see ``docs/fisher.md``). "reduce" has no need of it.
        seed: Decides the sampled targets and patches, by numbers that do not depend on the model:
            two networks that predict alike get like targets.
        skip: Kinds of modules whose own parameters are left out.

    Returns:
        For each layer, in the order in which they run, the natural logarithms of its eigenvalues:
        float64, ascending, on the CPU, as many as the layer has weights, biases included.
        Eigenvalues of a factor at or below rounding, ``n max(eps ** 2, 2.2e-16)`` of the largest
        for an ``(n, n)`` factor and the layer's ``eps``, are set to that floor.

    Raises:
        InvalidSpectrumError: If activations, outputs, gradients or a factor are not finite or
            vanish, with the reason and the layer.
        UnsupportedModelError: If the eigenvalues are not defined for this model.
        ValueError: If an argument is not allowed, or does not fit the model or another one.
    """
    check_arguments(inputs, targets, loss, fisher, sharing, max_uses)
    return measure(
        model, inputs, targets, loss=loss, fisher=fisher, sharing=sharing, max_uses=max_uses,
        seed=seed, skip=skip,
    )  # fmt: skip


def check_arguments(
    inputs: Inputs,
    targets: Tensor | None,
    loss: Loss,
    fisher: Fisher | None,
    sharing: Sharing,
    max_uses: int | None,
) -> None:
    """Refuse arguments of :func:`fisher_log_eigenvalues` that no model could take.

    Raises:
        ValueError: If so.
    """
    check_batch(inputs)
    check_loss(loss, fisher, targets, tensors_of(inputs)[0])
    if sharing not in get_args(Sharing):
        raise ValueError(f"sharing must be one of {get_args(Sharing)}, got {sharing!r}")
    if max_uses is not None and max_uses < 1:
        raise ValueError(f"max_uses must be 1 or more, or None for all, got {max_uses}")


def measure(
    model: nn.Module,
    inputs: Inputs,
    targets: Tensor | None,
    *,
    loss: Loss,
    fisher: Fisher | None,
    sharing: Sharing,
    max_uses: int | None,
    seed: int,
    skip: LayerTypes,
    batch_parts: BatchParts | None = None,
) -> FisherSpectrum:
    """Do the work of :func:`fisher_log_eigenvalues`, with what is known of the batch."""
    # Functions are not watched inside compiled code, and compiling costs more than two passes.
    model = getattr(model, "_orig_mod", model)
    weights = Weights(model, skip)
    check_inputs(model, inputs)
    samples = len(tensors_of(inputs)[0])
    losses = functools.partial(
        loss_terms,
        targets=targets,
        loss=loss,
        fisher=check_loss(loss, fisher, targets, tensors_of(inputs)[0]),
        samples=samples,
        seed=seed,
    )
    settings = Settings(sharing, samples, max_uses, seed)
    records = capture(model, weights, inputs, losses, settings, batch_parts=batch_parts)
    if not records:
        raise no_layers(model, weights.not_covered())
    spectra = {name: _log_eigenvalues(name, records[name], samples) for name in records}
    return FisherSpectrum(spectra, not_covered=weights.not_covered())


def _log_eigenvalues(name: str, record: LayerRecord, samples: int) -> Tensor:
    bias = record.bias is not None
    omega = activation_factor(record.activations, name, samples=samples, bias=bias)
    gamma = gradient_factor(record.gradients, name)
    return _kfac.pairwise_log_products(
        _factor_log_eigenvalues(name, "Omega (activations)", omega, record.dtype),
        _factor_log_eigenvalues(name, "Gamma (gradients)", gamma, record.dtype),
    )


def _factor_log_eigenvalues(
    name: str, what: str, factor: _kfac.Factor, dtype: torch.dtype
) -> Tensor:
    try:
        values = _kfac.log_eigenvalues(factor, precision=_kfac.relative_precision(dtype))
    except np.linalg.LinAlgError as error:
        raise InvalidSpectrumError(f"the eigenvalues of {what} do not converge", name) from error
    limits = torch.finfo(dtype if dtype == torch.float64 else torch.float32)
    largest = values[-1].item()
    if not math.log(limits.tiny) <= largest <= math.log(limits.max):
        verb = "vanishes" if largest < 0 else "explodes"
        raise InvalidSpectrumError(
            f"the factor {what} {verb}: its largest eigenvalue, exp({largest:.1f}), is outside the "
            f"range of {limits.dtype}",
            name,
        )
    return values
