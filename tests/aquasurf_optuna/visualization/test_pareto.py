"""The Pareto front as functions: its data by the definition, and its figure."""

import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import optuna
import plotly.graph_objects as go
import pytest
from optuna.trial import TrialState, create_trial

from aquasurf_optuna.exceptions import AquaSurfError, SpaceError
from aquasurf_optuna.expression import Expression
from aquasurf_optuna.families import RationalFamily
from aquasurf_optuna.space import SearchSpace
from aquasurf_optuna.visualization import plot_pareto
from aquasurf_optuna.visualization._front import ParetoInfo, get_pareto_info
from tests.aquasurf_optuna.studies import FOUND, OTHER, RELU, SPACE, TANH
from tests.oracles.front_oracle import dominated_area, dominates, front_of

Row = tuple[str | None, Sequence[float] | TrialState]

ROWS: tuple[Row, ...] = (
    (RELU, (0.6, 2.0)),
    (TANH, (0.7, 6.0)),
    (FOUND, (0.8, 7.0)),
    (OTHER, (0.65, 9.0)),
    ("sub(elu(x),cosh(x))", (0.9, math.inf)),
    (OTHER, TrialState.FAIL),
    # Another graph of ReLU, with another value: one function twice on the front.
    ("add(relu(x),zero(x))", (0.55, 1.5)),
)
DIRECTIONS = ("maximize", "minimize")


def study_of(rows: Sequence[Row] = ROWS, directions: Sequence[str] = DIRECTIONS) -> optuna.Study:
    study = optuna.create_study(directions=list(directions), study_name="two aims")
    for text, outcome in rows:
        params = {} if text is None else SPACE.params_of(Expression.parse(text), "activation")
        ended = outcome if isinstance(outcome, TrialState) else TrialState.COMPLETE
        study.add_trial(
            create_trial(
                state=ended,
                values=None if isinstance(outcome, TrialState) else list(outcome),
                params=params,
                distributions={**SPACE.distributions("activation")} if params else {},
            )
        )
    return study


def info_of(study: optuna.Study, **options: Any) -> ParetoInfo:
    return get_pareto_info(study, SPACE, **options)


def traces(figure: go.Figure, name: str) -> list[Any]:
    return [each for each in figure.data if each.name == name]


# The oracles


def test_the_oracles_can_fail() -> None:
    values = [(1.0, 1.0), (2.0, 2.0), (1.0, 3.0), (2.0, 2.0)]
    assert front_of(values, ("maximize", "maximize")) == {1, 2, 3}
    assert front_of(values, ("minimize", "minimize")) == {0}
    assert not dominates((1.0, 1.0), (1.0, 1.0), ("maximize", "maximize"))
    # Three by three squares without the two in the corner, and those outside count nothing.
    area = dominated_area([(1, 3), (3, 2), (-1, 9)], (0, 0), ("maximize", "maximize"))
    assert area == 7
    assert dominated_area([(1, 3), (3, 2)], (0, 4), ("maximize", "minimize")) == 1 + 6 - 1


# The data


def test_the_front_and_its_functions() -> None:
    info = info_of(study_of(), value_names=("accuracy", "cost"))
    assert [point.trial for point in info.front] == [6, 0, 1, 2]
    assert [point.trial for point in info.dominated] == [3]
    assert [point.label for point in info.front] == ["ReLU", "ReLU", "Tanh", FOUND]
    assert [point.function for point in info.front] == [1, 1, 2, 3]
    assert [point.trial for point in info.functions()] == [6, 1, 2]
    assert [o.title for o in info.objectives] == [
        "accuracy (higher is better)", "cost (lower is better)",
    ]  # fmt: skip


