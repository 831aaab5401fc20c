import pickle
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

from aquasurf_optuna.exceptions import ExpressionError, InitializationError
from lightning_modules.classifier import Classifier
from lightning_modules.data.digits import PLAIN, DigitsDataModule
from lightning_modules.networks import NetworkOptions
from lightning_modules.training import TrainingOptions

MakeTrainer = Callable[..., L.Trainer]

pytestmark = pytest.mark.filterwarnings("ignore:.*does not have many workers")


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


class Recorder(L.Callback):
    """Computes loss and accuracy of each epoch, and notes whether they are logged by its end."""

    def __init__(self) -> None:
        self.batches: list[tuple[Tensor, Tensor]] = []
        self.expected: list[tuple[float, float]] = []
        self.seen: list[bool] = []

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        assert isinstance(pl_module, Classifier)
        pl_module.network.register_forward_hook(self._keep)

    def _keep(self, module: nn.Module, inputs: tuple[Tensor], logits: Tensor) -> None:
        if module.training:
            self.logits = logits.detach()

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: object, *args: Any
    ) -> None:
        self.batches.append((self.logits, args[0][1]))

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        logits, targets = map(torch.cat, zip(*self.batches, strict=True))
        self.batches.clear()
        accuracy = (logits.argmax(1) == targets).double().mean().item()
        loss = nn.functional.cross_entropy(logits.double(), targets).item()
        self.expected.append((loss, accuracy))
        self.seen.append("train_loss" in trainer.callback_metrics)


