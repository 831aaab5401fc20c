from collections.abc import Callable

import lightning as L
import pytest
import torch
from torch import Tensor, nn

from aquasurf_optuna.exceptions import ExpressionError, InitializationError
from lightning_modules.classifier import (
    Classifier,
    NetworkOptions,
    TrainingOptions,
    warmup_then_decay,
)
from lightning_modules.data.digits import PLAIN, DigitsDataModule

MakeTrainer = Callable[..., L.Trainer]


class Fragile(nn.Module):
    """A linear network whose logits become `value` from some training step on."""

    def __init__(self, *, breaks_at: int, value: float) -> None:
        super().__init__()
        self.linear = nn.Linear(64, 10)
        self.breaks_at, self.value, self.steps = breaks_at, value, 0
        self.before: list[Tensor] = []

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.linear(images.flatten(1))
        if not self.training:
            return logits
        self.steps += 1
        self.before.append(self.linear.weight.detach().clone())
        return logits * self.value if self.steps >= self.breaks_at else logits


def test_learns_plain_digits(make_trainer: MakeTrainer) -> None:
    network = NetworkOptions(in_channels=1, width=1 / 12, dropout=0.0, activate_last=False)
    training = TrainingOptions(learning_rate=0.05, warmup_epochs=1)
    classifier = Classifier(network, activation="elu(x)", training=training)
    trainer = make_trainer(max_epochs=5, limit_val_batches=1.0, num_sanity_val_steps=0)
    trainer.fit(classifier, datamodule=DigitsDataModule(PLAIN, batch_size=30))
    metrics = trainer.callback_metrics
    assert set(metrics) == {"train_loss", "train_accuracy", "val_loss", "val_accuracy"}
    assert metrics["val_accuracy"] > 0.6
    (tested,) = trainer.test(classifier, datamodule=DigitsDataModule(PLAIN), verbose=False)
    assert tested["test_accuracy"] > 0.6


def test_logged_values_are_means_over_all_images(make_trainer: MakeTrainer) -> None:
    classifier = Classifier(nn.Sequential(nn.Flatten(), nn.Linear(64, 10)))
    data = DigitsDataModule(PLAIN, eval_batch_size=400)
    trainer = make_trainer(limit_val_batches=1.0)
    (logged,) = trainer.validate(classifier, datamodule=data, verbose=False)
    images, labels = data.evaluation_images("validation")
    logits = classifier(images)
    accuracy = (logits.argmax(1) == labels).double().mean().item()
    loss = nn.functional.cross_entropy(logits, labels).item()
    assert logged == pytest.approx({"val_accuracy": accuracy, "val_loss": loss}, abs=1e-6)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_ends_the_training_cleanly(
    value: float, make_trainer: MakeTrainer
) -> None:
    network = Fragile(breaks_at=4, value=value)
    trainer = make_trainer(max_epochs=5)
    trainer.fit(Classifier(network), datamodule=DigitsDataModule(PLAIN, batch_size=90))
    assert network.steps == 4
    assert not torch.equal(network.before[2], network.before[3])
    assert torch.equal(network.before[3], network.linear.weight)


def test_a_diverged_network_has_the_accuracy_of_chance(make_trainer: MakeTrainer) -> None:
    training = TrainingOptions(learning_rate=1e20, warmup_epochs=0)
    classifier = Classifier(nn.Sequential(nn.Flatten(), nn.Linear(64, 10)), training=training)
    data = DigitsDataModule(PLAIN)
    make_trainer(max_epochs=3).fit(classifier, datamodule=data)
    evaluator = make_trainer(limit_val_batches=1.0)
    (logged,) = evaluator.validate(classifier, datamodule=data, verbose=False)
    assert 0.0 <= logged["val_accuracy"] < 0.35


