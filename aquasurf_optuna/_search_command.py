"""The command `aquasurf search`: the whole job from a LightningCLI configuration.

Options that are not its own are LightningCLI's, so that a command line of
`python -m lightning_modules fit` becomes a search when its first words are replaced.
"""

from __future__ import annotations

import argparse
import importlib
from typing import Any

from aquasurf_optuna._command_line import add_command

_INTERRUPTED = 130
_EXAMPLES = (
    "aquasurf search --config examples/configs/all_cnn_c_digits.yaml --trials 40",
    "aquasurf search --config my.yaml --storage sqlite:///team.db --trainer.max_epochs 5",
)


def add_search(commands: Any) -> None:
    """Add the command to argparse's subparsers."""
    parser = add_command(
        commands,
        "search",
        summary="search with a LightningCLI configuration: every trial is one run of it; other "
        "options than those below go to LightningCLI",
        examples=_EXAMPLES,
    )
    parser.set_defaults(run=_search)
    parser.add_argument(
        "--config",
        required=True,
        metavar="FILE",
        help="as for `python -m lightning_modules fit --config`",
    )
    parser.add_argument(
        "--space",
        default="three_node",
        metavar="NAME",
        help="three_node, four_node, coatnet, or a schema (default: %(default)s)",
    )
    parser.add_argument(
        "--trials", type=int, default=100, help="of the study in the end (default: %(default)s)"
    )
    parser.add_argument(
        "--storage", default="sqlite:///search.db", metavar="URL", help="(default: %(default)s)"
    )
    parser.add_argument(
        "--study", default="search", metavar="NAME", help="goes on if it is there (default: search)"
    )
    parser.add_argument(
        "--metric", default="val_accuracy", help="that the run logs (default: %(default)s)"
    )
    parser.add_argument("--direction", default="maximize", choices=("maximize", "minimize"))
    parser.add_argument(
        "--pool", type=int, default=500, help="candidates with features (default: %(default)s)"
    )
    parser.add_argument("--seed", type=int, default=0, help="the sampler's (default: %(default)s)")
    parser.set_defaults(passes_on=True)


def _search(options: argparse.Namespace) -> int:
    # Training belongs to the other package, which builds on this one.
    searching = importlib.import_module("lightning_modules.search")
    named = ("space", "trials", "storage", "study", "metric", "direction", "pool", "seed")
    settings = searching.SearchOptions(**{name: getattr(options, name) for name in named})
    try:
        study = searching.search(options.config, settings, options.more)
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
