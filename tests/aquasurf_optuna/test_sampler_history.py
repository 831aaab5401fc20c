"""What counts as tried, by whomever, and what a trial counts as."""

from typing import Any

import numpy as np
import optuna
import pytest
from optuna.samplers import PartialFixedSampler, RandomSampler
from optuna.trial import TrialState

from aquasurf_optuna.catalogue import Catalogue
from aquasurf_optuna.sampler import AquaSurfSampler
from aquasurf_optuna.space import SearchSpace
from tests.aquasurf_optuna.sampler_helpers import (
    TINY,
    StubSurrogate,
    classes_of,
    suggest,
    tell,
)

FAILURES: dict[str, dict[str, Any]] = {
    "failed": {"state": TrialState.FAIL},
    "pruned": {"state": TrialState.PRUNED},
    "infinite": {"value": float("inf")},
    "minus infinite": {"value": float("-inf")},
}


@pytest.mark.parametrize("failure", FAILURES.values(), ids=FAILURES)
@pytest.mark.parametrize("direction", ["maximize", "minimize"])
def test_failures_are_told_apart(
    sampler: AquaSurfSampler,
    stub: StubSurrogate,
    three_node: SearchSpace,
    catalogue: Catalogue,
    failure: dict[str, Any],
    direction: str,
) -> None:
    study = optuna.create_study(direction=direction, sampler=sampler)
    texts = ("add(erf(x),zero(x))", "add(tanh(x),tanh(x))", "mul(identity(x),relu(x))")
    for text, result in zip(texts, [failure, {"value": 2.0}, {"value": 5.0}], strict=False):
        tell(study, three_node.params_of(text, "activation"), three_node, **result)
    suggest(study, three_node)

    observed = stub.diary.observed_classes(catalogue)
    assert observed[catalogue.class_of("erf(x)")] == -np.inf
    assert len(observed) == 3


def test_a_study_of_failures_goes_on(
    sampler: AquaSurfSampler, three_node: SearchSpace, catalogue: Catalogue
) -> None:
    def objective(trial: optuna.Trial) -> float:
        three_node.suggest(trial, "activation")
        if trial.number % 3 == 0:
            raise optuna.TrialPruned
        if trial.number % 3 == 1:
            raise ValueError("it exploded")
        return float("nan")

    study = optuna.create_study(sampler=sampler)
    study.optimize(objective, n_trials=15, catch=(ValueError,))

    assert len(set(classes_of(study, three_node, catalogue))) == 15
    assert {trial.state for trial in study.trials} == {TrialState.FAIL, TrialState.PRUNED}


def test_functions_that_fail_are_shunned(three_node: SearchSpace, catalogue: Catalogue) -> None:
    sampler = AquaSurfSampler(three_node, catalogue=catalogue, baselines=(), pool_size=300, seed=0)
    mean = np.clip(catalogue.outputs, -20, 20).mean(axis=1)

    def objective(trial: optuna.Trial) -> float:
        class_id = catalogue.class_of(three_node.suggest(trial, "activation"))
        if mean[class_id] > 0:
            raise optuna.TrialPruned
        return 0.5

    study = optuna.create_study(direction="maximize", sampler=sampler)
    study.optimize(objective, n_trials=60)
    pruned = [trial.state == TrialState.PRUNED for trial in study.trials]

    pool = sampler.embedding().classes
    assert np.mean(mean[pool] > 0) > 0.4
    assert np.mean(pruned[20:]) < 0.2


# What ran, whoever chose it


def test_running_functions_are_not_proposed(
    sampler: AquaSurfSampler, three_node: SearchSpace, catalogue: Catalogue
) -> None:
    study = optuna.create_study(sampler=sampler)
    running = [suggest(study, three_node)[1] for _ in range(12)]

    assert len({catalogue.class_of(expression) for expression in running}) == 12


def test_a_proposal_is_claimed_before_it_is_suggested(
    sampler: AquaSurfSampler, three_node: SearchSpace, catalogue: Catalogue
) -> None:
    study = optuna.create_study(sampler=sampler)
    trial = study.ask()
    trial.suggest_float("lr", 0.0, 1.0)

    claim = study.get_trials(deepcopy=False)[0].system_attrs["aquasurf:activation"]
    _, other = suggest(study, three_node)
    mine = three_node.suggest(trial, "activation")
    assert catalogue.class_of(mine) == catalogue.class_of(claim)
    assert catalogue.class_of(other) != catalogue.class_of(claim)


