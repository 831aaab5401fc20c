"""The callback on every kind of network, and what it lists as not covered."""

from collections.abc import Callable

import lightning as L
import pytest
import torch
from timm.layers import LayerScale
from torch import Tensor, nn

from aquasurf_optuna.features.fisher import fisher_log_eigenvalues
from lightning_modules.callbacks import FisherEigenvalues
from lightning_modules.callbacks._network import alone_and_eager, counted
from lightning_modules.models import (
    AllCnnC,
    CoAtNet,
    MobileViTV2,
    ResNet56,
    TimmClassifier,
)
from tests.lightning_modules.callbacks.helpers import (
    CLASSES,
    classifier_of,
    images,
    loader,
    small_network,
)

MakeTrainer = Callable[..., L.Trainer]

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
    pytest.mark.filterwarnings("ignore:.*but have no `val_dataloader`"),
]

NETWORKS: dict[str, tuple[Callable[[], nn.Module], int]] = {
    "All-CNN-C": (lambda: AllCnnC("relu(x)", width=1 / 12), 32),
    "ResNet-56": (lambda: ResNet56("relu(x)", width=1 / 4), 16),
    "MobileViTv2": (lambda: MobileViTV2("relu(x)"), 64),
    "ResNet-50": (
        lambda: TimmClassifier(
            "resnet50",
            "relu(x)",
            num_classes=CLASSES,
            channels=(8, 8, 16, 16),
            zero_init_last=False,
        ),
        32,
    ),
    "CoAtNet": (
        lambda: CoAtNet("relu(x)", image_size=64, depths=(1, 1, 2, 1), widths=(8, 16, 32, 32)),
        64,
    ),
}


def fit(
    module: L.LightningModule,
    callback: FisherEigenvalues,
    make_trainer: MakeTrainer,
    inputs: Tensor,
) -> None:
    make_trainer(callbacks=[callback], max_steps=1).fit(module, loader(inputs))


@pytest.mark.parametrize(("build", "side"), NETWORKS.values(), ids=NETWORKS)
def test_every_network_has_its_eigenvalues(
    build: Callable[[], nn.Module], side: int, make_trainer: MakeTrainer
) -> None:
    torch.manual_seed(0)
    network = build()
    callback = FisherEigenvalues()
    fit(classifier_of(network), callback, make_trainer, images(8, 3, side))

    layers = {
        name: module
        for name, module in network.named_modules()
        if isinstance(module, nn.Linear | nn.Conv2d)
    }
    assert callback.eigenvalues is not None
    assert callback.eigenvalues.keys() == layers.keys()
    for name, values in callback.eigenvalues.items():
        assert len(values) == sum(p.numel() for p in layers[name].parameters())


def test_what_is_not_covered_is_listed_and_told(
    make_trainer: MakeTrainer, caplog: pytest.LogCaptureFixture
) -> None:
    callback = FisherEigenvalues()
    build, side = NETWORKS["CoAtNet"]
    network = build()
    with caplog.at_level("INFO", "lightning.pytorch.utilities.rank_zero"):
        fit(classifier_of(network), callback, make_trainer, images(8, 3, side))

    tables = {
        f"{name}.relative_position_bias_table"
        for name, module in network.named_modules()
        if type(module).__name__ == "RelPosBias"
    }
    assert len(tables) == 3
    reason = "RelPosBias: no linear map or convolution uses it as it is"
    norms = {k: v for k, v in callback.not_covered.items() if k not in tables}
    assert {callback.not_covered[name] for name in tables} == {reason}
    assert {text.split(":")[1] for text in norms.values()} == {
        " normalisation does not count (Appendix C)"
    }
    told = next(m for m in caplog.messages if m.startswith("FisherEigenvalues: does not cover"))
    assert f"3 parameters ({reason})" in told


class Tokens(nn.Module):
    """A transformer's bare parameters: a position embedding and a layer scale."""

    def __init__(self) -> None:
        super().__init__()
        self.position = nn.Parameter(torch.zeros(8, 8))
        self.embed = nn.Linear(8, 6)
        self.scale = LayerScale(6)
        self.head = nn.Linear(6, CLASSES)

    def forward(self, inputs: Tensor) -> Tensor:
        tokens = self.scale(self.embed(inputs.squeeze(1) + self.position).tanh())
        logits: Tensor = self.head(tokens.mean(dim=1))
        return logits


def test_position_embeddings_and_scales_are_listed(make_trainer: MakeTrainer) -> None:
    callback = FisherEigenvalues()
    fit(classifier_of(Tokens()), callback, make_trainer, images(8))
    assert callback.not_covered == {
        "position": "Tokens: no linear map or convolution uses it as it is",
        "scale.gamma": "LayerScale: no linear map or convolution uses it as it is",
    }
    assert callback.eigenvalues is not None
    assert list(callback.eigenvalues) == ["embed", "head"]


