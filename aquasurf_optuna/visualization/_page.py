"""One HTML page that holds figures and needs nothing else: no network, no other file.

All text is escaped here; callers pass plain text. The page forbids itself, by its content security
policy, to load anything from anywhere. How it looks and what it does beyond showing is in
`page.css` and `page.js` beside this file.
"""

from __future__ import annotations

import base64
import dataclasses
import functools
import gzip
import importlib.resources
import json
from collections.abc import Mapping, Sequence
from typing import Any

import plotly.graph_objects as go
from plotly.offline import get_plotlyjs

from aquasurf_optuna.visualization._names import escaped
from aquasurf_optuna.visualization._style import DARK, FONT

_POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; "
    "img-src data: blob:; base-uri 'none'; form-action 'none'"
)

# Buttons are listed one by one: among Plotly's own choice is one that uploads the figure's data.
_CONFIG = {
    "responsive": True,
    "displaylogo": False,
    "showSendToCloud": False,
    "modeBarButtons": [["toImage"], ["zoom2d", "pan2d", "resetScale2d"]],
}

_DARK_PAGE = """color-scheme: dark;
  --page: #12171d; --paper: #1b222b; --ink: #e6eaf0; --muted: #a7b0bc; --line: #333d49;
  --faint: #2a333d; --head: #252e38; --link: #6cb8ea;
"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Table:
    """A table of plain texts, which readers can sort and filter.

    Attributes:
        columns: Headings.
        rows: Cells, as many in each row as there are headings.
        code: Headings of the columns that hold functions.
        choices: Headings of columns with few different texts, of which a reader can choose one.
        copies: For each row what can be copied, by the label of its button; empty where nothing is.
    """

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    code: frozenset[str] = frozenset()
    choices: frozenset[str] = frozenset()
    copies: Sequence[Mapping[str, str]] = ()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Section:
    """A part of a report. All texts are plain.

    Attributes:
        heading: Its heading.
        text: Paragraphs under the heading.
        code: Titles and texts of blocks, each with a button that copies it.
        figures: One figure over the whole width, or several side by side as the window allows.
        table: A table, below the figures.
    """

    heading: str
    text: Sequence[str] = ()
    code: Mapping[str, str] = dataclasses.field(default_factory=dict)
    figures: Sequence[go.Figure] = ()
    table: Table | None = None


def page(
    *, title: str, lead: Sequence[str], facts: Mapping[str, str], sections: Sequence[Section]
) -> str:
    """Return a whole HTML document."""
    opening = "".join(f'<p class="lead">{escaped(each)}</p>' for each in lead)
    listed = "".join(f"<dt>{escaped(k)}</dt><dd>{escaped(v)}</dd>" for k, v in facts.items())
    bodies = [_section(section, index) for index, section in enumerate(sections)]
    return "\n".join(
        (
            '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{escaped(title)}</title>",
            f"<style>{_css()}</style>",
            "</head>\n<body>\n<main>",
            f'<header><div class="head"><h1>{escaped(title)}</h1></div>{opening}<dl>{listed}</dl>',
            f"{_contents(sections)}</header>",
            *bodies,
            "<footer>Written by AQuaSurF for PyTorch. The figures react to the pointer.</footer>",
            '</main>\n<div id="said" class="unseen" role="status"></div>',
            f'<script type="application/json" id="settings">{_settings()}</script>',
            _library() if any(section.figures for section in sections) else "",
            f"<script>{_read('page.js')}</script>",
            "</body>\n</html>\n",
        )
    )


def _read(name: str) -> str:
    return importlib.resources.files(__package__).joinpath(name).read_text(encoding="utf-8")


def _css() -> str:
    return _read("page.css").replace("FONT", FONT).replace("DARK", _DARK_PAGE)


def _settings() -> str:
    return _json({"config": _CONFIG, "dark": DARK})


@functools.cache
def _library() -> str:
    """Return Plotly's library: packed, it takes 2 of the page's megabytes and not 5."""
    packed = gzip.compress(get_plotlyjs().encode(), mtime=0)
    text = base64.b64encode(packed).decode()
    return f'<script type="application/octet-stream" id="plotly">{text}</script>'


def _contents(sections: Sequence[Section]) -> str:
    if len(sections) < 2:
        return ""
    links = "".join(
        f'<li><a href="#section-{index}">{escaped(section.heading)}</a></li>'
        for index, section in enumerate(sections)
    )
    return f'<nav aria-label="Contents"><ul>{links}</ul></nav>'


def _section(section: Section, index: int) -> str:
    name = f"section-{index}"
    parts = [f'<h2 id="{name}-heading">{escaped(section.heading)}</h2>']
    parts += [f"<p>{escaped(paragraph)}</p>" for paragraph in section.text]
    for heading, code in section.code.items():
        block = (
            f'<div class="block" data-what="{escaped(heading)}"><pre>{escaped(code)}</pre></div>'
        )
        parts.append(f"<h3>{escaped(heading)}</h3>{block}")
    figures = [
        _figure(each, _label(section, place), tools=len(section.figures) == 1)
        for place, each in enumerate(section.figures, start=1)
    ]
    if figures:
        kind = "one" if len(figures) == 1 else "grid"
        parts.append(f'<div class="{kind}">{"".join(figures)}</div>')
    if section.table is not None:
        parts.append(_table(section.table, section.heading))
    return f'<section id="{name}" aria-labelledby="{name}-heading">{"".join(parts)}</section>'


def _label(section: Section, place: int) -> str:
    """Return what a screen reader says of a figure; its texts are in the section and the tables."""
    if len(section.figures) == 1:
        return section.heading
    return f"{section.heading}, figure {place} of {len(section.figures)}"


def _figure(figure: go.Figure, label: str, *, tools: bool) -> str:
    shown = go.Figure(figure)
    if shown.layout.title.text is not None:
        # The section's heading says it already.
        shown.update_layout(title=None, margin={"t": 34})
    height = shown.layout.height or 450
    # In a small figure the row of tools would cover the titles.
    attribute = " data-tools" if tools else ""
    return (
        f'<figure aria-label="{escaped(label)}"{attribute}><div style="min-height: {height}px">'
        f'</div><script type="application/json">{_escaped_json(shown.to_json())}</script></figure>'
    )


def _table(table: Table, caption: str) -> str:
    head = "".join(f'<th scope="col">{escaped(column)}</th>' for column in table.columns)
    copies = list(table.copies) or [{}] * len(table.rows)
    rows = [_row(table, row, texts) for row, texts in zip(table.rows, copies, strict=True)]
    body = f"<thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody>"
    choices = [place for place, each in enumerate(table.columns) if each in table.choices]
    return (
        f'<div class="table" tabindex="0" role="region" aria-label="{escaped(caption)}, table" '
        f'data-choices="{choices}"><table><caption class="unseen">{escaped(caption)}</caption>'
        f"{body}</table></div>"
    )


def _row(table: Table, row: Sequence[str], texts: Mapping[str, str]) -> str:
    cells, name = [], ""
    for column, cell in zip(table.columns, row, strict=True):
        inner = escaped(cell)
        if column in table.code:
            inner, name = f"<code>{inner}</code>", cell
        cells.append(f"<td>{inner}</td>")
    told = {"name": name, "texts": dict(texts)}
    attribute = f' data-copies="{escaped(json.dumps(told))}"' if texts else ""
    return f"<tr{attribute}>{''.join(cells)}</tr>"


def _json(value: Any) -> str:
    return _escaped_json(json.dumps(value))


def _escaped_json(text: str) -> str:
    """Escape a JSON text so that nothing in it ends the script that holds it."""
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
