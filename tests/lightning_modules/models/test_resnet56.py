import itertools
from typing import Any

import pytest
import torch
from torch import nn

from aquasurf_optuna.activation import Activation
from aquasurf_optuna.exceptions import ExpressionError
from aquasurf_optuna.features.fisher import fisher_log_eigenvalues
from lightning_modules.models import ResNet56, activation_modules
from lightning_modules.models.resnet56 import Bottleneck
from tests.lightning_modules.models.helpers import (
    EQUAL_ACTIVATIONS,
    assert_same_network,
    histogram_length,
    parameter_count,
    swapped,
    weight_counts,
)


def blocks_of(model: nn.Module) -> list[Bottleneck]:
    return [module for module in model.modules() if isinstance(module, Bottleneck)]


def test_the_published_sizes() -> None:
    model = ResNet56("relu(x)")
    counts = weight_counts(model)
    assert (len(counts), histogram_length(model)) == (59, 16_500)
    assert sum(counts) == 1_652_938
    assert parameter_count(model) - sum(counts) == 10_400


def test_every_site_gets_a_module_of_its_own() -> None:
    made: list[nn.Module] = []

    def factory() -> nn.Module:
        made.append(nn.Tanh())
        return made[-1]

    model = ResNet56(factory)
    assert len(made) == len(set(map(id, made))) == 55
    assert {id(m) for m in activation_modules(model).values()} == set(map(id, made))
    assert len(swapped(ResNet56("swish(x)"), "swish(x)")) == 55


@pytest.mark.parametrize(("blocks", "sites"), [(1, 10), (2, 19), (6, 55)])
def test_depth_follows_the_blocks(blocks: int, sites: int) -> None:
    model = ResNet56("relu(x)", width=1 / 16, blocks=blocks)
    main_path = [m for n, m in model.named_modules() if n.split(".")[-1].startswith("conv")]
    # The nominal depth counts the stem and the classifier, but not the projections.
    assert len(main_path) + 2 == 9 * blocks + 2
    assert len(activation_modules(model)) == sites


def test_widths_and_strides_of_the_stages() -> None:
    blocks = blocks_of(ResNet56("relu(x)"))
    shapes = [
        (b.conv1.in_channels, b.conv1.out_channels, b.conv3.out_channels, b.conv1.stride[0])
        for b in blocks
    ]
    first, second, third = (64, 16, 64, 1), (128, 64, 128, 1), (256, 128, 256, 1)
    assert shapes == [
        (16, 16, 64, 1), *[first] * 5, (64, 64, 128, 2), *[second] * 5, (128, 128, 256, 2),
        *[third] * 5,
    ]  # fmt: skip
    assert [i for i, b in enumerate(blocks) if b.projection is not None] == [0, 6, 12]
    assert [i for i, b in enumerate(blocks) if b.norm1 is None] == [0]
    assert [i for i, b in enumerate(blocks) if b.act1 is None] == [0]


def test_each_convolution_reads_what_a_normalisation_and_an_activation_made() -> None:
    model = ResNet56("tanh(x)", width=1 / 16, blocks=2)
    kinds = (nn.BatchNorm2d, Activation, nn.Conv2d)
    order: list[str] = []
    for module in model.modules():
        if isinstance(module, kinds):
            module.register_forward_hook(lambda m, _, __: order.append(type(m).__name__))
    model(torch.randn(2, 3, 8, 8))
    readers = [before for before, after in itertools.pairwise(order) if after == "Conv2d"]
    # The first convolution of a projecting block runs after the projection, on the same signal.
    assert readers.count("Activation") == len(readers) - 3
    assert readers.count("Conv2d") == 3
    assert all(a == "BatchNorm2d" for a, b in itertools.pairwise(order) if b == "Activation")


def test_a_projection_reads_the_preactivated_signal() -> None:
    block = blocks_of(ResNet56("square(x)", width=1 / 8, blocks=1))[1].eval()
    assert block.projection is not None
    assert block.norm1 is not None
    for parameter in block.conv3.parameters():
        nn.init.zeros_(parameter)
    x = torch.randn(2, block.conv1.in_channels, 6, 6)
    assert torch.equal(block(x), block.projection(block.norm1(x) ** 2))


def test_an_identity_passes_the_raw_signal() -> None:
    block = blocks_of(ResNet56("square(x)", width=1 / 8, blocks=2))[1].eval()
    for parameter in block.conv3.parameters():
        nn.init.zeros_(parameter)
    x = torch.randn(2, block.conv1.in_channels, 6, 6)
    assert torch.equal(block(x), x)


def test_every_convolution_has_a_bias() -> None:
    convolutions = [m for m in ResNet56("relu(x)").modules() if isinstance(m, nn.Conv2d)]
    assert len(convolutions) == 58
    assert all(layer.bias is not None for layer in convolutions)


@pytest.mark.parametrize(("side", "last"), [(8, 2), (9, 3), (32, 8)])
def test_any_image_size_passes(side: int, last: int) -> None:
    model = ResNet56("relu(x)", width=1 / 16, blocks=1, in_channels=1, num_classes=7)
    sizes: list[tuple[int, ...]] = []
    model.final_norm.register_forward_pre_hook(lambda _, args: sizes.append(args[0].shape))
    assert model(torch.randn(2, 1, side, side)).shape == (2, 7)
    assert sizes == [(2, 16, last, last)]


def test_width_scales_the_hidden_channels_only() -> None:
    model = ResNet56("relu(x)", width=1 / 16, in_channels=4, num_classes=5, blocks=1)
    assert model.stem.in_channels == 4
    assert [b.conv3.out_channels for b in blocks_of(model)] == [4, 8, 16]
    assert model.classifier.out_features == 5
    assert ResNet56("relu(x)", width=1e-6, blocks=1).stem.out_channels == 1


@pytest.mark.parametrize("activation", EQUAL_ACTIVATIONS, ids=["text", "expression", "factory"])
def test_text_expression_and_factory_build_the_same_network(activation: Any) -> None:
    def build(choice: Any) -> nn.Module:
        return ResNet56(choice, width=1 / 8, blocks=1)

    assert_same_network(build, activation, torch.randn(2, 3, 10, 10))


def test_it_has_fisher_eigenvalues() -> None:
    model = ResNet56("swish(x)", width=1 / 16, blocks=2)
    eigenvalues = fisher_log_eigenvalues(model, torch.randn(4, 3, 8, 8))
    assert sorted(len(values) for values in eigenvalues.values()) == sorted(weight_counts(model))


@pytest.mark.parametrize(
    ("name", "value"), [("num_classes", 0), ("in_channels", 0), ("width", 0.0), ("blocks", 0)]
)
def test_values_out_of_range_are_refused(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=rf"ResNet56: {name} must be .*, got {value}"):
        ResNet56("relu(x)", **{name: value})  # type: ignore[arg-type]


def test_a_bad_activation_is_refused() -> None:
    with pytest.raises(ExpressionError, match="relux"):
        ResNet56("relux(x)")
    with pytest.raises(TypeError, match="factory"):
        ResNet56(nn.ReLU())  # type: ignore[arg-type]
