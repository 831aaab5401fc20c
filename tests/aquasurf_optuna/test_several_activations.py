"""Studies that search several activations together: candidates are combinations of functions."""

import itertools
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.samplers import PartialFixedSampler, RandomSampler
from optuna.trial import TrialState

from aquasurf_optuna.catalogue import Catalogue
from aquasurf_optuna.exceptions import SamplerError
from aquasurf_optuna.sampler import AquaSurfSampler
from aquasurf_optuna.space import SearchSpace
from tests.aquasurf_optuna.sampler_helpers import StubFeaturizer, values_near

SMALL = SearchSpace(
    "binary(unary(x),unary(x))",
    unary=("relu", "tanh", "erf", "identity", "square"),
    binary=("add", "mul", "max"),
)
NAMES = ("stem", "head")
BOTH = dict.fromkeys(NAMES, SMALL)


@pytest.fixture(scope="module")
def small() -> Catalogue:
    return Catalogue.of(SMALL)


@pytest.fixture(scope="module")
def table(small: Catalogue) -> np.ndarray:
    """A value for every pair of classes, `(n, n)`: each place wants another function."""
    stem = values_near("add(tanh(x),identity(x))", small)
    head = values_near("mul(relu(x),tanh(x))", small)
    values: np.ndarray = stem[:, None] + head[None, :]
    return values


def sampler_of(small: Catalogue, **options: Any) -> AquaSurfSampler:
    settings = {"catalogue": small, "baselines": (), "seed": 0, **options}
    return AquaSurfSampler(BOTH, **settings)


def pair_of(trial: optuna.Trial | optuna.trial.FrozenTrial, small: Catalogue) -> tuple[int, int]:
    stem, head = (SMALL.expression_of(trial.params, name) for name in NAMES)
    return small.class_of(stem), small.class_of(head)


def ask(study: optuna.Study, small: Catalogue) -> tuple[optuna.Trial, tuple[int, int]]:
    """A trial that stays running, and its functions."""
    trial = study.ask()
    for name in NAMES:
        SMALL.suggest(trial, name)
    return trial, pair_of(trial, small)


def test_both_are_claimed_and_no_combination_runs_twice(small: Catalogue) -> None:
    study = optuna.create_study(sampler=sampler_of(small))
    pairs = []
    for _ in range(60):
        trial, pair = ask(study, small)
        pairs.append(pair)
        attributes = study.trials[trial.number].system_attrs
        claims = tuple(small.class_of(attributes[f"aquasurf:{name}"]) for name in NAMES)
        assert claims == pair

    assert len(set(pairs)) == 60
    # It is the combination that is new, not each function.
    assert len({stem for stem, _ in pairs}) < 60


def test_a_claim_on_both_is_made_with_the_first_suggestion(small: Catalogue) -> None:
    study = optuna.create_study(sampler=sampler_of(small))
    trial = study.ask()
    SMALL.suggest(trial, "head")

    attributes = study.get_trials(deepcopy=False)[0].system_attrs
    stem = SMALL.suggest(trial, "stem")
    assert small.class_of(attributes["aquasurf:stem"]) == small.class_of(stem)


def test_threads_never_run_the_same_combination(small: Catalogue, table: np.ndarray) -> None:
    study = optuna.create_study(direction="maximize", sampler=sampler_of(small))

    def objective(trial: optuna.Trial) -> float:
        for name in NAMES:
            SMALL.suggest(trial, name)
        return float(table[pair_of(trial, small)])

    study.optimize(objective, n_trials=24, n_jobs=3)
    assert len({pair_of(trial, small) for trial in study.trials}) == 24


def share_better(study: optuna.Study, table: np.ndarray) -> float:
    """The share of all combinations that are better than the best one tried."""
    return float(np.mean(table > study.best_value))


def test_the_best_combinations_are_found(small: Catalogue, table: np.ndarray) -> None:
    def objective(trial: optuna.Trial) -> float:
        for name in NAMES:
            SMALL.suggest(trial, name)
        return float(table[pair_of(trial, small)])

    def found(sampler: optuna.samplers.BaseSampler) -> float:
        study = optuna.create_study(direction="maximize", sampler=sampler)
        study.optimize(objective, n_trials=40)
        return share_better(study, table)

    ours = [found(sampler_of(small, seed=seed)) for seed in range(4)]
    chance = [found(RandomSampler(seed=seed)) for seed in range(4)]
    assert np.median(ours) < 0.01
    assert np.median(ours) < np.median(chance)
    assert sum(a <= b for a, b in zip(ours, chance, strict=True)) >= 3


def test_what_counts_is_how_functions_go_together(small: Catalogue) -> None:
    # The head is good where it is like the stem: no function is good by itself.
    squashed = np.tanh(small.outputs)
    table = -np.sqrt(((squashed[:, None] - squashed[None]) ** 2).mean(axis=2))
    np.fill_diagonal(table, -1.0)

    def objective(trial: optuna.Trial) -> float:
        for name in NAMES:
            SMALL.suggest(trial, name)
        return float(table[pair_of(trial, small)])

    study = optuna.create_study(direction="maximize", sampler=sampler_of(small))
    study.optimize(objective, n_trials=60)
    values = [trial.value for trial in study.trials]
    assert np.mean(values[30:]) > np.mean(table)
    assert share_better(study, table) < 0.02


def test_baselines_stand_in_both_places(small: Catalogue) -> None:
    baselines = ("relu(x)", "cosh(x)", "tanh(x)")
    study = optuna.create_study(sampler=sampler_of(small, baselines=baselines))
    pairs = [ask(study, small)[1] for _ in range(3)]

    relu, tanh = small.class_of("relu(x)"), small.class_of("tanh(x)")
    assert pairs[:2] == [(relu, relu), (tanh, tanh)]
    assert pairs[2] not in pairs[:2]


