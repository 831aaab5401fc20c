"""Which losses, kinds of Fisher information, outputs and targets fit together."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from aquasurf_optuna.exceptions import InvalidSpectrumError, UnsupportedModelError
from aquasurf_optuna.features.losses import Likelihood, check_loss, loss_terms

INPUTS = torch.zeros(3, 3)


def squares(outputs: Tensor, targets: Tensor) -> Tensor:
    return (outputs - targets).square()


OWN = Likelihood(squares, torch.clone)


FITTING: dict[str, tuple[Any, str | None, Tensor | None, str]] = {
    "a name": ("mse", None, None, "sampled"),
    "a name with targets": ("mse", None, torch.zeros(3), "empirical"),
    "asked for": ("poisson", "exact", None, "exact"),
    "a likelihood": (OWN, None, None, "sampled"),
    "a likelihood with targets": (
        OWN, "empirical", torch.zeros(3), "empirical"),
    "a callable": (squares, None, torch.zeros(3), "empirical"),
}  # fmt: skip


@pytest.mark.parametrize(("loss", "fisher", "targets", "kind"), FITTING.values(), ids=FITTING)
def test_the_kind_of_fisher_information_follows(
    loss: Any, fisher: Any, targets: Tensor | None, kind: str
) -> None:
    assert check_loss(loss, fisher, targets, INPUTS) == kind


UNFIT: dict[str, tuple[Any, Any, Any, str]] = {
    "no such loss": ("hinge", None, None, "loss must be one of 'cross_entropy', .*got 'hinge'"),
    "not hashable": ([], None, None, r"a Likelihood or a callable .*got \[\]"),
    "no such kind": ("mse", "true", None, r"one of \('sampled', 'exact', 'empirical'\).*'true'"),
    "no targets": ("mse", "empirical", None, "'empirical' needs targets, got None"),
    "targets unused": ("mse", "sampled", torch.zeros(3), "'sampled' does not use targets"),
    "targets unused by all": ("mse", "exact", torch.zeros(3), "'exact' does not use targets"),
    "no closed form": (
        OWN, "exact", None, "known for 'cross_entropy', .*your own"),
    "no closed form of a callable": (squares, "exact", None, "use 'sampled' or 'empirical'"),
    "no sampler": (squares, None, None, "no labels can be sampled from it"),
    "no sampler, asked": (squares, "sampled", None, "or a Likelihood with a sampler"),
    "targets of another batch": ("mse", None, torch.zeros(2), r"each of the 3 inputs, got \(2,\)"),
    "targets in a list": ("mse", None, [1, 2, 3], "each of the 3 inputs, got list"),
    "targets elsewhere": ("mse", None, torch.zeros(3, device="meta"), "cpu, got meta"),
}  # fmt: skip


@pytest.mark.parametrize(("loss", "fisher", "targets", "message"), UNFIT.values(), ids=UNFIT)
def test_what_does_not_fit_is_refused(loss: Any, fisher: Any, targets: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_loss(loss, fisher, targets, INPUTS)


PAIR = torch.zeros(3, 2)
BAD_OUTPUTS: dict[str, tuple[str, Any, str, type[Exception], str]] = {
    "NaN": ("mse", PAIR * math.nan, "sampled", InvalidSpectrumError, "outputs are not finite"),
    "variance 0": (
        "gaussian", (PAIR, PAIR), "exact", InvalidSpectrumError, "variances .* are not positive"),
    "rates overflow": (
        "poisson", PAIR + 800.0, "sampled", InvalidSpectrumError, "loss is not finite"),
    "roots overflow": (
        "poisson", PAIR + 200.0, "exact", InvalidSpectrumError, "loss is not finite"),
    "a pair": ("mse", (PAIR, PAIR), "exact", UnsupportedModelError, "one tensor, got a tuple"),
    "no pair": (
        "gaussian", PAIR, "sampled", UnsupportedModelError, "pair of tensors .*got a Tensor"),
    "shapes differ": (
        "gaussian", (PAIR, PAIR[:, :1] + 1), "exact", UnsupportedModelError,
        r"equal shapes, the model returned \(3, 2\) and \(3, 1\)"),
    "one class": (
        "cross_entropy", PAIR[:, :1], "sampled", UnsupportedModelError, r"returned \(3, 1\)"),
    "no classes": (
        "cross_entropy", PAIR[:, 0], "sampled", UnsupportedModelError, r"returned \(3,\)"),
    "dense, exact": (
        "cross_entropy", PAIR[..., None], "exact", UnsupportedModelError,
        r"returned \(3, 2, 1\): positions share the network"),
    "whole numbers": (
        "poisson", PAIR.int(), "sampled", UnsupportedModelError, "floating-point .*torch.int32"),
    "no components": (
        "mse", PAIR[:, :0], "exact", UnsupportedModelError, r"of shape \(3, 0\)"),
    "a scalar": (
        "binary_cross_entropy", PAIR.sum(), "exact", UnsupportedModelError, r"of shape \(\)"),
}  # fmt: skip


@pytest.mark.parametrize(
    ("loss", "outputs", "fisher", "kind", "message"), BAD_OUTPUTS.values(), ids=BAD_OUTPUTS
)
def test_outputs_that_a_loss_does_not_take_are_refused(
    loss: str, outputs: Any, fisher: Any, kind: type[Exception], message: str
) -> None:
    with pytest.raises(kind, match=message):
        loss_terms(outputs, targets=None, loss=loss, fisher=fisher, samples=3, seed=0)


@pytest.mark.parametrize("loss", ["cross_entropy", "poisson"])
def test_outputs_of_another_batch_are_refused(loss: str) -> None:
    with pytest.raises(UnsupportedModelError, match=r"\(4, .*returned .*\(3, 2\)"):
        loss_terms(PAIR, targets=None, loss=loss, fisher="sampled", samples=4, seed=0)


BAD_TARGETS: dict[str, tuple[Any, Tensor, str]] = {
    "label too high": (
        "cross_entropy", torch.tensor([0, 1, 2]), "3 class numbers from 0 to 1, .*from 0 to 2"),
    "label ignored": ("cross_entropy", torch.tensor([0, 1, -100]), "from -100 to 1"),
    "labels in columns": ("cross_entropy", torch.zeros(3, 1).long(), r"got .*shape \(3, 1\)"),
    "not probabilities": ("cross_entropy", torch.full((3, 2), 0.6), "summing to 1"),
    "negative": ("cross_entropy", torch.tensor([[-1.0, 2.0]] * 3), "from -1 to 2"),
    "not finite": ("cross_entropy", PAIR * math.nan, "from nan to nan"),
    "above 1": ("binary_cross_entropy", PAIR + 2, "numbers from 0 to 1, .*from 2 to 2"),
    "below 0": ("binary_cross_entropy", PAIR - 1, "numbers from 0 to 1, .*from -1 to -1"),
    "negative counts": ("poisson", PAIR - 1, "of 0 or more, .*from -1 to -1"),
    "infinite": ("mse", PAIR + math.inf, "finite numbers, .*from inf to inf"),
    "would broadcast": ("mse", PAIR[:, :1], r"\(3, 2\), got torch.float32 of shape \(3, 1\)"),
    "complex": ("mse", PAIR + 1j, "got torch.complex64"),
    "mean of a loss": (F.mse_loss, PAIR, r"each of the 3 samples, .*got \(\)"),
    "no loss": (lambda outputs, targets: 1.0, PAIR, "each of the 3 samples, .*got float"),
}  # fmt: skip


@pytest.mark.parametrize(("loss", "targets", "message"), BAD_TARGETS.values(), ids=BAD_TARGETS)
def test_targets_that_do_not_fit_are_refused(loss: Any, targets: Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        loss_terms(PAIR, targets=targets, loss=loss, fisher="empirical", samples=3, seed=0)
