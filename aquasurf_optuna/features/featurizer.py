"""The Fisher feature of an activation function: a network is built around it and measured.

:class:`FisherFeaturizer` is the surrogate's view of a function. The mathematics is in
:mod:`aquasurf_optuna.features.fisher`.
"""

from __future__ import annotations

import copy
import functools
import hashlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal

import joblib
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from aquasurf_optuna.activation import Activation, ActivationFactory
from aquasurf_optuna.catalogue import Catalogue
from aquasurf_optuna.exceptions import InitializationError, InvalidSpectrumError
from aquasurf_optuna.expression import Expression
from aquasurf_optuna.features._batch import Inputs, tensors_of
from aquasurf_optuna.features._capture import BatchParts, private_randomness
from aquasurf_optuna.features._feature import (
    FeatureStoreLike,
    FisherFeature,
    SharedStore,
)
from aquasurf_optuna.features._precompute import (
    PrecomputeOptions,
    PrecomputeSummary,
    precompute,
)
from aquasurf_optuna.features._sums import Sharing
from aquasurf_optuna.features.fisher import DEFAULT_MAX_USES, check_arguments, measure
from aquasurf_optuna.features.layers import LayerTypes
from aquasurf_optuna.features.losses import Fisher, Loss
from aquasurf_optuna.features.spectra import histogram_vector, quantile_vector
from aquasurf_optuna.parallel import side_by_side

Representation = Literal["quantiles", "histogram"]

_REPRESENTATIONS: dict[str, Callable[[dict[str, Tensor]], NDArray[np.float64]]] = {
    "quantiles": quantile_vector,
    "histogram": histogram_vector,
}
_LARGEST_CHUNK = 16
_OPTIONS = PrecomputeOptions()
# As AquaSurfSampler draws the seed of its first activation's candidates; a test compares the two.
_SEED_LIMIT = 2**31 - 1
_IN_MEMORY = ("sqlite://", "sqlite:///", "sqlite:///:memory:")

__all__ = [
    "FeatureStoreLike",
    "FisherFeature",
    "FisherFeaturizer",
    "PrecomputeOptions",
    "PrecomputeSummary",
    "Representation",
]


