"""What another study has shown, and unlike functions: the sampler's two ways to lean its order."""

import copy
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.samplers import RandomSampler
from optuna.trial import TrialState

from aquasurf_optuna.catalogue import Catalogue
from aquasurf_optuna.exceptions import SamplerError
from aquasurf_optuna.sampler import AquaSurfSampler
from aquasurf_optuna.space import SearchSpace
from tests.aquasurf_optuna.sampler_helpers import (
    TINY,
    StubSurrogate,
    Task,
    by_class,
    suggest,
    tell,
    values_near,
)


@pytest.fixture(scope="module")
def task(catalogue: Catalogue) -> Task:
    return Task.near("mul(hard_sigmoid(x),elu(x))", catalogue)


def other_study(
    task: Task, value: Callable[[int], float], *, direction: str = "maximize", n_trials: int = 60
) -> optuna.Study:
    """Functions at random on another task."""
    study = optuna.create_study(direction=direction, sampler=RandomSampler(seed=4))
    study.optimize(
        lambda t: value(task.catalogue.class_of(task.space.suggest(t, "activation"))),
        n_trials=n_trials,
    )
    return study


def shares(task: Task, study: optuna.Study) -> np.ndarray:
    """The share of all functions that each trial beats; by chance one half."""
    eligible = task.values[task.catalogue.is_finite & ~task.catalogue.is_constant]
    return np.array([np.mean(eligible < task.values[c]) for c in task.classes(study)])


def run(task: Task, n_trials: int, *others: optuna.Study, **options: Any) -> optuna.Study:
    sampler = task.sampler(**{"pool_size": 200, **options})
    for other in others:
        sampler.learn_from(other)
    study = task.study(sampler)
    study.optimize(lambda t: task.value(task.space.suggest(t, "activation")), n_trials=n_trials)
    return study


# Another study


def test_a_related_study_leads_the_first_proposals(task: Task) -> None:
    other = other_study(task, lambda c: 3.0 + 0.1 * float(task.values[c]))
    first = [shares(task, run(task, 3, other, seed=seed)) for seed in range(3)]
    assert np.mean(first) > 0.85
    # Without it, they are drawn at random.
    alone = [shares(task, run(task, 3, seed=seed)) for seed in range(3)]
    assert np.mean(first) > np.mean(alone)


def test_what_is_known_elsewhere_is_not_new(task: Task) -> None:
    other = other_study(task, lambda c: float(task.values[c]))
    first = task.classes(run(task, 1, other, surrogate="novelty"))
    assert first[0] not in task.classes(other)


def test_directions_are_those_of_the_other_study(task: Task) -> None:
    loss = other_study(task, lambda c: -float(task.values[c]), direction="minimize")
    accuracy = other_study(task, lambda c: float(task.values[c]))
    assert task.classes(run(task, 3, loss)) == task.classes(run(task, 3, accuracy))


def test_a_contradicting_study_does_no_lasting_harm(task: Task) -> None:
    other = other_study(task, lambda c: -float(task.values[c]))
    misled = [shares(task, run(task, 30, other, seed=seed)) for seed in range(3)]

    assert np.mean([each[0] for each in misled]) < 0.5
    # Most of them: some explore.
    assert np.median([each[20:] for each in misled]) > 0.8
    assert np.mean([each.max() for each in misled]) > 0.95


def test_the_surrogate_gets_the_values_of_each_other_study(
    sampler: AquaSurfSampler,
    stub: StubSurrogate,
    three_node: SearchSpace,
    catalogue: Catalogue,
) -> None:
    texts = ("add(erf(x),zero(x))", "add(tanh(x),tanh(x))", "mul(identity(x),relu(x))")
    classes = [catalogue.class_of(text) for text in texts]
    for sign, direction in ((1.0, "maximize"), (-1.0, "minimize")):
        other = optuna.create_study(direction=direction)
        for n, text in enumerate(texts[:2]):
            tell(other, three_node.params_of(text, "activation"), three_node, value=sign * n)
        tell(
            other,
            three_node.params_of(texts[2], "activation"),
            three_node,
            state=TrialState.FAIL,
        )
        sampler.learn_from(other)
    study = optuna.create_study(sampler=sampler)
    suggest(study, three_node)

    expected = dict(zip(classes, (0.0, 1.0, -np.inf), strict=True))
    assert [by_class(each, catalogue) for each in stub.diary.others[-1]] == [expected] * 2
    assert stub.diary.observed[-1] == {}
    assert stub.diary.running[-1] == []


