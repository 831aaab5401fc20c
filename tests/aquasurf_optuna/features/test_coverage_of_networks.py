"""Every parameter of a network is a layer's, or listed with the reason why not."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
import timm
import torch
from torch import nn
from torch.nn.modules.conv import _ConvNd

from aquasurf_optuna.features.fisher import FisherSpectrum, fisher_log_eigenvalues
from lightning_modules.models import AllCnnC, CoAtNet, MobileViTV2, ResNet56, TimmClassifier
from tests.aquasurf_optuna.features.networks import batch, dense, seeded


class Case(NamedTuple):
    """A network, the side of its images, and how many numbers the biases have that it computes."""

    build: Callable[[], nn.Module]
    side: int = 32
    computed: int = 0


def of_timm(name: str, side: int = 32, computed: int = 0, **options: Any) -> Case:
    build = functools.partial(timm.create_model, name, num_classes=4, **options)
    return Case(build, side, computed)


SMALL = {"patch_size": 8, "depth": 2, "embed_dim": 24, "num_heads": 2, "img_size": 32}
CASES: dict[str, Case] = {
    "All-CNN-C": Case(lambda: AllCnnC("relu(x)", width=1 / 12)),
    "ResNet-56": Case(lambda: ResNet56("relu(x)", width=1 / 4), 16),
    "MobileViTv2": Case(lambda: MobileViTV2("relu(x)"), 64),
    "CoAtNet": Case(
        lambda: CoAtNet("relu(x)", image_size=64, depths=(1, 1, 2, 1), widths=(8, 16, 32, 32)), 64
    ),
    "ResNet-50": Case(
        lambda: TimmClassifier(
            "resnet50", "relu(x)", num_classes=4, channels=(8, 8, 16, 16), zero_init_last=False
        )
    ),
    "ViT": of_timm("vit_tiny_patch16_224", **SMALL),
    # The bias of its keys is nought, in both blocks; queries' and values' are put beside it.
    "BEiT": of_timm("beit_base_patch16_224", computed=2 * 3 * 24, **SMALL),
    "EVA-02": of_timm("eva02_tiny_patch14_224", computed=2 * 3 * 24, **SMALL),
    "Swin": of_timm(
        "swin_tiny_patch4_window7_224", img_size=32, window_size=4, depths=(1, 1), embed_dim=16,
        num_heads=(2, 4)),
    "CaiT": of_timm("cait_xxs24_224", **SMALL),
    "XCiT": of_timm("xcit_nano_12_p16_224", img_size=32, depth=2, embed_dim=16, num_heads=2),
    "ConvNeXt": of_timm("convnext_atto", depths=(1, 1, 1, 1), dims=(8, 8, 16, 16), side=64),
    "ResNetV2": of_timm("resnetv2_50", layers=(1, 1, 1, 1), channels=(8, 8, 16, 16), stem_chs=8),
    "torch's transformer": Case(
        lambda: nn.Sequential(
            nn.Flatten(2),
            nn.TransformerEncoder(
                nn.TransformerEncoderLayer(64, 2, 16, batch_first=True), 2,
                enable_nested_tensor=False),
            nn.Flatten(), nn.Linear(192, 4)), 8),
    "EfficientNet-B0": of_timm("efficientnet_b0", side=64),
    "MobileViT-XXS": of_timm("mobilevit_xxs", side=96),
    "LeViT": of_timm("levit_128s", side=224),
    "CoaT-Lite": of_timm("coat_lite_tiny", side=64, img_size=64),
}  # fmt: skip


def layer_of(parameter: str, layers: set[str]) -> str | None:
    """The layer that a parameter belongs to by its name."""
    module, _, own = parameter.rpartition(".")
    inside = own.removesuffix("weight").removesuffix("bias").removesuffix("_")
    name = ".".join(filter(None, [module, inside]))
    return name if name in layers else None


def assert_all_parameters_told(model: nn.Module, spectra: FisherSpectrum, computed: int) -> None:
    parameters = dict(model.named_parameters())
    assert spectra.not_covered.keys() <= parameters.keys()
    assert all(spectra.not_covered.values())
    covered = parameters.keys() - spectra.not_covered.keys()
    layers = {name.partition("[")[0] for name in spectra}
    assert {layer_of(name, layers) for name in covered} == layers
    count = sum(parameters[name].numel() for name in covered)
    assert sum(map(len, spectra.values())) == count + computed


def assert_only_other_kinds_listed(model: nn.Module, spectra: FisherSpectrum) -> None:
    """Each matrix of a linear map or a convolution is a layer's, for all of them ran."""
    for name in spectra.not_covered:
        owner = model.get_submodule(name.rpartition(".")[0])
        assert not isinstance(owner, nn.Linear | _ConvNd), name


def measured(case: Case) -> tuple[nn.Module, FisherSpectrum]:
    model = seeded(case.build)
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            # Some begin at 0, so that no gradient reaches what is before them.
            nn.init.ones_(module.weight)
    return model, fisher_log_eigenvalues(model, batch(4, 3, case.side, case.side))


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_every_parameter_is_covered_or_listed(case: Case) -> None:
    model, spectra = measured(case)
    assert_all_parameters_told(model, spectra, case.computed)
    assert_only_other_kinds_listed(model, spectra)


def broken(spectra: FisherSpectrum) -> dict[str, FisherSpectrum]:
    layers, listed = dict(spectra), spectra.not_covered
    return {
        "a layer missing": FisherSpectrum({"first": layers["first"]}, not_covered=listed),
        "a reason missing": FisherSpectrum(layers),
        "an empty reason": FisherSpectrum(layers, not_covered=dict.fromkeys(listed, "")),
        "another parameter": FisherSpectrum(layers, not_covered={**listed, "other": "why"}),
        "an eigenvalue missing": FisherSpectrum(
            {**layers, "last": layers["last"][1:]}, not_covered=listed
        ),
        "listed and covered": FisherSpectrum(
            layers, not_covered={**listed, "first.weight": "why"}
        ),
    }  # fmt: skip


def test_the_check_of_parameters_can_fail() -> None:
    model = dense(nn.BatchNorm1d(5))
    spectra = fisher_log_eigenvalues(model, batch(6, 4))
    assert_all_parameters_told(model, spectra, 0)
    for wrong in broken(spectra).values():
        with pytest.raises(AssertionError, match="assert"):
            assert_all_parameters_told(model, wrong, 0)
    listed = FisherSpectrum(spectra, not_covered={"first.weight": "why"})
    with pytest.raises(AssertionError, match=r"first\.weight"):
        assert_only_other_kinds_listed(model, listed)


def test_a_network_that_shares_its_blocks_is_told_once() -> None:
    block = nn.Linear(4, 4)
    model = seeded(lambda: nn.Sequential(block, nn.Tanh(), block, nn.Tanh(), nn.Linear(4, 3)))
    spectra = fisher_log_eigenvalues(model, torch.ones(2, 4) + batch(2, 4))
    assert_all_parameters_told(model, spectra, 0)
    assert list(spectra) == ["0", "4"]
