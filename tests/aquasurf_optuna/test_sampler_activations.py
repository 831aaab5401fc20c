"""Several activations in one study: searched together, by their names."""

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.samplers import BaseSampler, PartialFixedSampler, RandomSampler
from optuna.trial import TrialState

from aquasurf_optuna.catalogue import Catalogue
from aquasurf_optuna.expression import Expression
from aquasurf_optuna.sampler import AquaSurfSampler
from aquasurf_optuna.space import SearchSpace
from tests.aquasurf_optuna.sampler_helpers import (
    TINY,
    StubFeaturizer,
    StubSurrogate,
    optuna_log,
    values_near,
)

SMALL = SearchSpace(
    "binary(unary(x),unary(x))",
    unary=("relu", "tanh", "identity", "erf", "square", "sigmoid", "elu", "exp"),
    binary=("add", "mul", "max"),
)
NAMES = ("stem", "head")
FLAT = SearchSpace("unary(x)", unary=("relu", "tanh", "erf"))


@pytest.fixture(scope="module")
def small() -> Catalogue:
    return Catalogue.of(SMALL)


def sampler_of(catalogue: Catalogue, **options: Any) -> AquaSurfSampler:
    settings: dict[str, Any] = {"baselines": (), "pool_size": 60, "seed": 0, **options}
    return AquaSurfSampler(
        dict.fromkeys(NAMES, catalogue.space),
        catalogue=dict.fromkeys(NAMES, catalogue),
        **settings,
    )


def suggested(trial: optuna.Trial, space: SearchSpace) -> tuple[Expression, Expression]:
    return space.suggest(trial, "stem"), space.suggest(trial, "head")


def keys_of(study: optuna.Study, catalogue: Catalogue) -> list[tuple[int, ...]]:
    """The combination that each trial ran."""
    return [
        tuple(catalogue.class_of(catalogue.space.expression_of(t.params, name)) for name in NAMES)
        for t in study.trials
    ]


def length(trial: optuna.Trial) -> float:
    return float(sum(len(str(each)) for each in suggested(trial, TINY)))


# What is proposed


def test_no_combination_comes_twice_while_there_is_another(tiny: Catalogue) -> None:
    study = optuna.create_study(sampler=sampler_of(tiny, pool_size=8))
    for number in range(40):
        trial = study.ask()
        value = length(trial)
        # A third stays running.
        if number % 3:
            study.tell(trial, value)

    ran = keys_of(study, tiny)
    assert len(set(ran)) == 40
    # The same function may well come again beside another one.
    assert len({stem for stem, _ in ran}) < 40


def test_a_product_of_spaces_is_searched_to_its_end() -> None:
    sampler = AquaSurfSampler({"stem": FLAT, "head": FLAT}, baselines=("relu(x)",), seed=0)
    study = optuna.create_study(sampler=sampler)
    with optuna_log() as messages:
        study.optimize(lambda t: float(len(str(suggested(t, FLAT)))), n_trials=11)

    ran = [tuple(trial.params.values()) for trial in study.trials]
    assert set(ran[:9]) == set(itertools.product(("relu", "tanh", "erf"), repeat=2))
    assert ran[9] == ran[10] == min(ran, key=lambda each: len(each[0]) + len(each[1]))
    assert len([m for m in messages if "(stem) and" in m and "is tried, running" in m]) == 1


def test_an_objective_that_uses_another_name_is_told_so_once() -> None:
    study = optuna.create_study(sampler=AquaSurfSampler(FLAT, baselines=(), seed=0))
    with optuna_log() as messages:
        study.optimize(lambda trial: float(FLAT.suggest(trial, "act").depth), n_trials=3)
    [warning] = [m for m in messages if "has no function of the name" in m]
    assert "trial 0 has no function of the name 'activation'" in warning
    assert "its parameters are ['act.0']" in warning


def test_an_objective_that_uses_one_of_the_names_is_told_nothing() -> None:
    sampler = AquaSurfSampler({"stem": FLAT, "head": FLAT}, baselines=(), seed=0)
    with optuna_log() as messages:
        optuna.create_study(sampler=sampler).optimize(
            lambda trial: float(FLAT.suggest(trial, "head").depth), n_trials=2
        )
    assert not [m for m in messages if "has no function of the name" in m]


def test_baselines_stand_at_every_site(small: Catalogue) -> None:
    study = optuna.create_study(sampler=sampler_of(small, baselines=("relu(x)", "tanh(x)")))
    study.optimize(lambda t: float(len(str(suggested(t, SMALL)))), n_trials=3)

    relu, tanh = (small.class_of(text) for text in ("max(relu(x),relu(x))", "max(tanh(x),tanh(x))"))
    assert keys_of(study, small)[:2] == [(relu, relu), (tanh, tanh)]


