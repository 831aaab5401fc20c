"""The likelihoods behind :mod:`aquasurf_optuna.features.losses`, where their formulas stand.

Symbols as there. Every method works on *parameters*: a tuple of the tensors that parametrise the
distribution, float32 or float64, ``(M, ...)`` each.
"""

from __future__ import annotations

import abc
import math
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from aquasurf_optuna.exceptions import InvalidSpectrumError, UnsupportedModelError

Parameters = tuple[Tensor, ...]

# scipy's inverse takes time like the square root of the rate, and fails from about 1e11.
_LARGEST_EXACT_RATE = 1e6
# Probabilities in half precision add up to 1 only roughly.
_ROUNDING_OF_SUMS = 0.01


class Family(abc.ABC):
    """One kind of likelihood; `Parameters` are those that :meth:`parameters` made."""

    name: str

    def parameters(self, outputs: Any, samples: int | None) -> Parameters:
        """Check the outputs, of `samples` samples unless None, and convert half precision."""
        return (_real(_one_tensor(outputs), self.name, samples),)

    @abc.abstractmethod
    def targets(self, parameters: Parameters, targets: Tensor) -> Tensor:
        """Check the targets, and convert them to what :meth:`loss` takes."""

    @abc.abstractmethod
    def loss(self, parameters: Parameters, targets: Tensor) -> Tensor:
        """Sum the negative log likelihoods."""

    @abc.abstractmethod
    def sampled_loss(self, parameters: Parameters, seed: int) -> Tensor:
        """Give what has the gradient of :meth:`loss` for targets drawn from the prediction."""

    @abc.abstractmethod
    def root(self, parameters: Parameters) -> Tensor:
        """Give ``(M, terms)``: ``R^T f`` with ``R`` constant and ``R R^T`` the Fisher of ``f``."""


class _CrossEntropy(Family):
    name = "cross_entropy"

    def parameters(self, outputs: Any, samples: int | None) -> Parameters:
        logits = _one_tensor(outputs)
        count = "M" if samples is None else samples
        if logits.ndim < 2 or logits.shape[1] < 2 or samples not in (None, len(logits)):
            raise UnsupportedModelError(
                f"cross-entropy needs logits of shape ({count}, classes) or ({count}, classes, "
                f"positions ...) with 2 classes or more, the model returned {tuple(logits.shape)}"
            )
        return super().parameters(outputs, samples)

    def targets(self, parameters: Parameters, targets: Tensor) -> Tensor:
        (logits,) = parameters
        soft = targets.is_floating_point()
        if not (_are_probabilities if soft else _are_labels)(targets, logits.shape):
            places = (logits.shape[0], *logits.shape[2:])
            raise ValueError(
                f"targets must be {math.prod(places)} class numbers from 0 to "
                f"{logits.shape[1] - 1}, of shape {places}, or, summing to 1 over dimension 1, "
                f"probabilities of shape {tuple(logits.shape)}, got {_described(targets)}"
            )
        return targets.to(logits.dtype) if soft else targets.long()

    def loss(self, parameters: Parameters, targets: Tensor) -> Tensor:
        return F.cross_entropy(parameters[0], targets, reduction="sum")

    def sampled_loss(self, parameters: Parameters, seed: int) -> Tensor:
        (logits,) = parameters
        probabilities = logits.detach().cpu().double().movedim(1, -1).softmax(-1)
        uniform = _uniform((*probabilities.shape[:-1], 1), seed)
        labels = torch.searchsorted(probabilities.cumsum(-1), uniform, right=True).squeeze(-1)
        labels = labels.clamp(max=logits.shape[1] - 1)
        return self.loss(parameters, labels.to(logits.device))

    def root(self, parameters: Parameters) -> Tensor:
        (logits,) = parameters
        if logits.ndim != 2:
            raise UnsupportedModelError(
                "fisher='exact' needs logits of shape (M, classes) for cross-entropy, the model "
                f"returned {tuple(logits.shape)}: positions share the network, so a term a class "
                "would mix their gradients, and one a class and position takes too many passes; "
                "use fisher='sampled'"
            )
        logs = logits.log_softmax(1)
        return -logs.detach().div(2).exp() * logs