class FisherFeaturizer:
    """Measures activation functions by the Fisher eigenvalues of the network built around them.

    Each network is built and measured from the same seed, so a feature depends on neither the order
    of the calls nor the caller's random state. Picklable where `build_model` and `loss` are.

    Args:
        build_model: Takes an activation factory and returns the network at initialisation. It is
            moved to the device of `inputs`.
        inputs: A mini-batch ``(M, ...)``, or several tensors, as in :func:`fisher_log_eigenvalues`.
        targets: As there.
        loss: As there; one of your own needs a `task` as well.
        fisher: As there.
        sharing: As there.
        max_uses: As there.
        representation: ``"quantiles"`` or ``"histogram"``, see
            :mod:`aquasurf_optuna.features.spectra`.
        seed: Seeds the building of the network and the labels.
        task: Name under which a store keeps the features. None derives one from everything above:
            the inputs, the targets, the settings, and the printed form and parameter norms of the
            network with ReLU.
        skip: As in :func:`fisher_log_eigenvalues`.

    Attributes:
        not_covered: Name of each parameter that no layer stands for -> reason, once a function has
            been measured in this process.

    Raises:
        ValueError: If an argument is outside what is allowed.
    """

    def __init__(
        self,
        build_model: Callable[[ActivationFactory], nn.Module],
        inputs: Inputs,
        targets: Tensor | None = None,
        *,
        loss: Loss = "cross_entropy",
        fisher: Fisher | None = None,
        sharing: Sharing = "expand",
        max_uses: int | None = DEFAULT_MAX_USES,
        representation: Representation = "quantiles",
        seed: int = 0,
        task: str | None = None,
        skip: LayerTypes = (),
    ) -> None:
        _check_representation(representation)
        check_arguments(inputs, targets, loss, fisher, sharing, max_uses)
        if task is None and not isinstance(loss, str):
            raise ValueError(
                "a loss of your own cannot be told from another one by a store: name the task, "
                "for example task='my-loss'"
            )
        if task == "":
            raise ValueError("task must be a name, or None for a derived one, got ''")
        self.build_model = build_model
        self.inputs = inputs
        self.targets = targets
        self.loss = loss
        self.fisher = fisher
        self.sharing = sharing
        self.max_uses = max_uses
        self.representation = representation
        self.seed = seed
        self.skip = skip
        self.not_covered: dict[str, str] = {}
        self._given_task = task
        # What the batch itself adds to the first layer does not depend on the function.
        self._batch_parts: BatchParts = {}

    def represented_as(self, representation: Representation) -> FisherFeaturizer:
        """Return the same featurizer with another kind of vector, and a task of its own.

        Raises:
            ValueError: If there is no such representation.
        """
        _check_representation(representation)
        other = copy.copy(self)
        # A derived task is that of the representation it was derived for.
        other.__dict__.pop("task", None)
        other.representation = representation
        if self._given_task is not None:
            other._given_task = f"{self._given_task}, {representation}"
        return other

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_batch_parts": {}}

    @functools.cached_property
    def task(self) -> str:
        """The key of these features in a store; deriving it builds the network with ReLU once."""
        if self._given_task is not None:
            return self._given_task
        return "fisher-" + _digest(self._task_parts())

    def __call__(self, expression: str | Expression) -> FisherFeature:
        """Measure one activation function.

        Args:
            expression: The function, or its text.

        Returns:
            The feature; a function that cannot be initialised or has no valid spectrum gets the
            reason instead of a vector.

        Raises:
            ExpressionError: If a text is not an expression.
            UnsupportedModelError: If the network's eigenvalues are not defined.
        """
        factory = Activation.factory(expression)
        try:
            spectrum = measure(
                self._build(factory),
                self.inputs,
                self.targets,
                loss=self.loss,
                fisher=self.fisher,
                sharing=self.sharing,
                max_uses=self.max_uses,
                seed=self.seed,
                skip=self.skip,
                batch_parts=self._batch_parts,
            )
        except (InitializationError, InvalidSpectrumError) as error:
            return FisherFeature(None, str(error))
        self.not_covered = spectrum.not_covered
        vector = _REPRESENTATIONS[self.representation](spectrum)
        return FisherFeature(vector.astype(np.float32), None)

    def many(
        self,
        expressions: Sequence[str | Expression],
        *,
        store: FeatureStoreLike | None = None,
        n_jobs: int = 1,
        progress: Callable[[int, int], None] | None = None,
    ) -> list[FisherFeature]:
        """Measure several activation functions; each text once.

        Args:
            expressions: The functions, or their texts.
            store: Where known features are read from and new ones kept as they come, so that an
                interrupted run goes on where it stopped.
            n_jobs: Processes, this one among them, of one thread each; -1 takes every core.
            progress: Called as ``progress(done, total)``, counting distinct functions, at the start
                and whenever one is done.

        Returns:
            The features, in the order of `expressions`.

        Raises:
            ValueError: If `n_jobs` is 0.
        """
        _check_jobs(n_jobs)
        texts = [str(Activation.factory(expression).expression) for expression in expressions]
        features: dict[str, FisherFeature] = {}
        if store is not None:
            features = _known(store, self.task, list(dict.fromkeys(texts)))
        missing = [text for text in dict.fromkeys(texts) if text not in features]
        total = len(features) + len(missing)
        if progress is not None:
            progress(len(features), total)
        for text, feature in self._measure(missing, n_jobs):
            features[text] = feature
            if store is not None:
                store.put(self.task, text, feature)
            if progress is not None:
                progress(len(features), total)
        return [features[text] for text in texts]

    def precompute(
        self,
        catalogue: Catalogue,
        n: int | None = None,
        *,
        store: SharedStore,
        n_jobs: int = 1,
        seed: int = 0,
        progress: bool = True,
        options: PrecomputeOptions = _OPTIONS,
    ) -> PrecomputeSummary:
        """Measure ahead what a sampler is going to ask for; what is there already stays.

        An interrupted run goes on where it stopped, and several runs on one store, on one machine
        or on many, divide the functions among them. A function whose network raises, takes too
        long or needs too much memory is kept as invalid, with the reason.

        To spread the workers over machines that reach the store's database, choose a backend of
        joblib around the call: ``with joblib.parallel_config(backend="dask")``.

        Args:
            catalogue: The different functions of a space.
            n: How many functions to draw, the sampler's `pool_size`; None for all that are finite
                and not constant. The baselines come on top.
            store: A :class:`~aquasurf_optuna.FeatureStore`; more than one worker needs one that
                is not in memory.
            n_jobs: Workers; -1 takes every core.
            seed: The sampler's seed: an :class:`~aquasurf_optuna.AquaSurfSampler` for one
                activation with this seed finds every feature of its first pool ready.
            progress: Whether to show a bar on standard error.
            options: Limits for one function, and how the workers go about it.

        Returns:
            What was done.

        Raises:
            ValueError: If `n` or `n_jobs` is outside what is allowed, or a store in memory is to
                serve several workers.
            UnsupportedModelError: If the network's eigenvalues are not defined, or it fails with
                ReLU too.
            PrecomputeError: If worker processes cannot be started or are killed again and again.
            FeatureStoreError: If the database cannot be read or written.
            KeyboardInterrupt: On Ctrl-C, with no claim left behind.
        """
        _check_jobs(n_jobs)
        if n is not None and n < 1:
            raise ValueError(f"n must be 1 function or more, or None for all, got {n}")
        _check_shared(store, n_jobs)
        drawn = catalogue.shuffled(int(np.random.default_rng(seed).integers(_SEED_LIMIT)))[:n]
        classes = dict.fromkeys([*catalogue.classes_of(options.baselines), *drawn])
        texts = [str(catalogue[class_id]) for class_id in classes]
        return precompute(self, texts, store, n_jobs=n_jobs, progress=progress, options=options)

    def _measure(self, texts: list[str], n_jobs: int) -> Iterator[tuple[str, FisherFeature]]:
        """Yield features as they come, in any order."""
        workers = min(joblib.effective_n_jobs(n_jobs), len(texts))
        if workers <= 1:
            yield from ((text, self(text)) for text in texts)
            return
        # The inputs travel with every call, so a call brings several functions.
        size = min(_LARGEST_CHUNK, math.ceil(len(texts) / (4 * workers)))
        chunks = [texts[start : start + size] for start in range(0, len(texts), size)]
        work = functools.partial(_measure_chunk, self)
        for index, features in side_by_side(work, chunks, workers):
            yield from zip(chunks[index], features, strict=True)

    def _build(self, factory: ActivationFactory) -> nn.Module:
        device = tensors_of(self.inputs)[0].device
        with private_randomness(self.seed, {device}):
            return self.build_model(factory).to(device)

    def _task_parts(self) -> Iterator[bytes]:
        if isinstance(self.inputs, Mapping):
            yield f"{list(self.inputs)}".encode()
        for tensor in (*tensors_of(self.inputs), self.targets):
            if tensor is not None:
                yield f"{tensor.dtype} {tuple(tensor.shape)}".encode()
                yield tensor.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes()
        model = self._build(Activation.factory("relu(x)"))
        skipped = [f"{kind.__module__}.{kind.__qualname__}" for kind in self.skip]
        yield f"{self.loss} {self.fisher} {self.sharing} {self.max_uses}".encode()
        yield f"{self.representation} {self.seed} {skipped} {model}".encode()
        for name, parameter in model.named_parameters():
            # Three digits tell initialisations apart, and hide rounding that differs by machine.
            yield f"{name} {parameter.detach().norm().item():.3g}".encode()


