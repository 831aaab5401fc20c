from __future__ import annotations

import base64
import gzip
import json
import math
import re
from pathlib import Path

import numpy as np
import optuna
import plotly.graph_objects as go
import pytest
from numpy.typing import NDArray
from optuna.trial import TrialState, create_trial
from plotly.offline import get_plotlyjs

from aquasurf_optuna._explanation import EXPLANATION_KEY
from aquasurf_optuna.catalogue import Catalogue
from aquasurf_optuna.exceptions import AquaSurfError, SamplerError, SpaceError
from aquasurf_optuna.expression import Expression
from aquasurf_optuna.families import RationalFamily
from aquasurf_optuna.report import (
    Section,
    Table,
    function_section,
    source_section,
    study_report,
    write_report,
)
from aquasurf_optuna.sampler import AquaSurfSampler
from aquasurf_optuna.space import SearchSpace
from aquasurf_optuna.surrogate import Surrogate
from aquasurf_optuna.surrogate._observations import Observations
from tests.aquasurf_optuna.studies import FOUND, OTHER, RELU, SPACE, TANH, Page, study_of

HOSTILE = "</script><script>alert(1)</script><img src=x onerror='alert(2)'>&"


def read(path: Path) -> Page:
    return Page(path.read_text(encoding="utf-8"))


def own_part(page: Page) -> str:
    """The page without the library that it carries."""
    [packed] = re.findall(r'<script type="application/octet-stream".*?</script>', page.source)
    return page.source.replace(packed, "")


def figures(page: Page) -> int:
    return own_part(page).count("<figure ")


def test_the_library_that_a_page_carries_is_plotlys(page: Page) -> None:
    [packed] = re.findall(r'id="plotly">(.*?)<', page.source)
    assert gzip.decompress(base64.b64decode(packed)).decode() == get_plotlyjs()


