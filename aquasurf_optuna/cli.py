"""The command `aquasurf`: search, look at a function, compute features, write a study's report.

Errors that this project raises on purpose end with exit code 2 and one line on standard error;
`--debug` shows where they come from.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import sys
from collections.abc import Sequence

import shtab
from optuna.exceptions import OptunaError
from sqlalchemy.exc import SQLAlchemyError

from aquasurf_optuna._bench_command import add_bench
from aquasurf_optuna._command_line import add_debug
from aquasurf_optuna._dashboard_command import add_dashboard
from aquasurf_optuna._discovered_command import add_discovered
from aquasurf_optuna._features_command import add_features
from aquasurf_optuna._report_command import add_report
from aquasurf_optuna._search_command import add_search
from aquasurf_optuna._show_command import add_show
from aquasurf_optuna.exceptions import AquaSurfError

_PROGRAM = "aquasurf"
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
        SystemExit: After `--help`, `--version` and `--print-completion`, and with code 2 for a
            command line that cannot be read, as argparse does.
        Exception: Any error, with `--debug`.
    """
    options = parsed(arguments)
    try:
        code: int | None = options.run(options)
    except (AquaSurfError, OptunaError, SQLAlchemyError, OSError) as error:
        if options.debug:
            raise
        problem = (str(error) or type(error).__name__).splitlines()[0]
        print(f"{_PROGRAM}: error: {problem}", file=sys.stderr)
        return 2
    return code or 0


def parsed(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Read a command line.

    Returns:
        Its options; those of another program, where the command hands them on, as `more`.

    Raises:
        SystemExit: As for `main`.
    """
    parser = parser_of_commands()
    options, more = parser.parse_known_args(arguments)
    if more and not getattr(options, "passes_on", False):
        parser.error(f"unrecognized arguments: {' '.join(more)}")
    options.more = [word for word in more if word != "--"]
    return options


def parser_of_commands() -> argparse.ArgumentParser:
    """Return the parser of the whole command line."""
    parser = argparse.ArgumentParser(
        prog=_PROGRAM,
        description="Find the activation function that fits your network.",
        epilog=f"`{_PROGRAM} COMMAND --help` shows how to use one.",
    )
    parser.add_argument("--version", action="version", version=f"{_PROGRAM} {_version()}")
    add_debug(parser, default=False)
    shtab.add_argument_to(
        parser, "--print-completion", help="print a completion script for bash, zsh or tcsh"
    )
    commands = parser.add_subparsers(required=True, metavar="command")
    for add in (
        add_search,
        add_report,
        add_dashboard,
        add_show,
        add_discovered,
        add_features,
        add_bench,
    ):
        add(commands)
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
