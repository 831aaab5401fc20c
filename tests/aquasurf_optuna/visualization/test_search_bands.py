import math
import statistics

import numpy as np
import pytest

from aquasurf_optuna.exceptions import AquaSurfError
from aquasurf_optuna.visualization import plot_search_bands
from aquasurf_optuna.visualization._search_bands import _get_search_bands_info

CURVES = {"ours": [[0.1, 0.5, 0.9], [0.3, 0.7, 0.9]], "<tpe>": [[0.1, 0.2, 0.4]]}


def test_the_bands() -> None:
    ours, tpe = _get_search_bands_info(CURVES, {}).bands
    assert (ours.name, ours.repeats, tpe.repeats) == ("ours", 2, 1)
    for step in range(3):
        values = [curve[step] for curve in CURVES["ours"]]
        assert ours.mean[step] == pytest.approx(statistics.mean(values))
        half = 1.96 * statistics.stdev(values) / math.sqrt(2)
        assert ours.half[step] == pytest.approx(half)
    assert tpe.mean.tolist() == CURVES["<tpe>"][0]
    assert np.isnan(tpe.half).all()


def test_the_axis_spans_bands_and_lines() -> None:
    limits = _get_search_bands_info(CURVES, {"best": 1.5, "worst": -2.0}).limits
    assert limits == pytest.approx((-2.175, 1.675))
    low, high = _get_search_bands_info({"one": [[0.5, 0.5]]}, {}).limits or (0, 0)
    assert low < 0.5 < high


def test_the_figure() -> None:
    figure = plot_search_bands(CURVES, lines={"best <of> all": 1.0}, value_name="test accuracy")
    band, ours, tpe = figure.data
    assert list(ours.y) == pytest.approx([0.2, 0.6, 0.9])
    assert list(ours.x) == [0, 1, 2]
    assert (ours.name, tpe.name) == ("ours", "&lt;tpe&gt;")
    assert list(band.y[1::3]) == pytest.approx([0.6 + 1.96 * 0.1, 0.6 - 1.96 * 0.1])
    assert list(band.x) == [0, 1, 2, 2, 1, 0]
    # A band has the colour of its line, as three numbers.
    assert band.fillcolor == "rgba(0, 114, 178, 0.16)"
    assert ours.line.color == "#0072B2"
    assert "after 1 evaluations: mean test accuracy 0.6000 ± 0.1960" in ours.hovertext[1]
    assert tpe.hovertext[0].endswith("mean test accuracy 0.1000<br>1 repeats")
    assert [each.text for each in figure.layout.annotations] == ["best &lt;of&gt; all 1.000"]
    assert figure.layout.yaxis.title.text == "test accuracy"


def test_nine_searches_are_told_apart() -> None:
    figure = plot_search_bands({str(number): [[0.1, 0.2]] for number in range(9)})
    assert len({(each.line.color, each.line.dash) for each in figure.data}) == 9


def test_no_searches() -> None:
    assert plot_search_bands({}).layout.annotations[0].text == "There are no searches."


@pytest.mark.parametrize(
    ("curve", "message"),
    [
        ([0.1, 0.2], r"the curves of 'a' must be a finite array .* got shape \(2,\) with 0"),
        ([[0.1, math.nan]], r"got shape \(1, 2\) with 1 values that are not finite"),
        (np.zeros((0, 3)), r"got shape \(0, 3\)"),
    ],
)
def test_curves_that_are_none(curve: object, message: str) -> None:
    with pytest.raises(AquaSurfError, match=message):
        plot_search_bands({"a": curve})
