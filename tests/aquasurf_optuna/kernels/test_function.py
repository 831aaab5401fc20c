"""The three ways to compute a function: same numbers, for every kind of tensor and caller."""

from __future__ import annotations

import pickle
from collections.abc import Callable

import pytest
import torch
from onnx.reference import ReferenceEvaluator
from torch import Tensor, nn
from torch._inductor.codegen.common import pointwise_overrides_data
from torch._inductor.utils import run_and_get_code
from torch.utils.checkpoint import checkpoint

from aquasurf_optuna.activation import Activation
from aquasurf_optuna.exceptions import KernelError
from aquasurf_optuna.kernels import Kernel, KernelWarning, _choice, _function, _fused
from aquasurf_optuna.kernels._plan import plan_of
from aquasurf_optuna.kernels._vectorised import VECTORISED
from aquasurf_optuna.operators import OPERATORS

# Of Table 1; a function whose slope needs care; one of a single operator.
TEXTS = ("mul(swish(x),erfc(bessel_i0e(x)))", "tanh(exp(x))", "relu(x)")
KERNELS: tuple[Kernel, ...] = ("composed", "recomputed", "fused")

# The compiler's own warnings differ between machines and versions.
pytestmark = pytest.mark.filterwarnings("ignore")


def inputs(dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(4, 6, 5, 8, generator=torch.Generator().manual_seed(0)).to(dtype)


LAYOUTS: dict[str, Callable[[Tensor], Tensor]] = {
    "contiguous": lambda x: x,
    "channels last": lambda x: x.to(memory_format=torch.channels_last),
    "permuted": lambda x: x.permute(3, 1, 0, 2),
    "with gaps": lambda x: x[:, :, ::2],
    "expanded": lambda x: x[:, :1].expand(4, 6, 5, 8),
    "offset": lambda x: x.flatten()[3:],
    "a number": lambda x: x.flatten()[7],
    "empty": lambda x: x[:0],
}


def value_and_gradient(activation: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
    leaf = x.detach().requires_grad_()
    value = activation(leaf)
    weights = torch.linspace(-1, 1, value.numel()).reshape(value.shape).to(value.dtype)
    (gradient,) = torch.autograd.grad(value, leaf, weights)
    return value.detach(), gradient


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("kernel", ["recomputed", "fused"])
@pytest.mark.parametrize("text", TEXTS)
def test_every_layout(text: str, kernel: Kernel, layout: str) -> None:
    x = LAYOUTS[layout](inputs())
    expected = value_and_gradient(Activation(text, kernel="composed"), x)
    found = value_and_gradient(Activation(text, kernel=kernel), x)
    for one, other in zip(found, expected, strict=True):
        # Where a slope vanishes it is the difference of nearly equal numbers.
        torch.testing.assert_close(one, other, rtol=3e-6, atol=2e-6)
        assert one.shape == other.shape
    assert found[0].stride() == expected[0].stride()


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("kernel", ["recomputed", "fused"])
def test_every_dtype(kernel: Kernel, dtype: torch.dtype) -> None:
    x = inputs(dtype)
    wide = x if dtype == torch.float64 else x.float()
    expected = value_and_gradient(Activation(TEXTS[0], kernel="composed"), wide)
    found = value_and_gradient(Activation(TEXTS[0], kernel=kernel), x)
    for one, other in zip(found, expected, strict=True):
        assert one.dtype == dtype
        torch.testing.assert_close(one, other.to(dtype))


@pytest.mark.parametrize("kernel", KERNELS)
def test_a_result_can_be_changed_in_place(kernel: Kernel) -> None:
    x = inputs()
    before = x.clone()
    for given in (x, x.clone().requires_grad_()):
        result = Activation(TEXTS[0], kernel=kernel)(given)
        result.add_(1.0).sum()
    assert torch.equal(x, before)


def saved_bytes(activation: nn.Module, x: Tensor) -> int:
    """What autograd keeps for the backward pass, each memory once."""
    kept: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        activation(x.requires_grad_())
    return sum(kept.values())


@pytest.mark.parametrize("kernel", ["recomputed", "fused"])
def test_only_the_input_is_kept(kernel: Kernel) -> None:
    text = "mul(hard_sigmoid(hard_sigmoid(x)),elu(x))"
    x = inputs()
    size = x.numel() * x.element_size()
    assert saved_bytes(Activation(text, kernel=kernel), x) == size
    assert saved_bytes(nn.SiLU(), inputs()) == size
    assert saved_bytes(Activation(text, kernel="composed"), inputs()) > 2 * size


@pytest.mark.parametrize("kernel", KERNELS)
def test_first_and_second_derivatives(kernel: Kernel) -> None:
    x = inputs(torch.float64).flatten()[:8].requires_grad_()
    activation = Activation(TEXTS[0], kernel=kernel)
    assert torch.autograd.gradcheck(activation, (x,))
    assert torch.autograd.gradgradcheck(activation, (x,))


@pytest.mark.parametrize("kernel", ["recomputed", "fused"])
def test_transforms_of_functions(kernel: Kernel) -> None:
    activation = Activation(TEXTS[0], kernel=kernel)
    plain = Activation(TEXTS[0], kernel="composed")
    x, tangent = inputs(torch.float64)[0, 0], inputs(torch.float64)[1, 1]
    slopes = torch.func.vmap(torch.func.grad(lambda row: activation(row).sum()))(x)
    torch.testing.assert_close(slopes, value_and_gradient_of_sum(plain, x))
    _, directional = torch.func.jvp(activation, (x,), (tangent,))
    torch.testing.assert_close(directional, slopes * tangent)


def value_and_gradient_of_sum(activation: nn.Module, x: Tensor) -> Tensor:
    leaf = x.detach().requires_grad_()
    (gradient,) = torch.autograd.grad(activation(leaf).sum(), leaf)
    return gradient


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("kernel", ["auto", "fused"])
def test_a_whole_network_compiles_without_a_break_and_exports(text: str, kernel: Kernel) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(8, 8), Activation(text, kernel=kernel), nn.Linear(8, 2))
    x = inputs()
    compiled = torch.compile(network, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(x), network(x))
    compiled(x).sum().backward()
    found = [each.grad.clone() for each in network.parameters() if each.grad is not None]
    network.zero_grad()
    network(x).sum().backward()
    for one, parameter in zip(found, network.parameters(), strict=True):
        torch.testing.assert_close(one, parameter.grad)
    exported = torch.export.export(network, (x,))
    torch.testing.assert_close(exported.module()(x), network(x))


@pytest.mark.parametrize("kernel", ["auto", "fused"])
def test_a_network_becomes_onnx(kernel: Kernel) -> None:
    text = "mul(sigmoid(softsign(x)),elu(x))"
    network = nn.Sequential(nn.Linear(8, 8), Activation(text, kernel=kernel)).eval()
    x = inputs()[0, 0]
    program = torch.onnx.export(network, (x,), dynamo=True, verbose=False)
    assert program is not None
    session = ReferenceEvaluator(program.model_proto)
    [found] = session.run(None, {program.model_proto.graph.input[0].name: x.numpy()})
    torch.testing.assert_close(torch.from_numpy(found), network(x).detach())


@pytest.mark.parametrize("kernel", KERNELS)
def test_autocast_and_checkpoints(kernel: Kernel) -> None:
    torch.manual_seed(0)
    activation = Activation("mul(sigmoid(softsign(x)),elu(x))", kernel=kernel)
    network = nn.Sequential(nn.Linear(8, 8), activation, nn.Linear(8, 1))
    x = inputs()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = network(x)
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half.float(), network(x), rtol=0.05, atol=0.05)
    checkpoint(network, x, use_reentrant=False).sum().backward()
    found = network[0].weight.grad.clone()
    network.zero_grad()
    network(x).sum().backward()
    torch.testing.assert_close(found, network[0].weight.grad)


