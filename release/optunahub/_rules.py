"""All rules of the registry, together."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from release.optunahub._code_rules import CODE_RULES
from release.optunahub._errors import PackageError
from release.optunahub._folder_rules import FOLDER_RULES
from release.optunahub._package import Package
from release.optunahub._readme_rules import README_RULES
from release.optunahub._tool_rules import TOOL_RULES

RULES: tuple[Callable[[Package], list[str]], ...] = (
    *FOLDER_RULES,
    *README_RULES,
    *CODE_RULES,
    *TOOL_RULES,
)


def problems(folder: str | os.PathLike[str]) -> list[str]:
    """Return where a package breaks a rule of the registry; an empty list if nowhere.

    Args:
        folder: The package's folder, ``.../package/samplers/aquasurf``.

    Returns:
        One line for each problem: the file, what is there, and what should be.

    Raises:
        PackageError: If there is no such folder, or a tool that the rules need is not installed.
    """
    path = Path(folder).resolve()
    if not path.is_dir():
        raise PackageError(f"{os.fspath(folder)!r} is no folder; name the folder of a package")
    package = Package(path)
    return [problem for rule in RULES for problem in rule(package)]
