import subprocess
import sys

import pytest
import torch
from torch import nn

from aquasurf_optuna.activation import Activation
from lightning_modules.models import (
    AllCnnC,
    CoAtNet,
    MobileViTV2,
    ResNet50,
    ResNet56,
    TimmClassifier,
)
from lightning_modules.networks import NETWORKS, NetworkOptions

CLASSES = {
    "all_cnn_c": AllCnnC,
    "resnet56": ResNet56,
    "mobilevitv2": MobileViTV2,
    "coatnet": CoAtNet,
    "resnet50": ResNet50,
    "timm/resnet18": TimmClassifier,
}


@pytest.mark.parametrize(("name", "kind"), CLASSES.items())
def test_every_network_is_built_by_its_name(name: str, kind: type[nn.Module]) -> None:
    options = NetworkOptions(
        name, num_classes=7, in_channels=1, image_size=32, initialization="torch"
    )
    network = options.build("tanh(x)").eval()
    assert isinstance(network, kind)
    assert network(torch.randn(2, 1, 32, 32)).shape == (2, 7)
    texts = {str(m.expression) for m in network.modules() if isinstance(m, Activation)}
    assert texts == {"tanh(x)"}


def test_every_registered_network_is_tested_above() -> None:
    names = {name: kind.__name__ for name, kind in CLASSES.items() if name != "timm/resnet18"}
    assert names == NETWORKS


def test_a_network_of_torch_alone_is_built_without_timm_lightning_and_compilers() -> None:
    program = """if True:
        import sys
        from lightning_modules.digits_network import build_digits_model

        build_digits_model("relu(x)")
        unneeded = ("lightning", "timm", "torchvision", "torch._dynamo", "sympy")
        print([name for name in unneeded if name in sys.modules])
        from lightning_modules import models

        print(models.CoAtNet.__name__, "timm" in sys.modules, "CoAtNet" in dir(models))
        print(hasattr(models, "CoatNet"))
    """
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines() == ["[]", "CoAtNet True True", "False"]


def test_what_is_not_given_is_the_networks_own() -> None:
    assert str(NetworkOptions().build("relu(x)")) == str(AllCnnC("relu(x)"))
    given = NetworkOptions(width=1 / 48, dropout=0.0, activate_last=False).build("relu(x)")
    own = AllCnnC("relu(x)", width=1 / 48, dropout=0.0, activate_last=False)
    assert str(given) == str(own)


def test_further_options_reach_the_constructor() -> None:
    network = NetworkOptions("resnet56", width=0.25, options={"blocks": 1}).build("relu(x)")
    assert str(network) == str(ResNet56("relu(x)", width=0.25, blocks=1))
    deep = NetworkOptions(
        "timm/vit_tiny_patch16_224",
        image_size=32,
        initialization="torch",
        options={"img_size": 32, "depth": 2},
    )
    assert len(deep.build("relu(x)").get_submodule("network.blocks")) == 2


def test_initialization_is_a_choice() -> None:
    def layer(initialization: str) -> nn.Conv2d:
        torch.manual_seed(0)
        options = NetworkOptions(in_channels=1, initialization=initialization)  # type: ignore[arg-type]  # a plain str
        found = options.build("relu(x)").get_submodule("conv1")
        assert isinstance(found, nn.Conv2d)
        return found

    # AutoInit has zero biases and nine products of unit variance; torch's own has neither.
    assert not layer("autoinit").bias.any()  # type: ignore[union-attr]  # it has one
    assert layer("torch").bias.all()  # type: ignore[union-attr]  # likewise
    assert layer("autoinit").weight.var() > 0.1
    assert layer("torch").weight.var() < 0.05


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (NetworkOptions("resnet65"), "got 'resnet65'; did you mean resnet56"),
        (NetworkOptions("vgg"), "must be one of all_cnn_c, .* or timm/<.*got 'vgg'; timm.list"),
        (NetworkOptions("timm/resnet0"), "has no model 'resnet0'"),
        (NetworkOptions("timm/ghostnet_050"), "'ghostnet_050' does not let its activation be"),
        (NetworkOptions("timm/resnet18", width=2.0), "width cannot be set for timm/resnet18"),
        (NetworkOptions(initialization="he"), "must be 'autoinit' or 'torch', got 'he'"),  # type: ignore[arg-type]  # refused
        (NetworkOptions("resnet56", dropout=0.5), "resnet56 takes .*width.*; got dropout"),
        (NetworkOptions(options={"blocks": 2}), "all_cnn_c takes .*dropout.*; got blocks"),
        (NetworkOptions(image_size=0), "must be 1 or more, got 3 and 0"),
    ],
)
def test_options_that_fit_nothing_are_refused(options: NetworkOptions, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        options.build("relu(x)")
