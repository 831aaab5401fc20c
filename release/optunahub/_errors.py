"""The error of this tool."""

from __future__ import annotations

from aquasurf_optuna.exceptions import AquaSurfError


class PackageError(AquaSurfError):
    """A package for the registry cannot be made, checked or put where it should go."""