def test_learning_rate_rises_and_falls_by_step(make_trainer: MakeTrainer) -> None:
    rates: list[float] = []

    class Recorder(L.Callback):
        def on_train_batch_start(self, trainer: L.Trainer, *_: object) -> None:
            rates.append(trainer.optimizers[0].param_groups[0]["lr"])

    training = TrainingOptions(learning_rate=0.3, warmup_epochs=1.5)
    classifier = Classifier(nn.Sequential(nn.Flatten(), nn.Linear(64, 10)), training=training)
    data = DigitsDataModule(PLAIN, batch_size=450)
    make_trainer(max_epochs=4, callbacks=[Recorder()]).fit(classifier, datamodule=data)
    # Two steps an epoch: three of warm-up, then five down to 0, which the ninth would have.
    assert rates == pytest.approx([0.1, 0.2, 0.3, 0.3, 0.24, 0.18, 0.12, 0.06])


def test_every_step_of_any_schedule_moves() -> None:
    for warmup in (0.0, 0.5, 3.0, 10.0, 99.0):
        factors = [warmup_then_decay(step, warmup=warmup, total=10) for step in range(10)]
        assert all(0 < factor <= 1 for factor in factors)
        assert warmup_then_decay(12, warmup=min(warmup, 3.0), total=10) == 0


def test_training_without_an_end_is_refused(make_trainer: MakeTrainer) -> None:
    classifier = Classifier(nn.Sequential(nn.Flatten(), nn.Linear(64, 10)))
    with pytest.raises(ValueError, match="needs max_epochs or max_steps"):
        make_trainer(max_epochs=-1).fit(classifier, datamodule=DigitsDataModule(PLAIN))


def test_training_uses_the_given_options(make_trainer: MakeTrainer) -> None:
    options = TrainingOptions(learning_rate=0.2, momentum=0.7, weight_decay=0.01)
    classifier = Classifier(nn.Sequential(nn.Flatten(), nn.Linear(64, 10)), training=options)
    trainer = make_trainer()
    trainer.fit(classifier, datamodule=DigitsDataModule(PLAIN, batch_size=900))
    (group,) = trainer.optimizers[0].param_groups
    assert (group["momentum"], group["weight_decay"]) == (0.7, 0.01)
    assert group["initial_lr"] == 0.2


def test_initialization_is_a_choice(tiny: NetworkOptions) -> None:
    def second_layer(initialization: str) -> nn.Conv2d:
        torch.manual_seed(0)
        options = NetworkOptions(in_channels=1, initialization=initialization)  # type: ignore[arg-type]
        layer: nn.Conv2d = options.build("relu(x)").get_submodule("conv5")
        return layer

    # fan_in 9 * 192, second moment of relu 1/2; torch's own has no zero biases.
    layer = second_layer("autoinit")
    assert layer.weight.var().item() == pytest.approx(2 / (9 * 192), rel=0.02)
    assert not layer.bias.any()
    assert second_layer("torch").bias.all()
    with pytest.raises(InitializationError, match="'act1'"):
        Classifier(tiny, activation="zero(x)")


def test_a_ready_made_network_stays_as_it_is() -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    weight = network[1].weight.clone()
    classifier = Classifier(network)
    assert classifier.network is network
    assert torch.equal(network[1].weight, weight)
    with pytest.raises(ValueError, match=r"activation='relu\(x\)' has no effect on a network"):
        Classifier(network, activation="relu(x)")


def test_bad_options_are_refused(tiny: NetworkOptions) -> None:
    with pytest.raises(ValueError, match="activation is missing"):
        Classifier(tiny)
    with pytest.raises(ExpressionError, match="relux"):
        Classifier(tiny, activation="relux(x)")
    with pytest.raises(ValueError, match=r"name must be one of \['all_cnn_c'\], got 'vgg'"):
        NetworkOptions(name="vgg").build("relu(x)")
    with pytest.raises(ValueError, match="initialization must be 'autoinit' or 'torch', got 'he'"):
        NetworkOptions(initialization="he").build("relu(x)")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"momentum must be 0 or more, got -0\.9"):
        TrainingOptions(momentum=-0.9)
