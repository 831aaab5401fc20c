"""Many workers and one proposer, simulated event by event; time is simulated, in seconds.

Every worker asks for a proposal, waits until it has one, trains it, and asks again. The proposer
makes one batch at a time. It begins one when it is free and there are fewer proposals in store than
workers that wait, plus those it is to keep `ahead`; what it knows is what had finished when it
began. Whoever waits longest is served first.

What happens at one instant happens in this order: trainings end, by the numbers of their trials; a
batch is ready; proposals are handed out; the proposer begins the next batch. Trials have their
numbers by the order in which they were proposed.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

Propose = Callable[[int, Sequence[int], Sequence[int]], float]
"""Called as ``propose(n, finished, unfinished)`` when a batch of `n` trials is begun, with the
numbers of the trials that have finished, in the order in which they did, and of those proposed and
not finished, handed out or not. It returns how many seconds the batch takes. What is proposed is
its own business: the trials of a batch have the next numbers."""


class Trial(NamedTuple):
    """One trial; times in seconds from the beginning.

    Attributes:
        number: Its place in the order of proposals.
        worker: Who trained it.
        asked: When that worker began to wait.
        begun: When it got the proposal.
        finished: When the training ended.
    """

    number: int
    worker: int
    asked: float
    begun: float
    finished: float


@dataclass(frozen=True)
class Team:
    """Workers and their proposer.

    Attributes:
        workers: How many there are.
        batch: How many proposals are made at once.
        ahead: How many proposals are kept in store for workers to come; 0 makes them on demand.
    """

    workers: int
    batch: int = 1
    ahead: int = 0


def simulate(team: Team, training_seconds: Sequence[float], propose: Propose) -> list[Trial]:
    """Run as many trials as there are training times.

    Args:
        team: The workers and their proposer.
        training_seconds: How long each trial trains, by its number.
        propose: Decides what the trials are; see `Propose`.

    Returns:
        The trials in the order in which they finished; at one instant, in that of their numbers.
    """
    return _Simulation(team, training_seconds, propose).run()


class _Simulation:
    """The state between two events."""

    def __init__(self, team: Team, training_seconds: Sequence[float], propose: Propose) -> None:
        self._team = team
        self._training = training_seconds
        self._propose = propose
        self._now = 0.0
        self._waiting: deque[tuple[int, float]] = deque((w, 0.0) for w in range(team.workers))
        self._stored: deque[int] = deque()
        self._making: tuple[float, int] | None = None
        self._n_proposed = 0
        self._running: list[tuple[float, int]] = []
        self._trials: dict[int, Trial] = {}
        self._finished: list[int] = []
        self._unfinished: dict[int, None] = {}

    def run(self) -> list[Trial]:
        self._begin_batch()
        while len(self._finished) < len(self._training):
            self._now = min(self._next_times())
            self._end_trainings()
            self._take_batch()
            self._hand_out()
            self._begin_batch()
        return [self._trials[number] for number in self._finished]

    def _next_times(self) -> list[float]:
        times = [self._running[0][0]] if self._running else []
        return times + ([self._making[0]] if self._making else [])

    def _end_trainings(self) -> None:
        while self._running and self._running[0][0] <= self._now:
            _, number = heapq.heappop(self._running)
            self._finished.append(number)
            del self._unfinished[number]
            self._waiting.append((self._trials[number].worker, self._now))

    def _take_batch(self) -> None:
        if self._making is not None and self._making[0] <= self._now:
            _, n = self._making
            new = range(self._n_proposed, self._n_proposed + n)
            self._stored.extend(new)
            self._unfinished.update(dict.fromkeys(new))
            self._n_proposed += n
            self._making = None

    def _hand_out(self) -> None:
        while self._waiting and self._stored:
            number = self._stored.popleft()
            worker, asked = self._waiting.popleft()
            end = self._now + self._training[number]
            self._trials[number] = Trial(number, worker, asked, self._now, end)
            heapq.heappush(self._running, (end, number))

    def _begin_batch(self) -> None:
        n = min(self._team.batch, len(self._training) - self._n_proposed)
        wanted = len(self._waiting) + self._team.ahead
        if self._making is None and n > 0 and len(self._stored) < wanted:
            seconds = self._propose(n, tuple(self._finished), tuple(self._unfinished))
            self._making = (self._now + seconds, n)
