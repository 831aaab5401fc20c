"""A class as the registry's README tells it: Markdown from its signature and docstring."""

from __future__ import annotations

import inspect
import re

import aquasurf_optuna
from release.optunahub._errors import PackageError

_ROLE = re.compile(r":\w+:`~?([^`]+)`")
_ARGUMENT = re.compile(r"    (\w+): (.*)")


def first_sentence(thing: type) -> str:
    """Return the first sentence of a class's docstring as Markdown."""
    paragraph = inspect.cleandoc(thing.__doc__ or "").split("\n\n")[0]
    return _markdown(re.split(r"(?<=\.)\s", paragraph, maxsplit=1)[0])


def argument_list(thing: type) -> str:
    """Return the arguments of a class as a list in Markdown: name, type, default, description.

    Raises:
        PackageError: If the docstring and the signature name different arguments.
    """
    told = _described(thing)
    parameters = inspect.signature(thing).parameters
    if list(told) != list(parameters):
        raise PackageError(
            f"{thing.__name__} takes {', '.join(parameters)}, but its docstring describes "
            f"{', '.join(told)}; mend the docstring"
        )
    return "\n".join(
        f"- `{parameter.name}` ({_type_and_default(parameter)}): {_markdown(told[parameter.name])}"
        for parameter in parameters.values()
    )


def _described(thing: type) -> dict[str, str]:
    """Read the section of arguments of a docstring in Google's form."""
    lines = inspect.cleandoc(thing.__doc__ or "").splitlines()
    described: dict[str, str] = {}
    start = lines.index("Args:") + 1 if "Args:" in lines else len(lines)
    for line in lines[start:]:
        if not line.strip():
            break
        match = _ARGUMENT.fullmatch(line)
        if match:
            described[match[1]] = match[2]
        elif described:
            described[list(described)[-1]] += f" {line.strip()}"
    return described


def _type_and_default(parameter: inspect.Parameter) -> str:
    text = f"`{parameter.annotation}`"
    if parameter.default is inspect.Parameter.empty:
        return text
    return f"{text}, default `{_default(parameter.default)}`"


def _default(value: object) -> str:
    """Return a value as a user would write it: by its exported name, if it has one."""
    for name in aquasurf_optuna.__all__:
        if getattr(aquasurf_optuna, name) is value:
            return name
    return repr(value).replace("'", '"')


def _markdown(text: str) -> str:
    """Turn the docstring's roles and double backticks into Markdown's single ones."""
    flat = " ".join(text.split())
    return _ROLE.sub(r"`\1`", flat).replace("``", "`")
