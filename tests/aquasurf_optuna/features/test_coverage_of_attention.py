"""Attention, and other linear maps outside of `nn.Linear`, against networks written by hand."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import timm.layers
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from aquasurf_optuna.features.fisher import FisherSpectrum, fisher_log_eigenvalues
from tests.aquasurf_optuna.features.networks import batch, seeded
from tests.oracles.kfac_oracles import ByHand, assert_same_spectrum

HEADS = 2
TOKENS = batch(3, 5, 4, dtype=torch.float64)
MEMORY = batch(3, 6, 4, seed=2, dtype=torch.float64)
OTHER = batch(3, 6, 4, seed=3, dtype=torch.float64)
LABELS = torch.arange(3)
HandWritten = Callable[..., Tensor]


def assert_as_by_hand(
    model: nn.Module, written: HandWritten, inputs: tuple[Tensor, ...]
) -> FisherSpectrum:
    """The same outputs, layers and eigenvalues."""
    hand = ByHand()
    outputs = written(hand, model, *inputs)
    torch.testing.assert_close(outputs, model(*inputs))
    loss = F.cross_entropy(outputs, LABELS, reduction="sum")
    expected = hand.eigenvalues(loss, len(LABELS))
    spectra = fisher_log_eigenvalues(model, inputs, LABELS)
    assert list(spectra) == list(expected)
    for name, eigenvalues in expected.items():
        assert_same_spectrum(spectra[name], eigenvalues)
    return spectra


def attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | float = 0.0) -> Tensor:
    """Scaled dot products of `(M, tokens, features)`, whose features are those of the heads."""
    q, k, v = (x.unflatten(-1, (HEADS, -1)).transpose(1, 2) for x in (q, k, v))
    scores = q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1]) + mask
    return (scores.softmax(-1) @ v).transpose(1, 2).flatten(-2)


class Attending(nn.Module):
    """`nn.MultiheadAttention` of queries, keys and values, averaged over the tokens."""

    def __init__(self, mask: Tensor | None = None, **options: Any) -> None:
        super().__init__()
        self.attn = nn.MultiheadAttention(4, HEADS, **options)
        self.mask = mask

    def forward(self, query: Tensor, key: Tensor | None = None, value: Tensor | None = None):
        key = query if key is None else key
        value = key if value is None else value
        query, key, value = self.turned(query, key, value)
        return self.averaged(self.attn(query, key, value, attn_mask=self.mask)[0])

    def turned(self, query: Tensor, key: Tensor, value: Tensor) -> list[Tensor]:
        """Puts the samples where the attention wants them, and keeps equal tensors equal."""
        if self.attn.batch_first:
            return [query, key, value]
        new = {id(x): x.transpose(0, 1) for x in (query, key, value)}
        return [new[id(x)] for x in (query, key, value)]

    def averaged(self, outputs: Tensor) -> Tensor:
        return outputs.mean(1 if self.attn.batch_first else 0)


def attending_by_hand(
    hand: ByHand, model: Attending, query: Tensor, key: Tensor | None = None,
    value: Tensor | None = None,
) -> Tensor:  # fmt: skip
    attn = model.attn
    key = query if key is None else key
    value = key if value is None else value
    q, k, v = projected(hand, attn, query, key, value)
    if attn.bias_k is not None:
        k = torch.cat([k, attn.bias_k.expand(len(k), 1, -1)], 1)
        v = torch.cat([v, attn.bias_v.expand(len(v), 1, -1)], 1)
    mask = 0.0 if model.mask is None else model.mask
    out = attn.out_proj
    return hand.linear("attn.out_proj", attention(q, k, v, mask), out.weight, out.bias).mean(1)


def projected(
    hand: ByHand, attn: nn.MultiheadAttention, query: Tensor, key: Tensor, value: Tensor
) -> tuple[Tensor, ...]:
    """Queries, keys and values, by as many linear maps as there are different inputs."""
    bias, weight = attn.in_proj_bias, attn.in_proj_weight
    if weight is None:
        own = (attn.q_proj_weight, attn.k_proj_weight, attn.v_proj_weight)
        biases = (None,) * 3 if bias is None else bias.chunk(3)
        return tuple(
            hand.linear(f"attn.{name}_proj", x, w, b)
            for name, x, w, b in zip("qkv", (query, key, value), own, biases, strict=True)
        )
    parts = []
    for x, start, stop in runs([query, key, value]):
        rows = slice(4 * start, 4 * stop)
        name = "attn.in_proj" if stop - start == 3 else f"attn.in_proj[{4 * start}:{4 * stop}]"
        part = hand.linear(name, x, weight[rows], None if bias is None else bias[rows])
        parts += part.chunk(stop - start, -1)
    return tuple(parts)


def runs(tensors: list[Tensor]) -> list[tuple[Tensor, int, int]]:
    if tensors[0] is tensors[1] is tensors[2]:
        return [(tensors[0], 0, 3)]
    if tensors[1] is tensors[2]:
        return [(tensors[0], 0, 1), (tensors[1], 1, 3)]
    return [(tensor, place, place + 1) for place, tensor in enumerate(tensors)]


CAUSAL = torch.full((5, 5), -math.inf, dtype=torch.float64).triu(1)
INPUTS = {"self": (TOKENS,), "cross": (TOKENS, MEMORY), "three": (TOKENS, MEMORY, OTHER)}
OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "batch first": {"batch_first": True},
    "no bias": {"bias": False},
    "dropout": {"dropout": 0.5},
}


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
@pytest.mark.parametrize("inputs", INPUTS.values(), ids=INPUTS)
def test_multihead_attention_is_covered(
    inputs: tuple[Tensor, ...], options: dict[str, Any]
) -> None:
    model = seeded(lambda: Attending(**options)).double().eval()
    spectra = assert_as_by_hand(model, attending_by_hand, inputs)
    assert spectra.not_covered == {}
    assert sum(map(len, spectra.values())) == sum(p.numel() for p in model.parameters())


SPECIAL: dict[str, tuple[dict[str, Any], tuple[Tensor, ...], set[str]]] = {
    "own sizes of keys and values": (
        {"kdim": 3, "vdim": 2}, (TOKENS, MEMORY[..., :3], OTHER[..., :2]), set()),
    "a mask": ({"mask": CAUSAL, "batch_first": True}, (TOKENS,), set()),
    "further keys": ({"add_bias_kv": True}, (TOKENS,), {"attn.bias_k", "attn.bias_v"}),
}  # fmt: skip


@pytest.mark.parametrize(("options", "inputs", "listed"), SPECIAL.values(), ids=SPECIAL)
def test_the_options_of_multihead_attention_are_covered(
    options: dict[str, Any], inputs: tuple[Tensor, ...], listed: set[str]
) -> None:
    model = seeded(lambda: Attending(**options)).double()
    spectra = assert_as_by_hand(model, attending_by_hand, inputs)
    reason = "MultiheadAttention: no linear map or convolution uses it as it is"
    assert spectra.not_covered == dict.fromkeys(listed, reason)


def test_the_comparison_with_a_network_by_hand_can_fail() -> None:
    def other_scale(hand: ByHand, model: Attending, x: Tensor) -> Tensor:
        outputs = attending_by_hand(hand, model, x)
        hand.uses["attn.in_proj"] = [(2 * x, y) for x, y in hand.uses["attn.in_proj"]]
        return outputs

    model = seeded(Attending).double()
    with pytest.raises(AssertionError, match="Not equal to tolerance"):
        assert_as_by_hand(model, other_scale, (TOKENS,))
    with pytest.raises(AssertionError, match="not close"):
        assert_as_by_hand(model, lambda *args: 2 * attending_by_hand(*args), (TOKENS,))


class Unbatched(Attending):
    def forward(self, inputs: Tensor) -> Tensor:
        (one,) = inputs
        return self.attn(one, one, one)[0].mean(0, keepdim=True)


def test_attention_without_a_batch_dimension_is_covered() -> None:
    one = TOKENS[:1]
    model, batched = (seeded(kind).double() for kind in (Unbatched, Attending))
    for sharing in ("expand", "reduce"):
        actual = fisher_log_eigenvalues(model, one, sharing=sharing)
        # PyTorch gives each its dimension, and so tells them apart.
        three = (one, one.clone(), one.clone())
        expected = fisher_log_eigenvalues(batched, three, sharing=sharing)
        torch.testing.assert_close(dict(actual), dict(expected))


class Encoder(nn.Module):
    def __init__(self, **options: Any) -> None:
        super().__init__()
        self.layer = nn.TransformerEncoderLayer(4, HEADS, 6, batch_first=True, **options)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x).square().mean(1)


def encoder_by_hand(hand: ByHand, model: Encoder, x: Tensor) -> Tensor:
    layer = model.layer

    def attend(x: Tensor) -> Tensor:
        attn = layer.self_attn
        qkv = hand.linear("layer.self_attn.in_proj", x, attn.in_proj_weight, attn.in_proj_bias)
        y, out = attention(*qkv.chunk(3, -1)), attn.out_proj
        return hand.linear("layer.self_attn.out_proj", y, out.weight, out.bias)

    def feed(x: Tensor) -> Tensor:
        x = hand.linear("layer.linear1", x, layer.linear1.weight, layer.linear1.bias).relu()
        return hand.linear("layer.linear2", x, layer.linear2.weight, layer.linear2.bias)

    if layer.norm_first:
        x = x + attend(layer.norm1(x))
        return (x + feed(layer.norm2(x))).square().mean(1)
    x = layer.norm1(x + attend(x))
    return layer.norm2(x + feed(x)).square().mean(1)


@pytest.mark.parametrize("mode", ["train", "eval"])
@pytest.mark.parametrize("norm_first", [True, False])
def test_the_fast_path_of_transformers_hides_no_projection(norm_first: bool, mode: str) -> None:
    model = seeded(lambda: Encoder(norm_first=norm_first, dropout=0.0)).double()
    model.train(mode == "train")
    with torch.no_grad():
        spectra = fisher_log_eigenvalues(model, TOKENS)
    assert len(spectra) == 4
    with torch.enable_grad():
        assert_as_by_hand(model.train(), encoder_by_hand, (TOKENS,))
    assert {text.split(":")[0] for text in spectra.not_covered.values()} == {"LayerNorm"}


class OfTimm(nn.Module):
    def __init__(self, *, fused: bool) -> None:
        super().__init__()
        self.attn = timm.layers.Attention(4, HEADS, qkv_bias=True)
        self.attn.fused_attn = fused

    def forward(self, x: Tensor) -> Tensor:
        return self.attn(x).mean(1)


def timm_by_hand(hand: ByHand, model: OfTimm, x: Tensor) -> Tensor:
    qkv, proj = model.attn.qkv, model.attn.proj
    parts = hand.linear("attn.qkv", x, qkv.weight, qkv.bias).chunk(3, -1)
    return hand.linear("attn.proj", attention(*parts), proj.weight, proj.bias).mean(1)


@pytest.mark.parametrize("fused", [True, False])
def test_timms_attention_is_covered(fused: bool) -> None:
    model = seeded(lambda: OfTimm(fused=fused)).double()
    assert assert_as_by_hand(model, timm_by_hand, (TOKENS,)).not_covered == {}


class LikeBeit(nn.Module):
    """The bias of queries and values is their own, that of the keys is nought."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv = nn.Linear(4, 12, bias=False)
        self.q_bias, self.v_bias = nn.Parameter(torch.ones(4)), nn.Parameter(-torch.ones(4))

    def bias(self) -> Tensor:
        return torch.cat([self.q_bias, torch.zeros_like(self.q_bias), self.v_bias])

    def forward(self, x: Tensor) -> Tensor:
        return attention(*F.linear(x, self.qkv.weight, self.bias()).chunk(3, -1)).mean(1)


