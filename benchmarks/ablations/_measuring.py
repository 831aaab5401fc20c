"""The spectra of many functions under one setting after another, as vectors, kept in files.

==============  ==============================  ===================================================
``quantiles``   ``(n, layers * quantiles)``     float32, NaN where the spectrum is invalid
``histograms``  ``(n, sum of weights // 100)``  float32, likewise
``sizes``       ``(layers,)``                   int64, weights of each layer
``seconds``     ``(n,)``                        float64, processor time of one function: network,
                                                passes and eigenvalues
==============  ==============================  ===================================================
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import joblib
import numpy as np
import threadpoolctl
import torch
import yaml  # type: ignore[import-untyped] # PyYAML has no types
from numpy.typing import NDArray
from torch import Tensor
from tqdm.auto import tqdm

from aquasurf_optuna._whole_file import write_whole
from aquasurf_optuna.activation import Activation
from aquasurf_optuna.exceptions import BenchmarkError, InitializationError, InvalidSpectrumError
from aquasurf_optuna.features._capture import BatchParts, private_randomness
from aquasurf_optuna.features.featurizer import FisherFeaturizer
from aquasurf_optuna.features.fisher import DEFAULT_MAX_USES, FisherSpectrum, measure
from aquasurf_optuna.features.losses import Fisher
from aquasurf_optuna.features.spectra import WEIGHTS_PER_BIN, histogram_vector, quantile_vector
from lightning_modules import cli
from lightning_modules.features import featurizer_of

_CHUNK = 25
_QUIET = ("--model.activation=relu(x)", "--trainer.logger=false", "--trainer.callbacks=null")


@dataclasses.dataclass(frozen=True)
class Setting:
    """How spectra are measured; as it stands, in the way of the tables.

    Attributes:
        labels: Where the targets come from: `"sampled"` or `"exact"`, by the network's own
            prediction, or `"empirical"`, those of the data.
        samples: Images in the batch; None for a training batch of the configuration.
        max_uses: How many uses of a layer its factors are estimated from; None for all.
    """

    labels: Fisher = "sampled"
    samples: int | None = None
    max_uses: int | None = DEFAULT_MAX_USES

    @property
    def slug(self) -> str:
        """A name for files."""
        batch = "configured" if self.samples is None else self.samples
        uses = "all" if self.max_uses is None else self.max_uses
        return f"labels-{self.labels}_batch-{batch}_uses-{uses}"


class Task(NamedTuple):
    """A network around a function, and images with their labels.

    Attributes:
        featurizer: Measures in the way of the tables.
        inputs: ``(m, ...)``; it begins with the featurizer's own batch.
        targets: ``(m,)``.
    """

    featurizer: FisherFeaturizer
    inputs: Tensor
    targets: Tensor


class Measured(NamedTuple):
    """The spectra of some functions under one setting; see the top of the module."""

    quantiles: NDArray[np.float32]
    histograms: NDArray[np.float32]
    sizes: NDArray[np.int64]
    seconds: NDArray[np.float64]


class _One(NamedTuple):
    """One function; without vectors its spectrum is invalid."""

    seconds: float
    quantiles: NDArray[np.float32] | None = None
    histogram: NDArray[np.float32] | None = None
    sizes: tuple[int, ...] = ()


def task_of(build_config: str | os.PathLike[str], samples: int) -> Task:
    """Return what `aquasurf bench build --config` measures with, and more images of the same kind.

    Args:
        build_config: The YAML file of the build; its `lightning_config` names a training.
        samples: How many images are wanted, from the first batches of the training.

    Raises:
        BenchmarkError: If the file names no training, or a featurizer of its own; if the training
            has too few images, or its batches are not to be had outside of it.
    """
    described = yaml.safe_load(Path(build_config).read_text(encoding="utf-8"))
    if not isinstance(described, dict) or not isinstance(described.get("lightning_config"), str):
        raise BenchmarkError(
            f"{build_config} must say the `lightning_config` of a training, as "
            f"examples/bench_digits_cnn.yaml does, got {str(described)[:200]}"
        )
    if "featurizer" in described:
        raise BenchmarkError(
            f"{build_config} measures with a featurizer of its own, {described['featurizer']}; "
            "settings are compared for that of a training's `lightning_config` alone"
        )
    config = described["lightning_config"]
    featurizer = featurizer_of(config)
    batch = featurizer.inputs
    if not isinstance(batch, Tensor):
        raise BenchmarkError(f"the batches of {config} must be one tensor, got {type(batch)}")
    inputs, targets = _first_images(config, max(samples, len(batch)))
    if not torch.equal(inputs[: len(batch)], batch):
        raise BenchmarkError(
            f"the loader of {config} gives other images than a training takes, since a callback "
            "or the module changes them; take a configuration that trains on them as they are"
        )
    return Task(featurizer, inputs, targets)


def _first_images(config: str, samples: int) -> tuple[Tensor, Tensor]:
    with cli.reading(config):
        data = cli.read(["--config", config, *_QUIET]).datamodule
    data.prepare_data()
    data.setup("fit")
    inputs: list[Tensor] = []
    targets: list[Tensor] = []
    for images, labels in data.train_dataloader():
        if sum(map(len, inputs)) >= samples:
            break
        inputs.append(images)
        targets.append(labels)
    found = sum(map(len, inputs))
    if found < samples:
        raise BenchmarkError(f"an epoch of {config} has {found} images, but {samples} are wanted")
    return torch.cat(inputs)[:samples], torch.cat(targets)[:samples]


def measured(
    task: Task,
    setting: Setting,
    functions: Sequence[str],
    *,
    jobs: int,
    kept: Path,
    progress: bool = True,
) -> Measured:
    """Measure functions under a setting, or read what was measured before.

    Args:
        task: The network and the images.
        setting: The setting.
        functions: Texts.
        jobs: Processes, of one thread each.
        kept: Folder; a file for each setting is written when all functions are measured.
        progress: Whether to show a bar on standard error.

    Raises:
        BenchmarkError: If the file there is of other functions or another task, or there are too
            few images.
    """
    path = kept / f"{setting.slug}.npz"
    about = json.dumps(
        {"task": task.featurizer.task, **dataclasses.asdict(setting), "functions": list(functions)}
    )
    if path.exists():
        return _read(path, about)
    found = _stacked(_measure_all(task, setting, functions, jobs, progress))
    content = io.BytesIO()
    np.savez_compressed(content, about=np.array(about), **found._asdict())
    write_whole(path, content.getvalue(), what="a file of spectra")
    return found


def _read(path: Path, about: str) -> Measured:
    try:
        with np.load(path, allow_pickle=False) as arrays:
            known = str(arrays["about"])
            found = Measured(**{name: arrays[name] for name in Measured._fields})
    except (OSError, ValueError, KeyError) as error:
        raise BenchmarkError(
            f"{path} is no file of spectra, move it away to measure anew: {error}"
        ) from error
    if known != about:
        raise BenchmarkError(
            f"{path} holds spectra of other functions, or of another task; move it away, or take "
            f"another folder. It is of {known[:120]}..., and wanted is {about[:120]}..."
        )
    return found


def _measure_all(
    task: Task, setting: Setting, functions: Sequence[str], jobs: int, progress: bool
) -> list[_One]:
    chunks = [functions[start : start + _CHUNK] for start in range(0, len(functions), _CHUNK)]
    found: list[_One] = []
    with tqdm(
        total=len(functions), unit="function", desc=setting.slug, disable=not progress
    ) as bar:
        with joblib.parallel_config(backend="loky", inner_max_num_threads=1):
            pool = joblib.Parallel(n_jobs=min(jobs, len(chunks)), return_as="generator")
            results = pool(joblib.delayed(_measure_chunk)(task, setting, c) for c in chunks)
        with contextlib.closing(results):
            for some in results:
                found += some
                bar.update(len(some))
    return found


def _measure_chunk(task: Task, setting: Setting, functions: Sequence[str]) -> list[_One]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    # What the batch itself adds to the first layer is found once, as in a featurizer.
    parts: BatchParts = {}
    try:
        with threadpoolctl.threadpool_limits(1):
            return [measure_one(task, setting, text, parts) for text in functions]
    finally:
        torch.set_num_threads(threads)


def measure_one(task: Task, setting: Setting, function: str, parts: BatchParts) -> _One:
    """Measure one function; `parts` is for functions with the same setting to share."""
    begin = time.process_time()
    try:
        spectrum = _spectrum(task, setting, function, parts)
    except (InitializationError, InvalidSpectrumError):
        return _One(time.process_time() - begin)
    return _One(
        time.process_time() - begin,
        quantile_vector(spectrum).astype(np.float32),
        histogram_vector(spectrum).astype(np.float32),
        tuple(map(len, spectrum.values())),
    )


def _spectrum(task: Task, setting: Setting, function: str, parts: BatchParts) -> FisherSpectrum:
    featurizer = task.featurizer
    n = len(featurizer.inputs) if setting.samples is None else setting.samples
    if n > len(task.inputs):
        raise BenchmarkError(f"the task has {len(task.inputs)} images, but {n} are wanted")
    with private_randomness(featurizer.seed, {task.inputs.device}):
        model = featurizer.build_model(Activation.factory(function))
    return measure(
        model,
        task.inputs[:n],
        task.targets[:n] if setting.labels == "empirical" else None,
        loss=featurizer.loss,
        fisher=setting.labels,
        sharing=featurizer.sharing,
        max_uses=setting.max_uses,
        seed=featurizer.seed,
        skip=featurizer.skip,
        batch_parts=parts,
    )


def _stacked(found: Sequence[_One]) -> Measured:
    sizes = next((one.sizes for one in found if one.sizes), ())
    return Measured(
        _rows([one.quantiles for one in found]),
        _rows([one.histogram for one in found]),
        np.array(sizes, dtype=np.int64),
        np.array([one.seconds for one in found]),
    )


def _rows(vectors: Sequence[NDArray[np.float32] | None]) -> NDArray[np.float32]:
    length = max((len(vector) for vector in vectors if vector is not None), default=0)
    missing = np.full(length, np.nan, dtype=np.float32)
    return np.stack([missing if vector is None else vector for vector in vectors])


def by_layer_size(
    vectors: NDArray[np.float32], sizes: NDArray[np.int64], *, histogram: bool = False
) -> NDArray[np.float32]:
    """Weigh the layers by their share of the weights, where Equation 2 weighs all the same.

    With histograms this is the plain cumulative distribution of Appendix D, up to one factor: a
    layer's bins are the narrower the more weights it has.

    Args:
        vectors: ``(n, m)``, layer after layer.
        sizes: Weights of each layer.
        histogram: Whether the vectors are histograms; else quantiles.

    Returns:
        ``(n, m)``; the weights of the layers are 1 on average.
    """
    shares = sizes / sizes.sum() * len(sizes)
    lengths = sizes // WEIGHTS_PER_BIN if histogram else vectors.shape[1] // len(sizes)
    weighted: NDArray[np.float32] = (vectors * np.repeat(shares, lengths)).astype(np.float32)
    return weighted
