import itertools

import pytest
import torch
from torch import nn

from aquasurf_optuna.activation import Activation
from aquasurf_optuna.exceptions import ExpressionError
from aquasurf_optuna.expression import Expression
from lightning_modules.models.all_cnn_c import AllCnnC

PUBLISHED_WEIGHTS = [2688, 83040, 83040, 166080, 331968, 331968, 331968, 37056, 1930]


def convolutions(model: nn.Module) -> list[nn.Conv2d]:
    return [layer for layer in model.modules() if isinstance(layer, nn.Conv2d)]


def test_weights_of_each_layer_are_the_published_ones() -> None:
    layers = convolutions(AllCnnC("relu(x)"))
    counts = [sum(p.numel() for p in layer.parameters()) for layer in layers]
    assert counts == PUBLISHED_WEIGHTS
    # The length of the paper's histograms (Appendix D).
    assert sum(count // 100 for count in counts) == 13_692


def test_width_scales_the_hidden_channels_only() -> None:
    layers = convolutions(AllCnnC("relu(x)", width=1 / 6, in_channels=1, num_classes=7))
    assert [layer.out_channels for layer in layers] == [16] * 3 + [32] * 5 + [7]
    assert layers[0].in_channels == 1
    assert convolutions(AllCnnC("relu(x)", width=1e-6))[0].out_channels == 1


@pytest.mark.parametrize(("side", "last"), [(8, 2), (10, 3), (32, 8)])
def test_any_image_size_passes(side: int, last: int) -> None:
    model = AllCnnC("relu(x)", width=1 / 48)
    images = torch.randn(2, 3, side, side)
    assert model(images).shape == (2, 10)
    assert isinstance(model[-1], nn.Flatten)
    assert model[:-2](images).shape == (2, 10, last, last)


def test_strides_stand_where_the_pooling_was() -> None:
    assert [layer.stride[0] for layer in convolutions(AllCnnC("relu(x)"))] == [
        1, 1, 2, 1, 1, 2, 1, 1, 1,
    ]  # fmt: skip


@pytest.mark.parametrize("activate_last", [True, False])
def test_every_site_gets_a_module_of_its_own(activate_last: bool) -> None:
    made: list[nn.Module] = []

    def factory() -> nn.Module:
        made.append(nn.Tanh())
        return made[-1]

    model = AllCnnC(factory, width=1 / 48, activate_last=activate_last)
    sites = [layer for layer in model.children() if isinstance(layer, nn.Tanh)]
    assert len(made) == len(set(map(id, made))) == (9 if activate_last else 8)
    assert list(map(id, sites)) == list(map(id, made))
    names = [name for name, _ in model.named_children()]
    followed = [n for n, after in itertools.pairwise(names) if after.startswith("act")]
    assert followed == [f"conv{i}" for i in range(1, len(made) + 1)]


@pytest.mark.parametrize("activation", ["tanh(x)", Expression.parse("tanh(x)"), nn.Tanh])
def test_text_expression_and_factory_build_the_same_network(activation: object) -> None:
    images = torch.randn(2, 3, 10, 10)
    reference = AllCnnC(nn.Tanh, width=1 / 48).eval()
    model = AllCnnC(activation, width=1 / 48).eval()  # type: ignore[arg-type]
    model.load_state_dict(reference.state_dict())
    assert torch.equal(model(images), reference(images))
    assert not torch.equal(model(images), AllCnnC("relu(x)", width=1 / 48)(images))


def test_activations_are_really_swapped() -> None:
    model = AllCnnC("swish(x)", width=1 / 48)
    texts = {str(m.expression) for m in model.modules() if isinstance(m, Activation)}
    assert texts == {"swish(x)"}


def test_dropout_follows_the_strided_layers() -> None:
    names = [n for n, m in AllCnnC("relu(x)", width=1 / 48).named_children()]
    assert [names[i - 1] for i, n in enumerate(names) if n.startswith("drop")] == ["act3", "act6"]
    assert all(m.p == 0.5 for m in AllCnnC("relu(x)").modules() if isinstance(m, nn.Dropout))
    without = AllCnnC("relu(x)", width=1 / 48, dropout=0.0)
    assert not any(isinstance(m, nn.Dropout) for m in without.modules())


@pytest.mark.parametrize(
    ("name", "value"),
    [("num_classes", 0), ("in_channels", 0), ("width", 0.0), ("dropout", 1.0), ("dropout", -0.1)],
)
def test_values_out_of_range_are_refused(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=rf"AllCnnC: {name} must be .*, got {value}"):
        AllCnnC("relu(x)", **{name: value})  # type: ignore[arg-type]


def test_a_bad_activation_is_refused() -> None:
    with pytest.raises(ExpressionError, match="relux"):
        AllCnnC("relux(x)")
    with pytest.raises(TypeError, match="factory"):
        AllCnnC(nn.ReLU())  # type: ignore[arg-type]
