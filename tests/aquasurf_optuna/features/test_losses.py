"""The likelihoods against dense Fisher matrices, curvlinops, and what they must refuse."""

from __future__ import annotations

import math
import warnings
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from aquasurf_optuna.exceptions import InvalidSpectrumError
from aquasurf_optuna.features.losses import Likelihood, loss_terms, n_terms
from tests.aquasurf_optuna.features.networks import Apply, batch, seeded
from tests.oracles.likelihood_oracles import (
    ORACLES,
    empirical_fisher,
    flat_outputs,
    jacobian,
    weight_fisher,
    weight_gradient,
)

DRAWS = 40_000
MONTE_CARLO = 0.04  # of the largest entry: a few standard errors of so many draws
INPUTS = batch(3, 3, dtype=torch.float64)

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


def mean_and_variance(outputs: Tensor) -> tuple[Tensor, Tensor]:
    mean, variance = outputs.chunk(2, 1)
    return mean, F.softplus(variance)


def network(loss: str, *, scale: float = 1.0) -> nn.Module:
    """Three inputs; three classes, or two components, of which a Gaussian one has two outputs."""
    outputs = {"cross_entropy": 3, "gaussian": 4}.get(loss, 2)
    model = seeded(lambda: nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, outputs)))
    model = model.double()
    with torch.no_grad():
        model[2].weight.mul_(scale)
    if loss == "gaussian":
        model.append(Apply(mean_and_variance))
    return model


def terms(outputs: Any, loss: Any, fisher: str, targets: Any = None, seed: int = 0) -> list[Tensor]:
    samples = len(next(iter(outputs)) if isinstance(outputs, tuple) else outputs)
    options = {"targets": targets, "loss": loss, "fisher": fisher}
    return list(loss_terms(outputs, **options, samples=samples, seed=seed))


def fisher_of_terms(
    model: nn.Module, loss: str, fisher: str, targets: list[Tensor] | None = None
) -> Tensor:
    """The mean over the samples of the sum over the terms, by plain autograd."""
    total = torch.zeros((), dtype=torch.float64)
    for m, sample in enumerate(INPUTS.split(1)):
        target = None if targets is None else targets[m]
        for term in terms(model(sample), loss, fisher, target):
            gradient = weight_gradient(model, term)
            total = total + torch.outer(gradient, gradient)
    return total / len(INPUTS)


def sampled_fisher(model: nn.Module, sample: Tensor, loss: Any) -> Tensor:
    """The Fisher information of one sample from many draws of its targets."""
    leaf = flat_outputs(model(sample)).detach().repeat(DRAWS, 1).requires_grad_()
    outputs = tuple(leaf.chunk(2, 1)) if loss == "gaussian" else leaf
    (term,) = terms(outputs, loss, "sampled")
    (scores,) = torch.autograd.grad(term, leaf)
    slope = jacobian(model, sample)
    return slope.T @ (scores.T @ scores / DRAWS) @ slope


def assert_near(actual: Tensor, expected: Tensor, tolerance: float) -> None:
    torch.testing.assert_close(
        actual, expected, rtol=0, atol=tolerance * expected.abs().max().item()
    )


@pytest.mark.parametrize("loss", ORACLES)
def test_exact_terms_sum_to_the_fisher_information(loss: str) -> None:
    model = network(loss)
    expected = weight_fisher(ORACLES[loss], model, INPUTS)
    assert_near(fisher_of_terms(model, loss, "exact"), expected, 1e-10)


@pytest.mark.parametrize("loss", ORACLES)
def test_sampled_terms_have_the_fisher_information_for_mean(loss: str) -> None:
    model, sample = network(loss), INPUTS[:1]
    expected = weight_fisher(ORACLES[loss], model, sample)
    assert_near(sampled_fisher(model, sample, loss), expected, MONTE_CARLO)


