"""One HTML page that holds figures and needs nothing else: no network, no other file.

All text is escaped here; callers pass plain text. The page forbids itself, by its content security
policy, to load anything from anywhere.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import plotly.graph_objects as go
import plotly.io
from plotly.offline import get_plotlyjs

from aquasurf_optuna.visualization._names import escaped
from aquasurf_optuna.visualization._style import FONT

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

_CSS = """
:root { color-scheme: light; }
* { box-sizing: border-box; }
body { margin: 0; background: #f4f6f9; color: #1f2933; font: 16px/1.55 FONT; }
main { max-width: 1060px; margin: 0 auto; padding: 28px 20px 48px; }
h1 { font-size: 1.7rem; line-height: 1.25; margin: 0 0 .5rem; overflow-wrap: anywhere; }
h2 { font-size: 1.15rem; margin: 0 0 .4rem; }
h3 { font-size: .78rem; letter-spacing: .06em; text-transform: uppercase; color: #5b6470;
  margin: 1rem 0 .3rem; }
p { margin: .3rem 0 .7rem; max-width: 76ch; overflow-wrap: anywhere; }
.lead { font-size: 1.05rem; }
section { background: #fff; border: 1px solid #dfe4ea; border-radius: 10px; margin: 18px 0 0;
  padding: 18px 20px; }
code, pre { font-family: ui-monospace, "SF Mono", Menlo, Consolas, "Liberation Mono", monospace; }
code { font-size: .9em; overflow-wrap: anywhere; }
pre { font-size: .86rem; background: #f4f6f9; border: 1px solid #e5e9ef; border-radius: 6px;
  margin: 0; padding: 10px 12px; overflow-x: auto; user-select: all; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .2rem 1.2rem; margin: .6rem 0 0; }
dt { color: #5b6470; }
dd { margin: 0; overflow-wrap: anywhere; }
.grid { display: grid; gap: 6px 14px;
  grid-template-columns: repeat(auto-fill, minmax(min(100%, 280px), 1fr)); }
.grid > *, .one { min-width: 0; }
.table { margin-top: 10px; overflow: auto; max-height: 560px;
  border: 1px solid #e5e9ef; border-radius: 6px; }
table { border-collapse: collapse; width: 100%; font-size: .9rem;
  font-variant-numeric: tabular-nums; }
th { position: sticky; top: 0; background: #eef1f5; text-align: left; white-space: nowrap; }
td code { white-space: nowrap; }
th, td { padding: 5px 12px; border-bottom: 1px solid #eef1f5; }
footer { color: #5b6470; font-size: .85rem; margin-top: 18px; }
@media (max-width: 560px) {
  main { padding: 16px 8px 32px; }
  section { padding: 14px 12px; }
  h1 { font-size: 1.35rem; }
  dl { grid-template-columns: 1fr; gap: 0; }
  dd { margin-bottom: .5rem; }
  th, td { padding: 5px 8px; }
}
""".replace("FONT", FONT)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Table:
    """A table of plain texts.

    Attributes:
        columns: Headings.
        rows: Cells, as many in each row as there are headings.
        code: Headings of the columns that hold functions.
    """

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    code: frozenset[str] = frozenset()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Section:
    """A part of a report. All texts are plain.

    Attributes:
        heading: Its heading.
        text: Paragraphs under the heading.
        code: Titles and texts of blocks that a click selects as a whole.
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
    script = f"<script>{get_plotlyjs()}</script>" if any(s.figures for s in sections) else ""
    opening = "".join(f'<p class="lead">{escaped(each)}</p>' for each in lead)
    listed = "".join(f"<dt>{escaped(k)}</dt><dd>{escaped(v)}</dd>" for k, v in facts.items())
    bodies = [_section(section, index) for index, section in enumerate(sections)]
    return "\n".join(
        (
            '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{escaped(title)}</title>",
            f"<style>{_CSS}</style>",
            script,
            "</head>\n<body>\n<main>",
            f"<header><h1>{escaped(title)}</h1>{opening}<dl>{listed}</dl></header>",
            *bodies,
            "<footer>Written by AQuaSurF for PyTorch. The figures react to the pointer.</footer>",
            "</main>\n</body>\n</html>\n",
        )
    )


def _section(section: Section, index: int) -> str:
    parts = [f"<h2>{escaped(section.heading)}</h2>"]
    parts += [f"<p>{escaped(paragraph)}</p>" for paragraph in section.text]
    for heading, code in section.code.items():
        parts.append(f"<h3>{escaped(heading)}</h3><pre>{escaped(code)}</pre>")
    figures = [
        f"<div>{_figure(each, f'figure-{index}-{place}', tools=len(section.figures) == 1)}</div>"
        for place, each in enumerate(section.figures)
    ]
    if figures:
        kind = "one" if len(figures) == 1 else "grid"
        parts.append(f'<div class="{kind}">{"".join(figures)}</div>')
    if section.table is not None:
        parts.append(_table(section.table))
    return f"<section>{''.join(parts)}</section>"


def _figure(figure: go.Figure, identifier: str, *, tools: bool) -> str:
    shown = go.Figure(figure)
    # In a small figure the row of tools would cover the titles.
    config = {**_CONFIG, "displayModeBar": "hover" if tools else False}
    if shown.layout.title.text is not None:
        # The section's heading says it already.
        shown.update_layout(title=None, margin={"t": 34})
    text: str = plotly.io.to_html(
        shown,
        config=config,
        include_plotlyjs=False,
        full_html=False,
        div_id=identifier,
    )
    return text


def _table(table: Table) -> str:
    head = "".join(f'<th scope="col">{escaped(column)}</th>' for column in table.columns)
    rows = []
    for row in table.rows:
        cells = []
        for column, cell in zip(table.columns, row, strict=True):
            inner = f"<code>{escaped(cell)}</code>" if column in table.code else escaped(cell)
            cells.append(f"<td>{inner}</td>")
        rows.append(f"<tr>{''.join(cells)}</tr>")
    body = f"<thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody>"
    return f'<div class="table" tabindex="0"><table>{body}</table></div>'
