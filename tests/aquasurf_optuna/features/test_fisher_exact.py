"""The eigenvalues against loops over patches, dense Fisher matrices, and curvlinops."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from aquasurf_optuna.features import _kfac
from aquasurf_optuna.features._calls import Call
from aquasurf_optuna.features._sums import Settings, Sums, gradient_factor, gradient_part
from aquasurf_optuna.features.fisher import fisher_log_eigenvalues
from tests.aquasurf_optuna.features.networks import batch, seeded
from tests.oracles.kfac_oracles import (
    all_label_losses,
    assert_same_spectrum,
    conv_by_patches,
    conv_factors,
    kronecker_eigenvalues,
    layer_fisher,
    linear_factors,
)

CONVOLUTIONS = {
    "plain": {},
    "no bias": {"bias": False},
    "one pixel": {"kernel_size": 1},
    "not square": {"kernel_size": (3, 2), "stride": (2, 1), "padding": (0, 1), "dilation": (1, 2)},
    "even kernel": {"kernel_size": 2, "stride": 2},
    "same": {"padding": "same"},
    "same, even kernel": {"kernel_size": (4, 2), "padding": "same"},
    "same, dilated": {"padding": "same", "dilation": (2, 1)},
    "valid": {"padding": "valid", "stride": 2},
    "stride 2 on an even size": {"stride": 2, "padding": 1},
    "stride past the kernel": {"kernel_size": 1, "stride": 3},
    "reflect": {"padding": 2, "padding_mode": "reflect"},
    "reflect, same": {"kernel_size": (2, 4), "padding": "same", "padding_mode": "reflect"},
    "replicate": {"padding": (1, 2), "padding_mode": "replicate", "stride": 2},
    "circular": {"padding": 1, "padding_mode": "circular", "dilation": 2},
    "groups": {"groups": 2, "padding": 1},
    "groups, no bias": {"groups": 2, "bias": False, "stride": 2},
    "depthwise": {"groups": 4, "padding": 1},
    "depthwise, no bias": {"groups": 4, "bias": False, "padding_mode": "circular", "padding": 1},
    "depthwise, multiplied": {"groups": 4, "out_channels": 8, "kernel_size": 2},
}


def convolution(**options: object) -> nn.Conv2d:
    settings = {"in_channels": 4, "out_channels": 4, "kernel_size": 3, **options}
    return seeded(lambda: nn.Conv2d(**settings, dtype=torch.float64))


def with_recorded_gradient(layer: nn.Module, head: nn.Module, inputs: Tensor, targets: Tensor):
    """The layer's output gradients for the summed cross-entropy, by plain autograd."""
    outputs = layer(inputs)
    loss = F.cross_entropy(head(outputs), targets, reduction="sum")
    return torch.autograd.grad(loss, outputs)[0].numpy()


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths:UserWarning")
@pytest.mark.parametrize("options", CONVOLUTIONS.values(), ids=CONVOLUTIONS.keys())
def test_convolutions_match_the_loop_over_patches(options: dict[str, object]) -> None:
    conv = convolution(**options)
    inputs, targets = batch(3, 4, 6, 5, dtype=torch.float64), torch.tensor([0, 1, 1])
    head = nn.Flatten()
    model = nn.Sequential(conv, nn.Tanh(), head)
    gradients = with_recorded_gradient(conv, model[1:], inputs, targets)

    outputs = conv(inputs).detach().numpy()
    patches = conv_by_patches(conv, inputs.numpy(), *outputs.shape[2:])
    np.testing.assert_allclose(patches, outputs, atol=1e-12)
    omega, gamma = conv_factors(conv, inputs.numpy(), gradients)
    spectrum = fisher_log_eigenvalues(model, inputs, targets)["0"]

    assert len(spectrum) == sum(p.numel() for p in conv.parameters())
    assert_same_spectrum(spectrum, kronecker_eigenvalues(omega, gamma))


def test_the_patch_oracle_fails_on_a_wrong_padding() -> None:
    conv = convolution(padding=1, padding_mode="reflect")
    inputs, targets = batch(3, 4, 6, 5, dtype=torch.float64), torch.tensor([0, 1, 1])
    model = nn.Sequential(conv, nn.Flatten())
    gradients = with_recorded_gradient(conv, model[1:], inputs, targets)
    spectrum = fisher_log_eigenvalues(model, inputs, targets)["0"]
    conv.padding_mode = "replicate"
    wrong = kronecker_eigenvalues(*conv_factors(conv, inputs.numpy(), gradients))
    with pytest.raises(AssertionError, match="Not equal to tolerance"):
        assert_same_spectrum(spectrum, wrong)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("leading", [(), (5,), (2, 3)], ids=str)
