from collections.abc import Callable
from pathlib import Path

import lightning as L
import numpy as np
import optuna
import pytest
import torch
from optuna.trial import TrialState
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

MakeTrainer = Callable[..., L.Trainer]


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