@pytest.mark.parametrize("loss", ORACLES)
def test_the_fisher_oracle_fails_on_another_prediction(loss: str) -> None:
    # A squared error has the same Fisher information whatever it predicts; its Jacobian differs.
    expected = weight_fisher(ORACLES[loss], network(loss, scale=1.5), INPUTS[:1])
    with pytest.raises(AssertionError, match="not close"):
        assert_near(fisher_of_terms(network(loss), loss, "exact"), expected, 1e-3)
    with pytest.raises(AssertionError, match="not close"):
        assert_near(sampled_fisher(network(loss), INPUTS[:1], loss), expected, MONTE_CARLO)


def test_the_fisher_oracle_fails_on_another_variance() -> None:
    expected = weight_fisher(ORACLES["mse"], network("mse"), INPUTS)
    half_as_much = fisher_of_terms(network("mse"), "mse", "exact") / 2
    with pytest.raises(AssertionError, match="not close"):
        assert_near(half_as_much, expected, MONTE_CARLO)


GIVEN = {
    "cross_entropy": [torch.tensor([label]) for label in (2, 0, 2)],
    "binary_cross_entropy": [torch.tensor([pair]) for pair in ([0, 1], [1, 1], [0, 0])],
    "mse": list(batch(3, 2, seed=2, dtype=torch.float64).split(1)),
    "gaussian": list(batch(3, 2, seed=3, dtype=torch.float64).split(1)),
    "poisson": [torch.tensor([pair]) for pair in ([0, 4], [1, 2], [3, 0])],
}


@pytest.mark.parametrize("loss", ORACLES)
def test_given_targets_make_the_empirical_one(loss: str) -> None:
    model, targets = network(loss), GIVEN[loss]
    actual = fisher_of_terms(model, loss, "empirical", targets)
    expected = empirical_fisher(ORACLES[loss], model, INPUTS, targets)
    assert_near(actual, expected, 1e-10)
    others = empirical_fisher(ORACLES[loss], model, INPUTS, targets[::-1])
    with pytest.raises(AssertionError, match="not close"):
        others = others if loss != "cross_entropy" else expected * 1.01  # 2, 0, 2 is a palindrome
        assert_near(actual, others, 1e-3)


@pytest.mark.parametrize("loss", ORACLES)
def test_the_batch_gives_each_sample_its_own_gradient(loss: str) -> None:
    model = network(loss)
    whole = [weight_gradient(model, term) for term in terms(model(INPUTS), loss, "exact")]
    alone = [terms(model(sample), loss, "exact") for sample in INPUTS.split(1)]
    assert len(whole) == n_terms(model(INPUTS), loss, "exact") == len(alone[0])
    for number, gradient in enumerate(whole):
        parts = sum(weight_gradient(model, sample[number]) for sample in alone)
        torch.testing.assert_close(gradient, parts)


@pytest.mark.parametrize(
    ("loss", "function"),
    [
        ("cross_entropy", nn.CrossEntropyLoss),
        ("binary_cross_entropy", nn.BCEWithLogitsLoss),
        ("mse", nn.MSELoss),
    ],
)
def test_exact_terms_agree_with_curvlinops(loss: str, function: type[nn.Module]) -> None:
    with warnings.catch_warnings():
        # Its dependencies use torch.jit, which torch has deprecated.
        warnings.simplefilter("ignore", FutureWarning)
        from curvlinops.kfac_utils import loss_hessian_matrix_sqrt

    outputs = batch(1, 4, dtype=torch.float64).requires_grad_()
    root = loss_hessian_matrix_sqrt(outputs.detach(), torch.zeros(1, 4), function(reduction="sum"))
    gradients = [
        torch.autograd.grad(term, outputs, retain_graph=True)[0][0]
        for term in terms(outputs, loss, "exact")
    ]
    torch.testing.assert_close(sum(torch.outer(g, g) for g in gradients), root @ root.T)


