"""Reads the links of Markdown and of HTML files, and says which lead nowhere."""

import functools
import re
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

from markdown.extensions.toc import slugify

_FENCED = re.compile(r"^( *)(`{3,}).*?^\1\2`*$", re.MULTILINE | re.DOTALL)
_INLINE_CODE = re.compile(r"(`+)(?:.*?[^`])\1(?!`)", re.DOTALL)
_MARKDOWN_LINK = re.compile(r"\]\(([^()\s]+)\)")
_HEADING = re.compile(r"^#+ +(.*?) *$", re.MULTILINE)
_LOADING = {"script": "src", "img": "src", "iframe": "src", "source": "src", "link": "href"}


class _Page(HTMLParser):
    """Collects what a page can be linked at, what it links to, and what it loads."""

    def __init__(self) -> None:
        super().__init__()
        self.anchors: set[str] = set()
        self.links: list[str] = []
        self.loaded: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value for name, value in attrs if value}
        self.anchors |= {given[name] for name in ("id", "name") if name in given}
        self.links += [given[name] for name in ("href", "src") if name in given]
        if (name := _LOADING.get(tag, "")) in given:
            self.loaded.append(given[name])


@functools.cache  # the pages of a site link to each other many times
def parsed(path: Path) -> _Page:
    """Read an HTML file, once."""
    page = _Page()
    page.feed(path.read_text())
    return page


def markdown_links(text: str) -> list[str]:
    """The targets of links and pictures, those in code left out."""
    return _MARKDOWN_LINK.findall(_INLINE_CODE.sub("code", _FENCED.sub("", text)))


def markdown_anchors(text: str) -> set[str]:
    """The anchors that MkDocs gives to the headings."""
    anchors: set[str] = set()
    for heading in _HEADING.findall(_FENCED.sub("", text)):
        shown = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading.replace("`", ""))
        anchor = once = slugify(shown, "-")
        number = 0
        while anchor in anchors:
            number += 1
            anchor = f"{once}_{number}"
        anchors.add(anchor)
    return anchors


def broken_links(path: Path) -> list[str]:
    """The relative links of a Markdown or HTML file that lead to no file, or to no anchor."""
    links = parsed(path).links if path.suffix == ".html" else markdown_links(path.read_text())
    return [f"{path}: {link}" for link in links if not _leads_somewhere(path, link)]


def _leads_somewhere(path: Path, link: str) -> bool:
    parts = urlsplit(link)
    if parts.scheme or parts.netloc:
        return True
    target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
    if not target.exists():
        return False
    if not parts.fragment:
        return True
    anchor = unquote(parts.fragment)
    if target.suffix == ".html":
        return anchor in parsed(target).anchors
    return target.suffix == ".md" and anchor in markdown_anchors(target.read_text())
