"""Several workers on one study: threads, and processes that see each other in the storage alone."""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest

from aquasurf_optuna.catalogue import Catalogue
from aquasurf_optuna.sampler import AquaSurfSampler
from aquasurf_optuna.space import SearchSpace
from tests.aquasurf_optuna.sampler_helpers import classes_of, suggest

Make = Callable[[], AquaSurfSampler]


@pytest.fixture
def make(three_node: SearchSpace, catalogue: Catalogue) -> Make:
    """Workers with the same seed: they agree on what is best, so they clash when they can."""
    return lambda: AquaSurfSampler(three_node, catalogue=catalogue, pool_size=60, seed=0)


def test_threads_never_run_the_same_function(
    make: Make, three_node: SearchSpace, catalogue: Catalogue
) -> None:
    running: set[int] = set()
    clashes: list[int] = []
    lock = threading.Lock()

    def objective(trial: optuna.Trial) -> float:
        class_id = catalogue.class_of(three_node.suggest(trial, "activation"))
        with lock:
            clashes.extend(running & {class_id})
            running.add(class_id)
        return float(class_id)

    study = optuna.create_study(sampler=make())
    study.optimize(objective, n_trials=40, n_jobs=2)

    assert clashes == []
    assert len(running) == 40


def test_workers_that_take_turns_see_each_other(
    make: Make, three_node: SearchSpace, catalogue: Catalogue, tmp_path: Path
) -> None:
    storage = f"sqlite:///{tmp_path / 'study.db'}"
    studies = [
        optuna.create_study(
            study_name="shared", storage=storage, sampler=make(), load_if_exists=True
        )
        for _ in range(2)
    ]
    for turn in range(12):
        trial, _ = suggest(studies[turn % 2], three_node)
        if turn % 3:
            studies[turn % 2].tell(trial, float(turn))

    assert len(set(classes_of(studies[0], three_node, catalogue))) == 12
    for study in studies:
        study._storage.remove_session()


def at_the_same_moment(study: optuna.Study, workers: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let nobody write a first claim before all have chosen, nor look again before all wrote."""
    barrier = threading.Barrier(workers)
    write = study._storage.set_trial_system_attr
    first = set[int]()

    def wait_and_write(trial_id: int, key: str, value: Any) -> None:
        if trial_id in first or not key.startswith("aquasurf:"):
            write(trial_id, key, value)
            return
        first.add(trial_id)
        barrier.wait(timeout=30)
        write(trial_id, key, value)
        barrier.wait(timeout=30)

    monkeypatch.setattr(study._storage, "set_trial_system_attr", wait_and_write)


@pytest.mark.parametrize("workers", [2, 3])
def test_workers_that_choose_at_the_same_moment_part_ways(
    make: Make,
    three_node: SearchSpace,
    catalogue: Catalogue,
    monkeypatch: pytest.MonkeyPatch,
    workers: int,
) -> None:
    study = optuna.create_study(sampler=make())
    at_the_same_moment(study, workers, monkeypatch)
    studies = [
        optuna.Study(study.study_name, study._storage, sampler=make()) for _ in range(workers)
    ]
    threads = [
        threading.Thread(target=suggest, args=(each, three_node), daemon=True) for each in studies
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)

    ran = classes_of(study, three_node, catalogue)
    assert len(ran) == workers
    assert len(set(ran)) == workers


def test_a_claim_that_came_between_is_respected(
    make: Make, three_node: SearchSpace, catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = optuna.create_study(sampler=make())
    late = study._storage.create_new_trial(study._study_id)
    write = study._storage.set_trial_system_attr

    def rival_first(trial_id: int, key: str, value: Any) -> None:
        # The rival has settled on the same function just before this claim is written.
        monkeypatch.setattr(study._storage, "set_trial_system_attr", write)
        write(late, key, value)
        write(trial_id, key, value)

    monkeypatch.setattr(study._storage, "set_trial_system_attr", rival_first)
    _, expression = suggest(study, three_node)

    rival = study.get_trials(deepcopy=False)[0].system_attrs["aquasurf:activation"]
    assert catalogue.class_of(expression) != catalogue.class_of(rival)