def _check_representation(representation: str) -> None:
    if representation not in _REPRESENTATIONS:
        raise ValueError(
            f"representation must be one of {sorted(_REPRESENTATIONS)}, got {representation!r}"
        )


def _check_jobs(n_jobs: int) -> None:
    if n_jobs == 0:
        raise ValueError("n_jobs must be 1 or more processes, or -1 for every core, got 0")


def _check_shared(store: SharedStore, n_jobs: int) -> None:
    if n_jobs != 1 and getattr(store, "url", None) in _IN_MEMORY:
        raise ValueError(
            f"n_jobs={n_jobs} processes cannot share a store in memory; give one in a file, such "
            "as sqlite:///features.db"
        )


def _known(store: FeatureStoreLike, task: str, texts: list[str]) -> dict[str, FisherFeature]:
    if isinstance(store, SharedStore):
        return store.known(task, texts)
    found = {text: store.get(task, text) for text in texts}
    return {text: feature for text, feature in found.items() if feature is not None}


def _measure_chunk(featurizer: FisherFeaturizer, texts: list[str]) -> list[FisherFeature]:
    """Measure with one thread, whichever process it is in."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return [featurizer(text) for text in texts]
    finally:
        torch.set_num_threads(threads)


def _digest(parts: Iterator[bytes]) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(len(part).to_bytes(8, "little") + part)
    return digest.hexdigest()[:16]
