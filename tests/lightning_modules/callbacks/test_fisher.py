"""The eigenvalues of a training run: what is found, where it is kept, and what it ends."""

import contextlib
import csv
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import optuna
import pytest
import torch
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.trainer.states import TrainerStatus
from optuna.trial import TrialState
from optuna_integration import PyTorchLightningPruningCallback
from torch import nn

from aquasurf_optuna.exceptions import InvalidSpectrumError
from aquasurf_optuna.features.fisher import fisher_log_eigenvalues
from lightning_modules.callbacks import (
    INVALID_KEY,
    SUMMARY_KEY,
    FisherEigenvalues,
)
from lightning_modules.classifier import Classifier
from lightning_modules.data.digits import DigitsDataModule
from lightning_modules.networks import NetworkOptions
from lightning_modules.training import TrainingOptions
from tests.lightning_modules.callbacks.helpers import (
    CLASSES,
    Watch,
    classifier_of,
    images,
    loader,
    small_network,
    weights,
)

MakeTrainer = Callable[..., L.Trainer]

pytestmark = pytest.mark.filterwarnings("ignore:.*but have no `val_dataloader`")
WITHOUT_WORKERS = pytest.mark.filterwarnings("ignore:.*does not have many workers")


def classifier(options: NetworkOptions, activation: str = "tanh(x)") -> Classifier:
    torch.manual_seed(0)
    return Classifier(options, activation=activation, training=TrainingOptions(warmup_epochs=0))


@pytest.fixture
def hopeless() -> NetworkOptions:
    """A network that can be built around a constant function."""
    return NetworkOptions(
        in_channels=1, width=1 / 48, dropout=0.0, activate_last=False, initialization="torch"
    )


@pytest.fixture
def data() -> DigitsDataModule:
    return DigitsDataModule(batch_size=100)


def test_eigenvalues_are_those_computed_by_hand(
    tiny: NetworkOptions, data: DigitsDataModule, make_trainer: MakeTrainer, tmp_path: Path
) -> None:
    callback = FisherEigenvalues(seed=3, path=tmp_path / "eigenvalues.npz")
    make_trainer(callbacks=[callback]).fit(classifier(tiny), datamodule=data)
    images = data.training_images(0).images[:100]
    expected = fisher_log_eigenvalues(classifier(tiny).network, images, seed=3)
    assert callback.eigenvalues is not None
    assert callback.eigenvalues.keys() == expected.keys()
    for name, values in expected.items():
        assert torch.equal(callback.eigenvalues[name], values)
    with np.load(tmp_path / "eigenvalues.npz") as saved:
        assert set(saved) == {f"layer:{name}" for name in expected}
        assert np.array_equal(saved["layer:conv4"], expected["conv4"].numpy())


def test_a_trial_keeps_a_short_summary(
    tiny: NetworkOptions, data: DigitsDataModule, make_trainer: MakeTrainer
) -> None:
    trial = optuna.create_study().ask()
    callback = FisherEigenvalues(trial)
    make_trainer(callbacks=[callback], max_steps=1).fit(classifier(tiny), datamodule=data)
    assert callback.eigenvalues is not None
    values = torch.cat(list(callback.eigenvalues.values()))
    assert trial.user_attrs == {
        SUMMARY_KEY: {
            "count": sum(p.numel() for p in classifier(tiny).network.parameters()),
            "min": values.min().item(),
            "median": values.median().item(),
            "max": values.max().item(),
        }
    }


def test_training_goes_on_as_if_nothing_had_been_computed(
    tiny: NetworkOptions, data: DigitsDataModule, make_trainer: MakeTrainer
) -> None:
    weights = []
    for callbacks in ([], [FisherEigenvalues()]):
        model = classifier(tiny)
        make_trainer(callbacks=callbacks).fit(model, datamodule=data)
        weights.append(nn.utils.parameters_to_vector(model.parameters()).detach())
    assert torch.equal(weights[0], weights[1])


