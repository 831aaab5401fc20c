"""Operators: the difference of two means, and an interval that SciPy's Welch test agrees with."""

import math

import numpy as np
import pytest
from optuna.trial import TrialState
from scipy.stats import ttest_ind

from aquasurf_optuna.visualization import plot_operator_importances
from aquasurf_optuna.visualization._operator_importances import get_operator_importances_info
from aquasurf_optuna.visualization._style import Direction
from tests.aquasurf_optuna.studies import SPACE, Row, study_of

NAMES = ("tanh", "elu", "erf", "swish")
ROWS: list[Row] = [
    (f"{binary}({left}(x),{right}(x))", value)
    for (binary, left, right), value in zip(
        [(b, u, v) for b in ("add", "max") for u in NAMES for v in NAMES],
        np.random.default_rng(0).normal(size=32).tolist(),
        strict=True,
    )
]


@pytest.mark.parametrize("direction", ["maximize", "minimize"])
def test_effects_are_differences_of_means(direction: Direction) -> None:
    info = get_operator_importances_info(
        study_of(ROWS, direction=direction), SPACE, name="activation"
    )
    assert {each.operator for each in info.effects} == {"add", "max", *NAMES}
    for each in info.effects:
        sides = [
            [value for text, value in ROWS if (f"{each.operator}(" in str(text)) == has]
            for has in (True, False)
        ]
        assert (each.n_with, each.n_without) == tuple(map(len, sides))
        test = ttest_ind(*sides, equal_var=False)
        interval = test.confidence_interval(0.95)
        assert each.effect == pytest.approx(np.mean(sides[0]) - np.mean(sides[1]))
        assert (each.effect - each.half, each.effect + each.half) == pytest.approx(tuple(interval))
        # The whole interval is on one side just where the test rejects.
        assert (each.helps(direction) or each.harms(direction)) == (test.pvalue < 0.05)
    effects = [each.effect for each in info.effects]
    assert effects == sorted(effects, reverse=direction == "maximize")


def test_what_helps_and_what_harms() -> None:
    rows: list[Row] = [
        (f"{b}({u}(x),{v}(x))", 0.5 + 0.3 * (u == "tanh") + 0.001 * place)
        for place, (b, u, v) in enumerate(
            (b, u, v) for b in ("add", "max") for u in ("tanh", "elu") for v in ("erf", "swish")
        )
    ]
    study = study_of([*rows, ("mul(exp(x),cosh(x))", TrialState.FAIL)])
    figure = plot_operator_importances(study, SPACE, value_name="accuracy")
    members = {each.name: list(each.y) for each in figure.data}
    assert members["better"] == ["tanh"]
    assert members["worse"] == ["elu"]
    assert members["not decided"] == ["max", "swish", "erf", "add"]
    assert list(figure.layout.yaxis.categoryarray)[-1] == "tanh"
    assert len({each.marker.symbol for each in figure.data}) == 3
    assert figure.layout.xaxis.title.text.startswith("difference in accuracy")


def test_one_trial_on_a_side_has_no_interval() -> None:
    rows: list[Row] = [("add(tanh(x),elu(x))", 0.5), ("add(erf(x),elu(x))", 0.7)]
    info = get_operator_importances_info(study_of(rows), SPACE, name="activation")
    assert [each.operator for each in info.effects] == ["erf", "tanh"]
    assert all(math.isnan(each.half) for each in info.effects)
    assert not any(e.helps("maximize") or e.harms("maximize") for e in info.effects)
    assert [each.name for each in plot_operator_importances(study_of(rows), SPACE).data] == [
        "not decided"
    ]


@pytest.mark.parametrize("rows", [[], [("add(tanh(x),elu(x))", 0.5)] * 2])
def test_nothing_to_compare(rows: list[Row]) -> None:
    figure = plot_operator_importances(study_of(rows), SPACE)
    assert figure.layout.annotations[0].text.startswith("No two complete trials differ")