class _Independent(Family):
    """Components that are independent given the outputs; targets have their shape."""

    lowest, highest, values = -math.inf, math.inf, "finite numbers"

    def targets(self, parameters: Parameters, targets: Tensor) -> Tensor:
        shape = parameters[0].shape
        fits = targets.shape == shape and not targets.is_complex() and is_finite(targets)
        if not fits or bool((targets < self.lowest).any() or (targets > self.highest).any()):
            raise ValueError(
                f"targets of {self.name} must be {self.values}, in the shape of the outputs, "
                f"{tuple(shape)}, got {_described(targets)}; mend the values or reshape them"
            )
        return targets.to(parameters[0].dtype)


class _BinaryCrossEntropy(_Independent):
    name = "binary_cross_entropy"
    lowest, highest, values = 0.0, 1.0, "numbers from 0 to 1"

    def loss(self, parameters: Parameters, targets: Tensor) -> Tensor:
        return F.binary_cross_entropy_with_logits(parameters[0], targets, reduction="sum")

    def sampled_loss(self, parameters: Parameters, seed: int) -> Tensor:
        probabilities = parameters[0].detach().cpu().double().sigmoid()
        drawn = _uniform(probabilities.shape, seed) < probabilities
        return self.loss(parameters, _like(drawn, parameters[0]))

    def root(self, parameters: Parameters) -> Tensor:
        logits = _rows(parameters[0])
        fixed = logits.detach()
        return (F.logsigmoid(fixed) + F.logsigmoid(-fixed)).div(2).exp() * logits


class _SquaredError(_Independent):
    name = "mse"

    def loss(self, parameters: Parameters, targets: Tensor) -> Tensor:
        return (parameters[0] - targets).square().sum()

    def sampled_loss(self, parameters: Parameters, seed: int) -> Tensor:
        (mean,) = parameters
        noise = _normal(mean.shape, seed) * math.sqrt(0.5)
        return self.loss((mean - mean.detach(),), _like(noise, mean))

    def root(self, parameters: Parameters) -> Tensor:
        return math.sqrt(2) * _rows(parameters[0])


class _Gaussian(_Independent):
    name = "gaussian"

    def parameters(self, outputs: Any, samples: int | None) -> Parameters:
        pair = outputs if isinstance(outputs, (tuple, list)) else ()
        if len(pair) != 2 or not all(isinstance(part, Tensor) for part in pair):
            raise UnsupportedModelError(
                "gaussian needs a model that returns a pair of tensors (mean, variance), got a "
                f"{type(outputs).__name__}"
            )
        mean, variance = (_real(part, self.name, samples) for part in pair)
        if mean.shape != variance.shape:
            raise UnsupportedModelError(
                "gaussian needs a mean and a variance of equal shapes, the model returned "
                f"{tuple(mean.shape)} and {tuple(variance.shape)}"
            )
        if not bool((variance > 0).all()):
            raise InvalidSpectrumError("the variances that the network predicts are not positive")
        return mean, variance

    def loss(self, parameters: Parameters, targets: Tensor) -> Tensor:
        mean, variance = parameters
        return (variance.log() + (mean - targets).square() / variance).sum() / 2

    def sampled_loss(self, parameters: Parameters, seed: int) -> Tensor:
        mean, variance = parameters
        noise = _like(_normal(mean.shape, seed), mean) * variance.detach().sqrt()
        return self.loss((mean - mean.detach(), variance), noise)

    def root(self, parameters: Parameters) -> Tensor:
        mean, variance = (_rows(parameter) for parameter in parameters)
        fixed = variance.detach()
        roots = (mean / fixed.sqrt(), variance / (math.sqrt(2) * fixed))
        # A variance that the network does not predict is a constant, and has no terms.
        return torch.cat([root for root in roots if root.requires_grad] or roots, 1)


