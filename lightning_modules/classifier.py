"""The one LightningModule: an image classifier trained as in Table 5 of the AQuaSurF paper.

SGD with momentum and weight decay on the cross-entropy; the learning rate rises linearly for the
first epochs and falls linearly to zero afterwards, step by step.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Literal

import lightning as L
import torch
import torch.nn.functional as F
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn

from aquasurf_optuna.activation import ActivationLike
from lightning_modules.autoinit import autoinit_
from lightning_modules.models.all_cnn_c import AllCnnC

NETWORKS: dict[str, Callable[..., nn.Module]] = {"all_cnn_c": AllCnnC}
"""The networks that can be built by name."""


@dataclasses.dataclass(frozen=True)
class NetworkOptions:
    """A network by name.

    Attributes:
        name: A key of `NETWORKS`.
        num_classes: Number of logits.
        in_channels: Channels of the images.
        width: Factor on the channels of the hidden layers.
        dropout: Probability of dropping a value where the network drops values.
        activate_last: Whether the last layer is activated.
        initialization: `"autoinit"` for signals of unit variance, `"torch"` for torch's own.
    """

    name: str = "all_cnn_c"
    num_classes: int = 10
    in_channels: int = 3
    width: float = 1.0
    dropout: float = 0.5
    activate_last: bool = True
    initialization: Literal["autoinit", "torch"] = "autoinit"

    def build(self, activation: ActivationLike) -> nn.Module:
        """Make the network, with weights from torch's global generator.

        Raises:
            ExpressionError: If `activation` is a text that names no function.
            InitializationError: If AutoInit finds no weights for this function.
            ValueError: If an option is out of its range.
        """
        if self.name not in NETWORKS:
            raise ValueError(
                f"NetworkOptions: name must be one of {sorted(NETWORKS)}, got {self.name!r}"
            )
        if self.initialization not in ("autoinit", "torch"):
            raise ValueError(
                "NetworkOptions: initialization must be 'autoinit' or 'torch', "
                f"got {self.initialization!r}"
            )
        network = NETWORKS[self.name](
            activation,
            num_classes=self.num_classes,
            in_channels=self.in_channels,
            width=self.width,
            dropout=self.dropout,
            activate_last=self.activate_last,
        )
        return autoinit_(network) if self.initialization == "autoinit" else network


@dataclasses.dataclass(frozen=True)
class TrainingOptions:
    """How a network is trained; the defaults are those of Table 5.

    Attributes:
        learning_rate: The peak, reached at the end of the warm-up.
        momentum: Of SGD.
        weight_decay: Of SGD, on every parameter.
        warmup_epochs: Epochs of linear rise; fractions are allowed.
    """

    learning_rate: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 1e-4
    warmup_epochs: float = 5.0

    def __post_init__(self) -> None:
        for name in ("learning_rate", "momentum", "weight_decay", "warmup_epochs"):
            if not getattr(self, name) >= 0:
                raise ValueError(
                    f"TrainingOptions: {name} must be 0 or more, got {getattr(self, name)!r}"
                )


class Classifier(L.LightningModule):
    """Trains and evaluates a network that maps images to logits.

    Logs `train_loss`, `train_accuracy`, `val_loss`, `val_accuracy`, `test_loss`, `test_accuracy`,
    means over an epoch. A loss that is not finite ends the training at once, without an update: the
    accuracy of what is left is then measured like any other.

    Args:
        network: Options of a network to build, or a network, which stays as it is.
        activation: The activation function of a network to build, as text. A network that comes
            ready made has its own, and takes None.
        training: How to train.

    Raises:
        ExpressionError: If `activation` names no function.
        InitializationError: If AutoInit finds no weights for this function.
        ValueError: If an option is out of its range, or `activation` is missing or superfluous.
    """

    def __init__(
        self,
        network: NetworkOptions | nn.Module = NetworkOptions(),
        *,
        activation: str | None = None,
        training: TrainingOptions = TrainingOptions(),
    ) -> None:
        super().__init__()
        self.training_options = training
        self.network = _network(network, activation)

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits `[batch, classes]`."""
        logits: Tensor = self.network(images)
        return logits

    def training_step(self, batch: tuple[Tensor, Tensor]) -> Tensor:
        """Return the mean loss of a batch of (images, labels); stop if it is not finite."""
        loss = self._measure(batch, "train")
        if torch.isfinite(loss):
            return loss
        self.trainer.should_stop = True
        # A new zero has no path to the weights: they get no gradient, and SGD leaves them alone.
        return torch.zeros_like(loss, requires_grad=True)

    def validation_step(self, batch: tuple[Tensor, Tensor]) -> None:
        """Log loss and accuracy of a validation batch."""
        self._measure(batch, "val")

    def test_step(self, batch: tuple[Tensor, Tensor]) -> None:
        """Log loss and accuracy of a test batch."""
        self._measure(batch, "test")

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Return SGD and the schedule of the learning rate, which moves at every step."""
        options = self.training_options
        optimizer = torch.optim.SGD(
            self.parameters(),
            lr=options.learning_rate,
            momentum=options.momentum,
            weight_decay=options.weight_decay,
        )
        steps = self.trainer.estimated_stepping_batches
        if steps == float("inf"):
            raise ValueError(
                "Classifier: the learning rate falls to zero at the last step, so the Trainer "
                "needs max_epochs or max_steps"
            )
        warmup = options.warmup_epochs * self.trainer.num_training_batches
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: warmup_then_decay(step, warmup=warmup, total=int(steps))
        )
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": schedule, "interval": "step"},
        }

    def _measure(self, batch: tuple[Tensor, Tensor], stage: str) -> Tensor:
        images, labels = batch
        logits = self(images)
        loss = F.cross_entropy(logits, labels)
        accuracy = (logits.argmax(dim=1) == labels).float().mean()
        self.log_dict(
            {f"{stage}_loss": loss.detach(), f"{stage}_accuracy": accuracy},
            on_step=False,
            on_epoch=True,
            prog_bar=stage == "val",
            batch_size=len(labels),
        )
        return loss


def warmup_then_decay(step: int, *, warmup: float, total: int) -> float:
    """Return the factor on the peak learning rate at a step, counted from 0.

    It rises to 1 over `warmup` steps and falls towards 0, which it would reach at step `total`. No
    step before that has a factor of 0, also when the warm-up is longer than the training.
    """
    rise = (step + 1) / warmup if warmup > 0 else 1.0
    fall = (total - step) / (total - warmup) if total > warmup else 1.0
    return max(0.0, min(1.0, rise, fall))


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
