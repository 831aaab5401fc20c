"""Trials that end because the surrogate expects too little of them."""

from collections.abc import Callable
from typing import Any

import lightning as L
import optuna
import pytest
from optuna.trial import TrialState

from aquasurf_optuna.sampler import AquaSurfSampler
from aquasurf_optuna.space import SearchSpace
from lightning_modules.callbacks import (
    INVALID_KEY,
    PREDICTION_KEY,
    SUMMARY_KEY,
    FisherEigenvalues,
)
from tests.lightning_modules.callbacks.helpers import (
    classifier_of,
    images,
    loader,
    small_network,
)

MakeTrainer = Callable[..., L.Trainer]
SPACE = SearchSpace(
    "binary(unary(x),unary(x))", unary=("relu", "tanh", "identity", "zero"), binary=("add", "mul")
)

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
    pytest.mark.filterwarnings("ignore:.*but have no `val_dataloader`"),
]


def train(
    make_trainer: MakeTrainer,
    direction: str,
    predicted: float | None,
    activation: str = "tanh(x)",
) -> optuna.trial.FrozenTrial:
    """One trial with a threshold of 0.5."""

    def objective(trial: optuna.Trial) -> float:
        callback = FisherEigenvalues(trial, predict=lambda _: predicted, worse_than=0.5)
        trainer = make_trainer(callbacks=[callback], max_steps=1)
        try:
            trainer.fit(classifier_of(small_network(activation)), loader(images()))
        finally:
            pruned = callback.reason is not None or trainer.global_step == 0
            assert callback.prediction == (None if activation == "zero(x)" else predicted)
        assert not pruned
        return 0.0

    study = optuna.create_study(direction=direction)
    study.optimize(objective, n_trials=1)
    return study.trials[0]


@pytest.mark.parametrize(
    ("direction", "predicted", "state"),
    [
        ("maximize", 0.25, TrialState.PRUNED),
        ("maximize", 0.5, TrialState.COMPLETE),
        ("maximize", 0.75, TrialState.COMPLETE),
        ("maximize", None, TrialState.COMPLETE),
        ("minimize", 0.25, TrialState.COMPLETE),
        ("minimize", 0.5, TrialState.COMPLETE),
        ("minimize", 0.75, TrialState.PRUNED),
        ("minimize", None, TrialState.COMPLETE),
    ],
)
def test_what_is_worse_than_the_threshold_is_pruned(
    direction: str, predicted: float | None, state: TrialState, make_trainer: MakeTrainer
) -> None:
    trial = train(make_trainer, direction, predicted)
    assert trial.state is state
    assert list(trial.user_attrs) == [SUMMARY_KEY, PREDICTION_KEY]
    assert trial.user_attrs[PREDICTION_KEY] == {"predicted": predicted, "worse_than": 0.5}


def test_invalid_eigenvalues_need_no_prediction(make_trainer: MakeTrainer) -> None:
    trial = train(make_trainer, "maximize", 0.75, activation="zero(x)")
    assert trial.state is TrialState.PRUNED
    assert list(trial.user_attrs) == [INVALID_KEY]


def test_the_message_names_both_values(make_trainer: MakeTrainer) -> None:
    trial = optuna.create_study(direction="maximize").ask()
    callback = FisherEigenvalues(trial, predict=lambda _: 0.125, worse_than=0.6)
    trainer = make_trainer(callbacks=[callback])
    with pytest.raises(optuna.TrialPruned, match=r"predicts 0\.125, worse than the threshold 0\.6"):
        trainer.fit(classifier_of(small_network()), loader(images()))


def test_the_sampler_predicts(make_trainer: MakeTrainer) -> None:
    sampler = AquaSurfSampler(SPACE, surrogate="paper", seed=0)
    study = optuna.create_study(direction="maximize", sampler=sampler)
    texts = ["add(zero(x),tanh(x))", "mul(relu(x),tanh(x))"]

    def objective(trial: optuna.Trial) -> float:
        expression = str(SPACE.suggest(trial, "activation"))
        callback = FisherEigenvalues(trial, predict=sampler.predict, worse_than=0.5)
        trainer = make_trainer(callbacks=[callback], max_steps=1)
        trainer.fit(classifier_of(small_network(expression)), loader(images()))
        return float(expression == texts[0])

    # Nearest neighbours predict a function seen before as it went.
    for text in texts * 2:
        study.enqueue_trial(SPACE.params_of(text, "activation"))
    study.optimize(objective, n_trials=4)
    assert [trial.state.name for trial in study.trials] == [*["COMPLETE"] * 3, "PRUNED"]
    predictions = [trial.user_attrs[PREDICTION_KEY]["predicted"] for trial in study.trials]
    assert predictions == [None, 1.0, 1.0, 0.0]


def test_what_does_not_go_together_is_refused() -> None:
    trial = optuna.create_study().ask()
    fixed = optuna.trial.FixedTrial({})

    def predict(trial: optuna.Trial) -> float | None:
        raise AssertionError("not to be called")

    combinations: list[dict[str, Any]] = [
        {"trial": trial, "predict": predict},
        {"trial": trial, "worse_than": 0.5},
        {"trial": fixed, "predict": predict, "worse_than": 0.5},
        {"predict": predict, "worse_than": 0.5},
        {"worse_than": 0.5},
    ]
    for combination in combinations:
        with pytest.raises(ValueError, match="give all of trial .*, predict and worse_than, got"):
            FisherEigenvalues(**combination)
    for threshold in (float("nan"), float("inf")):
        with pytest.raises(ValueError, match=f"worse_than must be finite, got {threshold}"):
            FisherEigenvalues(trial, predict=predict, worse_than=threshold)