@pytest.mark.parametrize("kernel", KERNELS)
def test_what_no_function_takes_is_refused(kernel: Kernel) -> None:
    activation = Activation("mul(tanh(x),erf(x))", kernel=kernel)
    with pytest.raises(TypeError, match=r"needs a floating tensor, got torch\.int64"):
        activation(torch.arange(3))


def test_a_word_that_is_no_kernel_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(KernelError, match="kernel must be one of auto, composed, .*'quick'"):
        Activation("relu(x)", kernel="quick")  # type: ignore[arg-type]  # the wrong word is the test
    with pytest.raises(KernelError, match="kernel must be one of"):
        Activation.factory("relu(x)", kernel="quick")  # type: ignore[arg-type]  # likewise
    monkeypatch.setenv("AQUASURF_KERNEL", "quick")
    with pytest.raises(KernelError, match="AQUASURF_KERNEL must be one of"):
        Activation("relu(x)")


def test_the_environment_and_the_factory_say_which(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Activation("relu(x)").kernel == "auto"
    monkeypatch.setenv("AQUASURF_KERNEL", "recomputed")
    assert Activation("relu(x)").kernel == "recomputed"
    factory = pickle.loads(pickle.dumps(Activation.factory("tanh(x)", kernel="composed")))
    assert factory().kernel == factory(inplace=True).kernel == "composed"
    assert factory != Activation.factory("tanh(x)")
    assert pickle.loads(pickle.dumps(factory())).kernel == "composed"


def test_it_can_be_built_where_tensors_have_no_numbers() -> None:
    _choice.needs_care.cache_clear()
    plan_of.cache_clear()
    with torch.device("meta"):
        activation = Activation("add(selu(one(x)),tanh(exp(x)))")
    assert activation(torch.zeros(3)).device == torch.device("cpu")
    assert activation(torch.zeros(3, device="meta")).shape == (3,)


# What "auto" does


def test_auto_compiles_when_enough_numbers_have_come(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled: list[int] = []
    monkeypatch.setattr(_function, "kernels_of", lambda *_, **__: compiled.append(1))
    monkeypatch.setitem(_choice.ENOUGH, "cpu", 1000)
    x = torch.randn(300)
    activation = Activation("mul(tanh(x),erf(x))")
    for number in range(5):
        activation(x)
        # What another activation has seen does not count.
        Activation("mul(tanh(x),erf(x))")(x)
        assert len(compiled) == max(0, number - 2)
    Activation("relu(x)")(torch.randn(5000))
    assert len(compiled) == 2


def test_a_large_tensor_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled: list[int] = []
    monkeypatch.setattr(_function, "kernels_of", lambda *_, **__: compiled.append(1))
    monkeypatch.setattr(_choice, "LARGE", 50)
    activation = Activation("mul(tanh(x),erf(x))")
    activation(torch.randn(49))
    assert not compiled
    activation(torch.randn(50))
    assert compiled


def test_without_a_compiler_the_numbers_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("no compiler here")

    monkeypatch.setattr(_fused, "_compiled", broken)
    monkeypatch.setattr(_fused, "_failures", {})
    x = inputs()
    with pytest.warns(KernelWarning, match="fused' cannot be had on cpu here .*no compiler here"):
        found = value_and_gradient(Activation(TEXTS[0], kernel="fused"), x)
    expected = value_and_gradient(Activation(TEXTS[0], kernel="recomputed"), x)
    for one, other in zip(found, expected, strict=True):
        assert torch.equal(one, other)
    monkeypatch.setattr(_choice, "LARGE", 1)
    Activation(TEXTS[0])(x)  # silently


def product(x: Tensor, y: Tensor) -> Tensor:
    return x * y + 1


def test_a_gpus_kernels_are_chosen_by_length(monkeypatch: pytest.MonkeyPatch) -> None:
    dimensions: list[int] = []
    original = _fused._built

    def counted(function: Callable[..., Tensor], examples: list[Tensor]) -> Callable[..., Tensor]:
        dimensions.append(examples[0].dim())
        return original(function, examples)

    monkeypatch.setattr(_fused, "_built", counted)
    kernel = _fused._ByLength(product, (torch.zeros(64), torch.ones(64)))
    for length in (64, 160, 1600):
        x = torch.randn(length)
        torch.testing.assert_close(kernel(x, x).flatten(), x * x + 1)
    assert dimensions == [2]
    for length in (65, 72, 1599):
        x = torch.randn(length)
        torch.testing.assert_close(kernel(x, x), x * x + 1)
    assert dimensions == [2, 1]


@pytest.mark.parametrize(("shape", "length"), [((4, 16), "16L*ks0"), ((64,), "ks0")])
def test_a_kernel_knows_the_length_of_its_rows(shape: tuple[int, ...], length: str) -> None:
    examples = [torch.zeros(shape), torch.ones(shape)]
    # Code that comes from a cache is not shown.
    with torch._inductor.config.patch(fx_graph_cache=False):
        _, codes = run_and_get_code(_fused._built, product, examples)
    assert f"static_cast<int64_t>({length})" in codes[0]


def test_functions_for_which_inductor_has_no_code_on_a_gpu_are_replaced() -> None:
    named = {name.removeprefix("bessel_"): name for name in OPERATORS}
    every = pointwise_overrides_data.items()
    without = {named[name] for name, data in every if name in named and data.triton is None}
    assert without <= set(VECTORISED)
    assert without


def test_kernels_are_compiled_once(monkeypatch: pytest.MonkeyPatch) -> None:
    built: list[int] = []
    original = _fused._built
    monkeypatch.setattr(_fused, "_built", lambda *a: built.append(1) or original(*a))
    _fused._compiled.cache_clear()
    for shape in ((64,), (40, 50), (2, 30, 4, 5), (1, 170)):
        Activation("mul(erf(x),arctan(x))", kernel="fused")(torch.randn(shape))
        Activation("mul(erf(x),arctan(x))", kernel="fused")(torch.randn(shape))
    assert len(built) == 2  # forward and backward