@pytest.mark.parametrize("n_objectives", [2, 3])
@pytest.mark.parametrize("seed", range(4))
def test_the_front_is_that_of_the_definition(n_objectives: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    directions = [("maximize", "minimize")[k] for k in rng.integers(0, 2, n_objectives)]
    expressions = SPACE.sample(30, seed=seed)
    # Few different values, so that there are ties.
    values = rng.integers(0, 6, (30, n_objectives)).astype(float).tolist()
    rows = [(str(e), value) for e, value in zip(expressions, values, strict=True)]
    info = info_of(study_of(rows, directions))

    assert {point.trial for point in info.front} == front_of(values, directions)
    assert len(info.front) + len(info.dominated) == 30
    firsts = [point.values[0] for point in info.front]
    assert firsts == sorted(firsts)


def test_a_trial_that_breaks_a_constraint_is_not_on_the_front() -> None:
    study = study_of([(RELU, (0.6, 2.0))])
    trial = create_trial(
        values=[0.9, 1.0],
        params=SPACE.params_of(Expression.parse(FOUND), "activation"),
        distributions={**SPACE.distributions("activation")},
        system_attrs={"constraints": [0.5]},
    )
    study.add_trial(trial)
    info = info_of(study)
    assert [point.trial for point in info.front] == [0]
    assert [point.trial for point in info.dominated] == [1]


def test_a_trial_that_never_chose_a_function() -> None:
    info = info_of(study_of([(RELU, (0.6, 2.0)), (None, (0.9, 1.0))]))
    assert [point.label for point in info.front] == ["function unknown"]
    assert len(plot_pareto(study_of([(RELU, (0.6, 2.0)), (None, (0.9, 1.0))]), SPACE).data) > 0


def two_activations() -> tuple[optuna.Study, dict[str, SearchSpace]]:
    spaces = {"stem": SPACE, "head": SPACE}
    study = optuna.create_study(directions=["maximize", "minimize"])
    for stem, head, values in (
        (RELU, TANH, (0.6, 2.0)),
        (FOUND, TANH, (0.8, 3.0)),
        ("add(zero(x),relu(x))", TANH, (0.7, 2.5)),
    ):
        params = {**SPACE.params_of(stem, "stem"), **SPACE.params_of(head, "head")}
        distributions = {**SPACE.distributions("stem"), **SPACE.distributions("head")}
        study.add_trial(
            create_trial(values=list(values), params=params, distributions=distributions)
        )
    return study, spaces


def test_several_activations() -> None:
    study, spaces = two_activations()
    info = get_pareto_info(study, spaces)
    assert [point.label for point in info.front] == [
        f"stem {RELU}, head {TANH}",
        f"stem add(zero(x),relu(x)), head {TANH}",
        f"stem {FOUND}, head {TANH}",
    ]
    # The first two are equal in both places.
    assert [point.function for point in info.front] == [1, 1, 2]
    figure = plot_pareto(study, spaces)
    assert len(traces(figure, "stem")) == len(traces(figure, "head")) == 2


def test_a_continuous_family() -> None:
    family = RationalFamily()
    study = optuna.create_study(directions=["minimize", "minimize"])
    study.sampler = optuna.samplers.RandomSampler(seed=0)

    def objective(trial: optuna.Trial) -> tuple[float, float]:
        family.suggest(trial, "activation")
        return float(trial.number), float(-trial.number)

    study.optimize(objective, n_trials=3)
    info = get_pareto_info(study, family)
    assert [point.function for point in info.front] == [1, 2, 3]
    assert plot_pareto(study, family).data


# The figure


def test_the_figure_of_two_objectives() -> None:
    figure = plot_pareto(study_of(), SPACE, value_names=("accuracy", "cost <ms>"))
    (front,) = traces(figure, "Pareto front")
    assert list(front.x) == [0.55, 0.6, 0.7, 0.8]
    assert list(front.y) == [1.5, 2.0, 6.0, 7.0]
    assert list(front.text) == ["1", "1", "2", "3"]
    (dominated,) = traces(figure, "dominated")
    assert (list(dominated.x), list(dominated.y)) == ([0.65], [9.0])
    assert figure.layout.yaxis.title.text == "cost &lt;ms&gt;<br>(lower is better)"
    # A panel for each function, with ReLU dashed behind it.
    assert len(traces(figure, "function")) == len(traces(figure, "ReLU")) == 3
    names = [a.text for a in figure.layout.annotations]
    assert {"ReLU", "Tanh", FOUND} <= set(names)
    assert [n for n in names if n.startswith("<b>2</b>")] == [f"<b>2</b>  {TANH} = Tanh"]
    assert FOUND in front.hovertext[3]
    assert r"\text{ELU}" in front.hovertext[3]
    assert "trial 2" in front.hovertext[3]


@pytest.mark.parametrize("first", ["maximize", "minimize"])
@pytest.mark.parametrize("second", ["maximize", "minimize"])
def test_the_line_bounds_what_the_front_dominates(first: str, second: str) -> None:
    directions = (first, second)
    values = [(1.0, 1.0), (2.0, 2.0), (3.0, 3.0), (1.0, 3.0), (2.0, 1.5), (3.0, 1.0)]
    study = study_of([(RELU, value) for value in values], directions)
    line = next(each for each in plot_pareto(study, SPACE).data if each.mode == "lines")
    corners = list(zip(line.x, line.y, strict=True))
    for (x0, y0), (x1, y1) in itertools.pairwise(corners):
        # "hv" goes to the next place first, "vh" to the next height.
        corner = (x1, y0) if line.line.shape == "hv" else (x0, y1)
        assert dominates((x0, y0), corner, directions)
        assert dominates((x1, y1), corner, directions)


def test_the_figure_of_three_objectives() -> None:
    rows = [(RELU, (0.6, 2.0, 3.0)), (FOUND, (0.8, 3.0, 1.0)), (OTHER, (0.5, 9.0, 9.0))]
    study = study_of(rows, ("maximize", "minimize", "minimize"))
    figure = plot_pareto(study, SPACE, value_names=("accuracy", "ms", "MB"))
    (front,) = traces(figure, "Pareto front")
    assert isinstance(front, go.Scatter3d)
    assert (list(front.x), list(front.z)) == ([0.6, 0.8], [3.0, 1.0])
    assert figure.layout.scene.zaxis.title.text == "MB ↓"


def test_a_value_beyond_all_measure_does_not_hide_the_rest() -> None:
    rows = [*ROWS, *[(OTHER, (0.5 + k / 100, 8.0)) for k in range(5)], (OTHER, (0.5, 1e9))]
    figure = plot_pareto(study_of(rows), SPACE)
    assert figure.layout.yaxis.range[1] < 100
    (dominated,) = traces(figure, "dominated (1 more beyond the axes)")
    assert len(dominated.x) == 6


def test_many_functions_have_numbers_and_some_of_them_panels() -> None:
    expressions = SPACE.sample(40, seed=1)
    rows = [(str(e), (float(k), float(k))) for k, e in enumerate(expressions)]
    figure = plot_pareto(study_of(rows), SPACE)
    (front,) = traces(figure, "Pareto front")
    assert len(front.text) == 40
    assert len(traces(figure, "function")) == 9


def test_nothing_to_show() -> None:
    figure = plot_pareto(study_of([(OTHER, TrialState.FAIL)]), SPACE)
    assert [a.text for a in figure.layout.annotations] == ["No trial is complete yet."]


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
def test_the_studys_own_names_of_its_objectives() -> None:
    study = study_of()
    assert [o.name for o in info_of(study).objectives] == ["objective 0", "objective 1"]
    study.set_metric_names(["accuracy", "latency"])
    assert [o.name for o in info_of(study).objectives] == ["accuracy", "latency"]


def test_wrong_studies_are_refused() -> None:
    with pytest.raises(AquaSurfError, match="with 2 to 3 objectives, but 'two aims' has 1; plot_"):
        plot_pareto(study_of([], ("maximize",)), SPACE)
    with pytest.raises(AquaSurfError, match="with 2 to 3 objectives, but 'two aims' has 4"):
        plot_pareto(study_of([], ("maximize",) * 4), SPACE)
    with pytest.raises(AquaSurfError, match=r"each of the 2 objectives, but got \['cost'\]"):
        plot_pareto(study_of(), SPACE, value_names=["cost"])
    with pytest.raises(SpaceError, match="no trial has an activation named 'head'"):
        plot_pareto(study_of(), SPACE, name="head")
    with pytest.raises(SpaceError, match="no trial has an activation named 'head'"):
        plot_pareto(study_of(), {"activation": SPACE, "head": SPACE})
