"""Factors estimated from some of a layer's uses."""

from __future__ import annotations

import pytest
import torch
from scipy.spatial.distance import pdist
from scipy.stats import spearmanr
from torch import Tensor, nn

from aquasurf_optuna.activation import Activation
from aquasurf_optuna.exceptions import InvalidSpectrumError
from aquasurf_optuna.features import _kfac
from aquasurf_optuna.features._calls import Call
from aquasurf_optuna.features._patches import Geometry
from aquasurf_optuna.features.fisher import fisher_log_eigenvalues
from aquasurf_optuna.features.spectra import quantile_vector
from tests.aquasurf_optuna.features.networks import Apply, batch, seeded, small_cnn

LINEAR = Call(None, None)
POINTWISE = Call(Geometry((1, 1), (1, 1), (1, 1), (0, 0), (6, 5), 1, (1, 1)), None)
PATCHES = Call(Geometry((3, 3), (1, 1), (1, 1), (1, 1), (6, 5), 1, (1, 1)), None)
CASES = {
    "tokens": (LINEAR, (30, 4, 3)),
    "pixels": (POINTWISE, (30, 3, 6, 5)),
    "patches": (PATCHES, (30, 2, 6, 5)),
}


@pytest.mark.parametrize(("call", "shape"), CASES.values(), ids=CASES)
@pytest.mark.parametrize("of", ["sampled_moments", "sampled_gradient_moments"])
def test_the_mean_estimate_is_the_whole(call: Call, shape: tuple[int, ...], of: str) -> None:
    data = batch(*shape) + 0.5
    whole = getattr(call, of.removeprefix("sampled_"))(data)
    parts = [getattr(call, of)(data, 50, seed) for seed in range(300)]
    assert {part.uses for part in parts} == {whole.uses}
    mean = torch.stack([part.second.tril() for part in parts]).mean(0)
    largest = whole.second.tril().abs().max()
    five_standard_errors = 0.05
    assert (mean - whole.second.tril()).abs().max() < five_standard_errors * largest
    assert (parts[0].second.tril() - whole.second.tril()).abs().max() > 1e-3 * largest


def test_twice_as_many_uses_as_features_are_taken_at_least(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    drawn: list[int] = []
    places = _kfac.places
    monkeypatch.setattr(_kfac, "places", lambda *of: drawn.append(of[1]) or places(*of))
    LINEAR.sampled_moments(batch(100, 20), 10, 0)
    LINEAR.sampled_moments(batch(100, 20), 60, 0)
    LINEAR.sampled_gradient_moments(batch(100, 20), 10, 0)
    assert drawn == [40, 60, 40]


def test_all_uses_count_where_there_are_no_more() -> None:
    model = seeded(small_cnn)
    images = batch(8, 2, 6, 6)
    default = fisher_log_eigenvalues(model, images)
    everything = fisher_log_eigenvalues(model, images, max_uses=None)
    few = fisher_log_eigenvalues(model, images, max_uses=40)
    for name in default:
        assert torch.equal(default[name], everything[name])
    assert not torch.equal(few["0"], everything["0"])


def test_uses_that_see_only_zeros_stand_for_nothing() -> None:
    data = torch.zeros(200, 3)
    data[7] = 1.0
    assert 7 not in _kfac.places(200, 6, 0)
    for sums in (LINEAR.sampled_moments(data, 6, 0), LINEAR.sampled_gradient_moments(data, 6, 0)):
        assert torch.equal(sums.second.tril(), torch.ones(3, 3).double().tril())


class Spoiled(torch.autograd.Function):
    """Lets a NaN into the gradient of one use."""

    @staticmethod
    def forward(_: object, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(_: object, gradient: Tensor) -> Tensor:
        spoiled = gradient.clone()
        spoiled[7, 0] = float("nan")
        return spoiled


def test_a_fault_outside_the_drawn_uses_is_found() -> None:
    model = seeded(lambda: nn.Sequential(nn.Linear(3, 3), Apply(Spoiled.apply), nn.Linear(3, 3)))
    assert 7 not in _kfac.places(200, 6, 0)
    with pytest.raises(InvalidSpectrumError, match="'0': the gradients that reach it are not fin"):
        fisher_log_eigenvalues(model, batch(200, 3), max_uses=6)


def test_distances_between_functions_keep_their_order() -> None:
    images = batch(64, 2, 6, 6)
    texts = ["tanh(x)", "relu(x)", "swish(x)", "elu(x)", "arctan(x)", "selu(x)", "softsign(x)"]
    models = [seeded(lambda t=text: small_cnn(Activation.factory(t))) for text in texts]
    exact, few, fewest = (
        pdist([quantile_vector(fisher_log_eigenvalues(m, images, max_uses=n)) for m in models])
        for n in (None, 500, 1)
    )
    assert spearmanr(exact, few)[0] > 0.99
    assert spearmanr(exact, few)[0] > spearmanr(exact, fewest)[0]
