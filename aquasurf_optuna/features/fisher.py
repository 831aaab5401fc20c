"""Fisher eigenvalues of a network at initialisation: :func:`fisher_log_eigenvalues`."""

from __future__ import annotations

import functools
import math

import torch
from torch import Tensor, nn

from aquasurf_optuna.exceptions import InvalidSpectrumError
from aquasurf_optuna.features import _kfac
from aquasurf_optuna.features._capture import (
    LayerRecord,
    capture,
    devices_of,
    gradient_factor,
)
from aquasurf_optuna.features._loss import Loss, check_loss, summed_loss
from aquasurf_optuna.features.layers import Layer, LayerTypes, find_layers


def fisher_log_eigenvalues(
    model: nn.Module,
    inputs: Tensor,
    targets: Tensor | None = None,
    *,
    loss: Loss = "cross_entropy",
    seed: int = 0,
    skip: LayerTypes = (),
) -> dict[str, Tensor]:
    """Compute the eigenvalues of a network's Fisher information, layer by layer.

    The Fisher information is approximated by one Kronecker product ``Omega (x) Gamma`` a layer
    (K-FAC; Appendix C, Equations 13 to 18, the bias as a homogeneous coordinate). Every
    ``nn.Linear`` and ``nn.Conv2d`` counts, frozen or not, with any kernel, stride, padding, padding
    mode, dilation and number of groups, and a Linear layer with any number of leading dimensions.
    Locations that share weights (pixels, tokens) count as samples of their own (K-FAC's "expand"
    rule). Normalisation layers do not count, as in the paper.

    It takes one forward and one backward pass and some matrix products. Normalisation over the
    batch uses the batch's own statistics, dropout is off. The model comes back as it was:
    parameters, gradients, buffers, modes, hooks and torch's random state, also after an error.

    Args:
        model: The network; its parameters are on one device. Its outputs are logits
            ``(M, classes)`` for ``loss="cross_entropy"``.
        inputs: A mini-batch ``(M, ...)`` on the model's device, in its dtype.
        targets: None to sample the labels from the network's own prediction: the Fisher information
            of Equation 1. Given ones, class numbers ``(M,)`` or probabilities ``(M, classes)``,
            make it the empirical Fisher information.
        loss: ``"cross_entropy"``, or a callable ``loss(outputs, targets)`` that returns one loss a
            sample, ``(M,)`` or ``(M, ...)``, to be summed (``reduction="none"``); it needs targets.
        seed: Decides the sampled labels, by numbers that do not depend on the model: two networks
            that predict alike get like labels.
        skip: Kinds of modules whose own parameters are left out;
            :func:`~aquasurf_optuna.features.layers.weightless_kinds` finds what a network needs.

    Returns:
        For each layer, in the order in which they run, the natural logarithms of its eigenvalues:
        float64, ascending, on the CPU, as many as the layer has weights, biases included.
        Eigenvalues of a factor at or below rounding, ``n max(eps ** 2, 2.2e-16)`` of the largest
        for an ``(n, n)`` factor and the layer's ``eps``, are set to that floor.

    Raises:
        InvalidSpectrumError: If activations, outputs, gradients or a factor are not finite or
            vanish, with the reason and the layer.
        UnsupportedModelError: If the eigenvalues are not defined for this model.
        ValueError: If `inputs`, `targets` or `loss` do not fit the model or each other.
    """
    # Hooks do not run inside compiled code, and compiling costs more than two passes.
    model = getattr(model, "_orig_mod", model)
    layers = find_layers(model, skip)
    _check_inputs(model, inputs)
    check_loss(loss, targets, inputs)
    objective = functools.partial(
        summed_loss, targets=targets, loss=loss, samples=len(inputs), seed=seed
    )
    records = capture(model, layers, inputs, objective, seed=seed)
    return {
        name: _layer_log_eigenvalues(name, layers[name], record) for name, record in records.items()
    }


def _layer_log_eigenvalues(name: str, layer: Layer, record: LayerRecord) -> Tensor:
    gamma = gradient_factor(name, layer, record.gradient)
    return _kfac.pairwise_log_products(
        _factor_log_eigenvalues(name, "Omega (activations)", record.activations, record.dtype),
        _factor_log_eigenvalues(name, "Gamma (gradients)", gamma, record.dtype),
    )


def _factor_log_eigenvalues(
    name: str, what: str, factor: _kfac.Factor, dtype: torch.dtype
) -> Tensor:
    try:
        values = _kfac.log_eigenvalues(factor, precision=_kfac.relative_precision(dtype))
    # Documented, but missing from torch's own list of exports.
    except torch.linalg.LinAlgError as error:  # type: ignore[attr-defined]
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


def check_batch(inputs: Tensor) -> None:
    if not isinstance(inputs, Tensor) or inputs.ndim == 0 or len(inputs) == 0:
        came = tuple(inputs.shape) if isinstance(inputs, Tensor) else type(inputs).__name__
        raise ValueError(f"inputs must be a tensor of one sample or more, (M, ...), got {came}")


def _check_inputs(model: nn.Module, inputs: Tensor) -> None:
    check_batch(inputs)
    devices = devices_of(model)
    if len(devices) == 1 and inputs.device not in devices:
        raise ValueError(
            f"inputs must be on the model's device {next(iter(devices))}, got {inputs.device}; "
            "move one of them with .to(device)"
        )
    dtypes = {p.dtype for p in model.parameters()}
    if len(dtypes) == 1 and inputs.is_floating_point() and inputs.dtype not in dtypes:
        raise ValueError(
            f"inputs must have the model's dtype {next(iter(dtypes))}, got {inputs.dtype}; "
            "convert one of them with .to(dtype)"
        )
    if not inputs.isfinite().all():
        raise ValueError("inputs must be finite, got NaN or infinity; mend the batch")
