r"""Losses as likelihoods, and the scalars whose gradients make up the Fisher information.

A network maps one sample to outputs ``f``; the outputs parametrise a distribution of targets,
``p(y | f)``, and the loss is its negative logarithm, up to a constant. The Fisher information of
the weights is the mean over the samples of the expected outer product of one sample's gradients,
``J^T E_y[s s^T] J``, with ``J`` the Jacobian of the outputs and ``s`` the gradient of the loss by
them (Martens, "New insights and perspectives on the natural gradient method", JMLR 2020, Section
5). Three ways to compute the expectation:

=============  =====================================================================================
``sampled``    One draw of ``y`` from the prediction: an unbiased estimate by one backward pass (as
               in K-FAC, Martens and Grosse 2015; ``fisher_type="mc"`` of curvlinops, Dangel,
               Eschenhagen, Ormaniec, Fernandez, Tatzel and Kristiadi, "Position: curvature matrices
               should be democratized via linear operators", 2025).
``exact``      The matrix ``F = E_y[s s^T]`` in closed form and a root of it, ``F = R R^T``: the
               outer products of the columns of ``J^T R`` sum to the Fisher information, at one
               backward pass a column (``"type-2"`` of curvlinops).
``empirical``  Given targets in place of ``y``. Not the Fisher information, whatever its name: it
               approaches it only where the prediction is the distribution of the targets, and is
               far from it at initialisation (Martens 2020; Kunstner, Hennig and Balles,
               "Limitations of the empirical Fisher approximation for natural gradient descent",
               NeurIPS 2019).
=============  =====================================================================================

Symbols: ``M`` samples, ``C`` classes, ``d1, ...`` positions; a component is one output number of
one sample. ``[v]`` is a constant: not differentiated.

========================  ==========================================  ==============================
loss                      likelihood, negative logarithm              exact terms, summed over ``M``
========================  ==========================================  ==============================
``cross_entropy``         categorical of the softmax ``p`` of         ``-[sqrt(p_c)] log p_c``, one
                          logits ``(M, C)`` or ``(M, C, d1, ...)``;   a class; ``(M, C)`` only
                          ``-log p_y``
``binary_cross_entropy``  independent Bernoulli, ``p`` the sigmoid    ``[sqrt(p (1 - p))] f``, one a
                          of logits ``(M, ...)``;                     component
                          ``-y log p - (1 - y) log(1 - p)``
``mse``                   independent Gaussian of variance 1/2 and    ``sqrt(2) f``, one a component
                          mean ``f``, ``(M, ...)``; ``(f - y)^2``
``gaussian``              independent Gaussian, a pair (mean,         ``[1 / sqrt(v)] mean`` and
                          variance ``v``), each ``(M, ...)``;         ``[1 / (sqrt(2) v)] v``, two a
                          ``(log v + (mean - y)^2 / v) / 2``          component
``poisson``               independent Poisson, ``f`` the logarithm    ``[sqrt(exp f)] f``, one a
                          of the rate, ``(M, ...)``;                  component
                          ``exp(f) - y f``
========================  ==========================================  ==============================

``mse`` sums the squares without a factor, as ``nn.MSELoss(reduction="sum")`` does and curvlinops
assumes. Soft targets (Mixup, label smoothing) count as their mean loss: the outer product is that
of the gradient ``p - y`` that training sees.

Draws invert the distribution function at uniform numbers from a generator on the CPU that only the
seed decides: the draw is the same on every device, and two networks that predict alike get like
targets. The gradients are those of float64 draws around the prediction: where the noise is below
the rounding of a float32 output, it is not lost. Poisson rates above a million use the normal limit
with its first correction, which is right to a fraction of a count.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from aquasurf_optuna.exceptions import InvalidSpectrumError
from aquasurf_optuna.features._likelihoods import FAMILIES, is_finite, working

LossName = Literal["cross_entropy", "binary_cross_entropy", "mse", "gaussian", "poisson"]
Fisher = Literal["sampled", "exact", "empirical"]


@dataclass(frozen=True)
class Likelihood:
    """A likelihood of the user's own, for the sampled and the empirical Fisher information.

    Attributes:
        loss: ``loss(outputs, targets)`` returns one negative log likelihood a sample, ``(M,)``, or
            several to be summed, ``(M, ...)`` (``reduction="none"``).
        sample: ``sample(outputs)`` draws targets from the prediction, with torch's global
            generator, which is seeded. Its outputs carry no graph.
    """

    loss: Callable[[Any, Any], Tensor]
    sample: Callable[[Any], Any]


Loss = LossName | Likelihood | Callable[[Any, Any], Tensor]
"""A name, a likelihood, or a plain callable, which has no sampler: empirical only."""


def check_loss(loss: Loss, fisher: Fisher | None, targets: Tensor | None, inputs: Tensor) -> Fisher:
    """Refuse losses, kinds of Fisher information and targets that do not fit together.

    Args:
        loss: The loss.
        fisher: The kind; None means "empirical" with targets and "sampled" without.
        targets: ``(M, ...)`` or None.
        inputs: ``(M, ...)``.

    Returns:
        The kind of Fisher information that is meant.

    Raises:
        ValueError: If they do not fit.
    """
    own = isinstance(loss, Likelihood) or callable(loss)
    if not own and loss not in get_args(LossName):
        raise ValueError(
            f"loss must be one of {_names()}, a Likelihood or a callable loss(outputs, targets), "
            f"got {loss!r}"
        )
    if fisher is not None and fisher not in get_args(Fisher):
        raise ValueError(f"fisher must be one of {get_args(Fisher)} or None, got {fisher!r}")
    kind: Fisher = fisher or ("sampled" if targets is None else "empirical")
    _check_kind(loss, kind, targets)
    if targets is not None:
        _check_batch(targets, inputs)
    return kind


def loss_terms(
    outputs: Any, *, targets: Tensor | None, loss: Loss, fisher: Fisher, samples: int, seed: int
) -> Iterator[Tensor]:
    """Give the scalars to be differentiated, one after another, on one graph that is kept.

    The Fisher information is the average over the samples of the sum over the terms of the outer
    products of one sample's gradients. A term is a sum over the samples, not a mean, so that the
    gradient by one sample's activations is that sample's own. "sampled" and "empirical" have one
    term, the negative log likelihood up to a constant; the terms of "exact" are in the module's
    table. Outputs in half precision are computed in float32.

    Args:
        outputs: What the network returned for `samples` inputs: a tensor, a pair for "gaussian",
            anything with tensors in it for a loss of the user's own.
        targets: For "empirical": class numbers ``(M,)`` or ``(M, d1, ...)`` or probabilities of the
            logits' shape for "cross_entropy"; else numbers of the outputs' shape, from 0 to 1 for
            "binary_cross_entropy" and not negative for "poisson".
        loss: The loss.
        fisher: From :func:`check_loss`.
        samples: ``M``.
        seed: Decides the drawn targets of a named loss; a `Likelihood` draws from torch's global
            generator, which the caller seeds.

    Returns:
        As many terms as :func:`n_terms` counts. The checks run at once, not with the first term.

    Raises:
        InvalidSpectrumError: If outputs or loss are not finite, or a variance is not positive.
        UnsupportedModelError: If the outputs are not what the loss takes.
        ValueError: If the targets do not fit the outputs, or a callable returns something else.
    """
    _check_finite(outputs)
    if not isinstance(loss, str):
        return iter([_finite(_own_loss(outputs, targets, loss, samples))])
    family = FAMILIES[loss]
    parameters = family.parameters(outputs, samples)
    if fisher == "exact":
        return (column.sum() for column in _finite(family.root(parameters)).unbind(1))
    if targets is None:
        total = family.sampled_loss(parameters, seed)
    else:
        total = family.loss(parameters, family.targets(parameters, targets))
    return iter([_finite(total)])


def n_terms(outputs: Any, loss: Loss, fisher: Fisher) -> int:
    """Count the terms of :func:`loss_terms`, each of which is one backward pass.

    Raises:
        InvalidSpectrumError: As there.
        UnsupportedModelError: As there.
    """
    if fisher != "exact" or not isinstance(loss, str):
        return 1
    family = FAMILIES[loss]
    return family.root(family.parameters(outputs, None)).shape[1]


def _check_kind(loss: Loss, kind: Fisher, targets: Tensor | None) -> None:
    if kind == "empirical" and targets is None:
        raise ValueError("fisher='empirical' needs targets, got None; pass the batch's targets")
    if kind != "empirical" and targets is not None:
        raise ValueError(
            f"fisher={kind!r} does not use targets; leave them out, or pass fisher='empirical'"
        )
    if kind == "exact" and not isinstance(loss, str):
        raise ValueError(
            f"fisher='exact' is known for {_names()} only, got a loss of your own; use 'sampled' "
            "or 'empirical'"
        )
    if kind == "sampled" and not isinstance(loss, (str, Likelihood)):
        raise ValueError(
            "a loss of your own needs targets, for no labels can be sampled from it; pass targets, "
            "or a Likelihood with a sampler"
        )


def _check_batch(targets: Tensor, inputs: Tensor) -> None:
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


def _names() -> str:
    return ", ".join(repr(name) for name in FAMILIES)


def _check_finite(outputs: Any) -> None:
    if not all(is_finite(tensor) for tensor in _tensors(outputs)):
        raise InvalidSpectrumError("the network's outputs are not finite")


def _tensors(outputs: Any) -> Iterator[Tensor]:
    if isinstance(outputs, Tensor):
        yield outputs
    elif isinstance(outputs, (tuple, list, Mapping)):
        for part in outputs.values() if isinstance(outputs, Mapping) else outputs:
            yield from _tensors(part)


def _finite(terms: Tensor) -> Tensor:
    if not is_finite(terms):
        raise InvalidSpectrumError("the loss is not finite")
    return terms


def _own_loss(
    outputs: Any,
    targets: Tensor | None,
    loss: Likelihood | Callable[[Any, Any], Tensor],
    samples: int,
) -> Tensor:
    if isinstance(loss, Likelihood):
        losses = loss.loss(outputs, _drawn(outputs, loss) if targets is None else targets)
    else:
        losses = loss(outputs, targets)
    if not isinstance(losses, Tensor) or losses.ndim == 0 or len(losses) != samples:
        came = tuple(losses.shape) if isinstance(losses, Tensor) else type(losses).__name__
        raise ValueError(
            f"loss must return one loss for each of the {samples} samples, for example with "
            f"reduction='none', got {came}"
        )
    return working(losses).sum()


def _drawn(outputs: Any, likelihood: Likelihood) -> Any:
    with torch.no_grad():
        return likelihood.sample(outputs)