def test_trials_are_read_when_it_learns(task: Task) -> None:
    other = other_study(task, lambda c: float(task.values[c]), n_trials=5)
    sampler = task.sampler()
    sampler.learn_from(other)
    other.optimize(lambda t: task.value(task.space.suggest(t, "activation")), n_trials=5)

    (transfer,) = sampler._search.transfers
    assert {key[0] for key in transfer.values} == set(task.classes(other)[:5])


def test_what_was_tried_elsewhere_may_be_tried_here(task: Task) -> None:
    other = other_study(task, lambda c: float(task.values[c]))
    best = task.catalogue.class_of(task.space.expression_of(other.best_params, "activation"))
    sampler = task.sampler(pool_size=2409)
    sampler.learn_from(other)
    study = task.study(sampler)
    study.optimize(lambda t: task.value(task.space.suggest(t, "activation")), n_trials=12)

    # All candidates are free: none is taken in this study.
    assert best in task.classes(study) or shares(task, study).max() > 0.995


def test_a_study_that_calls_the_activation_otherwise(tiny: Catalogue) -> None:
    other = optuna.create_study(sampler=RandomSampler(seed=0))
    other.optimize(lambda t: float(len(str(TINY.suggest(t, "act")))), n_trials=5)
    sampler = AquaSurfSampler(TINY, catalogue=tiny, seed=0)
    with pytest.raises(
        SamplerError, match=r"no finished trial .* under the names \['activation'\]"
    ):
        sampler.learn_from(other)
    sampler.learn_from(other, names={"activation": "act"})

    assert len(sampler._search.transfers) == 1


def test_several_activations_learn_from_a_study_of_one_of_them(tiny: Catalogue) -> None:
    other = optuna.create_study(direction="maximize", sampler=RandomSampler(seed=0))
    other.optimize(lambda t: float(len(str(TINY.suggest(t, "act")))), n_trials=12)
    sampler = AquaSurfSampler({"stem": TINY, "head": TINY}, baselines=(), seed=0)
    sampler.learn_from(other, names={"head": "act"})
    (transfer,) = sampler._search.transfers
    assert all(stem is None and head is not None for stem, head in transfer.values)

    study = optuna.create_study(direction="maximize", sampler=sampler)
    trial = study.ask()
    lengths = {name: len(str(TINY.suggest(trial, name))) for name in ("stem", "head")}
    assert lengths["head"] >= np.median([t.value for t in other.trials])


@pytest.mark.parametrize(
    ("names", "problem"),
    [
        ({"conv": "act"}, r"names maps the activations \['activation'\] .* but got \['conv'\]"),
        ({"activation": "act"}, r"no finished trial .* under the names \['act'\]"),
        (None, r"has no finished trial"),
    ],
)
def test_what_cannot_be_learned_from_is_refused(
    tiny: Catalogue, names: dict[str, str] | None, problem: str
) -> None:
    other = optuna.create_study()
    # Failures alone have no scale.
    tell(
        other,
        TINY.params_of("add(relu(x),zero(x))", "activation"),
        TINY,
        state=TrialState.FAIL,
    )
    sampler = AquaSurfSampler(TINY, catalogue=tiny, seed=0)
    with pytest.raises(SamplerError, match=problem):
        sampler.learn_from(other, names=names)
    assert sampler._search.transfers == []


