"""Networks that take an activation function.

Those of timm are imported when they are asked for: timm takes as long to import as torch, and
processes that measure or train another network need none of it.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from lightning_modules.models._sites import activation_modules
from lightning_modules.models.all_cnn_c import AllCnnC
from lightning_modules.models.resnet56 import ResNet56

if TYPE_CHECKING:
    from lightning_modules.models.coatnet import CoAtNet
    from lightning_modules.models.mobilevitv2 import MobileViTV2
    from lightning_modules.models.resnet50 import ResNet50
    from lightning_modules.models.timm_classifier import TimmClassifier

__all__ = [
    "AllCnnC",
    "CoAtNet",
    "MobileViTV2",
    "ResNet50",
    "ResNet56",
    "TimmClassifier",
    "activation_modules",
]

_OF_TIMM = {
    "CoAtNet": "coatnet",
    "MobileViTV2": "mobilevitv2",
    "ResNet50": "resnet50",
    "TimmClassifier": "timm_classifier",
}


def __getattr__(name: str) -> Any:
    """Import a network of timm's.

    Raises:
        AttributeError: If there is no such network.
    """
    if name not in _OF_TIMM:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_OF_TIMM[name]}"), name)


def __dir__() -> list[str]:
    """Return all names, imported or not."""
    return sorted({*globals(), *__all__})
