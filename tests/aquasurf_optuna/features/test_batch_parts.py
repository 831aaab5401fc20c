"""What the batch itself adds to a layer is computed once for many networks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from aquasurf_optuna.features import fisher
from aquasurf_optuna.features._capture import BatchParts
from aquasurf_optuna.features._kfac import Moments, Rows
from aquasurf_optuna.features.fisher import FisherSpectrum
from tests.aquasurf_optuna.features.networks import (
    Apply,
    assert_equal_spectra,
    batch,
    seeded,
    seeded_cnn,
)

IMAGES = batch(6, 2, 6, 6)


def measured(
    model: nn.Module, inputs: Any, parts: BatchParts | None, **options: Any
) -> FisherSpectrum:
    settings = {"targets": None, "loss": "cross_entropy", "fisher": None, "sharing": "expand",
                "max_uses": None, "seed": 0, "skip": ()}  # fmt: skip
    return fisher.measure(model, inputs, **{**settings, **options}, batch_parts=parts)


def wrong(parts: BatchParts) -> BatchParts:
    """The same parts, doubled, to see who reads them."""
    return {key: part._replace(data=doubled(part.data)) for key, part in parts.items()}


def doubled(data: Moments | Rows | Tensor) -> Moments | Rows | Tensor:
    return 2 * data if isinstance(data, Tensor) else data.scaled(2.0)


OPTIONS: dict[str, dict[str, Any]] = {
    "expand": {},
    "reduce": {"sharing": "reduce"},
    "sampled patches": {"max_uses": 40},
}


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_the_numbers_are_the_same_with_and_without(options: dict[str, Any]) -> None:
    parts: BatchParts = {}
    for activation in (nn.Tanh, nn.ReLU, nn.SiLU):
        model = seeded_cnn(activation)
        alone = measured(model, IMAGES, None, **options)
        assert_equal_spectra(measured(model, IMAGES, parts, **options), alone)
    assert [layer for layer, _ in parts] == ["0"]


def test_parts_are_filled_once_and_not_changed() -> None:
    parts: BatchParts = {}
    measured(seeded_cnn(nn.Tanh), IMAGES, parts)
    ((key, part),) = parts.items()
    kept = part.data.summed().second.clone()
    measured(seeded_cnn(nn.ReLU), IMAGES, parts)
    assert list(parts) == [key]
    assert parts[key] is part
    assert torch.equal(part.data.summed().second, kept)


def test_parts_are_read_by_the_layer_that_sees_the_batch_only() -> None:
    parts: BatchParts = {}
    expected = measured(seeded_cnn(), IMAGES, parts)
    actual = measured(seeded_cnn(), IMAGES, wrong(parts))
    assert not torch.allclose(actual["0"], expected["0"])
    for name in ("2", "6"):
        assert torch.equal(actual[name], expected[name])


class Sides(nn.Module):
    """Two layers of one shape, and one of another, see the batch; one sees another."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = nn.Conv2d(2, 3, 3), nn.Conv2d(2, 3, 3, bias=False)
        self.wide, self.scaled = nn.Conv2d(2, 3, 3, padding=1), nn.Conv2d(2, 3, 3)

    def forward(self, x: Tensor) -> Tensor:
        narrow = self.left(x) + self.right(x).tanh() + self.scaled(x / 2)
        return narrow.tanh().mean((2, 3)) + self.wide(x).tanh().mean((2, 3))


def test_layers_that_see_the_batch_are_told_apart() -> None:
    parts: BatchParts = {}
    model = seeded(Sides)
    expected = measured(model, IMAGES, None)
    for _ in range(2):
        assert_equal_spectra(measured(model, IMAGES, parts), expected)
    assert sorted(layer for layer, _ in parts) == ["left", "right", "wide"]


def test_a_layer_that_sees_the_batch_twice_counts_it_twice() -> None:
    class Twice(nn.Module):
        def __init__(self, *, again: Callable[[Tensor], Tensor]) -> None:
            super().__init__()
            self.layer, self.again = nn.Conv2d(2, 3, 3), again

        def forward(self, x: Tensor) -> Tensor:
            return (self.layer(x).tanh() + self.layer(self.again(x))).mean((2, 3))

    parts: BatchParts = {}
    copied = measured(seeded(lambda: Twice(again=torch.clone)), IMAGES, None)
    same = seeded(lambda: Twice(again=lambda x: x))
    for _ in range(2):
        torch.testing.assert_close(dict(measured(same, IMAGES, parts)), dict(copied))
    assert len(parts) == 1


