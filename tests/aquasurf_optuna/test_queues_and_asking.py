"""The user has a say: enqueued trials, fixed parameters, ask-and-tell, conditional parameters."""

import numpy as np
import optuna
import pytest
from optuna.distributions import BaseDistribution, FloatDistribution
from optuna.samplers import PartialFixedSampler, TPESampler
from optuna.trial import TrialState

from aquasurf_optuna.catalogue import Catalogue
from aquasurf_optuna.expression import Expression
from aquasurf_optuna.sampler import AquaSurfSampler
from aquasurf_optuna.space import SearchSpace
from tests.aquasurf_optuna.sampler_helpers import Task


@pytest.fixture(scope="module")
def task(catalogue: Catalogue) -> Task:
    return Task.near("mul(hard_sigmoid(x),elu(x))", catalogue)


# Queues and fixed parameters


def test_what_is_enqueued_twice_runs_twice(task: Task) -> None:
    study = task.study()
    # Two graphs of one function, and one of them again.
    texts = ("add(erf(x),zero(x))", "add(zero(x),erf(x))", "add(erf(x),zero(x))")
    for text in texts:
        study.enqueue_trial(task.space.params_of(text, "activation"))
    study.optimize(task.objective, n_trials=8)

    ran = [str(task.space.expression_of(t.params, "activation")) for t in study.trials]
    assert ran[:3] == list(texts)
    assert len(set(task.classes(study))) == 6


def test_a_duplicate_can_be_kept_out_of_the_queue(task: Task) -> None:
    study = task.study()
    for _ in range(2):
        params = task.space.params_of("add(erf(x),zero(x))", "activation")
        study.enqueue_trial(params, skip_if_exists=True)

    assert len(study.trials) == 1


def test_other_parameters_are_enqueued_alone(task: Task) -> None:
    study, plain = task.study(), task.study()
    for _ in range(4):
        study.enqueue_trial({"lr": 0.01})
    study.optimize(task.objective, n_trials=4)
    plain.optimize(task.objective, n_trials=1)

    assert {t.params["lr"] for t in study.trials} == {0.01}
    assert len(set(task.classes(study))) == 4
    # The first proposal is the one that there is without a queue.
    assert task.classes(study)[0] == task.classes(plain)[0]


def test_a_function_is_enqueued_and_the_rest_is_sampled(task: Task) -> None:
    study = task.study()
    for _ in range(3):
        study.enqueue_trial(task.space.params_of("add(erf(x),tanh(x))", "activation"))
    study.optimize(task.objective, n_trials=3)

    assert len(set(task.classes(study))) == 1
    assert len({t.params["lr"] for t in study.trials}) == 3


def test_an_enqueued_operator_that_is_none_fails_its_trial_alone(task: Task) -> None:
    study = task.study()
    study.enqueue_trial({"activation.0": "median", "activation.1": "erf"})
    study.optimize(task.objective, n_trials=4, catch=(ValueError,))

    assert [t.state == TrialState.FAIL for t in study.trials] == [True, False, False, False]


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
def test_parameters_fixed_inside_the_base_sampler(task: Task) -> None:
    base = PartialFixedSampler({"lr": 0.02}, TPESampler(seed=0))
    study = task.study(task.sampler(base_sampler=base))
    study.optimize(task.objective, n_trials=12)

    assert {t.params["lr"] for t in study.trials} == {0.02}
    assert len(set(task.classes(study))) == 12


# Ask and tell


def test_trials_are_told_in_any_order(task: Task) -> None:
    study = task.study()
    running: list[tuple[optuna.Trial, Expression]] = []
    rng = np.random.default_rng(0)
    for _ in range(20):
        running.append(task.suggest(study))
        if len(running) > 3:
            trial, expression = running.pop(int(rng.integers(4)))
            study.tell(trial.number, task.value(expression))

    assert [t.state for t in study.trials].count(TrialState.RUNNING) == 3
    assert len(set(task.classes(study))) == 20


