"""The published training settings: Tables 5 and 6 of the AQuaSurF paper, and its Appendix E.

A recipe is the network, the images and the training of one experiment, all but the activation
function. `RECIPES` holds them by name; `examples/configs/` holds the same settings as files for the
command line.

What the tables leave open: AdamW's weight decay of "0.02 times the current learning rate" is what
torch's AdamW does with `weight_decay=0.02`; MobileViTv2 and CoAtNet, for which no initialisation is
named, keep timm's own; Mixup and CutMix take turns at random, a batch each; the photographs of
Table 6 are mirrored at random, as is usual with random resized crops.
"""

from __future__ import annotations

import dataclasses
from types import MappingProxyType
from typing import Any, Literal

import lightning as L
from torch import nn

from aquasurf_optuna.activation import ActivationLike
from aquasurf_optuna.expression import Expression
from lightning_modules.classifier import Classifier
from lightning_modules.data import CifarDataModule, ImageNetDataModule, ImagenetteDataModule
from lightning_modules.networks import NetworkOptions
from lightning_modules.training import TrainingOptions


@dataclasses.dataclass(frozen=True)
class CifarImages:
    """The images of Table 5.

    Attributes:
        name: The data set.
        batch_size: Images in a training batch.
        image_size: Side of the images.
        crop_padding: Pixels of padding on every side before the random crop.
        normalize: Whether each channel has mean 0 and variance 1 over the training set.
        flip: Whether training images are mirrored at random.
        validation_size: Training images set apart, equally many of each class (Appendix E).
    """

    name: Literal["cifar10", "cifar100"]
    batch_size: int = 128
    image_size: int = 32
    crop_padding: int = 4
    normalize: bool = True
    flip: bool = True
    validation_size: int = 5000

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return {"cifar10": 10, "cifar100": 100}[self.name]

    def module(self, **loading: Any) -> CifarDataModule:
        """Return the data module; `loading` is what it takes beside the recipe."""
        settings = dataclasses.asdict(self)
        # CIFAR's images have one size only.
        del settings["image_size"]
        return CifarDataModule(**settings, **loading)


@dataclasses.dataclass(frozen=True)
class CroppedImages:
    """The images of Table 6.

    Attributes:
        name: The data set.
        batch_size: Images in a training batch.
        image_size: Side of the images.
        crop_fraction: Side of the centre crop for evaluation, as a share of the whole image's.
        minimum_area: Smallest share of the image that a random resized crop shows.
        flip: Whether training images are mirrored at random.
        randaugment_magnitude: Strength of RandAugment.
        randaugment_layers: How many times RandAugment is applied to an image.
        mixup_alpha: Of the Beta distribution from which Mixup draws.
        cutmix_alpha: Of the Beta distribution from which CutMix draws.
    """

    name: Literal["imagenette", "imagenet"]
    batch_size: int = 256
    image_size: int = 160
    crop_fraction: float = 0.95
    minimum_area: float = 0.08
    flip: bool = True
    randaugment_magnitude: int = 6
    randaugment_layers: int = 2
    mixup_alpha: float = 0.1
    cutmix_alpha: float = 1.0

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return {"imagenette": 10, "imagenet": 1000}[self.name]

    def module(self, **loading: Any) -> ImagenetteDataModule | ImageNetDataModule:
        """Return the data module; `loading` is what it takes beside the recipe."""
        settings = dataclasses.asdict(self)
        del settings["name"]
        if self.name == "imagenette":
            return ImagenetteDataModule(**settings, **loading)
        return ImageNetDataModule(**settings, **loading)


