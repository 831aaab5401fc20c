"""Rules on the folder: where it lies and what is in it."""

from __future__ import annotations

import keyword
import re
from pathlib import Path

from release.optunahub._package import Package

CATEGORIES = {
    "benchmarks": "benchmark",
    "callbacks": "callback",
    "pruners": "pruner",
    "samplers": "sampler",
    "visualization": "visualization",
}
"""Folder of a category -> the tag that its packages carry."""

_REQUIRED = ("README.md", "LICENSE", "__init__.py")
_LEFTOVERS = re.compile(
    r"__pycache__|\.\w+_cache|\.hypothesis|\.ipynb_checkpoints|\.DS_Store|\.venv|\.idea|\.vscode"
    r"|build|dist|.+\.egg-info|.+\.py[cod]|.+\.so|.+\.log"
)
_LARGEST_IMAGES = 100 * 1024
_COPYRIGHT = re.compile(r"^Copyright \(c\) \d{4}(-\d{4})? (?P<holder>\S.*)$", flags=re.MULTILINE)
_OWN_LICENSE = Path(__file__).parent.parent.parent / "LICENSE"


def place_is_valid(package: Package) -> list[str]:
    """Its path is package/<category>/<name>, the name a Python module's in small letters.

    Source: optunahub, recipes/002_registration.py.
    """
    found = []
    if package.category not in CATEGORIES:
        found.append(
            f"{package.address}: the category is {package.category!r}; it must be one of "
            f"{', '.join(CATEGORIES)}"
        )
    if package.folder.parent.parent.name != "package":
        found.append(f"{package.address}: it must lie in a folder named package")
    name = package.name
    if not name.isidentifier() or keyword.iskeyword(name) or name != name.lower():
        found.append(
            f"{package.address}: {name!r} must be a Python module's name: small letters, digits "
            "and underscores"
        )
    return found


def required_files_are_there(package: Package) -> list[str]:
    """It has a README, a licence and an ``__init__.py``.

    Source: optunahub, recipes/002_registration.py; registry, template/.
    """
    there = {str(path) for path in package.files}
    return [f"{name}: it is missing; add it" for name in _REQUIRED if name not in there]


def files_are_text(package: Package) -> list[str]:
    """Nothing is binary but the images of the README.

    Source: registry, CONTRIBUTING.md (security and safety).
    """
    return [
        f"{path}: a binary file, or a link; only images of the README may be binary, in images/"
        for path in package.files
        if path.parts[0] != "images" and not _is_text(package.folder / path)
    ]


def _is_text(path: Path) -> bool:
    if path.is_symlink():
        return False
    content = path.read_bytes()
    try:
        content.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return b"\0" not in content


def nothing_is_left_over(package: Package) -> list[str]:
    """No cache, build or editor's file is in it.

    Source: registry, .gitignore.
    """
    return [
        f"{path}: a file that tools leave behind; remove it"
        for path in package.files
        if any(_LEFTOVERS.fullmatch(part) for part in path.parts)
    ]


def images_are_small_and_shown(package: Package) -> list[str]:
    """Images lie in images/, the README shows each of them, and together they are small.

    Source: optunahub, recipes/002_registration.py; registry, CONTRIBUTING.md.
    """
    images = [path for path in package.files if path.parts[0] == "images"]
    found = [
        f"{path}: the README does not show it; show it or remove it"
        for path in images
        if f"({path.as_posix()})" not in package.readme
    ]
    size = sum((package.folder / path).stat().st_size for path in images)
    if size > _LARGEST_IMAGES:
        found.append(f"images: {size} bytes together; keep them below {_LARGEST_IMAGES}")
    return found


def license_is_mit(package: Package) -> list[str]:
    """The licence is the MIT licence, with its holder filled in.

    Source: registry, template/LICENSE, README.md (what to do towards a contribution).
    """
    text = package.text("LICENSE")
    holder = _COPYRIGHT.search(text)
    found = []
    if holder is None or holder["holder"].startswith("<"):
        found.append("LICENSE: it needs a line 'Copyright (c) YEAR HOLDER' with both filled in")
    if _terms(text) != _terms(_OWN_LICENSE.read_text(encoding="utf-8")):
        found.append("LICENSE: not the text of the MIT License, the only one that is accepted")
    return found


def _terms(text: str) -> list[str]:
    return _COPYRIGHT.sub("", text).split()


FOLDER_RULES = (
    place_is_valid,
    required_files_are_there,
    files_are_text,
    nothing_is_left_over,
    images_are_small_and_shown,
    license_is_mit,
)
