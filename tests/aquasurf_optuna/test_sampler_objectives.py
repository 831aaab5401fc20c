"""Several objectives through the sampler: directions, failures in one of them, what is told."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.samplers import BaseSampler, NSGAIISampler, RandomSampler
from optuna.trial import TrialState

from aquasurf_optuna.catalogue import Catalogue
from aquasurf_optuna.expression import BASELINES
from aquasurf_optuna.sampler import AquaSurfSampler
from aquasurf_optuna.simplify import simplify
from aquasurf_optuna.space import SearchSpace
from tests.aquasurf_optuna.sampler_helpers import (
    TINY,
    StubSurrogate,
    by_class,
    suggest,
    tell,
    values_near,
)
from tests.oracles.front_oracle import dominated_area, front_of

NEAR = ("mul(hard_sigmoid(x),elu(x))", "min(tanh(x),abs(x))", "max(sinh(x),erf(x))")
DIRECTIONS = ["maximize", "minimize", "maximize"]


@pytest.fixture(scope="module")
def values(catalogue: Catalogue) -> np.ndarray:
    """Three values for each class, in the directions above."""
    signs = np.array([1.0, -1.0, 1.0])
    return np.column_stack([values_near(text, catalogue) for text in NEAR]) * signs


def study_of(
    sampler: BaseSampler, catalogue: Catalogue, values: np.ndarray, n_trials: int, m: int = 3
) -> optuna.Study:
    study = optuna.create_study(directions=DIRECTIONS[:m], sampler=sampler)

    def objective(trial: optuna.Trial) -> Sequence[float]:
        class_id = catalogue.class_of(catalogue.space.suggest(trial, "activation"))
        return values[class_id, :m].tolist()

    study.optimize(objective, n_trials=n_trials)
    return study


def ours(catalogue: Catalogue, **options: Any) -> AquaSurfSampler:
    settings: dict[str, Any] = {"pool_size": 200, "baselines": (), "seed": 0, **options}
    return AquaSurfSampler(catalogue.space, catalogue=catalogue, **settings)


def test_each_objective_is_learned_in_its_own_direction(
    sampler: AquaSurfSampler, stub: StubSurrogate, three_node: SearchSpace, catalogue: Catalogue
) -> None:
    study = optuna.create_study(directions=DIRECTIONS, sampler=sampler)
    texts = ("add(erf(x),zero(x))", "add(tanh(x),tanh(x))", "mul(identity(x),relu(x))")
    tell(study, three_node.params_of(texts[0], "activation"), three_node, values=(1.0, 2.0, 3.0))
    tell(
        study,
        three_node.params_of(texts[1], "activation"),
        three_node,
        values=(math.inf, 20.0, -math.inf),
    )
    params = three_node.params_of(texts[2], "activation")
    tell(study, params, three_node, state=TrialState.FAIL)
    suggest(study, three_node)

    first, second, third = (catalogue.class_of(text) for text in texts)
    # What is infinite in one objective is a failure in that one alone.
    assert [by_class(each, catalogue) for each in stub.diary.observed[:3]] == [
        {first: 1.0, second: -math.inf, third: -math.inf},
        {first: -2.0, second: -20.0, third: -math.inf},
        {first: 3.0, second: -math.inf, third: -math.inf},
    ]


def test_a_value_that_is_no_number_fails_the_trial_alone(
    catalogue: Catalogue, values: np.ndarray
) -> None:
    broken = values.copy()
    broken[::3, 1] = np.nan
    study = study_of(ours(catalogue), catalogue, broken, 15)

    states = {trial.state for trial in study.trials}
    assert states == {TrialState.COMPLETE, TrialState.FAIL}
    classes = [
        catalogue.class_of(catalogue.space.expression_of(t.params, "activation"))
        for t in study.trials
    ]
    assert len(set(classes)) == 15
    assert all(
        (c % 3 == 0) == (t.state == TrialState.FAIL)
        for c, t in zip(classes, study.trials, strict=True)
    )


def test_explanations_have_weights_and_a_prediction_of_each(
    catalogue: Catalogue, values: np.ndarray
) -> None:
    sampler = ours(catalogue)
    study = study_of(sampler, catalogue, values, 12)
    told = [sampler.explain(trial) for trial in study.trials[2:]]
    weights = set()
    for explanation in told:
        assert explanation is not None
        assert (
            len(explanation.predicted) == len(explanation.spread) == len(explanation.weights) == 3
        )
        assert sum(explanation.weights) == pytest.approx(1.0, abs=1e-3)
        assert all(len(near.values) == 3 for near in explanation.nearest)
        weights.add(explanation.weights)
    assert len(weights) == len(told)
    last = told[-1]
    assert last is not None
    # In the directions of the study: the second is a positive distance, the others are negative.
    assert [np.sign(v) for v in last.predicted] == [-1.0, 1.0, -1.0]
    assert [np.sign(v) for v in last.nearest[0].values if v is not None] == [-1.0, 1.0, -1.0]
    assert "weights of the objectives: " in str(last)


def test_the_front_is_told_as_simplified_functions(
    catalogue: Catalogue, values: np.ndarray
) -> None:
    sampler = ours(catalogue)
    study = study_of(sampler, catalogue, values, 15)
    front = sampler.front(study)

    done = [trial.values for trial in study.trials]
    assert {member.number for member in front} == front_of(done, DIRECTIONS)
    assert [member.values[0] for member in front] == sorted(
        (m.values[0] for m in front), reverse=True
    )
    for member in front:
        function = member.functions["activation"]
        class_id = catalogue.class_of(
            catalogue.space.expression_of(study.trials[member.number].params, "activation")
        )
        assert function == simplify(catalogue[class_id])
        assert member.values == tuple(values[class_id])


def test_the_front_of_a_minimised_first_objective_begins_with_the_least(tiny: Catalogue) -> None:
    sampler = AquaSurfSampler(TINY, catalogue=tiny, baselines=(), seed=0)
    study = optuna.create_study(directions=["minimize", "maximize"], sampler=sampler)
    study.optimize(
        lambda t: (float(n := tiny.class_of(TINY.suggest(t, "activation"))), float(n)), n_trials=6
    )
    told = [member.values[0] for member in sampler.front(study)]
    assert len(told) == 6
    assert told == sorted(told)


def test_other_trials_on_the_front_are_left_out(tiny: Catalogue) -> None:
    sampler = AquaSurfSampler(TINY, catalogue=tiny, baselines=(), seed=0)
    study = optuna.create_study(directions=["minimize", "maximize"], sampler=sampler)
    study.add_trial(optuna.create_trial(values=(0.0, 9.0)))
    assert len(study.best_trials) == 1
    assert sampler.front(study) == ()


def test_the_area_beats_that_of_chance_over_seeds(catalogue: Catalogue, values: np.ndarray) -> None:
    # All begin with the baselines.
    classes = [catalogue.class_of(text) for text in BASELINES]
    known = values[classes, :2].tolist()

    def area(sampler: BaseSampler, n_trials: int) -> float:
        study = study_of(sampler, catalogue, values, n_trials, m=2)
        done = [trial.values for trial in study.trials]
        return dominated_area([*known, *done], (-1.0, 1.0), DIRECTIONS[:2])

    seeds = range(5)
    found = [area(ours(catalogue, seed=seed, baselines=BASELINES), 30) for seed in seeds]
    chance = [area(RandomSampler(seed=seed), 30 - len(known)) for seed in seeds]
    assert sum(a > b for a, b in zip(found, chance, strict=True)) >= 4
    assert np.mean(found) > np.mean(chance)


def test_the_other_parameters_go_to_nsgaii(tiny: Catalogue) -> None:
    base = NSGAIISampler(seed=0, population_size=6)
    sampler = AquaSurfSampler(TINY, catalogue=tiny, base_sampler=base, seed=0)
    study = optuna.create_study(directions=["minimize", "maximize"], sampler=sampler)

    def objective(trial: optuna.Trial) -> tuple[float, float]:
        length = float(len(str(TINY.suggest(trial, "activation"))))
        return length, trial.suggest_float("lr", 0.0, 1.0)

    study.optimize(objective, n_trials=14)
    assert len({trial.params["lr"] for trial in study.trials}) > 6
    assert any("NSGAIISampler:generation" in key for t in study.trials for key in t.system_attrs)