def test_each_place_has_a_featurizer_of_its_own(small: Catalogue) -> None:
    class Shorter(StubFeaturizer):
        task = "head"

    invalid = str(small[small.class_of("mul(square(x),square(x))")])
    stem, head = StubFeaturizer([invalid]), Shorter()
    sampler = sampler_of(small, features={"stem": stem, "head": head})
    sampler.prepare()
    study = optuna.create_study(sampler=sampler)
    pairs = [ask(study, small)[1] for _ in range(20)]

    measured = [{text for call in each.calls for text in call} for each in (stem, head)]
    assert measured[0] == measured[1] != set()
    # Ruled out where its spectrum is invalid, and nowhere else.
    assert small.class_of(invalid) not in {pair[0] for pair in pairs}


def test_one_featurizer_serves_both(small: Catalogue) -> None:
    featurizer = StubFeaturizer()
    sampler = sampler_of(small, features=featurizer)
    sampler.prepare()
    measured = [text for call in featurizer.calls for text in call]
    assert len(measured) == len(set(measured)) > 0


def test_a_featurizer_of_no_activation_is_refused(small: Catalogue) -> None:
    with pytest.raises(SamplerError, match=r"activations are \['stem', 'head'\], but got \['neck'"):
        sampler_of(small, features={"neck": StubFeaturizer()})


def test_the_other_is_chosen_for_one_that_is_enqueued(small: Catalogue) -> None:
    study = optuna.create_study(sampler=sampler_of(small))
    for _ in range(6):
        study.enqueue_trial(SMALL.params_of("add(erf(x),square(x))", "stem"))
    pairs = [ask(study, small)[1] for _ in range(6)]

    assert {stem for stem, _ in pairs} == {small.class_of("add(erf(x),square(x))")}
    assert len({head for _, head in pairs}) == 6


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
def test_one_is_fixed_and_the_other_searched(small: Catalogue, table: np.ndarray) -> None:
    fixed = SMALL.params_of("add(tanh(x),identity(x))", "stem")
    study = optuna.create_study(
        direction="maximize", sampler=PartialFixedSampler(fixed, sampler_of(small))
    )

    def objective(trial: optuna.Trial) -> float:
        for name in NAMES:
            SMALL.suggest(trial, name)
        return float(table[pair_of(trial, small)])

    study.optimize(objective, n_trials=15)
    pairs = [pair_of(trial, small) for trial in study.trials]
    assert {stem for stem, _ in pairs} == {small.class_of("add(tanh(x),identity(x))")}
    assert len({head for _, head in pairs}) == 15


def test_an_exhausted_product_repeats_the_best() -> None:
    two = SearchSpace("unary(x)", unary=("relu", "tanh", "erf"))
    sampler = AquaSurfSampler({"stem": two, "head": two}, baselines=(), seed=0)
    study = optuna.create_study(direction="maximize", sampler=sampler)

    def objective(trial: optuna.Trial) -> float:
        stem, head = two.suggest(trial, "stem"), two.suggest(trial, "head")
        return float(str(stem) == "erf(x)") + 0.5 * float(str(head) == "tanh(x)")

    study.optimize(objective, n_trials=12)
    ran = [tuple(sorted(trial.params.items())) for trial in study.trials]
    pairs = set(itertools.product(("relu", "tanh", "erf"), repeat=2))
    assert len(set(ran)) == len(pairs)
    assert study.best_value == 1.5
    assert [trial.value for trial in study.trials[9:]] == [1.5] * 3


def test_a_prediction_and_an_explanation_speak_of_both(small: Catalogue, table: np.ndarray) -> None:
    sampler = sampler_of(small)
    study = optuna.create_study(direction="maximize", sampler=sampler)
    for _ in range(12):
        trial, pair = ask(study, small)
        study.tell(trial, float(table[pair]))
    trial, pair = ask(study, small)

    predicted = sampler.predict(trial)
    told = sampler.explain(trial)
    assert predicted is not None
    assert table.min() <= predicted <= table.max()
    assert told is not None
    assert set(told.functions) == set(NAMES)
    assert tuple(small.class_of(told.functions[name]) for name in NAMES) == pair
    assert told.predicted[0] == pytest.approx(predicted, rel=1e-3)
    assert all(set(near.functions) == set(NAMES) for near in told.nearest)
    assert "stem = " in str(told)


def test_two_activations_and_two_objectives(small: Catalogue, table: np.ndarray) -> None:
    sampler = sampler_of(small)
    study = optuna.create_study(directions=["maximize", "minimize"], sampler=sampler)

    def objective(trial: optuna.Trial) -> tuple[float, float]:
        nodes = sum(SMALL.suggest(trial, name).node_count for name in NAMES)
        return float(table[pair_of(trial, small)]), float(nodes)

    study.optimize(objective, n_trials=15)
    front = sampler.front(study)
    assert {member.number for member in front} == {trial.number for trial in study.best_trials}
    assert all(set(member.functions) == set(NAMES) for member in front)


def test_a_study_of_one_activation_takes_a_second(small: Catalogue, table: np.ndarray) -> None:
    one = AquaSurfSampler({"stem": SMALL}, catalogue=small, baselines=(), seed=0)
    study = optuna.create_study(direction="maximize", sampler=one)
    study.optimize(lambda t: -float(SMALL.suggest(t, "stem").node_count), n_trials=6)
    study.sampler = sampler_of(small)
    for _ in range(8):
        trial, pair = ask(study, small)
        study.tell(trial, float(table[pair]))

    assert all(trial.state == TrialState.COMPLETE for trial in study.trials)
    assert len({pair_of(trial, small) for trial in study.trials[6:]}) == 8
