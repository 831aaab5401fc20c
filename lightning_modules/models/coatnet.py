"""CoAtNet: convolution blocks in the first two stages, attention in the last two.

Zihang Dai, Hanxiao Liu, Quoc V. Le, Mingxing Tan: "CoAtNet: Marrying Convolution and Attention for
All Data Sizes", NeurIPS 2021, arXiv:2106.04803. The network is timm's `coatnet_0` with other depths
and widths: the slim one of the AQuaSurF paper, unless told otherwise.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from aquasurf_optuna.activation import ActivationLike
from lightning_modules.models._options import require
from lightning_modules.models.timm_classifier import TimmClassifier

STAGES = 4
"""Stages of a CoAtNet."""

HEAD_CHANNELS = 32
"""Channels of an attention head."""

REDUCTION = 32
"""Side of the images over the side of the last stage's maps."""


class CoAtNet(TimmClassifier):
    """CoAtNet for images of one size.

    Maps images `[batch, in_channels, image_size, image_size]` to logits `[batch, num_classes]`. The
    activations of the stem, the convolution blocks and the transformer blocks are swapped, 24 at
    the default depths. Three kinds keep their own function: SiLU and Sigmoid in the
    squeeze-and-excitation of each convolution block, 7 of each at the default depths, which make a
    gate with values between 0 and 1; and Tanh in the head, which timm does not let one choose.

    Args:
        activation: A text such as `"relu(x)"`, an `Expression`, or a factory such as `nn.ReLU`.
        num_classes: Number of logits.
        in_channels: Channels of the images.
        image_size: Side of the images, a multiple of 32: each attention has a bias for every
            distance within its map.
        depths: Blocks of each of the four stages.
        widths: Channels of each of the four stages, multiples of 32 (the size of an attention head)
            in the last two; the head is as wide as the last.

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
        image_size: int = 160,
        depths: Sequence[int] = (3, 4, 6, 3),
        widths: Sequence[int] = (64, 128, 256, 512),
    ) -> None:
        _check_sizes(image_size, depths, widths)
        # timm replaces these fields in its configuration of the `coatnet_0`.
        super().__init__(
            "coatnet_0_224",
            activation,
            num_classes=num_classes,
            in_channels=in_channels,
            img_size=image_size,
            depths=tuple(depths),
            embed_dim=tuple(widths),
            head_hidden_size=widths[-1],
        )
        self.image_size = image_size

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits.

        Raises:
            ValueError: If the images are not of the size that the network was built for.
        """
        # Checked after the fact, for a network that branches on shapes cannot be traced.
        try:
            return super().forward(images)
        except RuntimeError as error:
            if tuple(images.shape[-2:]) == (self.image_size, self.image_size):
                raise
            raise ValueError(
                f"CoAtNet: it was built for images of {self.image_size}x{self.image_size}, got "
                f"{tuple(images.shape)}; resize them, or build it with another image_size"
            ) from error


def _check_sizes(image_size: int, depths: Sequence[int], widths: Sequence[int]) -> None:
    whole = image_size >= REDUCTION and image_size % REDUCTION == 0
    require(whole, "CoAtNet", "image_size", image_size, f"a multiple of {REDUCTION}")
    for name, values in (("depths", depths), ("widths", widths)):
        fits = len(values) == STAGES and min(values) >= 1
        require(fits, "CoAtNet", name, values, f"{STAGES} numbers of 1 or more")
    heads = all(width % HEAD_CHANNELS == 0 for width in widths[2:])
    allowed = f"multiples of {HEAD_CHANNELS} in the last two stages"
    require(heads, "CoAtNet", "widths", widths, allowed)
