"""The command `aquasurf discovered`: the functions of the paper's tables, to copy from."""

from __future__ import annotations

from jsonargparse import ArgumentParser, Namespace

from aquasurf_optuna._command_line import Command
from aquasurf_optuna.discovered import EXPERIMENTS, ranking

_SOURCE = (
    "As printed in Tables 1 to 3 of Bingham and Miikkulainen, NeurIPS 2023 (arXiv:2301.05785);\n"
    'not measured by this project. Look at one with: aquasurf show "EXPRESSION"'
)


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


def _add_options(_parser: ArgumentParser) -> None:
    """There are none."""


def _run(_options: Namespace) -> None:
    print(tables())


DISCOVERED = Command(
    "discovered",
    summary="list the functions that the paper found, with its baselines",
    examples=["aquasurf discovered"],
    add_options=_add_options,
    run=_run,
    file=False,
)
