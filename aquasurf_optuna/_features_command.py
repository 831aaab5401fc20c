"""The command `aquasurf features`: Fisher features ahead of a study or beside it, and their store.

A YAML file says what is measured and where the features go; options of the command line go before
it. What builds the featurizer is named by its import path, so that the file describes any network.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from types import NoneType
from typing import Any

from sqlalchemy.engine import make_url

from aquasurf_optuna._beside_command import measure_beside
from aquasurf_optuna._command_line import add_command
from aquasurf_optuna._described import called, read_yaml
from aquasurf_optuna._stored_study import stored_study
from aquasurf_optuna.catalogue import Catalogue
from aquasurf_optuna.exceptions import AquaSurfError
from aquasurf_optuna.features.featurizer import FisherFeaturizer, PrecomputeOptions
from aquasurf_optuna.sampler import AquaSurfSampler
from aquasurf_optuna.space import SearchSpace
from aquasurf_optuna.store import FeatureStore

_INTERRUPTED = 130
_GIB = 2**30
_NO_LIMIT = ("none", "all")


@dataclasses.dataclass(frozen=True)
class FeaturesSettings:
    """What the YAML file and the command line say.

    Attributes:
        featurizer: `call`, the import path of a callable that returns a `FisherFeaturizer`, and
            `arguments`, its keyword arguments.
        store: URL of the feature store.
        space: `three_node`, `four_node` or `coatnet`, or the schema of a space.
        n: Functions to draw, beside the baselines; None for all.
        jobs: Workers.
        timeout: Seconds that one function may take, or None.
        memory: GiB of resident memory that one function may need, or None.
        seed: The sampler's seed.
        storage: URL of the database of a study to work beside, or None.
        study: That study's name, or None to work ahead.
        name: Name of the activation in that study.
        follow: Whether functions are measured where that study points to.
    """

    featurizer: Mapping[str, Any] | None = None
    store: str | None = None
    space: str = "three_node"
    n: int | None = 2000
    jobs: int = 1
    timeout: float | None = 600.0
    memory: float | None = None
    seed: int = 0
    storage: str | None = None
    study: str | None = None
    name: str = "activation"
    follow: bool = True


_KINDS: dict[str, tuple[type, ...]] = {
    "featurizer": (dict,),
    "store": (str,),
    "space": (str,),
    "n": (int, NoneType),
    "jobs": (int,),
    "timeout": (int, float, NoneType),
    "memory": (int, float, NoneType),
    "seed": (int,),
    "storage": (str,),
    "study": (str,),
    "name": (str,),
    "follow": (bool,),
}


def add_features(commands: Any) -> None:
    """Add the command to argparse's subparsers."""
    parser = add_command(
        commands,
        "features",
        summary="compute Fisher features ahead of a study or beside it, or look at a feature store",
        examples=[
            "aquasurf features --config examples/features_digits.yaml --n 200",
            "aquasurf features --store sqlite:///features.db --status",
        ],
    )
    parser.set_defaults(run=run_features)
    parser.add_argument("--config", metavar="FILE", help="YAML: what to measure, and how")
    parser.add_argument("--store", metavar="URL", help="sqlite:///features.db, ...")
    parser.add_argument(
        "--space", metavar="NAME", help="three_node (default), four_node, coatnet, or a schema"
    )
    parser.add_argument(
        "--n", type=_number(int), help='functions to draw, or "all" (default: 2000)'
    )
    parser.add_argument("--jobs", type=int, help="workers; -1 for every core (default: 1)")
    parser.add_argument(
        "--timeout",
        type=_number(float),
        metavar="S",
        help='seconds that one function may take, or "none" (default: 600)',
    )
    parser.add_argument(
        "--memory",
        type=_number(float),
        metavar="GIB",
        help='memory that one function may need, or "none" (default: none)',
    )
    parser.add_argument("--seed", type=int, help="the sampler's seed (default: 0)")
    parser.add_argument(
        "--study", metavar="NAME", help="measure beside this study, for workers with pool='stored'"
    )
    parser.add_argument("--storage", metavar="URL", help="of that study: sqlite:///study.db, ...")
    parser.add_argument("--name", help="of the activation in that study (default: activation)")
    parser.add_argument(
        "--follow",
        action=argparse.BooleanOptionalAction,
        help="measure where that study points to (default), or at random",
    )
    parser.add_argument("--task", metavar="NAME", help="with --status and --export: of one task")
    actions = parser.add_mutually_exclusive_group()
    actions.add_argument("--status", action="store_true", help="print what the store holds")
    actions.add_argument("--export", metavar="FILE", help="write the store's features to a file")
    actions.add_argument(
        "--import", dest="import_file", metavar="FILE", help="add such a file to the store"
    )


def run_features(options: argparse.Namespace) -> int:
    """Do what the command line says, and return the exit code.

    Raises:
        AquaSurfError: If a setting cannot be used, or the run fails.
    """
    settings = _settings(options)
    if options.status:
        _print_status(_existing_store(settings), options.task)
    elif options.export is not None:
        number = _existing_store(settings).export_file(options.export, options.task)
        print(f"wrote {number:,} features to {options.export}")
    elif options.import_file is not None:
        number = _store(settings).import_file(options.import_file)
        print(f"added {number:,} features from {options.import_file}")
    else:
        return _compute(settings)
    return 0


