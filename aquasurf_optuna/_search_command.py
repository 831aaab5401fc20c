"""The command `aquasurf search`: the whole job from a LightningCLI configuration.

Its options stand beside those of LightningCLI, which reads them all, so that a command line of
`python -m lightning_modules fit` becomes a search when its first words are replaced, and one file
may hold both.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from types import ModuleType
from typing import Any

from jsonargparse import ArgumentParser

from aquasurf_optuna._command_line import Command
from aquasurf_optuna._search_options import SearchOptions
from aquasurf_optuna.exceptions import AquaSurfError

_INTERRUPTED = 130


def _training() -> ModuleType:
    """Import what trains: it belongs to the other package, which builds on this one."""
    try:
        return importlib.import_module("lightning_modules.search")
    except ModuleNotFoundError as error:
        raise AquaSurfError(
            f"aquasurf search needs {error.name}: pip install 'aquasurf[lightning]'"
        ) from error


def _read(words: Sequence[str]) -> Any:
    return _training().read_search(words, description=SEARCH.description, epilog=SEARCH.epilog)


def _add_options(parser: ArgumentParser) -> None:
    # What the shell completes, and what stands in the list of commands.
    parser.add_class_arguments(SearchOptions, None)


def _run(configured: Any) -> int:
    searching = _training()
    settings: SearchOptions = configured.options
    try:
        study = searching.search_configured(configured)
    except KeyboardInterrupt:
        print(
            f"interrupted: study {settings.study!r} keeps its trials, and the same command goes "
            "on from there"
        )
        return _INTERRUPTED
    print(searching.told(study, settings))
    print(
        f"its report: aquasurf report --storage {settings.storage} --study {settings.study} "
        f"--schema {settings.space!r} --value-name {settings.metric}"
    )
    return 0


SEARCH = Command(
    "search",
    summary="search with a LightningCLI configuration: every trial is one run of it",
    examples=(
        "aquasurf search --config examples/configs/all_cnn_c_digits.yaml --trials 40",
        "aquasurf search --config examples/configs/all_cnn_c_digits.yaml --trainer.max_epochs 5",
    ),
    add_options=_add_options,
    run=_run,
    read=_read,
)
