"""The figures of a study, made to fit the cards of optuna-dashboard.

A card is 450 pixels high, whatever the figure says; what is higher covers its neighbours.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import optuna
import plotly.graph_objects as go

from aquasurf_optuna._explanation import EXPLANATION_KEY
from aquasurf_optuna._search_report import embedding_section
from aquasurf_optuna.expression import Expression
from aquasurf_optuna.families import AnySpace
from aquasurf_optuna.sampler import AquaSurfSampler
from aquasurf_optuna.visualization import (
    plot_function,
    plot_operator_importances,
    plot_pareto,
    plot_predictions,
    plot_search_progress,
    plot_value_histogram,
)
from aquasurf_optuna.visualization._trials import Baselines, read_study

_HEIGHT = 450
_MOST_OBJECTIVES = 3
# Pixels that are left for the rows of the operators, and the largest letters among them.
_ROWS_HEIGHT, _LARGEST_FONT = 270, 11
# Pixels above the axes, where two lines stand under the title.
_LINES_ABOVE = 84


def search_figures(
    study: optuna.Study,
    space: AnySpace,
    *,
    name: str,
    baselines: Baselines,
    value_name: str,
    sampler: AquaSurfSampler | None,
    best: Expression | None,
) -> dict[str, go.Figure]:
    """Return the figures of a study with one objective, by their ids."""
    figures = {
        "aquasurf-progress": plot_search_progress(
            study, space, name=name, baselines=baselines, value_name=value_name
        ),
        "aquasurf-values": plot_value_histogram(
            study, space, name=name, baselines=baselines, value_name=value_name
        ),
        "aquasurf-operators": _smaller_rows(
            plot_operator_importances(study, space, name=name, value_name=value_name)
        ),
    }
    if best is not None:
        figures["aquasurf-function"] = _titled(plot_function(best), "The best function so far")
    if any(EXPLANATION_KEY in trial.system_attrs for trial in study.get_trials(deepcopy=False)):
        predictions = plot_predictions(study, space, name=name, value_name=value_name)
        figures["aquasurf-predictions"] = predictions.update_layout(margin_t=_LINES_ABOVE)
    if sampler is not None:
        record = read_study(study, space, name=name, baselines=baselines)
        section = embedding_section(record, sampler, name, baselines, value_name)
        figures["aquasurf-map"] = section.figures[0]
    return {key: figure.update_layout(height=_HEIGHT) for key, figure in figures.items()}


def front_figures(
    study: optuna.Study,
    spaces: Mapping[str, AnySpace],
    *,
    baselines: Baselines,
    value_names: Sequence[str],
) -> dict[str, go.Figure]:
    """Return the figure of a study with several objectives; none where these are four and more."""
    if len(value_names) > _MOST_OBJECTIVES:
        return {}
    figure = plot_pareto(study, spaces, baselines=list(baselines), value_names=value_names)
    return {"aquasurf-pareto": _first_axes(figure).update_layout(height=_HEIGHT)}


def _titled(figure: go.Figure, title: str) -> go.Figure:
    place = {"text": title, "x": 0.0, "xref": "container", "pad": {"l": 12}}
    return figure.update_layout(title=place, margin_t=_LINES_ABOVE)


def _smaller_rows(figure: go.Figure) -> go.Figure:
    title = figure.layout.xaxis.title.text
    if title:
        # Half a window is too narrow for the whole line.
        figure.update_xaxes(title_text=title.replace(", with", "<br>with"), title_font_size=12)
    rows = len(figure.layout.yaxis.categoryarray or ())
    size = min(_LARGEST_FONT, 0.8 * _ROWS_HEIGHT / max(rows, 1))
    return figure.update_yaxes(tickfont_size=size)


def _first_axes(figure: go.Figure) -> go.Figure:
    """Return a figure without the panels under its first axes, for which a card has no room."""
    traces = [
        trace for trace in figure.data if trace.type == "scatter3d" or trace.xaxis in (None, "x")
    ]
    layout = figure.layout.to_plotly_json()
    axes = {key: value for key, value in layout.items() if not _is_panel(key)}
    notes = [each for each in layout.get("annotations", ()) if each.get("xref") == "x"]
    shapes = [each for each in layout.get("shapes", ()) if each.get("xref") == "x"]
    kept = go.Figure(traces, {**axes, "annotations": notes, "shapes": shapes})
    if "scene" in layout:
        return kept.update_scenes(domain={"x": [0, 1], "y": [0, 1]})
    return kept.update_xaxes(domain=[0, 1]).update_yaxes(domain=[0, 1])


def _is_panel(key: str) -> bool:
    axis = key.startswith(("xaxis", "yaxis"))
    return axis and key[5:] != ""
