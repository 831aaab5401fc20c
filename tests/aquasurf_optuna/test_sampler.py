"""The sampler: in what order functions are tried, and what it refuses."""

from typing import Any

import numpy as np
import optuna
import pytest
from optuna.samplers import RandomSampler, TPESampler

from aquasurf_optuna.catalogue import Catalogue
from aquasurf_optuna.exceptions import AquaSurfError, SamplerError
from aquasurf_optuna.expression import BASELINES, Expression
from aquasurf_optuna.sampler import AquaSurfSampler
from aquasurf_optuna.space import SearchSpace
from aquasurf_optuna.surrogate import UmapKnnSurrogate
from tests.aquasurf_optuna.sampler_helpers import (
    TINY,
    StubFeaturizer,
    StubSurrogate,
    best_of,
    classes_of,
    optuna_log,
    suggest,
    tell,
)


def test_baselines_come_first_and_in_order(three_node: SearchSpace, catalogue: Catalogue) -> None:
    study = optuna.create_study(sampler=AquaSurfSampler(three_node, catalogue=catalogue, seed=0))
    study.optimize(lambda t: len(str(three_node.suggest(t, "activation"))), n_trials=8)

    assert classes_of(study, three_node, catalogue) == [catalogue.class_of(b) for b in BASELINES]


def test_baselines_are_the_users_choice(three_node: SearchSpace, catalogue: Catalogue) -> None:
    sampler = AquaSurfSampler(
        three_node, catalogue=catalogue, baselines=("cosh(elu(x))", "max(erf(x),sinh(x))", "erf(x)")
    )
    with optuna_log() as messages:
        study = optuna.create_study(sampler=sampler)
        study.optimize(lambda t: len(str(three_node.suggest(t, "activation"))), n_trials=2)

    expected = [catalogue.class_of(text) for text in ("max(erf(x),sinh(x))", "erf(x)")]
    assert classes_of(study, three_node, catalogue) == expected
    assert [m for m in messages if "has no cosh(elu(x)); it is left out" in m]


def test_a_baseline_tried_before_is_not_tried_again(tiny: Catalogue) -> None:
    study = optuna.create_study(sampler=AquaSurfSampler(TINY, catalogue=tiny, seed=0))
    # An equal function by another graph.
    tell(study, TINY.params_of("add(zero(x),relu(x))", "activation"), TINY, value=1.0)

    _, expression = suggest(study, TINY)
    assert tiny.class_of(expression) == tiny.class_of("tanh(x)")


def test_then_comes_the_best_predicted_candidate(
    sampler: AquaSurfSampler, three_node: SearchSpace, catalogue: Catalogue
) -> None:
    study = optuna.create_study(direction="maximize", sampler=sampler)
    study.optimize(lambda t: float(three_node.suggest(t, "activation").depth), n_trials=12)

    ran = classes_of(study, three_node, catalogue)
    for n in range(1, 12):
        assert ran[n] == best_of(sampler, set(ran[:n]))


@pytest.mark.parametrize(("direction", "sign"), [("maximize", 1.0), ("minimize", -1.0)])
def test_the_surrogate_hears_that_higher_is_better(
    sampler: AquaSurfSampler,
    stub: StubSurrogate,
    three_node: SearchSpace,
    catalogue: Catalogue,
    direction: str,
    sign: float,
) -> None:
    study = optuna.create_study(direction=direction, sampler=sampler)
    values = [3.0, -1.0, 0.5, 7.0]
    for value in values:
        trial, _ = suggest(study, three_node)
        study.tell(trial, value)
    suggest(study, three_node)

    ran = classes_of(study, three_node, catalogue)
    expected = dict(zip(ran[:4], (sign * value for value in values), strict=True))
    assert stub.diary.observed_classes(catalogue) == expected


def test_a_function_tried_twice_counts_with_its_mean(
    sampler: AquaSurfSampler, stub: StubSurrogate, three_node: SearchSpace, catalogue: Catalogue
) -> None:
    study = optuna.create_study(direction="maximize", sampler=sampler)
    for text, value in [("add(erf(x),zero(x))", 1.0), ("add(zero(x),erf(x))", 2.0)]:
        tell(study, three_node.params_of(text, "activation"), three_node, value=value)
    suggest(study, three_node)

    assert stub.diary.observed_classes(catalogue) == {catalogue.class_of("erf(x)"): 1.5}


def test_the_base_sampler_gets_the_other_parameters(
    three_node: SearchSpace, catalogue: Catalogue
) -> None:
    class Diary(RandomSampler):
        def __init__(self) -> None:
            super().__init__(seed=0)
            self.relative: list[set[str]] = []
            self.independent: list[str] = []
            self.finished = 0

        def infer_relative_search_space(self, study: Any, trial: Any) -> Any:
            lr = optuna.distributions.FloatDistribution(0.0, 1.0)
            return {"lr": lr, **three_node.distributions("activation")}

        def sample_relative(self, study: Any, trial: Any, search_space: Any) -> dict[str, Any]:
            self.relative.append(set(search_space))
            return {"lr": 0.125}

        def sample_independent(self, study: Any, trial: Any, name: str, dist: Any) -> Any:
            self.independent.append(name)
            return super().sample_independent(study, trial, name, dist)

        def after_trial(self, study: Any, trial: Any, state: Any, values: Any) -> None:
            self.finished += 1

    base = Diary()
    sampler = AquaSurfSampler(three_node, catalogue=catalogue, base_sampler=base, seed=0)
    study = optuna.create_study(sampler=sampler)

    def objective(trial: optuna.Trial) -> float:
        three_node.suggest(trial, "activation")
        return trial.suggest_float("lr", 0.0, 1.0) + trial.suggest_int("depth", 1, 5)

    study.optimize(objective, n_trials=3)
    assert base.relative == [{"lr"}] * 3
    assert base.independent == ["depth"] * 3
    assert base.finished == 3
    assert {trial.params["lr"] for trial in study.trials} == {0.125}


