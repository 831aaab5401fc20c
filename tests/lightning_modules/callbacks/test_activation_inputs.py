"""Inputs of activations, recorded around a training that does not notice."""

import json
from collections.abc import Callable
from pathlib import Path

import lightning as L
import numpy as np
import pytest
import torch
from torch import nn

from aquasurf_optuna import Activation
from aquasurf_optuna.exceptions import AquaSurfError
from aquasurf_optuna.visualization import InputHistogram, plot_input_distribution
from lightning_modules.callbacks import ActivationInputs
from tests.lightning_modules.callbacks.helpers import (
    Watch,
    classifier_of,
    images,
    loader,
    small_network,
    weights,
)

MakeTrainer = Callable[..., L.Trainer]

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*but have no `val_dataloader`"),
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
]


def normalised_network() -> nn.Module:
    """One activation that runs twice, batch normalisation and dropout around it."""
    torch.manual_seed(0)
    shared = Activation("elu(x)")
    return nn.Sequential(
        nn.Flatten(), nn.Linear(64, 12), nn.BatchNorm1d(12), shared, nn.Dropout(0.5),
        nn.Linear(12, 12), shared, nn.Linear(12, 10),
    )  # fmt: skip


def fitted(
    make_trainer: MakeTrainer, network: nn.Module, callback: ActivationInputs, **settings: object
) -> Watch:
    watch = Watch()
    make_trainer(callbacks=[callback, watch], **settings).fit(
        classifier_of(network), loader(images())
    )
    return watch


def inputs_by_hand(network: nn.Module, batch: torch.Tensor) -> list[np.ndarray]:
    """Inputs of the two runs of `normalised_network`'s activation, step by step."""
    _, first, norm, activation, _, second, _, _ = network
    with torch.no_grad():
        hidden = first(batch.flatten(1))
        mean, variance = hidden.mean(dim=0), hidden.var(dim=0, unbiased=False)
        hidden = (hidden - mean) / torch.sqrt(variance + norm.eps) * norm.weight + norm.bias
        return [hidden.numpy(), second(activation(hidden)).numpy()]


def test_histograms_are_those_of_the_first_batch(make_trainer: MakeTrainer) -> None:
    network, callback = normalised_network(), ActivationInputs()
    before = inputs_by_hand(network, images()[:8])
    watch = fitted(make_trainer, network, callback)
    batch = watch.seen[0][0]
    after = inputs_by_hand(network, batch)
    assert list(callback.before) == list(callback.after) == ["3"]
    edges = np.linspace(-20, 20, 801)
    for recorded, expected in ((callback.before, before), (callback.after, after)):
        whole = InputHistogram.of(np.concatenate(expected), edges)
        assert recorded["3"].total == whole.total == 2 * 8 * 12
        # Rounding may carry an input over an edge.
        assert np.abs(recorded["3"].counts - whole.counts).sum() <= 4
    assert np.abs(callback.before["3"].counts - callback.after["3"].counts).sum() > 20


def test_the_training_does_not_notice(make_trainer: MakeTrainer) -> None:
    with_it, without = normalised_network(), normalised_network()
    torch.manual_seed(1)
    fitted(make_trainer, with_it, ActivationInputs())
    torch.manual_seed(1)
    make_trainer().fit(classifier_of(without), loader(images()))
    assert torch.equal(weights(with_it), weights(without))
    for one, other in zip(with_it.buffers(), without.buffers(), strict=True):
        assert torch.equal(one, other)
    assert not any(module._forward_pre_hooks for module in with_it.modules())


def test_what_is_kept_can_be_drawn(make_trainer: MakeTrainer, tmp_path: Path) -> None:
    path = tmp_path / "new" / "inputs.json"
    callback = ActivationInputs(path, bound=5.0, bins=50)
    fitted(make_trainer, small_network(), callback)
    kept = json.loads(path.read_text())
    assert list(kept) == ["2"]
    for stage, histograms in (("before", callback.before), ("after", callback.after)):
        read = InputHistogram.of_json(kept["2"][stage])
        assert read.counts.tolist() == histograms["2"].counts.tolist()
    figure = plot_input_distribution("tanh(x)", callback.joined())
    assert [each.name.split(" (")[0] for each in figure.data] == [
        "at initialization", "after training", "tanh(x)",
    ]  # fmt: skip


def test_a_resumed_run_has_no_beginning(make_trainer: MakeTrainer, tmp_path: Path) -> None:
    network = small_network()
    trainer = make_trainer()
    trainer.fit(classifier_of(network), loader(images()))
    trainer.save_checkpoint(tmp_path / "one.ckpt")
    callback = ActivationInputs()
    make_trainer(callbacks=[callback], max_epochs=2).fit(
        classifier_of(small_network()), loader(images()), ckpt_path=tmp_path / "one.ckpt"
    )
    assert callback.before == {}
    assert list(callback.joined()) == ["after training"]


def test_a_network_without_activations(make_trainer: MakeTrainer) -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    callback = ActivationInputs()
    fitted(make_trainer, network, callback)
    assert callback.after == {}
    with pytest.raises(AquaSurfError, match="got 0 of them"):
        callback.joined()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"bound": 0.0}, "bound must be a finite number above 0, got 0.0"),
        ({"bound": float("inf")}, "bound must be a finite number above 0"),
        ({"bins": 0}, "bins must be a whole number of at least 1, got 0"),
        ({"bins": 2.5}, "bins must be a whole number of at least 1, got 2.5"),
    ],
)
def test_wrong_settings(settings: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ActivationInputs(**settings)  # type: ignore[arg-type]  # refused when it runs
