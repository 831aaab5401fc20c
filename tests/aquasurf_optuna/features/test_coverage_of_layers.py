"""Each kind of layer against the derivatives of its outputs, one location at a time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from timm.layers import Conv2dSame, ScaledStdConv2d, StdConv2d
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.utils import parametrizations

from aquasurf_optuna.features.fisher import fisher_log_eigenvalues
from tests.aquasurf_optuna.features.networks import batch, seeded
from tests.oracles.kfac_oracles import (
    Array,
    Use,
    assert_same_spectrum,
    kronecker_eigenvalues,
    shared_factors,
)

Layer = tuple[Callable[..., nn.Module], dict[str, Any], tuple[int, ...]]

LINE, IMAGE, SPACE = (4, 7), (4, 5, 4), (4, 3, 4, 3)
LAYERS: dict[str, Layer] = {
    "Linear": (nn.Linear, {"args": (4, 3)}, (4,)),
    "Linear, tokens": (nn.Linear, {"args": (4, 3)}, (5, 4)),
    "Linear, a grid of tokens, no bias": (nn.Linear, {"args": (4, 3), "bias": False}, (2, 3, 4)),
    "Conv1d": (nn.Conv1d, {"args": (4, 3, 3)}, LINE),
    "Conv1d, all options": (
        nn.Conv1d, {"args": (4, 6, 3), "stride": 2, "padding": 3, "dilation": 2, "groups": 2},
        LINE),
    "Conv1d, same": (nn.Conv1d, {"args": (4, 3, 4), "padding": "same"}, LINE),
    "Conv1d, circular": (
        nn.Conv1d, {"args": (4, 3, 3), "padding": 1, "padding_mode": "circular"}, LINE),
    "Conv1d, one": (nn.Conv1d, {"args": (4, 3, 1), "stride": 2, "bias": False}, LINE),
    "Conv1d, one, padded and as long": (
        nn.Conv1d, {"args": (4, 3, 1), "stride": 2, "padding": 1}, (4, 3)),
    "Conv2d, grouped": (nn.Conv2d, {"args": (4, 6, 2), "groups": 2, "padding": 1}, IMAGE),
    "Conv2d, depthwise": (
        nn.Conv2d, {"args": (4, 8, 3), "groups": 4, "padding": 1, "bias": False}, IMAGE),
    "Conv2d, not square": (
        nn.Conv2d, {"args": (4, 3, (2, 3)), "dilation": (1, 2), "padding": (3, 1)}, IMAGE),
    "Conv3d": (nn.Conv3d, {"args": (4, 3, 2), "padding": (1, 0, 1)}, SPACE),
    "Conv3d, all options": (
        nn.Conv3d,
        {"args": (4, 4, (1, 2, 3)), "stride": (2, 1, 1), "padding": (0, 1, 1),
         "dilation": (1, 2, 1), "groups": 2, "bias": False}, SPACE),
    "ConvTranspose1d": (nn.ConvTranspose1d, {"args": (4, 3, 3)}, LINE),
    "ConvTranspose1d, all options": (
        nn.ConvTranspose1d,
        {"args": (4, 6, 3), "stride": 3, "padding": 2, "output_padding": 2, "dilation": 2,
         "groups": 2}, (4, 4)),
    "ConvTranspose1d, stride past the kernel": (
        nn.ConvTranspose1d, {"args": (4, 3, 2), "stride": 4, "output_padding": 1}, (4, 3)),
    "ConvTranspose1d, depthwise": (
        nn.ConvTranspose1d, {"args": (4, 4, 3), "groups": 4, "padding": 1}, (4, 4)),
    "ConvTranspose1d, one": (nn.ConvTranspose1d, {"args": (4, 3, 1), "bias": False}, LINE),
    "ConvTranspose1d, padding larger than the kernel": (
        nn.ConvTranspose1d, {"args": (4, 3, 2), "padding": 2}, LINE),
    "ConvTranspose2d": (nn.ConvTranspose2d, {"args": (4, 3, 2), "stride": 2}, (4, 3, 2)),
    "ConvTranspose2d, all options": (
        nn.ConvTranspose2d,
        {"args": (4, 2, (3, 2)), "stride": (2, 3), "padding": (1, 0), "output_padding": (1, 2),
         "dilation": (1, 2), "groups": 2, "bias": False}, (4, 3, 2)),
    "ConvTranspose3d": (
        nn.ConvTranspose3d,
        {"args": (4, 2, (2, 1, 3)), "stride": (1, 2, 1), "padding": (1, 0, 1), "groups": 2},
        (4, 2, 2, 3)),
    "Conv2dSame": (Conv2dSame, {"args": (4, 3, 3), "stride": 2}, IMAGE),
    "StdConv2d": (StdConv2d, {"args": (4, 3, 3), "padding": 1}, IMAGE),
    "ScaledStdConv2d": (
        ScaledStdConv2d, {"args": (4, 4, 3), "groups": 2, "padding": 1}, IMAGE),
}  # fmt: skip


def built(layer: Callable[..., nn.Module], options: dict[str, Any]) -> nn.Module:
    options = dict(options)
    return seeded(lambda: layer(*options.pop("args"), **options)).double()


def use_of(layer: nn.Module, inputs: Tensor, gradient: Tensor) -> Use:
    if isinstance(layer, nn.Linear):
        return Use(lambda weight: F.linear(inputs, weight), gradient)
    if isinstance(layer, StdConv2d | ScaledStdConv2d):
        # Its factors are those of the weight that it computes.
        options = (layer.stride, layer.padding, layer.dilation, layer.groups)
        return Use(lambda w: F.conv2d(inputs, w, None, *options), gradient, 1, layer.groups)

    def apply(weight: Tensor) -> Tensor:
        return functional_call(layer, {"weight": weight}, (inputs,))

    return Use(apply, gradient, 1, layer.groups)


def expected_eigenvalues(layer: nn.Module, head: nn.Module, inputs: Tensor) -> Array:
    outputs = layer(inputs)
    loss = F.cross_entropy(head(outputs), labels(inputs), reduction="sum")
    (gradient,) = torch.autograd.grad(loss, outputs)
    omega, gamma = shared_factors(
        [use_of(layer, inputs, gradient)],
        layer.weight,
        samples=len(inputs),
        bias=layer.bias is not None,
        transposed="Transpose" in type(layer).__name__,
    )
    return kronecker_eigenvalues(omega, gamma)


def labels(inputs: Tensor) -> Tensor:
    return torch.arange(len(inputs)) % 2


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths:UserWarning")
@pytest.mark.parametrize(("build", "options", "shape"), LAYERS.values(), ids=LAYERS)
def test_layers_match_the_derivatives_of_their_outputs(
    build: Callable[..., nn.Module], options: dict[str, Any], shape: tuple[int, ...]
) -> None:
    layer, head = built(build, options), nn.Sequential(nn.Tanh(), nn.Flatten())
    inputs = batch(2, *shape, dtype=torch.float64)
    spectra = fisher_log_eigenvalues(nn.Sequential(layer, *head), inputs, labels(inputs))
    own = [p for name, p in layer.named_parameters() if name in ("weight", "bias")]
    assert spectra.not_covered == {}
    assert list(spectra) == ["0"]
    assert len(spectra["0"]) == sum(p.numel() for p in own)
    assert_same_spectrum(spectra["0"], expected_eigenvalues(layer, head, inputs))


WRONG: dict[str, dict[str, Any]] = {
    "stride": {"stride": (1,)},
    "padding": {"padding": (1,)},
    "output padding": {"output_padding": (0,)},
    "dilation": {"dilation": (1,)},
}


@pytest.mark.parametrize("change", WRONG.values(), ids=WRONG)
def test_the_oracle_fails_for_another_layer(change: dict[str, Any]) -> None:
    build, options, shape = LAYERS["ConvTranspose1d, all options"]
    layer, head = built(build, options), nn.Sequential(nn.Tanh(), nn.Flatten())
    inputs = batch(2, *shape, dtype=torch.float64)
    spectrum = fisher_log_eigenvalues(nn.Sequential(layer, *head), inputs, labels(inputs))["0"]
    layer.output_padding = (0,)
    for name, value in change.items():
        setattr(layer, name, value)
    with pytest.raises(AssertionError, match="Not equal to tolerance"):
        assert_same_spectrum(spectrum, expected_eigenvalues(layer, head, inputs))


def test_the_oracle_fails_for_another_number_of_groups() -> None:
    layer = built(nn.Conv1d, {"args": (4, 4, 2), "groups": 2})
    inputs = batch(2, *LINE, dtype=torch.float64)
    use = use_of(layer, inputs, torch.ones(2, 4, 6, dtype=torch.float64))._replace(groups=1)
    whole = shared_factors([use], layer.weight, samples=2, bias=False)[0]
    both = shared_factors([use._replace(groups=2)], layer.weight, samples=2, bias=False)[0]
    assert np.linalg.norm(whole - both) > 0.1 * np.linalg.norm(both)


def test_the_oracle_fails_for_a_weight_used_the_wrong_way() -> None:
    layer = built(nn.ConvTranspose1d, {"args": (3, 3, 2)})
    use = use_of(layer, batch(2, 3, 4, dtype=torch.float64), torch.ones(2, 3, 5))
    with pytest.raises(AssertionError, match="an output has weights of others"):
        shared_factors([use], layer.weight, samples=2, bias=False, transposed=False)


@pytest.mark.parametrize("unbatched", [nn.Conv1d(4, 3, 2), nn.ConvTranspose2d(4, 3, 2)])
def test_a_convolution_of_one_sample_may_lack_its_dimension(unbatched: nn.Module) -> None:
    inputs = batch(1, *(LINE if isinstance(unbatched, nn.Conv1d) else IMAGE))
    expected = fisher_log_eigenvalues(nn.Sequential(unbatched, nn.Flatten()), inputs)["0"]
    squeezed = nn.Sequential(nn.Flatten(0, 1), unbatched, nn.Flatten(0), nn.Unflatten(0, (1, -1)))
    torch.testing.assert_close(fisher_log_eigenvalues(squeezed, inputs)["1"], expected)


PARAMETRIZED: dict[str, Callable[[nn.Module], nn.Module]] = {
    "weight_norm": parametrizations.weight_norm,
    "spectral_norm": parametrizations.spectral_norm,
    "orthogonal": parametrizations.orthogonal,
    "the old spectral_norm": nn.utils.spectral_norm,
}


@pytest.mark.filterwarnings("ignore:`torch.nn.utils.spectral_norm` is deprecated:FutureWarning")
@pytest.mark.parametrize("build", [lambda: nn.Linear(4, 3), lambda: nn.Conv2d(4, 3, 1)])
@pytest.mark.parametrize("computed", PARAMETRIZED.values(), ids=PARAMETRIZED)
def test_a_weight_that_a_layer_computes_counts_like_any_other(
    computed: Callable[[nn.Module], nn.Module], build: Callable[[], nn.Module]
) -> None:
    layer = seeded(lambda: computed(build()))
    plain = build()
    inputs = batch(6, 4) if isinstance(plain, nn.Linear) else batch(6, 4, 2, 2)
    layer.eval()(inputs)  # some compute it only now
    plain.load_state_dict({"weight": layer.weight.detach(), "bias": layer.bias.detach()})
    spectra = fisher_log_eigenvalues(nn.Sequential(layer, nn.Tanh(), nn.Flatten()), inputs)
    expected = fisher_log_eigenvalues(nn.Sequential(plain, nn.Tanh(), nn.Flatten()), inputs)
    torch.testing.assert_close(dict(spectra), dict(expected))
    assert spectra.not_covered == {}