def drawn_labels(logits: Tensor, seed: int = 0) -> list[int]:
    """Read the labels from the gradients, softmax minus one-hot."""
    leaf = logits.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(terms(leaf, "cross_entropy", "sampled", seed=seed)[0], leaf)
    return (leaf.softmax(1) - gradient).argmax(1).flatten().tolist()


def labels_by_loop(logits: Tensor, seed: int) -> list[int]:
    """One place (C,) after another; the numbers run over samples, then positions."""
    rows = logits.double().movedim(1, -1).flatten(0, -2).softmax(-1)
    uniform = torch.rand(
        len(rows), generator=torch.Generator().manual_seed(seed), dtype=torch.float64
    )
    return [
        sum(row[: c + 1].sum().item() <= u for c in range(len(row) - 1))
        for row, u in zip(rows, uniform.tolist(), strict=True)
    ]


@pytest.mark.parametrize("shape", [(50, 5), (6, 3, 2), (2, 3, 4, 2)], ids=str)
def test_labels_invert_the_distribution_function(shape: tuple[int, ...]) -> None:
    logits = batch(*shape) * 2
    for seed in (0, 7):
        assert drawn_labels(logits, seed) == labels_by_loop(logits, seed)
    assert drawn_labels(logits, 0) != drawn_labels(logits, 7)


def test_the_labels_of_a_seed_stay_those_of_earlier_features() -> None:
    logits = torch.arange(30.0).reshape(10, 3).sin()
    assert drawn_labels(logits) == [2, 1, 1, 2, 2, 1, 1, 0, 2, 0]


@pytest.mark.parametrize("loss", ORACLES)
def test_only_the_seed_decides_the_draw(loss: str) -> None:
    model = network(loss)
    state = torch.get_rng_state()
    first, again, other = (
        weight_gradient(model, terms(model(INPUTS), loss, "sampled", seed=seed)[0])
        for seed in (1, 1, 2)
    )
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(first, again)
    assert not torch.allclose(first, other)


@pytest.mark.parametrize("loss", ORACLES)
def test_like_predictions_get_like_targets(loss: str) -> None:
    """Also in float32, which predicts almost alike."""
    single, double = network(loss).float(), network(loss)
    gradients = [
        weight_gradient(model, terms(model(inputs), loss, "sampled")[0])
        for model, inputs in ((single, INPUTS.float()), (double, INPUTS))
    ]
    torch.testing.assert_close(gradients[0].double(), gradients[1], rtol=1e-4, atol=1e-4)


@needs_gpu
@pytest.mark.parametrize("loss", ORACLES)
def test_the_draw_is_the_same_on_a_gpu(loss: str) -> None:
    model = network(loss)
    cpu = weight_gradient(model, terms(model(INPUTS), loss, "sampled")[0])
    model = model.cuda()
    gpu = weight_gradient(model, terms(model(INPUTS.cuda()), loss, "sampled")[0])
    torch.testing.assert_close(gpu.cpu(), cpu)


