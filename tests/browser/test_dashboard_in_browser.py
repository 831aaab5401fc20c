"""The real optuna-dashboard, in a real browser, shows what `annotate` has written."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple
from urllib.error import URLError

import optuna
import pytest
from optuna.artifacts import FileSystemArtifactStore
from playwright.sync_api import Browser, Page, expect

from aquasurf_optuna import BASELINES, AquaSurfSampler, Expression, SearchSpace
from aquasurf_optuna.dashboard import DashboardNotes, annotate
from tests.aquasurf_optuna.studies import SPACE

SERVER = "from optuna_dashboard._cli import main; main()"
FEW = SearchSpace("binary(unary(x),unary(x))", unary=("relu", "tanh", "elu", "zero"))
# The server answers while two cores are at other work.
PATIENCE = 60.0


class Dashboard(NamedTuple):
    """Where it is, and what it shows."""

    url: str
    best: Expression
    first: str
    pruned: int
    predicted: int

    def study(self, number: int = 1) -> str:
        return f"{self.url}/dashboard/studies/{number}"


def searched(storage: str, store: FileSystemArtifactStore) -> tuple[optuna.Study, int]:
    """A study with the callback, and the number of a pruned trial."""
    sampler = AquaSurfSampler(FEW, seed=0, baselines=BASELINES[:2])
    study = optuna.create_study(
        study_name="one", storage=storage, sampler=sampler, direction="maximize"
    )

    def objective(trial: optuna.Trial) -> float:
        expression = FEW.suggest(trial, "activation")
        trial.set_user_attr("function", str(expression))
        if trial.number == 4:
            trial.report(0.25, 3)
            raise optuna.TrialPruned
        return 1.0 / len(str(expression))

    study.optimize(objective, n_trials=6, callbacks=[DashboardNotes(FEW, artifacts=store)])
    annotate(study, FEW, value_name="accuracy", sampler=sampler, artifacts=store)
    return study, 4


def two_objectives(storage: str) -> None:
    study = optuna.create_study(
        study_name="two",
        storage=storage,
        directions=["maximize", "minimize"],
        sampler=optuna.samplers.RandomSampler(seed=0),
    )

    def objective(trial: optuna.Trial) -> tuple[float, float]:
        text = str(SPACE.suggest(trial, "activation"))
        return float(len(text)), float(trial.number)

    study.optimize(objective, n_trials=8)
    annotate(study, SPACE, value_names=["accuracy", "seconds"])


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def wait_for(url: str, server: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end and server.poll() is None:
        try:
            with urllib.request.urlopen(f"{url}/dashboard", timeout=5):
                return
        except (URLError, TimeoutError, ConnectionError):
            time.sleep(0.2)
    raise AssertionError(f"optuna-dashboard did not answer; its exit code is {server.poll()}")


@pytest.fixture(scope="module")
def dashboard(tmp_path_factory: pytest.TempPathFactory, browser: Browser) -> Iterator[Dashboard]:
    # With the browser among the fixtures nothing is searched where there is none.
    folder: Path = tmp_path_factory.mktemp("dashboard")
    storage, pictures = f"sqlite:///{folder / 'study.db'}", folder / "pictures"
    pictures.mkdir()
    study, pruned = searched(storage, FileSystemArtifactStore(pictures))
    two_objectives(storage)
    port = free_port()
    words = [storage, "--host", "127.0.0.1", "--port", str(port), "--artifact-dir", str(pictures)]
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen(
            [sys.executable, "-c", SERVER, *words, "--server", "wsgiref"], stdout=log, stderr=log
        )
        try:
            url = f"http://127.0.0.1:{port}"
            wait_for(url, server)
            best = FEW.expression_of(study.best_params, "activation")
            first = study.trials[0].user_attrs["function"]
            yield Dashboard(url, best, first, pruned, predicted=5)
        finally:
            server.terminate()
            server.wait(timeout=30)


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    page = browser.new_page(viewport={"width": 1300, "height": 1400})
    page.set_default_timeout(1000 * PATIENCE)
    problems: list[str] = []
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on(
        "console",
        lambda said: problems.append(said.text) if said.type == "error" else None,
    )
    yield page
    page.close()
    assert problems == []


def shown(page: Page, text: str) -> None:
    expect(page.get_by_text(text).first).to_be_visible(timeout=1000 * PATIENCE)


def plot_titles(page: Page, n: int) -> list[str]:
    plots = page.locator("[id^='user-defined-plot:'] .gtitle")
    expect(plots).to_have_count(n, timeout=1000 * PATIENCE)
    return sorted(plots.all_text_contents())


def test_the_studys_page_shows_the_figures(page: Page, dashboard: Dashboard) -> None:
    page.goto(dashboard.study())
    titles = plot_titles(page, 6)
    assert [title.partition(" (")[0] for title in titles] == [
        "Embedding of the candidates",
        "How the functions turned out",
        "Operators",
        "Predicted and measured",
        "Search progress",
        "The best function so far",
    ]


def test_no_figure_covers_another(page: Page, dashboard: Dashboard) -> None:
    page.goto(dashboard.study())
    plot_titles(page, 6)
    heights = page.locator("[id^='user-defined-plot:']").evaluate_all(
        "boxes => boxes.map(box => [box.clientHeight, box.querySelector('.main-svg').clientHeight])"
    )
    assert len(heights) == 6
    assert all(0 < inner <= outer for outer, inner in heights)


def test_the_studys_page_says_what_parameters_are(page: Page, dashboard: Dashboard) -> None:
    page.goto(dashboard.study())
    shown(page, "outermost operator, binary")
    shown(page, "second argument of activation.0, unary of x")


def test_the_studys_note_is_shown(page: Page, dashboard: Dashboard) -> None:
    page.goto(f"{dashboard.study()}/note")
    heading = page.get_by_role("heading", name="The best function so far: accuracy")
    expect(heading).to_be_visible(timeout=1000 * PATIENCE)
    shown(page, f'Activation("{dashboard.best}")')
    cells = page.get_by_role("cell", name="outermost operator, binary")
    expect(cells).to_be_visible()
    assert_picture(page)
    # The marks around our part, and no Markdown, are to be seen.
    text = page.locator("body").inner_text()
    for hidden in ("[//]", "**", "```", "| ---"):
        assert hidden not in text


def assert_picture(page: Page) -> None:
    picture = page.get_by_alt_text("The function and its derivative")
    expect(picture).to_be_visible(timeout=1000 * PATIENCE)
    page.wait_for_function(
        "picture => picture.complete && picture.naturalWidth > 400", arg=picture.element_handle()
    )


def test_a_trials_note_and_picture_are_shown(page: Page, dashboard: Dashboard) -> None:
    page.goto(f"{dashboard.study()}/trials?numbers={dashboard.predicted}")
    shown(page, "why it was proposed: ranked best by the surrogate")
    shown(page, "predicted: ")
    assert_picture(page)
    shown(page, "activation.png")


def test_a_trial_names_its_function_where_the_objective_said_so(
    page: Page, dashboard: Dashboard
) -> None:
    page.goto(f"{dashboard.study()}/trials?numbers=0")
    shown(page, f"function {dashboard.first}")


def test_a_pruned_trial_says_why(page: Page, dashboard: Dashboard) -> None:
    page.goto(f"{dashboard.study()}/trials?numbers={dashboard.pruned}")
    shown(page, "pruned: at step 3, where it had 0.2500")


def test_several_objectives_show_the_front(page: Page, dashboard: Dashboard) -> None:
    page.goto(dashboard.study(2))
    assert plot_titles(page, 1) == ["Pareto front"]
    page.goto(f"{dashboard.study(2)}/note")
    header = page.get_by_role("columnheader", name="seconds, minimize")
    expect(header).to_be_visible(timeout=1000 * PATIENCE)