def test_a_claim_never_used_is_free_again(
    sampler: AquaSurfSampler, three_node: SearchSpace, catalogue: Catalogue
) -> None:
    study = optuna.create_study(sampler=sampler)
    trial = study.ask()
    trial.suggest_float("lr", 0.0, 1.0)
    claim = study.get_trials(deepcopy=False)[0].system_attrs["aquasurf:activation"]
    study.tell(trial, 1.0)

    assert catalogue.class_of(suggest(study, three_node)[1]) == catalogue.class_of(claim)


def test_enqueued_functions_are_recognised(
    sampler: AquaSurfSampler, stub: StubSurrogate, three_node: SearchSpace, catalogue: Catalogue
) -> None:
    study = optuna.create_study(direction="maximize", sampler=sampler)
    study.enqueue_trial(three_node.params_of("max(relu(x),cosh(x))", "activation"))
    trial, expression = suggest(study, three_node)
    study.tell(trial, 4.0)
    suggest(study, three_node)

    assert str(expression) == "max(relu(x),cosh(x))"
    assert stub.diary.observed_classes(catalogue) == {catalogue.class_of(expression): 4.0}


def test_a_baseline_waiting_in_the_queue_is_left_to_it(tiny: Catalogue) -> None:
    study = optuna.create_study(sampler=AquaSurfSampler(TINY, catalogue=tiny, seed=0))
    study.optimize(lambda t: len(str(TINY.suggest(t, "activation"))), n_trials=1)
    waiting = TINY.params_of("add(tanh(x),zero(x))", "activation")
    study.add_trial(
        optuna.create_trial(state=TrialState.WAITING, system_attrs={"fixed_params": waiting})
    )
    # Ask as another worker would that started before the queue was filled.
    number = study._storage.create_new_trial(study._study_id)
    trial = optuna.Trial(study, number)

    assert tiny.class_of(TINY.suggest(trial, "activation")) != tiny.class_of("tanh(x)")


def test_partly_enqueued_functions_are_completed(
    sampler: AquaSurfSampler, three_node: SearchSpace, catalogue: Catalogue
) -> None:
    study = optuna.create_study(direction="maximize", sampler=sampler)
    for number in range(4):
        study.enqueue_trial({"activation.0": "max", "activation.2": "erfc", "lr": 0.5})
        trial, expression = suggest(study, three_node)
        assert trial.suggest_float("lr", 0.0, 1.0) == 0.5
        assert expression.operator == "max"
        assert expression.children[1].operator == "erfc"
        study.tell(trial, float(number))

    assert len(set(classes_of(study, three_node, catalogue))) == 4


def test_the_best_compatible_candidate_completes_a_function(
    sampler: AquaSurfSampler, three_node: SearchSpace, catalogue: Catalogue
) -> None:
    study = optuna.create_study(direction="maximize", sampler=sampler)
    study.optimize(lambda t: float(three_node.suggest(t, "activation").depth), n_trials=1)
    ran = classes_of(study, three_node, catalogue)
    study.enqueue_trial({"activation.0": "mul"})
    _, expression = suggest(study, three_node)

    fitting = [
        class_id
        for class_id in map(int, sampler.embedding().classes)
        if class_id not in ran
        and any(member.operator == "mul" for member in catalogue.members(class_id))
    ]
    means = catalogue.outputs[fitting].mean(axis=1)
    assert catalogue.class_of(expression) == fitting[int(np.argmax(means))]


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
def test_a_partial_fixed_sampler_is_respected(
    sampler: AquaSurfSampler, three_node: SearchSpace, catalogue: Catalogue
) -> None:
    study = optuna.create_study(direction="maximize", sampler=sampler)
    fixed = PartialFixedSampler({"activation.1": "sigmoid", "lr": 0.25}, sampler)
    study.sampler = fixed
    study.optimize(
        lambda t: three_node.suggest(t, "activation").depth + t.suggest_float("lr", 0.0, 1.0),
        n_trials=10,
    )

    assert {trial.params["activation.1"] for trial in study.trials} == {"sigmoid"}
    assert {trial.params["lr"] for trial in study.trials} == {0.25}
    assert len(set(classes_of(study, three_node, catalogue))) == 10


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
def test_a_function_fixed_as_a_whole_is_recognised(
    sampler: AquaSurfSampler, stub: StubSurrogate, three_node: SearchSpace, catalogue: Catalogue
) -> None:
    study = optuna.create_study(direction="maximize", sampler=sampler)
    params = three_node.params_of("min(erf(x),square(x))", "activation")
    study.sampler = PartialFixedSampler(params, sampler)
    study.optimize(lambda t: float(three_node.suggest(t, "activation").depth), n_trials=2)
    study.sampler = sampler
    suggest(study, three_node)

    class_id = catalogue.class_of("min(erf(x),square(x))")
    assert classes_of(study, three_node, catalogue)[:2] == [class_id, class_id]
    assert list(stub.diary.observed_classes(catalogue)) == [class_id]


