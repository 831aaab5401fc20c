"""What the surrogate predicted of each trial, beside what it measured."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import optuna
import plotly.graph_objects as go
from scipy.stats import norm, spearmanr

from aquasurf_optuna._explanation import EXPLANATION_KEY
from aquasurf_optuna.families import AnySpace
from aquasurf_optuna.visualization._names import escaped, number
from aquasurf_optuna.visualization._style import (
    BLUE,
    GREY,
    PAPER,
    VERMILION,
    empty_figure,
    new_figure,
    style_axes,
)
from aquasurf_optuna.visualization._trials import TrialRecord, read_study

_TITLE = "Predicted and measured"
_HEIGHT = 500
_LEVEL = 0.95
_Z = float(norm.ppf(0.5 + _LEVEL / 2))


class _Prediction(NamedTuple):
    trial: TrialRecord
    predicted: float
    spread: float  # NaN where the surrogate knows none


class _PredictionsInfo(NamedTuple):
    predictions: list[_Prediction]
    # Spearman's rank correlation; NaN of fewer than three trials or of values all alike.
    correlation: float
    # Trials within the 95% interval of their prediction, of those that have one.
    within: int
    of: int

    @property
    def summary(self) -> str:
        """The figures in words."""
        told = []
        if math.isfinite(self.correlation):
            told.append(f"rank correlation {self.correlation:.2f}")
        if self.of:
            told.append(f"{self.within} of {self.of} within their {_LEVEL:.0%} interval")
        return "; ".join(told)


def plot_predictions(
    study: optuna.Study,
    space: AnySpace,
    *,
    name: str = "activation",
    value_name: str = "objective value",
) -> go.Figure:
    """Plot the measured value of each trial over what was predicted when it was proposed.

    Only trials that the surrogate ranked have a prediction, which `AquaSurfSampler` keeps with
    them. Bars span the 95% interval of the prediction, for surrogates that know a spread; of a
    calibrated one, 95% of the points lie within the bar's reach of the diagonal. A search proposes
    what it hopes is good, so that its predictions are rather too high: that is no fault.

    Args:
        study: A study with one objective.
        space: The space from which its functions come.
        name: The name under which the space was suggested.
        value_name: What the objective measures, with its unit if it has one.

    Returns:
        The figure; one with a message if no complete trial was predicted.

    Raises:
        AquaSurfError: If the study has several objectives.
        SpaceError: If the trials have no activation of that name, or one of another space.
    """
    info = _get_predictions_info(study, space, name=name)
    if not info.predictions:
        return empty_figure(_TITLE, "No complete trial was ranked by the surrogate yet.")
    figure = new_figure(_TITLE, height=_HEIGHT)
    style_axes(figure, x=f"predicted {value_name}", y=f"measured {value_name}")
    predicted = [each.predicted for each in info.predictions]
    measured = [each.trial.value for each in info.predictions]
    low, high = min(predicted + measured), max(predicted + measured)
    figure.add_scatter(
        x=[low, high],
        y=[low, high],
        mode="lines",
        line={"color": GREY, "width": 1.5, "dash": "dash"},
        name="as predicted",
        hoverinfo="skip",
    )
    bars = [_Z * each.spread for each in info.predictions]
    figure.add_scatter(
        x=predicted,
        y=measured,
        mode="markers",
        marker={"color": BLUE, "size": 8, "line": {"color": PAPER, "width": 1}},
        error_x={"array": np.nan_to_num(bars), "color": BLUE, "thickness": 0.7, "width": 0},
        name="trial",
        hovertext=[_hover(each, value_name) for each in info.predictions],
        hoverinfo="text",
    )
    if info.summary:
        figure.add_annotation(
            text=escaped(info.summary).replace("; ", "<br>"), align="left",
            x=0.0, y=1.0, xref="paper", yref="paper", xanchor="left", yanchor="bottom",
            showarrow=False, font={"size": 12, "color": VERMILION},
        )  # fmt: skip
    return figure


def _get_predictions_info(study: optuna.Study, space: AnySpace, *, name: str) -> _PredictionsInfo:
    record = read_study(study, space, name=name, baselines=())
    kept = {
        trial.number: trial.system_attrs.get(EXPLANATION_KEY, {})
        for trial in study.get_trials(deepcopy=False)
    }
    predictions = []
    for trial in record.trials:
        predicted = kept[trial.number].get("value", [])
        if trial.state == "complete" and len(predicted) == 1:
            [spread] = kept[trial.number].get("sd") or [None]
            predictions.append(
                _Prediction(trial, predicted[0], math.nan if spread is None else spread)
            )
    sure = [each for each in predictions if each.spread > 0]
    within = [each for each in sure if abs(each.trial.value - each.predicted) <= _Z * each.spread]
    return _PredictionsInfo(predictions, _correlation(predictions), len(within), len(sure))


def _correlation(predictions: list[_Prediction]) -> float:
    pairs = np.array([(each.predicted, each.trial.value) for each in predictions])
    if len(pairs) < 3 or (np.ptp(pairs, axis=0) == 0).any():
        return math.nan
    return float(spearmanr(pairs).statistic)


def _hover(each: _Prediction, value_name: str) -> str:
    spread = "" if math.isnan(each.spread) else f" ± {number(each.spread)}"
    function = "function unknown" if each.trial.expression is None else str(each.trial.expression)
    return "<br>".join(
        [
            f"<b>{escaped(function)}</b>",
            f"trial {each.trial.number}",
            f"{escaped(value_name)} {number(each.trial.value)}",
            f"predicted {number(each.predicted)}{spread}",
        ]
    )
