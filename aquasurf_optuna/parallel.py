"""Work for several processes, this one among them.

A new process takes ten seconds to import torch and Lightning, and this one has them: it begins at
once, and one import less competes for the cores. The processes stay for later calls, as those of
joblib, whose they are.
"""

from __future__ import annotations

import collections
import importlib
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from typing import Any, TypeVar

import joblib
from joblib.executor import get_memmapping_executor
from joblib.externals.loky import ProcessPoolExecutor
from joblib.externals.loky.backend.utils import kill_process_tree

from aquasurf_optuna._shipping import with_operators

Item = TypeVar("Item")
Result = TypeVar("Result")

_IDLE_SECONDS = 300
_NOTICED_SECONDS = 10.0
# One more than it works on waits with each process, so that none is idle while this one works.
_AT_HAND = 2


def import_ahead(modules: Sequence[str], n_jobs: int) -> None:
    """Start the other processes, and let them import what they will need while this one goes on.

    Args:
        modules: Their dotted names.
        n_jobs: Processes, this one among them; -1 takes every core.

    Raises:
        ValueError: If `n_jobs` is 0.
    """
    others = joblib.effective_n_jobs(n_jobs) - 1
    if others < 1:
        return
    executor = get_memmapping_executor(others, timeout=_IDLE_SECONDS)
    for _ in range(others):
        executor.submit(_import, tuple(modules))


def _import(modules: Sequence[str]) -> None:
    for module in modules:
        importlib.import_module(module)


def side_by_side(
    function: Callable[[Item], Result], items: Sequence[Item], n_jobs: int
) -> Iterator[tuple[int, Result]]:
    """Call a function with every item, in several processes, and yield what comes as it comes.

    Args:
        function: Picklable, a closure too; own operators go with it.
        items: What it is called with, each picklable.
        n_jobs: Processes, this one among them; -1 takes every core.

    Yields:
        The index of an item, and the result for it, in any order.

    Raises:
        ValueError: If `n_jobs` is 0.
        Exception: What the function raises, or a process that was killed; the rest is given up.
    """
    others = min(joblib.effective_n_jobs(n_jobs), len(items)) - 1
    if others < 1:
        yield from ((index, function(item)) for index, item in enumerate(items))
        return
    executor = get_memmapping_executor(others, timeout=_IDLE_SECONDS)
    elsewhere = with_operators(function)
    waiting = collections.deque(enumerate(items))
    running: dict[Future[Result], int] = {}
    try:
        while waiting or running:
            # The last one is for this process, unless another has nothing to do.
            while waiting and (
                len(running) < others or (len(running) < _AT_HAND * others and len(waiting) > 1)
            ):
                index, item = waiting.popleft()
                running[executor.submit(elsewhere, item)] = index
            if not any(future.done() for future in running) and waiting:
                index, item = waiting.popleft()
                yield index, function(item)
                continue
            ended, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in ended:
                yield running.pop(future), future.result()
    except BaseException:
        # After an error, Ctrl-C, or a caller who wants no more, nobody waits for the rest.
        _end(executor, running)
        raise


def _end(executor: ProcessPoolExecutor, running: Collection[Future[Any]]) -> None:
    """End the processes; joblib makes new ones when it is asked again.

    Loky's own way to kill them fails in its thread where a call has not been handed out yet.
    """
    for process in list(executor._processes.values()):
        kill_process_tree(process)
    wait(running, timeout=_NOTICED_SECONDS)  # until it is noticed: they fail then
    executor.shutdown(wait=False)
