"""Weights that are used several times, never, without effect, or in two ways; several inputs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from aquasurf_optuna.exceptions import InvalidSpectrumError, UnsupportedModelError
from aquasurf_optuna.features.fisher import FisherSpectrum, fisher_log_eigenvalues
from tests.aquasurf_optuna.features.networks import (
    Apply,
    assert_equal_spectra,
    batch,
    dense,
    seeded,
)
from tests.oracles.kfac_oracles import ByHand, assert_same_spectrum

VECTORS = batch(6, 4, dtype=torch.float64)
LABELS = torch.arange(6) % 3


class Written(nn.Module):
    """A forward pass as a function of a network's parts and its inputs."""

    def __init__(self, forward: Callable[..., Any], **parts: nn.Module | nn.Parameter) -> None:
        super().__init__()
        self.written = forward
        for name, part in parts.items():
            setattr(self, name, part)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.written(self, *args, **kwargs)


def model_of(forward: Callable[..., Any], **parts: Callable[[], nn.Module]) -> nn.Module:
    return seeded(lambda: Written(forward, **{k: part() for k, part in parts.items()})).double()


def square(size: int = 4) -> nn.Module:
    return nn.Linear(size, size)


def head() -> nn.Module:
    return nn.Linear(4, 3)


def tied_pair() -> nn.Module:
    pair = nn.ModuleList([square(), square()])
    pair[1].weight, pair[1].bias = pair[0].weight, pair[0].bias
    return pair


def layer_by_hand(hand: ByHand, name: str, layer: nn.Linear, x: Tensor) -> Tensor:
    return hand.linear(name, x, layer.weight, layer.bias)


def twice_by_hand(hand: ByHand, name: str, layer: nn.Linear, last: nn.Linear) -> Tensor:
    once = layer_by_hand(hand, name, layer, VECTORS).tanh()
    return layer_by_hand(hand, "head", last, layer_by_hand(hand, name, layer, once).tanh())


def assert_as_by_hand(spectra: FisherSpectrum, hand: ByHand, outputs: Tensor) -> None:
    loss = F.cross_entropy(outputs, LABELS, reduction="sum")
    expected = hand.eigenvalues(loss, len(LABELS))
    assert list(spectra) == list(expected)
    for name, eigenvalues in expected.items():
        assert_same_spectrum(spectra[name], eigenvalues)


def test_a_layer_that_runs_twice_counts_both_uses() -> None:
    model = model_of(
        lambda m, x: m.head(m.layer(m.layer(x).tanh()).tanh()), layer=square, head=head
    )
    spectra, hand = fisher_log_eigenvalues(model, VECTORS, LABELS), ByHand()
    assert_as_by_hand(spectra, hand, twice_by_hand(hand, "layer", model.layer, model.head))
    assert spectra.not_covered == {}


def test_two_modules_with_one_weight_are_one_layer() -> None:
    model = model_of(
        lambda m, x: m.head(m.pair[1](m.pair[0](x).tanh()).tanh()), pair=tied_pair, head=head
    )
    spectra, hand = fisher_log_eigenvalues(model, VECTORS, LABELS), ByHand()
    assert_as_by_hand(spectra, hand, twice_by_hand(hand, "pair.0", model.pair[0], model.head))


@pytest.mark.parametrize("unused", [0, 1])
def test_a_use_without_effect_is_a_use(unused: int) -> None:
    def forward(model: nn.Module, x: Tensor) -> Tensor:
        both = [model.layer(x), model.layer(3 * x)]
        return model.head(both[1 - unused].tanh())

    model, hand = model_of(forward, layer=square, head=head), ByHand()
    both = [layer_by_hand(hand, "layer", model.layer, x) for x in (VECTORS, 3 * VECTORS)]
    outputs = layer_by_hand(hand, "head", model.head, both[1 - unused].tanh())
    assert_as_by_hand(fisher_log_eigenvalues(model, VECTORS, LABELS), hand, outputs)


