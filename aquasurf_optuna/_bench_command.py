"""The command `aquasurf bench`: samplers compared on a table, and tables built.

`aquasurf bench --data TABLE` runs searches and prints what they came to; `aquasurf bench build
--config FILE` trains every function of a space, as a YAML file says. What trains and what measures
is named by import paths, so that the file describes any task.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Mapping, Sequence
from types import NoneType
from typing import Any

from aquasurf_optuna._command_line import add_command
from aquasurf_optuna._described import called, read_yaml
from aquasurf_optuna._whole_file import write_whole
from aquasurf_optuna.benchmark import (
    DEFAULT_METRIC,
    PUBLISHED,
    SHIPPED,
    STARTS,
    ActBench,
    BuildPlan,
    Search,
    SearchedTable,
    build_table,
    compare,
    comparison_markdown,
    curves_of,
)
from aquasurf_optuna.exceptions import AquaSurfError
from aquasurf_optuna.features.featurizer import FisherFeaturizer
from aquasurf_optuna.visualization import plot_search_bands
from aquasurf_optuna.visualization._page import Section, page

_INTERRUPTED = 130
_SAMPLERS = ("aquasurf", "tpe", "gp", "cmaes", "random")
_TRAINING_OF = "lightning_modules.configured_training.training_of"
_FEATURIZER_OF = "lightning_modules.features.featurizer_of"

_PLAN_KINDS: dict[str, tuple[type, ...]] = {
    "name": (str,),
    "space": (str,),
    "seeds": (list,),
    "classes": (int,),
    "n": (int, NoneType),
    "invalid_sample": (int,),
    "spread_seeds": (list,),
    "spread_sample": (int,),
    "seed": (int,),
}
_BUILD_KINDS: dict[str, tuple[type, ...]] = {
    **_PLAN_KINDS,
    "config": (str,),
    "training": (dict,),
    "featurizer": (dict,),
    "output": (str,),
    "folder": (str,),
    "jobs": (int,),
}


@dataclasses.dataclass(frozen=True)
class _Build:
    """What the YAML file and the command line say of a build; see `build_table`."""

    plan: BuildPlan
    training: Mapping[str, Any]
    featurizer: Mapping[str, Any]
    output: str
    folder: str | None
    jobs: int


def add_bench(commands: Any) -> None:
    """Add the command to argparse's subparsers."""
    parser = add_command(
        commands,
        "bench",
        summary="compare searches on a table of trained functions, or build such a table",
        examples=[
            "aquasurf bench --data act-bench-digits-cnn --samplers aquasurf tpe --repeats 10",
            "aquasurf bench build --config examples/bench_digits_cnn.yaml",
        ],
    )
    parser.set_defaults(run=run_bench)
    parser.add_argument(
        "--data", metavar="TABLE", help="its name or its file; without it, the names are listed"
    )
    parser.add_argument(
        "--samplers",
        nargs="+",
        default=list(_SAMPLERS),
        metavar="NAME",
        help="aquasurf, aquasurf:paper, tpe, tpe-multivariate, gp, cmaes, nsgaii, random, "
        f"tpe:valid, ... (default: {' '.join(_SAMPLERS)})",
    )
    parser.add_argument(
        "--repeats", type=int, default=100, help="searches of each (default: %(default)s)"
    )
    parser.add_argument(
        "--trials",
        type=int,
        default=100,
        help="evaluations of each search, after the first functions (default: %(default)s)",
    )
    parser.add_argument(
        "--start",
        choices=list(STARTS),
        default="random",
        help="what a search begins with: ReLU and seven random functions (default), or the "
        "baselines",
    )
    parser.add_argument(
        "--metric", default=DEFAULT_METRIC, help="what is searched (default: %(default)s)"
    )
    parser.add_argument(
        "--pool-size", type=int, help="functions that aquasurf draws at a time (default: all)"
    )
    parser.add_argument(
        "--jobs", type=int, default=1, help="processes; -1 for one a core (default: %(default)s)"
    )
    parser.add_argument(
        "--kept", metavar="FILE", help="where searches are kept as they end, and read from"
    )
    parser.add_argument(
        "--again", nargs="+", default=[], metavar="NAME", help="samplers to run anew all the same"
    )
    parser.add_argument("--output", metavar="FILE.md", help="write the result there too")
    parser.add_argument("--plot", metavar="FILE.html", help="write a figure of the best so far")
    _add_build(parser.add_subparsers(metavar="build"))


