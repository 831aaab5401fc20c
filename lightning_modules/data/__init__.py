"""Data modules: handwritten digits, CIFAR, Imagenette and ImageNet."""

from lightning_modules.data.cifar import CifarDataModule
from lightning_modules.data.digits import (
    HARDER,
    LARGE,
    PLAIN,
    DigitsDataModule,
    DigitsTask,
)
from lightning_modules.data.imagenet import ImageNetDataModule
from lightning_modules.data.imagenette import ImagenetteDataModule

__all__ = [
    "HARDER",
    "LARGE",
    "PLAIN",
    "CifarDataModule",
    "DigitsDataModule",
    "DigitsTask",
    "ImageNetDataModule",
    "ImagenetteDataModule",
]