def test_the_oracle_fails_where_a_use_is_missing() -> None:
    model = model_of(
        lambda m, x: m.head(m.layer(m.layer(x).tanh()).tanh()), layer=square, head=head
    )
    spectra, hand = fisher_log_eigenvalues(model, VECTORS, LABELS), ByHand()
    outputs = twice_by_hand(hand, "layer", model.layer, model.head)
    del hand.uses["layer"][1]
    with pytest.raises(AssertionError, match="Not equal to tolerance"):
        assert_as_by_hand(spectra, hand, outputs)


@pytest.mark.parametrize("sharing", ["expand", "reduce"])
def test_a_layer_of_one_output_only_has_its_fisher_information(sharing: Any) -> None:
    """Each term of "exact" reaches one of the heads alone."""

    def forward(model: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
        return model.mean(x), model.variance(x).exp()

    model = model_of(forward, mean=lambda: nn.Linear(4, 2), variance=lambda: nn.Linear(4, 2))
    spectra = fisher_log_eigenvalues(
        model, VECTORS, loss="gaussian", fisher="exact", sharing=sharing
    )
    mean, variance = model(VECTORS)
    ones = torch.cat([torch.ones(6, 1, dtype=torch.float64), VECTORS], 1)
    omega = ones.T @ ones / 6
    # The Fisher information of a Gaussian by its mean, and by the logarithm of its variance.
    for name, by_output in (("mean", (1 / variance).mean(0)), ("variance", torch.full((2,), 0.5))):
        expected = torch.kron(omega, by_output.double().diag().detach())
        assert_same_spectrum(spectra[name], torch.linalg.eigvalsh(expected).numpy())
    assert mean.shape == (6, 2)


def tied_to_an_embedding() -> nn.Module:
    def forward(model: nn.Module, tokens: Tensor) -> Tensor:
        return model.head(model.middle(model.embedding(tokens)).tanh().mean(1))

    model = model_of(forward, embedding=lambda: nn.Embedding(5, 4), middle=square,
                     head=lambda: nn.Linear(4, 5))  # fmt: skip
    model.head.weight = model.embedding.weight
    return model


def test_a_weight_tied_to_an_embedding_is_listed() -> None:
    tokens = torch.randint(0, 5, (6, 3), generator=torch.Generator().manual_seed(0))
    spectra = fisher_log_eigenvalues(tied_to_an_embedding(), tokens)
    assert list(spectra) == ["middle"]
    assert spectra.not_covered == {
        "embedding.weight": "Embedding: its use of weights is not covered",
        "head.bias": "Linear: its weight is not covered",
    }


def different_biases() -> nn.Module:
    model = model_of(lambda m, x: m.head(m.pair[1](m.pair[0](x))), pair=tied_pair, head=head)
    model.pair[1].bias = nn.Parameter(model.pair[0].bias.detach().clone())
    return model


def one_bias() -> nn.Module:
    model = different_biases()
    model.pair[1].bias = None
    return model


def transposed() -> nn.Module:
    return model_of(lambda m, x: m.head(F.linear(m.layer(x), m.layer.weight.T)),
                    layer=lambda: nn.Linear(4, 4), head=head)  # fmt: skip


def both_convolutions() -> nn.Module:
    def forward(model: nn.Module, x: Tensor) -> Tensor:
        x = F.conv_transpose1d(model.conv(x[:, None]), model.conv.weight)
        return model.head(x[:, 0])

    return model_of(forward, conv=lambda: nn.Conv1d(1, 1, 2, bias=False), head=head)


def mapped() -> nn.Module:
    return model_of(lambda m, x: m.head(torch.vmap(m.layer)(x)), layer=square, head=head)


def checkpointed(*, reentrant: bool) -> nn.Module:
    def forward(model: nn.Module, x: Tensor) -> Tensor:
        return model.head(checkpoint(model.block, x, use_reentrant=reentrant))

    return model_of(forward, block=lambda: nn.Sequential(square(), nn.Tanh(), square()), head=head)


def foreign() -> nn.Module:
    model = model_of(lambda m, x: m.head(x * m.scale), head=head)
    model.scale = torch.ones(4, dtype=torch.float64, requires_grad=True)
    return model


REFUSED: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "different biases": (different_biases, "'pair.0' is used several times, with different biases"),
    "one bias": (one_bias, "'pair.0' is used several times, with different biases"),
    "transposed": (transposed, "'layer' is used as it is and in another view, such as its trans"),
    "both convolutions": (both_convolutions, "'conv' is used by conv1d and by conv_transpose1d"),
    "vmap": (mapped, "'layer' runs inside a transform of torch.func, such as vmap"),
    "checkpointed at once": (lambda: checkpointed(reentrant=False), "checkpointing covers the net"),
    "reentrant": (lambda: checkpointed(reentrant=True), "'block.0' runs under torch.no_grad"),
    "no parameter": (foreign, "requires gradients and is no parameter"),
}