def test_linear_layers_match_the_loop(leading: tuple[int, ...], bias: bool) -> None:
    linear = seeded(lambda: nn.Linear(4, 3, bias=bias, dtype=torch.float64))
    inputs = batch(6, *leading, 4, dtype=torch.float64)
    targets = torch.tensor([0, 1, 2, 0, 1, 2])
    model = nn.Sequential(linear, nn.Tanh(), nn.Flatten())
    gradients = with_recorded_gradient(linear, model[1:], inputs, targets)
    expected = kronecker_eigenvalues(*linear_factors(linear, inputs.numpy(), gradients))
    spectrum = fisher_log_eigenvalues(model, inputs, targets)["0"]
    assert len(spectrum) == 12 + 3 * bias
    assert_same_spectrum(spectrum, expected)


def test_positions_folded_into_the_batch_are_still_positions() -> None:
    class Tokens(nn.Module):
        def __init__(self, *, fold: bool) -> None:
            super().__init__()
            self.fold, self.embed, self.head = fold, nn.Linear(4, 5), nn.Linear(5, 3)

        def forward(self, x: Tensor) -> Tensor:
            hidden = self.embed(x.reshape(-1, 4) if self.fold else x)
            return self.head(hidden.tanh().reshape(len(x), -1, 5).mean(1))

    inputs = batch(6, 7, 4)
    folded, kept = (
        fisher_log_eigenvalues(seeded(lambda fold=fold: Tokens(fold=fold)), inputs)
        for fold in (True, False)
    )
    torch.testing.assert_close(folded["embed"], kept["embed"])


def test_a_single_datum_is_exact() -> None:
    """With one sample and one label the Kronecker product holds without approximation."""
    model = seeded(lambda: nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 3)).double())
    inputs, targets = batch(1, 3, dtype=torch.float64), torch.tensor([2])
    spectra = fisher_log_eigenvalues(model, inputs, targets)
    for name in ("0", "2"):
        fisher = layer_fisher(
            model,
            model.get_submodule(name),
            inputs,
            lambda outputs, m: [(1.0, F.cross_entropy(outputs, targets[m : m + 1]))],
        )
        assert_same_spectrum(spectra[name], np.linalg.eigvalsh(fisher))


def test_sampled_labels_give_the_fisher_information_of_a_datum() -> None:
    """One datum, many draws: exact but for the labels, so this checks how they are sampled."""
    model = seeded(lambda: nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 3)).double())
    with torch.no_grad():
        model[2].weight.mul_(4)  # predictions far from even
    datum = batch(1, 3, dtype=torch.float64)
    spectra = fisher_log_eigenvalues(model, datum.expand(40_000, 3), max_uses=None)
    for name in ("0", "2"):
        fisher = layer_fisher(model, model.get_submodule(name), datum, all_label_losses)
        monte_carlo_tolerance = 0.03  # a few standard errors of 40,000 draws
        assert_same_spectrum(
            spectra[name], np.linalg.eigvalsh(fisher), rtol=monte_carlo_tolerance, floor=1e-6
        )


def deep_linear_case() -> tuple[nn.Sequential, Tensor, Tensor, Tensor]:
    """Every input with every residual of unit covariance: inputs and residuals are independent.

    For squared loss these residuals are the labels' noise, so the empirical Fisher information is
    the exact one; in a linear network it factorises.
    """
    model = seeded(
        lambda: nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 3, bias=False), nn.Linear(3, 2))
    ).double()
    distinct = batch(5, 3, dtype=torch.float64)
    noise = torch.eye(2, dtype=torch.float64).mul(2**0.5)
    noise = torch.cat([noise, -noise])
    inputs = distinct.repeat_interleave(len(noise), 0)
    targets = model(inputs).detach() + noise.repeat(len(distinct), 1)
    return model, distinct, inputs, targets


def half_squares(outputs: Tensor, targets: Tensor) -> Tensor:
    return 0.5 * (outputs - targets).square().sum(1)


def gauss_newton_losses(outputs: Tensor, _: int) -> list[tuple[float, Tensor]]:
    """Linear losses whose outer products add up to J^T J, the Fisher information of a Gaussian."""
    return [(1.0, value) for value in outputs[0]]


@pytest.mark.parametrize("name", ["0", "1", "2"])
def test_deep_linear_networks_are_exact(name: str) -> None:
    model, distinct, inputs, targets = deep_linear_case()
    spectrum = fisher_log_eigenvalues(model, inputs, targets, loss=half_squares)[name]
    fisher = layer_fisher(model, model.get_submodule(name), distinct, gauss_newton_losses)
    assert_same_spectrum(spectrum, np.linalg.eigvalsh(fisher))


