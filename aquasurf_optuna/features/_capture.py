"""One forward pass and the backward passes through a model that is handed back as it came.

While the passes run, every call of a linear map or convolution is watched, and each layer's sums
are filled: of the activations in the forward pass, of the pre-activation gradients as they come, so
that no gradient is kept.
"""

from __future__ import annotations

import contextlib
import functools
import types
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils.checkpoint import CheckpointError

from aquasurf_optuna.exceptions import InvalidSpectrumError, UnsupportedModelError
from aquasurf_optuna.features._batch import Inputs, devices_of, outputs_of, tensors_of
from aquasurf_optuna.features._calls import ARGUMENTS, Call, read_call
from aquasurf_optuna.features._sums import Part, Settings, Sums, activation_part, gradient_part
from aquasurf_optuna.features.layers import Weights

_NORMALIZES_BY_BATCH = nn.modules.batchnorm._NormBase

BatchParts = dict[tuple[str, Call], Part]
"""What the batch itself adds to the layers that it enters, the same for every activation."""

Losses = Callable[[Any], Iterable[Tensor]]


class LayerRecord:
    """What the passes tell about one layer.

    Attributes:
        activations: Sums for ``Omega``.
        gradients: Sums for ``Gamma``.
        kind: The function that uses its weight.
        bias: What tells its bias from others, None without one.
        dtype: The layer's own precision.
    """

    def __init__(self, kind: Callable[..., Any], bias: object, dtype: torch.dtype) -> None:
        self.activations = Sums()
        self.gradients = Sums()
        self.kind = kind
        self.bias = bias
        self.dtype = dtype


def capture(
    model: nn.Module,
    weights: Weights,
    inputs: Inputs,
    losses: Losses,
    settings: Settings,
    *,
    batch_parts: BatchParts | None = None,
) -> dict[str, LayerRecord]:
    """Run the passes.

    Args:
        model: The network; it comes back as it was, also after an error.
        weights: Its weights; told which of them are covered.
        inputs: ``(M, ...)``.
        losses: Maps the network's outputs to the terms to be differentiated.
        settings: How the sums are taken; the seed also seeds what the network itself may draw.
        batch_parts: Read, and filled where the batch itself enters a layer.

    Returns:
        The records by layer, in the order in which the layers ran.

    Raises:
        InvalidSpectrumError: If activations, outputs, the loss or gradients are not finite, or the
            outputs depend on no layer.
        UnsupportedModelError: If a layer runs where it cannot be watched, or in different ways.
    """
    watch = _Watch(weights, inputs, settings, {} if batch_parts is None else batch_parts)
    # Autograd cannot keep a tensor made in inference mode, so the passes leave that mode.
    with torch.inference_mode(False), torch.enable_grad(), _borrowed(model, settings.seed):
        with watch.running(weights), watch:
            outputs = outputs_of(model, inputs)
        for name, record in watch.records.items():
            record.activations.end_pass(mean=True)
            record.activations.check("the activations that enter", name)
        if watch.records:
            _differentiate(list(losses(outputs)), watch)
    return watch.records


@contextlib.contextmanager
def private_randomness(seed: int, devices: set[torch.device]) -> Iterator[None]:
    """Seed torch's generators inside the block, and give them back as they were.

    `torch.manual_seed` would also touch, or queue a seed for, GPUs that take no part.
    """
    gpus = sorted(device.index or 0 for device in devices if device.type == "cuda")
    with torch.random.fork_rng(devices=gpus):
        torch.default_generator.manual_seed(seed)
        for gpu in gpus:
            torch.cuda.default_generators[gpu].manual_seed(seed)
        yield


@contextlib.contextmanager
def _borrowed(model: nn.Module, seed: int) -> Iterator[None]:
    """Set the mode for the features, and hand the model back as it was.

    Normalisation uses the batch's own statistics, for those of an untrained model say nothing;
    everything else, dropout included, is as in evaluation, for the features to be deterministic.
    Parameters need no gradients: what they would keep for them is not kept.
    """
    modules = list(model.modules())
    training = [module.training for module in modules]
    buffers = [dict(module._buffers) for module in modules]
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    try:
        for module in modules:
            module.training = isinstance(module, _NORMALIZES_BY_BATCH)
            # Copies take the updates, so that a graph of the caller's that holds the originals
            # stays valid, which writing the old values back would not leave it.
            for name, buffer in module._buffers.items():
                module._buffers[name] = None if buffer is None else buffer.clone()
        for parameter in trainable:
            parameter.requires_grad_(False)
        with private_randomness(seed, devices_of(model)):
            yield
    finally:
        for module, was_training, own in zip(modules, training, buffers, strict=True):
            module.training = was_training
            module._buffers.clear()
            module._buffers.update(own)
        for parameter in trainable:
            parameter.requires_grad_(True)


