"""Histograms of inputs against counting one by one, and the figure of a function over them."""

import itertools
import json
import math

import numpy as np
import pytest

from aquasurf_optuna.exceptions import AquaSurfError
from aquasurf_optuna.visualization import InputHistogram, plot_input_distribution
from aquasurf_optuna.visualization._input_distribution import _get_input_distribution_info

EDGES = [-1.0, 0.0, 0.5, 2.0]


def drawn(scale: float, n: int = 20_000, bins: int = 200) -> InputHistogram:
    values = np.random.default_rng(0).normal(scale=scale, size=n)
    return InputHistogram.of(values, np.linspace(-10, 10, bins + 1))


def test_inputs_are_counted_one_by_one() -> None:
    values = [-3.0, -1.0, -0.5, 0.0, 0.5, 0.49, 2.0, 1.99, math.inf, -math.inf, math.nan, 7.0]
    found = InputHistogram.of(np.array(values).reshape(3, 4), EDGES)
    expected = [sum(low <= v < high for v in values) for low, high in itertools.pairwise(EDGES)]
    assert found.counts.tolist() == expected
    assert found.below == sum(v < -1 for v in values)
    assert found.above == sum(v >= 2 for v in values)
    assert found.not_a_number == 1
    assert found.total == len(values)


def test_joined_histograms_are_those_of_all_inputs() -> None:
    first, second = np.random.default_rng(0).normal(size=(2, 50))
    joined = InputHistogram.joined([InputHistogram.of(v, EDGES) for v in (first, second)])
    whole = InputHistogram.of([first, second], EDGES)
    assert json.dumps(joined.as_json()) == json.dumps(whole.as_json())
    with pytest.raises(AquaSurfError, match="must have the same edges; got 2"):
        InputHistogram.joined([whole, InputHistogram.of(first, [0.0, 1.0])])
    with pytest.raises(AquaSurfError, match="got 0 of them"):
        InputHistogram.joined([])


def test_a_histogram_survives_json() -> None:
    one = drawn(1.0)
    other = InputHistogram.of_json(json.loads(json.dumps(one.as_json())))
    np.testing.assert_array_equal(other.edges, one.edges)
    np.testing.assert_array_equal(other.counts, one.counts)
    assert other[2:] == one[2:]


@pytest.mark.parametrize(
    ("edges", "message"),
    [
        ([0.0], "edges must be two or more finite numbers"),
        ([0.0, math.inf], "edges must be two or more finite numbers"),
        ([0.0, 0.0, 1.0], "edges must rise"),
    ],
)
def test_wrong_edges(edges: list[float], message: str) -> None:
    with pytest.raises(AquaSurfError, match=message):
        InputHistogram.of([0.0], edges)


def test_the_axis_spans_nearly_all_inputs() -> None:
    info = _get_input_distribution_info("tanh(x)", {"a": drawn(0.5), "b": drawn(1.0)})
    assert info is not None
    low, high = info.inputs[0], info.inputs[-1]
    # A thousandth of a normal distribution lies beyond 3.09 deviations.
    assert low == pytest.approx(-3.1, abs=0.25)
    assert high == pytest.approx(3.1, abs=0.25)
    for name, (edges, density) in info.densities.items():
        area = float((density * np.diff(edges)).sum())
        assert area == pytest.approx(1.0 - info.outside[name])
        assert 0.995 < area <= 1.0
    np.testing.assert_allclose(info.outputs, np.tanh(info.inputs))


def test_the_figure() -> None:
    figure = plot_input_distribution(
        "tanh(x)", {"at <initialization>": drawn(0.5), "after training": drawn(1.0)}
    )
    first, second, curve = figure.data
    assert [each.name.split(" (")[0] for each in figure.data] == [
        "at &lt;initialization&gt;", "after training", "tanh(x)",
    ]  # fmt: skip
    assert first.line.dash != second.line.dash
    assert {first.yaxis, second.yaxis} == {"y2"}
    assert curve.yaxis != "y2"
    assert len(first.x) == len(first.y)
    # Areas keep to the lower half.
    assert figure.layout.yaxis2.range[1] == pytest.approx(2 * max([*first.y, *second.y]))


def test_a_single_bin_and_inputs_that_are_all_alike() -> None:
    one = InputHistogram.of([0.3] * 5, [-1.0, 0.0, 1.0, 2.0])
    info = _get_input_distribution_info("relu(x)", {"a": one})
    assert info is not None
    assert (info.inputs[0], info.inputs[-1]) == (0.0, 1.0)
    assert info.densities["a"][1].tolist() == [1.0]


def test_no_inputs() -> None:
    empty = InputHistogram.of([math.nan, 99.0], EDGES)
    for given in ({}, {"a": empty}):
        figure = plot_input_distribution("relu(x)", given)
        assert figure.layout.annotations[0].text == "There are no inputs."
