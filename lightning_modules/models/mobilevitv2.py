"""MobileViTv2: a small network of inverted residual blocks and linear attention.

Sachin Mehta, Mohammad Rastegari: "Separable Self-attention for Mobile Vision Transformers", 2022,
arXiv:2206.02680. The network is timm's; the AQuaSurF paper uses the one of width 0.5.
"""

from __future__ import annotations

from types import MappingProxyType

from aquasurf_optuna.activation import ActivationLike
from lightning_modules.models._options import require
from lightning_modules.models.timm_classifier import TimmClassifier

TIMM_NAMES: MappingProxyType[float, str] = MappingProxyType(
    {
        0.5: "mobilevitv2_050",
        0.75: "mobilevitv2_075",
        1.0: "mobilevitv2_100",
        1.25: "mobilevitv2_125",
        1.5: "mobilevitv2_150",
        1.75: "mobilevitv2_175",
        2.0: "mobilevitv2_200",
    }
)
"""timm's name for each published width."""


class MobileViTV2(TimmClassifier):
    """MobileViTv2, of width 0.5 unless told otherwise.

    Maps images `[batch, in_channels, height, width]` of any size to logits `[batch, num_classes]`.
    All 25 activation modules are swapped. The linear attention of its transformer blocks keeps the
    ReLU on its values and the softmax on its queries: timm calls both without a module, and they
    belong to the attention as published.

    The last normalisation of each residual block begins with a scale of one, for the reason that
    `ResNet50` gives.

    Args:
        activation: A text such as `"relu(x)"`, an `Expression`, or a factory such as `nn.ReLU`.
        num_classes: Number of logits.
        in_channels: Channels of the images.
        width: Factor on the channels: a key of `TIMM_NAMES`.

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
        width: float = 0.5,
    ) -> None:
        allowed = f"one of the published widths {', '.join(map(str, TIMM_NAMES))}"
        require(width in TIMM_NAMES, "MobileViTV2", "width", width, allowed)
        super().__init__(
            TIMM_NAMES[width],
            activation,
            num_classes=num_classes,
            in_channels=in_channels,
            zero_init_last=False,
        )
