"""What a YAML file describes: settings of known names and types, and objects by import path."""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import NoneType
from typing import Any, TypeVar

from aquasurf_optuna.exceptions import AquaSurfError

Kind = TypeVar("Kind")

_CALL_KINDS: dict[str, tuple[type, ...]] = {"call": (str,), "arguments": (dict,)}


def read_yaml(path: str, kinds: Mapping[str, tuple[type, ...]]) -> dict[str, Any]:
    """Read a YAML file of settings.

    Args:
        path: The file.
        kinds: Name of each setting -> the types that it may have.

    Raises:
        AquaSurfError: If the file is not YAML, or holds other settings.
        OSError: If it cannot be read.
    """
    try:
        import yaml  # type: ignore[import-untyped] # PyYAML has no types
    except ImportError as error:
        raise AquaSurfError("--config needs PyYAML: pip install pyyaml") from error
    try:
        content = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise AquaSurfError(f"{path} is not YAML: {' '.join(str(error).split())}") from error
    return checked(content, kinds, path)


def checked(content: Any, kinds: Mapping[str, tuple[type, ...]], where: str) -> dict[str, Any]:
    """Return a mapping whose keys and types are among those allowed.

    Raises:
        AquaSurfError: If they are not.
    """
    if not isinstance(content, dict):
        raise AquaSurfError(
            f"{where} must hold {', '.join(kinds)}, got {type(content).__name__}: {content!r}"
        )
    for key, value in content.items():
        if key not in kinds:
            raise AquaSurfError(f"{where} has an unknown key {key!r}; known are {', '.join(kinds)}")
        # True is an int to Python, but not to whoever writes `n: true`.
        if not isinstance(value, kinds[key]) or (
            isinstance(value, bool) and bool not in kinds[key]
        ):
            names = " or ".join("null" if k is NoneType else k.__name__ for k in kinds[key])
            raise AquaSurfError(f"{key} in {where} must be {names}, got {value!r}")
    return content


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
    settings = checked(dict(described), _CALL_KINDS, where)
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
