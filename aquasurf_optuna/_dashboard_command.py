"""The command `aquasurf dashboard`: write notes, figures and pictures into a stored study."""

from __future__ import annotations

import shlex
from pathlib import Path

from jsonargparse import ArgumentParser, Namespace
from optuna.artifacts import FileSystemArtifactStore

from aquasurf_optuna._command_line import Command, add_study, study_of
from aquasurf_optuna.dashboard import Annotated, annotate


def _add_options(parser: ArgumentParser) -> None:
    add_study(parser)
    parser.add_argument(
        "--artifacts",
        type=str | None,
        metavar="FOLDER",
        help="put a picture of each trial's function there",
    )


def _run(options: Namespace) -> None:
    named = study_of(options)
    store = None
    command = ["optuna-dashboard", options.storage]
    if options.artifacts is not None:
        Path(options.artifacts).mkdir(parents=True, exist_ok=True)
        store = FileSystemArtifactStore(options.artifacts)
        command += ["--artifact-dir", options.artifacts]
    written = annotate(
        named.study, named.space, name=named.name, value_name=named.value_name, artifacts=store
    )
    print(f"study {options.study!r}: {_told(written)}")
    print(f"look at it: {shlex.join(command)}")


def _told(written: Annotated) -> str:
    if not any(written):
        return "nothing has changed"
    counts = {"notes": written.notes, "figures": written.figures, "pictures": written.pictures}
    told = [f"{count} {what}" for what, count in counts.items() if count]
    return f"wrote {', '.join(told)}"


DASHBOARD = Command(
    "dashboard",
    summary="write what optuna-dashboard shows of a stored study into it",
    examples=[
        "aquasurf dashboard --storage sqlite:///search.db --study search --artifacts pictures"
    ],
    add_options=_add_options,
    run=_run,
)
