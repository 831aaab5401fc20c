"""What was predicted of trials: what their explanations say, and figures that follow from it."""

import math

import optuna
import pytest
from scipy.stats import norm, rankdata

from aquasurf_optuna import AquaSurfSampler, UmapKnnSurrogate
from aquasurf_optuna.surrogate import Surrogate
from aquasurf_optuna.visualization import plot_predictions
from aquasurf_optuna.visualization._predictions import _get_predictions_info
from tests.aquasurf_optuna.studies import SPACE, study_of


def searched(
    n: int, *, direction: str = "maximize", surrogate: str | Surrogate = "gp"
) -> tuple[optuna.Study, AquaSurfSampler]:
    sampler = AquaSurfSampler(
        SPACE, surrogate=surrogate, baselines=("relu(x)", "tanh(x)"), pool_size=60, seed=0
    )
    study = optuna.create_study(direction=direction, sampler=sampler)

    def objective(trial: optuna.Trial) -> float:
        text = str(SPACE.suggest(trial, "activation"))
        return len(text) / 10 + text.count("relu")

    study.optimize(objective, n_trials=n)
    return study, sampler


@pytest.mark.parametrize("direction", ["maximize", "minimize"])
def test_predictions_are_those_of_the_explanations(direction: str) -> None:
    study, sampler = searched(12, direction=direction)
    info = _get_predictions_info(study, SPACE, name="activation")

    expected = {}
    for trial in study.trials:
        explanation = sampler.explain(trial)
        if explanation is not None and explanation.predicted:
            expected[trial.number] = (explanation.predicted[0], explanation.spread[0], trial.value)
    assert len(expected) >= 9
    assert {
        each.trial.number: (each.predicted, each.spread, each.trial.value)
        for each in info.predictions
    } == expected
    triples = list(expected.values())
    predicted, measured = ([row[i] for row in triples] for i in (0, 2))
    reach = norm.ppf(0.975)
    assert info.of == len(triples)
    assert info.within == sum(abs(v - p) <= reach * sd for p, sd, v in triples)
    ranks = [rankdata(column) for column in (predicted, measured)]
    mean = (len(triples) + 1) / 2
    covariance = sum((a - mean) * (b - mean) for a, b in zip(*ranks, strict=True))
    lengths = math.prod(math.sqrt(sum((a - mean) ** 2 for a in column)) for column in ranks)
    assert info.correlation == pytest.approx(covariance / lengths)


def test_the_figure() -> None:
    study, _ = searched(12)
    figure = plot_predictions(study, SPACE, value_name="test accuracy")
    diagonal, points = figure.data
    assert list(diagonal.x) == list(diagonal.y)
    everything = [*points.x, *points.y]
    assert list(diagonal.x) == [min(everything), max(everything)]
    assert (points.error_x.array > 0).all()
    assert figure.layout.yaxis.title.text == "measured test accuracy"
    assert "within their 95% interval" in figure.layout.annotations[0].text
    assert "predicted" in points.hovertext[0]


def test_a_surrogate_that_knows_no_spread() -> None:
    study, _ = searched(9, surrogate=UmapKnnSurrogate(features="outputs"))
    info = _get_predictions_info(study, SPACE, name="activation")
    assert info.predictions
    assert info.of == 0
    assert "interval" not in info.summary
    assert not plot_predictions(study, SPACE).data[1].error_x.array.any()


def test_no_trial_was_predicted() -> None:
    figure = plot_predictions(study_of(), SPACE)
    assert figure.layout.annotations[0].text.startswith("No complete trial was ranked")
