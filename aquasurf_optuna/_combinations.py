"""Which combinations are candidates, given the functions of each site.

With one site they are its functions. With several there are too many to know all: candidates are
all combinations of baselines, pairs (or more) drawn by chance from the sites' functions, and what
one exchange away from the best combinations tried is. When all of these are tried, the functions
are paired anew, until there is no other combination.
"""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING, Any

import numpy as np

from aquasurf_optuna._drawing import FollowingDrawing
from aquasurf_optuna._history import History
from aquasurf_optuna._objectives import mean_ranks

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from aquasurf_optuna._drawing import Drawing
    from aquasurf_optuna._history import Combination
    from aquasurf_optuna._site import Site

_MOST_BASELINES = 512
# Of each of so many of the best combinations, and in each place, so many functions are exchanged.
_BEST = 3
_EXCHANGES = 200
# Where operators are fixed that no candidate has, so many other functions are looked for.
_MOST_FITTING = 200


class Combinations:
    """The candidates of a study.

    Args:
        sites: The activations.
        drawings: Which functions each has.
        seed: Seed of the exchanges.
    """

    def __init__(self, sites: Sequence[Site], drawings: Sequence[Drawing], seed: int) -> None:
        self._sites = tuple(sites)
        self._drawings = tuple(drawings)
        self._seed = seed
        self._exchanged: dict[Combination, None] = {}
        self._turns = 1
        #: Whether candidates depend on what was tried.
        self.follows = len(sites) > 1 or any(isinstance(d, FollowingDrawing) for d in drawings)

    def baselines(self) -> list[Combination]:
        """Return the baselines, the same one at every site, in their order."""
        together = zip(*(site.baselines for site in self._sites), strict=True)
        return list(dict.fromkeys(key for key in together if None not in key))

    def all(self, history: History) -> list[Combination]:
        """Return the candidates, those that joined first first.

        Args:
            history: What was tried, each time with something more at its end; when it is empty, the
                candidates are those there are so far.
        """
        functions = self._functions(history)
        if len(self._sites) == 1:
            first: Iterable[Combination] = self.baselines()
            return list(dict.fromkeys([*first, *((class_id,) for class_id in functions[0])]))
        self._exchange(history, functions)
        crossed = itertools.product(
            *(dict.fromkeys(b for b in site.baselines if b is not None) for site in self._sites)
        )
        paired = (_paired(functions, turn) for turn in range(self._turns))
        return list(
            dict.fromkeys(
                [
                    *self.baselines(),
                    *itertools.islice(crossed, _MOST_BASELINES),
                    *itertools.chain.from_iterable(paired),
                    *self._exchanged,
                ]
            )
        )

    def restart(self) -> None:
        """Begin with a history that is no continuation of those before."""
        self._exchanged = {}

    def grow(self) -> bool:
        """Draw more functions at every site, or pair them anew; return False if nothing is left."""
        grown = [drawing.grow() for drawing in self._drawings]
        if any(grown):
            return True
        lengths = sorted(len(functions) for functions in self._functions(History()))
        if self._turns >= math.prod(lengths[:-1]):
            return False
        self._turns += 1
        return True

    def _functions(self, history: History) -> list[Sequence[int]]:
        values = values_by_site(history) if history.values else [{} for _ in self._sites]
        return [d.functions(v) for d, v in zip(self._drawings, values, strict=True)]

    def fitting(self, fixed: Sequence[Mapping[str, Any]]) -> list[Combination]:
        """Return combinations with the operators that are fixed at each site.

        Functions of a site that are candidates come first; where none of them fits, others of its
        space do, also those that could not be candidates.
        """
        fitting = [
            self._fitting_functions(place, nodes) if nodes else list(self._drawn(place))
            for place, nodes in enumerate(fixed)
        ]
        return list(dict.fromkeys(_paired(fitting)))

    def _fitting_functions(self, place: int, nodes: Mapping[str, Any]) -> list[int]:
        site = self._sites[place]
        if site.is_settled(nodes):
            class_id = site.reader.class_of_params(nodes)
            return [] if class_id is None else [class_id]
        found = list(site.compatible(self._drawn(place), nodes))
        others = site.compatible(site.shuffled, nodes)
        return found or list(itertools.islice(others, _MOST_FITTING))

    def _drawn(self, place: int) -> dict[int, None]:
        baselines = (b for b in self._sites[place].baselines if b is not None)
        return dict.fromkeys([*baselines, *self._drawings[place].functions({})])

    def _exchange(self, history: History, functions: Sequence[Sequence[int]]) -> None:
        complete = [key for key in history.values if None not in key]
        if not complete:
            return
        ranks = mean_ranks(np.array([history.values[key] for key in complete]))
        for number in np.argsort(-ranks, kind="stable")[:_BEST]:
            for place, choices in enumerate(functions):
                key = complete[number]
                self._exchanged.update(dict.fromkeys(self._exchanges(key, place, choices)))

    def _exchanges(
        self, key: Combination, place: int, choices: Sequence[int]
    ) -> Iterator[Combination]:
        known = [class_id for class_id in key if class_id is not None]
        rng = np.random.default_rng([self._seed, place, *known])
        drawn = rng.permutation(len(choices))[:_EXCHANGES]
        return ((*key[:place], choices[number], *key[place + 1 :]) for number in drawn)


def _paired(functions: Sequence[Sequence[int]], turn: int = 0) -> Iterator[Combination]:
    """Yield combinations in which every function of every site comes, the short lists anew.

    Each turn, of as many as the lengths of all lists but the longest give when multiplied, pairs
    them in another way. All turns together yield every combination.
    """
    if not all(functions):
        return iter(())
    longest = max(range(len(functions)), key=lambda place: len(functions[place]))
    shifts = []
    for place, each in enumerate(functions):
        turn, shift = (turn, 0) if place == longest else divmod(turn, len(each))
        shifts.append(shift)
    return (
        tuple(each[(i + shift) % len(each)] for each, shift in zip(functions, shifts, strict=True))
        for i in range(len(functions[longest]))
    )


def values_by_site(history: History) -> list[dict[int, float]]:
    """Return for each site the value of each function tried: of its best combination.

    Several objectives count by the mean of their ranks.
    """
    keys = list(history.values)
    values = np.array([history.values[key] for key in keys])
    single = values[:, 0] if values.shape[1] == 1 else mean_ranks(values)
    found: list[dict[int, float]] = [{} for _ in keys[0]]
    for key, value in zip(keys, single.tolist(), strict=True):
        for place, class_id in enumerate(key):
            if class_id is not None:
                found[place][class_id] = max(value, found[place].get(class_id, -np.inf))
    return found
