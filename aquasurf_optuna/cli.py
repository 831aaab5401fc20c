"""The command `aquasurf`: search, look at a function, compute features, write a study's report.

Errors that this project raises on purpose end with exit code 2 and one line on standard error.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import sys
from collections.abc import Sequence

from optuna.exceptions import OptunaError
from sqlalchemy.exc import SQLAlchemyError

from aquasurf_optuna._bench_command import add_bench
from aquasurf_optuna._discovered_command import add_discovered
from aquasurf_optuna._features_command import add_features
from aquasurf_optuna._search_command import add_search
from aquasurf_optuna._show_command import add_show
from aquasurf_optuna._stored_study import stored_study
from aquasurf_optuna.exceptions import AquaSurfError
from aquasurf_optuna.report import study_report
from aquasurf_optuna.space import THREE_NODE_SCHEMA, SearchSpace

_PROGRAM = "aquasurf"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code.

    Args:
        arguments: Words after the program's name; those of the command line unless given.

    Returns:
        0, or 2 after an error, which is told in one line on standard error, or 130 after Ctrl-C
        during `search`, `features` or `bench`.

    Raises:
        SystemExit: After `--help` and `--version`, and with code 2 for a command line that cannot
            be read, as argparse does.
    """
    options = _parser().parse_args(arguments)
    try:
        code: int | None = options.run(options)
    except (AquaSurfError, OptunaError, SQLAlchemyError, OSError) as error:
        problem = (str(error) or type(error).__name__).splitlines()[0]
        print(f"{_PROGRAM}: error: {problem}", file=sys.stderr)
        return 2
    return code or 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=_PROGRAM, description="Find the activation function that fits your network."
    )
    parser.add_argument("--version", action="version", version=f"{_PROGRAM} {_version()}")
    commands = parser.add_subparsers(required=True, metavar="command")

    add_search(commands)
    add_show(commands)
    add_discovered(commands)

    report = commands.add_parser("report", help="write the report of a stored Optuna study")
    report.set_defaults(run=_report)
    report.add_argument("--storage", required=True, metavar="URL", help="sqlite:///study.db, ...")
    report.add_argument("--study", required=True, metavar="NAME", help="the study's name")
    report.add_argument(
        "--name", default="activation", help="name of the activation (default: %(default)s)"
    )
    report.add_argument(
        "--schema",
        default=THREE_NODE_SCHEMA,
        help="of its search space, or four_node or coatnet (default: %(default)s)",
    )
    report.add_argument(
        "--value-name",
        default="objective value",
        metavar="TEXT",
        help="what the objective measures (default: %(default)s)",
    )
    report.add_argument("--output", default="report.html", metavar="FILE", help="%(default)s")

    add_features(commands)
    add_bench(commands)
    return parser


def _version() -> str:
    try:
        return importlib.metadata.version("aquasurf")
    except importlib.metadata.PackageNotFoundError:
        return "of a source tree that is not installed"


def _report(options: argparse.Namespace) -> None:
    space = SearchSpace.named(options.schema)
    study = stored_study(options.storage, options.study)
    path = study_report(
        options.output, study, space, name=options.name, value_name=options.value_name
    )
    print(f"wrote {path}")


if __name__ == "__main__":
    sys.exit(main())
