"""Eight processes on one study, on every storage; some of them are killed in the middle.

All samplers have the same seed, so that they agree on what is best, and clash wherever they can.
"""

import itertools
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.storages import RetryHeartbeatStaleTrialCallback
from optuna.trial import FrozenTrial, TrialState, create_trial

from aquasurf_optuna.sampler import AquaSurfSampler
from aquasurf_optuna.store import FeatureStore
from tests.aquasurf_optuna import databases, storages
from tests.aquasurf_optuna.worker_program import (
    CATALOGUE,
    DOOMED,
    NAME,
    SPACE,
    TARGET,
    VALUES,
    Job,
    Step,
)
from tests.aquasurf_optuna.worker_team import (
    CHANCE_DEATHS,
    Run,
    Team,
    clashes,
    class_of,
    is_enough,
    kill_some,
    runs_of,
)

WORKERS = 8
SHORT, LONG = 48, 200
BEST = CATALOGUE.class_of(TARGET)

Make = Callable[..., Job]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    """Makes the job of a team, on a storage of its own."""
    with ExitStack() as stack:

        def job(kind: str, *, heartbeat: bool = False, retries: bool = False, **rest: Any) -> Job:
            fresh = storages.fresh(kind, tmp_path, heartbeat=heartbeat, retries=retries)
            return Job(stack.enter_context(fresh), str(tmp_path), **rest)

        yield job


def slow(*values: object) -> Any:
    return pytest.param(*values, marks=pytest.mark.slow)


