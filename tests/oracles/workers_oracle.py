"""Workers and a proposer moved forward second by second; the slow oracle of `event_engine`.

All times are whole numbers. At each second everything that is due is done, in the order that the
engine's text states, again and again until nothing is left to do.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from benchmarks.event_engine import Team, Trial


class _Worker:
    def __init__(self, name: int) -> None:
        self.name = name
        self.asked: int | None = 0
        self.trial: int | None = None
        self.begun = 0
        self.left = 0


def second_by_second(
    team: Team, training_seconds: Sequence[int], propose: Callable[..., int]
) -> list[Trial]:
    """Return what `simulate` returns."""
    workers = [_Worker(name) for name in range(team.workers)]
    queue = list(workers)
    store: list[int] = []
    trials: list[Trial] = []
    proposed = 0
    making = 0
    making_left: int | None = None
    now = 0
    while len(trials) < len(training_seconds):
        changed = True
        while changed:
            changed = False
            ending = [w for w in workers if w.trial is not None and w.left == 0]
            for worker in sorted(ending, key=lambda w: w.trial or 0):
                assert worker.trial is not None
                assert worker.asked is not None
                trials.append(Trial(worker.trial, worker.name, worker.asked, worker.begun, now))
                worker.trial, worker.asked = None, now
                queue.append(worker)
                changed = True
            if making_left == 0:
                store += range(proposed, proposed + making)
                proposed += making
                making_left = None
                changed = True
            while queue and store:
                worker = queue.pop(0)
                worker.trial = store.pop(0)
                worker.begun, worker.left = now, training_seconds[worker.trial]
                changed = True
            size = min(team.batch, len(training_seconds) - proposed)
            if making_left is None and size > 0 and len(store) < len(queue) + team.ahead:
                ended = tuple(trial.number for trial in trials)
                others = tuple(trial for trial in range(proposed) if trial not in ended)
                making, making_left = size, propose(size, ended, others)
                changed = True
        now += 1
        for worker in workers:
            worker.left -= 1
        if making_left is not None:
            making_left -= 1
    return trials
