"""The report of a study with several objectives."""

from pathlib import Path

import optuna
import pytest
from optuna.trial import create_trial

from aquasurf_optuna.exceptions import AquaSurfError
from aquasurf_optuna.report import study_report
from tests.aquasurf_optuna.studies import FOUND, OTHER, RELU, SPACE, TANH, Page

VALUES = {RELU: [0.6, 2.0, 1.0, 5.0], FOUND: [0.8, 7.0, 1.0, 5.0], OTHER: [0.5, 9.0, 1.0, 5.0]}


def study_of(n_objectives: int) -> optuna.Study:
    directions = ["maximize", *["minimize"] * (n_objectives - 1)]
    study = optuna.create_study(directions=directions, study_name="several <aims>")
    for text, values in VALUES.items():
        study.add_trial(
            create_trial(
                values=values[:n_objectives],
                params=SPACE.params_of(text, "activation"),
                distributions={**SPACE.distributions("activation")},
            )
        )
    return study


def page_of(path: Path, study: optuna.Study, **options: object) -> Page:
    return Page(study_report(path, study, SPACE, **options).read_text())  # type: ignore[arg-type]  # any of its options


@pytest.mark.parametrize("n_objectives", [2, 3, 4])
def test_the_front_comes_out_as_functions(tmp_path: Path, n_objectives: int) -> None:
    names = ["accuracy", "cost", "size", "age"][:n_objectives]
    page = page_of(tmp_path / "r.html", study_of(n_objectives), value_names=names)
    text = page.text()

    assert "Activation function search: several <aims>" in text
    assert "Of 3 complete trials 2 are on the Pareto front, with 2 different functions." in text
    best = f"The best in each objective: accuracy 0.8000 by {FOUND}; cost 2.000 by ReLU"
    assert best in text
    assert "maximize accuracy, minimize cost" in text
    # All trials, those of the front twice.
    cells = [line.strip() for line in page.texts]
    assert [cells.count(each) for each in (RELU, FOUND, OTHER)] == [2, 2, 1]
    # There is no figure of four objectives.
    figures = page.source.count("<figure ")
    assert figures == int(n_objectives <= 3)
    assert page.loads() == []


def test_a_function_chosen_from_the_front_is_handed_over(tmp_path: Path) -> None:
    text = page_of(tmp_path / "r.html", study_of(2), found=FOUND).text()
    assert f'activation = Activation("{FOUND}")' in text
    assert "import numpy as np" in text
    assert "objective 1" in text


def test_a_report_before_the_first_trial(tmp_path: Path) -> None:
    study = optuna.create_study(directions=["maximize", "minimize"])
    assert "No trial is complete yet." in page_of(tmp_path / "r.html", study).text()


def test_several_activations(tmp_path: Path) -> None:
    study = optuna.create_study(directions=["maximize", "minimize"])
    study.add_trial(
        create_trial(
            values=[0.5, 1.0],
            params={**SPACE.params_of(RELU, "stem"), **SPACE.params_of(TANH, "head")},
            distributions={**SPACE.distributions("stem"), **SPACE.distributions("head")},
        )
    )
    path = study_report(tmp_path / "r.html", study, {"stem": SPACE, "head": SPACE})
    assert f"stem {RELU}, head {TANH}" in Page(path.read_text()).text()


def test_errors_come_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(AquaSurfError, match="value_names must name each of the 2 objectives"):
        study_report(tmp_path / "r.html", study_of(2), SPACE, value_names=["accuracy"])
    assert list(tmp_path.iterdir()) == []
