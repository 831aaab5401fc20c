"""What the commands of `aquasurf` have in common: their form, and the options that name a study.

Options are read by jsonargparse, as LightningCLI's are: `--config FILE` takes any of them from a
YAML file, an option on the command line goes before the file when it comes after it, and
`--print_config` prints what they all came to, as such a file.
"""

from __future__ import annotations

import argparse
import dataclasses
import re
import sys
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

import optuna
from jsonargparse import ArgumentParser, DefaultHelpFormatter, Namespace

from aquasurf_optuna._stored_study import stored_study
from aquasurf_optuna.families import AnySpace
from aquasurf_optuna.space import THREE_NODE_SCHEMA, SearchSpace

PROGRAM = "aquasurf"
COMMAND = "command"
"""Where the name of the command stands among the options."""

_WORDING = (
    (r"<class '(?:\w+\.)*(\w+)'>", r"\1"),
    (r"\btyping\.", ""),
    (r"Literal\[([^\]]*)\]", r"\1"),
    (r"NoneType", "null"),
    (r"PositiveInt", "a whole number above 0"),
    (r"NonNegativeInt", "a whole number of 0 or more"),
    (r"PositiveFloat", "a number above 0"),
    (r'Parser key "([^"]*)":', r"\1:"),
    (
        r"Does not validate against any of the Union subtypes Subtypes: \[(.*)\] Errors: .*"
        r"Given value: (.*)",
        r"must be one of \1, got \2",
    ),
    (r"Not of type ([^:]*): (\S*) ?does not conform to .*", r"must be \1, got \2"),
    (r"Expected an? (.*)\. Got value: (.*)", r"must be \1, got \2"),
)
"""What jsonargparse says, and how a user is told; patterns that no longer match do no harm."""


class CommandParser(ArgumentParser):
    """A parser whose errors are one line."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Say what cannot be read in one line on standard error, and end with code 2."""
        print(
            f"{PROGRAM}: error: {plain(message)}; `{self.prog} --help` shows what there is",
            file=sys.stderr,
        )
        raise SystemExit(2) from ex


class HelpFormatter(argparse.RawDescriptionHelpFormatter, DefaultHelpFormatter):
    """Types and defaults as jsonargparse shows them, and examples line by line."""


def plain(message: str) -> str:
    """Return an error of jsonargparse as one line without the names of Python's classes."""
    line = " ".join(message.split())
    for pattern, wording in _WORDING:
        line = re.sub(pattern, wording, line)
    return line


@dataclasses.dataclass(frozen=True)
class Command:
    """One command.

    Attributes:
        name: The word that is typed.
        summary: What it does, in a line.
        examples: Whole command lines that show it, each in a line.
        add_options: Adds its options to a parser.
        run: Does what the options say, and returns the exit code; None for 0.
        commands: Those that may follow its name.
        file: Whether `--config FILE` takes options from a file.
        read: Makes of the words after its name what `run` takes; None where that are the options
            that `add_options` adds.
    """

    name: str
    summary: str
    examples: Sequence[str]
    add_options: Callable[[ArgumentParser], None]
    run: Callable[[Any], int | None]
    commands: Sequence[Command] = ()
    file: bool = True
    read: Callable[[Sequence[str]], Any] | None = None

    @property
    def description(self) -> str:
        """The summary as a sentence."""
        return f"{self.summary[0].upper()}{self.summary[1:]}."

    @property
    def epilog(self) -> str:
        """The examples, as `--help` ends with them."""
        title = "example" if len(self.examples) == 1 else "examples"
        return "\n  ".join([f"{title}:", *self.examples])


def parser_of(command: Command, program: str) -> ArgumentParser:
    """Return the parser of one command.

    Args:
        command: The command.
        program: The words before its name.
    """
    parser = CommandParser(
        prog=f"{program} {command.name}",
        description=command.description,
        epilog=command.epilog,
        formatter_class=HelpFormatter,
    )
    if command.file:
        parser.add_argument(
            "--config",
            action="config",
            metavar="FILE",
            help="YAML: any of the options, by their names",
        )
    command.add_options(parser)
    add_debug(parser)
    return parser


def add_commands(
    parser: ArgumentParser, commands: Sequence[Command], program: str, *, required: bool
) -> None:
    """Let a parser show commands, and theirs."""
    actions = parser.add_subcommands(required=required, dest=COMMAND, metavar=COMMAND)
    for command in commands:
        own = parser_of(command, program)
        # jsonargparse wants commands of commands in this order.
        actions.add_subcommand(command.name, own, help=command.summary)
        if command.commands:
            add_commands(own, command.commands, own.prog, required=False)


def add_debug(parser: ArgumentParser) -> None:
    """Add the option that shows where an error comes from; it is no setting of a command."""
    parser.add_argument(
        "--debug",
        action="store_true",
        default=argparse.SUPPRESS,
        help="show the traceback of an error",
    )


def read_command(
    words: Sequence[str], commands: Sequence[Command], program: str
) -> tuple[Command, Any] | None:
    """Read a command line that begins with the name of a command.

    Each command has a parser of its own, so that errors name it.

    Returns:
        The command, and what it runs with; None for any other command line.

    Raises:
        SystemExit: After `--help` and `--print_config`, and with code 2 if an option cannot be
            read.
        AquaSurfError: If the command reads its own words, and cannot.
    """
    found = [each for each in commands if list(words[:1]) == [each.name]]
    if not found:
        return None
    [command], rest = found, list(words[1:])
    if command.read is not None:
        return command, command.read(rest)
    inner = read_command(rest, command.commands, f"{program} {command.name}")
    if inner is not None:
        return inner
    parser = parser_of(command, program)
    if command.commands:
        add_commands(parser, command.commands, parser.prog, required=False)
    return command, parser.parse_args(rest)


@dataclasses.dataclass(frozen=True)
class NamedStudy:
    """A stored study, as a command line names it.

    Attributes:
        study: The study.
        space: The space of its activation.
        name: The activation's name.
        value_name: What its objective measures.
    """

    study: optuna.Study
    space: AnySpace
    name: str
    value_name: str


def add_study(parser: ArgumentParser) -> None:
    """Add the options that name a stored study and its activation."""
    parser.add_argument(
        "--storage", type=str, required=True, metavar="URL", help="sqlite:///study.db, ..."
    )
    parser.add_argument("--study", type=str, required=True, metavar="NAME", help="the study's name")
    parser.add_argument(
        "--name", type=str, default="activation", metavar="NAME", help="name of the activation"
    )
    parser.add_argument(
        "--schema",
        type=str,
        default=THREE_NODE_SCHEMA,
        metavar="SCHEMA",
        help="of its search space, or four_node or coatnet",
    )
    parser.add_argument(
        "--value-name",
        type=str,
        default="objective value",
        metavar="TEXT",
        help="what the objective measures",
    )


def study_of(options: Namespace) -> NamedStudy:
    """Load the study that the options name.

    Raises:
        AquaSurfError: If there is none, or the schema is none.
    """
    space = SearchSpace.named(options.schema)
    study = stored_study(options.storage, options.study)
    return NamedStudy(study, space, options.name, options.value_name)


def without_debug(words: Sequence[str]) -> tuple[list[str], bool]:
    """Return a command line without `--debug`, and whether it was there."""
    left = [word for word in words if word != "--debug"]
    return left, len(left) < len(words)
