"""Where "expand" and "reduce" are exact, and curvlinops' opinion of both.

Eschenhagen et al. (2023): in a deep linear network with a Gaussian likelihood, "expand" is exact
where the loss adds up over the locations, and "reduce" where the network averages over them first.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from aquasurf_optuna.exceptions import UnsupportedModelError
from aquasurf_optuna.features.fisher import fisher_log_eigenvalues
from tests.aquasurf_optuna.features.networks import Apply, batch, seeded
from tests.oracles.kfac_oracles import (
    Array,
    assert_same_spectrum,
    kronecker_eigenvalues,
    layer_fisher,
)

Sharing = Literal["expand", "reduce"]
TOKENS = batch(6, 5, 3, dtype=torch.float64)


def deep_linear(*after: nn.Module) -> nn.Sequential:
    """Every token passes three linear maps."""
    layers = [nn.Linear(3, 4), nn.Linear(4, 3, bias=False), nn.Linear(3, 2)]
    return seeded(lambda: nn.Sequential(*[type(m)(m.in_features, m.out_features,
        bias=m.bias is not None) for m in layers], *after)).double()  # fmt: skip


def all_outputs(outputs: Tensor, _: int) -> list[tuple[float, Tensor]]:
    """The squared error's Fisher information is twice the sum over outputs of J^T J."""
    return [(2.0, value) for value in outputs.flatten()]


NETWORKS: dict[Sharing, Callable[[], nn.Sequential]] = {
    "expand": deep_linear,
    "reduce": lambda: deep_linear(Apply(lambda x: x.mean(1))),
}


@pytest.mark.parametrize("layer", ["0", "1", "2"])
@pytest.mark.parametrize("sharing", NETWORKS)
def test_each_is_exact_in_its_own_regime_only(sharing: Sharing, layer: str) -> None:
    model = NETWORKS[sharing]()
    fisher = layer_fisher(model, model.get_submodule(layer), TOKENS, all_outputs)
    expected = np.linalg.eigvalsh(fisher)
    other: Sharing = "reduce" if sharing == "expand" else "expand"
    right, wrong = (
        fisher_log_eigenvalues(model, TOKENS, loss="mse", fisher="exact", sharing=s)[layer]
        for s in (sharing, other)
    )
    assert_same_spectrum(right, expected)
    with pytest.raises(AssertionError, match="Not equal to tolerance"):
        assert_same_spectrum(wrong, expected)


def test_convolutions_that_are_averaged_are_exact_by_reduce() -> None:
    model = seeded(
        lambda: nn.Sequential(nn.Conv2d(2, 3, 2, padding=1), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    ).double()
    images = batch(4, 2, 3, 4, dtype=torch.float64)
    options: dict[str, Any] = {"loss": "mse", "fisher": "exact"}
    expected = np.linalg.eigvalsh(layer_fisher(model, model[0], images, all_outputs))
    reduced = fisher_log_eigenvalues(model, images, sharing="reduce", **options)["0"]
    assert_same_spectrum(reduced, expected)
    with pytest.raises(AssertionError, match="Not equal to tolerance"):
        expanded = fisher_log_eigenvalues(model, images, sharing="expand", **options)["0"]
        assert_same_spectrum(expanded, expected)


def test_without_shared_weights_both_are_the_same() -> None:
    model = seeded(lambda: nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3))).double()
    inputs = batch(6, 4, dtype=torch.float64)
    spectra = [fisher_log_eigenvalues(model, inputs, sharing=s) for s in ("expand", "reduce")]
    torch.testing.assert_close(dict(spectra[0]), dict(spectra[1]))


