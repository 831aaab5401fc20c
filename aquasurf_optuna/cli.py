"""The command `aquasurf`: search, look at a function, compute features, write a study's report.

Errors that this project raises on purpose end with exit code 2 and one line on standard error;
`--debug` shows where they come from.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import sys
from collections.abc import Sequence
from typing import Any

import shtab
from jsonargparse import ArgumentParser
from optuna.exceptions import OptunaError
from sqlalchemy.exc import SQLAlchemyError

from aquasurf_optuna._bench_command import BENCH
from aquasurf_optuna._command_line import (
    PROGRAM,
    Command,
    CommandParser,
    HelpFormatter,
    add_commands,
    add_debug,
    read_command,
    without_debug,
)
from aquasurf_optuna._dashboard_command import DASHBOARD
from aquasurf_optuna._discovered_command import DISCOVERED
from aquasurf_optuna._features_command import FEATURES
from aquasurf_optuna._report_command import REPORT
from aquasurf_optuna._search_command import SEARCH
from aquasurf_optuna._show_command import SHOW
from aquasurf_optuna.exceptions import AquaSurfError

COMMANDS = (SEARCH, REPORT, DASHBOARD, SHOW, DISCOVERED, FEATURES, BENCH)

_COMPLETED = {"FILE": shtab.FILE, "FOLDER": shtab.DIRECTORY}
"""What a shell offers for an option, by the word that stands for its value."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code.

    Args:
        arguments: Words after the program's name; those of the command line unless given.

    Returns:
        0, or 2 after an error, which is told in one line on standard error, or 130 after Ctrl-C
        during `search`, `features` or `bench`.

    Raises:
        SystemExit: After `--help`, `--version`, `--print_config` and `--print-completion`, and with
            code 2 for a command line that cannot be read.
        Exception: Any error, with `--debug`.
    """
    words, debug = without_debug(sys.argv[1:] if arguments is None else arguments)
    try:
        command, options = parsed(words)
        return command.run(options) or 0
    except (AquaSurfError, OptunaError, SQLAlchemyError, OSError) as error:
        if debug:
            raise
        problem = (str(error) or type(error).__name__).splitlines()[0]
        print(f"{PROGRAM}: error: {problem}", file=sys.stderr)
        return 2


def parsed(words: Sequence[str]) -> tuple[Command, Any]:
    """Read a command line.

    Returns:
        The command, and what it runs with.

    Raises:
        SystemExit: As for `main`.
        AquaSurfError: If a command reads its own words, and cannot.
    """
    read = read_command(words, COMMANDS, PROGRAM)
    if read is None:
        parser_of_commands().parse_args(list(words))
        raise AssertionError(f"{words} names no command, and was read")
    return read


def parser_of_commands() -> ArgumentParser:
    """Return the parser of the whole command line."""
    parser = CommandParser(
        prog=PROGRAM,
        description="Find the activation function that fits your network.",
        epilog=f"`{PROGRAM} COMMAND --help` shows how to use one.",
        formatter_class=HelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"{PROGRAM} {_version()}")
    add_debug(parser)
    shtab.add_argument_to(
        parser, "--print-completion", help="print a completion script for a shell"
    )
    add_commands(parser, COMMANDS, PROGRAM, required=True)
    _complete_files(parser)
    return parser


def _complete_files(parser: argparse.ArgumentParser) -> None:
    """Let shells offer files and folders where an option takes one."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                _complete_files(command)
        elif isinstance(action.metavar, str) and action.metavar.split(".")[0] in _COMPLETED:
            action.complete = _COMPLETED[action.metavar.split(".")[0]]  # type: ignore[attr-defined]  # shtab reads this attribute


def _version() -> str:
    try:
        return importlib.metadata.version("aquasurf")
    except importlib.metadata.PackageNotFoundError:
        return "of a source tree that is not installed"


if __name__ == "__main__":
    sys.exit(main())
