"""The sampler beside the rest of Optuna: pruners, callbacks, base samplers, figures."""

from collections.abc import Callable

import numpy as np
import optuna
import pytest
from optuna import terminator
from optuna.importance import FanovaImportanceEvaluator, PedAnovaImportanceEvaluator
from optuna.pruners import (
    BasePruner,
    HyperbandPruner,
    MedianPruner,
    PatientPruner,
    PercentilePruner,
    SuccessiveHalvingPruner,
    ThresholdPruner,
)
from optuna.samplers import (
    BaseSampler,
    BruteForceSampler,
    GPSampler,
    GridSampler,
    NSGAIIISampler,
    NSGAIISampler,
    QMCSampler,
    RandomSampler,
    TPESampler,
)
from optuna.study import MaxTrialsCallback
from optuna.trial import FrozenTrial, TrialState

from aquasurf_optuna.catalogue import Catalogue
from tests.aquasurf_optuna.sampler_helpers import Task

EXPERIMENTAL = pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")


@pytest.fixture(scope="module")
def task(catalogue: Catalogue) -> Task:
    return Task.near("mul(hard_sigmoid(x),elu(x))", catalogue)


# Pruners


PRUNERS: dict[str, Callable[[], BasePruner]] = {
    "median": lambda: MedianPruner(n_startup_trials=3, n_warmup_steps=1),
    "percentile": lambda: PercentilePruner(40.0, n_startup_trials=3),
    "halving": lambda: SuccessiveHalvingPruner(min_resource=1, reduction_factor=2),
    "hyperband": lambda: HyperbandPruner(min_resource=1, max_resource=9, reduction_factor=3),
    "patient": lambda: PatientPruner(MedianPruner(n_startup_trials=3), patience=1),
    "threshold": lambda: ThresholdPruner(lower=-0.7, n_warmup_steps=4),
}


@EXPERIMENTAL
@pytest.mark.parametrize("name", PRUNERS)
def test_pruners_work_beside_it(task: Task, name: str) -> None:
    def objective(trial: optuna.Trial) -> float:
        value = task.objective(trial)
        for epoch in range(1, 10):
            # A learning curve towards the value; every fifth curve falls again at once.
            trial.report(value - 1.0 / epoch - (trial.number % 5 == 0) * 0.1 * epoch, epoch)
            if trial.should_prune():
                raise optuna.TrialPruned
        return value

    study = task.study(pruner=PRUNERS[name](), study_name="pruned")
    study.optimize(objective, n_trials=30)

    states = [t.state for t in study.trials]
    assert set(states) == {TrialState.COMPLETE, TrialState.PRUNED}
    assert len(set(task.classes(study))) == 30


def test_pruning_at_the_start_leads_away_from_what_was_pruned(task: Task) -> None:
    def objective(trial: optuna.Trial) -> float:
        value = task.value(task.space.suggest(trial, "activation"))
        if value < -0.45:
            trial.report(value, 0)
            raise optuna.TrialPruned
        return value

    study = task.study(task.sampler(pool_size=200))
    study.optimize(objective, n_trials=50)

    pruned = [t.state == TrialState.PRUNED for t in study.trials]
    pool = task.values[task.catalogue.is_finite & ~task.catalogue.is_constant]
    by_chance = np.mean(pool < -0.45)
    assert by_chance > 0.5
    assert np.mean(pruned[25:]) < 0.75 * by_chance


# Callbacks


def test_a_study_stops_at_a_number_of_trials(task: Task) -> None:
    study = task.study()
    study.optimize(task.objective, n_trials=5)
    study.optimize(task.objective, callbacks=[MaxTrialsCallback(12)])

    assert len(study.trials) == 12


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_a_callback_stops_the_study_and_it_goes_on_later(task: Task, n_jobs: int) -> None:
    def stop(study: optuna.Study, trial: FrozenTrial) -> None:
        if trial.number >= 6:
            study.stop()

    study = task.study(task.sampler(pool_size=80))
    study.optimize(task.objective, n_trials=50, callbacks=[stop], n_jobs=n_jobs)
    first = len(study.trials)
    study.optimize(task.objective, n_trials=5)

    assert 7 <= first <= 7 + n_jobs
    assert len(set(task.classes(study))) == first + 5


def test_a_callback_may_ask_the_sampler_and_ask_for_more(task: Task) -> None:
    sampler = task.sampler()
    seen: list[str] = []

    def look(study: optuna.Study, trial: FrozenTrial) -> None:
        seen.append(str(sampler.explain(trial)))
        if trial.number == 2:
            study.enqueue_trial(task.space.params_of("add(erf(x),tanh(x))", "activation"))

    study = task.study(sampler)
    study.optimize(task.objective, n_trials=6, callbacks=[look])

    assert len(set(seen)) == 6
    assert task.classes(study)[3] == task.catalogue.class_of("add(erf(x),tanh(x))")