def beit_by_hand(hand: ByHand, model: LikeBeit, x: Tensor) -> Tensor:
    return attention(*hand.linear("qkv", x, model.qkv.weight, model.bias()).chunk(3, -1)).mean(1)


def test_a_bias_put_together_is_a_bias() -> None:
    spectra = assert_as_by_hand(seeded(LikeBeit).double(), beit_by_hand, (TOKENS,))
    assert spectra.not_covered.keys() == {"q_bias", "v_bias"}


class Bare(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first_weight = nn.Parameter(torch.randn(5, 4))
        self.last = nn.Parameter(torch.randn(3, 5))
        self.shift = nn.Parameter(torch.randn(3))

    def forward(self, x: Tensor) -> Tensor:
        hidden = F.linear(x, self.first_weight).tanh()
        return F.linear(weight=self.last, input=hidden, bias=self.shift).mean(1)


def bare_by_hand(hand: ByHand, model: Bare, x: Tensor) -> Tensor:
    hidden = hand.linear("first", x, model.first_weight).tanh()
    return hand.linear("last", hidden, model.last, model.shift).mean(1)


def test_parameters_outside_of_layers_are_layers_where_a_linear_map_uses_them() -> None:
    assert assert_as_by_hand(seeded(Bare).double(), bare_by_hand, (TOKENS,)).not_covered == {}