def test_the_default_base_sampler_learns(three_node: SearchSpace, catalogue: Catalogue) -> None:
    sampler = AquaSurfSampler(three_node, catalogue=catalogue, pool_size=60, seed=0)
    study = optuna.create_study(sampler=sampler)

    def objective(trial: optuna.Trial) -> float:
        three_node.suggest(trial, "activation")
        return (trial.suggest_float("lr", 0.0, 1.0) - 0.7) ** 2

    study.optimize(objective, n_trials=50)
    distances = [abs(trial.params["lr"] - 0.7) for trial in study.trials]
    assert isinstance(sampler._base_sampler, TPESampler)
    assert np.mean(distances[40:]) < 0.5 * np.mean(distances[:10])


def test_a_node_asked_for_alone_gets_an_operator(
    sampler: AquaSurfSampler, three_node: SearchSpace
) -> None:
    study = optuna.create_study(sampler=sampler)
    node, distribution = next(iter(three_node.distributions("activation").items()))
    study.ask()

    operator = sampler.sample_independent(study, study.trials[0], node, distribution)
    assert operator in distribution.choices


def test_activations_have_names(tiny: Catalogue) -> None:
    sampler = AquaSurfSampler({"stem": TINY, "head": TINY}, catalogue=tiny, pool_size=6, seed=0)

    assert sampler.catalogue("stem") is sampler.catalogue("head")
    with pytest.raises(SamplerError, match=r"one of the activations \['head', 'stem'\]"):
        sampler.embedding()
    with pytest.raises(SamplerError, match="but got 'tail'"):
        sampler.catalogue("tail")


def test_the_embedding_is_told(three_node: SearchSpace, catalogue: Catalogue) -> None:
    sampler = AquaSurfSampler(three_node, catalogue=catalogue, pool_size=50, seed=0)
    embedding = sampler.embedding()

    n = len(embedding.expressions)
    assert 50 <= n <= 58
    assert embedding.coordinates.shape == (n, 2)
    assert embedding.classes.shape == (n,)
    assert [catalogue.class_of(e) for e in embedding.expressions] == embedding.classes.tolist()
    np.testing.assert_array_equal(embedding.coordinates, sampler.embedding().coordinates)


def test_a_catalogue_is_made_if_none_is_given(tiny: Catalogue) -> None:
    def ran(sampler: AquaSurfSampler) -> list[int]:
        study = optuna.create_study(sampler=sampler)
        study.optimize(lambda t: float(len(str(TINY.suggest(t, "activation")))), n_trials=8)
        return classes_of(study, TINY, tiny)

    assert ran(AquaSurfSampler(TINY, seed=0)) == ran(AquaSurfSampler(TINY, catalogue=tiny, seed=0))


# Refusals


@pytest.mark.parametrize(
    ("space", "options", "problem"),
    [
        ({}, {}, "at least one SearchSpace, but got an empty mapping"),
        ({"a": "three_node"}, {}, "but got 'a': 'three_node'"),
        ({1: TINY}, {}, "but got 1: SearchSpace"),
        ({"explanation": TINY}, {}, "cannot be named 'explanation'"),
        ({"failed": TINY}, {}, "cannot be named 'failed'"),
        (TINY, {"pool_size": 0}, "pool_size must be an integer of at least 1, but got 0"),
        (TINY, {"pool_size": 2.0}, "pool_size must be an integer of at least 1, but got 2.0"),
        (TINY, {"store": "sqlite://"}, "keeps Fisher features, but there are none"),
        (TINY, {"surrogate": UmapKnnSurrogate()}, "needs Fisher features"),
        (TINY, {"surrogate": "knn"}, "surrogate must be one of 'gp', .* but got 'knn'"),
        (TINY, {"pool": "all"}, r"pool must be one of \('random', 'following', 'stored'\)"),
        (TINY, {"pool": "stored"}, "a store holds; pass store="),
        (TINY, {"diversity": 1.5}, "diversity must be from 0 to 1, but got 1.5"),
        (TINY, {"running_timeout": 0}, "running_timeout must be a number of seconds above 0"),
        (TINY, {"features": {"other": StubFeaturizer()}}, r"but got \['other'\] too"),
        (TINY, {"catalogue": "all"}, "the catalogue of 'activation' must be made of its space"),
    ],
)
def test_wrong_arguments_are_refused(space: Any, options: dict[str, Any], problem: str) -> None:
    with pytest.raises(AquaSurfError, match=problem):
        AquaSurfSampler(space, **options)


def test_the_catalogue_of_another_space_is_refused(catalogue: Catalogue) -> None:
    with pytest.raises(SamplerError, match="must be made of its space .*, 32 graphs"):
        AquaSurfSampler(TINY, catalogue=catalogue)


def test_baselines_are_read_at_once() -> None:
    with pytest.raises(ValueError, match="reul"):
        AquaSurfSampler(TINY, baselines=("reul(x)",))
    AquaSurfSampler(TINY, baselines=("relu(x)", Expression.parse("tanh(x)")))
