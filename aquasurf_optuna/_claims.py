"""Claims: how workers that see each other in the storage alone never try the same combination.

A worker writes what it wants to its trial, a *claim*, and then reads the trials again. If nobody
else claims or runs the same, it is its own: whoever wants the same later reads this claim after
writing theirs. If somebody does, the worker claims another and reads anew, so of two that meet one
or both move on, and no two ever hold the same. Nobody waits for anybody.

Those who meet part ways by the order of their trials' numbers: each takes, of the choices that are
free, the one that has as many others before it as there are rivals of lower numbers. At first only
those count that claim the same, which keeps all near the best. That alone could go on as long as
there are choices, if the workers' steps come in the worst order, so later all running trials count:
the renaming algorithm of Attiya et al. (1990), in which each of ``w`` workers comes to an end as
long as there are ``2 w - 1`` choices. With fewer, two that want the last one may both leave it to a
later trial; that no algorithm on a storage without transactions can exclude.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from aquasurf_optuna._history import Combination, History
    from aquasurf_optuna._search import Choice

_ATTEMPTS_NEAR_THE_BEST = 2
# Only reached where choices are fewer than `2 w - 1` and the steps come in the worst order.
_MOST_ATTEMPTS = 200


def claimed(
    choices: Iterator[Choice],
    *,
    claim: Callable[[Choice], None],
    read: Callable[[], History],
    number: int,
) -> Choice | None:
    """Claim the first of some choices that nobody else has.

    Args:
        choices: In the order in which they are wanted; drawn as far as they are needed.
        claim: Writes a claim to the trial, in place of an earlier one.
        read: Reads the study, without this trial.
        number: Number of this trial.

    Returns:
        The choice, or None if there is none left.
    """
    drawn: list[Choice] = []
    taken: frozenset[Combination] = frozenset()
    before_it = 0
    for attempt in range(_MOST_ATTEMPTS):
        choice = _free(drawn, choices, taken, before_it)
        if choice is None:
            return None
        claim(choice)
        history = read()
        if choice.key not in history.taken:
            return choice
        taken = history.taken
        before_it = sum(
            other < number and (key == choice.key or attempt >= _ATTEMPTS_NEAR_THE_BEST)
            for other, key in history.rivals.items()
        )
    return None


def _free(
    drawn: list[Choice], more: Iterator[Choice], taken: frozenset[Combination], before_it: int
) -> Choice | None:
    """Return the free choice that has so many before it, counted in circles if there are fewer."""
    free = [choice for choice in drawn if choice.key not in taken]
    while len(free) <= before_it:
        choice = next(more, None)
        if choice is None:
            break
        drawn.append(choice)
        if choice.key not in taken:
            free.append(choice)
    return free[before_it % len(free)] if free else None
