"""The network of the digits' recipe, apart from what trains it.

Processes that measure its Fisher features import this module alone: Lightning takes three times as
long to import as torch.
"""

from __future__ import annotations

from torch import nn

from aquasurf_optuna.activation import ActivationLike
from lightning_modules.networks import NetworkOptions

DIGITS_NETWORK = NetworkOptions(
    in_channels=1, image_size=10, width=1 / 6, dropout=0.0, activate_last=True
)
"""A small All-CNN-C for images of 10 by 10 pixels."""


def build_digits_model(activation: ActivationLike) -> nn.Module:
    """Build the network, initialised from torch's global generator.

    A function of the module, so that it can be sent to other processes.

    Raises:
        ExpressionError: If `activation` is a text that names no function.
        InitializationError: If AutoInit finds no weights for this function.
    """
    return DIGITS_NETWORK.build(activation)
