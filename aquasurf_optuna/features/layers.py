"""Which weights of a network count for its Fisher information, under which names, and which not.

A layer here is a weight that a linear map or a convolution uses, wherever in the network that
happens: in `nn.Linear`, in an `nn.MultiheadAttention`, or in a forward pass of the user's own that
calls `torch.nn.functional.linear`. Its name is that of the module, ``"attn.in_proj"`` for a weight
called ``attn.in_proj_weight``, and ``"attn.in_proj[0:64]"`` where only those rows are used.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd
from torch.nn.parameter import is_lazy
from torch.nn.utils import parametrize

from aquasurf_optuna.exceptions import UnsupportedModelError

LayerTypes = tuple[type[nn.Module], ...]

# The paper leaves normalisation layers out of the Fisher information (Appendix C).
_NORMALIZATION = (nn.modules.batchnorm._NormBase, nn.GroupNorm, nn.LayerNorm, nn.RMSNorm)
# They use their weights in other ways than a linear map, and out of sight.
_OTHER_USES = (nn.Embedding, nn.EmbeddingBag, nn.RNNBase, nn.RNNCellBase, nn.Bilinear)


class Place(NamedTuple):
    """Where a parameter stands.

    Attributes:
        module: Name of the module that owns it; the first of several.
        parameter: Its name there.
    """

    module: str
    parameter: str

    @property
    def layer(self) -> str:
        """Name of the layer whose weight this parameter is."""
        if self.parameter == "weight":
            return self.module
        return _joined(self.module, self.parameter.removesuffix("_weight"))


class Weights:
    """The parameters of a model, and what a forward pass told about them.

    Args:
        model: The network.
        skip: Kinds of modules whose own parameters are left out.

    Raises:
        UnsupportedModelError: If parameters are not initialised yet or were made in inference
            mode, or a module is TorchScript.
    """

    def __init__(self, model: nn.Module, skip: LayerTypes = ()) -> None:
        self._places: dict[int, Place] = {}
        self._modules = dict(model.named_modules())
        self._reasons: dict[int, str] = {}
        self._covered: set[int] = set()
        self._otherwise: set[int] = set()
        self._ran: set[str] = set()
        for name, module in self._modules.items():
            _check_module(name, module)
            for parameter, value in module._parameters.items():
                if value is not None:
                    _check_parameter(name, value)
                    self._places.setdefault(id(value), Place(name, parameter))
                    self._leave_out(name, module, value, skip)

    def layer_of(self, weight: Tensor, running: str | None) -> str | None:
        """Return the name of the layer that `weight` belongs to, or None if it does not count.

        Args:
            weight: As a linear map or convolution uses it.
            running: Name of the innermost layer-like module whose forward pass is running.

        Raises:
            UnsupportedModelError: If another view of the weight is used elsewhere.
        """
        base = weight if weight._base is None else weight._base
        place = self._places.get(id(base))
        if place is None:
            return self._layer_of_derived(weight, running)
        if id(base) in self._reasons:
            return None
        rows = _rows(weight, base)
        (self._otherwise if rows is None else self._covered).add(id(base))
        if id(base) in self._otherwise & self._covered:
            raise UnsupportedModelError(
                f"the weight of layer {place.layer!r} is used as it is and in another view, such "
                "as its transpose, for which one Kronecker factor does not hold; untie them"
            )
        return None if rows is None else place.layer + rows

    def count_bias(self, bias: Tensor | None) -> object:
        """Note that a bias is counted, and return what tells it from others."""
        if bias is None:
            return None
        base = bias if bias._base is None else bias._base
        self._covered.add(id(base))
        return (id(base), bias.storage_offset()) if id(base) in self._places else "computed"

    def note_run(self, module: str) -> None:
        """Note that the forward pass of a module runs."""
        self._ran.add(module)

    def layer_like(self) -> dict[str, nn.Module]:
        """Return the modules that may compute the weight of a linear map from parameters."""
        return {
            name: module
            for name, module in self._modules.items()
            if isinstance(module, nn.Linear | _ConvNd)
        }

    def not_covered(self) -> dict[str, str]:
        """Return the parameters that no layer stands for, by module and name, with the reason."""
        return {
            _joined(place.module, place.parameter): self._reason(key, place)
            for key, place in self._places.items()
            if key not in self._covered
        }

    def _leave_out(self, name: str, module: nn.Module, parameter: Tensor, skip: LayerTypes) -> None:
        kind = type(module).__name__
        if isinstance(module, skip):
            self._reasons[id(parameter)] = f"{kind}: `skip` leaves it out"
        elif isinstance(module, _NORMALIZATION):
            self._reasons[id(parameter)] = f"{kind}: normalisation does not count (Appendix C)"
        elif isinstance(module, _OTHER_USES):
            tied = self._places[id(parameter)].module != name
            shared = f" in {name!r}, which shares it" if tied else ""
            self._reasons[id(parameter)] = f"{kind}{shared}: its use of weights is not covered"

    def _layer_of_derived(self, weight: Tensor, running: str | None) -> str | None:
        """Recognise a weight computed from parameters, as weight standardisation does."""
        if running is None:
            return None
        module = self._modules[running]
        if parametrize.is_parametrized(module, "weight"):
            own: Collection[Tensor] = list(module.parameters())
        elif getattr(module, "weight", weight).shape != weight.shape:
            return None
        else:
            own = [p for p in module._parameters.values() if p is not None]
        if not own or any(id(p) in self._reasons for p in own):
            return None
        self._covered.update(map(id, own))
        return running

    def _reason(self, key: int, place: Place) -> str:
        module = self._modules[place.module]
        kind = type(module).__name__
        if key in self._reasons:
            return self._reasons[key]
        if key in self._otherwise:
            return f"{kind}: a linear map uses it, but not row by row (its transpose, say)"
        if isinstance(module, nn.Linear | _ConvNd) and place.module not in self._ran:
            return f"{kind}: it never ran in the forward pass"
        if id(module._parameters.get("weight")) in self._reasons:
            return f"{kind}: its weight is not covered"
        return f"{kind}: no linear map or convolution uses it as it is"


def no_layers(model: nn.Module, not_covered: Mapping[str, str]) -> UnsupportedModelError:
    """Return the error for a model without a layer that counts."""
    listed = "; ".join(f"{name}: {reason}" for name, reason in list(not_covered.items())[:5])
    return UnsupportedModelError(
        f"the model {type(model).__name__} has no linear map and no convolution that counts, so it "
        f"has no Fisher eigenvalues{f' ({listed})' if listed else ''}"
    )


def _check_module(name: str, module: nn.Module) -> None:
    if isinstance(module, torch.jit.ScriptModule):
        raise UnsupportedModelError(
            f"module {name!r} is TorchScript, inside which no use of a weight can be seen; pass "
            "the module that it was made from"
        )


def _check_parameter(module: str, parameter: nn.Parameter) -> None:
    if is_lazy(parameter):
        raise UnsupportedModelError(
            f"layer {module!r} has parameters that are not initialised yet; run the model once "
            "on a batch before asking for its eigenvalues"
        )
    if parameter.is_inference():
        raise UnsupportedModelError(
            f"layer {module!r} was built in torch.inference_mode(), where no gradients exist; "
            "build the model outside it"
        )


def _rows(weight: Tensor, base: Tensor) -> str | None:
    """Name the rows that `weight` takes of `base`; None if it is another kind of view."""
    if weight.ndim < 2 or not _has_rows_of(weight, base):
        return None
    if len(weight) == len(base):
        return ""
    offset = weight.storage_offset() - base.storage_offset()
    if offset % base.stride(0):
        return None
    first = offset // base.stride(0)
    return f"[{first}:{first + len(weight)}]"


def _has_rows_of(weight: Tensor, base: Tensor) -> bool:
    if weight.shape[1:] == base.shape[1:]:
        return weight.stride() == base.stride()
    # A kernel may be flattened: it is a row of the same numbers in the same order.
    flattened = weight.shape[1:] == (base[0].numel(),) and base[0].is_contiguous()
    return flattened and weight.stride() == (base.stride(0), 1)


def _joined(module: str, name: str) -> str:
    return f"{module}.{name}" if module else name
