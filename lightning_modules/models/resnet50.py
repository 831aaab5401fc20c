"""ResNet-50: the residual network of bottleneck blocks for large images.

Kaiming He, Xiangyu Zhang, Shaoqing Ren, Jian Sun: "Deep Residual Learning for Image Recognition",
CVPR 2016, arXiv:1512.03385. The network is timm's.
"""

from __future__ import annotations

from aquasurf_optuna.activation import ActivationLike
from lightning_modules.models.timm_classifier import TimmClassifier


class ResNet50(TimmClassifier):
    """ResNet-50, all 49 activations swapped.

    Maps images `[batch, in_channels, height, width]` of any size to logits `[batch, num_classes]`.

    The last normalisation of each block begins with a scale of one. timm's default of zero would
    let no gradient into the block's branch at initialisation: the Fisher eigenvalues of two thirds
    of the layers would vanish, whatever the activation function.

    Args:
        activation: A text such as `"relu(x)"`, an `Expression`, or a factory such as `nn.ReLU`.
        num_classes: Number of logits.
        in_channels: Channels of the images.

    Raises:
        ExpressionError: If `activation` is a text that names no function.
        ValueError: If another argument is out of its range.
    """

    def __init__(
        self, activation: ActivationLike, *, num_classes: int = 1000, in_channels: int = 3
    ) -> None:
        super().__init__(
            "resnet50",
            activation,
            num_classes=num_classes,
            in_channels=in_channels,
            zero_init_last=False,
        )
