"""Any classifier of timm by its name, with the activation at every site where timm lets one choose.

timm passes the activation on as `act_layer`, in its CoAtNets and MaxViTs as `conv_act_layer` and
`transformer_act_layer`. Some models take no activation, and some parts of others keep their own:
the gates of squeeze-and-excitation for example. So the modules that were really swapped are looked
up in the network, and watched while it runs once.
"""

from __future__ import annotations

import difflib
import functools
from typing import Any

import timm
import torch
from torch import Tensor, nn

from aquasurf_optuna.activation import ActivationLike, as_factory
from aquasurf_optuna.exceptions import UnsupportedModelError
from lightning_modules.models._options import require_sizes
from lightning_modules.models._sites import activation_modules, names_of, recording, run_once

ACTIVATION_OPTIONS: tuple[tuple[str, ...], ...] = (
    ("act_layer",),
    ("conv_act_layer", "transformer_act_layer"),
)
"""The options by which timm's models take an activation, in the order in which they are tried."""

_OWN_NAMES = {
    "in_chans": "in_channels",
    **{option: "activation" for options in ACTIVATION_OPTIONS for option in options},
}


class TimmClassifier(nn.Module):
    """A classifier of timm, around the activation function of your choice.

    Maps images `[batch, in_channels, height, width]` to logits `[batch, num_classes]`.

    Args:
        name: A model of `timm.list_models()`, such as `"efficientnet_b0"`.
        activation: A text such as `"relu(x)"`, an `Expression`, or a factory such as `nn.ReLU`. It
            is called once for each activation site, so that no two sites share a module.
        num_classes: Number of logits.
        in_channels: Channels of the images.
        **options: Passed on to `timm.create_model`, `img_size` or `drop_rate` for example. Fisher
            eigenvalues need `zero_init_last=False` where the model has that option: otherwise no
            gradient reaches its residual branches at initialisation.

    Attributes:
        network: timm's model.
        sites: Dotted names of the modules that the activation replaced, all of which run.
        kept: Dotted names of the other activation modules, which keep their own function. A
            function that timm calls without a module is not listed.

    Raises:
        ExpressionError: If `activation` is a text that names no function.
        TypeError: If timm's model does not know an option, or the factory returns no module.
        UnsupportedModelError: If the model takes no activation, does not run with these options, or
            does not return logits.
        ValueError: If timm knows no model of that name, or an argument is out of its range.
    """

    def __init__(
        self,
        name: str,
        activation: ActivationLike,
        *,
        num_classes: int = 1000,
        in_channels: int = 3,
        **options: Any,
    ) -> None:
        super().__init__()
        owner = type(self).__name__
        require_sizes(owner, num_classes=num_classes, in_channels=in_channels)
        _check_name(name)
        _check_options(options)
        made: list[nn.Module] = []
        factory = recording(as_factory(activation), made)
        options |= {"num_classes": num_classes, "in_chans": in_channels}
        self.network = _create(name, factory, options)
        ran = _run(self.network, name, made, options)
        self.sites = names_of(self, ran)
        if not self.sites:
            raise _unsupported(name, "it accepts one and does not use it")
        swapped = set(names_of(self, made))
        self.kept = tuple(site for site in activation_modules(self) if site not in swapped)
        # Networks that keep their factory would keep the modules alive, and copy them, through it.
        made.clear()

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits."""
        logits: Tensor = self.network(images)
        return logits


def _create(name: str, factory: functools.partial[nn.Module], options: dict[str, Any]) -> nn.Module:
    """Build timm's model with whichever options it takes its activation by."""
    refusals: list[Exception] = []
    for keys in ACTIVATION_OPTIONS:
        try:
            return _build(name, options | dict.fromkeys(keys, factory))
        # The assertion is that of the NFNets, which know a few activations by name.
        except (TypeError, AssertionError) as error:
            refusals.append(error)
    # A factory that does not work by itself says so here.
    factory()
    _check_without_activation(name, options)
    raise _unsupported(name, str(refusals[0])) from refusals[0]


def _build(name: str, options: dict[str, Any]) -> nn.Module:
    model: nn.Module = timm.create_model(name, **options)
    return model


def _check_without_activation(name: str, options: dict[str, Any]) -> None:
    """Tell a model that refuses its options from one that refuses the activation alone."""
    try:
        with torch.device("meta"):
            _build(name, options | {"pretrained": False})
    except TypeError as error:
        raise TypeError(
            f"TimmClassifier: timm's {name!r} does not take the options that came: {error}"
        ) from error


def _run(
    network: nn.Module, name: str, made: list[nn.Module], options: dict[str, Any]
) -> list[nn.Module]:
    """Return the modules in `made` that run when images pass through."""
    shape = (1, options["in_chans"], *_input_sides(network, options))
    expected = (1, options["num_classes"])
    problem = f"timm's {name!r}, built with these options, "
    try:
        ran, logits = run_once(network, shape, made)
    except RuntimeError as error:
        raise UnsupportedModelError(
            f"{problem}does not run on images of shape {shape}: {error}"
        ) from error
    came = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
    if came != expected:
        raise UnsupportedModelError(
            f"{problem}returns {came} for one image, not logits of shape {expected}; leave out the "
            "options that change its output"
        )
    return ran


def _input_sides(network: Any, options: dict[str, Any]) -> tuple[int, int]:
    """Return the height and width of the images that timm builds the network for."""
    size = options.get("img_size", network.pretrained_cfg["input_size"][1:])
    height, width = (size, size) if isinstance(size, int) else size
    return height, width


def _check_name(name: str) -> None:
    if timm.is_model(name.split(".")[0]):
        return
    near = difflib.get_close_matches(name, timm.list_models(), n=3)
    hint = f"did you mean {' or '.join(map(repr, near))}? " if near else ""
    raise ValueError(
        f"TimmClassifier: timm {timm.__version__} has no model {name!r}; "
        f"{hint}timm.list_models() lists them all"
    )


def _check_options(options: dict[str, Any]) -> None:
    for option in options:
        if option in _OWN_NAMES:
            raise TypeError(
                f"TimmClassifier: give {_OWN_NAMES[option]} in place of timm's option {option!r}"
            )


def _unsupported(name: str, reason: str) -> UnsupportedModelError:
    return UnsupportedModelError(
        f"timm's {name!r} does not let its activation be chosen ({reason}), so a function would "
        "have no effect on it; take a model that builds with act_layer=, such as 'resnet18' or "
        "'vit_tiny_patch16_224'"
    )