def _compute(settings: FeaturesSettings) -> int:
    if settings.featurizer is None:
        raise AquaSurfError(
            "what is to be measured? Name a file with --config; its `featurizer` names a callable "
            "that returns a FisherFeaturizer"
        )
    store = _store(settings)
    space = SearchSpace.named(settings.space)
    options = PrecomputeOptions(
        timeout=settings.timeout,
        memory=None if settings.memory is None else int(settings.memory * _GIB),
    )
    try:
        featurizer = called(settings.featurizer, "featurizer", FisherFeaturizer)
        print(f"task {featurizer.task} in {store.url}", flush=True)
        work = _ahead if settings.study is None else _beside
        done = work(settings, space, featurizer, store, options)
    except KeyboardInterrupt:
        print("interrupted: what is measured is kept, and the same command goes on from there")
        return _INTERRUPTED
    print(done)
    return 0


def _ahead(
    settings: FeaturesSettings,
    space: SearchSpace,
    featurizer: FisherFeaturizer,
    store: FeatureStore,
    options: PrecomputeOptions,
) -> str:
    summary = featurizer.precompute(
        Catalogue.of(space),
        settings.n,
        store=store,
        n_jobs=settings.jobs,
        seed=settings.seed,
        options=options,
    )
    return str(summary)


def _beside(
    settings: FeaturesSettings,
    space: SearchSpace,
    featurizer: FisherFeaturizer,
    store: FeatureStore,
    options: PrecomputeOptions,
) -> str:
    if settings.storage is None or settings.study is None:
        raise AquaSurfError(
            f"where is the study {settings.study!r}? Say --storage URL, such as sqlite:///study.db"
        )
    sampler = AquaSurfSampler(
        {settings.name: space},
        features=featurizer,
        store=store,
        pool="stored",
        seed=settings.seed,
    )
    return measure_beside(
        sampler,
        stored_study(settings.storage, settings.study),
        settings.n,
        n_jobs=settings.jobs,
        follow=settings.follow,
        options=options,
    )


def _settings(options: argparse.Namespace) -> FeaturesSettings:
    read = {} if options.config is None else read_yaml(options.config, _KINDS)
    given = {
        field.name: value
        for field in dataclasses.fields(FeaturesSettings)
        if (value := getattr(options, field.name, None)) is not None
    }
    for name, value in (read | given).items():
        if value in _NO_LIMIT and name in ("n", "timeout", "memory"):
            given[name] = None
    settings = FeaturesSettings(**(read | given))
    for name in ("n", "timeout", "memory"):
        value = getattr(settings, name)
        if value is not None and not value > 0:
            raise AquaSurfError(f"{name} must be positive, or null for no limit, got {value}")
    if settings.jobs == 0 or settings.jobs < -1:
        raise AquaSurfError(f"jobs must be 1 or more, or -1 for every core, got {settings.jobs}")
    if settings.storage is not None and settings.study is None:
        raise AquaSurfError(f"which study of {settings.storage}? Say --study NAME")
    if settings.seed < 0:
        raise AquaSurfError(f"seed must be 0 or more, got {settings.seed}")
    return settings


def _store(settings: FeaturesSettings) -> FeatureStore:
    if settings.store is None:
        raise AquaSurfError(
            "where are the features? Say --store URL, such as sqlite:///features.db"
        )
    store = FeatureStore(settings.store)
    if _file(settings.store) in ("", ":memory:"):
        raise AquaSurfError(
            f"--store must be a database that outlives the command, such as "
            f"sqlite:///features.db, got {store.url!r}"
        )
    return store


def _existing_store(settings: FeaturesSettings) -> FeatureStore:
    """Return a store that is there: a mistyped name would leave an empty database behind."""
    store = _store(settings)
    file = _file(settings.store or "")
    if file is not None and not file.startswith("file:") and not Path(file).is_file():
        raise AquaSurfError(
            f"there is no database {store.url!r}; give the URL with which the features were "
            "computed"
        )
    return store


def _file(url: str) -> str | None:
    """Return the file of an SQLite URL, or None for a database server's."""
    parsed = make_url(url)
    return parsed.database or "" if parsed.get_backend_name() == "sqlite" else None


def _print_status(store: FeatureStore, task: str | None) -> None:
    tasks = list(store.tasks())
    if task is not None and task not in tasks:
        raise AquaSurfError(
            f"there is no task {task!r} in {store.url}; its tasks are: {', '.join(tasks) or 'none'}"
        )
    shown = tasks if task is None else [task]
    width = max([len("task"), *map(len, shown)])
    print(f"{'task':<{width}}  {'valid':>7}  {'invalid':>7}  {'claimed':>7}")
    for name in shown:
        features = store.load(name).values()
        valid = sum(feature.valid for feature in features)
        claimed = len(store.claims(name))
        print(f"{name:<{width}}  {valid:>7,}  {len(features) - valid:>7,}  {claimed:>7,}")


def _number(kind: Callable[[str], float]) -> Callable[[str], float | str]:
    """Read a number, or a word for no limit."""

    def read(text: str) -> float | str:
        return text if text in _NO_LIMIT else kind(text)

    read.__name__ = "number"
    return read
