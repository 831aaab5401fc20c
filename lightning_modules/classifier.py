"""The one LightningModule: an image classifier, trained as its `TrainingOptions` say."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any, Literal

import lightning as L
import torch
import torch.nn.functional as F
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn

from lightning_modules.networks import NetworkOptions
from lightning_modules.training import TrainingOptions

CompileMode = Literal["default", "reduce-overhead", "max-autotune"]
Batch = tuple[Tensor, Tensor] | list[Tensor]

_NETWORK = NetworkOptions()
_TRAINING = TrainingOptions()


class Classifier(L.LightningModule):
    """Trains and evaluates a network that maps images to logits.

    A batch is (images, targets): class numbers `[batch]`, or probabilities `[batch, classes]` as
    Mixup and CutMix make them, where the most probable class counts for the accuracy.

    Logs `train_loss`, `train_accuracy`, `val_loss`, `val_accuracy`, `test_loss`, `test_accuracy`,
    means over an epoch. A loss that is not finite ends the training at once, without an update: the
    accuracy of what is left is then measured like any other.

    A checkpoint of a network built here holds what it was built from, as plain values, so that
    `Classifier.load_from_checkpoint(path)` builds it again, activation included. For a network that
    came ready made pass it again: `load_from_checkpoint(path, network=network)`.

    Args:
        network: Options of a network to build (a dictionary of them, when a checkpoint is read),
            or a network, which stays as it is.
        activation: The activation function of a network to build, as text. A network that comes
            ready made has its own, and takes None.
        training: How to train.
        compile_mode: How `torch.compile` compiles the network; None leaves it as it is.

    Raises:
        ExpressionError: If `activation` names no function.
        InitializationError: If AutoInit finds no weights for this function.
        UnsupportedModelError: If the network takes no activation.
        ValueError: If an option is out of its range, or `activation` is missing or superfluous.
    """

    def __init__(
        self,
        network: NetworkOptions | nn.Module | dict[str, Any] = _NETWORK,
        *,
        activation: str | None = None,
        training: TrainingOptions | dict[str, Any] = _TRAINING,
        compile_mode: CompileMode | None = None,
    ) -> None:
        super().__init__()
        options = NetworkOptions(**network) if isinstance(network, dict) else network
        self.training_options = (
            TrainingOptions(**training) if isinstance(training, dict) else training
        )
        self.compile_mode = compile_mode
        self.network = _network(options, activation)
        self._compiled: list[Callable[[Tensor], Tensor]] = []
        # Loss and accuracy of each batch of the epoch, and how many images it has.
        self._totals: list[tuple[Tensor, int]] = []
        self.save_hyperparameters(_plain(options, activation, self.training_options, compile_mode))

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits `[batch, classes]`."""
        logits: Tensor = self._runner()(images)
        return logits

    def training_step(self, batch: Batch) -> Tensor:
        """Return the mean loss of a batch of (images, targets); stop if it is not finite."""
        loss = self._measure(batch, "train")
        # All processes stop together: one that went on alone would wait for the others forever.
        finite = bool(torch.isfinite(loss))
        if self.trainer.strategy.reduce_boolean_decision(finite, all=True):
            return loss
        self.trainer.should_stop = True
        # A new zero has no path to the weights: they get no gradient and no update.
        return torch.zeros_like(loss, requires_grad=True)

    def validation_step(self, batch: Batch) -> None:
        """Log loss and accuracy of a validation batch."""
        self._measure(batch, "val")

    def test_step(self, batch: Batch) -> None:
        """Log loss and accuracy of a test batch."""
        self._measure(batch, "test")

    def predict_step(self, batch: Batch | Tensor) -> Tensor:
        """Return the probabilities `[batch, classes]` of a batch of images, targets or not."""
        images = batch if isinstance(batch, Tensor) else batch[0]
        logits: Tensor = self(images)
        return logits.softmax(dim=1)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Return the optimiser, and its schedule, which moves at every step.

        Raises:
            ValueError: If the training, or an epoch of the warm-up, has no end that is known.
        """
        steps = self.trainer.estimated_stepping_batches
        if steps == float("inf"):
            raise ValueError(
                "Classifier: the learning rate falls to its last value at the last step, so the "
                "Trainer needs max_epochs or max_steps"
            )
        optimizer = self.training_options.make_optimizer(self.parameters())
        schedule = self.training_options.make_schedule(
            optimizer, steps_per_epoch=self._steps_per_epoch(), total=int(steps)
        )
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": schedule, "interval": "step"},
        }

    def _steps_per_epoch(self) -> int:
        batches = self.trainer.num_training_batches
        if math.isfinite(batches):
            return math.ceil(batches / self.trainer.accumulate_grad_batches)
        if self.training_options.warmup_epochs > 0:
            raise ValueError(
                "Classifier: the warm-up counts epochs, but the training data has no length; give "
                "the Trainer limit_train_batches, or the training warmup_epochs=0"
            )
        return 0

    def __getstate__(self) -> dict[str, Any]:
        """Leave out the compiled network, which another process makes for itself."""
        return self.__dict__ | {"_compiled": []}

    def _runner(self) -> Callable[[Tensor], Tensor]:
        """Return the network, compiled if it shall be.

        The compiled one stands in a list, where torch does not take it for a second network with
        weights of its own: checkpoints stay the same, and hooks see the network as it is.
        """
        if self.compile_mode is None:
            return self.network
        if not self._compiled:
            self._compiled.append(torch.compile(self.network, mode=self.compile_mode))
        return self._compiled[0]

    def _measure(self, batch: Batch, stage: str) -> Tensor:
        images, targets = batch
        logits = self(images)
        loss = F.cross_entropy(logits, targets)
        classes = targets.argmax(dim=1) if targets.is_floating_point() else targets
        accuracy = (logits.argmax(dim=1) == classes).float().mean()
        measured = torch.stack([loss.detach().float(), accuracy])
        if stage == "train":
            self._totals.append((measured, len(images)))
            if self.trainer.is_last_batch:
                self._log_training()
        else:
            self._log(stage, measured, len(images))
        return loss

    def on_train_epoch_start(self) -> None:
        """Forget an epoch that was cut off."""
        self._totals.clear()

    def on_train_epoch_end(self) -> None:
        """Log what an epoch gave that ended before its last batch."""
        self._log_training()

    def _log_training(self) -> None:
        """Log loss and accuracy over the batches of an epoch at once.

        Lightning takes longer to log a number than a small network's step lasts.
        """
        if self._totals:
            measured, sizes = zip(*self._totals, strict=True)
            weights = measured[0].new_tensor(sizes)
            mean = (weights @ torch.stack(measured)) / weights.sum()
            self._totals.clear()
            self._log("train", mean, sum(sizes))

    def _log(self, stage: str, measured: Tensor, count: int) -> None:
        self.log_dict(
            {f"{stage}_loss": measured[0], f"{stage}_accuracy": measured[1]},
            on_step=False,
            on_epoch=True,
            prog_bar=stage == "val",
            batch_size=count,
            sync_dist=True,
        )


def _network(network: NetworkOptions | nn.Module, activation: str | None) -> nn.Module:
    if isinstance(network, NetworkOptions):
        if activation is None:
            raise ValueError(
                "Classifier: activation is missing; give the function of the network to build, "
                "such as activation='relu(x)'"
            )
        return network.build(activation)
    if activation is not None:
        raise ValueError(
            f"Classifier: activation={activation!r} has no effect on a network that is built "
            "already; build it with this activation, or leave the argument out"
        )
    return network


def _plain(
    network: NetworkOptions | nn.Module,
    activation: str | None,
    training: TrainingOptions,
    compile_mode: CompileMode | None,
) -> dict[str, Any]:
    """Return the constructor's arguments as plain values, which no reader has to unpickle."""
    plain: dict[str, Any] = {
        "training": dataclasses.asdict(training),
        "compile_mode": compile_mode,
    }
    if isinstance(network, NetworkOptions):
        plain |= {"network": dataclasses.asdict(network), "activation": str(activation)}
    return plain