class WithConv1d(nn.Sequential):
    def __init__(self) -> None:
        super().__init__(nn.Flatten(2), nn.Conv1d(1, 2, 3), nn.Flatten(), nn.Linear(124, CLASSES))


def test_what_to_leave_out_can_be_said(make_trainer: MakeTrainer) -> None:
    callback = FisherEigenvalues()
    fit(classifier_of(WithConv1d()), callback, make_trainer, images(8))
    assert callback.eigenvalues is not None
    assert list(callback.eigenvalues) == ["1", "3"]
    assert callback.not_covered == {}
    without = FisherEigenvalues(skip=(nn.Conv1d,))
    fit(classifier_of(WithConv1d()), without, make_trainer, images(8))
    assert without.eigenvalues is not None
    assert list(without.eigenvalues) == ["3"]
    assert without.not_covered == {
        "1.weight": "Conv1d: `skip` leaves it out",
        "1.bias": "Conv1d: `skip` leaves it out",
    }


def test_parameters_are_counted_by_their_reason() -> None:
    reasons = {"a": "PReLU: why", "b": "LayerNorm: why", "c": "PReLU: why"}
    assert counted(reasons) == "2 parameters (PReLU: why), 1 parameter (LayerNorm: why)"


class OwnModule(L.LightningModule):
    """Not our Classifier: the network is the module itself."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(64, 5)
        self.second = nn.Linear(5, CLASSES)

    def forward(self, inputs: Tensor) -> Tensor:
        logits: Tensor = self.second(self.first(inputs.flatten(1)).tanh())
        return logits

    def training_step(self, batch: list[Tensor]) -> Tensor:
        return nn.functional.cross_entropy(self(batch[0]), batch[1])

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def test_any_other_module_is_measured_itself(make_trainer: MakeTrainer) -> None:
    module, callback = OwnModule(), FisherEigenvalues()
    expected = fisher_log_eigenvalues(module, images(8))
    fit(module, callback, make_trainer, images(8))
    assert callback.eigenvalues is not None
    assert callback.eigenvalues.keys() == expected.keys() == {"first", "second"}
    assert all(torch.equal(callback.eigenvalues[name], expected[name]) for name in expected)


def compiled_network() -> L.LightningModule:
    return classifier_of(torch.compile(small_network(), backend="eager"))  # type: ignore[arg-type]


def compiled_part() -> L.LightningModule:
    network = small_network()
    network[1] = torch.compile(network[1], backend="eager")  # type: ignore[operator]
    return classifier_of(network)


def compiled_in_place() -> L.LightningModule:
    module = classifier_of(small_network())
    module.network.compile(backend="eager")
    return module


def compiled_module() -> L.LightningModule:
    return torch.compile(classifier_of(small_network()), backend="eager")  # type: ignore[return-value]


def compiled_other_module() -> L.LightningModule:
    return torch.compile(OwnModule(), backend="eager")  # type: ignore[return-value]


# Of torch's own, where a whole training step is compiled.
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
@pytest.mark.parametrize(
    "build",
    [compiled_network, compiled_part, compiled_in_place, compiled_module, compiled_other_module],
)
def test_a_compiled_network_is_measured_as_it_was_written(
    build: Callable[[], L.LightningModule], make_trainer: MakeTrainer
) -> None:
    torch.compiler.reset()
    module, callback = build(), FisherEigenvalues()
    plain = OwnModule() if build is compiled_other_module else small_network()
    names = (name.replace("_orig_mod.", "") for name in module.state_dict())
    state = zip((n.removeprefix("network.") for n in names), module.parameters(), strict=True)
    plain.load_state_dict(dict(state))
    expected = fisher_log_eigenvalues(plain, images(8))
    fit(module, callback, make_trainer, images(8))
    assert callback.eigenvalues is not None
    found = {k.removesuffix("._orig_mod"): v for k, v in callback.eigenvalues.items()}
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_nothing_is_compiled_for_the_eigenvalues() -> None:
    def refuse(graph: torch.fx.GraphModule, inputs: list[Tensor]) -> Callable[..., Tensor]:
        raise RuntimeError("compiled after all")

    torch.compiler.reset()
    network = torch.nn.Sequential(torch.compile(small_network(), backend=refuse))
    with alone_and_eager(network):
        logits = network(images(8))
    assert torch.equal(logits, small_network()(images(8)))
    with pytest.raises(Exception, match="compiled after all"):
        network(images(8))


def test_synchronised_normalisation_runs_alone_and_then_as_before() -> None:
    norm = nn.SyncBatchNorm(3)
    before = norm.forward
    with alone_and_eager(nn.Sequential(norm)):
        assert norm.forward != before
        outputs = norm(images(8, 3))
    assert norm.forward == before
    assert torch.allclose(outputs.mean(dim=(0, 2, 3)), torch.zeros(3), atol=1e-6)
