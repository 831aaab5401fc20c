"""Processes that write at once, are forked, or are killed in the middle: the store stays good."""

import multiprocessing
import os
import signal
import time
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import pytest

from aquasurf_optuna.features.featurizer import FisherFeature
from aquasurf_optuna.store import FeatureStore
from tests.aquasurf_optuna import databases

pytestmark = [
    pytest.mark.skipif(
        "fork" not in multiprocessing.get_all_start_methods(), reason="the system has no fork"
    ),
    pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning"),
]
VALID = FisherFeature(vector=np.array([0.1, -3.5], dtype=np.float32), reason=None)
# Another function each: the sum of n + 2 times x.
TEXTS = [f"sum_n({'x,' * (n + 1)}x)" for n in range(45)]


@pytest.fixture(params=databases.KINDS)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[FeatureStore]:
    with FeatureStore(databases.fresh(request.param, tmp_path)) as opened:
        yield opened


def write_many(store: FeatureStore, start: int) -> None:
    for number in range(start, start + 30):
        vector = np.full(4, number, dtype=np.float32)
        store.put("task", TEXTS[number], FisherFeature(vector=vector, reason=None))


def write_at_once(store: FeatureStore, method: str) -> None:
    context = multiprocessing.get_context(method)
    # Ranges that overlap: half of the rows of each process are written by the other too.
    processes = [context.Process(target=write_many, args=(store, start)) for start in (0, 15, 0)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0, 0]
    loaded = store.load("task")
    assert sorted(loaded) == sorted(TEXTS)
    for number, text in enumerate(TEXTS):
        np.testing.assert_array_equal(loaded[text].vector, np.full(4, number))


def test_forked_processes_write_at_once(store: FeatureStore) -> None:
    store.put("task", TEXTS[0], FisherFeature(None, "to be replaced"))
    write_at_once(store, "fork")


@pytest.mark.slow  # each process imports torch
def test_spawned_processes_write_at_once(store: FeatureStore) -> None:
    write_at_once(store, "spawn")


def write_until_killed(store: FeatureStore, done: Connection, start: int) -> None:
    vector = np.random.default_rng(start).normal(size=50_000).astype(np.float32)
    for text in TEXTS[start:]:
        store.put("task", text, FisherFeature(vector, None))
        done.send(text)


def killed_in_the_middle(store: FeatureStore, start: int, seconds: float) -> list[str]:
    """Let a process write, kill it some time after its first put, and return what it finished."""
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=write_until_killed, args=(store, sender, start))
    process.start()
    sender.close()
    finished = [receiver.recv()]
    time.sleep(seconds)
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    while receiver.poll():
        try:
            finished.append(receiver.recv())
        except EOFError:
            break
    receiver.close()
    assert process.exitcode == -signal.SIGKILL
    return finished


def test_a_killed_process_loses_at_most_the_function_in_hand(store: FeatureStore) -> None:
    finished: list[str] = []
    for kill in range(5):
        start = store.count()
        assert start < len(TEXTS) - 10
        finished += killed_in_the_middle(store, start, seconds=0.0011 * kill)
        # A row that is half there would warn, and warnings are errors.
        assert set(store.load("task")) - set(finished) <= {TEXTS[store.count() - 1]}
        assert set(finished) <= set(store.load("task"))
        finished = list(store.load("task"))
    assert len(finished) >= 5
    assert store.claim("task", TEXTS[-1:], "me") == TEXTS[-1:]  # nobody holds a lock


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///{folder}/features.db"])
def test_a_fork_does_not_wait_for_a_lock_of_another_thread(url: str, tmp_path: Path) -> None:
    store = FeatureStore(url.format(folder=tmp_path))
    store.put("task", "x", VALID)
    in_memory = url == "sqlite://"

    # No public way stops a thread inside a method.
    with store._database._opening, store._database._turns:
        process = multiprocessing.get_context("fork").Process(
            target=expect, args=(store, in_memory)
        )
        process.start()
        process.join(timeout=30)
        process.kill()
    assert process.exitcode == 0
    assert store.count() == 1


def expect(store: FeatureStore, in_memory: bool) -> None:
    # A store in memory begins empty in another process.
    assert store.count() == (0 if in_memory else 1)
    store.put("task", "tanh(x)" if in_memory else "x", VALID)
