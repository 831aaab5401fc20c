"""Claims: how workers that see each other in the storage alone never try the same combination.

A worker writes what it wants to its trial, a *claim*, and then reads the trials again. If nobody
else claims or runs the same, it is its own: whoever wants the same later reads this claim after
writing theirs. If somebody does, the worker takes another and begins anew, so of two that meet one
or both move on, and no two ever hold the same. Nobody waits for anybody.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from aquasurf_optuna._history import History
    from aquasurf_optuna._search import Choice

# Workers that meet move aside, each to another place: meeting twice is rare already.
_MOST_ATTEMPTS = 1000


def claimed(
    choices: Iterator[Choice],
    *,
    claim: Callable[[Choice], None],
    read: Callable[[], History],
    number: int,
) -> Choice | None:
    """Claim the first of some choices that nobody else has.

    Args:
        choices: In the order in which they are wanted.
        claim: Writes a claim to the trial, in place of an earlier one.
        read: Reads the study, without this trial.
        number: Number of this trial.

    Returns:
        The choice, or None if there is none left.
    """
    passed_over = 0
    history: History | None = None
    for _ in range(_MOST_ATTEMPTS):
        taken = frozenset() if history is None else history.taken
        free = (choice for choice in choices if choice.key not in taken)
        choice = next(itertools.islice(free, passed_over, None), None)
        if choice is None:
            return None
        claim(choice)
        history = read()
        if choice.key not in history.taken:
            return choice
        # Those who look at the same moment part ways by the order of their numbers. One that has
        # been taken for good leaves the next in order free.
        rivals = [other for other, key in history.rivals.items() if key == choice.key]
        passed_over = sum(other < number for other in rivals)
    return None
