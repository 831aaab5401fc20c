"""A feature worker: measures functions beside a running search, for those who train.

The paper's own set-up (Section 6): some workers compute features while others train. They meet in
the study and in the feature store. A worker's threads take functions from its agenda
(`_agenda.py`), claim them in the store, and measure each in a process of their own where there are
limits (`features/_isolated.py`).
"""

from __future__ import annotations

import contextlib
import secrets
import threading
import time
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from typing import TYPE_CHECKING

import joblib

from aquasurf_optuna._agenda import Agenda
from aquasurf_optuna.exceptions import SamplerError
from aquasurf_optuna.features._feature import StoppedError
from aquasurf_optuna.features._isolated import Measurer
from aquasurf_optuna.features._worker import Job, work_off

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from aquasurf_optuna._agenda import Portion
    from aquasurf_optuna._fisher_source import Progress
    from aquasurf_optuna._history import History
    from aquasurf_optuna._site import Site
    from aquasurf_optuna.features._feature import FisherFeature
    from aquasurf_optuna.features.featurizer import PrecomputeOptions

_POLL_SECONDS = 0.1


def measure_beside(
    sites: Sequence[Site],
    read: Callable[[], History],
    *,
    n: int | None,
    n_jobs: int,
    follow: bool,
    stop: threading.Event | None,
    progress: Progress | None,
    options: PrecomputeOptions,
) -> int:
    """Measure until enough is measured or somebody says stop; see `AquaSurfSampler.measure`.

    Returns:
        How many functions were measured here.

    Raises:
        SamplerError: If an argument is not as described there.
    """
    _check(sites, n, n_jobs, options)
    n_threads = joblib.effective_n_jobs(n_jobs)
    tag = secrets.token_hex(4)
    agenda = Agenda(
        sites,
        read,
        n=n,
        follow=follow,
        n_jobs=n_threads,
        lease=options.lease,
        tag=tag,
        progress=progress,
    )
    ending = threading.Event()
    threads = [_Thread(agenda, options, tag, ending) for _ in range(n_threads)]
    with ThreadPoolExecutor(n_threads) as pool:
        runs = [pool.submit(thread.run) for thread in threads]
        try:
            _follow(runs, threading.Event() if stop is None else stop)
        finally:
            # Also after Ctrl-C, which comes to the thread that waits here.
            ending.set()
    for run in runs:
        run.result()
    return sum(thread.measured for thread in threads)


def _follow(runs: Sequence[Future[None]], stop: threading.Event) -> None:
    """Wait until all have ended, one has failed, or it is time to stop."""
    while not stop.is_set():
        ended, at_work = wait(runs, timeout=_POLL_SECONDS, return_when=FIRST_EXCEPTION)
        if not at_work or any(run.exception() is not None for run in ended):
            return


class _Thread:
    """One of the threads of a worker.

    Args:
        agenda: Hands out the work.
        options: How to go about it.
        tag: What the owners of all claims of this worker have in common.
        ending: When set, the thread gives up.

    Attributes:
        measured: How many functions it has measured.
    """

    def __init__(
        self, agenda: Agenda, options: PrecomputeOptions, tag: str, ending: threading.Event
    ) -> None:
        self.measured = 0
        self._agenda = agenda
        self._options = options
        self._tag = tag
        self._ending = ending
        self._measurers: dict[int, Measurer] = {}

    def run(self) -> None:
        """Measure as long as there is something to measure."""
        with contextlib.ExitStack() as stack, contextlib.suppress(StoppedError):
            while (portion := self._agenda.portion()) is not None:
                if not portion.texts:
                    self._ending.wait(_POLL_SECONDS)
                elif not self._ending.is_set():
                    self._do(portion, stack)
                if self._ending.is_set():
                    return

    def _do(self, portion: Portion, stack: contextlib.ExitStack) -> None:
        source, before, started = portion.source, self.measured, time.perf_counter()
        assert source.store is not None  # _check has seen to it
        assert source.featurizer is not None
        if id(source) not in self._measurers:
            measurer = Measurer(source.featurizer, self._options.limits, self._ending)
            self._measurers[id(source)] = stack.enter_context(measurer)
        task, lease = source.featurizer.task, self._options.lease
        job = Job(task, portion.texts, lease, self._tag, waits=False)
        try:
            work_off(source.store, self._counted(self._measurers[id(source)]), job, self._ending)
        finally:
            seconds = time.perf_counter() - started
            self._agenda.done(portion, seconds, self.measured - before)

    def _counted(self, measurer: Measurer) -> Callable[[str], FisherFeature]:
        def measure(text: str) -> FisherFeature:
            feature = measurer(text)
            self.measured += 1
            return feature

        return measure


def _check(sites: Sequence[Site], n: int | None, n_jobs: int, options: PrecomputeOptions) -> None:
    without = [site.name for site in sites if site.source.store is None or not site.source.in_use]
    if without:
        raise SamplerError(
            f"measure() computes Fisher features and keeps them in a store, but the activations "
            f"{without} have no features or no store; pass features= and store= to the sampler"
        )
    if n is not None and n < 1:
        raise SamplerError(f"n must be 1 function or more, or None for all, but got {n}")
    if n_jobs == 0:
        raise SamplerError("n_jobs must be 1 or more workers, or -1 for every core, but got 0")
    if n_jobs != 1 and not options.limits.isolated:
        raise SamplerError(
            f"n_jobs={n_jobs} workers measure in processes of their own, which end a function at "
            "a limit; give options a timeout or memory, or start as many feature workers"
        )
