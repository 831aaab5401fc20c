"""Processes that measure beside processes that train, on one study and one store; one is killed."""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path

import numpy as np
import optuna

from aquasurf_optuna import BASELINES, FeatureStore
from tests.aquasurf_optuna import feature_program as program
from tests.aquasurf_optuna.feature_program import CATALOGUE, MEASURED, TASK, TRAINED, VALUES

N_TRIALS = 14
SECONDS = 0.05


def start(target: Callable[..., None], *arguments: object) -> BaseProcess:
    process = program.context.Process(target=target, args=arguments)
    process.start()
    return process


def wait(condition: Callable[[], bool], seconds: float = 180.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"it did not come in {seconds} s"
        time.sleep(0.02)


def test_the_pool_grows_while_others_train_and_one_who_fills_it_is_killed(tmp_path: Path) -> None:
    program.study(tmp_path, program.sampler(tmp_path))
    measuring = [start(program.measure, tmp_path, SECONDS) for _ in range(2)]
    training = [start(program.train, tmp_path, N_TRIALS) for _ in range(2)]
    processes = [*measuring, *training]
    killed = measuring[0]
    try:
        wait(lambda: len(program.lines(tmp_path, MEASURED, [killed])) >= 5)
        assert killed.pid is not None
        os.kill(killed.pid, signal.SIGKILL)
        # Another one comes in its place.
        processes.append(start(program.measure, tmp_path, SECONDS))
        for process in processes:
            process.join(180)
        assert [p.exitcode for p in processes] == [-signal.SIGKILL, 0, 0, 0, 0]
    finally:
        for process in processes:
            process.kill()
            process.join()
    _check_store(tmp_path, killed)
    _check_study(tmp_path)


def _check_store(folder: Path, killed: BaseProcess) -> None:
    """Nothing is lost, and nothing measured twice but what the killed one was at."""
    store = FeatureStore(f"sqlite:///{folder / 'features.db'}")
    assert store.claims(TASK) == {}
    stored = store.functions(TASK).values()
    measured = Counter(program.lines(folder, MEASURED))
    assert set(stored) == set(measured)
    assert len(stored) == len(CATALOGUE.classes_of(stored))
    candidates = np.flatnonzero(CATALOGUE.is_finite & ~CATALOGUE.is_constant)
    assert set(candidates) <= set(CATALOGUE.classes_of(stored))
    [*_, last] = program.lines(folder, MEASURED, [killed])
    assert {text: n for text, n in measured.items() if n > 1} in ({}, {last: 2})


def _check_study(folder: Path) -> None:
    """Each function was trained once, and the later ones were chosen among ever more candidates."""
    own = program.sampler(folder)
    study = program.study(folder, own)
    assert len(study.trials) == 2 * N_TRIALS
    assert {trial.state for trial in study.trials} == {optuna.trial.TrialState.COMPLETE}
    trained = program.lines(folder, TRAINED)
    assert len(trained) == len(set(trained)) == 2 * N_TRIALS
    told = [own.explain(trial) for trial in study.trials]
    reasons = [each.reason for each in told if each is not None]
    assert reasons[0] == "baseline"
    assert set(reasons) <= {"baseline", "unmeasured", "first", "predicted"}
    sizes = [each.n_candidates for each in told if each and each.reason == "predicted"]
    assert len(sizes) >= N_TRIALS // 2
    assert max(sizes) >= min(sizes) + 5
    baselines = list(CATALOGUE.classes_of(BASELINES))
    assert max(trial.value for trial in study.trials) > VALUES[baselines].max()
