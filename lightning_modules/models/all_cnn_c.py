"""All-CNN-C: a plain stack of convolutions, with strides in place of pooling.

Jost Tobias Springenberg, Alexey Dosovitskiy, Thomas Brox, Martin Riedmiller: "Striving for
Simplicity: The All Convolutional Net", ICLR 2015 workshop, arXiv:1412.6806 (model C of Tables 1 and
2, with both pooling layers replaced by strided convolutions).

Two choices differ from that text and follow the AQuaSurF paper: dropout (Table 5: 0.5) stands after
each strided convolution and not on the input, and every 3x3 convolution pads its input so that
small images, 8x8 ones for example, pass through.
"""

from __future__ import annotations

import dataclasses
from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Any

from torch import nn

from aquasurf_optuna.activation import ActivationLike, as_factory
from lightning_modules.models._options import require, require_sizes, scaled


@dataclasses.dataclass(frozen=True)
class ConvBlock:
    """One convolution of the stack; the activation follows it.

    Attributes:
        channels: Output channels at full width; None stands for the number of classes.
        kernel: Side of the square kernel.
        stride: Step in both directions.
    """

    channels: int | None
    kernel: int = 3
    stride: int = 1


ARCHITECTURE: tuple[ConvBlock, ...] = (
    ConvBlock(96),
    ConvBlock(96),
    ConvBlock(96, stride=2),
    ConvBlock(192),
    ConvBlock(192),
    ConvBlock(192, stride=2),
    ConvBlock(192),
    ConvBlock(192, kernel=1),
    ConvBlock(None, kernel=1),
)
"""The nine convolutions of All-CNN-C."""


class AllCnnC(nn.Sequential):
    """All-CNN-C, in the order in which its layers run.

    Maps images `[batch, in_channels, height, width]` of any size to logits `[batch, num_classes]`.
    The layers are named `conv1`, `act1`, ..., `conv9`, (`act9`,) `pool`, `flatten`.

    Args:
        activation: A text such as `"relu(x)"`, an `Expression`, or a factory such as `nn.ReLU`. It
            is called once for each activation site, so that no two sites share a module.
        num_classes: Number of logits.
        in_channels: Channels of the images.
        width: Factor on the 96 and 192 channels of the hidden layers, rounded, at least 1 channel.
        dropout: Probability of dropping a value after each strided convolution; 0 adds no layer.
        activate_last: Whether the last 1x1 convolution is activated before the global average, as
            in the original. Without it the logits are free to take any value.

    Raises:
        ExpressionError: If `activation` is a text that names no function.
        ValueError: If another argument is out of its range.
    """

    def __init__(
        self,
        activation: ActivationLike,
        *,
        num_classes: int = 10,
        in_channels: int = 3,
        width: float = 1.0,
        dropout: float = 0.5,
        activate_last: bool = True,
    ) -> None:
        require_sizes("AllCnnC", num_classes=num_classes, in_channels=in_channels)
        require(width > 0, "AllCnnC", "width", width, "above 0 (1.0 is the published width)")
        require(0 <= dropout < 1, "AllCnnC", "dropout", dropout, "in [0, 1)")
        factory = as_factory(activation)
        channels = [
            num_classes if block.channels is None else scaled(block.channels, width)
            for block in ARCHITECTURE
        ]
        sites = len(ARCHITECTURE) if activate_last else len(ARCHITECTURE) - 1
        layers = OrderedDict(_layers(factory, [in_channels, *channels], dropout, sites))
        layers["pool"] = nn.AdaptiveAvgPool2d(1)
        layers["flatten"] = nn.Flatten()
        super().__init__(layers)

    # nn.Sequential would call this class's constructor with the chosen layers.
    def __getitem__(self, index: slice | int) -> Any:
        """Return one layer, or a plain `nn.Sequential` of a slice of them."""
        chosen = list(self._modules.items())[index]
        return nn.Sequential(OrderedDict(chosen)) if isinstance(chosen, list) else chosen[1]


def _layers(
    factory: Callable[..., nn.Module], channels: list[int], dropout: float, sites: int
) -> Iterator[tuple[str, nn.Module]]:
    """Yield the named layers up to the global average; the first `sites` blocks are activated."""
    for number, block in enumerate(ARCHITECTURE, start=1):
        yield (
            f"conv{number}",
            nn.Conv2d(
                channels[number - 1],
                channels[number],
                block.kernel,
                stride=block.stride,
                padding=block.kernel // 2,
            ),
        )
        if number <= sites:
            yield f"act{number}", factory()
        if block.stride > 1 and dropout > 0:
            yield f"drop{number}", nn.Dropout(dropout)
