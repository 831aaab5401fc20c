"""`aquasurf features --study`: a feature worker beside a running search, until it is stopped."""

from __future__ import annotations

import contextlib
import signal
import threading
from typing import TYPE_CHECKING

from tqdm import tqdm

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

    from optuna.study import Study

    from aquasurf_optuna.features.featurizer import PrecomputeOptions
    from aquasurf_optuna.sampler import AquaSurfSampler


def measure_beside(
    sampler: AquaSurfSampler,
    study: Study,
    n: int | None,
    *,
    n_jobs: int,
    follow: bool,
    options: PrecomputeOptions,
) -> str:
    """Measure with a bar until `n` candidates have features, or SIGTERM comes.

    Args:
        sampler: Of one activation.
        study: The search.
        n: As for :meth:`AquaSurfSampler.measure`.
        n_jobs: Likewise.
        follow: Likewise.
        options: Likewise.

    Returns:
        What was done, in a line.

    Raises:
        AquaSurfError: What measuring raises.
        KeyboardInterrupt: On Ctrl-C, with no claim left behind.
    """
    with _told_to_end() as stop, tqdm(desc="Fisher features", unit="function") as bar:

        def show(measured: int, of: int) -> None:
            if bar.total is None:
                # What was there before says nothing of the rate.
                bar.initial = measured
            bar.total, bar.n = of, measured
            bar.refresh()

        here = sampler.measure(
            study,
            n,
            n_jobs=n_jobs,
            follow=follow,
            stop=stop,
            progress=show,
            options=options,
        )
    return f"measured {here:,} functions; {bar.n:,} of {bar.total or 0:,} candidates have features"


@contextlib.contextmanager
def _told_to_end() -> Iterator[threading.Event]:
    """Give an event that SIGTERM sets: so schedulers and services end a process."""
    stop = threading.Event()

    def end(number: int, frame: FrameType | None) -> None:
        del number, frame
        stop.set()

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield stop
    finally:
        signal.signal(signal.SIGTERM, before)
