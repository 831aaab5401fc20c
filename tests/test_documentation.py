"""The documentation builds without a warning, its links lead somewhere, and its code runs."""

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

import aquasurf_optuna
from aquasurf_optuna import benchmark, surrogate, visualization
from tests.links import broken_links, markdown_anchors, markdown_links, parsed

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
SOURCES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *PAGES]
PACKAGES = ("aquasurf_optuna", "lightning_modules")


# The site.


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    # Material speaks of another builder of its makers at each run, unless told not to.
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    said = [line for line in done.stderr.splitlines() if not line.startswith("INFO ")]
    assert not [line for line in said if line.strip()], done.stderr
    return folder


def test_the_site_has_every_page(site: Path) -> None:
    for page in PAGES:
        assert (site / page.relative_to(DOCS).with_suffix(".html")).exists()
    assert not list(site.rglob("*.py"))
    assert (site / "repository/examples/own_script.py.html").exists()


def test_links_of_the_site_lead_somewhere(site: Path) -> None:
    pages = [page for page in site.rglob("*.html") if page.name != "404.html"]
    assert len(pages) > len(PAGES)
    assert [broken for page in pages for broken in broken_links(page)] == []


def test_the_site_loads_nothing_from_a_network(site: Path) -> None:
    loaded = {link for page in site.rglob("*.html") for link in parsed(page).loaded}
    assert any(link.endswith(".css") for link in loaded)
    assert not [link for link in loaded if re.match(r"(https?:)?//", link)]


def test_the_reference_has_every_public_name(site: Path) -> None:
    anchors: set[str] = set()
    for page in (site / "api").rglob("*.html"):
        anchors |= parsed(page).anchors
    described = {anchor.rpartition(".")[2] for anchor in anchors}
    for module in (aquasurf_optuna, visualization, surrogate, benchmark):
        # A module has a page, and no heading of its own.
        names = [n for n in module.__all__ if not isinstance(getattr(module, n), ModuleType)]
        assert [name for name in names if name not in described] == []


def public_modules(package: str) -> list[str]:
    """Modules whose name has no underscore; packages count where they do not only hold others."""
    names = []
    for path in sorted((ROOT / package).rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        if not any(part.startswith("_") for part in name.split(".")):
            names.append(name)
    return names


@pytest.mark.parametrize("package", PACKAGES)
def test_every_public_module_has_a_page_in_the_reference(package: str) -> None:
    described = set()
    for page in (DOCS / "api").rglob("*.md"):
        described |= set(re.findall(r"^::: (\S+)$", page.read_text(), flags=re.MULTILINE))
    # Packages that re-export what is in their modules stand for these.
    whole = {f"lightning_modules.{name}" for name in ("callbacks", "data", "models")}
    for name in public_modules(package):
        only_holds_others = name in (package, "aquasurf_optuna.features")
        if not only_holds_others and name.rpartition(".")[0] not in whole:
            assert name in described


def test_docstrings_become_markdown() -> None:
    hook = hook_of("docstrings")
    table = ["==== ====", "a    b", "==== ====", "``x`` one", "     two", "==== ===="]
    assert [line for line in hook.as_markdown(["See :class:`A`::", *table]) if line] == [
        "See `A`:", "| a | b |", "| --- | --- |", "| ``x`` | one two |",
    ]  # fmt: skip
    plain = ["Title", "=====", "::: module", "a::b", "==== ====", "no end"]
    assert hook.as_markdown(plain) == plain


def test_links_out_of_the_documentation_become_links_of_the_site() -> None:
    rewritten = hook_of("repository").rewritten
    for link, source, expected in (
        ("../README.md#use-it", "method.md", "repository/README.md#use-it"),
        ("../sampler.md", "api/index.md", "../sampler.md"),
        ("../../examples/own_script.py", "api/index.md", "../repository/examples/own_script.py.md"),
        ("docs/sampler.md", "repository/README.md", "../sampler.md"),
        ("figure1.png", "repository/benchmarks/results/figure1.md", "figure1.png"),
        ("scaling.md#a", "sampler.md", "scaling.md#a"),
        ("#here", "sampler.md", "#here"),
        ("https://optuna.org/x.md", "index.md", "https://optuna.org/x.md"),
    ):
        assert rewritten(link, source) == expected


def hook_of(name: str) -> ModuleType:
    """Load a hook of MkDocs, which lies in no package."""
    spec = importlib.util.spec_from_file_location(name, DOCS / "hooks" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# Links.


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(path: Path) -> None:
    assert broken_links(path) == []


def test_a_broken_link_is_noticed(tmp_path: Path) -> None:
    page, other = tmp_path / "page.md", tmp_path / "other.md"
    other.write_text("# One `two`\n\n## One two\n")
    page.write_text(
        "[a](other.md) [b](other.md#one-two) [c](other.md#one-two_1) [d](https://x.org/gone)\n"
        "`[code](gone.md)`\n\n```\n[code](gone.md)\n```\n\n[e](gone.md) ![f](gone.png)\n"
        "[g](other.md#three) [h](#nowhere)\n"
    )
    assert [each.rpartition(" ")[2] for each in broken_links(page)] == [
        "gone.md", "gone.png", "other.md#three", "#nowhere",
    ]  # fmt: skip
    html = tmp_path / "page.html"
    html.write_text(
        '<a href="#a" id="a"></a><a href="#b"></a><img src="gone.png"><a href="page.md">'
    )
    assert [each.rpartition(" ")[2] for each in broken_links(html)] == ["#b", "gone.png"]


def test_what_a_heading_can_be_linked_at() -> None:
    assert markdown_anchors("# A [b](c.md)!\n```\n# no\n```\n") == {"a-b"}
    assert markdown_links("![a](b.png) [c `d`](e.md#f)") == ["b.png", "e.md#f"]
