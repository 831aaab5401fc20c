"""The public door: which models and arguments are refused, and which results are invalid."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from aquasurf_optuna.exceptions import InvalidSpectrumError, UnsupportedModelError
from aquasurf_optuna.features import _kfac
from aquasurf_optuna.features.fisher import fisher_log_eigenvalues
from tests.aquasurf_optuna.features.networks import Apply, batch, dense

VECTORS = batch(6, 4)


INVALID = {
    "activations not finite": (
        dense(Apply(lambda x: x / 0)), "last", "activations that enter are not finite"),
    "activations NaN": (
        dense(Apply(lambda x: x * math.nan)), "last", "activations that enter are not finite"),
    "activations vanish": (dense(Apply(lambda x: x * 0)), "last", "activations that enter vanish"),
    "outputs not finite": (
        nn.Sequential(dense(), Apply(lambda x: x + math.inf)), None, "outputs are not finite"),
    "gradients vanish": (
        dense(Apply(lambda x: x * 0 + 1)), "first", "gradients that reach it vanish"),
    "gradients cut": (
        dense(Apply(torch.ones_like)), "first", "gradients that reach it vanish"),
    "gradients not finite": (
        dense(Apply(lambda x: (x - x).abs().sqrt() + 1)), "first",
        "gradients that reach it are not finite"),
    "outputs without layers": (
        nn.Sequential(dense(), Apply(torch.ones_like)), None, "do not depend on any of its layers"),
    "activations explode": (
        nn.Sequential(dense(Apply(lambda x: x * 1e25)), Apply(lambda x: x * 1e-25)), "0.last",
        r"Omega \(activations\) explodes: its largest eigenvalue, exp\(1\d\d\.\d\)"),
    "gradients underflow": (
        nn.Sequential(dense(), Apply(lambda x: x * 1e-25)), "0.first",
        r"Gamma \(gradients\) vanishes: its largest eigenvalue, exp\(-1\d\d\.\d\)"),
}  # fmt: skip


@pytest.mark.parametrize(("model", "layer", "reason"), INVALID.values(), ids=INVALID.keys())
def test_invalid_spectra_come_with_their_reason(
    model: nn.Module, layer: str | None, reason: str
) -> None:
    with pytest.raises(InvalidSpectrumError, match=reason) as caught:
        fisher_log_eigenvalues(model, VECTORS)
    assert caught.value.layer == layer


def test_vanishing_activations_without_a_bias_are_invalid_too() -> None:
    model = nn.Sequential(nn.Linear(4, 5, bias=False), Apply(lambda x: x * 0), nn.Linear(5, 3))
    with pytest.raises(InvalidSpectrumError, match="activations that enter vanish"):
        fisher_log_eigenvalues(model, VECTORS)


def test_double_precision_reaches_further_than_single() -> None:
    model = dense(Apply(lambda x: x * 1e-25)).double()
    with torch.no_grad():
        model.last.weight.mul_(1e25)
    assert fisher_log_eigenvalues(model, VECTORS.double())["last"].isfinite().all()


def test_a_solver_that_does_not_converge_is_invalid(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> Tensor:
        raise np.linalg.LinAlgError("failed to converge")

    monkeypatch.setattr(_kfac, "log_eigenvalues", fail)
    with pytest.raises(InvalidSpectrumError, match="do not converge"):
        fisher_log_eigenvalues(dense(), VECTORS)


class Ungraphed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 3)

    @torch.no_grad()
    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x)


def built_in_inference() -> nn.Module:
    with torch.inference_mode():
        return nn.Linear(4, 3)


UNSUPPORTED = {
    "no layers": (nn.Tanh, "Tanh has no linear map and no convolution that counts"),
    "only normalisation": (
        lambda: nn.LayerNorm(4), r"no convolution that counts.*weight: LayerNorm: normalisation"),
    "lazy": (lambda: nn.LazyLinear(3), "not initialised yet"),
    "no graph": (Ungraphed, "'layer' runs under torch.no_grad"),
    "inference mode": (built_in_inference, "built in torch.inference_mode"),
    "tuple": (lambda: nn.Sequential(dense(), Apply(lambda x: (x, x))), "must return one tensor"),
    "one class": (lambda: dense(outputs=1), r"2 classes or more, the model returned \(6, 1\)"),
    "other batch": (lambda: nn.Sequential(dense(), Apply(lambda x: x[:4])), r"returned \(4, 3\)"),
}  # fmt: skip


@pytest.mark.parametrize(("build", "message"), UNSUPPORTED.values(), ids=UNSUPPORTED.keys())
def test_unsupported_models_are_refused(build: Callable[[], nn.Module], message: str) -> None:
    with pytest.raises(UnsupportedModelError, match=message):
        fisher_log_eigenvalues(build(), VECTORS)


def mean_loss(outputs: Tensor, targets: Tensor) -> Tensor:
    return nn.functional.cross_entropy(outputs, targets)


LABELS = torch.tensor([0, 1, 2, 0, 1, 2])
REFUSED = {
    "no tensor": ({"inputs": [[1.0]]}, r"inputs must be a tensor .* got list"),
    "no samples": ({"inputs": torch.ones(0, 4)}, r"inputs must be .* got \(0, 4\)"),
    "NaN": ({"inputs": torch.full((2, 4), math.nan)}, "inputs must be finite"),
    "unknown loss": ({"loss": "hinge"}, "loss must be one of 'cross_entropy', .*got 'hinge'"),
    "loss without targets": ({"loss": mean_loss}, "needs targets"),
    "mean loss": (
        {"loss": mean_loss, "targets": LABELS},
        r"one loss for each of the 6 .* got \(\)",
    ),
    "loss of no tensor": ({"loss": lambda *_: 1.0, "targets": LABELS}, "got float"),
    "few targets": ({"targets": LABELS[:4]}, r"each of the 6 inputs, got \(4,\)"),
    "no target tensor": ({"targets": [0] * 6}, "targets must be a tensor .* got list"),
    "label too large": ({"targets": LABELS + 1}, "6 class numbers from 0 to 2"),
    "label below zero": ({"targets": LABELS - 1}, "6 class numbers from 0 to 2"),
    "wrong probabilities": ({"targets": torch.ones(6, 2)}, r"probabilities of shape \(6, 3\), got"),
    "elsewhere": ({"inputs": torch.ones(2, 4, device="meta")}, "model's device cpu, got meta"),
    "targets elsewhere": ({"targets": LABELS.to("meta")}, "targets must be on the device .* meta"),
    "not one tensor": ({"inputs": (VECTORS, 1.0)}, "got Tensor, float"),
    "no tensors": ({"inputs": ()}, "several, in a tuple or a dictionary, got nothing"),
    "on two devices": ({"inputs": (VECTORS, VECTORS.to("meta"))}, "on one device, got .*meta"),
    "unknown sharing": ({"sharing": "sum"}, r"sharing must be one of \('expand', 'reduce'\)"),
    "no patches": ({"max_uses": 0}, "max_uses must be 1 or more, or None for all, got 0"),
    "another precision": ({"inputs": VECTORS.double()}, "inputs must have the model's dtype"),
}


@pytest.mark.parametrize(("arguments", "message"), REFUSED.values(), ids=REFUSED.keys())
def test_arguments_that_do_not_fit_are_refused(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        fisher_log_eigenvalues(**{"model": dense(), "inputs": VECTORS, **arguments})


def test_a_loss_that_is_not_finite_is_invalid() -> None:
    with pytest.raises(InvalidSpectrumError, match="the loss is not finite"):
        fisher_log_eigenvalues(dense(), VECTORS, LABELS, loss=lambda outputs, _: outputs / 0)