def test_invalid_eigenvalues_prune_before_the_first_step(
    hopeless: NetworkOptions, data: DigitsDataModule, make_trainer: MakeTrainer
) -> None:
    model = classifier(hopeless, "zero(x)")
    before = {name: value.clone() for name, value in model.state_dict().items()}
    trainers: list[L.Trainer] = []

    def objective(trial: optuna.Trial) -> float:
        callback = FisherEigenvalues(trial)
        trainers.append(make_trainer(callbacks=[callback]))
        try:
            trainers[0].fit(model, datamodule=data)
        finally:
            assert callback.eigenvalues is None
            assert callback.reason == trial.user_attrs[INVALID_KEY]
        return 1.0

    study = optuna.create_study()
    study.optimize(objective, n_trials=1)
    (trial,) = study.trials
    assert trial.state is TrialState.PRUNED
    assert list(trial.user_attrs) == [INVALID_KEY]
    assert trainers[0].global_step == 0
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_pruning_says_why(
    hopeless: NetworkOptions, data: DigitsDataModule, make_trainer: MakeTrainer
) -> None:
    callback = FisherEigenvalues(optuna.create_study().ask())
    with pytest.raises(optuna.TrialPruned, match="at initialisation are invalid: layer 'conv"):
        make_trainer(callbacks=[callback]).fit(classifier(hopeless, "zero(x)"), datamodule=data)


def test_without_a_trial_invalid_eigenvalues_end_the_fit(
    hopeless: NetworkOptions, data: DigitsDataModule, make_trainer: MakeTrainer
) -> None:
    callback = FisherEigenvalues()
    with pytest.raises(InvalidSpectrumError, match="layer 'conv"):
        make_trainer(callbacks=[callback]).fit(classifier(hopeless, "zero(x)"), datamodule=data)
    assert callback.reason is not None


def test_a_resumed_run_computes_nothing(
    tiny: NetworkOptions, data: DigitsDataModule, make_trainer: MakeTrainer, tmp_path: Path
) -> None:
    trainer = make_trainer()
    trainer.fit(classifier(tiny), datamodule=data)
    trainer.save_checkpoint(tmp_path / "one_epoch.ckpt")
    callback = FisherEigenvalues()
    resumed = make_trainer(max_epochs=2, callbacks=[callback])
    resumed.fit(classifier(tiny), datamodule=data, ckpt_path=tmp_path / "one_epoch.ckpt")
    assert resumed.global_step == 2 * trainer.global_step
    assert callback.eigenvalues is None


# Kept and told


def logged(directory: Path) -> dict[str, float]:
    """The first row of a CSVLogger's table."""
    with (directory / "metrics.csv").open() as file:
        row = next(csv.DictReader(file))
    return {key: float(value) for key, value in row.items() if value}


def csv_loggers(directory: Path) -> list[CSVLogger]:
    return [CSVLogger(directory, name="", version=name) for name in ("one", "two")]


@WITHOUT_WORKERS
def test_every_logger_hears_of_it(make_trainer: MakeTrainer, tmp_path: Path) -> None:
    callback = FisherEigenvalues()
    trainer = make_trainer(
        callbacks=[callback], logger=csv_loggers(tmp_path), max_steps=1, log_every_n_steps=1
    )
    trainer.fit(classifier_of(small_network()), loader(images()))
    assert callback.eigenvalues is not None
    values = torch.cat(list(callback.eigenvalues.values()))
    expected = {
        "step": 0,
        "fisher/invalid": 0,
        "fisher/count": 64 * 12 + 12 + 12 * CLASSES + CLASSES,
        "fisher/min": values.min().item(),
        "fisher/median": values.median().item(),
        "fisher/max": values.max().item(),
    }
    assert logged(tmp_path / "one") == logged(tmp_path / "two") == expected


@WITHOUT_WORKERS
@pytest.mark.parametrize("has_trial", [True, False])
def test_an_invalid_run_is_torn_down_with_its_loggers(
    has_trial: bool, make_trainer: MakeTrainer, tmp_path: Path
) -> None:
    trial = optuna.create_study().ask() if has_trial else None
    trainer = make_trainer(
        callbacks=[FisherEigenvalues(trial)], logger=csv_loggers(tmp_path), log_every_n_steps=1
    )
    expected = optuna.TrialPruned if has_trial else InvalidSpectrumError
    with pytest.raises(expected, match="layer '3': "):
        trainer.fit(classifier_of(small_network("zero(x)")), loader(images()))
    assert trainer.state.status == TrainerStatus.INTERRUPTED
    for name in ("one", "two"):
        assert logged(tmp_path / name) == {"step": 0, "fisher/invalid": 1}


