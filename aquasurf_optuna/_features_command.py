"""The command `aquasurf features`: Fisher features ahead of a study or beside it, and their store.

A YAML file says what is measured and where the features go. What builds the featurizer is named by
its import path, so that the file describes any network.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from jsonargparse import ActionYesNo, ArgumentParser, Namespace
from jsonargparse.typing import NonNegativeInt, PositiveFloat, PositiveInt
from sqlalchemy.engine import make_url

from aquasurf_optuna._beside_command import measure_beside
from aquasurf_optuna._command_line import Command
from aquasurf_optuna._described import called
from aquasurf_optuna._stored_study import stored_study
from aquasurf_optuna.catalogue import Catalogue
from aquasurf_optuna.exceptions import AquaSurfError, SettingsError
from aquasurf_optuna.features.featurizer import FisherFeaturizer, PrecomputeOptions
from aquasurf_optuna.sampler import AquaSurfSampler
from aquasurf_optuna.space import SearchSpace
from aquasurf_optuna.store import FeatureStore

_INTERRUPTED = 130
_GIB = 2**30
_NO_LIMIT = ("none", "all")


def _add_options(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--featurizer",
        type=dict[str, Any] | None,
        metavar="MAPPING",
        help="`call`, the import path of a callable that returns a FisherFeaturizer, and "
        "`arguments`, its keyword arguments",
    )
    parser.add_argument("--store", type=str | None, metavar="URL", help="sqlite:///features.db")
    parser.add_argument(
        "--space",
        type=str,
        default="three_node",
        metavar="NAME",
        help="three_node, four_node, coatnet, or a schema",
    )
    parser.add_argument(
        "--n",
        type=PositiveInt | Literal["all"] | None,
        default=2000,
        metavar="N",
        help="functions to draw, beside the baselines",
    )
    parser.add_argument("--jobs", type=int, default=1, help="workers; -1 for every core")
    parser.add_argument(
        "--timeout",
        type=PositiveFloat | Literal["none"] | None,
        default=600.0,
        metavar="S",
        help="seconds that one function may take",
    )
    parser.add_argument(
        "--memory",
        type=PositiveFloat | Literal["none"] | None,
        metavar="GIB",
        help="resident memory that one function may need",
    )
    parser.add_argument("--seed", type=NonNegativeInt, default=0, help="the sampler's seed")
    parser.add_argument(
        "--study",
        type=str | None,
        metavar="NAME",
        help="measure beside this study, for workers with pool='stored'",
    )
    parser.add_argument(
        "--storage", type=str | None, metavar="URL", help="of that study: sqlite:///study.db"
    )
    parser.add_argument(
        "--name", type=str, default="activation", help="of the activation in that study"
    )
    parser.add_argument(
        "--follow",
        action=ActionYesNo(no_prefix="no-"),
        default=True,
        help="measure where that study points to, or at random",
    )
    parser.add_argument(
        "--task", type=str | None, metavar="NAME", help="with --status and --export: of one task"
    )
    actions = parser.add_mutually_exclusive_group()
    actions.add_argument("--status", action="store_true", help="print what the store holds")
    actions.add_argument(
        "--export", type=str, metavar="FILE", help="write the store's features to a file"
    )
    actions.add_argument(
        "--import",
        dest="import_file",
        type=str,
        metavar="FILE",
        help="add such a file to the store",
    )


def _run(options: Namespace) -> int:
    """Do what the command line says, and return the exit code.

    Raises:
        AquaSurfError: If a setting cannot be used, or the run fails.
    """
    settings = _checked(options)
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


def _compute(settings: Namespace) -> int:
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
    settings: Namespace,
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
    settings: Namespace,
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


def _checked(options: Namespace) -> Namespace:
    """Return the options with None for no limit.

    Raises:
        SettingsError: If they do not go together.
    """
    for name in ("n", "timeout", "memory"):
        if options[name] in _NO_LIMIT:
            options[name] = None
    if options.jobs == 0 or options.jobs < -1:
        raise SettingsError(f"jobs must be 1 or more, or -1 for every core, got {options.jobs}")
    if options.storage is not None and options.study is None:
        raise SettingsError(f"which study of {options.storage}? Say --study NAME")
    return options


def _store(settings: Namespace) -> FeatureStore:
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


def _existing_store(settings: Namespace) -> FeatureStore:
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


FEATURES = Command(
    "features",
    summary="compute Fisher features ahead of a study or beside it, or look at a feature store",
    examples=[
        "aquasurf features --config examples/features_digits.yaml --n 200",
        "aquasurf features --store sqlite:///features.db --status",
    ],
    add_options=_add_options,
    run=_run,
)
