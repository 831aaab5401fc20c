"""The recipes hold what Tables 5 and 6 of the paper say, typed here once more from the paper."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import nn

from aquasurf_optuna.activation import Activation
from lightning_modules.recipes import RECIPES, CifarImages, CroppedImages, Recipe

CONFIGS = Path(__file__).parents[2] / "examples" / "configs"

# Table 5, a column a network. "Random Flips: Yes", "Random Crops: 32x32 crops of images padded with
# four (five) pixels on all sides", "Epochs: 25 for Act-Bench and search, 50 for full evaluation".
TABLE_5: dict[str, dict[str, Any]] = {
    "all_cnn_c": {
        "batch_size": 128, "dropout": 0.5, "search_epochs": 25, "epochs": 50, "image_size": 32,
        "peak": 0.1, "warmup": 5, "decay": "linear", "normalize": True, "momentum": 0.9,
        "optimizer": "sgd", "crop_padding": 4, "flip": True, "weight_decay": 1e-4,
        "initialization": "autoinit",
    },
    "resnet56": {
        "batch_size": 128, "dropout": 0.0, "search_epochs": 25, "epochs": 50, "image_size": 32,
        "peak": 0.1, "warmup": 5, "decay": "linear", "normalize": False, "momentum": 0.9,
        "optimizer": "sgd", "crop_padding": 5, "flip": True, "weight_decay": 1e-4,
        "initialization": "autoinit",
    },
}  # fmt: skip

# Table 6: (start, peak, end) of the learning rate, and the initialisation where one is named.
TABLE_6_RATES = {
    "mobilevitv2": (1e-4, 4e-3, 1e-6, None),
    "resnet50": (1e-4, 2e-3, 1e-6, "autoinit"),
    "coatnet": (1e-4, 4e-4, 1.6e-7, None),
}
TABLE_6: dict[str, Any] = {
    "batch_size": 256, "cutmix_alpha": 1.0, "epochs": 105, "crop_fraction": 0.95,
    "image_size": 160, "mixup_alpha": 0.1, "optimizer": "adamw", "warmup": 5, "decay": "cosine",
    "randaugment_magnitude": 6, "randaugment_layers": 2, "minimum_area": 0.08,
    "weight_decay": 0.02,
}  # fmt: skip

CLASSES = {"cifar10": 10, "cifar100": 100, "imagenette": 10, "imagenet": 1000}


def split(name: str) -> tuple[str, str]:
    network, images = name.rsplit("_", 1)
    return network, images


def in_words_of_the_tables(recipe: Recipe) -> dict[str, Any]:
    training, images = recipe.training, recipe.images
    assert images.image_size == recipe.network.image_size
    found: dict[str, Any] = dataclasses.asdict(images) | {
        "search_epochs": recipe.search_epochs,
        "epochs": recipe.epochs,
        "peak": training.learning_rate,
        "warmup": training.warmup_epochs,
        "decay": training.decay,
        "momentum": training.momentum,
        "optimizer": training.optimizer,
        "weight_decay": training.weight_decay,
        "initialization": recipe.network.initialization,
    }
    return found


@pytest.mark.parametrize("name", [name for name in RECIPES if "cifar" in name])
def test_table_5_value_for_value(name: str) -> None:
    network, images = split(name)
    recipe = RECIPES[name]
    table = dict(TABLE_5[network])
    dropout = table.pop("dropout")
    dropped = [m.p for m in recipe.network.build("relu(x)").modules() if isinstance(m, nn.Dropout)]
    assert set(dropped) == ({dropout} if dropout else set())
    assert isinstance(recipe.images, CifarImages)
    found = in_words_of_the_tables(recipe)
    assert {key: found[key] for key in table} == table
    assert recipe.images.validation_size == 5000
    assert (recipe.training.warmup_start, recipe.training.final_learning_rate) == (0, 0)
    assert recipe.network.num_classes == recipe.images.num_classes == CLASSES[images]


@pytest.mark.parametrize("name", [name for name in RECIPES if "cifar" not in name])
def test_table_6_value_for_value(name: str) -> None:
    network, images = split(name)
    recipe = RECIPES[name]
    start, peak, end, initialization = TABLE_6_RATES[network]
    assert isinstance(recipe.images, CroppedImages)
    found = in_words_of_the_tables(recipe)
    assert {key: found[key] for key in TABLE_6} == TABLE_6
    assert recipe.search_epochs == 105
    assert recipe.training.warmup_start == start
    assert recipe.training.learning_rate == peak
    assert recipe.training.final_learning_rate == end
    assert recipe.network.initialization == (initialization or "torch")
    assert recipe.network.num_classes == recipe.images.num_classes == CLASSES[images]


def test_every_setting_of_the_paper_is_there() -> None:
    assert set(RECIPES) == {
        "all_cnn_c_cifar10", "resnet56_cifar10", "mobilevitv2_imagenette",  # Section 2
        "all_cnn_c_cifar100", "resnet56_cifar100", "mobilevitv2_imagenet",  # Section 6, Table 1
        "resnet50_imagenet", "coatnet_imagenette",  # Tables 2 and 3
    }  # fmt: skip


def test_a_recipe_cannot_be_changed_by_accident() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError, match="epochs"):
        RECIPES["all_cnn_c_cifar10"].epochs = 1  # type: ignore[misc]
    with pytest.raises(TypeError, match="item assignment"):
        RECIPES["mine"] = RECIPES["all_cnn_c_cifar10"]  # type: ignore[index]


@pytest.mark.parametrize("name", RECIPES)
def test_the_file_for_the_command_line_says_the_same(name: str) -> None:
    recipe = RECIPES[name]
    settings = yaml.safe_load((CONFIGS / f"{name}.yaml").read_text())
    assert settings["trainer"]["max_epochs"] == recipe.epochs
    network = dict(settings["model"]["network"])
    assert network == {key: getattr(recipe.network, key) for key in network}
    left_out = dataclasses.asdict(recipe.network).keys() - network.keys()
    assert all(getattr(recipe.network, key) in (None, {}) for key in left_out)
    training = dict(settings["model"]["training"])
    assert training == {key: getattr(recipe.training, key) for key in training}
    unused = {"momentum"} if recipe.training.optimizer == "adamw" else set()
    assert dataclasses.asdict(recipe.training).keys() - training.keys() == unused
    module = recipe.data()
    assert settings["data"]["class_path"] == f"lightning_modules.data.{type(module).__name__}"
    images = dict(settings["data"]["init_args"])
    assert Path(images.pop("root")) == module.root
    kept = {key: value for key, value in images.items() if hasattr(recipe.images, key)}
    assert kept == images == {key: getattr(recipe.images, key) for key in images}


def test_a_recipe_builds_its_parts() -> None:
    recipe = RECIPES["all_cnn_c_cifar10"]
    classifier = recipe.classifier("tanh(x)")
    assert classifier.hparams["activation"] == "tanh(x)"
    assert classifier.training_options == recipe.training
    torch.manual_seed(0)
    from_factory = recipe.classifier(Activation.factory("tanh(x)"))
    assert "activation" not in from_factory.hparams
    torch.manual_seed(0)
    built = recipe.build("tanh(x)")
    assert all(
        torch.equal(one, two)
        for one, two in zip(from_factory.network.parameters(), built.parameters(), strict=True)
    )
