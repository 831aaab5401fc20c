"""Every order in which the steps of some workers can come, tried out.

A worker is a function that claims and reads through two callables. Its steps cannot be interrupted;
between them anybody else may come. Since it depends on nothing but what it read, it is run anew for
each step: what it read before is played back, and the next step interrupts it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

Key = tuple[Any, ...]
Claims = tuple[Key | None, ...]
"""What stands in the storage, by the worker's number."""

Worker = Callable[[int, Callable[[Key], None], Callable[[], Mapping[int, Key]]], Key | None]
"""Called with its number, `claim` and `read`; returns what it holds, or None if it gave up."""


class _Step(Exception):  # noqa: N818  # no error
    def __init__(self, wanted: Key | None) -> None:
        super().__init__()
        self.wanted = wanted


@dataclass(frozen=True)
class _Past:
    """What a worker did and saw: parts of claims written, and claims of others at each read."""

    written: int = 0
    views: tuple[Claims, ...] = ()


@dataclass
class Outcome:
    """What can happen.

    Attributes:
        ends: What the workers hold at the end, of every order.
        doubles: Whether two ever held the same at a time.
        steps: The most steps that one worker needed.
    """

    ends: set[Claims]
    doubles: bool
    steps: int


def all_orders(
    worker: Worker, n_workers: int, *, most_steps: int = 60, in_parts: bool = False
) -> Outcome:
    """Try every order of the steps of `n_workers`.

    Args:
        worker: Each of them.
        n_workers: How many.
        most_steps: More steps of one worker are an AssertionError: it might go on forever.
        in_parts: Whether a claim is written one entry of its key after another, so that others can
            see it half written.
    """
    known: dict[tuple[int, _Past], tuple[str, Any]] = {}

    def next_step(number: int, past: _Past) -> tuple[str, Any]:
        if (number, past) not in known:
            known[number, past] = _next_step(worker, number, past, in_parts)
        return known[number, past]

    outcome = Outcome(set(), False, 0)
    start = ((None,) * n_workers, (_Past(),) * n_workers)
    waiting, seen = [start], {start}
    while waiting:
        claims, pasts = waiting.pop()
        steps = [next_step(number, past) for number, past in enumerate(pasts)]
        held = [what for kind, what in steps if kind == "ends" and what is not None]
        outcome.doubles = outcome.doubles or len(set(held)) < len(held)
        outcome.steps = max(outcome.steps, *(p.written + len(p.views) for p in pasts))
        assert outcome.steps <= most_steps, f"{most_steps} steps do not suffice: {claims}"
        if all(kind == "ends" for kind, _ in steps):
            outcome.ends.add(tuple(what for _, what in steps))
        for number, (kind, what) in enumerate(steps):
            if kind == "ends":
                continue
            after = _done(claims, pasts, number, kind, what)
            if after not in seen:
                seen.add(after)
                waiting.append(after)
    return outcome


def _done(
    claims: Claims, pasts: tuple[_Past, ...], number: int, kind: str, what: Any
) -> tuple[Claims, tuple[_Past, ...]]:
    past = pasts[number]
    if kind == "writes":
        past = _Past(past.written + 1, past.views)
        claims = (*claims[:number], what(claims[number]), *claims[number + 1 :])
    else:
        past = _Past(past.written, (*past.views, claims))
    return claims, (*pasts[:number], past, *pasts[number + 1 :])


def _next_step(worker: Worker, number: int, past: _Past, in_parts: bool) -> tuple[str, Any]:
    written, views = past.written, list(past.views)

    def claim(key: Key) -> None:
        nonlocal written
        for place in range(len(key)) if in_parts else (None,):
            if written == 0:
                raise _Step(key if place is None else (place, key[place], len(key)))
            written -= 1

    def read() -> Mapping[int, Key]:
        if not views:
            raise _Step(None)
        view = views.pop(0)
        return {other: key for other, key in enumerate(view) if other != number and key is not None}

    try:
        return "ends", worker(number, claim, read)
    except _Step as step:
        wanted = step.wanted
    if wanted is None:
        return "reads", None
    return "writes", (lambda old: _part_of(old, wanted)) if in_parts else (lambda _: wanted)


def _part_of(old: Key | None, wanted: Key) -> Key:
    place, part, length = wanted
    entries = list(old or (None,) * length)
    entries[place] = part
    return tuple(entries)
