import dataclasses
import logging
import pickle

import lightning as L
import pytest
import torch
from torch import nn

from aquasurf_optuna.activation import Activation
from aquasurf_optuna.exceptions import InitializationError
from aquasurf_optuna.expression import Expression
from lightning_modules.digits_recipe import (
    DIGITS_RECIPE,
    DigitsRecipe,
    build_digits_model,
    train_digits,
)
from lightning_modules.networks import NetworkOptions


@pytest.fixture
def short(tiny: NetworkOptions) -> DigitsRecipe:
    return dataclasses.replace(DIGITS_RECIPE, network=tiny, epochs=2, eval_copies=1)


def test_a_seed_gives_the_same_result_again(short: DigitsRecipe) -> None:
    torch.manual_seed(1)
    first = train_digits("elu(x)", seed=4, recipe=short, test=True)
    torch.manual_seed(2)
    state = torch.get_rng_state()
    again = train_digits(Expression.parse("elu(x)"), seed=4, recipe=short, test=True)
    assert torch.equal(state, torch.get_rng_state())
    assert first[:2] == again[:2]
    other = train_digits("elu(x)", seed=5, recipe=short, test=True)
    assert first[:2] != other[:2]
    assert first.seconds > 0


def test_the_test_set_is_measured_on_request_only(short: DigitsRecipe) -> None:
    assert train_digits("elu(x)", seed=0, recipe=short).test_accuracy is None
    result = train_digits("elu(x)", seed=0, recipe=short, test=True)
    assert result.test_accuracy is not None
    assert 0 <= result.test_accuracy <= 1
    assert result.test_accuracy != result.validation_accuracy


def test_training_beats_chance_in_the_default_recipe() -> None:
    result = train_digits("selu(x)", seed=0)
    assert result.validation_accuracy > 0.6


def test_callbacks_run_in_the_training(short: DigitsRecipe) -> None:
    epochs: list[int] = []

    class Count(L.Callback):
        def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
            epochs.append(trainer.current_epoch)

    train_digits("elu(x)", seed=0, recipe=short, callbacks=[Count()])
    assert epochs == [0, 1]


def test_a_run_says_nothing(
    short: DigitsRecipe, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    level = logging.getLogger("lightning.pytorch").level
    train_digits("elu(x)", seed=0, recipe=short, test=True)
    assert capfd.readouterr() == ("", "")
    assert caplog.records == []
    assert logging.getLogger("lightning.pytorch").level == level


def test_a_function_without_initialisation_is_refused(short: DigitsRecipe) -> None:
    with pytest.raises(InitializationError, match="'act1'"):
        train_digits("reciprocal(x)", seed=0, recipe=short)


def test_the_model_builder_can_be_sent_to_other_processes() -> None:
    build = pickle.loads(pickle.dumps(build_digits_model))
    torch.manual_seed(0)
    one = build(Activation.factory("tanh(x)"))
    torch.manual_seed(0)
    two = build(nn.Tanh)
    images = DIGITS_RECIPE.data(seed=0).training_images(0).images[:4]
    assert torch.equal(one(images), two(images))
    assert one(images).shape == (4, 10)