def curvlinops_eigenvalues(
    model: nn.Module, inputs: Tensor, targets: Tensor, sharing: Sharing
) -> dict[str, Array]:
    with warnings.catch_warnings():
        # Its dependencies use torch.jit, which torch has deprecated.
        warnings.simplefilter("ignore", FutureWarning)
        from curvlinops import KFACLinearOperator

        operator = KFACLinearOperator(
            model,
            nn.CrossEntropyLoss(reduction="mean"),
            list(model.parameters()),
            [(inputs, targets)],
            fisher_type="empirical",
            kfac_approx=sharing,
            separate_weight_and_bias=False,
            check_deterministic=False,
        )
        operator.compute_kronecker_factors()
    omegas, gammas = operator._input_covariances, operator._gradient_covariances
    return {n: kronecker_eigenvalues(omegas[n].numpy(), gammas[n].numpy()) for n in omegas}


def convolutional() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(2, 3, 3, padding=1), nn.Tanh(), nn.Conv2d(3, 4, 2, stride=2, bias=False),
        nn.Softplus(), nn.Flatten(), nn.Linear(36, 3),
    )  # fmt: skip


def of_tokens() -> nn.Module:
    return nn.Sequential(
        nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 5, bias=False), nn.Softplus(),
        Apply(lambda x: x.mean(1)), nn.Linear(5, 3),
    )  # fmt: skip


@pytest.mark.parametrize("sharing", ["expand", "reduce"])
@pytest.mark.parametrize(
    ("build", "inputs"),
    [(convolutional, batch(6, 2, 6, 6, dtype=torch.float64)), (of_tokens, TOKENS)],
)
def test_curvlinops_agrees(
    build: Callable[[], nn.Module], inputs: Tensor, sharing: Sharing
) -> None:
    model, targets = seeded(build).double(), torch.arange(6) % 3
    spectra = fisher_log_eigenvalues(model, inputs, targets, sharing=sharing)
    expected = curvlinops_eigenvalues(model, inputs, targets, sharing)
    assert expected.keys() == spectra.keys()
    for name, eigenvalues in expected.items():
        assert_same_spectrum(spectra[name], eigenvalues)


def test_curvlinops_disagrees_with_the_other_kind() -> None:
    model, targets = seeded(of_tokens).double(), torch.arange(6) % 3
    spectra = fisher_log_eigenvalues(model, TOKENS, targets, sharing="reduce")
    expected = curvlinops_eigenvalues(model, TOKENS, targets, "expand")
    with pytest.raises(AssertionError, match="Not equal to tolerance"):
        assert_same_spectrum(spectra["0"], expected["0"])


class Attending(nn.Module):
    """The samples come first, the attention may want them second."""

    def __init__(self, *, batch_first: bool) -> None:
        super().__init__()
        self.attn = nn.MultiheadAttention(4, 2, batch_first=batch_first)

    def forward(self, query: Tensor, key: Tensor) -> Tensor:
        if not self.attn.batch_first:
            query, key = query.transpose(0, 1), key.transpose(0, 1)
        outputs = self.attn(query, key, key)[0]
        return outputs if self.attn.batch_first else outputs.transpose(0, 1)


class Averaged(nn.Module):
    def __init__(self, *, batch_first: bool) -> None:
        super().__init__()
        self.body = Attending(batch_first=batch_first)

    def forward(self, query: Tensor, key: Tensor) -> Tensor:
        return self.body(query, key).square().mean(1)


@pytest.mark.parametrize("sharing", ["expand", "reduce"])
def test_attention_knows_where_the_samples_are(sharing: Sharing) -> None:
    inputs = batch(6, 5, 4, dtype=torch.float64), batch(6, 3, 4, seed=2, dtype=torch.float64)
    first, second = (
        fisher_log_eigenvalues(
            seeded(lambda b=b: Averaged(batch_first=b)).double(), inputs, sharing=sharing
        )
        for b in (True, False)
    )
    torch.testing.assert_close(dict(first), dict(second))


