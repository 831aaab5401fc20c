"""What the commands of `aquasurf` have in common: their form, and the options that name a study."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Sequence
from typing import Any

import optuna

from aquasurf_optuna._stored_study import stored_study
from aquasurf_optuna.families import AnySpace
from aquasurf_optuna.space import THREE_NODE_SCHEMA, SearchSpace


def add_command(
    commands: Any,
    name: str,
    *,
    summary: str,
    examples: Sequence[str],
) -> argparse.ArgumentParser:
    """Add a command to argparse's subparsers.

    Args:
        commands: What `add_subparsers` has returned.
        name: The command's.
        summary: What it does, in a line.
        examples: Whole command lines that show it, each in a line.
    """
    title = "example" if len(examples) == 1 else "examples"
    parser: argparse.ArgumentParser = commands.add_parser(
        name,
        help=summary,
        description=f"{summary[0].upper()}{summary[1:]}.",
        epilog="\n  ".join([f"{title}:", *examples]),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    # Wherever it is typed; without a default, which would undo what was typed before the command.
    add_debug(parser, default=argparse.SUPPRESS)
    return parser


def add_debug(parser: argparse.ArgumentParser, *, default: Any) -> None:
    """Add the option that shows where an error comes from."""
    parser.add_argument(
        "--debug", action="store_true", default=default, help="show the traceback of an error"
    )


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


def add_study(parser: argparse.ArgumentParser) -> None:
    """Add the options that name a stored study and its activation."""
    parser.add_argument("--storage", required=True, metavar="URL", help="sqlite:///study.db, ...")
    parser.add_argument("--study", required=True, metavar="NAME", help="the study's name")
    parser.add_argument(
        "--name", default="activation", help="name of the activation (default: %(default)s)"
    )
    parser.add_argument(
        "--schema",
        default=THREE_NODE_SCHEMA,
        help="of its search space, or four_node or coatnet (default: %(default)s)",
    )
    parser.add_argument(
        "--value-name",
        default="objective value",
        metavar="TEXT",
        help="what the objective measures (default: %(default)s)",
    )


def study_of(options: argparse.Namespace) -> NamedStudy:
    """Load the study that the options name.

    Raises:
        AquaSurfError: If there is none, or the schema is none.
    """
    space = SearchSpace.named(options.schema)
    study = stored_study(options.storage, options.study)
    return NamedStudy(study, space, options.name, options.value_name)
