"""The tables that come with the package, each with the checksum that it was shipped with."""

from __future__ import annotations

import hashlib
import importlib.resources
from pathlib import Path

from aquasurf_optuna.exceptions import BenchmarkError

_FOLDER = Path(str(importlib.resources.files("aquasurf_optuna.benchmark"))) / "tables"

SHIPPED: dict[str, str] = {
    line.split()[1].removesuffix(".json.gz"): line.split()[0]
    for line in (_FOLDER / "SHA256SUMS").read_text().splitlines()
}
"""Name of each table -> SHA-256 of its file, as `sha256sum` writes them."""


def shipped(name: str) -> Path:
    """Return the file of a table.

    Raises:
        BenchmarkError: If it is missing, or is not what was shipped.
    """
    path = _FOLDER / f"{name}.json.gz"
    try:
        found = hashlib.sha256(path.read_bytes()).hexdigest()
    except FileNotFoundError as error:
        raise BenchmarkError(f"{path.name} is missing; install the package again") from error
    if found != SHIPPED[name]:
        raise BenchmarkError(
            f"{path.name} was changed after it was shipped (SHA-256 {found}); install the package "
            "again, or load the file by its path"
        )
    return path