@pytest.mark.parametrize("fisher", ["sampled", "exact"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("loss", ORACLES)
def test_half_precision_is_computed_in_single(loss: str, dtype: torch.dtype, fisher: str) -> None:
    outputs = torch.rand(3, 4).to(dtype).requires_grad_()
    whole = tuple(outputs.chunk(2, 1)) if loss == "gaussian" else outputs
    single = outputs.detach().float().requires_grad_()
    wide = tuple(single.chunk(2, 1)) if loss == "gaussian" else single
    for half, full in zip(terms(whole, loss, fisher), terms(wide, loss, fisher), strict=True):
        assert half.dtype == torch.float32
        (actual,) = torch.autograd.grad(half, outputs, retain_graph=True)
        (expected,) = torch.autograd.grad(full, single, retain_graph=True)
        torch.testing.assert_close(actual, expected.to(dtype))


@pytest.mark.parametrize("loss", ["mse", "gaussian"])
def test_noise_below_the_rounding_of_a_prediction_is_kept(loss: str) -> None:
    def scores(level: float) -> Tensor:
        mean = torch.full((100, 1), level, requires_grad=True)
        outputs = (mean, torch.ones(100, 1)) if loss == "gaussian" else mean
        return torch.autograd.grad(terms(outputs, loss, "sampled")[0], mean)[0]

    assert scores(0.0).std() > 0.5
    torch.testing.assert_close(scores(1e12), scores(0.0))


def poisson_scores(log_rate: float, draws: int = 1) -> Tensor:
    logs = torch.full((draws,), log_rate, dtype=torch.float64, requires_grad=True)
    return torch.autograd.grad(terms(logs, "poisson", "sampled")[0], logs)[0]


def test_large_rates_continue_the_draws_of_small_ones() -> None:
    limit = math.log(1e6)
    below, above = poisson_scores(limit - 1e-9, 1000), poisson_scores(limit + 1e-9, 1000)
    assert not torch.equal(above.round(), above)  # beyond the limit, no whole counts
    assert (below - above).abs().max() < 1.1  # whole counts are rounded up
    assert above.std().item() == pytest.approx(1e3, rel=0.1)


@pytest.mark.parametrize("log_rate", [-700.0, -30.0, 0.0, 30.0, 300.0])
def test_no_rate_overflows(log_rate: float) -> None:
    scores = poisson_scores(log_rate, 1000)
    assert scores.isfinite().all()
    if log_rate >= 0:
        assert scores.std().item() == pytest.approx(math.exp(log_rate / 2), rel=0.1)


def test_a_variance_that_is_not_predicted_has_no_terms() -> None:
    mean = batch(3, 2).requires_grad_()
    outputs = (mean, torch.ones(3, 2))
    assert len(terms(outputs, "gaussian", "exact")) == n_terms(outputs, "gaussian", "exact") == 2


def test_soft_targets_count_as_their_mean_loss() -> None:
    logits = batch(4, 3, dtype=torch.float64).requires_grad_()
    soft = torch.rand(4, 3, generator=torch.Generator().manual_seed(0)).softmax(1)
    (gradient,) = torch.autograd.grad(terms(logits, "cross_entropy", "empirical", soft)[0], logits)
    torch.testing.assert_close(gradient, logits.detach().softmax(1) - soft.double())


def squares(outputs: Tensor, targets: Tensor) -> Tensor:
    return (outputs - targets).square()


def drawn_around(outputs: Tensor) -> Tensor:
    return outputs + math.sqrt(0.5) * torch.randn_like(outputs)


def test_a_likelihood_of_ones_own_is_sampled() -> None:
    model, sample = network("mse"), INPUTS[:1]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        actual = sampled_fisher(model, sample, Likelihood(squares, drawn_around))
    assert_near(actual, weight_fisher(ORACLES["mse"], model, sample), MONTE_CARLO)


def test_a_loss_of_ones_own_takes_any_outputs() -> None:
    hidden = batch(3, 2).requires_grad_()
    outputs = {"mean": hidden, "more": [hidden, "text"]}
    own = Likelihood(lambda out, y: squares(out["mean"], y), lambda out: out["mean"] + 1)
    options: dict[str, Any] = {"samples": 3, "seed": 0}
    (drawn,) = loss_terms(outputs, targets=None, loss=own, fisher="sampled", **options)
    torch.testing.assert_close(drawn, torch.tensor(6.0))
    (given,) = loss_terms(
        outputs, targets=hidden.detach() + 2, loss=own, fisher="empirical", **options
    )
    torch.testing.assert_close(given, torch.tensor(24.0))
    assert n_terms(outputs, own, "sampled") == 1
    outputs["more"] = [hidden / 0]
    with pytest.raises(InvalidSpectrumError, match="outputs are not finite"):
        loss_terms(outputs, targets=None, loss=own, fisher="sampled", **options)