def test_the_reduced_factors_of_attention_are_those_of_sums() -> None:
    model = seeded(lambda: Averaged(batch_first=False)).double()
    inputs = batch(6, 5, 4, dtype=torch.float64), batch(6, 3, 4, seed=2, dtype=torch.float64)
    targets = torch.arange(6) % 4
    seen: list[Tensor] = []
    model.body.attn.register_forward_hook(lambda _, __, outputs: seen.append(outputs[0]))
    loss = nn.functional.cross_entropy(model(*inputs), targets, reduction="sum")
    (gradient,) = torch.autograd.grad(loss, seen[0])
    out = model.body.attn.out_proj
    entered = (seen[0] - out.bias) @ torch.linalg.inv(out.weight).T
    means = torch.cat([torch.ones(6, 1, dtype=torch.float64), entered.mean(0)], 1).detach()
    sums = gradient.sum(0)  # the tokens come first
    expected = kronecker_eigenvalues((means.T @ means / 6).numpy(), (sums.T @ sums / 6).numpy())
    spectra = fisher_log_eigenvalues(model, inputs, targets, sharing="reduce")
    assert_same_spectrum(spectra["body.attn.out_proj"], expected)


def test_repeated_uses_are_averaged_too() -> None:
    """Two uses of one layer are two locations: as tokens of one use are."""

    class Twice(nn.Module):
        def __init__(self, *, at_once: bool) -> None:
            super().__init__()
            self.at_once, self.layer = at_once, nn.Linear(3, 4)

        def forward(self, x: Tensor) -> Tensor:
            if self.at_once:
                return self.layer(x).tanh().sum(1)
            return self.layer(x[:, 0]).tanh() + self.layer(x[:, 1]).tanh()

    spectra = [
        fisher_log_eigenvalues(
            seeded(lambda o=o: Twice(at_once=o)).double(), TOKENS[:, :2], sharing="reduce"
        )
        for o in (True, False)
    ]
    torch.testing.assert_close(dict(spectra[0]), dict(spectra[1]))


def folded(x: Tensor) -> Tensor:
    return x.flatten(0, 1)


def test_samples_folded_with_their_tokens_are_told_apart() -> None:
    plain = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), Apply(lambda x: x.mean(1)))
    model = nn.Sequential(
        Apply(folded), plain[0], nn.Tanh(), Apply(lambda x: x.unflatten(0, (6, 5)).mean(1))
    )
    plain, model = plain.double(), model.double()
    (spectrum,) = fisher_log_eigenvalues(model, TOKENS, sharing="reduce").values()
    (expected,) = fisher_log_eigenvalues(plain, TOKENS, sharing="reduce").values()
    torch.testing.assert_close(spectrum, expected)


@pytest.mark.parametrize(
    ("layer", "shape"),
    [(lambda: nn.Linear(3, 4), (6, 5, 3)), (lambda: nn.Conv1d(3, 4, 1), (6, 3, 5))],
)
def test_samples_that_cannot_be_told_apart_are_refused(
    layer: Callable[[], nn.Module], shape: tuple[int, ...]
) -> None:
    model = nn.Sequential(
        Apply(lambda x: x[:4]), layer(), Apply(lambda x: x.flatten(1).repeat(2, 1)[:6])
    )
    inputs = batch(*shape)
    with pytest.raises(UnsupportedModelError, match=r"saw \(4, .*\) for 6 samples.*use 'expand'"):
        fisher_log_eigenvalues(model, inputs, sharing="reduce")
    assert list(fisher_log_eigenvalues(model, inputs, sharing="expand")) == ["1"]


def test_float64_extremes_survive_reduce() -> None:
    model = seeded(lambda: nn.Sequential(nn.Linear(3, 4, bias=False), Apply(lambda x: x.mean(1))))
    model = model.double()
    expected = fisher_log_eigenvalues(model, TOKENS, loss="mse", fisher="exact", sharing="reduce")
    tiny = fisher_log_eigenvalues(
        model, TOKENS * 1e-120, loss="mse", fisher="exact", sharing="reduce"
    )
    torch.testing.assert_close(tiny["0"], expected["0"] - 240 * np.log(10))
