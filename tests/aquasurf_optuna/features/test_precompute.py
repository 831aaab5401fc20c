"""Features ahead of a study: what the sampler asks for, by workers here and elsewhere."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections import Counter
from pathlib import Path

import joblib
import pytest
import torch

from aquasurf_optuna import AquaSurfSampler, FeatureStore, FisherFeaturizer
from aquasurf_optuna.activation import ActivationFactory
from aquasurf_optuna.catalogue import Catalogue
from aquasurf_optuna.exceptions import PrecomputeError, UnsupportedModelError
from aquasurf_optuna.expression import BASELINES
from aquasurf_optuna.features.featurizer import (
    PrecomputeOptions,
    PrecomputeSummary,
)
from benchmarks.precompute_kill import BEGUN, STORED, Verdict, judge, run_and_kill
from tests.aquasurf_optuna.features import troubles
from tests.aquasurf_optuna.features.networks import batch, small_cnn
from tests.aquasurf_optuna.features.troubles import broken, troubled_cnn

IMAGES = batch(8, 2, 6, 6)
HERE = PrecomputeOptions(timeout=None)
FEW = PrecomputeOptions(timeout=None, baselines=())


@pytest.fixture
def store(tmp_path: Path) -> FeatureStore:
    return FeatureStore(f"sqlite:///{tmp_path / 'features.db'}")


def featurizer() -> FisherFeaturizer:
    return FisherFeaturizer(small_cnn, IMAGES)


@pytest.mark.parametrize("seed", [0, 3])
def test_the_sampler_finds_every_feature(
    store: FeatureStore, catalogue: Catalogue, seed: int
) -> None:
    measured = featurizer()
    summary = measured.precompute(
        catalogue, 25, store=store, seed=seed, progress=False, options=HERE
    )
    assert 25 <= summary.requested <= 25 + len(BASELINES)
    assert summary.valid + summary.invalid == summary.computed == summary.requested
    sampler = AquaSurfSampler(
        catalogue.space,
        features=measured,
        store=store,
        catalogue=catalogue,
        pool_size=25,
        seed=seed,
    )
    seen: list[tuple[int, int]] = []
    sampler.prepare(progress=lambda done, total: seen.append((done, total)))
    assert seen == [(summary.requested, summary.requested)]
    assert len(sampler.embedding().expressions) == summary.valid


def test_a_run_goes_on_where_it_was_interrupted(store: FeatureStore, catalogue: Catalogue) -> None:
    calls: Counter[str] = Counter()

    def build(factory: ActivationFactory) -> torch.nn.Module:
        calls[str(factory.expression)] += 1
        if calls.total() == 8:
            raise KeyboardInterrupt
        return small_cnn(factory)

    measured = FisherFeaturizer(build, IMAGES, task="interrupted")
    arguments = {"store": store, "progress": False, "options": FEW}
    with pytest.raises(KeyboardInterrupt):
        measured.precompute(catalogue, 20, **arguments)
    assert store.count("interrupted") == 7
    assert store.claims("interrupted") == {}
    summary = measured.precompute(catalogue, 20, **arguments)
    assert (summary.requested, summary.known, summary.computed) == (20, 7, 13)
    assert sorted(calls.values()) == [1] * 19 + [2]
    again = measured.precompute(catalogue, 20, **arguments)
    assert (again.known, again.computed, again.valid) == (20, 0, summary.valid)


def test_workers_in_other_processes(store: FeatureStore, catalogue: Catalogue) -> None:
    """Two workers, each with a process for measuring; one function raises."""
    measured = FisherFeaturizer(troubled_cnn, IMAGES, task="troubles")
    options = PrecomputeOptions(baselines=("relu(x)", troubles.RAISES))
    summary = measured.precompute(catalogue, 6, store=store, n_jobs=2, options=options, seed=1)
    assert summary.computed == summary.requested == summary.valid + summary.invalid
    feature = store.get("troubles", troubles.RAISES)
    assert feature is not None
    assert feature.reason == "RuntimeError: no network with tanh(x)"
    assert store.claims("troubles") == {}


def test_the_bar_tells_rate_and_time_left(
    store: FeatureStore, catalogue: Catalogue, capsys: pytest.CaptureFixture[str]
) -> None:
    featurizer().precompute(catalogue, 12, store=store, options=FEW)
    shown = capsys.readouterr().err
    assert "Fisher features" in shown
    assert "12/12 [00:" in shown
    assert "function/s" in shown or "s/function" in shown
    assert "invalid]" in shown


def test_all_functions_of_a_space(catalogue: Catalogue, store: FeatureStore) -> None:
    """None stands for all; here they are known, so that nothing has to be measured."""
    known = featurizer()("zero(x)")
    task = "all"
    texts = [str(catalogue[number]) for number in catalogue.shuffled(0)]
    few = [*texts[::200], "relu(x)"]
    for text in few:
        store.put(task, text, known)
    measured = FisherFeaturizer(broken, IMAGES, task=task)
    with pytest.raises(UnsupportedModelError, match="no function can be measured"):
        measured.precompute(catalogue, store=store, progress=False, options=FEW)
    assert store.count(task) == len(few)
    assert store.claims(task) == {}


def test_a_summary_reads_well() -> None:
    summary = PrecomputeSummary(
        requested=2007, valid=1300, invalid=707, known=1000, computed=900, seconds=61.2
    )
    assert str(summary) == (
        "2,007 functions: 1,300 valid, 707 invalid; 1,000 known before, 900 measured here, "
        "107 by other workers, in 61 s"
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n": 0}, "n must be 1 function or more, or None for all, got 0"),
        ({"n_jobs": 0}, "n_jobs must be 1 or more .* got 0"),
        ({"n_jobs": 2}, "n_jobs=2 processes cannot share a store in memory"),
    ],
)
def test_what_cannot_be_is_refused(
    catalogue: Catalogue, arguments: dict[str, int], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        featurizer().precompute(catalogue, store=FeatureStore("sqlite://"), **arguments)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"timeout": 0.0}, r"timeout must be a positive number of seconds, or None, got 0\.0"),
        ({"memory": -1}, "memory must be a positive number of bytes, or None, got -1"),
        ({"lease": 0.0}, r"lease must be a positive number of seconds, got 0\.0"),
        ({"threads": 0}, "threads must be 1 or more, got 0"),
    ],
)
def test_options_out_of_range_are_refused(options: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PrecomputeOptions(**options)


def test_a_store_in_memory_serves_one_worker(catalogue: Catalogue) -> None:
    store = FeatureStore("sqlite://")
    summary = featurizer().precompute(catalogue, 3, store=store, progress=False, options=FEW)
    assert (summary.requested, summary.computed) == (3, 3)


def test_killed_workers_lose_nothing(catalogue: Catalogue, tmp_path: Path) -> None:
    texts = [str(catalogue[number]) for number in catalogue.shuffled(0)[:60]]
    told: list[str] = []
    verdict = run_and_kill(
        FisherFeaturizer(slow_cnn, IMAGES, task="killed"),
        texts,
        tmp_path,
        kills=2,
        seed=0,
        tell=told.append,
    )
    assert verdict.good, verdict
    assert (verdict.kills, verdict.rows, len(told)) == (2, 60, 2)


def slow_cnn(factory: ActivationFactory) -> torch.nn.Module:
    """Slow enough to be killed at work."""
    time.sleep(0.02)
    return small_cnn(factory)


def test_the_judge_sees_what_went_wrong(store: FeatureStore, tmp_path: Path) -> None:
    from aquasurf_optuna.features._worker import Job

    job = Job("judged", ("relu(x)", "tanh(x)"), 30.0, "run")
    for text in job.texts:
        store.put(job.task, text, featurizer()("zero(x)"))
    lines = [f"{BEGUN} relu(x)", f"{STORED} relu(x)", f"{BEGUN} tanh(x)", f"{STORED} tanh(x)"]
    (tmp_path / "1-a.log").write_text("\n".join(lines))
    assert judge(store, job, tmp_path, []).good
    (tmp_path / "2-b.log").write_text(f"{BEGUN} relu(x)\n")
    assert not judge(store, job, tmp_path, []).good
    assert judge(store, job, tmp_path, [2]) == Verdict(2, 2, (), 1, 1, 0, 0, 1)
    assert judge(store, job, tmp_path, [2]).good
    (tmp_path / "2-b.log").write_text(f"{BEGUN} relu(x)\n{STORED} relu(x)\n")
    assert judge(store, job, tmp_path, [2]).twice == ("relu(x)",)
    assert not judge(store, job, tmp_path, [2]).good
    missing = Job("judged", (*job.texts, "swish(x)"), 30.0, "run")
    assert not judge(store, missing, tmp_path, []).good


@pytest.mark.slow
def test_a_killed_worker_of_joblib_is_replaced(store: FeatureStore, catalogue: Catalogue) -> None:
    measured = FisherFeaturizer(slow_cnn, IMAGES, task="loky")
    options = PrecomputeOptions(timeout=None, baselines=())
    killed: list[int] = []

    def kill_one() -> None:
        while store.count("loky") < 20 or not (claims := store.claims("loky")):
            time.sleep(0.05)
        owner = random.Random(0).choice(sorted(claim.owner for claim in claims.values()))
        killed.append(int(owner.split(":")[1]))
        os.kill(killed[0], signal.SIGKILL)

    killer = threading.Thread(target=kill_one)
    killer.start()
    summary = measured.precompute(catalogue, 150, store=store, n_jobs=2, options=options)
    killer.join()
    assert killed != [os.getpid()]
    assert summary.valid + summary.invalid == 150
    assert store.count("loky") == 150
    assert store.claims("loky") == {}


def dying_cnn(factory: ActivationFactory) -> torch.nn.Module:
    """Takes its process with it."""
    os.kill(os.getpid(), signal.SIGKILL)
    return small_cnn(factory)


@pytest.mark.slow
def test_workers_that_all_die_end_the_run(store: FeatureStore, catalogue: Catalogue) -> None:
    measured = FisherFeaturizer(dying_cnn, IMAGES, task="dying")
    with pytest.raises(PrecomputeError, match="killed 3 times without a feature between"):
        measured.precompute(catalogue, 5, store=store, n_jobs=2, options=FEW)
    assert store.count("dying") == 0


@pytest.mark.slow
@pytest.mark.parametrize("options", ["timeout=600.0", "timeout=None"])
def test_ctrl_c_leaves_a_store_that_goes_on(
    store: FeatureStore, catalogue: Catalogue, options: str
) -> None:
    script = textwrap.dedent(f"""
        import sys
        from aquasurf_optuna import Catalogue, FeatureStore, SearchSpace
        from aquasurf_optuna.features.featurizer import FisherFeaturizer, PrecomputeOptions
        from tests.aquasurf_optuna.features.test_precompute import IMAGES, small_cnn

        import signal
        import time

        # A shell that put the tests into the background lets them ignore Ctrl-C.
        signal.signal(signal.SIGINT, signal.default_int_handler)

        def build(factory):  # of a script, so pickled by value
            time.sleep(0.1)
            return small_cnn(factory)

        try:
            FisherFeaturizer(build, IMAGES, task="ctrl-c").precompute(
                Catalogue.of(SearchSpace.three_node()), 400, store=FeatureStore({store.url!r}),
                n_jobs=2, options=PrecomputeOptions({options}),
            )
        except KeyboardInterrupt:
            sys.exit(130)
    """)
    with subprocess.Popen([sys.executable, "-c", script], start_new_session=True) as process:
        while store.count("ctrl-c") < 10:
            assert process.poll() is None
            time.sleep(0.1)
        os.killpg(process.pid, signal.SIGINT)
        assert process.wait(timeout=60) == 130
    assert 10 <= store.count("ctrl-c") < 400
    assert store.claims("ctrl-c") == {}


@pytest.mark.slow
@pytest.mark.filterwarnings(
    # Python's own warning at Tornado's use of event loops.
    "ignore:.*event loop.*:DeprecationWarning",
    "ignore::ResourceWarning:distributed",
    "ignore::ResourceWarning:tornado",
)
def test_workers_of_a_dask_cluster(store: FeatureStore, catalogue: Catalogue) -> None:
    distributed = pytest.importorskip("distributed", reason="needs dask[distributed]")
    measured = FisherFeaturizer(small_cnn, IMAGES, task="dask")
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None
        ) as cluster,
        distributed.Client(cluster),
        joblib.parallel_config(backend="dask"),
    ):
        summary = measured.precompute(catalogue, 20, store=store, n_jobs=2, options=FEW)
        isolated = PrecomputeOptions(timeout=600.0, baselines=())
        more = measured.precompute(catalogue, 30, store=store, n_jobs=-1, options=isolated)
    assert (summary.requested, summary.computed) == (20, 20)
    assert (more.known, more.computed) == (20, 10)
    assert store.claims("dask") == {}