@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad=True:UserWarning")
@pytest.mark.parametrize(("build", "message"), REFUSED.values(), ids=REFUSED)
def test_what_no_kronecker_product_stands_for_is_refused(
    build: Callable[[], nn.Module], message: str
) -> None:
    model = build()
    trainable = [p.requires_grad for p in model.parameters()]
    with pytest.raises(UnsupportedModelError, match=message):
        fisher_log_eigenvalues(model, VECTORS)
    assert [p.requires_grad for p in model.parameters()] == trainable


def test_checkpointing_behind_the_first_layer_changes_nothing() -> None:
    def model(*, kept: bool) -> nn.Module:
        def forward(model: nn.Module, x: Tensor) -> Tensor:
            x = model.first(x)
            x = model.block(x) if kept else checkpoint(model.block, x, use_reentrant=False)
            return model.head(x)

        block = lambda: nn.Sequential(square(), nn.Tanh(), square(), nn.Tanh())  # noqa: E731
        return model_of(forward, first=square, block=block, head=head)

    spectra = [fisher_log_eigenvalues(model(kept=kept), VECTORS) for kept in (True, False)]
    assert_equal_spectra(*spectra)


def test_layers_that_never_run_are_listed() -> None:
    model = model_of(lambda m, x: m.head(x), head=head, spare=square)
    spectra = fisher_log_eigenvalues(model, VECTORS)
    assert list(spectra) == ["head"]
    reason = "Linear: it never ran in the forward pass"
    assert spectra.not_covered == {"spare.weight": reason, "spare.bias": reason}


def test_a_layer_that_does_not_reach_the_loss_is_invalid() -> None:
    def forward(model: nn.Module, x: Tensor) -> Tensor:
        model.lost(x)
        return model.head(x)

    with pytest.raises(InvalidSpectrumError, match="the loss does not depend on its output") as e:
        fisher_log_eigenvalues(model_of(forward, head=head, lost=square), VECTORS)
    assert e.value.layer == "lost"


def test_a_wholly_frozen_network_is_measured() -> None:
    model = dense(nn.Tanh())
    expected = fisher_log_eigenvalues(model, VECTORS.float())
    model.requires_grad_(False)
    assert_equal_spectra(fisher_log_eigenvalues(model, VECTORS.float()), expected)
    assert not any(p.requires_grad for p in model.parameters())


