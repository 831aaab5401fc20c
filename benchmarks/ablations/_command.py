"""The command line that the ablations share."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

from aquasurf_optuna._whole_file import write_whole
from aquasurf_optuna.exceptions import AquaSurfError

TABLE = "act-bench-digits-cnn"
"""The table on which settings are chosen."""
KEPT = Path("build/ablations")
REPEATS = 100


def parser_of(doc: str | None, output: Path) -> argparse.ArgumentParser:
    """Return a parser of the options that every ablation has.

    Args:
        doc: What the script says of itself.
        output: The file that it writes.
    """
    parser = argparse.ArgumentParser(description=(doc or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--table", default=TABLE, help="its name or its file")
    parser.add_argument("--repeats", type=int, default=REPEATS)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--kept", type=Path, default=KEPT, help="folder of what is done")
    parser.add_argument("--output", type=Path, default=output)
    return parser


def write_report(parser: argparse.ArgumentParser, run: Callable[[argparse.Namespace], str]) -> None:
    """Read the command line, run an ablation, and write and print its text."""
    options = parser.parse_args()
    try:
        text = run(options)
    except AquaSurfError as error:
        parser.error(str(error))
    write_whole(options.output, text.encode(), what="a text")
    print(text)
