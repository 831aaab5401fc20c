"""Workers on one store: each function once, whatever becomes of the others."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from aquasurf_optuna.catalogue import Catalogue
from aquasurf_optuna.features._feature import FisherFeature, StoppedError
from aquasurf_optuna.features._owner import new_owner
from aquasurf_optuna.features._worker import Job, work_off
from aquasurf_optuna.store import FeatureStore

TASK = "task"
ELSEWHERE = "elsewhere:1:1:other"


@pytest.fixture
def store(tmp_path: Path) -> FeatureStore:
    return FeatureStore(f"sqlite:///{tmp_path / 'features.db'}")


@pytest.fixture(scope="module")
def texts(catalogue: Catalogue) -> tuple[str, ...]:
    return tuple(str(catalogue[number]) for number in catalogue.shuffled(0)[:60])


def feature_of(text: str) -> FisherFeature:
    return FisherFeature(np.array([len(text), ord(text[0])], np.float32), None)


class Measure:
    """Measures quickly, and counts."""

    def __init__(self, before: Callable[[str], object] = lambda text: None) -> None:
        self.counts: Counter[str] = Counter()
        self._before = before

    def __call__(self, text: str) -> FisherFeature:
        self.counts[text] += 1
        self._before(text)
        return feature_of(text)


def job(texts: tuple[str, ...], lease: float = 30.0) -> Job:
    return Job(TASK, texts, lease, "run")


def assert_done(store: FeatureStore, texts: tuple[str, ...]) -> None:
    known = store.known(TASK, texts)
    assert list(known) == list(texts)
    for text, feature in known.items():
        np.testing.assert_array_equal(feature.vector, feature_of(text).vector)
    assert store.claims(TASK) == {}


def test_one_worker_does_what_is_missing(store: FeatureStore, texts: tuple[str, ...]) -> None:
    for text in texts[:10]:
        store.put(TASK, text, feature_of(text))
    measure = Measure()
    assert work_off(store, measure, job(texts)) == 50
    assert measure.counts == Counter(texts[10:])
    assert_done(store, texts)


def test_workers_divide_the_work(store: FeatureStore, texts: tuple[str, ...]) -> None:
    measures = [Measure(lambda text: time.sleep(0.002)) for _ in range(3)]
    store.tasks()
    with ThreadPoolExecutor(3) as pool:
        done = list(pool.map(lambda measure: work_off(store, measure, job(texts)), measures))
    assert sum(done) == 60
    assert sum((measure.counts for measure in measures), Counter()) == Counter(texts)
    assert_done(store, texts)


def test_claims_of_the_dead_are_taken_at_once(store: FeatureStore, texts: tuple[str, ...]) -> None:
    host, pid, start, tag = new_owner("run").split(":")
    dead = f"{host}:{pid}:{start}1:{tag}"
    store.claim(TASK, texts, dead, limit=7)
    assert work_off(store, Measure(), job(texts, lease=1e6)) == 60
    assert_done(store, texts)


def test_claims_that_show_no_life_are_taken(store: FeatureStore, texts: tuple[str, ...]) -> None:
    store.claim(TASK, texts, ELSEWHERE, limit=7)
    assert work_off(store, Measure(), job(texts, lease=0.2)) == 60
    assert_done(store, texts)
    assert not store.put(TASK, texts[0], feature_of("late"), owner=ELSEWHERE)


def test_claims_that_beat_are_left(store: FeatureStore, texts: tuple[str, ...]) -> None:
    (theirs,) = store.claim(TASK, texts, ELSEWHERE, limit=1)
    measure = Measure()
    with ThreadPoolExecutor(1) as pool:
        run = pool.submit(work_off, store, measure, job(texts, lease=1.0))
        for _ in range(20):  # twice the lease
            time.sleep(0.1)
            store.beat(ELSEWHERE)
        assert store.put(TASK, theirs, feature_of(theirs), owner=ELSEWHERE)
        assert run.result() == 59
    assert theirs not in measure.counts
    assert_done(store, texts)


def test_a_worker_beats_while_it_measures(store: FeatureStore, texts: tuple[str, ...]) -> None:
    def wait_for_a_beat(text: str) -> None:
        while not any(claim.beat for claim in store.claims(TASK).values()):
            time.sleep(0.01)

    assert work_off(store, Measure(wait_for_a_beat), job(texts[:1], lease=0.3)) == 1


def test_what_a_worker_lost_is_not_kept_twice(store: FeatureStore, texts: tuple[str, ...]) -> None:
    """As when a machine sleeps for longer than the lease."""
    lost: list[str] = []

    def lose(text: str) -> None:
        if not lost:
            lost.append(text)
            [claim] = store.claims(TASK).values()
            assert store.take_over(TASK, text, claim, ELSEWHERE)
            store.put(TASK, text, feature_of(text), owner=ELSEWHERE)

    assert work_off(store, Measure(lose), job(texts)) == 59
    assert_done(store, texts)


def test_an_interrupted_worker_leaves_no_claims(
    store: FeatureStore, texts: tuple[str, ...]
) -> None:
    measure = Measure()

    def interrupt(text: str) -> None:
        if measure.counts.total() == 20:
            raise KeyboardInterrupt

    measure._before = interrupt
    with pytest.raises(KeyboardInterrupt):
        work_off(store, measure, job(texts))
    assert store.claims(TASK) == {}
    assert store.count(TASK) == 19
    assert work_off(store, Measure(), job(texts)) == 41
    assert_done(store, texts)


def test_a_worker_stops_when_asked(store: FeatureStore, texts: tuple[str, ...]) -> None:
    stop = threading.Event()
    with pytest.raises(StoppedError):
        work_off(store, Measure(lambda text: stop.set()), job(texts), stop)
    assert store.count(TASK) == 1
    assert store.claims(TASK) == {}


def test_a_worker_that_waits_stops_when_asked(store: FeatureStore, texts: tuple[str, ...]) -> None:
    store.claim(TASK, texts[:1], ELSEWHERE)
    stop = threading.Event()
    stop.set()
    with pytest.raises(StoppedError):
        work_off(store, Measure(), job(texts[:1]), stop)
    assert [claim.owner for claim in store.claims(TASK).values()] == [ELSEWHERE]


def test_a_job_that_does_not_wait_leaves_the_rest_to_others(
    store: FeatureStore, texts: tuple[str, ...]
) -> None:
    theirs = texts[:3]
    store.claim(TASK, theirs, ELSEWHERE)
    measure = Measure()
    done = work_off(store, measure, Job(TASK, texts[:9], 30.0, "run", waits=False))
    assert done == 6
    assert set(measure.counts) == set(texts[3:9])
    assert {claim.expression for claim in store.claims(TASK).values()} == set(theirs)