@pytest.mark.parametrize(
    ("kind", "n_trials"), [("sqlite", SHORT), *(slow(kind, LONG) for kind in storages.KINDS)]
)
def test_eight_workers_train_each_function_once(make: Make, kind: str, n_trials: int) -> None:
    with Team(make(kind, n_trials=n_trials // WORKERS, together=WORKERS)) as team:
        team.start(WORKERS)
        team.join()
        trials, runs = team.trials(), team.runs()

    assert faults(trials, runs) == []
    assert [trial.state for trial in trials] == [TrialState.COMPLETE] * n_trials
    assert len(runs) == n_trials
    assert len({run.worker for run in runs}) == WORKERS
    assert len({run.class_id for run in runs}) == n_trials
    assert at_once(runs) > 1, "the workers took turns, so nothing was shown"
    if n_trials == LONG:
        assert class_of(best_of(trials)) == BEST


@pytest.mark.parametrize(
    ("kind", "settings", "n_trials"),
    [
        slow("sqlite", {"heartbeat": True}, SHORT),
        slow("sqlite", {"heartbeat": True}, LONG),
        slow("sqlite", {"heartbeat": True, "retries": True}, LONG),
        slow("postgresql", {"heartbeat": True}, LONG),
        slow("postgresql", {"heartbeat": True, "retries": True}, LONG),
        slow("postgresql", {"running_timeout": float(storages.GRACE)}, LONG),
        slow("journal", {"running_timeout": float(storages.GRACE)}, LONG),
        slow("grpc", {"running_timeout": float(storages.GRACE)}, LONG),
    ],
)
def test_killed_workers_give_their_functions_back(
    make: Make, kind: str, settings: dict[str, Any], n_trials: int
) -> None:
    # Beside heartbeats, for a worker that dies before its first: Optuna never fails its trial.
    timeout = {"running_timeout": 2.0 * storages.GRACE} if "heartbeat" in settings else {}
    job = make(kind, doomed=DOOMED, together=WORKERS, **timeout, **settings)
    with Team(job) as team:
        team.start(WORKERS)
        kill_some(team, seed=0)
        team.wait(lambda steps: is_enough(steps, n_trials))
        team.stop()
        team.join()
        trials, runs = team.trials(), team.runs()

    assert faults(trials, runs) == []
    done = [trial for trial in trials if trial.state == TrialState.COMPLETE]
    assert len(done) >= n_trials
    # What is not complete is what a dead worker had in its hands, one trial each.
    assert len(team.deaths) == len(DOOMED) + CHANCE_DEATHS
    assert len(trials) - len(done) <= len(team.deaths)
    assert class_of(best_of(done)) == BEST
    for class_id in DOOMED:
        first, *others = sorted(
            (run for run in runs if run.class_id == class_id), key=lambda run: run.begin
        )
        assert first.worker in team.deaths
        assert not first.told
        assert others, f"class {class_id} was never tried again"
        assert others[-1].told
    if "heartbeat" in settings:
        assert any(trial.state == TrialState.FAIL for trial in trials)
    check_retries(trials)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_workers_share_a_store_of_features(make: Make, kind: str, tmp_path: Path) -> None:
    url = databases.fresh(kind, tmp_path)
    n_trials, pool_size = 80, 150
    job = make(
        kind,
        n_trials=n_trials // WORKERS,
        features=url,
        pool_size=pool_size,
        together=WORKERS,
    )
    with Team(job) as team:
        team.start(WORKERS)
        team.join()
        trials, runs = team.trials(), team.runs()

    assert faults(trials, runs) == []
    assert len({run.class_id for run in runs}) == n_trials
    with FeatureStore(url) as store:
        # The pool, and baselines that it did not draw.
        assert pool_size <= store.count() <= pool_size + 8


def faults(trials: list[FrozenTrial], runs: list[Run]) -> list[str]:
    """What is lost or doubled: of trials, of functions, of results."""
    found = []
    if [trial.number for trial in trials] != list(range(len(trials))):
        found.append("trials are lost")
    if clashes(runs):
        found.append("equal functions ran at once")
    if len({run.trial for run in runs}) < len(runs):
        found.append("two workers had one trial")
    complete = {t.number: t for t in trials if t.state == TrialState.COMPLETE}
    if len({class_of(trial) for trial in complete.values()}) < len(complete):
        found.append("a function ran twice")
    if not {run.trial for run in runs if run.told} <= complete.keys():
        found.append("a result is lost")
    results = {run.trial: (run.class_id, VALUES[run.class_id]) for run in runs}
    if any(results.get(n) != (class_of(t), t.value) for n, t in complete.items()):
        found.append("a trial has the result of another function")
    return found


def check_retries(trials: list[FrozenTrial]) -> None:
    """A trial put into the queue again runs the function of the dead one."""
    for trial in trials:
        origin = trial.system_attrs.get("failed_trial")
        if origin is not None and class_of(trials[origin]) is not None:
            assert class_of(trial) == class_of(trials[origin])


def at_once(runs: list[Run]) -> int:
    """How many trainings went on at the busiest moment."""
    changes = sorted([(run.begin, 1) for run in runs] + [(run.end, -1) for run in runs])
    return max(itertools.accumulate(change for _, change in changes))


def best_of(trials: list[FrozenTrial]) -> FrozenTrial:
    return max(trials, key=lambda trial: -np.inf if trial.value is None else trial.value)


def run(class_id: int, begin: float, end: float, *, worker: int = 0) -> Run:
    return Run(worker, 0, class_id, begin, end, told=True)


def test_clashes_are_seen() -> None:
    alone = [run(1, 0.0, 1.0), run(1, 1.5, 2.0), run(2, 0.5, 3.0)]
    assert clashes(alone) == []
    late = run(1, 1.75, 5.0, worker=1)
    assert clashes([*alone, late]) == [(alone[1], late)]
    assert at_once([*alone, late]) == 3


def test_the_logs_tell_what_a_dead_worker_had_in_its_hands() -> None:
    steps = [
        Step(0, "asked", 0, -1, 1.0),
        Step(1, "asked", 1, -1, 1.5),
        Step(0, "begun", 0, 7, 2.0),
        Step(1, "begun", 1, 8, 2.5),
        Step(1, "trained", 1, 8, 3.0),
        Step(1, "told", 1, -1, 3.5),
        Step(1, "asked", 2, -1, 4.0),
    ]
    assert runs_of(steps, {0: 9.0}) == [
        Run(0, 0, 7, 2.0, 9.0, told=False),
        Run(1, 1, 8, 2.5, 3.0, told=True),
    ]


def complete(number: int, class_id: int) -> FrozenTrial:
    params = SPACE.params_of(CATALOGUE[class_id], NAME)
    nodes = SPACE.distributions(NAME)
    trial = create_trial(
        params=params,
        distributions={node: nodes[node] for node in params},
        value=float(VALUES[class_id]),
    )
    trial.number = number
    return trial


@pytest.mark.parametrize(
    ("numbers", "change", "fault"),
    [
        ((0, 1), {}, None),
        ((0, 2), {}, "trials are lost"),
        ((0,), {}, "a result is lost"),
        ((0, 1), {"trial": 0}, "two workers had one trial"),
        ((0, 1), {"class_id": 5}, "equal functions ran at once"),
        ((0, 1), {"class_id": 7}, "a trial has the result of another function"),
    ],
)
def test_what_is_lost_or_doubled_is_seen(
    numbers: tuple[int, ...], change: dict[str, Any], fault: str | None
) -> None:
    runs = [Run(0, 0, 5, 0.0, 1.0, told=True), Run(1, 1, 6, 0.0, 1.0, told=True)]
    trials = [complete(number, class_id) for number, class_id in zip(numbers, (5, 6), strict=False)]
    found = faults(trials, [runs[0], runs[1]._replace(**change)])
    assert (fault in found) if fault else not found


def test_a_function_that_ran_twice_is_seen() -> None:
    runs = [Run(0, 0, 5, 0.0, 1.0, told=True), Run(1, 1, 5, 2.0, 3.0, told=True)]
    assert faults([complete(0, 5), complete(1, 5)], runs) == ["a function ran twice"]


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
@pytest.mark.parametrize("n_suggested", [0, 2, 3])
def test_a_trial_tried_again_runs_what_it_claims(n_suggested: int) -> None:
    """Its first worker died when it had suggested some nodes, and proposals have changed since."""
    sampler = AquaSurfSampler(SPACE, catalogue=CATALOGUE, baselines=(), pool_size=50, seed=0)
    study = optuna.create_study(direction="maximize", sampler=sampler)
    trial = study.ask()
    SPACE.suggest(trial, NAME)
    study._storage.set_trial_state_values(trial._trial_id, TrialState.FAIL)
    dead = study.get_trials()[0]
    dead.params = dict(list(dead.params.items())[:n_suggested])
    dead.distributions = {node: dead.distributions[node] for node in dead.params}
    for number, class_id in enumerate((5, 900, 2000)):
        study.add_trial(complete(number, class_id))
    RetryHeartbeatStaleTrialCallback()(study, dead)

    again = study.ask()
    ran = SPACE.suggest(again, NAME)

    attributes = study._storage.get_trial(again._trial_id).system_attrs
    assert attributes["failed_trial"] == dead.number
    assert CATALOGUE.class_of(attributes[f"aquasurf:{NAME}"]) == CATALOGUE.class_of(ran)
    assert dead.params.items() <= again.params.items()
