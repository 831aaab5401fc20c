"""Building a table: the features of every function of a space, and the trainings of all valid ones.

Everything that takes time is kept in a folder as it is done, features in a database and training
runs in a file, so that a build which was stopped, or killed, goes on where it was. At the end the
table is written, whole or not at all.
"""

from __future__ import annotations

import dataclasses
import functools
import gzip
import importlib.metadata
import json
import os
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tqdm.auto import tqdm

from aquasurf_optuna._whole_file import write_whole
from aquasurf_optuna.benchmark._reader import ABOUT, VECTORS
from aquasurf_optuna.benchmark._rows import Spread, check_measured, entry_of, spread_of
from aquasurf_optuna.benchmark._runs import Key, Run, RunsFile, Training, train_all
from aquasurf_optuna.catalogue import Catalogue
from aquasurf_optuna.exceptions import BenchmarkError
from aquasurf_optuna.expression import BASELINES
from aquasurf_optuna.features._feature import FisherFeature
from aquasurf_optuna.features.featurizer import FisherFeaturizer, Representation
from aquasurf_optuna.space import SearchSpace
from aquasurf_optuna.store import FeatureStore

_PACKAGES = ("aquasurf", "torch", "lightning", "torchvision", "timm", "numpy", "scikit-learn")
_NOT_MEASURED = "its outputs are constant or not finite"


