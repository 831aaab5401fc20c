"""Networks by name: one frozen record of options, from which a network is built and initialised."""

from __future__ import annotations

import dataclasses
import difflib
import inspect
from collections.abc import Callable
from typing import Any, Literal

from torch import nn

from aquasurf_optuna.activation import ActivationLike
from lightning_modules import models
from lightning_modules.autoinit import autoinit_

NETWORKS = {
    "all_cnn_c": "AllCnnC",
    "resnet56": "ResNet56",
    "mobilevitv2": "MobileViTV2",
    "coatnet": "CoAtNet",
    "resnet50": "ResNet50",
}
"""The networks that can be built by name, and their classes in `lightning_modules.models`; any
other one of timm is named `timm/<its name>`."""

Initialization = Literal["autoinit", "torch"]

_TIMM = "timm/"
_INITIALIZATIONS = ("autoinit", "torch")


@dataclasses.dataclass(frozen=True)
class NetworkOptions:
    """A network by name.

    Attributes:
        name: A key of `NETWORKS`, or `timm/` and the name of a network of timm's.
        num_classes: Number of logits.
        in_channels: Channels of the images.
        image_size: Side of the square images; AutoInit counts the zero padding that they meet, and
            CoAtNet's position biases are made for it.
        initialization: `"autoinit"` for signals of unit variance, `"torch"` for the network's own.
        width: Factor on the hidden channels; None takes the network's own.
        dropout: Probability of dropping a value where the network drops values; None likewise.
        activate_last: Whether the last layer of All-CNN-C is activated; None likewise.
        options: What else the network's constructor takes, by name.
    """

    name: str = "all_cnn_c"
    num_classes: int = 10
    in_channels: int = 3
    image_size: int = 32
    initialization: Initialization = "autoinit"
    width: float | None = None
    dropout: float | None = None
    activate_last: bool | None = None
    options: dict[str, Any] = dataclasses.field(default_factory=dict)

    def build(self, activation: ActivationLike) -> nn.Module:
        """Make the network, with weights from torch's global generator.

        Raises:
            ExpressionError: If `activation` is a text that names no function.
            InitializationError: If AutoInit finds no weights for this function.
            UnsupportedModelError: If timm has no such network, or it takes no activation, or
                AutoInit does not know one of its operations.
            ValueError: If an option is out of its range, or not the network's.
        """
        if self.initialization not in _INITIALIZATIONS:
            raise ValueError(
                "NetworkOptions: initialization must be 'autoinit' or 'torch', "
                f"got {self.initialization!r}"
            )
        shape = (self.in_channels, self.image_size, self.image_size)
        if min(shape) < 1:
            raise ValueError(
                "NetworkOptions: in_channels and image_size must be 1 or more, "
                f"got {self.in_channels!r} and {self.image_size!r}"
            )
        network = self._network(activation)
        return autoinit_(network, shape) if self.initialization == "autoinit" else network

    def _network(self, activation: ActivationLike) -> nn.Module:
        settings: dict[str, Any] = {
            "num_classes": self.num_classes,
            "in_channels": self.in_channels,
        }
        own = {name: getattr(self, name) for name in ("width", "dropout", "activate_last")}
        own = {name: value for name, value in own.items() if value is not None}
        if self.name.startswith(_TIMM):
            if own:
                raise ValueError(
                    f"NetworkOptions: {', '.join(own)} cannot be set for {self.name}; leave them "
                    "out (null), and give what timm takes, such as drop_rate, in options"
                )
            # timm itself knows what else the network takes.
            settings |= self.options
            return models.TimmClassifier(self.name.removeprefix(_TIMM), activation, **settings)
        settings |= own | self.options
        build = _builder(self.name)
        taken = list(inspect.signature(build).parameters)[1:]
        if "image_size" in taken:
            settings.setdefault("image_size", self.image_size)
        foreign = sorted(settings.keys() - set(taken))
        if foreign:
            raise ValueError(
                f"NetworkOptions: {self.name} takes {', '.join(taken)}; got {', '.join(foreign)}"
            )
        return build(activation, **settings)


def _builder(name: str) -> Callable[..., nn.Module]:
    if name not in NETWORKS:
        near = difflib.get_close_matches(name, NETWORKS, n=1)
        hint = f"did you mean {near[0]}? " if near else ""
        raise ValueError(
            f"NetworkOptions: name must be one of {', '.join(NETWORKS)} or {_TIMM}<a network of "
            f"timm's>, got {name!r}; {hint}timm.list_models() lists timm's"
        )
    builder: Callable[..., nn.Module] = getattr(models, NETWORKS[name])
    return builder
