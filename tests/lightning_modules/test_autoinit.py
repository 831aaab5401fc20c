import math

import pytest
import torch
from torch import Tensor, nn

from aquasurf_optuna.activation import Activation
from aquasurf_optuna.exceptions import InitializationError, UnsupportedModelError
from lightning_modules.autoinit import Signal, activated, autoinit_
from lightning_modules.models.all_cnn_c import AllCnnC
from tests.oracles.autoinit_oracle import agrees

SIGNALS = [(0.0, 1.0), (0.7, 0.3)]


class Scaled(nn.Module):
    """An activation that multiplies and shifts."""

    def __init__(self, factor: float, shift: float = 0.0) -> None:
        super().__init__()
        self.factor, self.shift = factor, shift

    def forward(self, x: Tensor) -> Tensor:
        return self.factor * x + self.shift


@pytest.mark.parametrize("signal", SIGNALS)
@pytest.mark.parametrize(
    "text",
    [
        "relu(x)", "selu(x)", "softplus(x)", "exp(x)", "square(x)", "hard_sigmoid(x)",
        "max(relu(x),cosh(elu(x)))", "div(x,abs(x))", "div(sinh(x),x)", "mul(square(x),exp(x))",
    ],
)  # fmt: skip
def test_moments_agree_with_draws(text: str, signal: tuple[float, float]) -> None:
    function = Activation(text)
    found = activated(function, Signal(*signal))
    assert agrees(function, inputs=signal, outputs=(found.mean, found.variance))


def test_the_oracle_fails_on_wrong_moments() -> None:
    function = Activation("softplus(x)")
    right = activated(function, Signal())
    for mean, variance in [(1.01, 1.0), (1.0, 1.01)]:
        outputs = (right.mean * mean, right.variance * variance)
        assert not agrees(function, inputs=(0.0, 1.0), outputs=outputs)


@pytest.mark.parametrize(
    ("text", "mean", "second"),
    [
        ("relu(x)", 1 / math.sqrt(2 * math.pi), 0.5),
        ("exp(x)", math.exp(0.5), math.exp(2.0)),
        ("square(x)", 1.0, 3.0),
        ("abs(x)", math.sqrt(2 / math.pi), 1.0),
        ("erf(x)", 0.0, 2 / math.pi * math.asin(2 / 3)),
    ],
)
def test_moments_agree_with_closed_forms(text: str, mean: float, second: float) -> None:
    found = activated(Activation(text), Signal())
    assert found.mean == pytest.approx(mean, rel=1e-6, abs=1e-12)
    assert found.second_moment == pytest.approx(second, rel=1e-6)


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
        autoinit_(model, mean=0.5, variance=4.0)(images)
    assert len(moments) == 4
    for name, values in moments.items():
        means, seconds = torch.tensor(values).unbind(1)
        assert means.mean().abs() < 0.1, name
        assert seconds.mean() == pytest.approx(1.0, abs=0.15), name


def test_dropout_raises_the_second_moment() -> None:
    plain = autoinit_(nn.Sequential(nn.Identity(), nn.Linear(300, 300)), mean=1.0)
    dropped = autoinit_(nn.Sequential(nn.Dropout(0.5), nn.Linear(300, 300)), mean=1.0)
    ratio = plain[1].weight.var() / dropped[1].weight.var()
    assert ratio.item() == pytest.approx(2.0, rel=0.05)


def test_seed_decides_weights_and_biases_are_zero() -> None:
    def built(seed: int) -> AllCnnC:
        torch.manual_seed(seed)
        return autoinit_(AllCnnC("tanh(x)", width=1 / 48))

    one, again, other = built(1), built(1), built(2)
    assert torch.equal(one.conv5.weight, again.conv5.weight)
    assert not torch.equal(one.conv5.weight, other.conv5.weight)
    assert not any(p.any() for name, p in one.named_parameters() if name.endswith("bias"))


def test_weights_keep_their_dtype_and_layers_their_state() -> None:
    model = nn.Sequential(nn.Linear(4, 4, bias=False), nn.PReLU(), nn.Linear(4, 2)).double()
    autoinit_(model)
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
        autoinit_(AllCnnC(text, width=1 / 48))


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        (Scaled(1e25), "second moment of its outputs, 1e.50"),
        (Scaled(1e-25), "second moment of its outputs, 1e-50"),
        (Scaled(1e-9, 1.0), r"constant \(1\)"),
    ],
)
def test_scales_that_float32_cannot_hold_are_refused(function: nn.Module, reason: str) -> None:
    with pytest.raises(InitializationError, match=reason):
        activated(function, Signal())


def test_dropping_everything_is_refused() -> None:
    with pytest.raises(InitializationError, match="drops every value"):
        autoinit_(nn.Sequential(nn.Dropout(1.0), nn.Linear(2, 2)))


@pytest.mark.parametrize(
    "layer", [nn.MaxPool2d(2), nn.Softmax(dim=1), nn.BatchNorm2d(4), nn.LSTM(4, 4)]
)
def test_layers_of_unknown_effect_are_refused(layer: nn.Module) -> None:
    with pytest.raises(UnsupportedModelError, match=rf"layer '1' \({type(layer).__name__}\)"):
        autoinit_(nn.Sequential(nn.Conv2d(3, 4, 1), layer))


def test_an_activation_may_stand_at_two_places() -> None:
    shared = nn.ReLU()
    model = nn.Sequential(
        nn.Linear(300, 300), shared, nn.Linear(300, 300), shared, nn.Linear(300, 300)
    )
    autoinit_(model)
    # The second moment of relu is 1/2, so weights after it have twice the variance.
    assert model[4].weight.var().item() == pytest.approx(2 / 300, rel=0.05)


def test_tied_weights_are_refused() -> None:
    shared = nn.Linear(3, 3)
    with pytest.raises(UnsupportedModelError, match="layers '0' and '2' share a parameter"):
        autoinit_(nn.Sequential(shared, nn.ReLU(), shared))


@pytest.mark.parametrize(("mean", "variance"), [(math.nan, 1.0), (0.0, 0.0), (0.0, math.inf)])
def test_impossible_inputs_are_refused(mean: float, variance: float) -> None:
    with pytest.raises(ValueError, match="positive, finite variance of the inputs, got mean="):
        autoinit_(nn.Linear(2, 2), mean=mean, variance=variance)