@dataclasses.dataclass(frozen=True)
class BuildPlan:
    """What a table is to hold.

    Attributes:
        name: The table's name.
        space: `three_node`, `four_node` or `coatnet`, or a schema.
        seeds: The training seeds of every function with a valid spectrum; the table has the median.
        classes: Number of classes of the task: an accuracy of 1 / classes is chance.
        n: How many functions to draw from the space, beside the baselines; None for all.
        invalid_sample: How many functions with an invalid spectrum are trained all the same, to
            show what leaving the others out costs.
        spread_seeds: More seeds, for `spread_sample` functions only: what the spread over seeds is
            measured with where `seeds` is a single one. They do not count for the median.
        spread_sample: How many functions have them.
        seed: Decides what is drawn, and the order of the trainings.

    Raises:
        BenchmarkError: If a number is out of its range, or a seed stands there twice.
    """

    name: str
    space: str = "three_node"
    seeds: tuple[int, ...] = (0, 1, 2)
    classes: int = 10
    n: int | None = None
    invalid_sample: int = 50
    spread_seeds: tuple[int, ...] = ()
    spread_sample: int = 100
    seed: int = 0

    def __post_init__(self) -> None:
        both = (*self.seeds, *self.spread_seeds)
        if not self.seeds or len(set(both)) < len(both) or min(both) < 0:
            raise BenchmarkError(
                "seeds and spread_seeds must be different numbers of 0 or more, at least one in "
                f"seeds, got {list(self.seeds)} and {list(self.spread_seeds)}"
            )
        for name, least in (("classes", 2), ("invalid_sample", 0), ("spread_sample", 1), ("n", 1)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise BenchmarkError(f"{name} must be {least} or more, got {value}")
        if not self.name or "/" in self.name:
            raise BenchmarkError(f"name must be the name of a table, got {self.name!r}")


@dataclasses.dataclass(frozen=True)
class BuildResult:
    """What a build came to.

    Attributes:
        path: The table.
        functions: How many it holds.
        valid: How many of them have a valid spectrum.
        trained: How many were trained at least once.
        spread: How far runs differ by the function and by the seed.
    """

    path: Path
    functions: int
    valid: int
    trained: int
    spread: Spread | None

    def __str__(self) -> str:
        text = (
            f"wrote {self.path}: {self.functions:,} functions, {self.valid:,} with a valid "
            f"spectrum, {self.trained:,} trained"
        )
        return text if self.spread is None else f"{text}; {self.spread}"


def build_table(
    plan: BuildPlan,
    training: Training,
    featurizer: FisherFeaturizer,
    *,
    output: str | os.PathLike[str],
    folder: str | os.PathLike[str] | None = None,
    jobs: int = 1,
    progress: bool = True,
) -> BuildResult:
    """Measure and train every function of a space, and write the table.

    A function is a class of equal graphs, trained once for all of them. Features come first, since
    they say which functions are trained. See :class:`BuildPlan` for what is trained.

    Args:
        plan: What the table is to hold.
        training: Trains a function, given as text, from a seed, and returns what it measured:
            `train_accuracy`, `train_loss`, `val_accuracy`, `val_loss`, `test_accuracy`,
            `test_loss` and `seconds`. Picklable. Its attribute `settings`, a mapping that JSON can
            hold, says what its results depend on.
        featurizer: Measures the Fisher features, as quantiles and as histograms.
        output: The table, `.json` or `.json.gz`.
        folder: Where features and runs are kept; `<output without its suffixes>.build` by default.
        jobs: Processes.
        progress: Whether to show bars on standard error.

    Returns:
        What was built.

    Raises:
        BenchmarkError: If the output is no name of a table, the folder holds runs of other
            settings, or the training returns too few measures.
        PrecomputeError: If the processes that measure features are killed again and again.
        OSError: If the table cannot be written.
    """
    path = Path(output)
    base = _base(path)
    kept = path.with_name(f"{base}.build") if folder is None else Path(folder)
    kept.mkdir(parents=True, exist_ok=True)
    settings = _settings(training)
    runs = RunsFile(kept / "runs.jsonl", settings)
    catalogue = Catalogue.of(SearchSpace.named(plan.space))
    features = _features(plan, catalogue, featurizer, kept, jobs=jobs, progress=progress)
    invalid = {
        text: feature.reason for text, feature in features["quantiles"].items() if not feature.valid
    }
    baselines = [str(catalogue[row]) for row in catalogue.classes_of(BASELINES)]
    keys = planned(plan, list(features["quantiles"]), set(invalid), baselines)
    _train(training, keys, runs, jobs=jobs, progress=progress)
    return _write(plan, path, catalogue, features, runs.read(), settings, featurizer)


def _base(path: Path) -> str:
    """Return a table's name without its suffixes, before hours of work turn out to be in vain."""
    base = path.name.removesuffix(".gz").removesuffix(".json")
    if path.is_dir() or not base or path.name not in (f"{base}.json", f"{base}.json.gz"):
        raise BenchmarkError(f"output must be a file that ends in .json or .json.gz, got {path}")
    return base


def _settings(training: Training) -> dict[str, Any]:
    settings = getattr(training, "settings", {})
    if not isinstance(settings, Mapping):
        raise BenchmarkError(
            "settings of a training must be a mapping of what its results depend on, got "
            f"{settings!r}"
        )
    return dict(settings)


def planned(
    plan: BuildPlan, functions: Sequence[str], invalid: set[str], baselines: Sequence[str] = ()
) -> list[Key]:
    """Return which functions are trained from which seeds, in the order in which that is done.

    The baselines come first, then the others in random order; the first seed of all of them comes
    before the second of any, so that a build which was stopped has seen every function.

    Args:
        plan: What the table is to hold.
        functions: Texts of all functions.
        invalid: Those of them whose spectrum is invalid.
        baselines: Those of them that are standard functions.
    """
    rng = np.random.default_rng(plan.seed)
    rejected = [text for text in functions if text in invalid]
    sample = rng.choice(rejected, min(plan.invalid_sample, len(rejected)), replace=False)
    kept = [text for text in functions if text not in invalid]
    shuffled = [str(text) for text in rng.permutation(kept)]
    first = [text for text in baselines if text in set(kept)]
    valid = list(dict.fromkeys([*first, *shuffled]))
    everything = [*valid, *map(str, sample)]
    keys = [(text, seed) for seed in plan.seeds for text in everything]
    spread = valid[: plan.spread_sample]
    return keys + [(text, seed) for seed in plan.spread_seeds for text in spread]


def _features(
    plan: BuildPlan,
    catalogue: Catalogue,
    featurizer: FisherFeaturizer,
    folder: Path,
    *,
    jobs: int,
    progress: bool,
) -> dict[str, dict[str, FisherFeature]]:
    """Return the features of every function by representation and text, in the catalogue's order.

    Those whose outputs are constant or not finite are invalid without being measured.
    """
    found: dict[str, dict[str, FisherFeature]] = {}
    kinds: tuple[Representation, ...] = ("quantiles", "histogram")
    with FeatureStore(f"sqlite:///{folder / 'features.db'}") as store:
        for kind in kinds:
            measure = featurizer.represented_as(kind)
            measure.precompute(
                catalogue, plan.n, store=store, n_jobs=jobs, seed=plan.seed, progress=progress
            )
            texts = [str(catalogue[row]) for row in range(len(catalogue))]
            known = store.load(measure.task)
            if plan.n is None:
                # Some may have been measured under the name of an equal graph.
                known |= store.known(measure.task, (text for text in texts if text not in known))
            wanted = texts if plan.n is None else [text for text in texts if text in known]
            unmeasured = FisherFeature(None, _NOT_MEASURED)
            found[kind] = {text: known.get(text, unmeasured) for text in wanted}
    return found


def _train(
    training: Training, keys: Sequence[Key], runs: RunsFile, *, jobs: int, progress: bool
) -> None:
    there = runs.read()
    for run in there.values():
        check_measured(run)
    done = sum(key in there for key in keys)
    with tqdm(total=len(keys), initial=done, unit="run", disable=not progress) as bar:

        def note(run: Run) -> None:
            check_measured(run)
            bar.update()

        train_all(training, keys, runs, jobs=jobs, done=note)


def _write(
    plan: BuildPlan,
    path: Path,
    catalogue: Catalogue,
    features: Mapping[str, Mapping[str, FisherFeature]],
    runs: Mapping[Key, Run],
    settings: Mapping[str, Any],
    featurizer: FisherFeaturizer,
) -> BuildResult:
    all_seeds = (*plan.seeds, *plan.spread_seeds)
    by_function = {
        text: [runs[text, seed] for seed in all_seeds if (text, seed) in runs]
        for text in features["quantiles"]
    }
    spread = spread_of(list(by_function.values()), chance=1 / plan.classes)
    table: dict[str, Any] = {ABOUT: _about(plan, settings, featurizer, spread)}
    for text, own in by_function.items():
        members = [str(member) for member in catalogue.members(catalogue.class_of(text))]
        vectors = {VECTORS[kind]: features[kind][text] for kind in VECTORS}
        table[text] = entry_of(text, members, own, vectors, counted=plan.seeds)
    content = json.dumps(table, separators=(",", ":"), allow_nan=False).encode()
    write_whole(path, _packed(path, content), what="a table")
    valid = sum(feature.valid for feature in features["quantiles"].values())
    trained = sum(any(run.measured for run in own) for own in by_function.values())
    return BuildResult(path, len(by_function), valid, trained, spread)


def _packed(path: Path, content: bytes) -> bytes:
    # No time in it: the same table is the same file.
    return gzip.compress(content, 9, mtime=0) if path.suffix == ".gz" else content


def _about(
    plan: BuildPlan,
    settings: Mapping[str, Any],
    featurizer: FisherFeaturizer,
    spread: Spread | None,
) -> dict[str, Any]:
    return {
        **dataclasses.asdict(plan),
        "statistic": "median of the runs from `seeds`, each measure on its own",
        "training": dict(settings),
        "features": {"seed": featurizer.seed, "task": featurizer.task},
        "spread": None if spread is None else spread._asdict(),
        "versions": _versions(),
        "machine": platform.machine(),
    }


@functools.cache
def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