def test_the_dense_oracle_fails_where_the_factors_are_not_exact() -> None:
    model, distinct, inputs, targets = deep_linear_case()
    model.insert(1, nn.Tanh())
    targets = targets - model[2:](model[0](inputs)).detach() + model(inputs).detach()
    spectrum = fisher_log_eigenvalues(model, inputs, targets, loss=half_squares)["0"]
    fisher = layer_fisher(model, model[0], distinct, gauss_newton_losses)
    with pytest.raises(AssertionError, match="Not equal to tolerance"):
        assert_same_spectrum(spectrum, np.linalg.eigvalsh(fisher))


def curvlinops_factors(
    model: nn.Module, inputs: Tensor, targets: Tensor
) -> dict[str, tuple[Tensor, Tensor]]:
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
            kfac_approx="expand",
            separate_weight_and_bias=False,
            check_deterministic=False,
        )
        operator.compute_kronecker_factors()
    names = operator._input_covariances
    return {name: (names[name], operator._gradient_covariances[name]) for name in names}


def test_factors_agree_with_curvlinops() -> None:
    """Equal up to how constants are split between the two factors, hence equal products."""
    model = seeded(
        lambda: nn.Sequential(
            nn.Conv2d(2, 3, 3, padding=1, dtype=torch.float64),
            nn.Tanh(),
            nn.Conv2d(3, 4, 3, stride=2, bias=False, dtype=torch.float64),
            nn.Softplus(),
            nn.Flatten(),
            nn.Linear(16, 3, dtype=torch.float64),
        )
    )
    inputs, targets = batch(8, 2, 6, 6, dtype=torch.float64), torch.arange(8) % 3
    spectra = fisher_log_eigenvalues(model, inputs, targets)
    factors = curvlinops_factors(model, inputs, targets)
    assert factors.keys() == spectra.keys()
    for name, (omega, gamma) in factors.items():
        expected = kronecker_eigenvalues(omega.numpy(), gamma.numpy())
        assert_same_spectrum(spectra[name], expected)


def test_eigenvalues_below_rounding_are_set_to_the_floor() -> None:
    matrix = torch.diag(torch.tensor([1.0, 1e-3, -1e-18, 0.0], dtype=torch.float64))
    values = _kfac.log_eigenvalues(_kfac.Factor(matrix, 2.0, 4), precision=1e-10)
    expected = torch.tensor([4e-10, 4e-10, 1e-3, 1.0], dtype=torch.float64).log() + 2.0
    torch.testing.assert_close(values, expected)


def test_the_precision_follows_the_layer() -> None:
    single = _kfac.relative_precision(torch.float32)
    assert single == pytest.approx(torch.finfo(torch.float32).eps ** 2)
    assert _kfac.relative_precision(torch.bfloat16) == single
    assert _kfac.relative_precision(torch.float64) == torch.finfo(torch.float64).eps


def test_missing_eigenvalues_are_at_the_floor_too() -> None:
    few_rows = _kfac.Rows(batch(2, 5, dtype=torch.float64), 2)
    short, full = (_kfac.gradient_factor(sums) for sums in (few_rows, few_rows.summed()))
    assert len(short.matrix) == 2
    assert len(full.matrix) == short.size == full.size == 5
    values = [_kfac.log_eigenvalues(factor, precision=1e-10) for factor in (short, full)]
    torch.testing.assert_close(*values)
    assert (values[0][:3] == values[0][0]).all()


def factor_of(*parts: Tensor) -> _kfac.Factor:
    sums, settings = Sums(), Settings("expand", 5, None, 0)
    for part in parts:
        sums.add(gradient_part(Call(None, None), part, settings, "layer"))
    sums.end_pass(mean=False)
    return gradient_factor(sums, "layer")


@pytest.mark.parametrize("magnitude", [1e-300, 1e-30, 1.0, 3.0, 1e30, 1e300])
def test_factors_do_not_overflow_at_any_scale(magnitude: float) -> None:
    data = batch(5, 3, dtype=torch.float64)
    factor, reference = factor_of(data * magnitude, data * magnitude / 3), factor_of(data, data / 3)
    torch.testing.assert_close(factor.matrix.tril(), reference.matrix.tril())
    assert factor.log_scale - 2 * np.log(magnitude) == pytest.approx(reference.log_scale)


@pytest.mark.parametrize("order", [1, -1])
def test_uses_of_different_scales_add_up(order: int) -> None:
    data = batch(5, 3, dtype=torch.float64)
    factor = factor_of(*(data * 1e-200, data)[::order])
    expected = factor_of(data)
    torch.testing.assert_close(factor.matrix.tril(), expected.matrix.tril())
    # Twice the uses.
    assert factor.log_scale == pytest.approx(expected.log_scale - np.log(2))