@pytest.mark.parametrize(
    "limits", [{}, {"limit_train_batches": 3}, {"max_steps": 5}], ids=["whole", "limit", "cut off"]
)
def test_training_metrics_are_means_over_the_images_of_an_epoch(
    limits: dict[str, int], make_trainer: MakeTrainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Of the 900 images, 140 in a batch leave a smaller last one.
    data = DigitsDataModule(PLAIN, batch_size=140)
    classifier = Classifier(nn.Sequential(nn.Flatten(), nn.Linear(64, 10)))
    recorder, logged = Recorder(), []
    log = Classifier.log_dict

    def counted(self: Classifier, metrics: dict[str, Tensor], **options: Any) -> None:
        logged.extend(name for name in metrics if name.startswith("train"))
        log(self, metrics, **options)

    monkeypatch.setattr(Classifier, "log_dict", counted)
    options = {"limit_train_batches": 1.0, "max_epochs": 1 if "max_steps" in limits else 2} | limits
    trainer = make_trainer(callbacks=[recorder], **options)
    trainer.fit(classifier, datamodule=data)
    found = trainer.callback_metrics
    assert (found["train_loss"].item(), found["train_accuracy"].item()) == pytest.approx(
        recorder.expected[-1], abs=1e-6
    )
    assert len(logged) == 2 * len(recorder.expected)
    if not limits:
        assert recorder.seen == [True, True]


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


def test_training_without_an_end_is_refused(make_trainer: MakeTrainer) -> None:
    classifier = Classifier(nn.Sequential(nn.Flatten(), nn.Linear(64, 10)))
    with pytest.raises(ValueError, match="needs max_epochs or max_steps"):
        make_trainer(max_epochs=-1).fit(classifier, datamodule=DigitsDataModule(PLAIN))


class Endless(IterableDataset[tuple[Tensor, Tensor]]):
    """Batches without end."""

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        while True:
            yield torch.zeros(4, 64), torch.arange(4)


def test_data_without_length_trains_but_has_no_epochs_to_warm_up(make_trainer: MakeTrainer) -> None:
    loader = DataLoader(Endless(), batch_size=None)
    for warmup in (0.0, 1.0):
        training = TrainingOptions(warmup_epochs=warmup)
        classifier = Classifier(nn.Linear(64, 10), training=training)
        trainer = make_trainer(max_steps=3, max_epochs=-1)
        if warmup:
            with pytest.raises(ValueError, match="give the Trainer limit_train_batches"):
                trainer.fit(classifier, loader, loader)
        else:
            trainer.fit(classifier, loader, loader)
            assert trainer.global_step == 3


def test_training_uses_the_given_options(make_trainer: MakeTrainer) -> None:
    options = TrainingOptions(learning_rate=0.2, momentum=0.7, weight_decay=0.01)
    classifier = Classifier(nn.Sequential(nn.Flatten(), nn.Linear(64, 10)), training=options)
    trainer = make_trainer()
    trainer.fit(classifier, datamodule=DigitsDataModule(PLAIN, batch_size=900))
    (group,) = trainer.optimizers[0].param_groups
    assert (group["momentum"], group["weight_decay"]) == (0.7, 0.01)
    assert group["initial_lr"] == 0.2


def test_a_ready_made_network_stays_as_it_is() -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    weight = network[1].weight.clone()
    classifier = Classifier(network)
    assert classifier.network is network
    assert torch.equal(network[1].weight, weight)
    with pytest.raises(ValueError, match=r"activation='relu\(x\)' has no effect on a network"):
        Classifier(network, activation="relu(x)")


def test_an_activation_is_asked_for(tiny: NetworkOptions) -> None:
    with pytest.raises(ValueError, match="activation is missing"):
        Classifier(tiny)
    with pytest.raises(ExpressionError, match="relux"):
        Classifier(tiny, activation="relux(x)")
    with pytest.raises(InitializationError, match="'act1'"):
        Classifier(tiny, activation="zero(x)")


def test_soft_targets_train_and_their_likeliest_class_counts(make_trainer: MakeTrainer) -> None:
    torch.manual_seed(0)
    images, labels = torch.randn(60, 1, 8, 8), torch.arange(60) % 10
    soft = 0.7 * nn.functional.one_hot(labels, 10) + 0.03
    measured = []
    for targets in (soft, labels):
        loader = DataLoader(TensorDataset(images, targets), batch_size=30)
        network = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
        network[1].load_state_dict({"weight": torch.eye(10, 64), "bias": torch.zeros(10)})
        trainer = make_trainer(limit_val_batches=1.0)
        (logged,) = trainer.validate(Classifier(network), loader, verbose=False)
        measured.append(logged)
        logits = images.flatten(1)[:, :10]
        loss = -(targets * logits.log_softmax(1)).sum(1).mean() if targets is soft else None
        if loss is not None:
            assert logged["val_loss"] == pytest.approx(loss.item(), rel=1e-5)
    assert measured[0]["val_accuracy"] == measured[1]["val_accuracy"]
    assert measured[0]["val_loss"] != measured[1]["val_loss"]


def test_a_checkpoint_builds_its_network_and_activation_again(
    tiny: NetworkOptions, make_trainer: MakeTrainer, tmp_path: Path
) -> None:
    training = TrainingOptions(optimizer="adamw", learning_rate=0.01, warmup_epochs=0)
    classifier = Classifier(tiny, activation="mul(x,sigmoid(elu(x)))", training=training)
    trainer = make_trainer(max_steps=2)
    trainer.fit(classifier, datamodule=DigitsDataModule(PLAIN, batch_size=50))
    trainer.save_checkpoint(tmp_path / "run.ckpt")
    # Plain values only: reading it can run no code.
    checkpoint = torch.load(tmp_path / "run.ckpt", weights_only=True)
    assert checkpoint["hyper_parameters"]["activation"] == "mul(x,sigmoid(elu(x)))"
    again = Classifier.load_from_checkpoint(tmp_path / "run.ckpt").eval()
    assert str(again.network.act1.expression) == "mul(x,sigmoid(elu(x)))"
    assert again.training_options == training
    images = DigitsDataModule(PLAIN).evaluation_images("validation").images
    assert torch.equal(again(images), classifier.eval()(images))


def test_a_checkpoint_of_a_ready_made_network_takes_it_again(
    make_trainer: MakeTrainer, tmp_path: Path
) -> None:
    classifier = Classifier(nn.Sequential(nn.Flatten(), nn.Linear(64, 10)))
    trainer = make_trainer(max_steps=1)
    trainer.fit(classifier, datamodule=DigitsDataModule(PLAIN))
    trainer.save_checkpoint(tmp_path / "run.ckpt")
    other = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    again = Classifier.load_from_checkpoint(tmp_path / "run.ckpt", network=other)
    assert again.network is other
    assert torch.equal(other[1].weight, classifier.network[1].weight)


def test_predictions_are_probabilities(make_trainer: MakeTrainer) -> None:
    classifier = Classifier(nn.Sequential(nn.Flatten(), nn.Linear(64, 10)))
    data = DigitsDataModule(PLAIN)
    images, labels = data.evaluation_images("test")
    loader = DataLoader(TensorDataset(images, labels), batch_size=200)
    batches = make_trainer().predict(classifier, loader)
    assert batches is not None
    probabilities = torch.cat([batch for batch in batches if isinstance(batch, Tensor)])
    assert torch.allclose(probabilities, classifier(images).softmax(1))
    assert classifier.predict_step(images[:3]).shape == (3, 10)


def test_accumulated_batches_count_as_one_step_of_the_warm_up(make_trainer: MakeTrainer) -> None:
    rates: list[float] = []

    class Recorder(L.Callback):
        def on_before_optimizer_step(self, trainer: L.Trainer, *_: object) -> None:
            rates.append(trainer.optimizers[0].param_groups[0]["lr"])

    training = TrainingOptions(learning_rate=0.4, warmup_epochs=1.0)
    classifier = Classifier(nn.Sequential(nn.Flatten(), nn.Linear(64, 10)), training=training)
    trainer = make_trainer(max_epochs=2, accumulate_grad_batches=2, callbacks=[Recorder()])
    trainer.fit(classifier, datamodule=DigitsDataModule(PLAIN, batch_size=225))
    # Four batches an epoch are two steps: two of warm-up, then two down to 0.
    assert rates == pytest.approx([0.2, 0.4, 0.4, 0.2])


@pytest.mark.parametrize("precision", ["bf16-mixed", "bf16-true", "64-true"])
def test_trains_in_other_precisions(
    precision: str, tiny: NetworkOptions, make_trainer: MakeTrainer
) -> None:
    classifier = Classifier(tiny, activation="swish(x)")
    before = classifier.network.conv9.weight.detach().float().clone()
    trainer = make_trainer(max_steps=3, precision=precision)
    trainer.fit(classifier, datamodule=DigitsDataModule(PLAIN))
    after = classifier.network.conv9.weight.detach()
    assert after.dtype == {"bf16-true": torch.bfloat16, "64-true": torch.float64}.get(
        precision, torch.float32
    )
    assert not torch.equal(before, after.float())


@pytest.mark.slow
def test_a_compiled_network_trains_alike_and_leaves_the_checkpoint_as_it_is(
    tiny: NetworkOptions, make_trainer: MakeTrainer
) -> None:
    states = []
    for mode in (None, "default"):
        torch.manual_seed(0)
        classifier = Classifier(tiny, activation="swish(x)", compile_mode=mode)  # type: ignore[arg-type]
        make_trainer(max_steps=3).fit(classifier, datamodule=DigitsDataModule(PLAIN))
        states.append(classifier.state_dict())
        assert (classifier._runner() is classifier.network) == (mode is None)
        assert classifier.hparams["compile_mode"] == mode
        assert pickle.loads(pickle.dumps(classifier)).state_dict().keys() == states[-1].keys()
    assert states[0].keys() == states[1].keys()
    for name, value in states[0].items():
        assert torch.allclose(value, states[1][name], atol=1e-5), name