class _Poisson(_Independent):
    name = "poisson"
    lowest, values = 0.0, "finite numbers of 0 or more"

    def loss(self, parameters: Parameters, targets: Tensor) -> Tensor:
        return F.poisson_nll_loss(parameters[0], targets, reduction="sum")

    def sampled_loss(self, parameters: Parameters, seed: int) -> Tensor:
        (logs,) = parameters
        excess = _poisson_excess(logs.detach().cpu().double().exp(), seed)
        return -(_like(excess, logs) * logs).sum()

    def root(self, parameters: Parameters) -> Tensor:
        logs = _rows(parameters[0])
        return logs.detach().div(2).exp() * logs


FAMILIES: dict[str, Family] = {
    family.name: family
    for family in (_CrossEntropy(), _BinaryCrossEntropy(), _SquaredError(), _Gaussian(), _Poisson())
}


def is_finite(tensor: Tensor) -> bool:
    """Tell whether no entry is infinite or NaN."""
    return bool(tensor.isfinite().all())


def working(tensor: Tensor) -> Tensor:
    """Convert half precision to float32."""
    return tensor if tensor.dtype == torch.float64 else tensor.float()


def _one_tensor(outputs: Any) -> Tensor:
    if not isinstance(outputs, Tensor):
        raise UnsupportedModelError(
            f"the model must return one tensor, got a {type(outputs).__name__}"
        )
    return outputs


def _real(outputs: Tensor, name: str, samples: int | None) -> Tensor:
    fits = outputs.ndim > 0 and outputs.numel() > 0 and samples in (None, len(outputs))
    if not fits or not outputs.is_floating_point():
        count = "M" if samples is None else samples
        raise UnsupportedModelError(
            f"{name} needs floating-point outputs of shape ({count}, ...), the model returned "
            f"{_described(outputs)}"
        )
    return working(outputs)


def _rows(parameter: Tensor) -> Tensor:
    return parameter.reshape(len(parameter), -1)


def _are_labels(targets: Tensor, shape: torch.Size) -> bool:
    if targets.shape != (shape[0], *shape[2:]) or targets.is_complex():
        return False
    return int(targets.min()) >= 0 and int(targets.max()) < shape[1]


def _are_probabilities(targets: Tensor, shape: torch.Size) -> bool:
    if targets.shape != shape or not is_finite(targets) or bool((targets < 0).any()):
        return False
    return bool((working(targets).sum(1) - 1).abs().max() < _ROUNDING_OF_SUMS)


def _described(tensor: Tensor) -> str:
    what = f"{tensor.dtype} of shape {tuple(tensor.shape)}"
    if tensor.numel() == 0 or tensor.is_complex():
        return what
    return f"{what} with values from {tensor.min().item():.4g} to {tensor.max().item():.4g}"


def _uniform(shape: tuple[int, ...], seed: int) -> Tensor:
    """Draw float64 numbers from [0, 1) on the CPU."""
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def _normal(shape: tuple[int, ...], seed: int) -> Tensor:
    normal: Tensor = torch.special.ndtri(_open(_uniform(shape, seed)))
    return normal


def _open(uniform: Tensor) -> Tensor:
    """Leave out 0, whose normal number is infinite and whose Poisson count is -1 in scipy."""
    return uniform.clamp(min=2.0**-54)


def _poisson_excess(rates: Tensor, seed: int) -> Tensor:
    """Draw counts and subtract their rates, float64.

    Large rates use the normal limit with the next term of the Cornish-Fisher expansion, which is
    then right to a fraction of a count.
    """
    # Half as long to import as torch, and needed for counts alone.
    import scipy.stats

    uniform = _open(_uniform(rates.shape, seed))
    small = rates.clamp(max=_LARGEST_EXACT_RATE)
    counts = torch.from_numpy(np.asarray(scipy.stats.poisson.ppf(uniform.numpy(), small.numpy())))
    normal = torch.special.ndtri(uniform)
    limit = rates.sqrt() * normal + (normal.square() - 1) / 6
    return torch.where(rates > _LARGEST_EXACT_RATE, limit, counts - small)


def _like(drawn: Tensor, outputs: Tensor) -> Tensor:
    """Move to the outputs' dtype and device, in this order, for not every device has float64."""
    return drawn.to(outputs.dtype).to(outputs.device)