@WITHOUT_WORKERS
@pytest.mark.parametrize(
    ("activation", "expected"),
    [
        (
            "tanh(x)",
            r"FisherEigenvalues: 910 eigenvalues of 2 layers in \d+\.\d s; "
            r"logarithms from -?\d+\.\d to -?\d+\.\d, median -?\d+\.\d",
        ),
        ("zero(x)", r"FisherEigenvalues: invalid, found in \d+\.\d s: layer '3': .*vanish.*"),
    ],
)
def test_a_line_says_what_was_found(
    activation: str,
    expected: str,
    make_trainer: MakeTrainer,
    caplog: pytest.LogCaptureFixture,
) -> None:
    trainer = make_trainer(callbacks=[FisherEigenvalues()], max_steps=1)
    caplog.set_level("INFO", "lightning.pytorch.utilities.rank_zero")
    with contextlib.suppress(InvalidSpectrumError):
        trainer.fit(classifier_of(small_network(activation)), loader(images()))
    (line,) = [line for line in caplog.messages if line.startswith("FisherEigenvalues")]
    assert re.fullmatch(expected, line)


# Beside other settings of the training


SETTINGS: dict[str, dict[str, Any]] = {
    "gradient accumulation": {"accumulate_grad_batches": 2},
    "few batches": {"limit_train_batches": 2},
    "a part of the batches": {"limit_train_batches": 0.4},
    "mixed precision": {"precision": "bf16-mixed"},
    "half precision": {"precision": "bf16-true"},
    "double precision": {"precision": "64-true"},
    "a stop at a later epoch": {"min_epochs": 1},
}


@WITHOUT_WORKERS
@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
def test_the_training_takes_any_setting_and_does_not_notice(
    settings: dict[str, Any], make_trainer: MakeTrainer
) -> None:
    found, seen, callback = [], [], FisherEigenvalues()
    for callbacks in ([], [callback]):
        module, watch = classifier_of(small_network()), Watch()
        trainer = make_trainer(callbacks=[*callbacks, watch], **settings)
        trainer.fit(module, loader(images(), shuffle=True, generator=torch.Generator()))
        found.append(weights(module))
        seen.append(torch.cat([batch[0] for batch in watch.seen]))
    assert torch.equal(found[0], found[1])
    assert torch.equal(seen[0], seen[1])
    network = small_network().to(found[0].dtype)
    expected = fisher_log_eigenvalues(network, seen[0][:8].to(found[0].dtype))
    assert callback.eigenvalues is not None
    assert callback.eigenvalues.keys() == expected.keys()
    assert all(torch.equal(callback.eigenvalues[name], expected[name]) for name in expected)


@WITHOUT_WORKERS
@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
def test_with_any_setting_an_invalid_run_ends_before_its_first_step(
    settings: dict[str, Any], make_trainer: MakeTrainer
) -> None:
    module = classifier_of(small_network("zero(x)"))
    trainer = make_trainer(callbacks=[FisherEigenvalues()], **settings)
    with pytest.raises(InvalidSpectrumError, match="layer '3': "):
        trainer.fit(module, loader(images()))
    after = weights(module)
    assert torch.equal(after, weights(small_network()).to(after.dtype))


@WITHOUT_WORKERS
def test_targets_are_not_used(make_trainer: MakeTrainer) -> None:
    found = []
    for targets in (None, torch.rand(40, CLASSES).softmax(dim=1)):
        callback = FisherEigenvalues()
        trainer = make_trainer(callbacks=[callback], max_steps=1)
        trainer.fit(classifier_of(small_network()), loader(images(), targets))
        assert callback.eigenvalues is not None
        found.append(torch.cat(list(callback.eigenvalues.values())))
    assert torch.equal(found[0], found[1])


@pytest.mark.parametrize("activation", ["tanh(x)", "zero(x)"])
def test_optunas_pruning_callback_has_its_turn(
    activation: str,
    hopeless: NetworkOptions,
    data: DigitsDataModule,
    make_trainer: MakeTrainer,
) -> None:
    class Impatient(optuna.pruners.BasePruner):
        def prune(self, study: optuna.Study, trial: optuna.trial.FrozenTrial) -> bool:
            return True

    def objective(trial: optuna.Trial) -> float:
        pruning = PyTorchLightningPruningCallback(trial, monitor="val_accuracy")
        callbacks = [FisherEigenvalues(trial), pruning]
        trainer = make_trainer(callbacks=callbacks, limit_val_batches=1.0, max_epochs=3)
        trainer.fit(classifier(hopeless, activation), datamodule=data)
        return 1.0

    study = optuna.create_study(pruner=Impatient())
    study.optimize(objective, n_trials=1)
    (trial,) = study.trials
    assert trial.state is TrialState.PRUNED
    valid = activation == "tanh(x)"
    assert list(trial.user_attrs) == [SUMMARY_KEY if valid else INVALID_KEY]
    assert list(trial.intermediate_values) == ([0] if valid else [])
