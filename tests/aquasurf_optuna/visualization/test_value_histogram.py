"""Every trial is counted once: in a bar, beyond the axis, or without a value."""

from collections.abc import Sequence

import numpy as np
import pytest
from optuna.trial import TrialState

from aquasurf_optuna.exceptions import SpaceError
from aquasurf_optuna.expression import BASELINES
from aquasurf_optuna.visualization import plot_value_histogram
from aquasurf_optuna.visualization._style import Direction
from aquasurf_optuna.visualization._value_histogram import (
    _get_value_histogram_info,
    _ValueHistogramInfo,
)
from tests.aquasurf_optuna.studies import FOUND, OTHER, RELU, SPACE, TANH, Row, study_of


def info_of(rows: Sequence[Row], direction: Direction = "maximize") -> _ValueHistogramInfo:
    study = study_of(rows, direction=direction)
    return _get_value_histogram_info(study, SPACE, name="activation", baselines=BASELINES)


@pytest.mark.parametrize("direction", ["maximize", "minimize"])
@pytest.mark.parametrize("n", [1, 2, 30, 400])
def test_every_trial_is_counted_once(direction: Direction, n: int) -> None:
    values = np.random.default_rng(n).normal(size=n)
    functions = [RELU, FOUND, OTHER, TANH]
    rows = [(functions[i % 4], value) for i, value in enumerate(values.tolist())]
    info = info_of([*rows, (FOUND, TrialState.FAIL), (OTHER, float("inf"))], direction)
    assert 4 <= len(info.searched) <= 40
    assert info.searched.sum() + info.baselines.sum() + info.n_beyond == n
    assert info.n_without == 2
    inside = [v for v in values if info.edges[0] <= v <= info.edges[-1]]
    assert len(inside) == n - info.n_beyond
    for low, high, count in zip(
        info.edges[:-1], info.edges[1:], info.searched + info.baselines, strict=True
    ):
        last = high == info.edges[-1]
        assert count == sum(low <= v < high or (last and v == high) for v in values)


def test_baselines_stand_apart() -> None:
    info = info_of([(RELU, 0.5), (TANH, 0.9), (FOUND, 0.7), (OTHER, 0.7)])
    assert (info.baselines.sum(), info.searched.sum()) == (2, 2)
    assert info.best_baseline == ("Tanh", 0.9)
    assert info_of([(RELU, 0.5), (TANH, 0.9)], "minimize").best_baseline == ("ReLU", 0.5)
    assert info_of([(FOUND, 0.7)]).best_baseline is None


def test_a_diverged_loss_is_counted_not_drawn() -> None:
    rows = [(RELU, 0.6), (TANH, 0.7), (OTHER, 1e9), (FOUND, 0.5), (FOUND, 0.55)]
    assert info_of(rows, "minimize").n_beyond == 1
    figure = plot_value_histogram(study_of(rows, direction="minimize"), SPACE)
    assert figure.layout.title.text.endswith("(1 beyond the axis)")


def test_the_figure() -> None:
    figure = plot_value_histogram(study_of(), SPACE, value_name="test accuracy")
    assert [each.name for each in figure.data] == ["searched", "baseline"]
    # The two kinds differ in pattern as well as in colour.
    assert figure.data[0].marker.pattern.shape != figure.data[1].marker.pattern.shape
    assert figure.layout.xaxis.title.text == "test accuracy"
    assert figure.layout.xaxis.ticktext[:3] == ("0.6", "0.625", "0.65")
    assert figure.layout.annotations[0].text == "Tanh 0.7000"
    assert "3 without a value" in figure.layout.title.text


def test_nothing_complete() -> None:
    figure = plot_value_histogram(study_of([(FOUND, TrialState.FAIL)]), SPACE)
    assert figure.layout.annotations[0].text == "No trial is complete yet."


def test_another_name_is_refused() -> None:
    with pytest.raises(SpaceError, match="no trial has an activation named 'act'"):
        plot_value_histogram(study_of(), SPACE, name="act")
