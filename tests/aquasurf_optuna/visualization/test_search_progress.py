import math

import optuna
import plotly.graph_objects as go
import pytest
from optuna.trial import TrialState

from aquasurf_optuna.exceptions import AquaSurfError, SpaceError
from aquasurf_optuna.expression import BASELINES, Expression
from aquasurf_optuna.space import SearchSpace
from aquasurf_optuna.visualization import plot_search_progress
from aquasurf_optuna.visualization._search_progress import (
    SearchProgressInfo,
    get_search_progress_info,
)
from aquasurf_optuna.visualization._trials import Baselines, read_study
from tests.aquasurf_optuna.studies import FOUND, OTHER, RELU, SPACE, TANH, study_of


def info_of(study: optuna.Study, baselines: Baselines = BASELINES) -> SearchProgressInfo:
    return get_search_progress_info(study, SPACE, name="activation", baselines=baselines)


def trace(figure: go.Figure, name: str) -> go.Scatter:
    return next(each for each in figure.data if each.name == name)


def test_the_data_of_a_study() -> None:
    info = info_of(study_of())
    assert [t.state for t in info.trials] == [
        "complete", "complete", "pruned", "complete", "complete", "not finite", "failed",
    ]  # fmt: skip
    assert [str(t.expression) for t in info.trials[:2]] == [RELU, TANH]
    assert [t.baseline for t in info.trials[:4]] == ["ReLU", "Tanh", None, None]
    assert info.trials[-1].expression is None
    assert math.isnan(info.trials[5].value)
    assert info.best_numbers == [0, 1, 3, 4, 6]
    assert info.best_values == [0.6, 0.7, 0.7, 0.8, 0.8]
    assert info.baseline_values == {"ReLU": 0.6, "Tanh": 0.7}
    assert info.baseline_spans == [(0, 1)]
    assert info.limits == (0.6, 0.8)


def test_minimising() -> None:
    info = info_of(study_of(direction="minimize"))
    assert info.direction == "minimize"
    assert info.best_values == [0.6, 0.6, 0.6, 0.6, 0.6]


def test_baselines_run_several_times_count_by_their_mean() -> None:
    rows = [(RELU, 0.5), (FOUND, 0.7), ("add(relu(x),zero(x))", 0.6), (TANH, TrialState.FAIL)]
    info = info_of(study_of(rows))
    assert info.baseline_values == {"ReLU": pytest.approx(0.55)}
    assert info.baseline_spans == [(0, 0), (2, 3)]


def test_given_values_of_baselines() -> None:
    info = info_of(study_of(), {"relu(x)": 0.9, "gelu(x)": 0.95})
    assert info.baseline_values == {"ReLU": 0.9, "GELU": 0.95}
    assert [t.baseline for t in info.trials[:2]] == ["ReLU", None]
    assert info.limits == (0.6, 0.95)


def test_a_diverged_loss_does_not_flatten_the_rest() -> None:
    rows = [(RELU, 0.6), (TANH, 0.7), (OTHER, 1e9), (FOUND, 0.5), (FOUND, 0.55)]
    study = study_of(rows, direction="minimize")
    info = info_of(study)
    assert info.limits == (0.5, 0.7)
    assert [info.spans(trial) for trial in info.trials] == [True, True, False, True, True]
    beyond = trace(plot_search_progress(study, SPACE), "beyond the axis")
    assert list(beyond.x) == [2]
    assert 0.7 < beyond.y[0] < 1.0
    assert "1.000e+09" in beyond.hovertext[0]


def test_a_diverged_baseline_does_not_either() -> None:
    rows = [(RELU, 0.6), (TANH, 1e9), (OTHER, 0.7), (FOUND, 0.5), (FOUND, 0.55)]
    study = study_of(rows, direction="minimize")
    assert info_of(study).limits == (0.5, 0.7)
    figure = plot_search_progress(study, SPACE)
    assert [a.text for a in figure.layout.annotations] == ["ReLU 0.6000"]
    assert list(trace(figure, "beyond the axis").x) == [1]


def test_a_failed_accuracy_stays_on_the_axis() -> None:
    rows = [(RELU, 0.6), (TANH, 0.7), (OTHER, 0.1), (FOUND, 0.8), (FOUND, 0.75)]
    assert info_of(study_of(rows)).limits == (0.1, 0.8)


def test_the_axis_spans_one_value() -> None:
    assert info_of(study_of([(RELU, 0.6)])).limits == pytest.approx((0.57, 0.63))
    assert info_of(study_of([(RELU, 0.0)])).limits == pytest.approx((-5e-5, 5e-5))


