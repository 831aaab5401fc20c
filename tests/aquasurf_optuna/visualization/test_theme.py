import numpy as np
import plotly.graph_objects as go
import pytest

from aquasurf_optuna.visualization import dark, plot_embedding, plot_functions, plot_search_progress
from aquasurf_optuna.visualization._style import DARK, INK, PAPER
from tests.aquasurf_optuna.studies import SPACE, study_of

# W3C's least contrast of text, and of parts of a figure that are needed to understand it.
TEXT, PARTS = 4.5, 3.0


def contrast(first: str, second: str) -> float:
    """The ratio of relative luminances, after WCAG 2."""
    levels = []
    for colour in (first, second):
        channels = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
        linear = np.where(
            channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4
        )
        levels.append(float(linear @ [0.2126, 0.7152, 0.0722]))
    return (max(levels) + 0.05) / (min(levels) + 0.05)


def test_the_measure_of_contrast() -> None:
    assert contrast("#FFFFFF", "#000000") == pytest.approx(21.0)
    assert contrast("#777777", "#FFFFFF") == pytest.approx(4.48, abs=0.01)


@pytest.mark.parametrize("name", ["INK", "MUTED"])
def test_texts_are_read_on_either_page(name: str) -> None:
    from aquasurf_optuna.visualization import _style

    colour = getattr(_style, name)
    assert contrast(colour, PAPER) >= TEXT
    assert contrast(DARK[colour], DARK[PAPER]) >= TEXT


@pytest.mark.parametrize("name", ["BLUE", "ORANGE", "VERMILION", "GREEN", "GREY"])
def test_marks_are_seen_on_a_dark_page(name: str) -> None:
    from aquasurf_optuna.visualization import _style

    colour = getattr(_style, name)
    assert contrast(DARK.get(colour, colour), DARK[PAPER]) >= PARTS


@pytest.mark.parametrize(
    "figure",
    [
        plot_search_progress(study_of(), SPACE),
        plot_functions(["tanh(x)", "relu(x)"]),
        plot_embedding([[0.0, 1.0], [1.0, 0.0]], ["relu(x)", "erf(x)"], [0.5, np.nan]),
    ],
)
def test_a_dark_figure_has_no_colour_of_the_light_page(figure: go.Figure) -> None:
    before = figure.to_json()
    light = {colour for colour in (PAPER, INK) if colour in before}
    assert light == {PAPER, INK}
    other = dark(figure)
    assert not [colour for colour in DARK if f'"{colour}"' in other.to_json()]
    assert DARK[PAPER] in other.to_json()
    assert figure.to_json() == before
    assert [each.name for each in other.data] == [each.name for each in figure.data]
