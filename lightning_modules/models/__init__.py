"""Networks that take an activation function."""

from lightning_modules.models._sites import activation_modules
from lightning_modules.models.all_cnn_c import AllCnnC
from lightning_modules.models.coatnet import CoAtNet
from lightning_modules.models.mobilevitv2 import MobileViTV2
from lightning_modules.models.resnet50 import ResNet50
from lightning_modules.models.resnet56 import ResNet56
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
