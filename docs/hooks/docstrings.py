"""Lets docstrings that keep to reST in three places be read as Markdown.

`help()` shows docstrings as they are, and there a simple table reads better than Markdown's, whose
rows cannot go on in another line. For the site this hook turns into Markdown what they have of
reST: simple tables, roles such as ``:class:`Expression` ``, and the double colon before an example.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from markdown import Markdown
from markdown.extensions import Extension
from markdown.preprocessors import Preprocessor
from mkdocs.config.defaults import MkDocsConfig

_ROLE = re.compile(r":(?:attr|class|data|exc|func|meth|mod):`~?([^`]+)`")
_EXAMPLE = re.compile(r"(?<=[^\s:])::$")
_RULER = re.compile(r"\s*=+(?: +=+)+\s*")
_BEFORE_CODE_BLOCKS = 100


def as_markdown(lines: Sequence[str]) -> list[str]:
    """Return lines with reST's tables, roles and double colons turned into Markdown."""
    return [_EXAMPLE.sub(":", _ROLE.sub(r"`\1`", line)) for line in _with_tables(lines)]


def _with_tables(lines: Sequence[str]) -> Iterator[str]:
    at = 0
    while at < len(lines):
        # The rulers of a table are alike: two of them, or three where there is a heading.
        rulers = [i for i in range(at, len(lines)) if lines[i].rstrip() == lines[at].rstrip()][:3]
        if not _RULER.fullmatch(lines[at]) or len(rulers) == 1:
            yield lines[at]
            at += 1
            continue
        heading = []
        if len(rulers) == 3 and not any(not each.strip() for each in lines[at : rulers[2]]):
            heading = _rows(lines[at], lines[rulers[0] + 1 : rulers[1]])
            rulers = rulers[1:]
        rows = _rows(lines[at], lines[rulers[0] + 1 : rulers[1]])
        cells = heading[0] if heading else [""] * len(rows[0])
        yield from ("", _row(cells), _row(["---"] * len(cells)), *map(_row, rows), "")
        at = rulers[1] + 1


def _rows(ruler: str, lines: Sequence[str]) -> list[list[str]]:
    """Cut lines into the columns of a ruler; a row goes on where its first column is empty."""
    starts = [match.start() for match in re.finditer("=+", ruler)]
    ends = [*starts[1:], None]
    rows: list[list[str]] = []
    for line in lines:
        cells = [line[start:end].strip() for start, end in zip(starts, ends, strict=True)]
        if cells[0] or not rows:
            rows.append(cells)
        else:
            rows[-1] = [f"{old} {new}".strip() for old, new in zip(rows[-1], cells, strict=True)]
    return rows


def _row(cells: Sequence[str]) -> str:
    escaped = (cell.replace("|", r"\|") for cell in cells)
    return f"| {' | '.join(escaped)} |"


class _FromRest(Preprocessor):
    def run(self, lines: list[str]) -> list[str]:
        """Turn reST into Markdown before Markdown looks at it."""
        return as_markdown(lines)


class _Docstrings(Extension):
    def extendMarkdown(self, md: Markdown) -> None:  # noqa: N802 - Markdown's name
        """Join the conversion of pages and docstrings."""
        md.preprocessors.register(_FromRest(md), "docstrings", _BEFORE_CODE_BLOCKS)


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Add the extension."""
    config.markdown_extensions.append(_Docstrings())
    return config
