import copy
import pickle
import re
from typing import Any

import pytest
import timm
import torch
from torch import nn

from aquasurf_optuna.activation import Activation
from aquasurf_optuna.exceptions import ExpressionError, UnsupportedModelError
from lightning_modules.models import TimmClassifier, activation_modules
from tests.lightning_modules.models.helpers import EQUAL_ACTIVATIONS, assert_same_network, swapped

# Model, sites, kinds of the activations that keep their own function and how many of each.
FAMILIES: list[tuple[str, int, dict[str, int]]] = [
    ("resnet18", 17, {}),
    ("vgg11", 10, {}),
    ("efficientnet_b0", 49, {"Sigmoid": 16}),
    ("mobilenetv3_small_050", 19, {"ReLU": 14, "Hardsigmoid": 9}),
    ("mobilevit_xxs", 34, {}),
    ("convnext_atto", 12, {}),
    ("vit_tiny_patch16_224", 12, {}),
    ("mixer_s32_224", 16, {}),
    ("coatnet_nano_rw_224", 24, {"SiLU": 7, "Sigmoid": 7}),
    ("maxvit_pico_rw_256", 45, {"SiLU": 11, "Sigmoid": 11}),
    ("regnetx_002", 40, {}),
]

REFUSALS = ["beit_base_patch16_224", "convmixer_768_32", "dla34", "ghostnet_050", "nfnet_f0",
            "swin_tiny_patch4_window7_224"]  # fmt: skip


@pytest.fixture
def without_weights() -> Any:
    """Large networks without their numbers: their modules are all that counts."""
    with torch.device("meta"):
        yield


@pytest.mark.usefixtures("without_weights")
@pytest.mark.parametrize(("name", "sites", "kept"), FAMILIES, ids=[row[0] for row in FAMILIES])
def test_families(name: str, sites: int, kept: dict[str, int]) -> None:
    model = TimmClassifier(name, "erfc(softplus(x))", num_classes=10)
    found = swapped(model, "erfc(softplus(x))")
    assert model.sites == tuple(found)
    assert len(found) == sites
    kinds = [type(model.get_submodule(site)).__name__ for site in model.kept]
    assert {kind: kinds.count(kind) for kind in kinds} == kept
    assert set(activation_modules(model)) == {*model.sites, *model.kept}


def test_it_is_a_classifier_of_the_images_asked_for() -> None:
    model = TimmClassifier("resnet18", "relu(x)", num_classes=7, in_channels=1)
    assert model(torch.randn(2, 1, 32, 32)).shape == (2, 7)
    assert model.training
    assert not any(module._forward_pre_hooks for module in model.modules())


def test_options_reach_timm() -> None:
    options = {"img_size": 32, "depth": 2, "embed_dim": 48, "drop_rate": 0.25}
    model = TimmClassifier("vit_tiny_patch16_224", "relu(x)", **options)
    assert model.sites == ("network.blocks.0.mlp.act", "network.blocks.1.mlp.act")
    assert model(torch.randn(2, 3, 32, 32)).shape == (2, 1000)
    assert model.network.head_drop.p == 0.25  # type: ignore[union-attr]


def test_each_side_of_the_images_may_be_given() -> None:
    options = {"img_size": (32, 64), "depth": 1, "embed_dim": 48}
    model = TimmClassifier("vit_tiny_patch16_224", "relu(x)", **options)
    assert model(torch.randn(2, 3, 32, 64)).shape == (2, 1000)


@pytest.mark.parametrize("activation", EQUAL_ACTIVATIONS, ids=["text", "expression", "factory"])
def test_text_expression_and_factory_build_the_same_network(activation: Any) -> None:
    def build(choice: Any) -> nn.Module:
        return TimmClassifier("test_resnet", choice, num_classes=10)

    assert_same_network(build, activation, torch.randn(2, 3, 64, 64))


@pytest.mark.parametrize("name", ["test_resnet", "test_vit", "test_coatnet", "test_byobnet"])
def test_copies_and_pickles_compute_the_same(name: str) -> None:
    model = TimmClassifier(name, "tanh(x)", num_classes=3).eval()
    images = torch.randn(1, *model.network.pretrained_cfg["input_size"])  # type: ignore[index]
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert (twin.sites, twin.kept) == (model.sites, model.kept)
        assert torch.equal(twin(images), model(images))
        assert not set(map(id, twin.modules())) & set(map(id, model.modules()))


