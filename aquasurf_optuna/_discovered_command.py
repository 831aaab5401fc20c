"""The command `aquasurf discovered`: the functions of the paper's tables, to copy from."""

from __future__ import annotations

import argparse
from typing import Any

from aquasurf_optuna._command_line import add_command
from aquasurf_optuna.discovered import EXPERIMENTS, ranking

_SOURCE = (
    "As printed in Tables 1 to 3 of Bingham and Miikkulainen, NeurIPS 2023 (arXiv:2301.05785);\n"
    'not measured by this project. Look at one with: aquasurf show "EXPRESSION"'
)


def add_discovered(commands: Any) -> None:
    """Add the command to argparse's subparsers."""
    parser = add_command(
        commands,
        "discovered",
        summary="list the functions that the paper found, with its baselines",
        examples=["aquasurf discovered"],
    )
    parser.set_defaults(run=run_discovered)


def run_discovered(_options: argparse.Namespace) -> None:
    """Print the tables."""
    print(tables())


def tables() -> str:
    """Return every experiment of the paper as a table, the best function first."""
    blocks = [_table(network, dataset) for network, dataset in EXPERIMENTS]
    return "\n\n".join([*blocks, _SOURCE])


def _table(network: str, dataset: str) -> str:
    rows = ranking(network, dataset)
    names = [f"{each.name}{' (baseline)' if each.is_baseline else ''}" for each, _ in rows]
    width = max(map(len, names))
    lines = [
        f"  {result.accuracy:.4f}  {name:<{width}}  {function.expression}"
        for name, (function, result) in zip(names, rows, strict=True)
    ]
    _, first = rows[0]
    heading = f"{network} on {dataset}: {first.metric} (Table {first.table})"
    return "\n".join([heading, *lines])
