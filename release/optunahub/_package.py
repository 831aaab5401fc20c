"""A package of the registry, as its rules read it.

A file that is missing or unreadable reads as empty here; the rule whose business it is says so.
"""

from __future__ import annotations

import ast
import itertools
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped] # PyYAML has no types

_FRONT_MATTER = re.compile(r"\A---\n(.*?)^---\n", flags=re.DOTALL | re.MULTILINE)
_FENCED = re.compile(r"^```(\w*)\n(.*?)^```", flags=re.DOTALL | re.MULTILINE)
_INLINE_CODE = re.compile(r"`[^`\n]*`")


@dataclass(frozen=True)
class Package:
    """A folder ``package/<category>/<name>`` of the registry."""

    folder: Path

    @property
    def name(self) -> str:
        """The last part of its path."""
        return self.folder.name

    @property
    def category(self) -> str:
        """The part before, such as ``samplers``."""
        return self.folder.parent.name

    @property
    def address(self) -> str:
        """What ``optunahub.load_module`` is told."""
        return f"{self.category}/{self.name}"

    @cached_property
    def files(self) -> tuple[Path, ...]:
        """Every file and link, relative to the folder, in order."""
        paths = sorted(
            path for path in self.folder.rglob("*") if path.is_symlink() or not path.is_dir()
        )
        return tuple(path.relative_to(self.folder) for path in paths)

    @cached_property
    def python_files(self) -> tuple[Path, ...]:
        """The Python files among them."""
        return tuple(path for path in self.files if path.suffix == ".py")

    @cached_property
    def tests(self) -> tuple[Path, ...]:
        """The files that pytest collects from its folder of tests."""
        return tuple(path for path in self.files if path.match("tests/test_*.py"))

    def text(self, file: str | Path) -> str:
        """Return a file's text; empty where there is none."""
        try:
            return (self.folder / file).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):
            return ""

    @cached_property
    def readme(self) -> str:
        """The README whole."""
        return self.text("README.md")

    @cached_property
    def body(self) -> str:
        """The README after its front matter."""
        return _FRONT_MATTER.sub("", self.readme)

    @cached_property
    def unfenced(self) -> str:
        """The README's body, each of its blocks of code one word."""
        return _FENCED.sub("code", self.body)

    @cached_property
    def prose(self) -> str:
        """The same without the code within lines."""
        return _INLINE_CODE.sub("code", self.unfenced)

    @cached_property
    def front_matter(self) -> dict[str, Any]:
        """The README's front matter; empty where it is none."""
        match = _FRONT_MATTER.match(self.readme)
        try:
            fields = yaml.safe_load(match[1]) if match else {}
        except yaml.YAMLError:
            fields = {}
        return fields if isinstance(fields, dict) else {}

    @cached_property
    def sections(self) -> dict[str, str]:
        """The README's sections of the second level, in order: heading -> text."""
        # A comment in a block of code looks like a heading.
        hidden = _FENCED.sub(lambda block: "\n" * block[0].count("\n"), self.body).splitlines()
        lines = self.body.splitlines()
        starts = [i for i, line in enumerate(hidden) if line.startswith("## ")]
        return {
            lines[start][3:].strip(): "\n".join(lines[start + 1 : end])
            for start, end in itertools.pairwise([*starts, len(lines)])
        }

    @cached_property
    def snippets(self) -> tuple[str, ...]:
        """The README's blocks of Python."""
        return tuple(python_blocks(self.body))


def python_blocks(markdown: str) -> list[str]:
    """Return the blocks of Python in a Markdown text."""
    return [code for language, code in _FENCED.findall(markdown) if language == "python"]


def parsed(code: str) -> ast.Module | None:
    """Return the tree of a text, or None if it is not Python."""
    try:
        return ast.parse(code)
    except (SyntaxError, ValueError):
        return None
