"""A featurizer from a LightningCLI configuration."""

from __future__ import annotations

import pickle
import sys
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from torch import Tensor

from aquasurf_optuna import Activation
from aquasurf_optuna.exceptions import SettingsError
from lightning_modules.cli import run
from lightning_modules.digits_recipe import DIGITS_RECIPE
from lightning_modules.features import featurizer_of

pytestmark = pytest.mark.filterwarnings("ignore:.*does not have many workers")

CONFIG = Path(__file__).parents[2] / "examples" / "configs" / "all_cnn_c_digits.yaml"


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


class FirstStep(L.Callback):
    """Keeps the batch with which a training really begins."""

    images: Tensor

    def on_train_batch_start(
        self, trainer: object, pl_module: object, batch: Any, index: int
    ) -> None:
        if index == 0:
            self.images = batch[0].clone()


def test_the_batch_is_that_of_the_first_step(
    elsewhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    featurizer = featurizer_of(CONFIG)
    monkeypatch.setattr(sys, "argv", ["lightning_modules"])
    step = FirstStep()
    words = ["--trainer.max_steps=1", "--trainer.limit_val_batches=0"]
    quiet = ["--trainer.enable_progress_bar=false"]
    run(["fit", "--config", str(CONFIG), *words, *quiet], callbacks=[step])
    assert featurizer.inputs.shape == (50, 1, 10, 10)
    assert torch.equal(featurizer.inputs, step.images)
    assert list(elsewhere.iterdir()) == []


def test_the_network_is_the_configurations() -> None:
    featurizer = featurizer_of(CONFIG)
    network = DIGITS_RECIPE.network.build("swish(x)")
    factory = Activation.factory("swish(x)")
    assert str(featurizer.build_model(factory)) == str(network)
    assert featurizer("swish(x)").valid


def test_it_is_repeatable_and_travels() -> None:
    one, other = featurizer_of(CONFIG), featurizer_of(CONFIG)
    assert torch.equal(one.inputs, other.inputs)
    assert one.task == other.task == pickle.loads(pickle.dumps(one)).task
    few = featurizer_of(CONFIG, samples=8, representation="histogram", seed=3, task="few")
    assert torch.equal(few.inputs, one.inputs[:8])
    assert (few.representation, few.seed, few.task) == ("histogram", 3, "few")


def test_an_activation_is_not_needed(elsewhere: Path) -> None:
    text = CONFIG.read_text()
    assert "  activation: relu(x)\n" in text
    (elsewhere / "without.yaml").write_text(text.replace("  activation: relu(x)\n", ""))
    assert featurizer_of("without.yaml").task == featurizer_of(CONFIG).task


def test_what_cannot_be_used_is_told(elsewhere: Path) -> None:
    with pytest.raises(SettingsError, match=r"no\.yaml cannot be used: .*does not exist"):
        featurizer_of("no.yaml")
    (elsewhere / "bad.yaml").write_text(CONFIG.read_text().replace("width", "widht"))
    with pytest.raises(SettingsError, match="unexpected keyword argument 'widht'"):
        featurizer_of("bad.yaml")
    with pytest.raises(ValueError, match="samples must be 1 to 50, .* got 51"):
        featurizer_of(CONFIG, samples=51)
