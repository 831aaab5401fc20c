import functools
import pickle

import pytest
import timm
import torch
from torch import Tensor, nn

from aquasurf_optuna.activation import Activation
from lightning_modules.models import AllCnnC, activation_modules
from lightning_modules.models._sites import names_of, recording, run_once


class Chatty(nn.Module):
    """Two activations, of which one runs, and a layer that needs values where asked to."""

    def __init__(self, *, needs_values: bool = False) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 2)
        self.used = nn.Tanh()
        self.idle = nn.Tanh()
        self.drop = nn.Dropout(0.5)
        self.drop.eval()
        self.needs_values = needs_values
        self.devices: list[str] = []

    def forward(self, x: Tensor) -> Tensor:
        self.devices.append(x.device.type)
        y: Tensor = self.used(self.layer(x) + torch.zeros(2))
        return y * y.sum().item() if self.needs_values else y


def test_activation_modules_are_the_elementwise_functions() -> None:
    model = nn.ModuleDict(
        {
            "own": Activation("relu(x)"),
            "torch": nn.GELU(),
            "timm": timm.layers.QuickGELU(),
            "gate": nn.Sequential(nn.Sigmoid()),
            "softmax": nn.Softmax(dim=1),
            "attention": nn.MultiheadAttention(4, 2),
            "layer": nn.Linear(2, 2),
            "nothing": nn.Identity(),
        }
    )
    assert list(activation_modules(model)) == ["own", "torch", "timm", "gate.0"]


def test_activation_modules_of_all_cnn_c() -> None:
    names = list(activation_modules(AllCnnC("tanh(x)", width=1 / 48)))
    assert names == [f"act{i}" for i in range(1, 10)]


def test_names_follow_the_model_and_leave_strangers_out() -> None:
    model = Chatty()
    assert names_of(model, [model.idle, nn.Tanh(), model.used]) == ("used", "idle")


def test_a_recording_factory_keeps_what_it_makes() -> None:
    made: list[nn.Module] = []
    factory = recording(nn.ReLU, made)
    assert isinstance(factory, functools.partial)
    # By keyword, by position as in timm's VGG, and not at all.
    modules = [factory(inplace=True), factory(True), factory()]
    assert [module.inplace for module in modules] == [True, True, False]  # type: ignore[attr-defined]
    assert list(map(id, made)) == list(map(id, modules))


def test_a_factory_that_knows_no_inplace_is_called_without() -> None:
    made: list[nn.Module] = []
    assert isinstance(recording(nn.Tanh, made)(inplace=True), nn.Tanh)
    assert len(made) == 1
    with pytest.raises(TypeError, match="unexpected keyword argument 'slope'"):
        recording(Activation.factory("relu(x)"), made)(slope=2)
    assert len(made) == 1


def test_a_recording_factory_can_be_pickled() -> None:
    factory = pickle.loads(pickle.dumps(recording(Activation.factory("relu(x)"), [])))
    assert str(factory()) == "Activation(relu(x))"


def test_run_once_tells_what_ran_without_computing() -> None:
    model = Chatty()
    ran, output = run_once(model, (1, 3), [model.used, model.idle])
    assert (ran, output.shape, model.devices) == ([model.used], (1, 2), ["meta"])
    assert {p.device.type for p in model.parameters()} == {"cpu"}
    assert not model.used._forward_pre_hooks


def test_run_once_computes_where_values_are_needed() -> None:
    model = Chatty(needs_values=True)
    ran, output = run_once(model, (1, 3), [model.used])
    assert (ran, output.device.type) == ([model.used], "cpu")
    assert model.devices == ["meta", "cpu"]


def test_run_once_gives_the_modes_back() -> None:
    model = Chatty()
    run_once(model, (1, 3), [])
    assert (model.training, model.drop.training) == (True, False)


def test_an_error_of_the_model_itself_comes_through() -> None:
    model = Chatty()
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        run_once(model, (1, 4), [])
    assert model.training
