import numpy as np
import plotly.graph_objects as go
import pytest

from aquasurf_optuna.exceptions import AquaSurfError, ExpressionError
from aquasurf_optuna.visualization import plot_embedding
from aquasurf_optuna.visualization._embedding import _EmbeddingInfo, _get_embedding_info

TEXTS = [
    "max(identity(x),zero(x))",
    "mul(exp(x),tanh(x))",
    "cosh(x)",
    "erf(x)",
    "add(tanh(x),zero(x))",
]
COORDINATES = np.array([[0.0, 0.0], [1.0, 2.0], [2.0, 1.0], [3.0, 3.0], [4.0, 0.0]])
VALUES = np.array([0.6, 0.8, np.nan, np.nan, np.nan])
FAILED = np.array([False, False, False, True, False])


def info_of(direction: str = "maximize") -> _EmbeddingInfo:
    return _get_embedding_info(
        COORDINATES,
        TEXTS,
        VALUES,
        failed=FAILED,
        baselines=["relu(x)", "tanh(x)", "swish(x)"],
        direction=direction,
    )


def figure_of(direction: str = "maximize") -> go.Figure:
    return plot_embedding(
        COORDINATES, TEXTS, VALUES, failed=FAILED, direction=direction, value_name="accuracy"
    )


def trace(figure: go.Figure, name: str) -> go.Scatter:
    return next(each for each in figure.data if each.name == name)


def test_the_data() -> None:
    info = info_of()
    assert info.untried.tolist() == [2, 4]
    assert info.tried.tolist() == [0, 1]
    assert info.failed.tolist() == [3]
    assert info.baselines == {"ReLU": 0, "Tanh": 4}
    assert info.best == 1
    assert info_of("minimize").best == 0


def test_the_figure() -> None:
    figure = figure_of()
    assert list(trace(figure, "not tried").x) == [2.0, 4.0]
    assert list(trace(figure, "failed or pruned").y) == [3.0]
    tried = trace(figure, "tried")
    assert list(tried.marker.color) == [0.6, 0.8]
    assert (tried.marker.cmin, tried.marker.cmax) == (0.6, 0.8)
    assert tried.marker.colorbar.title.text == "accuracy"
    assert tried.hovertext[1] == "<b>mul(exp(x),tanh(x))</b><br>▁▁▁▁▁▁▁▁▁▃▇█████<br>accuracy 0.8000"
    baseline = trace(figure, "baseline")
    assert baseline.marker.symbol == "triangle-up"
    assert list(baseline.marker.color) == [0.6]
    assert "equal to ReLU" in baseline.hovertext[0]
    assert list(trace(figure, "baseline without a value").x) == [4.0]
    assert [a.text for a in figure.layout.annotations] == ["ReLU", "Tanh"]
    assert list(trace(figure, "best").x) == [1.0]
    assert "not tried" in trace(figure, "not tried").hovertext[0]


def test_the_path_goes_through_the_candidates_in_the_order_in_which_they_were_tried() -> None:
    figure = plot_embedding(COORDINATES, TEXTS, VALUES, order=[7, 2, np.nan, 4, np.nan])
    path = trace(figure, "path of the search")
    assert (list(path.x), list(path.y)) == ([1.0, 3.0, 0.0], [2.0, 3.0, 0.0])
    alone = plot_embedding(COORDINATES, TEXTS, VALUES, order=[7, np.nan, np.nan, np.nan, np.nan])
    assert "path of the search" not in {each.name for each in alone.data}
    with pytest.raises(AquaSurfError, match=r"order must have shape \(5,\)"):
        plot_embedding(COORDINATES, TEXTS, VALUES, order=[1.0])


def test_good_is_bright_in_either_direction() -> None:
    assert not trace(figure_of(), "tried").marker.reversescale
    assert trace(figure_of(direction="minimize"), "tried").marker.reversescale


def test_nothing_tried() -> None:
    figure = plot_embedding(COORDINATES, TEXTS, [np.nan] * 5)
    assert {each.name for each in figure.data} == {"not tried", "baseline without a value"}


def test_one_candidate_alone() -> None:
    figure = plot_embedding([[1.0, 1.0]], ["relu(x)"], [0.5])
    assert {each.name for each in figure.data} == {"tried", "baseline", "best"}


def test_no_candidates() -> None:
    for figure in (plot_embedding([], [], []), plot_embedding(np.empty((0, 2)), [], [])):
        assert [a.text for a in figure.layout.annotations] == ["There are no candidates."]


def test_errors() -> None:
    with pytest.raises(AquaSurfError, match=r"coordinates must have shape \(5, 2\).*\(4, 2\)"):
        plot_embedding(COORDINATES[:4], TEXTS, VALUES)
    with pytest.raises(AquaSurfError, match=r"values must have shape \(5,\).*got \(2,\)"):
        plot_embedding(COORDINATES, TEXTS, [1.0, 2.0])
    with pytest.raises(AquaSurfError, match=r"failed must have shape \(5,\)"):
        plot_embedding(COORDINATES, TEXTS, VALUES, failed=[True])
    with pytest.raises(AquaSurfError, match="direction must be 'maximize' or 'minimize', got 'up'"):
        figure_of(direction="up")
    with pytest.raises(ExpressionError, match="reluu"):
        plot_embedding([[0.0, 0.0]], ["reluu(x)"], [1.0])
