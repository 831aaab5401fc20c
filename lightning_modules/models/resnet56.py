"""ResNet-56: a residual network for small images, of pre-activation bottleneck blocks.

Kaiming He, Xiangyu Zhang, Shaoqing Ren, Jian Sun: "Identity Mappings in Deep Residual Networks",
ECCV 2016, arXiv:1603.05027.

A pre-activation block normalises and activates its input before each convolution, and adds the
result to the input itself. Three places are special:

- The stem is followed by a normalisation and an activation, so the first block's first convolution
  has none of its own.
- Where the number of channels changes, a 1x1 convolution takes the place of the identity. It reads
  the normalised and activated input, as the paper's appendix prescribes for pre-activation.
- The last sum is normalised and activated before the global average.

Every convolution has a bias, as in the network of the AQuaSurF paper: it has 59 layers with weights
and 1,652,938 parameters in them, 10,400 more in the normalisation layers, and 55 activations.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator

from torch import Tensor, nn

from aquasurf_optuna.activation import ActivationLike, as_factory
from lightning_modules.models._options import require, require_sizes, scaled

STEM_CHANNELS = 16
"""Output channels of the stem at full width."""

STAGES: tuple[tuple[int, int], ...] = ((16, 1), (64, 2), (128, 2))
"""Channels within the blocks of each stage at full width, and the stride of its first block."""

STAGE_OUTPUTS: tuple[int, ...] = (64, 128, 256)
"""Output channels of each stage at full width."""

ActivationFactoryLike = Callable[..., nn.Module]


class Bottleneck(nn.Module):
    """A pre-activation block: 1x1, 3x3 and 1x1 convolution beside an identity or a projection.

    Maps `[batch, in_channels, height, width]` to `[batch, out_channels, height / stride,
    width / stride]`, rounded up.

    Args:
        factory: Makes the activations.
        in_channels: Channels of the input.
        channels: Channels between the three convolutions.
        out_channels: Channels of the output.
        stride: Step of the first convolution, and of the projection.
        preactivate: Whether the input is still to be normalised and activated.
        project: Whether a 1x1 convolution takes the place of the identity.
    """

    def __init__(
        self,
        factory: ActivationFactoryLike,
        in_channels: int,
        channels: int,
        out_channels: int,
        *,
        stride: int,
        preactivate: bool,
        project: bool,
    ) -> None:
        super().__init__()
        self.norm1 = nn.BatchNorm2d(in_channels) if preactivate else None
        self.act1 = factory() if preactivate else None
        self.conv1 = nn.Conv2d(in_channels, channels, 1, stride=stride)
        self.norm2 = nn.BatchNorm2d(channels)
        self.act2 = factory()
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        self.norm3 = nn.BatchNorm2d(channels)
        self.act3 = factory()
        self.conv3 = nn.Conv2d(channels, out_channels, 1)
        self.projection = (
            nn.Conv2d(in_channels, out_channels, 1, stride=stride) if project else None
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return the sum of the branch and the shortcut."""
        active = x if self.norm1 is None or self.act1 is None else self.act1(self.norm1(x))
        shortcut: Tensor = x if self.projection is None else self.projection(active)
        branch: Tensor = self.conv1(active)
        branch = self.conv2(self.act2(self.norm2(branch)))
        branch = self.conv3(self.act3(self.norm3(branch)))
        return shortcut + branch


class ResNet56(nn.Module):
    """ResNet-56 of pre-activation bottleneck blocks.

    Maps images `[batch, in_channels, height, width]` of any size to logits `[batch, num_classes]`.
    The modules are named `stem`, `norm`, `act`, `stages.stage1.block1.norm1`, ..., `final_norm`,
    `final_act`, `pool`, `flatten`, `classifier`.

    Args:
        activation: A text such as `"relu(x)"`, an `Expression`, or a factory such as `nn.ReLU`. It
            is called once for each activation site, so that no two sites share a module.
        num_classes: Number of logits.
        in_channels: Channels of the images.
        width: Factor on the channels of every hidden layer, rounded, at least 1 channel.
        blocks: Blocks in each of the three stages; the nominal depth is `9 * blocks + 2`.

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
        blocks: int = 6,
    ) -> None:
        super().__init__()
        require_sizes("ResNet56", num_classes=num_classes, in_channels=in_channels)
        require(width > 0, "ResNet56", "width", width, "above 0 (1.0 is the published width)")
        require(blocks >= 1, "ResNet56", "blocks", blocks, "1 or more (6 give 56 layers)")
        factory = as_factory(activation)
        stem, features = scaled(STEM_CHANNELS, width), scaled(STAGE_OUTPUTS[-1], width)
        self.stem = nn.Conv2d(in_channels, stem, 3, padding=1)
        self.norm = nn.BatchNorm2d(stem)
        self.act = factory()
        self.stages = nn.Sequential(OrderedDict(_stages(factory, stem, width, blocks)))
        self.final_norm = nn.BatchNorm2d(features)
        self.final_act = factory()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.classifier = nn.Linear(features, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits."""
        x = self.act(self.norm(self.stem(images)))
        x = self.final_act(self.final_norm(self.stages(x)))
        logits: Tensor = self.classifier(self.flatten(self.pool(x)))
        return logits


def _stages(
    factory: ActivationFactoryLike, stem: int, width: float, blocks: int
) -> Iterator[tuple[str, nn.Module]]:
    in_channels = stem
    for number, ((inner, stride), outer) in enumerate(zip(STAGES, STAGE_OUTPUTS, strict=True), 1):
        out_channels = scaled(outer, width)
        stage = OrderedDict[str, nn.Module]()
        for position in range(blocks):
            first = position == 0
            stage[f"block{position + 1}"] = Bottleneck(
                factory,
                in_channels,
                scaled(inner, width),
                out_channels,
                stride=stride if first else 1,
                preactivate=not (number == 1 and first),
                project=first,
            )
            in_channels = out_channels
        yield f"stage{number}", nn.Sequential(stage)
