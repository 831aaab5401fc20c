"""A training that can be repeated, made of a LightningCLI configuration."""

from __future__ import annotations

import math
import pickle
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import lightning as L
import numpy as np
import pytest
import torch
import yaml

from aquasurf_optuna.exceptions import ExpressionError, InitializationError, SettingsError
from lightning_modules import configured_training
from lightning_modules.configured_training import ConfiguredTraining, training_of
from lightning_modules.data.digits import DigitsDataModule, DigitsTask
from lightning_modules.digits_recipe import DigitsRecipe, train_digits
from lightning_modules.networks import NetworkOptions
from lightning_modules.training import TrainingOptions

pytestmark = pytest.mark.filterwarnings("ignore:.*does not have many workers")

RECIPE = DigitsRecipe(
    network=NetworkOptions(
        in_channels=1, image_size=10, width=1 / 48, dropout=0.0, activate_last=False
    ),
    training=TrainingOptions(learning_rate=0.05, warmup_epochs=0.5),
    task=DigitsTask(noise=0.1, clutter=0.0),
    epochs=2,
    eval_copies=1,
)
NAMES = {
    f"{stage}_{measure}" for stage in ("train", "val", "test") for measure in ("accuracy", "loss")
}
HERE = "tests.lightning_modules.test_configured_training"

Change = Callable[[dict[str, Any]], object]


def described() -> dict[str, Any]:
    """What `RECIPE` is as a configuration, beside much that a training does not mind."""
    return {
        "seed_everything": 77,
        "trainer": {
            "accelerator": "cpu",
            "devices": 1,
            "max_epochs": 2,
            "logger": True,
            "enable_checkpointing": True,
            "enable_progress_bar": True,
        },
        "model": {
            "activation": "elu(x)",
            "network": {
                "name": "all_cnn_c",
                "in_channels": 1,
                "image_size": 10,
                "width": 1 / 48,
                "dropout": 0.0,
                "activate_last": False,
            },
            "training": {"learning_rate": 0.05, "warmup_epochs": 0.5},
        },
        "data": {
            "class_path": "lightning_modules.data.DigitsDataModule",
            "init_args": {
                "task": {"canvas": 10, "clutter": 0.0, "noise": 0.1},
                "batch_size": 50,
                "eval_copies": 1,
            },
        },
    }


def written(folder: Path, change: Change = lambda described: None) -> Path:
    content = described()
    change(content)
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def short(content: dict[str, Any]) -> None:
    content["trainer"] |= {"max_epochs": 1, "limit_train_batches": 2}


def with_callback(name: str, **arguments: object) -> Change:
    def change(content: dict[str, Any]) -> None:
        callback = {"class_path": name, "init_args": arguments}
        content["trainer"] |= {"limit_train_batches": 2, "callbacks": [callback]}

    return change


class Seen(L.Callback):
    """Counts, for the tests, what a training does."""

    validations: ClassVar[list[int]] = []
    seeds: ClassVar[list[int]] = []

    def on_validation_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.validations.append(trainer.current_epoch)

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        data = trainer.datamodule  # type: ignore[attr-defined]  # Lightning sets it
        assert isinstance(data, DigitsDataModule)
        self.seeds.append(data.seed)


class GlobalNoise(DigitsDataModule):
    """Without a seed of its own: its noise comes from the generators that all share."""

    def __init__(self, batch_size: int = 50) -> None:
        super().__init__(DigitsTask(noise=0.0, clutter=0.0), batch_size=batch_size, eval_copies=1)

    def training_images(self, epoch: int) -> Any:
        found = super().training_images(epoch)
        strength = np.random.rand() + random.random()  # noqa: NPY002 - the shared one is meant
        return found._replace(images=found.images + strength * torch.randn_like(found.images))


def same(one: dict[str, float], other: dict[str, float]) -> bool:
    return all(one[name] == other[name] for name in NAMES)


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Seen.validations.clear()
    Seen.seeds.clear()
    return tmp_path