@pytest.mark.parametrize(
    "clone", [copy.deepcopy, lambda s: pickle.loads(pickle.dumps(s))], ids=["deepcopy", "pickle"]
)
def test_what_was_learned_goes_with_a_copy(task: Task, clone: Callable[[Any], Any]) -> None:
    sampler = task.sampler()
    sampler.learn_from(other_study(task, lambda c: float(task.values[c])))
    copied = clone(sampler)

    def ran(each: AquaSurfSampler) -> list[int]:
        study = task.study(each)
        study.optimize(lambda t: task.value(task.space.suggest(t, "activation")), n_trials=4)
        return task.classes(study)

    assert ran(copied) == ran(sampler)


def test_objectives_are_matched_by_number(
    sampler: AquaSurfSampler, stub: StubSurrogate, three_node: SearchSpace, catalogue: Catalogue
) -> None:
    text = "add(erf(x),zero(x))"
    both = optuna.create_study(directions=["maximize", "minimize"])
    tell(both, three_node.params_of(text, "activation"), three_node, values=(0.5, 7.0))
    one = optuna.create_study(direction="maximize")
    tell(one, three_node.params_of(text, "activation"), three_node, value=0.25)
    sampler.learn_from(both)
    sampler.learn_from(one)
    study = optuna.create_study(directions=["minimize", "maximize"], sampler=sampler)
    suggest(study, three_node)

    class_id = catalogue.class_of(text)
    fits = [[by_class(each, catalogue) for each in some] for some in stub.diary.others[-2:]]
    # The study with one objective says nothing of the second.
    assert fits == [[{class_id: 0.5}, {class_id: 0.25}], [{class_id: -7.0}]]


# Unlike functions


def proposed(task: Task, diversity: float, n_trials: int = 18) -> list[int]:
    sampler = task.sampler(pool_size=200, diversity=diversity)
    study = task.study(sampler)
    study.optimize(lambda t: task.value(task.space.suggest(t, "activation")), n_trials=n_trials)
    return task.classes(study)


def nearest_distances(catalogue: Catalogue, classes: list[int]) -> np.ndarray:
    """Of the outputs of each function to those of the nearest of the others."""
    outputs = np.clip(np.nan_to_num(catalogue.outputs[classes]), -20, 20)
    apart = np.sqrt(((outputs[:, None] - outputs[None]) ** 2).mean(axis=2))
    np.fill_diagonal(apart, np.inf)
    return apart.min(axis=1)


def test_diversity_leads_to_unlike_functions(task: Task) -> None:
    medians = [
        float(np.median(nearest_distances(task.catalogue, proposed(task, diversity))))
        for diversity in (0.0, 0.5, 1.0)
    ]
    assert min(medians[1:]) > 1.5 * medians[0]


def test_no_diversity_is_the_order_of_the_surrogate(task: Task) -> None:
    study = task.study(task.sampler(pool_size=200))
    study.optimize(lambda t: task.value(task.space.suggest(t, "activation")), n_trials=18)
    assert proposed(task, 0.0) == task.classes(study)
    assert proposed(task, 0.5) != task.classes(study)


def test_running_functions_count_as_seen(task: Task) -> None:
    study = task.study(task.sampler(pool_size=200, diversity=1.0))
    study.optimize(lambda t: task.value(task.space.suggest(t, "activation")), n_trials=2)
    running = [task.catalogue.class_of(task.suggest(study)[1]) for _ in range(6)]
    by_chance = nearest_distances(task.catalogue, proposed(task, 0.0, 8))

    assert np.median(nearest_distances(task.catalogue, running)) > np.median(by_chance)


def test_diversity_ends_where_the_best_is_found_all_the_same() -> None:
    values = values_near("add(tanh(x),relu(x))", Catalogue.of(TINY))
    catalogue = Catalogue.of(TINY)
    sampler = AquaSurfSampler(TINY, catalogue=catalogue, diversity=0.3, seed=0)
    study = optuna.create_study(direction="maximize", sampler=sampler)
    study.optimize(
        lambda t: float(values[catalogue.class_of(TINY.suggest(t, "activation"))]), n_trials=12
    )
    assert study.best_value == 0.0
