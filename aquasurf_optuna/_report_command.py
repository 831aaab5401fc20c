"""The command `aquasurf report`: the report of a stored study."""

from __future__ import annotations

from jsonargparse import ArgumentParser, Namespace

from aquasurf_optuna._command_line import Command, add_study, study_of
from aquasurf_optuna.report import study_report


def _add_options(parser: ArgumentParser) -> None:
    add_study(parser)
    parser.add_argument(
        "--output", type=str, default="report.html", metavar="FILE", help="where it is written"
    )


def _run(options: Namespace) -> None:
    """Write the report, and print where.

    Raises:
        AquaSurfError: If there is no such study, or it is of another space.
        OSError: If the file cannot be written.
    """
    named = study_of(options)
    path = study_report(
        options.output, named.study, named.space, name=named.name, value_name=named.value_name
    )
    print(f"wrote {path}")


REPORT = Command(
    "report",
    summary="write the report of a stored study as one file that opens anywhere",
    examples=["aquasurf report --storage sqlite:///search.db --study search"],
    add_options=_add_options,
    run=_run,
)
