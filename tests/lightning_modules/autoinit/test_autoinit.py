import copy
import math

import pytest
import torch
from torch import Tensor, nn

from aquasurf_optuna.activation import Activation
from aquasurf_optuna.exceptions import InitializationError, UnsupportedModelError
from lightning_modules.autoinit import autoinit_
from lightning_modules.models.all_cnn_c import AllCnnC


@pytest.mark.parametrize("text", ["relu(x)", "tanh(x)", "swish(x)", "sub(elu(x),sigmoid(x))"])
def test_outputs_of_every_layer_have_mean_zero_and_unit_variance(text: str) -> None:
    # No padding and many weights: the conditions under which the analysis is exact.
    model = nn.Sequential(
        nn.Conv2d(3, 64, 3, stride=2),
        Activation(text),
        nn.Sequential(nn.Dropout(0.3), nn.Conv2d(64, 64, 3, groups=2), Activation(text)),
        nn.Flatten(),
        nn.Linear(64 * 9, 256),
        Activation(text),
        nn.Linear(256, 256),
    )
    images = 0.5 + 2.0 * torch.randn(16, 3, 11, 11)
    moments: dict[str, list[tuple[float, float]]] = {}

    def record(name: str, outputs: Tensor) -> None:
        values = outputs.detach()
        moments.setdefault(name, []).append((float(values.mean()), float((values**2).mean())))

    for name, layer in model.named_modules():
        if isinstance(layer, (nn.Conv2d, nn.Linear)):
            layer.register_forward_hook(lambda _m, _i, out, name=name: record(name, out))
    for _ in range(30):
        autoinit_(model, (3, 11, 11), mean=0.5, variance=4.0)(images)
    assert len(moments) == 4
    for name, values in moments.items():
        means, seconds = torch.tensor(values).unbind(1)
        assert means.mean().abs() < 0.1, name
        assert seconds.mean() == pytest.approx(1.0, abs=0.15), name


def test_dropout_raises_the_second_moment() -> None:
    plain = autoinit_(nn.Sequential(nn.Identity(), nn.Linear(300, 300)), (300,), mean=1.0)
    dropped = autoinit_(nn.Sequential(nn.Dropout(0.5), nn.Linear(300, 300)), (300,), mean=1.0)
    ratio = plain[1].weight.var() / dropped[1].weight.var()
    assert ratio.item() == pytest.approx(2.0, rel=0.05)


def test_seed_decides_weights_and_biases_are_zero() -> None:
    def built(seed: int) -> AllCnnC:
        torch.manual_seed(seed)
        return autoinit_(AllCnnC("tanh(x)", width=1 / 48), (3, 32, 32))

    one, again, other = built(1), built(1), built(2)
    assert torch.equal(one.conv5.weight, again.conv5.weight)
    assert not torch.equal(one.conv5.weight, other.conv5.weight)
    assert not any(p.any() for name, p in one.named_parameters() if name.endswith("bias"))


def test_weights_keep_their_dtype_and_layers_their_state() -> None:
    model = nn.Sequential(nn.Linear(4, 4, bias=False), nn.PReLU(), nn.Linear(4, 2)).double()
    autoinit_(model, (4,))
    assert {p.dtype for p in model.parameters()} == {torch.float64}
    assert model[1].weight.item() == 0.25


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("zero(x)", "out of float32's range"),
        ("one(x)", r"constant \(1\)"),
        ("reciprocal(x)", "second moment of its outputs is infinite"),
        ("exp(square(x))", "second moment of its outputs is infinite"),
        ("pow(x,hard_sigmoid(x))", "not finite"),
    ],
)
def test_functions_without_unit_variance_are_refused(text: str, reason: str) -> None:
    with pytest.raises(InitializationError, match=rf"'act1' \(Activation\(.*{reason}"):
        autoinit_(AllCnnC(text, width=1 / 48), (3, 32, 32))


def test_dropping_everything_is_refused() -> None:
    with pytest.raises(InitializationError, match="drops every value"):
        autoinit_(nn.Sequential(nn.Dropout(1.0), nn.Linear(2, 2)), (2,))


def test_an_unknown_layer_is_refused_or_warned_about() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Flatten(2), nn.LSTM(64, 4))
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(UnsupportedModelError, match=r"operation 'lstm' in layer '2' \(LSTM\)"):
        autoinit_(model, (3, 8, 8))
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    with pytest.warns(UserWarning, match=r"'lstm' in layer '2' \(LSTM\).*passes unchanged"):
        autoinit_(model, (3, 8, 8), unknown="warn")
    assert not torch.equal(model[0].weight, before["0.weight"])


def test_an_activation_may_stand_at_two_places() -> None:
    shared = nn.ReLU()
    model = nn.Sequential(
        nn.Linear(300, 300), shared, nn.Linear(300, 300), shared, nn.Linear(300, 300)
    )
    autoinit_(model, (300,))
    # The second moment of relu is 1/2, so weights after it have twice the variance.
    assert model[4].weight.var().item() == pytest.approx(2 / 300, rel=0.05)


def test_tied_weights_are_refused() -> None:
    shared = nn.Linear(3, 3)
    with pytest.raises(UnsupportedModelError, match="layers '0' and '2' share a parameter"):
        autoinit_(nn.Sequential(shared, nn.ReLU(), shared), (3,))


@pytest.mark.parametrize(("mean", "variance"), [(math.nan, 1.0), (0.0, 0.0), (0.0, math.inf)])
def test_impossible_inputs_are_refused(mean: float, variance: float) -> None:
    with pytest.raises(ValueError, match="positive, finite variance of the inputs, got mean="):
        autoinit_(nn.Linear(2, 2), (2,), mean=mean, variance=variance)