@EXPERIMENTAL
@pytest.mark.filterwarnings("ignore:`optuna.terminator` module has been deprecated:FutureWarning")
@pytest.mark.parametrize("evaluator", ["regret", "stagnation"])
def test_the_terminator_stops_the_study(task: Task, evaluator: str) -> None:
    if evaluator == "regret":
        chosen = terminator.Terminator(min_n_trials=8)
    else:
        stagnation = terminator.BestValueStagnationEvaluator(max_stagnation_trials=10)
        chosen = terminator.Terminator(stagnation, min_n_trials=8)

    def objective(trial: optuna.Trial) -> float:
        value = task.value(task.space.suggest(trial, "activation"))
        # As noisy as the whole range, so that there is soon nothing left to gain.
        terminator.report_cross_validation_scores(trial, [value - 40.0, value, value + 40.0])
        return value

    study = task.study()
    study.optimize(objective, n_trials=60, callbacks=[terminator.TerminatorCallback(chosen)])

    assert 8 <= len(study.trials) < 60
    assert len(set(task.classes(study))) == len(study.trials)


# The other parameters


BASE_SAMPLERS: dict[str, Callable[[], BaseSampler]] = {
    "random": lambda: RandomSampler(seed=0),
    "tpe": lambda: TPESampler(seed=0, multivariate=True, group=True, constant_liar=True),
    "gp": lambda: GPSampler(seed=0, n_startup_trials=5),
    "qmc": lambda: QMCSampler(seed=0),
    "nsgaii": lambda: NSGAIISampler(seed=0, population_size=5),
    "nsgaiii": lambda: NSGAIIISampler(seed=0, population_size=5),
}


@EXPERIMENTAL
@pytest.mark.parametrize("name", BASE_SAMPLERS)
def test_any_base_sampler_samples_any_other_parameter(task: Task, name: str) -> None:
    def objective(trial: optuna.Trial) -> float:
        value = task.objective(trial)
        value -= 0.1 * abs(trial.suggest_float("momentum", 0.0, 0.9, step=0.3) - 0.6)
        value -= 0.1 * abs(trial.suggest_int("width", 8, 128, log=True) - 64) / 64
        optimizer = trial.suggest_categorical("optimizer", ("sgd", "adam"))
        if optimizer == "sgd":
            value -= 0.1 * trial.suggest_float("nesterov", 0.0, 1.0)
        return value

    study = task.study(task.sampler(base_sampler=BASE_SAMPLERS[name]()))
    study.optimize(objective, n_trials=15)

    assert len(set(task.classes(study))) == 15
    for trial in study.trials:
        assert 1e-4 <= trial.params["lr"] <= 1e-1
        assert round(trial.params["momentum"], 6) in (0.0, 0.3, 0.6, 0.9)
        assert ("nesterov" in trial.params) == (trial.params["optimizer"] == "sgd")
    assert len({t.params["width"] for t in study.trials}) > 3


def test_a_grid_of_the_other_parameters_ends_the_study(task: Task) -> None:
    grid = GridSampler({"lr": [1e-3, 1e-2], "momentum": [0.0, 0.5, 0.9]}, seed=0)

    def objective(trial: optuna.Trial) -> float:
        return task.objective(trial) + trial.suggest_float("momentum", 0.0, 0.9)

    study = task.study(task.sampler(base_sampler=grid))
    study.optimize(objective, n_trials=30)

    assert len({(t.params["lr"], t.params["momentum"]) for t in study.trials}) == 6
    assert len(study.trials) == 6
    assert len(set(task.classes(study))) == 6


@EXPERIMENTAL
def test_brute_force_of_the_other_parameters(task: Task) -> None:
    def objective(trial: optuna.Trial) -> float:
        depth = trial.suggest_int("depth", 1, 3)
        return task.value(task.space.suggest(trial, "activation")) + depth

    study = task.study(task.sampler(base_sampler=BruteForceSampler(seed=0)))
    study.optimize(objective, n_trials=20)

    assert {t.params["depth"] for t in study.trials} == {1, 2, 3}
    assert len(set(task.classes(study))) == 20


def test_the_base_sampler_heeds_constraints(task: Task) -> None:
    def objective(trial: optuna.Trial) -> float:
        value = task.objective(trial)
        trial.set_constraint("slow enough", trial.params["lr"] - 1e-3)
        return value

    study = task.study()
    study.optimize(objective, n_trials=30)

    too_fast = [t.params["lr"] > 1e-3 for t in study.trials]
    assert np.mean(too_fast[15:]) < np.mean(too_fast[:10])
    assert study.best_params["lr"] <= 1e-3
    assert len(set(task.classes(study))) == 30


# Who reads the study afterwards


@EXPERIMENTAL
@pytest.mark.parametrize("evaluator", [FanovaImportanceEvaluator, PedAnovaImportanceEvaluator])
def test_importances_know_the_nodes(
    task: Task, evaluator: Callable[[], optuna.importance.BaseImportanceEvaluator]
) -> None:
    study = task.study()
    study.optimize(task.objective, n_trials=25)
    importances = optuna.importance.get_param_importances(study, evaluator=evaluator())

    assert set(importances) == {"lr", *task.space.distributions("activation")}
    assert sum(importances.values()) == pytest.approx(1.0)


def test_optunas_own_figures_can_be_drawn(task: Task) -> None:
    study = task.study()
    study.optimize(task.objective, n_trials=12)
    draw = optuna.visualization
    figures = [
        draw.plot_optimization_history(study),
        draw.plot_parallel_coordinate(study),
        draw.plot_slice(study),
        draw.plot_contour(study, params=["activation.0", "lr"]),
        draw.plot_param_importances(study, evaluator=FanovaImportanceEvaluator(seed=0)),
        draw.plot_edf(study),
        draw.plot_rank(study, params=["activation.0", "activation.1"]),
        draw.plot_timeline(study),
    ]

    assert all(figure.data for figure in figures)
