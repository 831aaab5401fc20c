import math
import statistics

import pytest

from aquasurf_optuna.exceptions import AquaSurfError, ExpressionError
from aquasurf_optuna.expression import Expression
from aquasurf_optuna.visualization import plot_comparison
from aquasurf_optuna.visualization._comparison import comparison_rows

FOUND = "mul(hard_sigmoid(x),elu(x))"
RESULTS = {
    "relu(x)": [0.6, 0.62, 0.61],
    FOUND: [0.8, 0.7, 0.9],
    "tanh(x)": [0.5, math.nan, 0.7],
    "exp(x)": [math.nan, math.inf],
    "elu(x)": [0.75],
}


def test_rows_are_sorted_the_best_first_and_failures_last() -> None:
    rows = comparison_rows(RESULTS, found=FOUND)
    assert [row.name for row in rows] == [FOUND, "ELU", "ReLU", "Tanh", "exp(x)"]
    rows = comparison_rows(RESULTS, found=FOUND, direction="minimize")
    assert [row.name for row in rows] == ["Tanh", "ReLU", "ELU", FOUND, "exp(x)"]


def test_means_and_deviations() -> None:
    rows = {row.name: row for row in comparison_rows(RESULTS, found=FOUND)}
    assert rows["ReLU"].mean == pytest.approx(0.61)
    assert rows["ReLU"].deviation == pytest.approx(statistics.stdev(RESULTS["relu(x)"]))
    assert rows["ReLU"].summary == "0.6100 ± 0.0100"
    assert math.isnan(rows["ELU"].deviation)
    assert rows["ELU"].summary == "0.7500"
    assert (rows["Tanh"].values, rows["Tanh"].n_failed) == ((0.5, 0.7), 1)
    assert math.isnan(rows["exp(x)"].mean)
    assert [row.is_found for row in rows.values()] == [True, False, False, False, False]


def test_expressions_as_keys() -> None:
    results = {Expression.parse(text): values for text, values in RESULTS.items()}
    rows = comparison_rows(results, found=Expression.parse(FOUND))
    assert str(rows) == str(comparison_rows(RESULTS, found=FOUND))


def test_the_figure() -> None:
    figure = plot_comparison(RESULTS, found=FOUND, value_name="test accuracy (%)")
    found, others, means = figure.data
    assert list(found.x) == [0.8, 0.7, 0.9]
    assert list(found.y) == [0, 0, 0]
    assert list(others.y) == [1, 2, 2, 2, 3, 3]
    assert list(means.x) == pytest.approx([0.8, 0.75, 0.61, 0.6])
    assert list(means.error_x.array) == pytest.approx([0.1, 0.0, 0.01, math.sqrt(0.02)])
    assert figure.layout.xaxis.title.text == "test accuracy (%)"
    ticks = figure.layout.yaxis.ticktext
    assert ticks[0] == "<b>mul(hard_sigmoid(x),<br>elu(x))</b>"
    assert ticks[3] == "Tanh<br>(1 of 3 failed)"
    # The axis runs downwards, so that the best is on top.
    assert figure.layout.yaxis.range[0] > figure.layout.yaxis.range[1]


def test_no_results() -> None:
    figure = plot_comparison({})
    assert [a.text for a in figure.layout.annotations] == ["There are no results."]


def test_all_failed() -> None:
    figure = plot_comparison({"exp(x)": [math.nan]})
    assert list(figure.layout.yaxis.ticktext) == ["exp(x)<br>(1 of 1 failed)"]


def test_errors() -> None:
    with pytest.raises(
        AquaSurfError, match="direction must be 'maximize' or 'minimize', got 'best'"
    ):
        plot_comparison(RESULTS, direction="best")
    with pytest.raises(ExpressionError, match="unknown operator"):
        plot_comparison({"ReLU": [1.0]})
