"""The command `aquasurf bench`: samplers compared on a table, and tables built.

`aquasurf bench --data TABLE` runs searches and prints what they came to; `aquasurf bench build
--config FILE` trains every function of a space, as a YAML file says. What trains and what measures
is named by import paths, so that the file describes any task.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from jsonargparse import ArgumentParser, Namespace
from jsonargparse.typing import PositiveInt

from aquasurf_optuna._command_line import Command
from aquasurf_optuna._described import called
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
from aquasurf_optuna.exceptions import AquaSurfError, SettingsError
from aquasurf_optuna.features.featurizer import FisherFeaturizer
from aquasurf_optuna.visualization import plot_search_bands
from aquasurf_optuna.visualization._page import Section, page

_INTERRUPTED = 130
_SAMPLERS = ("aquasurf", "tpe", "gp", "cmaes", "random")
_TRAINING_OF = "lightning_modules.configured_training.training_of"
_FEATURIZER_OF = "lightning_modules.features.featurizer_of"


def _add_options(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--data",
        type=str | None,
        metavar="TABLE",
        help="its name or its file; without it, the names are listed",
    )
    parser.add_argument(
        "--samplers",
        type=str,
        nargs="+",
        default=list(_SAMPLERS),
        metavar="NAME",
        help="aquasurf, aquasurf:paper, tpe, tpe-multivariate, gp, cmaes, nsgaii, random, "
        "tpe:valid, ...",
    )
    parser.add_argument("--repeats", type=int, default=100, help="searches of each")
    parser.add_argument(
        "--trials",
        type=int,
        default=100,
        help="evaluations of each search, after the first functions",
    )
    parser.add_argument(
        "--start",
        type=str,
        choices=list(STARTS),
        default="random",
        help="what a search begins with: ReLU and seven random functions, or the baselines",
    )
    parser.add_argument("--metric", type=str, default=DEFAULT_METRIC, help="what is searched")
    parser.add_argument(
        "--pool-size", type=int | None, help="functions that aquasurf draws at a time; null for all"
    )
    parser.add_argument("--jobs", type=int, default=1, help="processes; -1 for one a core")
    parser.add_argument(
        "--kept",
        type=str | None,
        metavar="FILE",
        help="where searches are kept as they end, and read from",
    )
    parser.add_argument(
        "--again",
        type=str,
        nargs="+",
        default=[],
        metavar="NAME",
        help="samplers to run anew all the same",
    )
    parser.add_argument(
        "--output", type=str | None, metavar="FILE.md", help="write the result there too"
    )
    parser.add_argument(
        "--plot", type=str | None, metavar="FILE.html", help="write a figure of the best so far"
    )


def _add_build_options(parser: ArgumentParser) -> None:
    parser.add_class_arguments(BuildPlan, None)
    parser.add_argument(
        "--lightning_config",
        type=str | None,
        metavar="FILE",
        help="what trains, and whose first batch is measured: a file as for `python -m "
        "lightning_modules fit --config`",
    )
    for what, returned in (
        ("training", "what trains: a callable of a function's text and a seed"),
        ("featurizer", "a FisherFeaturizer"),
    ):
        parser.add_argument(
            f"--{what}",
            type=dict[str, Any] | None,
            metavar="MAPPING",
            help=f"in its place: `call`, the import path of a callable that returns {returned}, "
            "and `arguments`, its keyword arguments",
        )
    parser.add_argument("--jobs", type=PositiveInt, default=1, help="processes")
    parser.add_argument(
        "--output",
        type=str | None,
        metavar="FILE",
        help="the table (default: the name and .json.gz)",
    )
    parser.add_argument(
        "--folder",
        type=str | None,
        metavar="FOLDER",
        help="where what is measured is kept until the end (default: beside the table)",
    )


def _run(options: Namespace) -> int:
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


def _run_build(options: Namespace) -> int:
    """Build a table, and return the exit code.

    Raises:
        AquaSurfError: If a setting cannot be used, or the build fails.
    """
    plan = BuildPlan(**{field.name: options[field.name] for field in dataclasses.fields(BuildPlan)})
    makers = [
        _described(options, what, default)
        for what, default in (("training", _TRAINING_OF), ("featurizer", _FEATURIZER_OF))
    ]
    try:
        training = called(makers[0], "training", object)
        if not callable(training):
            raise AquaSurfError(
                f"{makers[0]['call']} must return what trains: a callable of a function's "
                f"text and a seed, got {type(training).__name__}"
            )
        featurizer = called(makers[1], "featurizer", FisherFeaturizer)
        result = build_table(
            plan,
            training,
            featurizer,
            output=options.output or f"{plan.name}.json.gz",
            folder=options.folder,
            jobs=options.jobs,
        )
    except KeyboardInterrupt:
        print(
            "interrupted: what is measured and trained is kept, and the same command goes on from "
            "there"
        )
        return _INTERRUPTED
    print(result)
    return 0


def _described(options: Namespace, what: str, default: str) -> Mapping[str, Any]:
    """Return the call that makes something: the one named, or that of the configuration."""
    described: Mapping[str, Any] | None = options[what]
    if described is not None:
        return described
    if options.lightning_config is None:
        raise SettingsError(
            "what is to be trained? Say lightning_config, a file as for `python -m "
            f"lightning_modules fit --config`, or name a callable as `{what}`"
        )
    return {"call": default, "arguments": {"config": options.lightning_config}}


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


BENCH = Command(
    "bench",
    summary="compare searches on a table of trained functions, or build such a table",
    examples=[
        "aquasurf bench --data act-bench-digits-cnn --samplers aquasurf tpe --repeats 10",
        "aquasurf bench build --config examples/bench_digits_cnn.yaml",
    ],
    add_options=_add_options,
    run=_run,
    commands=[
        Command(
            "build",
            summary="train every function of a space, and write a table",
            examples=["aquasurf bench build --config examples/bench_digits_cnn.yaml --jobs 2"],
            add_options=_add_build_options,
            run=_run_build,
        )
    ],
)
