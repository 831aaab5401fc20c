"""Slow, obviously right Fisher matrices: every possible target with its probability.

A likelihood is a distribution of torch's and a list of the targets of one component: all of them,
or the nodes of a quadrature. The targets of several components are all combinations. Nothing here
knows of closed forms.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import scipy.stats
import torch
from torch import Tensor, nn
from torch.distributions import Bernoulli, Categorical, Distribution, Normal, Poisson

COUNTS = 30
"""Counts above have no probability in float64 for rates up to 3."""


class Oracle(NamedTuple):
    """`distribution(f)` of the targets given flat outputs (P,); `support(f)`: a list a component.

    The list holds pairs (target, weight), so that weighted sums over it are expectations.
    """

    distribution: Callable[[Tensor], Distribution]
    support: Callable[[Tensor], list[list[tuple[float, float]]]]


def every_label(logits: Tensor) -> list[list[tuple[float, float]]]:
    return [list(enumerate(logits.softmax(0).tolist()))]


def both_labels(logits: Tensor) -> list[list[tuple[float, float]]]:
    return [[(0, 1 - p), (1, p)] for p in logits.sigmoid().tolist()]


def hermite(mean: Tensor, deviation: Tensor) -> list[list[tuple[float, float]]]:
    """Gauss-Hermite nodes: exact for polynomials up to degree 9, and squared scores have 4."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(5)
    weights = weights / weights.sum()
    return [
        [(m + s * node, weight) for node, weight in zip(nodes, weights, strict=True)]
        for m, s in zip(mean.tolist(), deviation.tolist(), strict=True)
    ]


def counts(logs: Tensor) -> list[list[tuple[float, float]]]:
    return [
        [(float(k), scipy.stats.poisson.pmf(k, math.exp(log))) for k in range(COUNTS)]
        for log in logs.tolist()
    ]


ORACLES = {
    "cross_entropy": Oracle(lambda f: Categorical(logits=f), every_label),
    "binary_cross_entropy": Oracle(lambda f: Bernoulli(logits=f), both_labels),
    "mse": Oracle(
        lambda f: Normal(f, math.sqrt(0.5)), lambda f: hermite(f, torch.full_like(f, 0.5).sqrt())
    ),
    "gaussian": Oracle(
        lambda f: Normal(f[: len(f) // 2], f[len(f) // 2 :].sqrt()),
        lambda f: hermite(f[: len(f) // 2], f[len(f) // 2 :].sqrt()),
    ),
    "poisson": Oracle(lambda f: Poisson(f.exp()), counts),
}


def targets_and_weights(oracle: Oracle, outputs: Tensor) -> Iterator[tuple[Tensor, float]]:
    for combination in itertools.product(*oracle.support(outputs)):
        values = torch.tensor([value for value, _ in combination], dtype=torch.float64)
        yield values, math.prod(weight for _, weight in combination)


def output_fisher(oracle: Oracle, outputs: Tensor) -> Tensor:
    """E[s s^T], (P, P), for the flat outputs (P,) of one sample, s the score by autograd."""
    leaf = outputs.detach().requires_grad_()
    fisher = torch.zeros(len(leaf), len(leaf), dtype=torch.float64)
    for targets, weight in targets_and_weights(oracle, leaf.detach()):
        (score,) = torch.autograd.grad(oracle.distribution(leaf).log_prob(targets).sum(), leaf)
        fisher += weight * torch.outer(score, score)
    return fisher


def flat_outputs(outputs: Tensor | tuple[Tensor, ...]) -> Tensor:
    """One sample's outputs (1, ...), or a pair of them, as one vector."""
    parts = outputs if isinstance(outputs, tuple) else (outputs,)
    return torch.cat([part.flatten() for part in parts])


def jacobian(model: nn.Module, inputs: Tensor) -> Tensor:
    """Derivatives of one sample's outputs by all weights, (P, weights)."""
    return torch.stack([weight_gradient(model, value) for value in flat_outputs(model(inputs))])


def weight_fisher(oracle: Oracle, model: nn.Module, inputs: Tensor) -> Tensor:
    """The mean over the samples of J^T E[s s^T] J: the Fisher information of all weights."""
    total = torch.zeros((), dtype=torch.float64)
    for sample in inputs.split(1):
        slope = jacobian(model, sample)
        total = total + slope.T @ output_fisher(oracle, flat_outputs(model(sample))) @ slope
    return total / len(inputs)


def empirical_fisher(
    oracle: Oracle, model: nn.Module, inputs: Tensor, targets: list[Tensor]
) -> Tensor:
    """The mean of the outer products of the gradients for given targets, sample by sample."""
    total = torch.zeros((), dtype=torch.float64)
    for sample, target in zip(inputs.split(1), targets, strict=True):
        log_likelihood = (
            oracle.distribution(flat_outputs(model(sample))).log_prob(target.double()).sum()
        )
        gradient = weight_gradient(model, log_likelihood)
        total = total + torch.outer(gradient, gradient)
    return total / len(inputs)


def weight_gradient(model: nn.Module, value: Tensor) -> Tensor:
    """The gradient by all weights as one vector; the graph stays."""
    parts = torch.autograd.grad(value, list(model.parameters()), retain_graph=True)
    return torch.cat([part.flatten() for part in parts])
