"""One of the workers that divide functions among them through a store.

A worker claims a few functions, measures them, and keeps each; while it works, it shows by *beats*
that it lives. What is claimed by others is left to them, unless their process has ended, or their
beats have stood still for longer than the *lease*, by the clock of the one who watches: then the
claim is freed, and claimed like any other. So a worker that is killed loses the function at which
it was, and no clocks of two machines are compared.
"""

from __future__ import annotations

import contextlib
import dataclasses
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator

from aquasurf_optuna.exceptions import FeatureStoreError
from aquasurf_optuna.features._feature import (
    ClaimLike,
    FisherFeature,
    SharedStore,
    StoppedError,
)
from aquasurf_optuna.features._owner import is_gone, new_owner

# One claim is worth about this much work: often enough for a fair division, seldom enough for the
# database.
_SECONDS_PER_CLAIM = 1.0
# Towards the end, no worker takes more than this share of what is left.
_SMALLEST_SHARE = 16
_WINDOW = 256
_LONGEST_BEAT_SECONDS = 5.0
_BEATS_PER_LEASE = 6
_POLL_SECONDS = 0.5


@dataclasses.dataclass(frozen=True)
class Job:
    """What is to be done.

    Attributes:
        task: Name of the task in the store.
        texts: The functions.
        lease: Seconds after which a claim whose owner shows no life is free.
        tag: What the owners of all workers of this run have in common; letters and digits.
        waits: Whether to stay until the functions that others have claimed are done too.
    """

    task: str
    texts: tuple[str, ...]
    lease: float
    tag: str
    waits: bool = True


def work_off(
    store: SharedStore,
    measure: Callable[[str], FisherFeature],
    job: Job,
    stop: threading.Event | None = None,
) -> int:
    """Work until the store has a feature of every function, whoever measures it.

    A job that does not wait ends as soon as each function is measured or claimed.

    Claims are released however this ends.

    Args:
        store: Where the workers meet.
        measure: Measures a function.
        job: What is to be done.
        stop: When set, the worker gives up.

    Returns:
        How many features this worker has put into the store.

    Raises:
        AquaSurfError: What `measure` or the store raises.
        StoppedError: If it gave up.
    """
    worker = _Worker(store, measure, job, threading.Event() if stop is None else stop)
    try:
        with _beating(store, worker.owner, job.lease):
            return worker.run()
    finally:
        store.release(worker.owner)


def free_claims(
    store: SharedStore, task: str, abandoned: Callable[[ClaimLike], bool], owner: str
) -> None:
    """End the abandoned claims of a task; whoever wants the functions can claim them then.

    Args:
        store: The store.
        task: Name of the task.
        abandoned: Whether a claim is.
        owner: Name of who does this, who holds no claims of its own.
    """
    for claim in store.claims(task).values():
        # Taken over first: it may have been alive all the same, and has beaten or ended since.
        if abandoned(claim) and store.take_over(task, claim.expression, claim, owner):
            store.release(owner)


class _Worker:
    def __init__(
        self,
        store: SharedStore,
        measure: Callable[[str], FisherFeature],
        job: Job,
        stop: threading.Event,
    ) -> None:
        self._stop = stop
        self.owner = new_owner(job.tag)
        self._store = store
        self._measure = measure
        self._job = job
        self._pending = deque(job.texts)
        # Claimed by others, or done by them, when last looked at.
        self._elsewhere: list[str] = []
        self._seconds: float | None = None
        self._done = 0

    def run(self) -> int:
        while self._pending:
            self._claim_some()
        watch = Watch(self._job.lease)
        while self._elsewhere and self._job.waits:
            known = self._store.known(self._job.task, self._elsewhere)
            self._elsewhere = [text for text in self._elsewhere if text not in known]
            self._finish_for_others(watch)
        return self._done

    def _claim_some(self) -> None:
        """Claim the next functions and measure them."""
        window = [self._pending.popleft() for _ in range(min(_WINDOW, len(self._pending)))]
        limit = self._share(len(window) + len(self._pending))
        claimed = self._store.claim(self._job.task, window, self.owner, limit=limit)
        rest = [text for text in window if text not in set(claimed)]
        if len(claimed) < limit:
            self._elsewhere += rest
        else:
            self._pending.extendleft(reversed(rest))
        self._do(claimed)

    def _finish_for_others(self, watch: Watch) -> None:
        """Take one of the functions that others have dropped, or wait a little."""
        if not self._elsewhere:
            return
        free_claims(self._store, self._job.task, watch.look, self.owner)
        watch.forget_ended()
        claimed = self._store.claim(self._job.task, self._elsewhere, self.owner, limit=1)
        if claimed:
            self._elsewhere = [text for text in self._elsewhere if text not in claimed]
            self._do(claimed)
        else:
            self._stop.wait(_POLL_SECONDS)
            self._check_stop()

    def _do(self, claimed: list[str]) -> None:
        for place, text in enumerate(claimed):
            self._check_stop()
            started = time.perf_counter()
            feature = self._measure(text)
            seconds = time.perf_counter() - started
            kept = self._store.put(self._job.task, text, feature, seconds=seconds, owner=self.owner)
            if not kept:
                # This machine slept for longer than the lease, say: the claims are another's now.
                self._store.release(self.owner)
                self._elsewhere += claimed[place:]
                return
            self._done += 1
            self._seconds = seconds if self._seconds is None else (self._seconds + seconds) / 2

    def _check_stop(self) -> None:
        if self._stop.is_set():
            raise StoppedError

    def _share(self, left: int) -> int:
        """Return how many functions to claim: about a second's work, and few towards the end."""
        if not self._seconds:
            return 1
        return max(1, min(int(_SECONDS_PER_CLAIM / self._seconds), left // _SMALLEST_SHARE))


class Watch:
    """Watches beats by the own clock, so that no clocks of two machines are compared.

    Args:
        lease: Seconds after which an owner whose beats stand still is dead.
    """

    def __init__(self, lease: float) -> None:
        self._lease = lease
        self._seen: dict[str, tuple[ClaimLike, float]] = {}
        self._current: dict[str, tuple[ClaimLike, float]] = {}

    def look(self, claim: ClaimLike) -> bool:
        """Look at a claim; return whether its owner is dead."""
        now = time.monotonic()
        before, since = self._seen.get(claim.expression, (claim, now))
        self._current[claim.expression] = (claim, since if before == claim else now)
        still = now - self._current[claim.expression][1]
        return still >= self._lease or is_gone(claim.owner)

    def forget_ended(self) -> None:
        """Forget what was not looked at again."""
        self._seen, self._current = self._current, {}


@contextlib.contextmanager
def _beating(store: SharedStore, owner: str, lease: float) -> Iterator[None]:
    """Show in the background that the owner lives."""
    ended = threading.Event()
    interval = min(_LONGEST_BEAT_SECONDS, lease / _BEATS_PER_LEASE)

    def beat() -> None:
        while not ended.wait(interval):
            # A beat that fails is made good by the next; without any, the lease ends, and no harm
            # is done.
            with contextlib.suppress(FeatureStoreError):
                store.beat(owner)

    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