class _Watch(TorchFunctionMode):
    """Sees every call of a linear map or convolution, and records those of a model's weights."""

    def __init__(
        self, weights: Weights, inputs: Inputs, settings: Settings, batch_parts: BatchParts
    ) -> None:
        super().__init__()
        self.records: dict[str, LayerRecord] = {}
        # One number for each place at which the graph begins, of which gradients are asked for.
        self.origins: list[Tensor] = []
        self._weights = weights
        self._settings = settings
        # Tensors of inference mode have no version; they are copied before the network sees them.
        known = [part for part in tensors_of(inputs) if not part.is_inference()]
        self._batch = [(part, part._version) for part in known]
        self._batch_parts = batch_parts
        self._running: list[str] = []
        self._sequence: int | None = None

    @contextlib.contextmanager
    def running(self, weights: Weights) -> Iterator[None]:
        """Keep track of which layer-like module runs."""
        with contextlib.ExitStack() as hooks:
            for name, module in weights.layer_like().items():
                enter = functools.partial(self._enter, name)
                before = module.register_forward_pre_hook(enter, prepend=True)
                after = module.register_forward_hook(self._leave, always_call=True)
                hooks.callback(before.remove)
                hooks.callback(after.remove)
            yield

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        keywords = kwargs or {}
        if func is F.multi_head_attention_forward:
            return self._attention(args, keywords)
        result = func(*args, **keywords)
        if func not in ARGUMENTS:
            return result
        arguments = {**dict(zip(ARGUMENTS[func], args, strict=False)), **keywords}
        layer = self._weights.layer_of(arguments["weight"], next(reversed(self._running), None))
        return result if layer is None else self._record(layer, func, arguments, result)

    def _attention(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        query = kwargs["query"] if "query" in kwargs else args[0]
        self._sequence = len(query)
        try:
            with self:
                return _ATTENTION(*args, **kwargs)
        finally:
            self._sequence = None

    def _enter(self, name: str, *_: object) -> None:
        self._running.append(name)
        self._weights.note_run(name)

    def _leave(self, *_: object) -> None:
        self._running.pop()

    def _record(
        self, layer: str, func: Callable[..., Tensor], arguments: dict[str, Any], output: Tensor
    ) -> Tensor:
        if not torch.is_grad_enabled():
            raise UnsupportedModelError(
                f"layer {layer!r} runs under torch.no_grad() or similar inside the model, so no "
                "gradient reaches it; remove that"
            )
        inputs: Tensor = arguments["input"]
        if torch._C._functorch.is_functorch_wrapped_tensor(inputs):
            raise UnsupportedModelError(
                f"layer {layer!r} runs inside a transform of torch.func, such as vmap, where its "
                "data cannot be read; write the loop or the batch dimension out"
            )
        sequence = len(inputs) if self._sequence is not None and inputs.ndim > 2 else self._sequence
        call = read_call(func, arguments, output, sequence)
        record = self._record_of(layer, func, arguments.get("bias"), inputs.dtype)
        # At once, for the input may be overwritten later, and for bad functions to be found early.
        bias = record.bias is not None
        record.activations.add(self._activation_part(layer, call, inputs, bias=bias))
        if self._settings.sharing == "expand":
            record.gradients.expect(call.output_uses(output))
        if not output.requires_grad:
            output = self._begin_graph(output)

        def add_gradient(gradient: Tensor) -> None:
            record.gradients.add(gradient_part(call, gradient, self._settings, layer))

        # Registered now, the hook stays with this value when an activation overwrites it.
        output.register_hook(add_gradient)  # type: ignore[no-untyped-call]  # torch gives it no types
        return output

    def _record_of(
        self, layer: str, kind: Callable[..., Any], bias: Tensor | None, dtype: torch.dtype
    ) -> LayerRecord:
        identity = self._weights.count_bias(bias)
        record = self.records.setdefault(layer, LayerRecord(kind, identity, dtype))
        if record.kind is not kind:
            raise UnsupportedModelError(
                f"the weight of layer {layer!r} is used by {record.kind.__name__} and by "
                f"{kind.__name__}, for which one Kronecker factor does not hold; untie them"
            )
        if record.bias != identity:
            raise UnsupportedModelError(
                f"layer {layer!r} is used several times, with different biases, for which one "
                "Kronecker factor does not hold; use one layer for each place"
            )
        return record

    def _activation_part(self, layer: str, call: Call, inputs: Tensor, *, bias: bool) -> Part:
        key = (layer, call)
        of_batch = any(_is_same(inputs, part, version) for part, version in self._batch)
        if of_batch and key in self._batch_parts:
            return self._batch_parts[key]
        part = activation_part(call, inputs, self._settings, layer, bias=bias)
        if of_batch:
            self._batch_parts[key] = part
        return part

    def _begin_graph(self, output: Tensor) -> Tensor:
        # Adding -0 changes no number, not even a 0. In place: the output is new, and no graph is
        # there yet that could hold it.
        origin = output.new_full((), -0.0).requires_grad_()
        self.origins.append(origin)
        return output.add_(origin)


def _differentiate(terms: list[Tensor], watch: _Watch) -> None:
    if not watch.origins:
        raise UnsupportedModelError(
            "a tensor of the network's own requires gradients and is no parameter, so that what "
            "the layers' gradients are cannot be told; make it a parameter or a buffer"
        )
    for place, term in enumerate(terms):
        if not term.requires_grad:
            raise InvalidSpectrumError("the network's outputs do not depend on any of its layers")
        more = place + 1 < len(terms)
        try:
            torch.autograd.grad(term, watch.origins, retain_graph=more, allow_unused=True)
        except CheckpointError as error:
            raise UnsupportedModelError(
                "activation checkpointing covers the network's first layer, which is then not "
                "computed again as it was; turn it off for the eigenvalues"
            ) from error
        for record in watch.records.values():
            record.gradients.end_pass(mean=False)


def _body_of_attention() -> Callable[..., Any]:
    """Return PyTorch's attention without the detour that hides its projections from a mode."""
    function = F.multi_head_attention_forward
    names = {**function.__globals__, "has_torch_function": lambda _: False}
    body = types.FunctionType(function.__code__, names, function.__name__, function.__defaults__)
    body.__kwdefaults__ = function.__kwdefaults__
    return body


_ATTENTION = _body_of_attention()


def _is_same(inputs: Tensor, part: Tensor, version: int) -> bool:
    return (
        part._version == version
        and inputs.dtype == part.dtype
        and inputs.data_ptr() == part.data_ptr()
        and inputs.shape == part.shape
        and inputs.stride() == part.stride()
    )
