"""What the tests of the networks ask of every one of them."""

from collections.abc import Callable

import torch
from torch import nn

from aquasurf_optuna.activation import Activation
from aquasurf_optuna.expression import Expression
from lightning_modules.models import activation_modules

EQUAL_ACTIVATIONS = ["tanh(x)", Expression.parse("tanh(x)"), Activation.factory("tanh(x)")]


def weight_counts(model: nn.Module) -> list[int]:
    """Parameters of each convolution and each linear layer, biases included."""
    layers = [m for m in model.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    return [sum(p.numel() for p in layer.parameters()) for layer in layers]


def histogram_length(model: nn.Module) -> int:
    """The length of the paper's histograms (Appendix D)."""
    return sum(count // 100 for count in weight_counts(model))


def parameter_count(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


def swapped(model: nn.Module, text: str) -> dict[str, Activation]:
    """The activations that compute a function, by name."""
    found = {n: m for n, m in activation_modules(model).items() if isinstance(m, Activation)}
    assert {str(module.expression) for module in found.values()} == {text}
    return found


def assert_same_network(
    build: Callable[[object], nn.Module], activation: object, images: torch.Tensor
) -> None:
    """The activation builds the network that `nn.Tanh` builds, and another one does not."""
    models = []
    for choice in (nn.Tanh, activation, "relu(x)"):
        torch.manual_seed(0)
        models.append(build(choice).eval())
    reference, same, other = (model(images) for model in models)
    assert torch.allclose(reference, same, rtol=1e-5, atol=1e-6)
    assert not torch.allclose(reference, other, rtol=1e-2, atol=1e-3)
