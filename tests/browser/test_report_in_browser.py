"""A report in a real browser: it draws, sorts, filters, copies and follows the theme."""

import re
from collections.abc import Iterator
from pathlib import Path

import optuna
import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, expect

from aquasurf_optuna.benchmark import ActBench
from aquasurf_optuna.report import study_report
from aquasurf_optuna.sampler import AquaSurfSampler

PAPER_LIGHT, PAPER_DARK = "rgb(255, 255, 255)", "rgb(27, 34, 43)"


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    bench = ActBench.load("act-bench-digits-cnn")
    sampler = AquaSurfSampler(
        bench.space, features=bench.features, surrogate="gp", pool_size=60, seed=0
    )
    study = optuna.create_study(direction="maximize", sampler=sampler, study_name="digits")

    def objective(trial: optuna.Trial) -> float:
        value = bench.objective(trial)
        if trial.number % 10 == 9:
            raise optuna.TrialPruned
        return value

    study.optimize(objective, n_trials=30)
    path = tmp_path_factory.mktemp("report") / "report.html"
    return study_report(path, study, bench.space, sampler=sampler, value_name="accuracy")


@pytest.fixture
def page(browser: Browser, report: Path) -> Iterator[Page]:
    context = browser.new_context(
        viewport={"width": 1000, "height": 800}, permissions=["clipboard-read", "clipboard-write"]
    )
    page = context.new_page()
    told: list[str] = []

    def note(message: ConsoleMessage) -> None:
        told.append(f"{message.type}: {message.text}")

    page.on("console", note)
    page.on("pageerror", lambda error: told.append(str(error)))
    page.goto(report.as_uri())
    page.wait_for_selector(":root[data-drawn]")
    yield page
    context.close()
    assert told == []


def column(page: Page, number: int) -> list[str]:
    cells = page.locator(f"{TRIALS} tbody tr:visible td:nth-child({number})")
    return cells.all_text_contents()


TRIALS = "[aria-label='All trials, table']"


def test_every_figure_is_drawn(page: Page) -> None:
    figures = page.locator("figure")
    assert figures.count() == 4 + 9
    assert page.locator("figure .main-svg").count() >= figures.count()
    assert page.locator("figure .scatterlayer .point").count() > 30
    names = [figure.get_attribute("aria-label") for figure in figures.all()]
    assert len(set(names)) == len(names)


def test_nothing_is_wider_than_a_narrow_window(page: Page) -> None:
    page.set_viewport_size({"width": 400, "height": 800})
    page.wait_for_timeout(300)
    assert page.evaluate("document.documentElement.scrollWidth") <= 400


def test_a_column_sorts_both_ways_and_what_is_missing_stays_last(page: Page) -> None:
    button = page.locator(TRIALS).get_by_role("button", name="accuracy", exact=True)
    own = page.get_by_role("button", name="accuracy", exact=True)
    head = page.locator(f"{TRIALS} th").filter(has=own)
    for order in ("ascending", "descending"):
        button.click()
        assert head.get_attribute("aria-sort") == order
        shown = column(page, 4)
        values = [float(text) for text in shown if text != "-"]
        assert values == sorted(values, reverse=order == "descending")
        assert shown[-3:] == ["-"] * 3
    assert len(shown) == 30


def test_the_keyboard_alone_sorts(page: Page) -> None:
    page.locator(TRIALS).get_by_role("button", name="function", exact=True).focus()
    page.keyboard.press("Enter")
    shown = column(page, 2)
    assert shown == sorted(shown)
    assert "Sorted by function, ascending" in page.locator("#said").inner_text()


def test_rows_are_filtered_by_text_and_by_state(page: Page) -> None:
    section = page.locator("section", has=page.locator(TRIALS))
    section.get_by_role("searchbox").fill("SELU")
    shown = column(page, 2)
    assert 0 < len(shown) < 30
    known = column(page, 5)
    assert all("selu" in f"{a} {b}".lower() for a, b in zip(shown, known, strict=True))
    assert section.get_by_role("status").inner_text() == f"{len(shown)} of 30 rows"
    section.get_by_role("searchbox").fill("")
    section.get_by_role("combobox").select_option("pruned")
    assert column(page, 6) == ["pruned"] * 3
    section.get_by_role("searchbox").fill("no such function")
    assert section.get_by_role("status").inner_text() == "0 of 30 rows"


@pytest.mark.parametrize("label", ["Python", "LaTeX", "YAML"])
def test_a_function_is_copied(page: Page, label: str) -> None:
    function = column(page, 2)[0]
    page.get_by_role("button", name=f"Copy {label} of {function}", exact=True).first.click()
    expect(page.locator("#said")).to_have_text(re.compile("^Copied"))
    copied = page.evaluate("navigator.clipboard.readText()")
    expected = {"Python": f'Activation("{function}")', "YAML": f'activation: "{function}"'}
    assert copied == expected.get(label, copied)
    assert label != "LaTeX" or ("\\text" in copied and "(x)" not in copied.split("\\text")[0])


def test_a_block_is_copied_where_the_clipboard_is_forbidden(browser: Browser, report: Path) -> None:
    context = browser.new_context()
    page = context.new_page()
    page.goto(report.as_uri())
    page.evaluate(
        "Object.defineProperty(navigator, 'clipboard', {value: {writeText: () => { throw 1; }}})"
    )
    page.evaluate(
        "document.addEventListener('copy', () => { window.taken = getSelection() + ''; })"
    )
    page.get_by_role("button", name="Copy Expression", exact=True).click()
    expect(page.locator("#said")).to_have_text("Copied Expression")
    context.close()


def test_the_theme_is_the_systems_until_one_is_chosen(page: Page) -> None:
    paper = "getComputedStyle(document.querySelector('section')).backgroundColor"
    ink = "document.querySelector('figure .main-svg').style.background"
    assert (page.evaluate(paper), page.evaluate(ink)) == (PAPER_LIGHT, PAPER_LIGHT)
    page.emulate_media(color_scheme="dark")
    page.wait_for_selector(":root[data-drawn=dark]")
    assert (page.evaluate(paper), page.evaluate(ink)) == (PAPER_DARK, PAPER_DARK)
    button = page.get_by_role("button", name="Theme")
    button.click()
    assert button.inner_text() == "Theme: light"
    page.wait_for_selector(":root[data-drawn=light]")
    assert (page.evaluate(paper), page.evaluate(ink)) == (PAPER_LIGHT, PAPER_LIGHT)


def test_a_browser_without_decompression_says_so(browser: Browser, report: Path) -> None:
    context = browser.new_context()
    page = context.new_page()
    page.add_init_script("delete window.DecompressionStream")
    page.goto(report.as_uri())
    first = page.locator("figure > div").first
    expect(first).not_to_be_empty()
    assert "This browser cannot draw the figure" in first.inner_text()
    assert page.locator(f"{TRIALS} tbody tr").count() == 30
    context.close()
