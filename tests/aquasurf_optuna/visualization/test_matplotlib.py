"""The twins show what the Plotly figures show."""

from collections.abc import Callable, Iterator

import optuna
import pytest
from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text

from aquasurf_optuna import visualization
from aquasurf_optuna.exceptions import AquaSurfError, SpaceError
from aquasurf_optuna.visualization import matplotlib as twins
from tests.aquasurf_optuna.studies import SPACE, study_of

Plot = Callable[..., Axes]


@pytest.fixture(autouse=True)
def _closed() -> Iterator[None]:
    before = pyplot.get_backend()
    pyplot.switch_backend("Agg")
    yield
    pyplot.close("all")
    pyplot.switch_backend(before)


def two_objectives(n_trials: int) -> optuna.Study:
    study = optuna.create_study(
        directions=["maximize", "minimize"], sampler=optuna.samplers.RandomSampler(seed=0)
    )

    def objective(trial: optuna.Trial) -> tuple[float, float]:
        expression = SPACE.suggest(trial, "activation")
        return float(len(str(expression))), float(trial.number % 5)

    study.optimize(objective, n_trials=n_trials)
    return study


def texts(axes: Axes) -> list[str]:
    return [each.get_text() for each in axes.findobj(Text) if each.get_text()]


def legend(axes: Axes) -> set[str]:
    found = axes.get_legend()
    return set() if found is None else {each.get_text() for each in found.get_texts()}


def test_every_twin_has_its_namesake_and_is_drawn_in_the_axes_that_are_given() -> None:
    assert set(twins.__all__) <= set(visualization.__all__)
    axes = Figure().subplots(1, 3)
    assert twins.plot_search_progress(study_of(), SPACE, ax=axes[0]) is axes[0]
    assert twins.plot_operator_importances(study_of(), SPACE, ax=axes[1]) is axes[1]
    assert twins.plot_pareto(two_objectives(3), SPACE, ax=axes[2]) is axes[2]
    assert pyplot.get_fignums() == []


@pytest.mark.parametrize("direction", ["maximize", "minimize"])
def test_progress_is_that_of_the_plotly_figure(direction: str) -> None:
    study = study_of(direction=direction)  # type: ignore[arg-type]  # parametrised texts
    axes = twins.plot_search_progress(study, SPACE, value_name="accuracy in $")
    figure = visualization.plot_search_progress(study, SPACE)
    best = next(each for each in figure.data if each.name == "best so far")
    [line] = [each for each in axes.lines if each.get_label() == "best so far"]
    assert list(line.get_xdata()) == list(best.x)  # type: ignore[arg-type]  # an array here
    assert list(line.get_ydata()) == list(best.y)  # type: ignore[arg-type]  # an array here
    assert legend(axes) == {each.name for each in figure.data}
    assert axes.get_ylabel() == r"accuracy in \$"
    axes.figure.canvas.draw()


def test_operators_are_those_of_the_plotly_figure() -> None:
    axes = twins.plot_operator_importances(study_of(), SPACE)
    figure = visualization.plot_operator_importances(study_of(), SPACE)
    shown = [each.get_text() for each in axes.get_yticklabels()]
    assert sorted(shown) == sorted(name for each in figure.data for name in each.y)
    assert legend(axes) == {each.name for each in figure.data}
    axes.figure.canvas.draw()


def test_the_front_is_that_of_the_study_and_its_functions_are_numbered() -> None:
    study = two_objectives(30)
    axes = twins.plot_pareto(study, SPACE, value_names=["length", "rest"])
    [front] = [each for each in axes.collections if each.get_label() == "Pareto front"]
    points = {tuple(point) for point in front.get_offsets().tolist()}  # type: ignore[union-attr]  # an array here
    assert points == {tuple(trial.values) for trial in study.best_trials}
    assert "1" in texts(axes)
    assert axes.get_xlabel() == "length (higher is better)"
    axes.figure.canvas.draw()


@pytest.mark.parametrize("plot", [twins.plot_search_progress, twins.plot_operator_importances])
def test_nothing_to_draw_is_said(plot: Plot) -> None:
    assert any("complete" in text for text in texts(plot(study_of([]), SPACE)))
    with pytest.raises(AquaSurfError, match="2 objectives"):
        plot(two_objectives(2), SPACE)
    with pytest.raises(SpaceError, match="no trial has an activation named 'other'"):
        plot(study_of(), SPACE, name="other")


def test_a_front_of_nothing_and_of_three() -> None:
    assert "No trial is complete yet." in texts(twins.plot_pareto(two_objectives(0), SPACE))
    study = optuna.create_study(directions=["maximize"] * 3)
    with pytest.raises(AquaSurfError, match="3 objectives, and this figure has a plane for two"):
        twins.plot_pareto(study, SPACE)
