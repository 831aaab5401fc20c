"""The eigenvalues of every likelihood against dense Fisher matrices and curvlinops."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from aquasurf_optuna.exceptions import InvalidSpectrumError, UnsupportedModelError
from aquasurf_optuna.features.fisher import fisher_log_eigenvalues
from aquasurf_optuna.features.losses import Likelihood
from tests.aquasurf_optuna.features.networks import Apply, batch, seeded
from tests.oracles.kfac_oracles import assert_same_spectrum, kronecker_eigenvalues
from tests.oracles.likelihood_oracles import ORACLES, empirical_fisher, weight_fisher

MONTE_CARLO = 0.05  # of the largest eigenvalue: a few standard errors of 20,000 draws
DATUM = batch(1, 3, dtype=torch.float64)
IMAGES = batch(8, 2, 6, 6, dtype=torch.float64)


def mean_and_variance(outputs: Tensor) -> tuple[Tensor, Tensor]:
    mean, variance = outputs.chunk(2, 1)
    return mean, F.softplus(variance)


def dense(loss: str) -> nn.Module:
    """Takes DATUM; three classes, or two components, of which a Gaussian one has two outputs."""
    outputs = {"cross_entropy": 3, "gaussian": 4}.get(loss, 2)
    model = seeded(lambda: nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, outputs)))
    return (model.append(Apply(mean_and_variance)) if loss == "gaussian" else model).double()


def convolutional() -> nn.Module:
    """Takes IMAGES, returns (8, 3)."""
    layers = seeded(
        lambda: nn.Sequential(
            nn.Conv2d(2, 3, 3, padding=1),
            nn.Tanh(),
            nn.Conv2d(3, 4, 3, stride=2, bias=False),
            nn.Softplus(),
            nn.Flatten(),
            nn.Linear(16, 3),
        )
    )
    return layers.double()


def layer_eigenvalues(model: nn.Module, fisher: Tensor) -> dict[str, np.ndarray]:
    """The eigenvalues of each layer's block of the Fisher matrix of all weights."""
    layers = {name: m for name, m in model.named_modules() if isinstance(m, nn.Linear)}
    sizes = [sum(p.numel() for p in layer.parameters()) for layer in layers.values()]
    rows = fisher.detach().split(sizes)
    blocks = [row.split(sizes, 1)[number] for number, row in enumerate(rows)]
    return {
        name: np.linalg.eigvalsh(block.numpy()) for name, block in zip(layers, blocks, strict=True)
    }


def assert_same_spectra(
    spectra: dict[str, Tensor], expected: dict[str, np.ndarray], **tolerance: float
) -> None:
    assert spectra.keys() == expected.keys()
    for name, eigenvalues in expected.items():
        assert_same_spectrum(spectra[name], eigenvalues, **tolerance)


@pytest.mark.parametrize("loss", ORACLES)
def test_the_exact_fisher_information_of_a_datum(loss: str) -> None:
    """With one sample the Kronecker product holds without approximation."""
    model = dense(loss)
    spectra = fisher_log_eigenvalues(model, DATUM, loss=loss, fisher="exact")
    expected = layer_eigenvalues(model, weight_fisher(ORACLES[loss], model, DATUM))
    assert_same_spectra(spectra, expected)
    with pytest.raises(AssertionError, match="Not equal to tolerance"):
        assert_same_spectra(spectra, {name: 1.01 * values for name, values in expected.items()})


@pytest.mark.parametrize("loss", ORACLES)
def test_the_sampled_fisher_information_of_a_datum(loss: str) -> None:
    model = dense(loss)
    spectra = fisher_log_eigenvalues(model, DATUM.expand(20_000, 3), loss=loss, max_uses=None)
    expected = layer_eigenvalues(model, weight_fisher(ORACLES[loss], model, DATUM))
    assert_same_spectra(spectra, expected, rtol=0, floor=MONTE_CARLO)


@pytest.mark.parametrize(
    ("loss", "targets"),
    [
        ("cross_entropy", torch.tensor([2])),
        ("binary_cross_entropy", torch.tensor([[0.0, 1.0]])),
        ("mse", torch.tensor([[0.3, -2.0]])),
        ("gaussian", torch.tensor([[0.3, -2.0]])),
        ("poisson", torch.tensor([[0, 3]])),
    ],
)
def test_the_empirical_fisher_information_of_a_datum(loss: str, targets: Tensor) -> None:
    model = dense(loss)
    spectra = fisher_log_eigenvalues(model, DATUM, targets, loss=loss)
    expected = empirical_fisher(ORACLES[loss], model, DATUM, [targets])
    assert_same_spectra(spectra, layer_eigenvalues(model, expected))


def curvlinops_eigenvalues(
    model: nn.Module, targets: Tensor, function: nn.Module, fisher: str
) -> dict[str, np.ndarray]:
    with warnings.catch_warnings():
        # Its dependencies use torch.jit, which torch has deprecated.
        warnings.simplefilter("ignore", FutureWarning)
        from curvlinops import KFACLinearOperator

        operator = KFACLinearOperator(
            model,
            function,
            list(model.parameters()),
            [(IMAGES, targets)],
            fisher_type=fisher,
            kfac_approx="expand",
            separate_weight_and_bias=False,
            check_deterministic=False,
        )
        operator.compute_kronecker_factors()
    gradients = operator._gradient_covariances
    return {
        name: kronecker_eigenvalues(activations.numpy(), gradients[name].numpy())
        for name, activations in operator._input_covariances.items()
    }


LABELS = torch.arange(8) % 3
ONE_HOT = F.one_hot(LABELS, 3).double()
PEER = {
    "cross_entropy": (nn.CrossEntropyLoss(), LABELS, 1),
    # The peer's averages over three components, for sums over them here.
    "binary_cross_entropy": (nn.BCEWithLogitsLoss(), ONE_HOT, 3),
    "mse": (nn.MSELoss(), ONE_HOT, 3),
}


