"""Each rule against draws of the operation that it describes."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from timm.layers import DropPath
from torch import Tensor, nn

from lightning_modules.autoinit import _trace
from lightning_modules.autoinit._quadrature import MeanVariance
from lightning_modules.autoinit._signal import Moments
from tests.oracles.field_oracle import Claim, agrees

SHAPE = (8, 400, 6, 8)
FIELD = Claim(mean=0.3, same=1.5, beside=0.9, within=0.6, between=0.4)
FLAT = FIELD._replace(beside=0.7, within=0.7)
PLAIN = Claim(mean=0.0, same=1.0, beside=0.0, within=0.0, between=0.0)


class Of(nn.Module):
    """A function as a network."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


class Scaled(nn.Module):
    """A learned factor for each channel, and an offset of zero."""

    def __init__(self, channels: int, factor: float) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.full((channels, 1, 1), factor))
        self.beta = nn.Parameter(torch.zeros(channels, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gamma + self.beta


def claimed(network: nn.Module, inputs: Claim, monkeypatch: pytest.MonkeyPatch) -> Claim:
    def given(shape: tuple[int, ...], _: MeanVariance) -> Moments:
        unit = torch.arange(shape[1], dtype=torch.float64).reshape(1, -1, 1, 1)
        return Moments._make([*(torch.full((1, 1, 1, 1), v).double() for v in inputs), unit])

    monkeypatch.setattr(_trace, "input_moments", given)
    _, (moments,) = _trace.follow(network, SHAPE[1:], MeanVariance(), "error")
    return Claim(*(float(moment.mean()) for moment in moments[:-1]))


def attention(x: Tensor) -> Tensor:
    query, key, value = (part.flatten(2).transpose(1, 2) for part in x.chunk(3, dim=1))
    return F.scaled_dot_product_attention(query, key, value).transpose(1, 2)[:, :, None]


def context(x: Tensor) -> Tensor:
    query, key, value = x.split([1, 200, 199], dim=1)
    summed = (key * F.softmax(query, dim=-1)).sum(dim=-1, keepdim=True)
    return F.relu(value) * summed[:, :199].expand_as(value)


EXACT: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": F.relu,
    "own gate": lambda x: x * torch.sigmoid(x),
    "own gate in place": lambda x: (x + 0).mul_(torch.sigmoid(x)),
    "doubled": lambda x: x + x,
    "shifted": lambda x: 1 - 2 * x,
    "halves added": lambda x: x[:, :200] + x[:, 200:],
    "halves subtracted": lambda x: x[:, :200] - x[:, 200:],
    "halves multiplied": lambda x: torch.mul(*x.chunk(2, dim=1)),
    "halves joined": lambda x: torch.cat([F.relu(x[:, :200]), x[:, 200:]], dim=1),
    "mean of places": lambda x: x.mean((2, 3), keepdim=True),
    "mean of rows": lambda x: x.mean(2, keepdim=True),
    "mean of columns": lambda x: x.mean(-1, keepdim=True),
    "sum of columns": lambda x: x.sum(-1, keepdim=True) / 8,
    "global pooling": lambda x: F.adaptive_avg_pool2d(F.relu(x), 1),
    "gate of the sample": lambda x: x[:, :200] * x[:, 200:].mean((2, 3), keepdim=True),
    "dropout": lambda x: F.dropout(x, 0.4),
    "linear attention": context,
    "softmax": lambda x: 8 * F.softmax(x, dim=-1),
    "group norm": lambda x: F.group_norm(x, 1),
    "group norm of four": lambda x: F.group_norm(x, 4),
}
# Rules that take all places as alike.
EVEN: dict[str, Callable[[Tensor], Tensor]] = {
    "rearranged": lambda x: x.flatten(2).unflatten(2, (12, 4)),
    "layer norm": lambda x: F.layer_norm(x.permute(0, 2, 3, 1), [400]).permute(0, 3, 1, 2),
    "root mean square norm": lambda x: F.rms_norm(x.movedim(1, 3), [400]).movedim(3, 1),
    "largest of four": lambda x: F.max_pool2d(x, 2),
    "largest of four activated": lambda x: F.max_pool2d(F.elu(x), (2, 2)),
    "average of four": lambda x: F.avg_pool2d(x, 2),
    "average to size": lambda x: F.adaptive_avg_pool2d(x, (3, 4)),
    "attention": attention,
}
# Rules for large batches and many places, with the difference that 8 samples or 48 places make.
LARGE: dict[str, tuple[Callable[[Tensor], Tensor], float]] = {
    "batch norm": (lambda x: F.batch_norm(x, None, None, training=True), 0.04),
    "instance norm": (F.instance_norm, 0.03),
}


@pytest.mark.parametrize("name", list(EXACT))
def test_exact_rules_agree_with_draws(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    network = Of(EXACT[name])
    claim = claimed(network, FIELD, monkeypatch)
    assert agrees(network, claim, inputs=FIELD, shape=SHAPE, slack=0.01)


@pytest.mark.parametrize("name", list(EVEN))
def test_rules_for_places_that_are_alike(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    network = Of(EVEN[name])
    claim = claimed(network, FLAT, monkeypatch)
    assert agrees(network, claim, inputs=FLAT, shape=SHAPE, slack=0.01)


@pytest.mark.parametrize("name", list(LARGE))
def test_rules_for_large_batches(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    function, slack = LARGE[name]
    claim = claimed(Of(function), FIELD, monkeypatch)
    assert agrees(function, claim, inputs=FIELD, shape=SHAPE, slack=slack)


def test_interpolation(monkeypatch: pytest.MonkeyPatch) -> None:
    def enlarged(x: Tensor) -> Tensor:
        return F.interpolate(x, size=(7, 9), mode="bilinear", align_corners=True)

    found = claimed(Of(enlarged), PLAIN, monkeypatch)
    fields = enlarged(torch.randn(64, 100, 6, 8, dtype=torch.float64))
    assert fields.square().mean().item() == pytest.approx(found.same, rel=0.01)
    # The average over all places holds what neighbours share.
    whole = (found.same + 62 * found.within) / 63
    assert fields.mean((2, 3)).square().mean().item() == pytest.approx(whole, rel=0.05)


def test_stochastic_depth(monkeypatch: pytest.MonkeyPatch) -> None:
    claim = claimed(DropPath(0.3), FIELD, monkeypatch)
    assert claim.same == pytest.approx(FIELD.same / 0.7)
    assert claim.within == pytest.approx(FIELD.within / 0.7)
    assert claim.between == pytest.approx(FIELD.between)


def test_parameters_of_a_norm_count(monkeypatch: pytest.MonkeyPatch) -> None:
    norm = nn.GroupNorm(1, 400)
    nn.init.constant_(norm.weight, 2.0)
    nn.init.constant_(norm.bias, -1.0)
    claim = claimed(norm, FIELD, monkeypatch)
    assert claim.mean == pytest.approx(-1.0)
    assert claim.same == pytest.approx(5.0, rel=1e-4)


def test_a_learned_scale_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    claim = claimed(Scaled(400, 0.5), FIELD, monkeypatch)
    assert claim == pytest.approx([0.5 * FIELD.mean, *(0.25 * value for value in FIELD[1:])])


def test_the_oracle_fails_on_wrong_moments(monkeypatch: pytest.MonkeyPatch) -> None:
    network = Of(F.relu)
    right = claimed(network, FIELD, monkeypatch)
    assert agrees(network, right, inputs=FIELD, shape=SHAPE)
    for field in Claim._fields:
        wrong = right._replace(**{field: 1.15 * getattr(right, field)})
        assert not agrees(network, wrong, inputs=FIELD, shape=SHAPE), field
