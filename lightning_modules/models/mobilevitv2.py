"""MobileViTv2: a small network of inverted residual blocks and linear attention.

Sachin Mehta, Mohammad Rastegari: "Separable Self-attention for Mobile Vision Transformers", 2022,
arXiv:2206.02680. The network is timm's; the AQuaSurF paper uses the one of width 0.5.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from types import MappingProxyType
from typing import Any

from timm.models.byobnet import ByoBlockCfg
from timm.models.mobilevit import model_cfgs

from aquasurf_optuna.activation import ActivationLike
from lightning_modules.models._options import require, scaled
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

DEPTHS: tuple[int, ...] = (2, 4, 3)
"""Published depths of the transformers, which stand in the last three stages."""

STRIDES: tuple[int, ...] = (1, 2, 2, 2, 2)
"""Published strides of the five stages; the stem before them has one of 2."""

_CONVOLUTIONAL_STAGES = len(STRIDES) - len(DEPTHS)
_WIDEST = 2.0


class MobileViTV2(TimmClassifier):
    """MobileViTv2, of width 0.5 unless told otherwise.

    Maps images `[batch, in_channels, height, width]` of any size to logits `[batch, num_classes]`.
    All 25 activation modules are swapped. The linear attention of its transformer blocks keeps the
    ReLU on its values and the softmax on its queries: timm calls both without a module, and they
    belong to the attention as published.

    The last normalisation of each residual block begins with a scale of one, for the reason that
    `ResNet50` gives.

    Other widths than the published ones, shallower transformers, fewer stages and smaller strides
    make versions of it for small images.

    Args:
        activation: A text such as `"relu(x)"`, an `Expression`, or a factory such as `nn.ReLU`.
        num_classes: Number of logits.
        in_channels: Channels of the images.
        width: Factor on the channels; the keys of `TIMM_NAMES` are the published ones.
        depths: Layers of the transformer of each stage from the third on.
        strides: Stride of each stage: two more than there are transformers.

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
        depths: Sequence[int] = DEPTHS,
        strides: Sequence[int] = STRIDES,
    ) -> None:
        require(width > 0, "MobileViTV2", "width", width, "above 0 (0.5 is the paper's width)")
        require(
            len(depths) <= len(DEPTHS) and all(depth >= 1 for depth in depths),
            "MobileViTV2",
            "depths",
            depths,
            f"at most {len(DEPTHS)} numbers of 1 or more",
        )
        require(
            len(strides) == len(depths) + _CONVOLUTIONAL_STAGES
            and all(stride in (1, 2) for stride in strides),
            "MobileViTV2",
            "strides",
            strides,
            f"{len(depths) + _CONVOLUTIONAL_STAGES} numbers, each 1 or 2",
        )
        published = tuple(depths) == DEPTHS and tuple(strides) == STRIDES
        options = {} if published and width in TIMM_NAMES else _smaller(width, depths, strides)
        super().__init__(
            TIMM_NAMES[width if width in TIMM_NAMES else _WIDEST],
            activation,
            num_classes=num_classes,
            in_channels=in_channels,
            zero_init_last=False,
            **options,
        )


def _smaller(width: float, depths: Sequence[int], strides: Sequence[int]) -> dict[str, Any]:
    """Return what timm's configuration of the widest network has to have in place of its own."""
    widest = model_cfgs[TIMM_NAMES[_WIDEST]]
    factor = width / _WIDEST
    blocks = []
    for number, stride in enumerate(strides):
        stage = widest.blocks[number]
        first, *rest = stage if isinstance(stage, tuple) else (stage,)
        depth = number - _CONVOLUTIONAL_STAGES
        chosen = [dataclasses.replace(first, s=stride), *rest]
        blocks.append(
            tuple(_narrowed(block, factor, depths[depth] if depth >= 0 else 0) for block in chosen)
        )
    return {"blocks": tuple(blocks), "stem_chs": scaled(widest.stem_chs, factor)}


def _narrowed(block: ByoBlockCfg, factor: float, depth: int) -> ByoBlockCfg:
    settings = dict(block.block_kwargs or {})
    if block.type == "mobilevit2":
        settings["transformer_depth"] = depth
    return dataclasses.replace(block, c=scaled(block.c, factor), block_kwargs=settings)
