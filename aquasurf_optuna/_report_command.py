"""The command `aquasurf report`: the report of a stored study."""

from __future__ import annotations

import argparse
from typing import Any

from aquasurf_optuna._command_line import add_command, add_study, study_of
from aquasurf_optuna.report import study_report


def add_report(commands: Any) -> None:
    """Add the command to argparse's subparsers."""
    parser = add_command(
        commands,
        "report",
        summary="write the report of a stored study as one file that opens anywhere",
        examples=["aquasurf report --storage sqlite:///search.db --study search"],
    )
    parser.set_defaults(run=run_report)
    add_study(parser)
    parser.add_argument("--output", default="report.html", metavar="FILE", help="%(default)s")


def run_report(options: argparse.Namespace) -> None:
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