def test_it_is_the_training_by_hand(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    measured = training_of(written(tmp_path))("tanh(x)", 3)
    assert capfd.readouterr() == ("", "")
    assert caplog.messages == []
    assert set(measured) == NAMES | {"seconds"}
    expected = train_digits("tanh(x)", seed=3, recipe=RECIPE, test=True)
    assert measured["val_accuracy"] == expected.validation_accuracy
    assert measured["test_accuracy"] == expected.test_accuracy
    assert 0 < measured["train_accuracy"] < 1
    assert 0 < measured["seconds"] < 600
    assert all(measured[name] > 0 for name in NAMES if name.endswith("loss"))
    assert list(tmp_path.iterdir()) == [tmp_path / "config.yaml"]


def test_the_first_run_of_a_process_is_like_any_other(tmp_path: Path) -> None:
    training = training_of(written(tmp_path, short))
    again = training("tanh(x)", 1)
    # A process that has just been started has not read the file.
    configured_training._read.cache_clear()
    assert same(training("tanh(x)", 1), again)


def test_function_and_seed_decide_the_result(tmp_path: Path) -> None:
    training = training_of(written(tmp_path, short))
    first = training("tanh(x)", 0)
    assert not same(training("tanh(x)", 1), first)
    assert not same(training("elu(x)", 0), first)
    torch.rand(3)
    copied = pickle.loads(pickle.dumps(training))
    assert copied == training
    assert same(copied("tanh(x)", 0), first)


def test_what_all_share_is_seeded_and_left_alone(tmp_path: Path) -> None:
    def noisy(content: dict[str, Any]) -> None:
        short(content)
        content["data"] = {"class_path": f"{HERE}.GlobalNoise"}

    def states() -> list[object]:
        return [
            torch.get_rng_state().tolist(),
            random.getstate(),
            str(np.random.get_state()),  # noqa: NPY002 - the shared one is meant
        ]

    before = states()
    training = training_of(written(tmp_path, noisy))
    assert states() == before
    first = training("tanh(x)", 0)
    assert states() == before
    random.random()
    np.random.rand()  # noqa: NPY002 - as above
    assert same(training("tanh(x)", 0), first)
    assert not same(training("tanh(x)", 1), first)
    with pytest.raises(ExpressionError, match="tahn"):
        before = states()
        training("tahn(x)", 0)
    assert states() == before


def test_the_data_have_the_seed_and_callbacks_their_validations(tmp_path: Path) -> None:
    training = training_of(written(tmp_path, with_callback(f"{HERE}.Seen")))
    training("tanh(x)", 5)
    assert Seen.seeds == [5]
    # One after each of the two epochs, and the one that measures.
    assert len(Seen.validations) == 3


def test_without_callbacks_nothing_is_validated_in_between(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    evaluate = DigitsDataModule.evaluation_images
    monkeypatch.setattr(
        DigitsDataModule,
        "evaluation_images",
        lambda self, split: asked.append(split) or evaluate(self, split),
    )
    training_of(written(tmp_path))("tanh(x)", 0)
    assert asked == ["validation", "test"]


def test_a_callback_may_end_the_training(tmp_path: Path) -> None:
    def change(content: dict[str, Any]) -> None:
        with_callback(f"{HERE}.Seen")(content)
        # The first loss is low enough.
        arguments = {"monitor": "val_loss", "stopping_threshold": 1e9}
        stopping = "lightning.pytorch.callbacks.EarlyStopping"
        content["trainer"]["callbacks"] += [{"class_path": stopping, "init_args": arguments}]

    training_of(written(tmp_path, change))("tanh(x)", 0)
    assert len(Seen.validations) == 2


def test_checkpoints_do_not_count(tmp_path: Path) -> None:
    change = with_callback(
        "lightning.pytorch.callbacks.ModelCheckpoint", monitor="val_loss", dirpath=str(tmp_path)
    )
    training_of(written(tmp_path, change))("tanh(x)", 0)
    assert list(tmp_path.iterdir()) == [tmp_path / "config.yaml"]


def test_losses_that_are_no_numbers_come_back(tmp_path: Path) -> None:
    def explosive(content: dict[str, Any]) -> None:
        short(content)
        content["model"]["training"]["learning_rate"] = 1e30

    measured = training_of(written(tmp_path, explosive))("tanh(x)", 0)
    assert not math.isfinite(measured["val_loss"])
    assert not math.isfinite(measured["test_loss"])
    assert 0 <= measured["val_accuracy"] <= 1


def test_a_function_without_weights_says_so(tmp_path: Path) -> None:
    training = training_of(written(tmp_path, short))
    with pytest.raises(InitializationError, match="zero"):
        training("zero(x)", 0)


def test_what_the_results_depend_on_is_told(tmp_path: Path) -> None:
    path = written(tmp_path, short)
    training = training_of(path)
    assert training == ConfiguredTraining(str(path), path.read_text())
    assert training.settings == {"config": path.read_text()}


def test_a_file_that_was_changed_in_between_is_refused(tmp_path: Path) -> None:
    training = training_of(written(tmp_path, short))
    before = training("tanh(x)", 0)
    written(tmp_path)
    # This process has read what the training was made of; one that is started now could not.
    assert same(training("tanh(x)", 0), before)
    configured_training._read.cache_clear()
    with pytest.raises(SettingsError, match=r"config.yaml was changed after this training"):
        training("tanh(x)", 0)


def test_no_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="missing.yaml"):
        training_of(tmp_path / "missing.yaml")


def unknown_key(content: dict[str, Any]) -> None:
    content["trainer"]["max_epoch"] = 3


def unknown_network(content: dict[str, Any]) -> None:
    content["model"]["network"]["name"] = "all_cnn_d"


def no_data(content: dict[str, Any]) -> None:
    del content["data"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (unknown_key, "config.yaml cannot be used: .*max_epoch"),
        (unknown_network, "all_cnn_d"),
        (no_data, "config.yaml cannot be used: .*data"),
    ],
)
def test_a_bad_configuration_is_refused_at_once(
    tmp_path: Path, change: Change, message: str
) -> None:
    with pytest.raises(SettingsError, match=message):
        training_of(written(tmp_path, change))


def test_a_training_that_measures_too_little_is_refused(tmp_path: Path) -> None:
    def untested(content: dict[str, Any]) -> None:
        short(content)
        content["trainer"]["limit_test_batches"] = 0

    training = training_of(written(tmp_path, untested))
    with pytest.raises(SettingsError, match="no test_accuracy, test_loss at the end"):
        training("tanh(x)", 0)