@dataclasses.dataclass(frozen=True)
class Recipe:
    """The settings of one of the paper's experiments, all but the activation function.

    Attributes:
        network: The network and its initialisation.
        images: Images, augmentation and batch size.
        training: Optimiser and learning rate.
        epochs: Passes over the training images for the full evaluation.
        search_epochs: The same for each trial of a search.
    """

    network: NetworkOptions
    images: CifarImages | CroppedImages
    training: TrainingOptions
    epochs: int
    search_epochs: int

    def build(self, activation: ActivationLike) -> nn.Module:
        """Build the network, with weights from torch's global generator.

        Raises:
            ExpressionError: If `activation` is a text that names no function.
            InitializationError: If AutoInit finds no weights for this function.
        """
        return self.network.build(activation)

    def classifier(self, activation: ActivationLike) -> Classifier:
        """Return the network with its training, ready for a Trainer.

        Raises:
            ExpressionError: If `activation` is a text that names no function.
            InitializationError: If AutoInit finds no weights for this function.
        """
        if isinstance(activation, str | Expression):
            # By its text, so that a checkpoint can build it again.
            return Classifier(self.network, activation=str(activation), training=self.training)
        return Classifier(self.build(activation), training=self.training)

    def data(self, **loading: Any) -> L.LightningDataModule:
        """Return the data module.

        Args:
            **loading: What the data module takes beside the recipe: `root`, `download`, `seed`,
                `num_workers`, `pin_memory`, `eval_batch_size`.
        """
        return self.images.module(**loading)


_SGD = TrainingOptions(
    optimizer="sgd",
    learning_rate=0.1,
    warmup_epochs=5.0,
    decay="linear",
    momentum=0.9,
    weight_decay=1e-4,
)
_ADAMW = TrainingOptions(
    optimizer="adamw",
    learning_rate=4e-3,
    warmup_epochs=5.0,
    warmup_start=1e-4,
    decay="cosine",
    final_learning_rate=1e-6,
    weight_decay=0.02,
)


def _all_cnn_c(name: Literal["cifar10", "cifar100"]) -> Recipe:
    """All-CNN-C on CIFAR-10 and CIFAR-100, Table 5."""
    images = CifarImages(name, crop_padding=4, normalize=True)
    network = NetworkOptions(
        "all_cnn_c", num_classes=images.num_classes, dropout=0.5, activate_last=True
    )
    return Recipe(network, images, _SGD, epochs=50, search_epochs=25)


def _resnet56(name: Literal["cifar10", "cifar100"]) -> Recipe:
    """ResNet-56 on CIFAR-10 and CIFAR-100, Table 5; its dropout of 0.0 is none."""
    images = CifarImages(name, crop_padding=5, normalize=False)
    network = NetworkOptions("resnet56", num_classes=images.num_classes)
    return Recipe(network, images, _SGD, epochs=50, search_epochs=25)


def _cropped(
    network: str,
    name: Literal["imagenette", "imagenet"],
    initialization: Literal["autoinit", "torch"],
    training: TrainingOptions,
) -> Recipe:
    """One of the experiments of Table 6."""
    images = CroppedImages(name)
    options = NetworkOptions(
        network,
        num_classes=images.num_classes,
        image_size=images.image_size,
        initialization=initialization,
    )
    return Recipe(options, images, training, epochs=105, search_epochs=105)


RECIPES: MappingProxyType[str, Recipe] = MappingProxyType(
    {
        "all_cnn_c_cifar10": _all_cnn_c("cifar10"),
        "all_cnn_c_cifar100": _all_cnn_c("cifar100"),
        "resnet56_cifar10": _resnet56("cifar10"),
        "resnet56_cifar100": _resnet56("cifar100"),
        "mobilevitv2_imagenette": _cropped("mobilevitv2", "imagenette", "torch", _ADAMW),
        "mobilevitv2_imagenet": _cropped("mobilevitv2", "imagenet", "torch", _ADAMW),
        "resnet50_imagenet": _cropped(
            "resnet50", "imagenet", "autoinit", dataclasses.replace(_ADAMW, learning_rate=2e-3)
        ),
        "coatnet_imagenette": _cropped(
            "coatnet",
            "imagenette",
            "torch",
            dataclasses.replace(_ADAMW, learning_rate=4e-4, final_learning_rate=1.6e-7),
        ),
    }
)
"""The experiments of Sections 2 and 6 by network and data set."""
