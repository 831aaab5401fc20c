"""The study that a command line names: found where it was run, and never made by mistake."""

from __future__ import annotations

from pathlib import Path

import optuna
from optuna.exceptions import OptunaError
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from aquasurf_optuna.exceptions import AquaSurfError

_N_STUDIES_NAMED = 5


def stored_study(storage: str, name: str) -> optuna.Study:
    """Load a study.

    Args:
        storage: URL of its database.
        name: Its name.

    Raises:
        AquaSurfError: If there is no such database or study, or it cannot be read.
    """
    try:
        url = make_url(storage)
    except ArgumentError as error:
        raise AquaSurfError(
            f"--storage must be a URL such as sqlite:///study.db, got {storage!r}"
        ) from error
    shown = url.render_as_string(hide_password=True)
    file = url.database or ""
    # The driver would make the file: a mistyped name would leave an empty database behind.
    if url.get_backend_name() == "sqlite" and not file.startswith("file:"):
        _check_file(file, shown)
    try:
        # Nor is a database that holds something else to be filled with Optuna's tables.
        records = optuna.storages.RDBStorage(storage, skip_table_creation=True)
        return optuna.load_study(study_name=name, storage=records)
    except KeyError as error:
        known = optuna.get_all_study_names(storage)
        named = ", ".join(map(repr, known[:_N_STUDIES_NAMED])) or "none"
        more = f" and {len(known) - _N_STUDIES_NAMED} more" if len(known) > _N_STUDIES_NAMED else ""
        raise AquaSurfError(
            f"there is no study {name!r} in {shown!r}; its studies are: {named}{more}"
        ) from error
    except (ImportError, RuntimeError, OptunaError, SQLAlchemyError) as error:
        # No driver, or written by another version of Optuna, or no storage of Optuna's at all.
        reason = str(error.__cause__ or error).strip()
        raise AquaSurfError(f"cannot read a study from {shown!r}: {reason}") from error


def _check_file(file: str, shown: str) -> None:
    if not file or not Path(file).is_file():
        raise AquaSurfError(
            f"there is no database {shown!r}; give the URL with which the study was run"
        )
