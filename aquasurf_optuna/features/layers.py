"""Which weights of a network count for its Fisher information, under which names, and which not.

A layer here is a weight that a linear map or a convolution uses, wherever in the network that
happens: in `nn.Linear`, in an `nn.MultiheadAttention`, or in a forward pass of the user's own that
calls `torch.nn.functional.linear`. Its name is that of the module, ``"attn.in_proj"`` for a weight
called ``attn.in_proj_weight``, and ``"attn.in_proj[0:64]"`` where only those rows are used.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import NamedTuple

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
        UnsupportedModelError: If parameters are not initialised yet, or were made in inference
            mode.
    """

    def __init__(self, model: nn.Module, skip: LayerTypes = ()) -> None:
        self._places: dict[int, Place] = {}
        self._modules = dict(model.named_modules())
        self._reasons: dict[int, str] = {}
        self._covered: set[int] = set()
        for name, module in self._modules.items():
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
        """
        base = weight if weight._base is None else weight._base
        place = self._places.get(id(base))
        if place is None:
            return self._layer_of_derived(weight, running)
        rows = _rows(weight, base)
        if rows is None or id(base) in self._reasons:
            return None
        self._covered.add(id(base))
        return place.layer + rows

    def count_bias(self, bias: Tensor | None) -> object:
        """Note that a bias is counted, and return what tells it from others."""
        if bias is None:
            return None
        base = bias if bias._base is None else bias._base
        self._covered.add(id(base))
        return (id(base), bias.storage_offset()) if id(base) in self._places else "computed"

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
            _joined(place.module, place.parameter): self._reasons.get(key) or self._reason(place)
            for key, place in self._places.items()
            if key not in self._covered
        }

    def _leave_out(self, name: str, module: nn.Module, parameter: Tensor, skip: LayerTypes) -> None:
        kind = type(module).__name__
        if isinstance(module, skip):
            self._reasons[id(parameter)] = f"a {kind}, which `skip` leaves out"
        elif isinstance(module, _NORMALIZATION):
            self._reasons[id(parameter)] = f"a {kind}: normalisation does not count (Appendix C)"
        elif isinstance(module, _OTHER_USES):
            tied = self._places[id(parameter)].module != name
            shared = f" in {name!r}, with which it is shared" if tied else ""
            self._reasons[id(parameter)] = f"a {kind}{shared}, whose use of it is not covered"

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

    def _reason(self, place: Place) -> str:
        module = self._modules[place.module]
        if isinstance(module, nn.Linear | _ConvNd):
            return f"the {type(module).__name__} never ran in the forward pass"
        return f"a parameter of {type(module).__name__} that no linear map or convolution uses"


def no_layers(model: nn.Module, not_covered: Mapping[str, str]) -> UnsupportedModelError:
    """Return the error for a model without a layer that counts."""
    listed = "; ".join(f"{name}: {reason}" for name, reason in list(not_covered.items())[:5])
    return UnsupportedModelError(
        f"the model {type(model).__name__} has no linear map and no convolution that counts, so it "
        f"has no Fisher eigenvalues{f' ({listed})' if listed else ''}"
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
    if weight.ndim != base.ndim or weight.stride() != base.stride():
        return None
    if weight.shape == base.shape:
        return ""
    offset = weight.storage_offset() - base.storage_offset()
    if weight.shape[1:] != base.shape[1:] or offset % base.stride(0):
        return None
    first = offset // base.stride(0)
    return f"[{first}:{first + len(weight)}]"


def _joined(module: str, name: str) -> str:
    return f"{module}.{name}" if module else name