def run_bench(options: argparse.Namespace) -> int:
    """Compare samplers on a table, or list the tables, and return the exit code.

    Raises:
        AquaSurfError: If an option cannot be used, or the table cannot be read.
    """
    if options.data is None:
        _print_tables()
        return 0
    bench = ActBench.load(options.data)
    try:
        searches = compare(
            bench,
            options.samplers,
            repeats=options.repeats,
            trials=options.trials,
            start=options.start,
            metric=options.metric,
            pool_size=options.pool_size,
            jobs=options.jobs,
            kept=options.kept,
            again=options.again,
        )
    except KeyboardInterrupt:
        if options.kept is None:
            print("interrupted: nothing is kept; with --kept FILE it would go on from there")
        else:
            print("interrupted: what ended is kept, and the same command goes on from there")
        return _INTERRUPTED
    text = comparison_markdown(bench, searches, options.metric)
    print(text, end="")
    if options.output is not None:
        write_whole(options.output, text.encode(), what="a table")
        print(f"wrote {options.output}")
    if options.plot is not None:
        write_whole(options.plot, _page(bench, searches, options.metric).encode(), what="a figure")
        print(f"wrote {options.plot}")
    return 0


def run_build(options: argparse.Namespace) -> int:
    """Build a table, and return the exit code.

    Raises:
        AquaSurfError: If a setting cannot be used, or the build fails.
    """
    build = _build_of(options)
    try:
        training = called(build.training, "training", object)
        if not callable(training):
            raise AquaSurfError(
                f"{build.training['call']} must return what trains: a callable of a function's "
                f"text and a seed, got {type(training).__name__}"
            )
        featurizer = called(build.featurizer, "featurizer", FisherFeaturizer)
        result = build_table(
            build.plan,
            training,
            featurizer,
            output=build.output,
            folder=build.folder,
            jobs=build.jobs,
        )
    except KeyboardInterrupt:
        print(
            "interrupted: what is measured and trained is kept, and the same command goes on from "
            "there"
        )
        return _INTERRUPTED
    print(result)
    return 0


def _add_build(commands: Any) -> None:
    parser = add_command(
        commands,
        "build",
        summary="train every function of a space, and write a table",
        examples=["aquasurf bench build --config examples/bench_digits_cnn.yaml --jobs 2"],
    )
    parser.set_defaults(run=run_build)
    parser.add_argument("--config", required=True, metavar="FILE", help="YAML: what to build")
    parser.add_argument("--jobs", type=int, dest="build_jobs", help="processes (default: 1)")
    parser.add_argument(
        "--output", metavar="FILE", dest="build_output", help="the table: NAME.json.gz"
    )


def _build_of(options: argparse.Namespace) -> _Build:
    path = options.config
    read = read_yaml(path, _BUILD_KINDS)
    if "name" not in read:
        raise AquaSurfError(f"{path} must say the `name` of the table")
    for key in ("seeds", "spread_seeds"):
        if any(type(each) is not int for each in read.get(key, [])):
            raise AquaSurfError(f"{key} in {path} must be integers, got {read[key]!r}")
    plan: dict[str, Any] = {
        key: tuple(value) if isinstance(value, list) else value
        for key, value in read.items()
        if key in _PLAN_KINDS
    }
    jobs = options.build_jobs if options.build_jobs is not None else read.get("jobs", 1)
    if jobs < 1:
        raise AquaSurfError(f"jobs must be 1 or more, got {jobs}")
    return _Build(
        plan=BuildPlan(**plan),
        training=_described(read, "training", _TRAINING_OF, path),
        featurizer=_described(read, "featurizer", _FEATURIZER_OF, path),
        output=options.build_output or read.get("output") or f"{read['name']}.json.gz",
        folder=read.get("folder"),
        jobs=jobs,
    )


def _described(read: Mapping[str, Any], what: str, default: str, path: str) -> Mapping[str, Any]:
    """Return the call that makes something: the one that is named, or that of `config`."""
    if what in read:
        described: Mapping[str, Any] = read[what]
        return described
    if "config" not in read:
        raise AquaSurfError(
            f"{path} must say the `config` of a training, as for `python -m lightning_modules fit "
            f"--config`, or name a callable as `{what}`"
        )
    return {"call": default, "arguments": {"config": read["config"]}}


def _print_tables() -> None:
    for name in SHIPPED:
        print(f"{name}: comes with the package")
    for name, url in PUBLISHED.items():
        print(f"{name}: published, fetched once from {url}")
    print("Say --data NAME, or --data FILE for a table of your own (`aquasurf bench build`).")


def _page(bench: ActBench, searches: Sequence[Search], metric: str) -> str:
    table = SearchedTable(bench, metric)
    lines = {"best of all": float(table.sign * table.scores.max())}
    if table.baselines:
        lines["best baseline"] = float(table.sign * table.scores[table.baselines].max())
    if table.relu is not None:
        lines["ReLU"] = float(table.sign * table.scores[table.relu])
    curves = curves_of(bench, searches, metric)
    figure = plot_search_bands(curves, lines=lines, value_name=metric.replace("_", " "))
    first = searches[0]
    facts = {
        "Table": f"{bench.name}, {len(bench):,} functions",
        "Begun with": STARTS[first.start],
        "Repeats": str(len(searches) // len(curves)),
    }
    section = Section(
        heading="Best function found so far",
        text=["Means over the repeats; bands are 95% confidence intervals of the means."],
        figures=[figure],
    )
    return page(title=f"Searches on {bench.name}", lead=[], facts=facts, sections=[section])
