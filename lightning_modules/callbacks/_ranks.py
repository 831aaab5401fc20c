"""What the processes of one training tell each other, and how they end it together.

Lightning runs several processes in two ways. Either every rank runs the user's script ("ddp",
torchrun), where an exception on all ranks ends the script as it would with one rank. Or the main
process starts *workers* ("ddp_spawn", "ddp_fork", "ddp_notebook") and waits: there an exception
would reach it as torch's `ProcessRaisedException`, so workers end the fit in silence, and the main
process reads from a `Mailbox` why.
"""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

import torch
from lightning.pytorch.strategies import DeepSpeedStrategy, FSDPStrategy, ModelParallelStrategy
from lightning.pytorch.strategies.launchers import _MultiProcessingLauncher
from optuna.storages import InMemoryStorage

from aquasurf_optuna.exceptions import UnsupportedModelError

if TYPE_CHECKING:
    import lightning as L
    import optuna
    from lightning.pytorch.strategies import Strategy

T = TypeVar("T")

_SHARDED = (FSDPStrategy, DeepSpeedStrategy, ModelParallelStrategy)
_CAPACITY = 8192


def from_rank_zero(strategy: Strategy, compute: Callable[[], T]) -> T:
    """Call `compute` on rank zero, and return on every rank what it returned there.

    Raises:
        BaseException: What `compute` raised, on every rank, so that none waits for another.
    """
    outcome: T | None = None
    error: BaseException | None = None
    if strategy.is_global_zero:
        try:
            outcome = compute()
        except BaseException as caught:
            error = caught
    outcome, told = strategy.broadcast((outcome, error and _portable(error)))
    if error is not None:
        raise error
    if told is not None:
        raise told
    return outcome  # type: ignore[return-value]  # None only with an error


def in_worker(trainer: L.Trainer) -> bool:
    """Whether a main process outside waits for this one, once the fit runs."""
    return isinstance(trainer.strategy.launcher, _MultiProcessingLauncher)


def end_fit(trainer: L.Trainer) -> None:
    """Let the fit end in order, without a further step."""
    trainer.should_stop = True
    # A smallest number of epochs or steps would outvote that.
    trainer.fit_loop.min_epochs = 0
    trainer.fit_loop.epoch_loop.min_steps = 0


def check_strategy(strategy: Strategy) -> None:
    """Refuse strategies of which no rank holds the whole network.

    Raises:
        UnsupportedModelError: If it is one.
    """
    if isinstance(strategy, _SHARDED):
        raise UnsupportedModelError(
            f"{type(strategy).__name__} spreads the network over the ranks, but Fisher eigenvalues "
            "are computed where all of it is; compute them in a run of their own, on one device"
        )


def check_storage(trial: optuna.trial.BaseTrial) -> None:
    """Refuse a trial that workers cannot write to.

    Raises:
        ValueError: If its study is kept in the memory of the main process.
    """
    if isinstance(getattr(trial, "storage", None), InMemoryStorage):
        raise ValueError(
            "the trial's study is kept in the memory of the main process, where worker processes "
            "cannot write; give create_study a database, for example storage='sqlite:///study.db'"
        )


class Mailbox:
    """Strings in memory that processes started from here share with this one."""

    def __init__(self) -> None:
        self._memory = _shared(torch.zeros(_CAPACITY, dtype=torch.uint8))

    def write(self, *strings: str | None) -> None:
        """Replace what is in the box; no string empties it. Long strings are cut."""
        limit = _CAPACITY // (16 * max(len(strings), 1))
        # ASCII, in which JSON writes a character as twelve bytes at most, and never as a zero.
        text = json.dumps([s if s is None else s[:limit] for s in strings]) if strings else ""
        data = torch.frombuffer(bytearray(text.encode().ljust(_CAPACITY, b"\0")), dtype=torch.uint8)
        self._memory.copy_(data)

    def read(self) -> list[str | None]:
        """Return what is in the box."""
        text = self._memory.numpy().tobytes().rstrip(b"\0")
        strings: list[str | None] = json.loads(text) if text else []
        return strings

    def __setstate__(self, state: dict[str, torch.Tensor]) -> None:
        """Share the memory of a copy as well."""
        # What a worker unpickles is shared already, with the main process.
        self._memory = _shared(state["_memory"])


def _shared(memory: torch.Tensor) -> torch.Tensor:
    shared: torch.Tensor = memory.share_memory_()  # type: ignore[no-untyped-call]  # torch gives it no types
    return shared


def _portable(error: BaseException) -> BaseException:
    """Return the error, or what can be said of it where it cannot travel."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return RuntimeError(f"rank zero failed with {type(error).__name__}: {error}")
    return error
