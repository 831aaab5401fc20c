"""Lets the pages link to files of the repository that lie outside `docs/`.

MkDocs publishes what is in `docs/`, but the pages name results, examples and the README too, by
paths that work when they are read in the repository. This hook adds the files that `mkdocs.yml`
lists under `extra: repository:` to the site, in the folder `repository/`, and lets links go there:
Markdown becomes a page, source a page that shows it, and everything else is copied.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit
from xml.etree.ElementTree import Element

from markdown import Markdown
from markdown.extensions import Extension
from markdown.treeprocessors import Treeprocessor
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files, InclusionLevel
from mkdocs.structure.pages import Page

FOLDER = "repository"
"""Where the files from outside `docs/` lie in the site."""

SHOWN_AS = {".py": "python", ".yaml": "yaml", ".toml": "toml", "": "text"}
"""Suffixes of files that get a page with their source, and the language for its colours."""

_INLINE_PRIORITY = 20
_RELATIVE_PATHS_PRIORITY = 0


def site_path(path: str) -> str:
    """Return where a file of the repository stands among the sources of the site.

    Args:
        path: The file's path from the top of the repository.
    """
    if path.startswith("docs/"):
        return path.removeprefix("docs/")
    shown = ".md" if posixpath.splitext(path)[1] in SHOWN_AS else ""
    return f"{FOLDER}/{path}{shown}"


def repository_path(source: str) -> str:
    """Return the path in the repository of a page, the inverse of `site_path`.

    Args:
        source: The page's path among the sources of the site.
    """
    inside = source.removeprefix(f"{FOLDER}/")
    return inside if inside != source else f"docs/{source}"


def rewritten(link: str, source: str) -> str:
    """Return a relative link as it has to read in the site.

    Args:
        link: As it stands in the page, for readers of the repository.
        source: The page's path among the sources of the site.
    """
    parts = urlsplit(link)
    if parts.scheme or parts.netloc or not parts.path or parts.path.startswith("/"):
        return link
    folder = posixpath.dirname(repository_path(source))
    target = site_path(posixpath.normpath(posixpath.join(folder, parts.path)))
    path = posixpath.relpath(target, posixpath.dirname(source) or ".")
    return urlunsplit(parts._replace(path=path))


class _Links(Treeprocessor):
    """Rewrites the links of the page that is being rendered, before MkDocs resolves them."""

    source: str | None = None

    def run(self, root: Element) -> None:
        """Rewrite every link and picture of a page."""
        if self.source is None:
            return
        for element in root.iter():
            for name in ("href", "src"):
                if (link := element.get(name)) is not None:
                    element.set(name, rewritten(link, self.source))


class _RepositoryLinks(Extension):
    def __init__(self) -> None:
        super().__init__()
        self.source: str | None = None

    def extendMarkdown(self, md: Markdown) -> None:  # noqa: N802 - Markdown's name
        """Join the page's conversion, after links are read and before MkDocs resolves them."""
        links = _Links(md)
        links.source = self.source
        priority = (_INLINE_PRIORITY + _RELATIVE_PATHS_PRIORITY) / 2
        md.treeprocessors.register(links, "repository", priority)


_EXTENSION = _RepositoryLinks()


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Add the extension that rewrites links."""
    config.markdown_extensions.append(_EXTENSION)
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the files of the repository that the pages may link to."""
    top = Path(config.config_file_path).parent
    for path in _listed(top, config.extra["repository"]):
        files.append(_file(top, path, config))
    return files


def on_page_markdown(markdown: str, page: Page, **_: object) -> str:
    """Tell the extension which page comes next."""
    _EXTENSION.source = page.file.src_uri
    return markdown


def _listed(top: Path, patterns: list[str]) -> Iterator[str]:
    for pattern in patterns:
        found = sorted(path for path in top.glob(pattern) if path.is_file())
        if not found:
            raise FileNotFoundError(
                f"mkdocs.yml lists {pattern!r} under extra: repository:, but there is no such "
                f"file in {top}"
            )
        yield from (path.relative_to(top).as_posix() for path in found)


def _file(top: Path, path: str, config: MkDocsConfig) -> File:
    name, hidden = site_path(path), InclusionLevel.NOT_IN_NAV
    language = SHOWN_AS.get(posixpath.splitext(path)[1])
    if language is None:
        return File.generated(config, name, abs_src_path=str(top / path), inclusion=hidden)
    source = (top / path).read_text()
    # Five marks, since the source itself may hold a block of three.
    content = (
        f"---\ntitle: {path}\nsearch:\n  exclude: true\n---\n\n"
        f"# {path}\n\n`````{language}\n{source}`````\n"
    )
    return File.generated(config, name, content=content, inclusion=hidden)