def test_other_modules_with_parameters_are_listed() -> None:
    def forward(model: nn.Module, x: Tensor) -> Tensor:
        x = model.bilinear(x, model.slope(x)) * model.gain
        return model.head(model.norm(model.memory(x[:, None])[0][:, 0]))

    model = model_of(
        forward, bilinear=lambda: nn.Bilinear(4, 4, 4), slope=nn.PReLU, head=head,
        memory=lambda: nn.LSTM(4, 4), norm=lambda: nn.LayerNorm(4),
        gain=lambda: nn.Parameter(torch.ones(4)),
    )  # fmt: skip
    spectra = fisher_log_eigenvalues(model, VECTORS)
    assert list(spectra) == ["head"]
    named = {name for name, _ in model.named_parameters()}
    assert spectra.not_covered.keys() == named - {"head.weight", "head.bias"}
    assert spectra.not_covered["bilinear.weight"] == "Bilinear: its use of weights is not covered"
    assert spectra.not_covered["memory.weight_hh_l0"].startswith("LSTM: ")
    assert spectra.not_covered["gain"].startswith("Written: no linear map")


def two_inputs(model: nn.Module, left: Tensor, right: Tensor) -> Tensor:
    return model.head((model.left(left) + model.right(right)).tanh())


def test_several_inputs_come_in_a_tuple_or_by_name() -> None:
    model = model_of(two_inputs, left=square, right=lambda: nn.Linear(2, 4), head=head)
    left, right = VECTORS, batch(6, 2, seed=5, dtype=torch.float64)
    spectra, hand = fisher_log_eigenvalues(model, (left, right), LABELS), ByHand()
    sides = [layer_by_hand(hand, "left", model.left, left),
             layer_by_hand(hand, "right", model.right, right)]  # fmt: skip
    assert_as_by_hand(
        spectra, hand, layer_by_hand(hand, "head", model.head, (sides[0] + sides[1]).tanh())
    )
    named = {"right": right, "left": left}
    assert_equal_spectra(fisher_log_eigenvalues(model, named, LABELS), spectra)
    assert_equal_spectra(fisher_log_eigenvalues(model, [left, right], LABELS), spectra)
    swapped = fisher_log_eigenvalues(model, (right.new_ones(6, 4), right), LABELS)
    assert not torch.equal(swapped["left"], spectra["left"])


def test_a_graph_of_the_callers_does_not_matter() -> None:
    expected = fisher_log_eigenvalues(dense(nn.Tanh()).double(), VECTORS)
    inputs = VECTORS.clone().requires_grad_()
    for given in (inputs, inputs * 1):
        assert_equal_spectra(fisher_log_eigenvalues(dense(nn.Tanh()).double(), given), expected)
    assert inputs.grad is None


def test_autocast_inside_the_network_gives_like_spectra() -> None:
    class Cast(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = dense(nn.Tanh())

        def forward(self, x: Tensor) -> Tensor:
            with torch.autocast("cpu", torch.bfloat16):
                return self.body(x)

    exact = fisher_log_eigenvalues(dense(nn.Tanh()), VECTORS.float(), LABELS)
    cast = fisher_log_eigenvalues(seeded(Cast), VECTORS.float(), LABELS)
    for name, values in exact.items():
        assert (cast[f"body.{name}"] - values)[-1].abs() < 0.1


def test_views_overwritten_later_do_not_matter() -> None:
    def overwritten(x: Tensor) -> Tensor:
        x[:, :2].mul_(3)
        x[:, 2:].neg_()
        return x

    def fresh(x: Tensor) -> Tensor:
        return torch.cat([3 * x[:, :2], -x[:, 2:]], 1)

    inputs = VECTORS.float()
    spectra = [fisher_log_eigenvalues(dense(Apply(f)), inputs) for f in (fresh, overwritten)]
    assert_equal_spectra(*spectra)


@pytest.mark.parametrize("transform", [torch.func.grad, torch.vmap])
def test_inside_a_transform_torch_itself_refuses(transform: Callable[..., Any]) -> None:
    model = dense(nn.Tanh()).double()

    def measured(x: Tensor) -> Tensor:
        fisher_log_eigenvalues(model, VECTORS)
        return x.sum()

    with pytest.raises(RuntimeError, match="inside of a function being transformed by a functorch"):
        transform(measured)(VECTORS)
    assert all(p.requires_grad for p in model.parameters())
    assert all(module.training for module in model.modules())
