"""Measuring functions so that none of them can end a run.

A *fault* is anything but a feature: the network raises something that is not this project's own,
hangs, needs too much memory, or takes its process with it. A fault of the function is a feature
without a vector; a fault that ReLU has too is the network's, and ends the run.
"""

from __future__ import annotations

import dataclasses
import threading
from types import TracebackType
from typing import Self

import torch

from aquasurf_optuna.exceptions import AquaSurfError, UnsupportedModelError
from aquasurf_optuna.features._child import (
    Child,
    EndedError,
    NeededTooMuchError,
    TookTooLongError,
)
from aquasurf_optuna.features._feature import Featurizer, FisherFeature

_REFERENCE = "relu(x)"
_LONGEST_MESSAGE = 400
# Networks are built from the global random state, which the threads of a process share.
_one_at_a_time = threading.Lock()


@dataclasses.dataclass(frozen=True)
class Limits:
    """What one function may take.

    Attributes:
        timeout: Seconds, or None.
        memory: Bytes of resident memory of the process that measures, torch's own (some 0.3 GiB)
            included, or None.
        threads: Threads of torch.
    """

    timeout: float | None = None
    memory: int | None = None
    threads: int = 1

    @property
    def isolated(self) -> bool:
        """Whether a process of its own is needed to keep them."""
        return self.timeout is not None or self.memory is not None


@dataclasses.dataclass(frozen=True)
class Fault:
    """Why there is no feature.

    Attributes:
        reason: For the user.
        again: Whether it may have been bad luck: a stranger that kills processes, or neighbours
            that take the memory. Such a function is tried once more, in a fresh process.
    """

    reason: str
    again: bool = False


class Measurer:
    """Measures functions within limits, in a process of its own where there are any.

    Without limits it measures in this process, and keeps the number of threads as it is.

    Args:
        featurizer: Measures a function.
        limits: What one function may take.
        stop: When set, the measurement in the other process is given up.
    """

    def __init__(
        self, featurizer: Featurizer, limits: Limits, stop: threading.Event | None = None
    ) -> None:
        self._stop = stop
        self._attempt = _Attempt(featurizer)
        self._limits = limits
        self._child: Child | None = None
        self._task_is_sound = False

    def __call__(self, text: str) -> FisherFeature:
        """Measure a function; a fault of its own is the reason why it is invalid.

        Raises:
            AquaSurfError: What the featurizer raises of this project's own.
            UnsupportedModelError: If the network has a fault with ReLU too.
            PrecomputeError: If no process can be started.
            StoppedError: If it was given up.
        """
        outcome = self._outcome(text)
        if isinstance(outcome, FisherFeature):
            return outcome
        self._check_task(text, outcome)
        return FisherFeature(None, outcome.reason)

    def close(self) -> None:
        """End the process, if there is one; the next call starts another."""
        if self._child is not None:
            self._child.close()
            self._child = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _outcome(self, text: str) -> FisherFeature | Fault:
        outcome = self._try(text)
        if isinstance(outcome, Fault) and outcome.again:
            self.close()
            outcome = self._try(text)
        return outcome

    def _try(self, text: str) -> FisherFeature | Fault:
        if not self._limits.isolated:
            with _one_at_a_time:
                return self._attempt(text)
        if self._child is None:
            self._child = Child(self._attempt, threads=self._limits.threads, stop=self._stop)
        try:
            outcome: FisherFeature | Fault = self._child(
                text, timeout=self._limits.timeout, memory=self._limits.memory
            )
        except TookTooLongError:
            self.close()
            return Fault(f"took longer than {self._limits.timeout:g} s")
        except NeededTooMuchError:
            self.close()
            assert self._limits.memory is not None  # nothing else raises it
            return Fault(f"needed more than {self._limits.memory / 2**30:.3g} GiB of memory")
        except EndedError as error:
            self.close()
            return Fault(str(error), again=True)
        return outcome

    def _check_task(self, text: str, fault: Fault) -> None:
        """Raise if the fault is the network's, or the limits are too low for any function."""
        if self._task_is_sound:
            return
        outcome = fault if text == _REFERENCE else self._outcome(_REFERENCE)
        if isinstance(outcome, Fault):
            raise UnsupportedModelError(
                f"no function can be measured: with {text}: {fault.reason}; and with {_REFERENCE} "
                f"too: {outcome.reason}. Mend the network, or allow more time or memory"
            )
        self._task_is_sound = True


class _Attempt:
    """One measurement, for either process; what it returns can be pickled."""

    def __init__(self, featurizer: Featurizer) -> None:
        self._featurizer = featurizer

    def __call__(self, text: str) -> FisherFeature | Fault:
        try:
            return self._featurizer(text)
        except AquaSurfError:
            raise
        except Exception as error:
            short = isinstance(error, (MemoryError, torch.OutOfMemoryError))
            return Fault(_told(error), again=short)


def _told(error: Exception) -> str:
    """Return type and message in one line."""
    message = " ".join(str(error).split())
    text = f"{type(error).__name__}: {message}" if message else type(error).__name__
    return text if len(text) <= _LONGEST_MESSAGE else f"{text[:_LONGEST_MESSAGE]}..."
