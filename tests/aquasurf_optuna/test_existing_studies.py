"""The sampler in a study that is there already: other samplers' trials, imports, copies."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import optuna
import pytest
from optuna.samplers import BaseSampler, NSGAIISampler, QMCSampler, RandomSampler, TPESampler
from optuna.trial import TrialState

from aquasurf_optuna.catalogue import Catalogue
from tests.aquasurf_optuna.sampler_helpers import Task


@pytest.fixture(scope="module")
def task(catalogue: Catalogue) -> Task:
    return Task.near("mul(hard_sigmoid(x),elu(x))", catalogue)


# Begun by others


BEGINNERS: dict[str, Callable[[], BaseSampler]] = {
    "tpe": lambda: TPESampler(seed=1, n_startup_trials=5, multivariate=True),
    "random": lambda: RandomSampler(seed=1),
    "qmc": lambda: QMCSampler(seed=1),
    "nsgaii": lambda: NSGAIISampler(seed=1, population_size=6),
}


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
@pytest.mark.parametrize("name", BEGINNERS)
def test_a_study_begun_by_another_sampler_goes_on_and_back(task: Task, name: str) -> None:
    study = task.study(BEGINNERS[name]())
    study.optimize(task.objective, n_trials=12)
    study.sampler = task.sampler()
    study.optimize(task.objective, n_trials=8)
    study.sampler = BEGINNERS[name]()
    study.optimize(task.objective, n_trials=4)

    classes = task.classes(study)
    ours = classes[12:20]
    assert len(set(ours)) == 8
    assert not set(ours) & set(classes[:12])
    assert all(t.state == TrialState.COMPLETE for t in study.trials)
    # A study refuses a parameter whose distribution changes: nobody's may.
    assert all(t.distributions == study.trials[0].distributions for t in study.trials)


def test_what_others_tried_leads_the_first_proposals(task: Task) -> None:
    eligible = task.values[task.catalogue.is_finite & ~task.catalogue.is_constant]
    shares = []
    for seed in range(3):
        study = task.study(RandomSampler(seed=seed))
        study.optimize(task.objective, n_trials=60)
        study.sampler = task.sampler(pool_size=200, seed=seed)
        study.optimize(task.objective, n_trials=5)
        proposed = task.classes(study)[60:]
        shares.append(np.mean([np.mean(eligible < task.values[each]) for each in proposed]))
    # The share of all functions that a proposal beats; by chance one half.
    assert np.mean(shares) > 0.8


def test_a_study_that_had_no_activation_takes_one(task: Task) -> None:
    def before(trial: optuna.Trial) -> float:
        return -abs(trial.suggest_float("lr", 0.0, 1.0) - 0.7)

    def after(trial: optuna.Trial) -> float:
        return before(trial) + 0.1 * task.value(task.space.suggest(trial, "activation"))

    study = task.study(TPESampler(seed=0))
    study.optimize(before, n_trials=30)
    study.sampler = task.sampler(baselines=("relu(x)",))
    study.optimize(after, n_trials=15)

    added = study.trials[30:]
    first = task.space.expression_of(added[0].params, "activation")
    assert task.catalogue.class_of(first) == task.catalogue.class_of("relu(x)")
    # The base sampler goes on from what the study knows of the learning rate.
    assert np.mean([abs(t.params["lr"] - 0.7) for t in added]) < 0.15


# Imported


def test_trials_of_another_study_are_imported(task: Task) -> None:
    source = task.study(RandomSampler(seed=2))
    source.optimize(task.objective, n_trials=20)
    study = task.study()
    study.optimize(task.objective, n_trials=5)
    study.add_trials(source.trials)
    study.optimize(task.objective, n_trials=10)

    classes = task.classes(study)
    assert len(classes) == 35
    assert not set(classes[25:]) & set(classes[:25])


@pytest.mark.parametrize("state", [TrialState.RUNNING, TrialState.WAITING])
def test_an_imported_trial_that_is_not_finished_holds_its_function(
    task: Task, state: TrialState
) -> None:
    _, first = task.suggest(task.study())
    study = task.study()
    study.add_trial(
        optuna.create_trial(
            state=state,
            params=task.space.params_of(first, "activation"),
            distributions={**task.space.distributions("activation")},
        )
    )
    # As another worker asks that does not take what waits in the queue.
    asked = optuna.Trial(study, study._storage.create_new_trial(study._study_id))
    second = task.space.suggest(asked, "activation")

    assert task.catalogue.class_of(second) != task.catalogue.class_of(first)


def test_half_an_activation_among_imported_trials_is_passed_over(task: Task) -> None:
    node, distribution = next(iter(task.space.distributions("activation").items()))
    study = task.study()
    study.add_trial(
        optuna.create_trial(params={node: "max"}, distributions={node: distribution}, value=9.0)
    )
    expressions = [task.suggest(study)[1] for _ in range(3)]

    assert len({task.catalogue.class_of(each) for each in expressions}) == 3


# Databases, copies and summaries


def test_a_copied_study_goes_on(task: Task, tmp_path: Path) -> None:
    first, second = (f"sqlite:///{tmp_path / name}.db" for name in ("first", "second"))
    study = task.study(study_name="team", storage=first)
    study.optimize(task.objective, n_trials=4)
    optuna.copy_study(
        from_study_name="team", from_storage=first, to_storage=second, to_study_name="copy"
    )
    copied = optuna.load_study(study_name="copy", storage=second, sampler=task.sampler())
    copied.optimize(task.objective, n_trials=4)

    assert len(set(task.classes(copied))) == 8
    assert len(study.trials) == 4
    (summary,) = optuna.get_all_study_summaries(second)
    assert (summary.study_name, summary.n_trials) == ("copy", 8)
    assert summary.best_trial is not None
    assert summary.best_trial.value == copied.best_value
    for each in (study, copied):
        each._storage.remove_session()


def test_what_a_database_keeps_is_short_and_readable(task: Task, tmp_path: Path) -> None:
    storage = f"sqlite:///{tmp_path / 'study.db'}"
    study = task.study(study_name="team", storage=storage)
    study.optimize(task.objective, n_trials=5)
    loaded = optuna.load_study(study_name="team", storage=storage)

    for trial in loaded.trials:
        operators = [v for key, v in trial.params.items() if key.startswith("activation.")]
        assert all(isinstance(each, str) and len(each) < 20 for each in operators)
        claim = trial.system_attrs["aquasurf:activation"]
        assert claim == str(task.space.expression_of(trial.params, "activation"))
        own = [v for key, v in trial.system_attrs.items() if key.startswith("aquasurf:")]
        assert all(len(str(value)) < 500 for value in own)
    for each in (study, loaded):
        each._storage.remove_session()


def test_a_worker_with_tpe_beside_ours(task: Task, tmp_path: Path) -> None:
    storage = f"sqlite:///{tmp_path / 'study.db'}"
    ours = task.study(study_name="team", storage=storage)
    theirs = optuna.load_study(
        study_name="team", storage=storage, sampler=TPESampler(seed=0, n_startup_trials=3)
    )
    for _ in range(6):
        # Both run at once; TPE takes what it likes, ours what nobody has.
        other, its = task.suggest(theirs)
        taken = set(task.classes(ours))
        mine, own = task.suggest(ours)
        assert task.catalogue.class_of(own) not in taken
        ours.tell(mine, task.value(own))
        theirs.tell(other, task.value(its))

    assert len(ours.trials) == 12
    for each in (ours, theirs):
        each._storage.remove_session()
