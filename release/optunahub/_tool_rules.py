"""Rules that other programs check: ruff and mypy, set as the registry sets them.

The registry pins older versions of both than are installed here; the options are those of its
versions.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys

from release.optunahub._errors import PackageError
from release.optunahub._package import Package

_RUFF_OPTIONS = (
    "line-length = 99",
    'lint.select = ["E4", "E7", "E9", "F", "I"]',  # the pinned ruff's own choice, and "I"
    'lint.isort.known-third-party = ["optuna"]',
    "lint.isort.lines-after-imports = 2",
    "lint.isort.force-single-line = true",
    "lint.isort.force-sort-within-sections = true",
    "lint.isort.order-by-type = false",
)
# Without site packages, since the registry's check runs where neither Optuna nor torch is.
_MYPY_OPTIONS = (
    "--config-file=",
    f"--cache-dir={os.devnull}",
    "--no-site-packages",
    "--ignore-missing-imports",
    "--explicit-package-bases",
    "--disallow-untyped-calls",
    "--disallow-untyped-defs",
    "--disallow-incomplete-defs",
    "--check-untyped-defs",
    "--warn-redundant-casts",
    "--strict-equality",
    "--extra-checks",
    "--no-implicit-reexport",
    "--no-error-summary",
)


def ruff_is_content(package: Package) -> list[str]:
    """Ruff's linter, imports one a line among its wishes, finds nothing.

    Source: registry, pyproject.toml, .pre-commit-config.yaml.
    """
    return _said("ruff", ["check", *_ruff_options(), "--output-format=concise", "--quiet"], package)


def ruff_would_format_nothing(package: Package) -> list[str]:
    """Ruff's formatter would change nothing.

    Source: registry, pyproject.toml, .pre-commit-config.yaml.
    """
    return _said("ruff", ["format", "--check", *_ruff_options()], package)


def mypy_is_content(package: Package) -> list[str]:
    """Mypy finds nothing.

    Source: registry, pyproject.toml, .pre-commit-config.yaml.
    """
    return _said("mypy", list(_MYPY_OPTIONS), package)


def _ruff_options() -> list[str]:
    options = [part for option in _RUFF_OPTIONS for part in ("--config", option)]
    return ["--isolated", "--no-cache", *options]


def _said(tool: str, arguments: list[str], package: Package) -> list[str]:
    """Return the lines of a tool that is not content."""
    if importlib.util.find_spec(tool) is None:
        raise PackageError(
            f"the registry's rules are checked with {tool}, which is not installed; "
            "install this repository as `pip install -e '.[test]'`"
        )
    if not package.python_files:
        return []
    command = [sys.executable, "-m", tool, *arguments, *map(str, package.python_files)]
    done = subprocess.run(command, cwd=package.folder, capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return []
    lines = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()]
    return [f"{tool}: {line}" for line in lines or [f"it ended with {done.returncode}"]]


TOOL_RULES = (ruff_is_content, ruff_would_format_nothing, mypy_is_content)
