"""Which modules of a network are its activations, who made them, and whether they run.

A site is a place in a network where an activation function stands. Where somebody else builds the
network, as timm does, the modules that the caller's factory made are recorded, looked up in the
network by identity, and watched during one forward pass.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterable, Iterator

import torch
from torch import Tensor, nn

from aquasurf_optuna.activation import Activation

_ACTIVATION_FILES = (
    "torch.nn.modules.activation",
    "timm.layers.activations",
    "timm.layers.activations_me",
)
# They share a file with the activations, but mix the elements of their input.
_NOT_ELEMENTWISE = (
    nn.MultiheadAttention,
    nn.Softmax,
    nn.Softmax2d,
    nn.Softmin,
    nn.LogSoftmax,
)


def activation_modules(model: nn.Module) -> dict[str, nn.Module]:
    """Return the modules of a network that are activation functions, by dotted name.

    These are `Activation` and the elementwise functions of torch and timm, gates included. A
    function that the network calls without a module, `F.relu` for example, is not found.
    """
    return {name: module for name, module in model.named_modules() if _is_activation(module)}


def names_of(model: nn.Module, modules: Iterable[nn.Module]) -> tuple[str, ...]:
    """Return the dotted names of those modules that are part of the model, in its order."""
    wanted = {id(module) for module in modules}
    return tuple(name for name, module in model.named_modules() if id(module) in wanted)


def recording(
    factory: Callable[..., nn.Module], made: list[nn.Module]
) -> functools.partial[nn.Module]:
    """Return a factory that appends every module it makes to `made`.

    A `functools.partial`, because parts of timm take nothing else; without a closure, because some
    networks keep it, and it must be picklable then. `inplace` may come by position, as in timm's
    VGG, and is left out for a factory that does not know it. One that returns no module raises a
    TypeError.
    """
    return functools.partial(_make, factory, made)


def run_once(
    model: nn.Module, shape: tuple[int, ...], watched: Iterable[nn.Module]
) -> tuple[list[nn.Module], Tensor]:
    """Pass an empty batch through a model in evaluation mode.

    It runs on torch's meta device, which computes shapes alone: a large network costs no more than
    its Python code. Where an operation needs values, zeros go through on the model's own device.

    Args:
        model: The network; its modes are given back as they were.
        shape: Of the batch.
        watched: Modules of the network.

    Returns:
        The watched modules that ran, and the output.
    """
    parameter = next(model.parameters())
    with _evaluating(model), torch.no_grad():
        try:
            with _watching(watched) as ran:
                return ran, _on_meta(model, shape, parameter.dtype)
        except (NotImplementedError, RuntimeError):
            with _watching(watched) as ran:
                return ran, model(parameter.new_zeros(shape))


def _is_activation(module: nn.Module) -> bool:
    if isinstance(module, Activation):
        return True
    return type(module).__module__ in _ACTIVATION_FILES and not isinstance(module, _NOT_ELEMENTWISE)


def _make(
    factory: Callable[..., nn.Module],
    made: list[nn.Module],
    inplace: bool = False,
    **options: object,
) -> nn.Module:
    try:
        module = factory(inplace=inplace, **options)
    except TypeError:
        module = factory(**options)
    if not isinstance(module, nn.Module):
        raise TypeError(f"the activation factory {factory!r} must return a module, got {module!r}")
    made.append(module)
    return module


def _on_meta(model: nn.Module, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    tensors = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    state = {name: tensor.to("meta") for name, tensor in tensors.items()}
    # For the tensors that a network makes while it runs.
    with torch.device("meta"):
        images = torch.empty(shape, dtype=dtype)
        output: Tensor = torch.func.functional_call(model, state, (images,))
    return output


@contextlib.contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode


@contextlib.contextmanager
def _watching(modules: Iterable[nn.Module]) -> Iterator[list[nn.Module]]:
    """Collect the modules that run inside the block."""
    ran: list[nn.Module] = []
    with contextlib.ExitStack() as hooks:
        for module in modules:
            handle = module.register_forward_pre_hook(lambda running, _: ran.append(running))
            hooks.callback(handle.remove)
        yield ran
