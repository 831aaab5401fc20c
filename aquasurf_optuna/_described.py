"""Objects that a file of settings describes by import path and arguments."""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from aquasurf_optuna.exceptions import AquaSurfError, SettingsError

Kind = TypeVar("Kind")

_KINDS: dict[str, type] = {"call": str, "arguments": dict}


def called(described: Mapping[str, Any], where: str, kind: type[Kind]) -> Kind:
    """Import a callable, call it and return what it returns.

    Args:
        described: `call`, its import path, and `arguments`, its keyword arguments.
        where: Name of the setting, for errors.
        kind: The class of what must come back; `object` for any.

    Raises:
        AquaSurfError: If the callable cannot be found, does not take the arguments, or returns
            something else.
    """
    settings = _checked(described, where)
    if "call" not in settings:
        raise AquaSurfError(f"{where} must name a `call`, such as package.module.function")
    path, arguments = settings["call"], settings.get("arguments", {})
    call = _imported(path)
    try:
        inspect.signature(call).bind(**arguments)
    except TypeError as error:
        allowed = ", ".join(inspect.signature(call).parameters)
        raise AquaSurfError(f"{path} takes the arguments {allowed}: {error}") from error
    try:
        made = call(**arguments)
    except (TypeError, ValueError) as error:
        if isinstance(error, AquaSurfError):
            raise
        raise AquaSurfError(f"{path} refused its arguments {arguments}: {error}") from error
    if not isinstance(made, kind):
        raise AquaSurfError(f"{path} must return a {kind.__name__}, got {type(made).__name__}")
    return made


def _checked(described: Mapping[str, Any], where: str) -> Mapping[str, Any]:
    for key, value in described.items():
        if key not in _KINDS:
            raise SettingsError(
                f"{where} has an unknown key {key!r}; known are {', '.join(_KINDS)}"
            )
        if not isinstance(value, _KINDS[key]):
            raise SettingsError(f"{key} in {where} must be {_KINDS[key].__name__}, got {value!r}")
    return described


def _imported(path: str) -> Callable[..., Any]:
    module_name, _, name = path.rpartition(".")
    if not module_name:
        raise AquaSurfError(f"call must be a path such as package.module.function, got {path!r}")
    # An installed command, unlike `python -m`, does not see modules in the current folder.
    if str(Path.cwd()) not in sys.path:
        sys.path.append(str(Path.cwd()))
    try:
        module = importlib.import_module(module_name)
    except (ImportError, TypeError, ValueError) as error:
        raise AquaSurfError(f"cannot import {module_name!r} for {path!r}: {error}") from error
    found = getattr(module, name, None)
    if not callable(found):
        known = ", ".join(sorted(n for n, v in vars(module).items() if inspect.isfunction(v)))
        raise AquaSurfError(
            f"{module_name} has no callable {name!r}; its functions are: {known or 'none'}"
        )
    imported: Callable[..., Any] = found
    return imported
