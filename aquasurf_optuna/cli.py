"""The command `aquasurf`: look at a function, compute features, write the report of a study.

Errors that this project raises on purpose end with exit code 2 and one line on standard error.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import sys
from collections.abc import Sequence
from pathlib import Path

import optuna
from optuna.exceptions import OptunaError
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from aquasurf_optuna._discovered_command import add_discovered
from aquasurf_optuna._features_command import add_features
from aquasurf_optuna._show_command import add_show
from aquasurf_optuna.exceptions import AquaSurfError
from aquasurf_optuna.report import study_report
from aquasurf_optuna.space import THREE_NODE_SCHEMA, SearchSpace

_PROGRAM = "aquasurf"
_N_STUDIES_NAMED = 5


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code.

    Args:
        arguments: Words after the program's name; those of the command line unless given.

    Returns:
        0, or 2 after an error, which is told in one line on standard error, or 130 after Ctrl-C
        during `features`.

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
    return parser


def _version() -> str:
    try:
        return importlib.metadata.version("aquasurf")
    except importlib.metadata.PackageNotFoundError:
        return "of a source tree that is not installed"


def _report(options: argparse.Namespace) -> None:
    space = SearchSpace.named(options.schema)
    study = _stored_study(options.storage, options.study)
    path = study_report(
        options.output, study, space, name=options.name, value_name=options.value_name
    )
    print(f"wrote {path}")


def _stored_study(storage: str, name: str) -> optuna.Study:
    try:
        url = make_url(storage)
    except ArgumentError as error:
        raise AquaSurfError(
            f"--storage must be a URL such as sqlite:///study.db, got {storage!r}"
        ) from error
    shown = url.render_as_string(hide_password=True)
    file = url.database or ""
    # The driver would make the file: a mistyped name would leave an empty database behind.
    if url.get_backend_name() == "sqlite" and not file.startswith("file:"):
        _check_file(file, shown)
    try:
        # Nor is a database that holds something else to be filled with Optuna's tables.
        records = optuna.storages.RDBStorage(storage, skip_table_creation=True)
        return optuna.load_study(study_name=name, storage=records)
    except KeyError as error:
        known = optuna.get_all_study_names(storage)
        named = ", ".join(map(repr, known[:_N_STUDIES_NAMED])) or "none"
        more = f" and {len(known) - _N_STUDIES_NAMED} more" if len(known) > _N_STUDIES_NAMED else ""
        raise AquaSurfError(
            f"there is no study {name!r} in {shown!r}; its studies are: {named}{more}"
        ) from error
    except (ImportError, RuntimeError, OptunaError, SQLAlchemyError) as error:
        # No driver, or written by another version of Optuna, or no storage of Optuna's at all.
        reason = str(error.__cause__ or error).strip()
        raise AquaSurfError(f"cannot read a study from {shown!r}: {reason}") from error


def _check_file(file: str, shown: str) -> None:
    if not file or not Path(file).is_file():
        raise AquaSurfError(
            f"there is no database {shown!r}; give the URL with which the study was run"
        )


if __name__ == "__main__":
    sys.exit(main())