CHANGED: dict[str, Callable[[Tensor], Tensor]] = {
    "another batch": lambda x: x.flip(1) + 1,
    "a part of it": lambda x: x[..., :5].repeat(1, 1, 1, 2)[..., :6],
    "the same numbers in another order": lambda x: x.transpose(2, 3),
}


@pytest.mark.parametrize("change", CHANGED.values(), ids=CHANGED)
def test_what_is_not_the_batch_does_not_read_its_parts(
    change: Callable[[Tensor], Tensor],
) -> None:
    parts: BatchParts = {}
    model = seeded(lambda: nn.Sequential(Apply(lambda x: x), *seeded_cnn()))
    other = nn.Sequential(Apply(change), *model[1:])
    measured(model, IMAGES, parts)
    expected = measured(other, IMAGES, None)
    assert_equal_spectra(measured(other, IMAGES, wrong(parts)), expected)
    assert not torch.equal(expected["1"], measured(model, IMAGES, None)["1"])


def test_the_first_samples_are_not_the_batch() -> None:
    def model(change: Callable[[Tensor], Tensor]) -> nn.Module:
        return seeded(lambda: nn.Sequential(Apply(change), nn.Linear(4, 3), Apply(repeated)))

    def repeated(x: Tensor) -> Tensor:
        return x.repeat(2, 1)[:6]

    parts: BatchParts = {}
    measured(model(lambda x: x), batch(6, 4), parts)
    expected = measured(model(lambda x: x[:3]), batch(6, 4), None)
    assert_equal_spectra(measured(model(lambda x: x[:3]), batch(6, 4), wrong(parts)), expected)


def test_a_model_that_changes_the_batch_in_place_does_not_read_its_parts() -> None:
    parts: BatchParts = {}
    model = seeded(lambda: nn.Sequential(Apply(lambda x: x), *seeded_cnn()))
    changing = nn.Sequential(Apply(lambda x: x.mul_(2).add_(1)), *model[1:])
    measured(model, IMAGES.clone(), parts)
    expected = measured(changing, IMAGES.clone(), None)
    assert_equal_spectra(measured(changing, IMAGES.clone(), wrong(parts)), expected)
    own: BatchParts = {}
    measured(changing, IMAGES.clone(), own)
    assert own == {}


def test_each_of_several_inputs_has_its_part() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.left, self.right = nn.Linear(4, 3), nn.Linear(4, 3)

        def forward(self, left: Tensor, right: Tensor) -> Tensor:
            return self.left(left).tanh() + self.right(right)

    parts: BatchParts = {}
    inputs = batch(6, 4), batch(6, 4, seed=2)
    expected = measured(seeded(Two), inputs, None)
    for _ in range(2):
        assert_equal_spectra(measured(seeded(Two), inputs, parts), expected)
    assert [layer for layer, _ in parts] == ["left", "right"]


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("magnitude", [1e-120, 1e120])
def test_extreme_batches_are_kept_in_their_unit(magnitude: float, bias: bool) -> None:
    parts: BatchParts = {}
    model = seeded(lambda: nn.Sequential(nn.Linear(4, 3, bias=bias), nn.Softsign())).double()
    with torch.no_grad():
        model[0].weight.div_(magnitude)
    inputs = batch(6, 4, dtype=torch.float64) * magnitude
    expected = measured(model, inputs, None)
    for _ in range(2):
        assert_equal_spectra(measured(model, inputs, parts), expected)
    assert len(parts) == 1


def test_a_batch_of_inference_mode_is_not_kept() -> None:
    parts: BatchParts = {}
    with torch.inference_mode():
        inputs = IMAGES.clone()
    assert_equal_spectra(
        measured(seeded_cnn(), inputs, parts), measured(seeded_cnn(), IMAGES, None)
    )
    assert parts == {}