@pytest.mark.parametrize(("fisher", "peers"), [("exact", "type-2"), ("empirical", "empirical")])
@pytest.mark.parametrize("loss", PEER)
def test_eigenvalues_agree_with_curvlinops(loss: str, fisher: str, peers: str) -> None:
    model = convolutional()
    function, targets, scale = PEER[loss]
    given = targets if fisher == "empirical" else None
    spectra = fisher_log_eigenvalues(model, IMAGES, given, loss=loss, fisher=fisher)
    expected = curvlinops_eigenvalues(model, targets, function, peers)
    assert_same_spectra(spectra, {name: scale * values for name, values in expected.items()})


@pytest.mark.parametrize("loss", PEER)
def test_sampling_agrees_with_curvlinops(loss: str) -> None:
    """Both kinds of draws have the same mean, here over many copies of the images."""
    model = convolutional()
    function, targets, scale = PEER[loss]
    spectra = fisher_log_eigenvalues(model, IMAGES.repeat(300, 1, 1, 1), loss=loss)
    expected = curvlinops_eigenvalues(model, targets, function, "type-2")
    for name, values in expected.items():
        largest = spectra[name][-1].exp().item()
        assert largest == pytest.approx(scale * values[-1], rel=0.1), name


def sampled_by_loop(model: nn.Module, inputs: Tensor, seed: int) -> Tensor:
    """Labels (M, d1, ...): one number a place, in order."""
    probabilities = model(inputs).detach().movedim(1, -1).softmax(-1)
    numbers = torch.rand(
        probabilities.shape[:-1],
        generator=torch.Generator().manual_seed(seed),
        dtype=torch.float64,
    )
    labels = torch.zeros_like(numbers).long()
    for place in np.ndindex(*numbers.shape):
        cumulated = probabilities[place].cumsum(0)[:-1]
        labels[place] = int((cumulated <= numbers[place]).sum())
    return labels


def test_dense_predictions_have_a_label_at_each_position() -> None:
    model = convolutional()[:3]
    sampled = fisher_log_eigenvalues(model, IMAGES, seed=4)
    labels = sampled_by_loop(model, IMAGES, seed=4)
    given = fisher_log_eigenvalues(model, IMAGES, labels)
    assert labels.shape == (8, 2, 2)
    torch.testing.assert_close(sampled, given)
    other = fisher_log_eigenvalues(model, IMAGES, (labels + 1) % 4)
    assert not torch.allclose(sampled["0"], other["0"])


def test_mixed_targets_count_as_mixed_losses() -> None:
    """Mixup's two losses weighted by its mixing number."""
    model, others = convolutional(), LABELS.roll(1)
    mixed = 0.3 * ONE_HOT + 0.7 * ONE_HOT.roll(1, 0)

    def mixup(outputs: Tensor, labels: Tensor) -> Tensor:
        first, second = (F.cross_entropy(outputs, y, reduction="none") for y in (labels, others))
        return 0.3 * first + 0.7 * second

    expected = fisher_log_eigenvalues(model, IMAGES, LABELS, loss=mixup)
    torch.testing.assert_close(fisher_log_eigenvalues(model, IMAGES, mixed), expected)


def laplace_loss(outputs: Tensor, targets: Tensor) -> Tensor:
    return (outputs - targets).abs()


def laplace_sample(outputs: Tensor) -> Tensor:
    return torch.distributions.Laplace(outputs, 1.0).sample()


def test_a_likelihood_of_ones_own_is_sampled_from_the_seed() -> None:
    """A Laplace distribution of scale 1 has the Fisher information 1, half of that of "mse"."""
    model, own = dense("mse"), Likelihood(laplace_loss, laplace_sample)
    inputs = DATUM.expand(20_000, 3)
    first, again, other = (
        fisher_log_eigenvalues(model, inputs, loss=own, seed=seed) for seed in (0, 0, 1)
    )
    torch.testing.assert_close(first, again, rtol=0, atol=0)
    assert not torch.equal(first["0"], other["0"])
    expected = layer_eigenvalues(model, weight_fisher(ORACLES["mse"], model, DATUM))
    halves = {name: values / 2 for name, values in expected.items()}
    assert_same_spectra(first, halves, rtol=0, floor=MONTE_CARLO)


def negative_variance(outputs: Tensor) -> tuple[Tensor, Tensor]:
    return outputs, -outputs.square()


REFUSED: dict[str, tuple[Callable[[], nn.Module], dict[str, Any], type[Exception], str]] = {
    "unused targets": (
        convolutional, {"fisher": "exact", "targets": LABELS}, ValueError, "does not use targets"),
    "no targets": (convolutional, {"fisher": "empirical"}, ValueError, "needs targets, got None"),
    "no such kind": (convolutional, {"fisher": "type-2"}, ValueError, "got 'type-2'"),
    "dense, exact": (
        lambda: convolutional()[:3], {"fisher": "exact"}, UnsupportedModelError,
        "positions share the network"),
    "variance": (
        lambda: convolutional().append(Apply(negative_variance)), {"loss": "gaussian"},
        InvalidSpectrumError, "variances .* not positive"),
}  # fmt: skip


@pytest.mark.parametrize(("build", "options", "kind", "message"), REFUSED.values(), ids=REFUSED)
def test_what_does_not_fit_is_refused(
    build: Callable[[], nn.Module], options: dict[str, Any], kind: type[Exception], message: str
) -> None:
    with pytest.raises(kind, match=message):
        fisher_log_eigenvalues(build(), IMAGES, **options)
