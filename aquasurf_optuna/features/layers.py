"""Which layers of a network count for its Fisher information, and which cannot be counted."""

from __future__ import annotations

from collections.abc import Mapping

from torch import nn
from torch.nn.parameter import is_lazy

from aquasurf_optuna.exceptions import UnsupportedModelError

Layer = nn.Linear | nn.Conv2d
LayerTypes = tuple[type[nn.Module], ...]

# The paper leaves normalisation layers out of the Fisher information (Appendix C).
_NORMALIZATION = (nn.modules.batchnorm._NormBase, nn.GroupNorm, nn.LayerNorm, nn.RMSNorm)


def find_layers(model: nn.Module, skip: LayerTypes = ()) -> dict[str, Layer]:
    """Return the model's Linear and Conv2d layers by name, in the order of the modules.

    Args:
        model: The network.
        skip: Kinds of modules whose own parameters are left out.

    Raises:
        UnsupportedModelError: If there is no such layer, or a parameter belongs to a layer that is
            not covered, is shared by two modules, or is not initialised yet.
    """
    layers: dict[str, Layer] = {}
    owners: dict[int, str] = {}
    for name, module in model.named_modules():
        parameters = [p for p in module._parameters.values() if p is not None]
        if isinstance(module, skip) or not parameters:
            continue
        _check_parameters(name, parameters, owners)
        if isinstance(module, nn.Linear | nn.Conv2d):
            _check_forward(name, module)
            layers[name] = module
        elif not isinstance(module, _NORMALIZATION):
            raise UnsupportedModelError(
                f"layer {name!r} is a {type(module).__name__} with parameters of its own; covered "
                "are Linear and Conv2d, and normalisation layers are left out. To leave this kind "
                f"out as well, pass skip=({type(module).__name__},)"
            )
    if not layers:
        raise UnsupportedModelError(
            f"the model {type(model).__name__} has no Linear and no Conv2d layer that counts, so "
            "it has no Fisher eigenvalues"
        )
    return layers


def weightless_kinds(model: nn.Module) -> LayerTypes:
    """Return the kinds of modules whose own parameters are no layer's weights.

    Relative position biases, position embeddings, class tokens and layer scales are such
    parameters. What counts as a layer's weights is a parameter of two or more dimensions whose name
    says `weight`, as in every layer of torch's.

    Args:
        model: The network.

    Returns:
        Kinds for the `skip` of :func:`~aquasurf_optuna.features.fisher.fisher_log_eigenvalues`;
        never one that Linear or Conv2d derive from.
    """
    kinds: dict[type[nn.Module], None] = {}
    for module in model.modules():
        own = dict(module.named_parameters(recurse=False))
        base = issubclass(nn.Linear, type(module)) or issubclass(nn.Conv2d, type(module))
        if own and not base and not isinstance(module, _NORMALIZATION) and not _has_weights(own):
            kinds[type(module)] = None
    return tuple(kinds)


def _has_weights(parameters: Mapping[str, nn.Parameter]) -> bool:
    return any(
        "weight" in name and (is_lazy(parameter) or parameter.ndim > 1)
        for name, parameter in parameters.items()
    )


def _check_parameters(name: str, parameters: list[nn.Parameter], owners: dict[int, str]) -> None:
    for parameter in parameters:
        if is_lazy(parameter):
            raise UnsupportedModelError(
                f"layer {name!r} has parameters that are not initialised yet; run the model once "
                "on a batch before asking for its eigenvalues"
            )
        if parameter.is_inference():
            raise UnsupportedModelError(
                f"layer {name!r} was built in torch.inference_mode(), where no gradients exist; "
                "build the model outside it"
            )
        if id(parameter) in owners:
            raise UnsupportedModelError(
                f"layers {owners[id(parameter)]!r} and {name!r} share a parameter (tied weights), "
                "for which these Kronecker factors do not hold; untie them"
            )
        owners[id(parameter)] = name


def _check_forward(name: str, module: Layer) -> None:
    kind = nn.Linear if isinstance(module, nn.Linear) else nn.Conv2d
    own = [f for f in ("forward", "_conv_forward") if f in vars(module)]
    if (
        own
        or type(module).forward is not kind.forward
        or (
            isinstance(module, nn.Conv2d)
            and type(module)._conv_forward is not nn.Conv2d._conv_forward
        )
    ):
        raise UnsupportedModelError(
            f"layer {name!r}, a {type(module).__name__}, overrides the forward pass of "
            f"{kind.__name__}, so what its weights see is unknown; use {kind.__name__} itself"
        )