@pytest.mark.parametrize("state", [TrialState.FAIL, TrialState.PRUNED])
def test_a_trial_told_to_have_ended_badly_is_not_repeated(task: Task, state: TrialState) -> None:
    study = task.study()
    trial, bad = task.suggest(study)
    study.tell(trial, state=state)
    study.optimize(task.objective, n_trials=10)

    classes = task.classes(study)
    assert classes[0] == task.catalogue.class_of(bad)
    assert len(set(classes)) == 11


def test_a_trial_told_a_second_time_is_left_as_it_is(task: Task) -> None:
    study = task.study()
    trial, _ = task.suggest(study)
    study.tell(trial, 1.0)
    study.tell(trial, 2.0, skip_if_finished=True)

    assert study.trials[0].value == 1.0


def test_parameters_are_asked_for_beforehand(task: Task) -> None:
    study = task.study()
    fixed: dict[str, BaseDistribution] = {
        **task.space.distributions("activation"),
        "lr": FloatDistribution(1e-4, 1e-1, log=True),
    }
    for n in range(10):
        trial = study.ask(fixed_distributions=fixed)
        assert set(trial.params) == set(fixed)
        expression = task.space.expression_of(trial.params, "activation")
        assert task.space.suggest(trial, "activation") == expression
        study.tell(trial, float(n))

    assert len(set(task.classes(study))) == 10


def test_all_parameters_of_a_union_are_asked_for_beforehand() -> None:
    union = SearchSpace("unary(x) | max(unary(x),unary(x))", unary=("relu", "tanh", "erf"))
    sampler = AquaSurfSampler(union, baselines=(), seed=0)
    study = optuna.create_study(direction="maximize", sampler=sampler)
    fixed: dict[str, BaseDistribution] = {**union.distributions("activation")}
    ran = set()
    for n in range(5):
        # The nodes of all schemas; those of the chosen one name the function.
        trial = study.ask(fixed_distributions=fixed)
        assert set(trial.params) == set(fixed)
        ran.add(sampler.catalogue().class_of(union.suggest(trial, "activation")))
        study.tell(trial, float(n))

    assert len(ran) == 5


# Conditional parameters


def test_a_parameter_that_only_some_functions_have(task: Task) -> None:
    def objective(trial: optuna.Trial) -> float:
        expression = task.space.suggest(trial, "activation")
        value = task.value(expression)
        if expression.operator in ("max", "min"):
            return value - abs(trial.suggest_float("clip", 0.0, 1.0) - 0.5)
        return value

    study = task.study()
    study.optimize(objective, n_trials=25)

    has = ["clip" in t.params for t in study.trials]
    operators = [t.params["activation.0"] in ("max", "min") for t in study.trials]
    assert has == operators
    assert set(has) == {True, False}
    assert len(set(task.classes(study))) == 25


def test_an_activation_that_only_some_trials_ask_for(task: Task) -> None:
    def objective(trial: optuna.Trial) -> float:
        if trial.suggest_categorical("kind", ("standard", "searched")) == "standard":
            return -1.0
        return task.value(task.space.suggest(trial, "activation"))

    study = task.study()
    study.optimize(objective, n_trials=30)

    asked = [t for t in study.trials if t.params["kind"] == "searched"]
    assert 5 < len(asked) <= 30
    expressions = [task.space.expression_of(t.params, "activation") for t in asked]
    assert len({task.catalogue.class_of(each) for each in expressions}) == len(asked)
    assert all("activation.0" not in t.params for t in study.trials if t not in asked)


def test_a_second_activation_under_a_condition() -> None:
    tiny = SearchSpace(
        "binary(unary(x),unary(x))", unary=("relu", "tanh", "erf"), binary=("add", "mul")
    )
    sampler = AquaSurfSampler({"stem": tiny, "head": tiny}, baselines=(), seed=0)

    def objective(trial: optuna.Trial) -> float:
        stem = tiny.suggest(trial, "stem")
        if stem.operator == "mul":
            return float(stem.node_count)
        return float(tiny.suggest(trial, "head").node_count)

    study = optuna.create_study(direction="maximize", sampler=sampler)
    study.optimize(objective, n_trials=8)

    for trial in study.trials:
        assert tiny.is_suggested(trial.params, "head") == (trial.params["stem.0"] != "mul")
    assert all(t.state == TrialState.COMPLETE for t in study.trials)
