"""Rules on the README: its front matter, its sections and its form."""

from __future__ import annotations

import re
from typing import Any

from release.optunahub._folder_rules import CATEGORIES
from release.optunahub._package import Package, parsed, python_blocks

_TEXTS = ("author", "title", "description", "license")
_LISTS = ("tags", "optuna_versions")
_SECTIONS = ("Abstract", "APIs", "Installation", "Example", "Others")
_OPTIONAL = ("Installation", "Others")
_PLACEHOLDERS = ("Please fill in", "YOUR_FEATURE", "your_package_name", "Your GitHub")
_TAG = re.compile(r"</?[A-Za-z][^>\s:]*(\s[^>]*)?>|<!--")
_IMAGE = re.compile(r"!\[[^\]]*\]\(([^)\s]*)")
_VERSION = re.compile(r"\d+\.\d+\.\d+([ab.]\w+)*")


def front_matter_is_complete(package: Package) -> list[str]:
    """Every field is there, with text or a list of texts; the licence is named as it must be.

    Source: registry, optunahub-registry/header_confirm.py, .github/workflows/header-confirm.yaml.
    """
    fields = package.front_matter
    if not fields:
        return ["README.md: no front matter; begin with YAML between two lines of three dashes"]
    found = [
        f"README.md: {name} is {fields.get(name)!r}; it must be a text"
        for name in _TEXTS
        if not _is_text(fields.get(name))
    ]
    found += [
        f"README.md: {name} is {fields.get(name)!r}; it must be a list of texts (quote numbers)"
        for name in _LISTS
        if not _is_list_of_texts(fields.get(name))
    ]
    if fields.get("license") != "MIT License":
        found.append(f"README.md: license is {fields.get('license')!r}; it must be 'MIT License'")
    return found


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _is_list_of_texts(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(_is_text(each) for each in value)


def nothing_is_left_to_fill_in(package: Package) -> list[str]:
    """None of the template's own words stand there still.

    Source: registry, template/README.md, template/__init__.py, template/example.py.
    """
    return [
        f"{path}: {words!r} is the template's; replace it"
        for path in package.files
        for words in _PLACEHOLDERS
        if words in package.text(path)
    ]


def front_matter_is_for_readers(package: Package) -> list[str]:
    """The title is no class's name, the description one sentence, the versions are Optuna's.

    Source: optunahub, recipes/002_registration.py.
    """
    fields = {key: value for key, value in package.front_matter.items() if value}
    title, description = str(fields.get("title", "-")), str(fields.get("description", "-"))
    found = []
    if f"class {title}" in package.text("__init__.py") or f'"{title}"' in package.text(
        "__init__.py"
    ):
        found.append(f"README.md: the title {title!r} is a class's name; write it for readers")
    if "\n" in description or ". " in description:
        found.append("README.md: the description must be one sentence on one line")
    versions = fields.get("optuna_versions", [])
    found += [
        f"README.md: {version!r} is no version of Optuna; write it as 5.0.0"
        for version in (versions if isinstance(versions, list) else [])
        if not _VERSION.fullmatch(str(version))
    ]
    return found


def tags_name_the_category(package: Package) -> list[str]:
    """A sampler has the tag ``sampler``, and so on.

    Source: registry, template/README.md.
    """
    wanted = CATEGORIES.get(package.category)
    tags = package.front_matter.get("tags")
    if wanted is None or (isinstance(tags, list) and wanted in tags):
        return []
    return [f"README.md: tags are {tags!r}; {wanted!r} must be among them"]


def sections_are_there(package: Package) -> list[str]:
    """The sections of the template are there, in its order, with something in them.

    Source: registry, template/README.md; optunahub, recipes/002_registration.py.
    """
    headings = [heading for heading in package.sections if heading in _SECTIONS]
    found = [
        f"README.md: no section '## {heading}'; add it"
        for heading in _SECTIONS
        if heading not in headings and heading not in _OPTIONAL
    ]
    if headings != sorted(headings, key=_SECTIONS.index):
        found.append(f"README.md: the order of the sections must be {', '.join(_SECTIONS)}")
    found += [
        f"README.md: the section {heading!r} is empty; fill it or leave it out"
        for heading, text in package.sections.items()
        if not text.strip()
    ]
    return found


def installation_is_told(package: Package) -> list[str]:
    """Where there are requirements, the README says how to install them.

    Source: optunahub, recipes/002_registration.py.
    """
    address = f"https://hub.optuna.org/{package.address}/requirements.txt"
    needed = bool(package.text("requirements.txt").strip())
    if not needed or address in package.sections.get("Installation", ""):
        return []
    return [f"README.md: the section 'Installation' must name {address}"]


def example_is_python(package: Package) -> list[str]:
    """The example is a block of Python, and Python reads it.

    Source: optunahub, recipes/002_registration.py.
    """
    found = []
    if not python_blocks(package.sections.get("Example", "")):
        found.append("README.md: the section 'Example' has no block of Python; add one")
    found += [
        f"README.md: a block of Python is none: {code.strip().splitlines()[:1]}"
        for code in package.snippets
        if parsed(code) is None
    ]
    return found


def images_are_relative(package: Package) -> list[str]:
    """Images that the README shows are files in images/.

    Source: optunahub, recipes/002_registration.py.
    """
    files = {path.as_posix() for path in package.files}
    return [
        f"README.md: the image {target!r} must be a file of this package, as images/name.png"
        for target in _IMAGE.findall(package.prose)
        if not (target.startswith("images/") and target in files)
    ]


def readme_has_no_html(package: Package) -> list[str]:
    """The README is Markdown alone; the website removes tags.

    Source: optunahub, recipes/002_registration.py.
    """
    return [
        f"README.md: {match[0]!r} is HTML; write Markdown" for match in _TAG.finditer(package.prose)
    ]


def readme_is_formatted(package: Package) -> list[str]:
    """The README has the form of mdformat, as far as that can be told without it.

    Source: registry, .pre-commit-config.yaml (mdformat with front matter).
    """
    text, prose = package.readme, package.prose
    signs = {
        "must end with one line feed": not text.endswith("\n") or text.endswith("\n\n"),
        "has blanks at the end of a line": re.search(r"[ \t]$", prose, flags=re.MULTILINE),
        "has two empty lines in a row": "\n\n\n" in package.unfenced,
        "has lists with * or +; use -": re.search(r"^\s*[*+] ", prose, flags=re.MULTILINE),
        "has underlined headings; use #": re.search(r"^(=+|-+)$", prose, flags=re.MULTILINE),
    }
    return [f"README.md: it {sign}" for sign, there in signs.items() if there]


README_RULES = (
    front_matter_is_complete,
    nothing_is_left_to_fill_in,
    front_matter_is_for_readers,
    tags_name_the_category,
    sections_are_there,
    installation_is_told,
    example_is_python,
    images_are_relative,
    readme_has_no_html,
    readme_is_formatted,
)
