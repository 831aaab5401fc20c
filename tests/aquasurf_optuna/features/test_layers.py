"""Which parameters count as a layer's weight, under which name, and why others do not."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from aquasurf_optuna.exceptions import UnsupportedModelError
from aquasurf_optuna.features.layers import Weights


class Gain(nn.Module):
    """A normalisation of one's own: its weight is a vector."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(3))


class OwnNames(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.in_proj_weight = nn.Parameter(torch.zeros(6, 2))
        self.table = nn.Parameter(torch.zeros(6, 3, 1))


def test_a_layer_is_called_after_its_module_and_its_rows() -> None:
    model = nn.Sequential(nn.Linear(2, 3), OwnNames())
    weights, own = Weights(model), model[1]
    assert weights.layer_of(model[0].weight, None) == "0"
    assert weights.layer_of(own.in_proj_weight, None) == "1.in_proj"
    assert weights.layer_of(own.in_proj_weight[2:4], None) == "1.in_proj[2:4]"
    assert weights.layer_of(own.table.chunk(2)[1], None) == "1.table[3:6]"
    assert weights.layer_of(torch.zeros(6, 2), None) is None
    assert weights.not_covered() == {"0.bias": "Linear: it never ran in the forward pass"}
    weights.count_bias(model[0].bias)
    assert weights.not_covered() == {}


def test_the_model_itself_has_no_name() -> None:
    layer = nn.Linear(2, 3)
    assert Weights(layer).layer_of(layer.weight, None) == ""
    assert list(Weights(layer).not_covered()) == ["weight", "bias"]


VIEWS: dict[str, tuple[Callable[[Tensor], Tensor], str | None]] = {
    "itself": (lambda w: w, "0"),
    "a view of all": (lambda w: w.view(4, 4, 1, 1), "0"),
    "rows": (lambda w: w[1:3], "0[1:3]"),
    "one row": (lambda w: w[3:], "0[3:4]"),
    "flattened": (lambda w: w.flatten(1), "0"),
    "flattened rows": (lambda w: w[2:, :, 0, 0], "0[2:4]"),
    "transposed": (lambda w: w[:, :, 0, 0].t(), None),
    "columns": (lambda w: w[:, :2], None),
    "every second row": (lambda w: w[::2], None),
    "turned around": (lambda w: w.flatten(1).as_strided((4, 4), (1, 4)), None),
    "a row as a vector": (lambda w: w[0, :, 0, 0], None),
}


@pytest.mark.parametrize(("view", "layer"), VIEWS.values(), ids=VIEWS)
def test_only_rows_of_a_weight_are_layers(
    view: Callable[[Tensor], Tensor], layer: str | None
) -> None:
    model = nn.Sequential(nn.Conv2d(4, 4, 1, bias=False))
    weights = Weights(model)
    assert weights.layer_of(view(model[0].weight), None) == layer
    reason = "Conv2d: a linear map uses it, but not row by row (its transpose, say)"
    assert weights.not_covered() == ({} if layer else {"0.weight": reason})


def test_a_vector_is_no_layers_weight() -> None:
    gain = Gain()
    assert Weights(gain).layer_of(gain.weight, None) is None


def test_a_kernel_with_another_order_of_its_numbers_is_no_row() -> None:
    model = nn.Conv2d(4, 4, 3).to(memory_format=torch.channels_last)
    assert Weights(model).layer_of(model.weight, None) == ""
    assert Weights(model).layer_of(model.weight.permute(0, 2, 3, 1).flatten(1), None) is None


@pytest.mark.parametrize("first", [0, 1])
def test_two_views_of_one_weight_do_not_mix(first: int) -> None:
    model = nn.Sequential(nn.Linear(4, 4))
    weights, uses = Weights(model), [model[0].weight, model[0].weight.T]
    weights.layer_of(uses[first], None)
    with pytest.raises(UnsupportedModelError, match="'0' is used as it is and in another view"):
        weights.layer_of(uses[1 - first], None)


@pytest.mark.parametrize(
    ("module", "reason"),
    [
        (nn.Linear(3, 3), "Linear: it never ran in the forward pass"),
        (nn.ConvTranspose2d(3, 3, 1), "ConvTranspose2d: it never ran in the forward pass"),
        (nn.BatchNorm2d(3), "BatchNorm2d: normalisation does not count (Appendix C)"),
        (nn.GroupNorm(1, 3), "GroupNorm: normalisation"),
        (nn.LayerNorm(3), "LayerNorm: normalisation"),
        (nn.RMSNorm(3), "RMSNorm: normalisation"),
        (nn.Embedding(4, 3), "Embedding: its use of weights is not covered"),
        (nn.EmbeddingBag(4, 3), "EmbeddingBag: its use of weights"),
        (nn.LSTM(3, 3), "LSTM: its use of weights"),
        (nn.GRUCell(3, 3), "GRUCell: its use of weights"),
        (nn.Bilinear(2, 2, 3), "Bilinear: its use of weights"),
        (nn.PReLU(), "PReLU: no linear map or convolution uses it as it is"),
        (Gain(), "Gain: no linear map or convolution uses it as it is"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else "",
)
def test_every_parameter_that_is_not_covered_has_its_reason(module: nn.Module, reason: str) -> None:
    listed = Weights(nn.Sequential(module)).not_covered()
    assert listed.keys() == {f"0.{name}" for name, _ in module.named_parameters()}
    assert all(text.startswith(reason) for text in listed.values())


def test_what_is_skipped_is_no_layer() -> None:
    model = nn.Sequential(nn.Linear(2, 3), nn.Conv1d(2, 3, 1))
    weights = Weights(model, (nn.Conv1d,))
    assert weights.layer_of(model[1].weight, "1") is None
    assert weights.layer_of(model[0].weight, "0") == "0"
    assert weights.not_covered()["1.weight"] == "Conv1d: `skip` leaves it out"
    assert weights.not_covered()["1.bias"] == "Conv1d: `skip` leaves it out"


def test_a_weight_shared_with_an_embedding_is_listed_with_it() -> None:
    embedding, head = nn.Embedding(5, 3), nn.Linear(3, 5)
    head.weight = embedding.weight
    for model, reason in (
        (nn.Sequential(embedding, head), "Embedding: its use of weights is not covered"),
        (
            nn.Sequential(head, embedding),
            "Embedding in '1', which shares it: its use of weights is not covered",
        ),
    ):
        weights = Weights(model)
        assert weights.layer_of(head.weight, None) is None
        assert weights.not_covered()["0.weight"] == reason


def test_a_module_that_ran_is_not_said_not_to_have_run() -> None:
    weights = Weights(nn.Sequential(nn.Linear(2, 3)))
    weights.note_run("0")
    reason = "Linear: no linear map or convolution uses it as it is"
    assert weights.not_covered() == {"0.weight": reason, "0.bias": reason}


def test_a_weight_computed_inside_a_layer_stands_for_its_parameters() -> None:
    model = nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(2, 3)), nn.Linear(2, 3))
    computed = model[0].weight
    assert Weights(model).layer_of(computed, None) is None
    assert Weights(model).layer_of(computed[:2], "1") is None
    weights = Weights(model)
    assert weights.layer_of(computed, "0") == "0"
    assert [name for name in weights.not_covered() if name.startswith("0.")] == []
    assert Weights(model, (nn.Linear,)).layer_of(computed, "0") is None
    assert Weights(nn.Sequential(nn.Flatten())).layer_of(computed, None) is None


def torchscript() -> nn.Module:
    return torch.jit.trace(nn.Linear(2, 3), torch.zeros(1, 2))


@pytest.mark.filterwarnings("ignore:`torch.jit.trace.* is deprecated")
@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: nn.LazyConv1d(3, 1), "layer '1' has parameters that are not initialised yet"),
        (torchscript, "module '1' is TorchScript"),
    ],
)
def test_what_cannot_be_watched_is_refused(build: Callable[[], nn.Module], message: str) -> None:
    model = nn.Sequential(nn.Tanh(), build())
    with pytest.raises(UnsupportedModelError, match=message):
        Weights(model)