class Line(Surrogate):
    """A surrogate that is done at once: functions on a line, by their mean output."""

    def __init__(self, features: str = "outputs", random_state: int = 0) -> None:
        self.features = features
        self.random_state = random_state

    @property
    def embedding_(self) -> NDArray[np.float64]:
        values = self._parts["outputs"].astype(np.float64).mean(axis=1)
        return np.stack([values, np.zeros_like(values)], axis=1)

    def _place(self) -> None:
        pass

    def _placed_more(self, new: dict[str, NDArray[np.float32]]) -> None:
        pass

    def _learn(self, observations: Observations) -> None:
        pass

    def _predicted(self, rows: NDArray[np.intp]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        mean = self.embedding_[rows, 0]
        return mean, np.full(len(mean), np.nan)


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Page:
    comparison = {FOUND: [0.79, 0.81], "relu(x)": [0.6, 0.62], "tanh(x)": [0.7, math.nan]}
    path = tmp_path_factory.mktemp("report") / "report.html"
    written = study_report(
        path, study_of(name="digits"), SPACE, value_name="accuracy", comparison=comparison
    )
    assert written == path
    return read(path)


def test_the_report_needs_nothing_else(page: Page) -> None:
    assert page.loads() == []
    assert not {"link", "iframe", "object", "embed", "img"} & {tag for tag, _ in page.tags}
    [policy] = [a["content"] for _, a in page.tags if "http-equiv" in a]
    assert policy is not None
    assert policy.startswith("default-src 'none'")
    assert "http" not in policy
    assert "://" not in own_part(page)


def test_the_pages_reader_notices_what_a_page_loads() -> None:
    assert Page('<script src="https://a.b/c.js"></script><link href="x">').loads() == [
        "https://a.b/c.js",
        "x",
    ]


def test_no_button_uploads_data(page: Page) -> None:
    [text] = re.findall(r'id="settings">(.*?)</script>', page.source)
    config = json.loads(text)["config"]
    assert config["showSendToCloud"] is False
    assert config["modeBarButtons"] == [["toImage"], ["zoom2d", "pan2d", "resetScale2d"]]


def test_what_the_report_says(page: Page) -> None:
    text = page.text()
    assert "Activation function search: digits" in text
    assert f"The best function is {FOUND}, with accuracy 0.8000; the best baseline, Tanh" in text
    assert (
        "On fresh seeds the found function has test accuracy 0.8000 ± 0.0141, place 1 of 3; the "
        "best other one, Tanh, has 0.7000."
    ) in text
    assert "7 (4 complete, 1 pruned, 1 not finite, 1 failed)" in text
    assert f'activation = Activation("{FOUND}")' in text
    assert Expression.parse(FOUND).latex() in text
    headings = [
        "The function found",
        "Comparison on fresh seeds",
        "Search progress",
        "All values",
        "The best functions",
        "All trials",
    ]
    places = [text.index(heading) for heading in headings]
    assert places == sorted(places)
    assert figures(page) == 3 + 4


def test_the_snippet_of_the_report_runs(page: Page) -> None:
    start = page.text().index("from aquasurf_optuna import")
    snippet = page.text()[start:].split("In a LightningCLI")[0]
    names: dict[str, object] = {}
    exec(snippet, names)
    assert str(getattr(names["activation"], "expression", None)) == FOUND


def table(page: Page, caption: str) -> list[list[str]]:
    """The cells of a table of a page."""
    body = page.source.split(f">{caption}</caption>")[1].split("</tbody>")[0].split("<tbody>")[1]
    return [
        [re.sub("<.*?>", "", cell) for cell in re.findall("<td>(.*?)</td>", row)]
        for row in re.findall("<tr.*?>(.*?)</tr>", body)
    ]


def test_the_table_of_trials(tmp_path: Path) -> None:
    path = study_report(tmp_path / "r.html", study_of(direction="minimize"), SPACE)
    assert table(read(path), "All trials") == [
        ["1", RELU, "0.6000", "ReLU", "complete", "0", "0"],
        ["2", OTHER, "0.6500", "", "complete", "0", "3"],
        ["3", TANH, "0.7000", "Tanh", "complete", "0", "1"],
        ["4", FOUND, "0.8000", "", "complete", "0", "4"],
        ["-", OTHER, "-", "", "pruned", "0", "2"],
        ["-", "sub(elu(x),cosh(x))", "-", "", "not finite", "0", "5"],
        ["-", "unknown", "-", "", "failed", "0", "6"],
    ]


def test_a_search_that_found_nothing_better_says_so(tmp_path: Path) -> None:
    path = study_report(tmp_path / "r.html", study_of(direction="minimize"), SPACE)
    assert "it equals ReLU, so nothing better than the baselines yet" in read(path).text()


@pytest.mark.parametrize(
    ("comparison", "sentence"),
    [
        (
            {FOUND: [0.5], "relu(x)": [0.6]},
            "0.5000, place 2 of 2; the best other one, ReLU, has 0.6",
        ),
        ({"relu(x)": [0.6]}, "On fresh seeds ReLU has the best test accuracy: 0.6000."),
        ({FOUND: [0.5, 0.7]}, "the found function has test accuracy 0.6000 ± 0.1414."),
    ],
)
def test_the_comparison_is_told_whichever_wins(
    tmp_path: Path, comparison: dict[str, list[float]], sentence: str
) -> None:
    path = study_report(tmp_path / "r.html", study_of(), SPACE, comparison=comparison)
    assert sentence in read(path).text()


def test_hostile_texts_stay_text(tmp_path: Path) -> None:
    path = study_report(
        tmp_path / "r.html",
        study_of(name=HOSTILE),
        SPACE,
        value_name=HOSTILE,
        comparison={FOUND: [0.5]},
        comparison_name=HOSTILE,
    )
    page = read(path)
    assert HOSTILE in page.text()
    assert HOSTILE not in page.source
    assert page.source.count("<script") == read_plain(tmp_path).source.count("<script")
    assert not [tag for tag, _ in page.tags if tag == "img"]
    assert page.loads() == []


def read_plain(folder: Path) -> Page:
    return read(study_report(folder / "p.html", study_of(), SPACE, comparison={FOUND: [0.5]}))


def test_hostile_texts_in_a_section_stay_text(tmp_path: Path) -> None:
    section = Section(
        heading=HOSTILE,
        text=[HOSTILE],
        code={HOSTILE: HOSTILE},
        figures=[go.Figure(layout={"title": HOSTILE})],
        table=Table(columns=[HOSTILE], rows=[[HOSTILE]], code=frozenset({HOSTILE})),
    )
    path = write_report(
        tmp_path / "r.html",
        title=HOSTILE,
        lead=[HOSTILE],
        facts={HOSTILE: HOSTILE},
        sections=[section],
    )
    page = read(path)
    assert HOSTILE not in page.source
    assert page.text().count(HOSTILE) == 12
    assert not [tag for tag, _ in page.tags if tag == "img"]


def test_a_report_without_figures_is_small(tmp_path: Path) -> None:
    path = write_report(tmp_path / "r.html", title="A title")
    assert path.stat().st_size < 20_000


def test_a_ragged_table_is_refused(tmp_path: Path) -> None:
    table = Table(columns=["a", "b"], rows=[["1"]])
    with pytest.raises(ValueError, match="argument 2 is shorter"):
        write_report(tmp_path / "r.html", title="t", sections=[Section(heading="h", table=table)])


def test_the_figure_that_is_passed_in_stays_as_it_is(tmp_path: Path) -> None:
    figure = go.Figure(layout={"title": "kept", "margin": {"t": 99}})
    before = figure.to_dict()
    write_report(tmp_path / "r.html", title="t", sections=[Section(heading="h", figures=[figure])])
    assert figure.to_dict() == before


def test_folders_are_made_and_an_old_report_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "r.html"
    write_report(path, title="first")
    write_report(str(path), title="second")
    assert "<title>second</title>" in path.read_text()
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("method", ["write_bytes", "replace"])
def test_a_failure_leaves_the_old_report_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    path = write_report(tmp_path / "r.html", title="old")

    def half_written(self: Path, *arguments: object, **options: object) -> None:
        if method == "write_bytes":
            self.write_text("<!DOCTYPE html><ti")
        raise OSError("no space left on device")

    monkeypatch.setattr(Path, method, half_written)
    with pytest.raises(OSError, match="no space left"):
        write_report(path, title="new")
    monkeypatch.undo()
    assert list(tmp_path.iterdir()) == [path]
    assert "<title>old</title>" in path.read_text()


def test_a_folder_is_no_place_for_a_report(tmp_path: Path) -> None:
    with pytest.raises(IsADirectoryError, match="a report is a file, but this is a folder"):
        write_report(tmp_path, title="t")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("rows", [[], [(RELU, TrialState.FAIL)]])
def test_a_study_without_results(tmp_path: Path, rows: list[tuple[str, TrialState]]) -> None:
    path = study_report(tmp_path / "r.html", study_of(rows), SPACE, comparison={"relu(x)": [0.5]})
    text = read(path).text()
    assert "No trial is complete yet." in text
    assert "All trials" in text
    assert "The best functions" not in text
    assert "The function found" not in text


def test_equal_functions_are_drawn_once(tmp_path: Path) -> None:
    rows = [(RELU, 0.6), ("add(relu(x),zero(x))", 0.61), (FOUND, 0.7)]
    assert figures(read(study_report(tmp_path / "r.html", study_of(rows), SPACE))) == 2 + 2


def test_a_report_draws_no_more_than_nine_functions(tmp_path: Path) -> None:
    unary = (
        "tanh",
        "erf",
        "elu",
        "swish",
        "cosh",
        "exp",
        "softplus",
        "softsign",
        "selu",
        "sigmoid",
    )
    rows = [(f"add({name}(x),zero(x))", 0.5) for name in unary]
    assert figures(read(study_report(tmp_path / "r.html", study_of(rows), SPACE))) == 2 + 9


def test_the_embedding_of_a_sampler(tmp_path: Path) -> None:
    space = SearchSpace("binary(unary(x),unary(x))", unary=("relu", "tanh", "one"))
    catalogue = Catalogue.of(space)
    sampler = AquaSurfSampler(
        space, catalogue=catalogue, surrogate=Line(), pool_size=20, seed=0, baselines=["relu(x)"]
    )
    study = optuna.create_study(direction="maximize", sampler=sampler)

    def objective(trial: optuna.Trial) -> float:
        expression = space.suggest(trial, "activation")
        if trial.number == 2:
            raise optuna.TrialPruned
        return float(np.tanh(catalogue.class_of(expression)))

    study.optimize(objective, n_trials=5)
    path = study_report(tmp_path / "r.html", study, space, sampler=sampler)
    page = read(path)
    assert "Where the candidates are" in page.text()
    own = own_part(page)
    assert '"failed or pruned"' in own
    assert '"tried"' in own
    with pytest.raises(SamplerError, match="name must be one of the activations"):
        study_report(tmp_path / "s.html", study_of([]), SPACE, name="other", sampler=sampler)
    assert not (tmp_path / "s.html").exists()


def test_errors_come_before_anything_is_written(tmp_path: Path) -> None:
    path = tmp_path / "r.html"
    with pytest.raises(SpaceError, match="no trial has an activation named 'other'"):
        study_report(path, study_of(), SPACE, name="other")
    with pytest.raises(AquaSurfError, match=r"one of the spaces \['head'\], but got 'activation'"):
        study_report(path, study_of(), {"head": SPACE})
    assert list(tmp_path.iterdir()) == []


def test_a_function_chosen_by_further_runs_is_the_one_handed_over(tmp_path: Path) -> None:
    comparison = {OTHER: [0.5, 0.7], "relu(x)": [0.4, 0.4]}
    path = tmp_path / "r.html"
    text = read(study_report(path, study_of(), SPACE, found=OTHER, comparison=comparison)).text()
    assert f'activation = Activation("{OTHER}")' in text
    assert f'activation = Activation("{FOUND}")' not in text
    assert "On fresh seeds the found function has test accuracy 0.6" in text


def test_a_study_of_a_continuous_family(tmp_path: Path) -> None:
    family = RationalFamily()
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    study.optimize(lambda trial: family.suggest(trial, "f").node_count / 9, n_trials=3)
    text = read(study_report(tmp_path / "r.html", study, family, name="f")).text()
    assert "RationalFamily(numerator_degree=5, denominator_degree=4, bound=1.0)" in text
    assert str(family.expression_of(study.best_params, "f")) in text
    with pytest.raises(SpaceError, match=r"no trial has an activation named 'g' .*'g\.a0'"):
        study_report(tmp_path / "r.html", study, family, name="g")


def test_the_function_found_is_simplified_and_leaves_as_source() -> None:
    found = Expression.parse("swish(sub(negative(x),identity(x)))")
    section = function_section(found)
    assert section.code["Simplified"] == "swish(mul(-2,x))"
    assert section.code["Formula in LaTeX"] == r"\text{Swish}(-2x)"
    assert "Simplified" not in function_section(Expression.parse("relu(x)")).code
    sources = source_section(found).code
    assert list(sources) == ["PyTorch, without this package", "NumPy", "JAX", "Keras"]
    assert all("def activation(x" in source for source in sources.values())


def test_what_was_predicted_is_shown_where_it_is_kept(tmp_path: Path) -> None:
    study = study_of([(RELU, 0.6)])
    assert (
        "How well it predicted" not in read(study_report(tmp_path / "r.html", study, SPACE)).text()
    )
    study.add_trial(
        create_trial(
            value=0.7,
            params=SPACE.params_of(Expression.parse(FOUND), "activation"),
            distributions={**SPACE.distributions("activation")},
            system_attrs={EXPLANATION_KEY: {"why": "predicted", "value": [0.65], "sd": [0.1]}},
        )
    )
    page = read(study_report(tmp_path / "r.html", study, SPACE))
    assert "How well it predicted" in page.text()
    assert "1 of 1 within their 95% interval" in page.source
    assert figures(page) == 3 + 2
