"""The files of the package: templates, filled in from this repository and what is installed.

Nothing that changes stands in a template: the version, author and Python come from pyproject.toml,
the licence is the repository's, Optuna's version is the one that is installed here (the registry
asks for those that a package is known to work with), the arguments come from the docstrings, and
the README's example is example.py.
"""

from __future__ import annotations

import string
import tomllib
from functools import cache
from pathlib import Path
from typing import Any

import optuna
import yaml  # type: ignore[import-untyped] # PyYAML has no types

import aquasurf_optuna
from aquasurf_optuna import BASELINES, AquaSurfSampler
from release.optunahub._arguments import argument_list, first_sentence
from release.optunahub._errors import PackageError

ADDRESS = "samplers/aquasurf"
TITLE = "AQuaSurF Activation Function Sampler"
EXPORTED = (
    "Activation",
    "AquaSurfSampler",
    "BASELINES",
    "Catalogue",
    "Expression",
    "FeatureStore",
    "FisherFeaturizer",
    "SearchSpace",
)
"""What the package hands on, in the order in which the registry sorts imports."""

_DESCRIPTION = (
    "This sampler finds an activation function that fits a PyTorch network, predicting the best "
    "one from Fisher information eigenvalues and function outputs that cost no training."
)
_TAGS = ["sampler", "activation function", "neural architecture search", "PyTorch"]
_ROOT = Path(__file__).parent.parent.parent
_TEMPLATES = Path(__file__).parent / "templates"
_FILES = {
    "README.md": "README.md.template",
    "__init__.py": "init.py.template",
    "example.py": "example.py.template",
    "requirements.txt": "requirements.txt.template",
    "tests/test_sampler.py": "test_sampler.py.template",
}


def texts() -> dict[str, str]:
    """Return the files of the package: path in its folder -> text.

    Raises:
        PackageError: If a template asks for something that is not known, or a docstring does not
            fit its signature.
    """
    values = _values()
    # The README shows the example as it is.
    values["example"] = _filled(_FILES["example.py"], values).strip()
    files = {name: _filled(template, values) for name, template in _FILES.items()}
    return {**files, "LICENSE": (_ROOT / "LICENSE").read_text(encoding="utf-8")}


def _values() -> dict[str, str]:
    project = _project()
    return {
        "address": ADDRESS,
        "distribution": project["name"],
        "version": project["version"],
        "python": project["requires-python"].removeprefix(">="),
        "front_matter": _front_matter(),
        "imports": "\n".join(f"    from aquasurf_optuna import {name}" for name in EXPORTED),
        "names": "\n".join(f'    "{name}",' for name in EXPORTED),
        "sampler_says": first_sentence(AquaSurfSampler),
        "arguments": argument_list(AquaSurfSampler),
        "other_names": _other_names(),
    }


@cache
def _project() -> dict[str, Any]:
    # Not the installed metadata, which may be that of an earlier version.
    with (_ROOT / "pyproject.toml").open("rb") as file:
        project: dict[str, Any] = tomllib.load(file)["project"]
    return project


def _front_matter() -> str:
    fields = {
        "author": ", ".join(author["name"] for author in _project()["authors"]),
        "title": TITLE,
        "description": _DESCRIPTION,
        "tags": _TAGS,
        "optuna_versions": [optuna.__version__],
        "license": "MIT License",
    }
    dumped: str = yaml.safe_dump(
        fields, sort_keys=False, default_flow_style=None, allow_unicode=True, width=10_000
    )
    return dumped.strip()


def _other_names() -> str:
    lines = []
    for name in EXPORTED:
        thing = getattr(aquasurf_optuna, name)
        if name == "BASELINES":
            functions = ", ".join(f"`{expression}`" for expression in BASELINES)
            lines.append(f"- `BASELINES`: The functions that are tried first: {functions}.")
        elif thing is not AquaSurfSampler:
            lines.append(f"- `{name}`: {first_sentence(thing)}")
    return "\n".join(lines)


def _filled(template: str, values: dict[str, str]) -> str:
    text = (_TEMPLATES / template).read_text(encoding="utf-8")
    try:
        return string.Template(text).substitute(values)
    except (KeyError, ValueError) as error:
        raise PackageError(
            f"the template {template} cannot be filled in: {error}; known are "
            f"{', '.join(values)}, and a dollar sign is written twice"
        ) from error