def test_the_surrogate_sees_all_sites_side_by_side(tiny: Catalogue) -> None:
    stub = StubSurrogate()
    stub.features = "both"
    featurizer = StubFeaturizer()
    study = optuna.create_study(sampler=sampler_of(tiny, surrogate=stub, features=featurizer))
    study.optimize(length, n_trials=4)

    # Three Fisher numbers of each site.
    assert {width for _, width in stub.diary.embedded} == {6}
    assert {len(key) // 4 for seen in stub.diary.observed for key in seen} == {2000}
    # One featurizer measures a function once for both.
    measured = [text for call in featurizer.calls for text in call]
    assert len(measured) == len(set(measured))


def test_features_can_be_of_one_site_alone(tiny: Catalogue) -> None:
    stub = StubSurrogate()
    stub.features = "both"
    study = optuna.create_study(
        sampler=sampler_of(tiny, surrogate=stub, features={"head": StubFeaturizer()})
    )
    study.optimize(length, n_trials=4)

    assert {width for _, width in stub.diary.embedded} == {3}
    assert {len(key) // 4 for seen in stub.diary.observed for key in seen} == {2000}


def test_each_site_can_have_a_featurizer(tiny: Catalogue) -> None:
    product = str(tiny[tiny.class_of("mul(relu(x),tanh(x))")])
    total = str(tiny[tiny.class_of("add(relu(x),tanh(x))")])
    features = {"stem": StubFeaturizer([product]), "head": StubFeaturizer([total])}
    study = optuna.create_study(sampler=sampler_of(tiny, features=features))
    study.optimize(length, n_trials=60)

    ran = keys_of(study, tiny)
    # A spectrum that is invalid at one site rules combinations with it there out, not elsewhere.
    assert tiny.class_of(product) not in {stem for stem, _ in ran}
    assert tiny.class_of(product) in {head for _, head in ran}
    assert tiny.class_of(total) not in {head for _, head in ran}
    assert tiny.class_of(total) in {stem for stem, _ in ran}


def planted(catalogue: Catalogue, seed: int) -> Callable[[optuna.Trial], float]:
    """An objective whose best stem and best head are drawn at random."""
    rng = np.random.default_rng(seed)
    eligible = np.flatnonzero(catalogue.is_finite & ~catalogue.is_constant)
    values = [values_near(str(catalogue[int(c)]), catalogue) for c in rng.choice(eligible, 2)]

    def objective(trial: optuna.Trial) -> float:
        classes = map(catalogue.class_of, suggested(trial, catalogue.space))
        return float(sum(v[c] for v, c in zip(values, classes, strict=True)))

    return objective


def test_two_planted_optima_are_approached_faster_than_by_chance(small: Catalogue) -> None:
    def best(make: Callable[[int], BaseSampler]) -> list[float]:
        found = []
        for seed in range(6):
            study = optuna.create_study(direction="maximize", sampler=make(seed))
            study.optimize(planted(small, seed), n_trials=40)
            found.append(study.best_value)
        return found

    baselines = ("relu(x)", "tanh(x)", "elu(x)")
    ours = best(lambda seed: sampler_of(small, baselines=baselines, seed=seed))
    chance = best(lambda seed: RandomSampler(seed=seed))
    # The distance from the optimum, which is 0.
    assert np.mean(ours) > 0.6 * np.mean(chance)
    assert sum(a > b for a, b in zip(ours, chance, strict=True)) >= 5


# What is settled already


def test_a_function_of_one_site_is_enqueued(tiny: Catalogue) -> None:
    study = optuna.create_study(sampler=sampler_of(tiny))
    for _ in range(4):
        study.enqueue_trial(TINY.params_of("mul(tanh(x),tanh(x))", "head"))
    study.optimize(length, n_trials=4)

    ran = keys_of(study, tiny)
    assert {head for _, head in ran} == {tiny.class_of("mul(tanh(x),tanh(x))")}
    assert len({stem for stem, _ in ran}) == 4


def test_a_node_of_one_site_is_enqueued(tiny: Catalogue) -> None:
    study = optuna.create_study(sampler=sampler_of(tiny))
    for _ in range(4):
        study.enqueue_trial({"stem.0": "mul", "stem.1": "tanh", "lr": 0.5})
    study.optimize(lambda t: length(t) + t.suggest_float("lr", 0.0, 1.0), n_trials=4)

    assert {(t.params["stem.0"], t.params["stem.1"], t.params["lr"]) for t in study.trials} == {
        ("mul", "tanh", 0.5)
    }
    assert len(set(keys_of(study, tiny))) == 4


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
@pytest.mark.parametrize(
    "fixed",
    [TINY.params_of("mul(relu(x),tanh(x))", "head"), {"head.1": "tanh"}],
    ids=["wholly", "in part"],
)
def test_a_partial_fixed_sampler_is_respected(tiny: Catalogue, fixed: dict[str, Any]) -> None:
    sampler = sampler_of(tiny)
    study = optuna.create_study(sampler=PartialFixedSampler(fixed, sampler))
    study.optimize(length, n_trials=12)

    for trial in study.trials:
        assert fixed.items() <= trial.params.items()
    assert len(set(keys_of(study, tiny))) == 12


def test_a_trial_that_asks_for_one_of_them_alone(tiny: Catalogue) -> None:
    stub = StubSurrogate()
    study = optuna.create_study(sampler=sampler_of(tiny, surrogate=stub))
    for number in range(8):
        trial = study.ask()
        value = float(len(str(TINY.suggest(trial, "stem"))))
        if number % 2:
            value += len(str(TINY.suggest(trial, "head")))
        study.tell(trial, value)

    # What it learned is kept: one observation for each combination, whole or half.
    whole = [t for t in study.trials if "head.0" in t.params]
    assert len(whole) == 4
    suggest_both = study.ask()
    suggested(suggest_both, TINY)
    halves = {
        t.params["stem.0"] + t.params["stem.1"] + t.params["stem.2"] for t in study.trials[:8]
    }
    assert 4 < len(stub.diary.observed[-1]) <= 8
    assert len(halves) > 1


def test_a_running_trial_holds_the_combination_and_not_its_parts(tiny: Catalogue) -> None:
    study = optuna.create_study(sampler=sampler_of(tiny, pool_size=3))
    n_trials = len(tiny) + 5
    for _ in range(n_trials):
        suggested(study.ask(), TINY)

    # More than there are functions of one site.
    assert {t.state for t in study.trials} == {TrialState.RUNNING}
    assert len(set(keys_of(study, tiny))) == n_trials


def test_trials_of_another_sampler_count(tiny: Catalogue) -> None:
    study = optuna.create_study(sampler=RandomSampler(seed=0))
    study.optimize(length, n_trials=20)
    before = set(keys_of(study, tiny))
    study.sampler = sampler_of(tiny)
    study.optimize(length, n_trials=10)

    after = keys_of(study, tiny)[20:]
    assert len(set(after) | before) == len(before) + 10


# What is told


def test_predictions_explanations_and_maps_have_names(tiny: Catalogue) -> None:
    sampler = sampler_of(tiny, pool_size=10)
    study = optuna.create_study(direction="maximize", sampler=sampler)
    study.optimize(length, n_trials=6)
    trial = study.ask()
    stem, head = suggested(trial, TINY)

    explanation = sampler.explain(trial)
    assert explanation is not None
    assert explanation.functions == {
        "stem": str(tiny[tiny.class_of(stem)]),
        "head": str(tiny[tiny.class_of(head)]),
    }
    assert {tuple(near.functions) for near in explanation.nearest} == {NAMES}
    predicted = sampler.predict(trial)
    assert predicted is not None
    assert explanation.predicted == (float(f"{predicted:.4g}"),)
    assert sampler.predict(trial, name="head") == predicted
    (best,) = sampler.front(study)
    assert tuple(best.functions) == NAMES
    assert best.values == (study.best_value,)
    assert sampler.catalogue("head") is tiny
    assert f"stem = {explanation.functions['stem']}, head = " in str(explanation)


@pytest.mark.slow
def test_each_site_has_a_map(tiny: Catalogue) -> None:
    sampler = sampler_of(tiny, pool_size=10, features=StubFeaturizer())
    maps = {name: sampler.embedding(name) for name in NAMES}

    for each in maps.values():
        assert each.coordinates.shape == (10, 2)
        assert np.isfinite(each.coordinates).all()
        assert len(set(each.classes.tolist())) == 10
    assert set(maps["stem"].classes.tolist()) != set(maps["head"].classes.tolist())


def test_claims_are_written_by_name(tiny: Catalogue) -> None:
    study = optuna.create_study(sampler=sampler_of(tiny))
    trial = study.ask()
    stem, head = suggested(trial, TINY)
    attributes = study.trials[0].system_attrs

    assert tiny.class_of(attributes["aquasurf:stem"]) == tiny.class_of(stem)
    assert tiny.class_of(attributes["aquasurf:head"]) == tiny.class_of(head)
