"""Features of many functions ahead of a study: workers started, watched and replaced.

The workers meet in the store alone (see `_worker`), so joblib has to do no more than start one
long call for each, here or on other machines, and runs that share a store divide the work too.
Where each worker has a process for measuring anyway, and all are to run here, threads do.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import secrets
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool

import joblib
import torch
from tqdm import tqdm

from aquasurf_optuna._shipping import with_operators
from aquasurf_optuna.exceptions import FeatureStoreError, PrecomputeError
from aquasurf_optuna.expression import BASELINES, Expression
from aquasurf_optuna.features._feature import Featurizer, SharedStore, StoppedError
from aquasurf_optuna.features._isolated import Limits, Measurer
from aquasurf_optuna.features._owner import is_of, new_owner
from aquasurf_optuna.features._worker import Job, free_claims, work_off

_LOOK_SECONDS = 1.0
_FRUITLESS_STARTS = 3


@dataclasses.dataclass(frozen=True)
class PrecomputeOptions:
    """How features are computed ahead.

    Attributes:
        timeout: Seconds that one function may take; one that takes longer is invalid. None for any
            time.
        memory: Bytes of resident memory that the process which measures may need (torch itself
            takes some 0.3 GiB); a function that needs more is invalid. None for any.
        lease: Seconds without a sign of life after which the functions of a worker on another
            machine are taken by others.
        backend: Of joblib; None takes that of ``joblib.parallel_config``, or else processes here.
        threads: Threads of torch in each worker.
        baselines: Measured beside the drawn functions, as the sampler does.

    Without `timeout` and `memory`, functions are measured in the workers themselves, which saves
    a process for each; a function that hangs, or takes its process with it, then stops the run.

    Raises:
        ValueError: If a number is not positive.
    """

    timeout: float | None = 600.0
    memory: int | None = None
    lease: float = 30.0
    backend: str | None = None
    threads: int = 1
    baselines: tuple[str | Expression, ...] = BASELINES

    def __post_init__(self) -> None:
        for name, unit in (("timeout", "seconds, or None"), ("memory", "bytes, or None")):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ValueError(f"{name} must be a positive number of {unit}, got {value!r}")
        if not self.lease > 0:
            raise ValueError(f"lease must be a positive number of seconds, got {self.lease!r}")
        if self.threads < 1:
            raise ValueError(f"threads must be 1 or more, got {self.threads!r}")

    @property
    def limits(self) -> Limits:
        """What one function may take."""
        return Limits(self.timeout, self.memory, self.threads)


@dataclasses.dataclass(frozen=True)
class PrecomputeSummary:
    """What a run did.

    Attributes:
        requested: Functions asked for.
        valid: Those with a vector.
        invalid: Those without.
        known: Those that the store had before.
        computed: Those measured by the workers of this run. The rest came from other runs on the
            same store, or from workers that were killed later.
        seconds: Time from beginning to end.
    """

    requested: int
    valid: int
    invalid: int
    known: int
    computed: int
    seconds: float

    def __str__(self) -> str:
        elsewhere = self.requested - self.known - self.computed
        others = f", {elsewhere:,} by other workers" if elsewhere else ""
        return (
            f"{self.requested:,} functions: {self.valid:,} valid, {self.invalid:,} invalid; "
            f"{self.known:,} known before, {self.computed:,} measured here{others}, "
            f"in {self.seconds:,.0f} s"
        )


def precompute(
    featurizer: Featurizer,
    texts: Sequence[str],
    store: SharedStore,
    *,
    n_jobs: int,
    progress: bool,
    options: PrecomputeOptions,
) -> PrecomputeSummary:
    """Measure what the store does not have; see :meth:`FisherFeaturizer.precompute`."""
    started = time.perf_counter()
    follower = _Follower(store, featurizer.task, texts)
    known = follower.done
    computed = 0
    if follower.missing:
        with follower.shown(progress):
            computed = _work(featurizer, store, follower, n_jobs, options)
    return PrecomputeSummary(
        requested=follower.total,
        valid=follower.valid,
        invalid=follower.done - follower.valid,
        known=known,
        computed=computed,
        seconds=time.perf_counter() - started,
    )


class _Follower:
    """Follows in the store how far the work is, whoever does it."""

    def __init__(self, store: SharedStore, task: str, texts: Sequence[str]) -> None:
        self.task = task
        self.missing = list(dict.fromkeys(texts))
        self.total = len(self.missing)
        self.valid = 0
        self._store = store
        self._lock = threading.Lock()
        self.look()

    @property
    def done(self) -> int:
        return self.total - len(self.missing)

    def look(self) -> None:
        with self._lock:
            known = self._store.known(self.task, self.missing)
            self.valid += sum(feature.valid for feature in known.values())
            self.missing = [text for text in self.missing if text not in known]

    @contextlib.contextmanager
    def shown(self, visible: bool) -> Iterator[None]:
        """Show a bar, with rate and time left, that moves on in the background."""
        ended = threading.Event()
        bar = tqdm(
            desc="Fisher features",
            unit="function",
            total=self.total,
            initial=self.done,
            disable=not visible,
        )

        def move() -> None:
            while visible and not ended.wait(_LOOK_SECONDS):
                # The workers tell what is amiss with the store.
                with contextlib.suppress(FeatureStoreError):
                    self._move(bar)

        thread = threading.Thread(target=move, daemon=True)
        thread.start()
        with bar:
            try:
                yield
            finally:
                ended.set()
                thread.join()
            self._move(bar)

    def _move(self, bar: tqdm) -> None:
        self.look()
        bar.set_postfix_str(f"{self.done - self.valid} invalid", refresh=False)
        bar.update(self.done - bar.n)


def _work(
    featurizer: Featurizer,
    store: SharedStore,
    follower: _Follower,
    n_jobs: int,
    options: PrecomputeOptions,
) -> int:
    """Let workers run until all is done; start them anew where they were killed."""
    tag = secrets.token_hex(4)
    fruitless = 0
    while True:
        job = Job(follower.task, tuple(follower.missing), options.lease, tag)
        try:
            return _run_workers(featurizer, store, job, n_jobs, options)
        except BrokenProcessPool as error:
            before = follower.done
            follower.look()
            fruitless = 0 if follower.done > before else fruitless + 1
            if fruitless == _FRUITLESS_STARTS:
                raise PrecomputeError(
                    f"the worker processes were killed {fruitless} times without a feature "
                    f"between; is there memory for {n_jobs} of them? {error}"
                ) from error
        except BaseException:
            # joblib has ended them, but not let them say so.
            with contextlib.suppress(Exception):
                free_claims(store, job.task, lambda c: is_of(c.owner, tag), new_owner(tag))
            raise


def _run_workers(
    featurizer: Featurizer,
    store: SharedStore,
    job: Job,
    n_jobs: int,
    options: PrecomputeOptions,
) -> int:
    with contextlib.ExitStack() as stack:
        if options.backend is not None:
            stack.enter_context(joblib.parallel_config(backend=options.backend))
        workers = joblib.effective_n_jobs(n_jobs)
        if n_jobs > 0:
            workers = min(workers, n_jobs)
        workers = min(workers, len(job.texts))
        backend, _ = joblib.parallel.get_active_backend()
        local = options.backend is None and type(backend).__name__ == "LokyBackend"
        start = _in_threads if local and options.limits.isolated else _through_joblib
        return start(workers, functools.partial(_worker, featurizer, store, job, options.limits))


def _through_joblib(workers: int, worker: Callable[[], int]) -> int:
    # All begin at once: each is one call as long as the run.
    run = joblib.Parallel(n_jobs=workers, batch_size=1, pre_dispatch="all")
    return sum(run(joblib.delayed(with_operators(worker))() for _ in range(workers)))


def _in_threads(workers: int, worker: Callable[[threading.Event], int]) -> int:
    """Run workers beside each other where each has another process that does the measuring."""
    stop = threading.Event()
    with ThreadPoolExecutor(workers) as pool:
        runs = [pool.submit(worker, stop) for _ in range(workers)]
        try:
            wait(runs, return_when=FIRST_EXCEPTION)
        finally:
            stop.set()
    errors = [error for run in runs if (error := run.exception()) is not None]
    for error in sorted(errors, key=lambda error: isinstance(error, StoppedError)):
        raise error
    return sum(run.result() for run in runs)


def _worker(
    featurizer: Featurizer,
    store: SharedStore,
    job: Job,
    limits: Limits,
    stop: threading.Event | None = None,
) -> int:
    with _threads(limits), Measurer(featurizer, limits, stop) as measurer:
        return work_off(store, measurer, job, stop)


@contextlib.contextmanager
def _threads(limits: Limits) -> Iterator[None]:
    """Set the number of torch's threads where this process is the one that measures."""
    before = torch.get_num_threads()
    if not limits.isolated:
        torch.set_num_threads(limits.threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)