def test_the_figure() -> None:
    figure = plot_search_progress(study_of(), SPACE, value_name="accuracy (%)")
    assert figure.layout.yaxis.title.text == "accuracy (%)"
    assert list(trace(figure, "baseline").x) == [0, 1]
    assert list(trace(figure, "searched").x) == [3, 4]
    assert list(trace(figure, "best").x) == [4]
    assert trace(figure, "best so far").line.shape == "hv"
    low, high = figure.layout.yaxis.range
    for state, number in (("pruned", 2), ("not finite", 5), ("failed", 6)):
        assert list(trace(figure, state).x) == [number]
        assert low < trace(figure, state).y[0] < 0.6
    assert high > 0.8
    assert trace(figure, "best").hovertext[0] == (
        f"<b>{FOUND}</b><br>trial 4, complete<br>accuracy (%) 0.8000"
    )
    assert "equal to ReLU" in trace(figure, "baseline").hovertext[0]
    assert "function unknown" in trace(figure, "failed").hovertext[0]
    assert [a.text for a in figure.layout.annotations] == ["ReLU 0.6000", "Tanh 0.7000"]
    lines = [shape.y0 for shape in figure.layout.shapes if shape.type == "line"]
    assert lines == [0.6, 0.7]
    regions = [(s.x0, s.x1) for s in figure.layout.shapes if s.type == "rect"]
    assert regions == [(-0.5, 1.5)]


def test_the_best_baseline_stands_out_in_either_direction() -> None:
    for study, best in (
        (study_of(), "Tanh 0.7000"),
        (study_of(direction="minimize"), "ReLU 0.6000"),
    ):
        figure = plot_search_progress(study, SPACE)
        colours = {a.text: a.font.color for a in figure.layout.annotations}
        assert [text for text, colour in colours.items() if colour == "#D55E00"] == [best]


@pytest.mark.parametrize("rows", [[], [(RELU, TrialState.PRUNED), (None, TrialState.FAIL)]])
def test_no_complete_trial_gives_a_message(rows: list[tuple[str | None, TrialState]]) -> None:
    figure = plot_search_progress(study_of(rows), SPACE)
    assert [a.text for a in figure.layout.annotations] == ["No trial is complete yet."]
    assert len(figure.data) == 0


def test_no_baselines() -> None:
    figure = plot_search_progress(study_of(), SPACE, baselines=())
    assert list(trace(figure, "searched").x) == [0, 1, 3, 4]
    assert len(figure.layout.shapes) == 0


def test_hostile_names_are_escaped() -> None:
    figure = plot_search_progress(study_of(), SPACE, value_name="<b>&")
    assert figure.layout.yaxis.title.text == "&lt;b&gt;&amp;"
    assert all("<b>&" not in text for each in figure.data for text in each.hovertext or ())


def test_running_trials_are_left_out() -> None:
    study = study_of()
    SPACE.suggest(study.ask(), "activation")
    assert len(read_study(study, SPACE).trials) == 7


def test_ranking() -> None:
    ranked = read_study(study_of(), SPACE).ranked()
    assert [str(expression) for _, expression in ranked] == [FOUND, TANH, OTHER, RELU]
    ranked = read_study(study_of(direction="minimize"), SPACE).ranked()
    assert [trial.number for trial, _ in ranked] == [0, 3, 1, 4]


def test_errors() -> None:
    several = optuna.create_study(directions=["maximize", "minimize"], study_name="two")
    with pytest.raises(AquaSurfError, match="study 'two' has 2 objectives"):
        plot_search_progress(several, SPACE)
    with pytest.raises(SpaceError, match=r"no trial has an activation named 'act'.*activation\.0"):
        plot_search_progress(study_of(), SPACE, name="act")
    with pytest.raises(SpaceError, match=r"unary\(x\).*has only \['activation\.0'\]"):
        plot_search_progress(study_of(), SearchSpace("unary(x)"))
    narrow = SearchSpace("binary(unary(x),unary(x))", unary=["exp", "tanh"])
    with pytest.raises(SpaceError, match="activation"):
        plot_search_progress(study_of(), narrow)


def test_other_parameters_and_activations_do_not_disturb() -> None:
    study = optuna.create_study()
    study.enqueue_trial(SPACE.params_of(Expression.parse(FOUND), "activation"))

    def objective(trial: optuna.Trial) -> float:
        SPACE.suggest(trial, "head")
        trial.suggest_float("activation.rate", 0.1, 1.0)
        SPACE.suggest(trial, "activation")
        return 1.0

    study.optimize(objective, n_trials=1)
    [trial] = read_study(study, SPACE).trials
    assert str(trial.expression) == FOUND