@pytest.mark.usefixtures("without_weights")
@pytest.mark.parametrize("name", REFUSALS)
def test_a_model_that_takes_no_activation_is_refused(name: str) -> None:
    message = rf"{name}' does not let its activation be chosen .*take a model that builds with act"
    with pytest.raises(UnsupportedModelError, match=message):
        TimmClassifier(name, "relu(x)")


class Ignorant(nn.Module):
    """Accepts an activation, and lays it aside."""

    pretrained_cfg = {"input_size": (3, 8, 8)}  # noqa: RUF012

    def __init__(self, act_layer: Any, num_classes: int, in_chans: int) -> None:
        super().__init__()
        self.idle = act_layer()
        self.layer = nn.Linear(in_chans, num_classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.layer(images.mean((2, 3))))


def test_an_activation_that_never_runs_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timm, "create_model", lambda name, **options: Ignorant(**options))
    with pytest.raises(UnsupportedModelError, match="resnet18.*accepts one and does not use it"):
        TimmClassifier("resnet18", "relu(x)")


@pytest.mark.parametrize(
    ("name", "near"),
    [("resnet-18", "did you mean .*'resnet18'"), ("effcientnet_b0", "efficientnet_b0"),
     ("?", "has no model '\\?'; timm.list_models"), ("", "has no model ''")],
)  # fmt: skip
def test_an_unknown_name_gets_the_nearest_ones(name: str, near: str) -> None:
    with pytest.raises(ValueError, match=f"TimmClassifier: timm .*{near}"):
        TimmClassifier(name, "relu(x)")


@pytest.mark.parametrize("name", ["resnet18", "coatnet_0_224", "swin_tiny_patch4_window7_224"])
def test_an_unknown_option_is_refused(name: str) -> None:
    with pytest.raises(TypeError, match=rf"timm's '{name}' does not take .*drop_rat\b"):
        TimmClassifier(name, "relu(x)", drop_rat=0.1)


@pytest.mark.parametrize(
    ("option", "own"),
    [("act_layer", "activation"), ("conv_act_layer", "activation"), ("in_chans", "in_channels")],
)
def test_options_that_have_a_name_here_are_refused(option: str, own: str) -> None:
    with pytest.raises(TypeError, match=f"give {own} in place of timm's option '{option}'"):
        TimmClassifier("resnet18", "relu(x)", **{option: None})


@pytest.mark.usefixtures("without_weights")
def test_options_that_change_the_output_are_refused() -> None:
    message = re.escape("returns (1, 10, 7, 7) for one image, not logits of shape (1, 10)")
    with pytest.raises(UnsupportedModelError, match=f"convnext_atto.*{message}"):
        TimmClassifier("convnext_atto", "relu(x)", num_classes=10, global_pool="")
    with pytest.raises(UnsupportedModelError, match="resnet18.*returns list for one image"):
        TimmClassifier("resnet18", "relu(x)", features_only=True)


@pytest.mark.usefixtures("without_weights")
def test_options_with_which_the_model_does_not_run_are_refused() -> None:
    message = re.escape("does not run on images of shape (1, 3, 224, 224): ")
    with pytest.raises(UnsupportedModelError, match=f"resnet18.*{message}"):
        TimmClassifier("resnet18", "relu(x)", global_pool="")


@pytest.mark.parametrize(("name", "value"), [("num_classes", 0), ("in_channels", 0)])
def test_values_out_of_range_are_refused(name: str, value: int) -> None:
    with pytest.raises(ValueError, match=f"TimmClassifier: {name} must be 1 or more, got 0"):
        TimmClassifier("resnet18", "relu(x)", **{name: value})


def test_a_bad_activation_is_refused() -> None:
    with pytest.raises(ExpressionError, match="relux"):
        TimmClassifier("resnet18", "relux(x)")
    with pytest.raises(TypeError, match="activation must be a text"):
        TimmClassifier("resnet18", nn.ReLU())  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", [RuntimeError, TypeError])
def test_an_error_of_the_factory_comes_through(kind: type[Exception]) -> None:
    def factory(**_: object) -> nn.Module:
        raise kind("no such kernel")

    with pytest.raises(kind, match="no such kernel"):
        TimmClassifier("resnet18", factory)


def test_a_factory_of_something_else_is_refused() -> None:
    with pytest.raises(TypeError, match="factory <function .* must return a module, got 3"):
        TimmClassifier("resnet18", lambda **_: 3)  # type: ignore[arg-type, return-value]


def test_a_network_that_keeps_its_factory_does_not_keep_the_modules() -> None:
    model = TimmClassifier("test_resnet", Activation.factory("relu(x)"), num_classes=3)
    del model.network.layer4  # type: ignore[union-attr]
    assert not [n for n in activation_modules(model) if "layer4" in n]