def test_trials_of_another_sampler_count(
    sampler: AquaSurfSampler, stub: StubSurrogate, three_node: SearchSpace, catalogue: Catalogue
) -> None:
    study = optuna.create_study(direction="maximize", sampler=RandomSampler(seed=3))
    finite = np.where(catalogue.is_finite, 1.0, 2.0)
    study.optimize(
        lambda t: finite[catalogue.class_of(three_node.suggest(t, "activation"))], n_trials=30
    )
    before = set(classes_of(study, three_node, catalogue))
    study.sampler = sampler
    study.optimize(lambda t: float(three_node.suggest(t, "activation").depth), n_trials=5)

    after = classes_of(study, three_node, catalogue)[30:]
    assert len(set(after) | before) == len(before) + 5
    assert before <= set(stub.diary.observed_classes(catalogue))
    # What is laid out first does not depend on what was tried.
    assert stub.diary.embedded == [(40, None)]


def test_a_function_outside_the_pool_joins_it(
    sampler: AquaSurfSampler, stub: StubSurrogate, three_node: SearchSpace, catalogue: Catalogue
) -> None:
    study = optuna.create_study(direction="maximize", sampler=sampler)
    study.optimize(lambda t: float(three_node.suggest(t, "activation").depth), n_trials=2)
    outside = [c for c in range(len(catalogue)) if c not in sampler.embedding().classes][:6]
    for n, class_id in enumerate(outside):
        study.enqueue_trial(three_node.params_of(catalogue[class_id], "activation"))
        trial, _ = suggest(study, three_node)
        study.tell(trial, float(n))
        suggest(study, three_node)
        assert stub.diary.observed_classes(catalogue)[class_id] == float(n)

    # Newcomers are placed beside what is there.
    assert stub.diary.embedded == [(40, None)]
    assert stub.diary.extended == [1, 1, 1, 1, 1, 1]


def test_parameters_of_another_space_are_passed_over(
    sampler: AquaSurfSampler, three_node: SearchSpace, catalogue: Catalogue
) -> None:
    study = optuna.create_study(sampler=sampler)
    study.add_trial(
        optuna.create_trial(
            params={"activation.0": "sum_n"},
            distributions={"activation.0": optuna.distributions.CategoricalDistribution(["sum_n"])},
            value=1.0,
        )
    )

    assert sampler._read(study, exclude=-1).taken == frozenset()


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
def test_what_ran_in_another_bracket_of_hyperband_ran(
    sampler: AquaSurfSampler, three_node: SearchSpace, catalogue: Catalogue
) -> None:
    pruner = optuna.pruners.HyperbandPruner(max_resource=9)
    study = optuna.create_study(sampler=sampler, pruner=pruner, study_name="brackets")

    def objective(trial: optuna.Trial) -> float:
        depth = three_node.suggest(trial, "activation").node_count
        trial.report(depth, 1)
        return float(depth)

    study.optimize(objective, n_trials=20)
    assert len(set(classes_of(study, three_node, catalogue))) == 20
