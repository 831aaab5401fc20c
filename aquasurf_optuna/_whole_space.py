"""Every function of a space ranked at once, by what the outputs alone say of those tried.

The paper draws its candidates at random and can never propose the others. Fisher features are dear
and outputs are not, so a Gaussian process on outputs (`surrogate/_gaussian_process.py`) looks at
the whole space and names the classes whose Fisher features are worth computing next.

A search that does best begins with a random pool, a third of what it is to measure in all, and
measures a few more after every finished trial rather than many now and then
(`benchmarks/following_pool.py`): each batch then knows of all trials.

Classes are numbers of the catalogue, and the class is the row of the surrogate.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from aquasurf_optuna._compressed_outputs import compressed_outputs
from aquasurf_optuna.exceptions import SamplerError
from aquasurf_optuna.surrogate._gaussian_process import GaussianProcessSurrogate
from aquasurf_optuna.surrogate._targets import representative

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from numpy.typing import NDArray

    from aquasurf_optuna.catalogue import Catalogue

EXPLORATION = 2.0
"""Standard deviations added to the mean. More than for a trial: measuring is cheaper than training,
and what is measured is ranked once more, by both features, before it is tried."""

LEAST_DISTANCE = 0.05
"""Root mean square difference of outputs (Equation 3) that two functions are apart to be measured
both. A large space has dozens of nearly equal functions around each good one."""

_MOST_VALUES = 200
_ROWS_AT_ONCE = 4096


class WholeSpace:
    """Ranks all eligible classes of a catalogue, finite and not constant, by outputs alone.

    Outputs are compressed (`_compressed_outputs.py`) when the object is made: ten seconds for the
    four-node space on one core. A ranking of its 355,068 eligible classes then takes half a second
    with 100 values, and 30 ms more for each class of `values` that is new to the object. Time and
    memory (below 2 GB) are bounded: of more than 200 values the ranking learns from the best 100
    and 100 spread evenly over the others.

    Args:
        catalogue: The classes.
        random_state: Seed of the compression.
    """

    def __init__(self, catalogue: Catalogue, *, random_state: int = 0) -> None:
        self._rows = compressed_outputs(catalogue, random_state=random_state)
        self._eligible = catalogue.is_finite & ~catalogue.is_constant
        self._shuffled = catalogue.shuffled(random_state)
        self._surrogate = GaussianProcessSurrogate(
            features="outputs",
            # What is compressed is no longer the outputs themselves, whose shape could be compared.
            comparisons=("outputs",),
            output_bound=None,
            exploration=EXPLORATION,
        ).embed(self._rows)

    def ranked(
        self, values: Mapping[int, float], *, n: int, exclude: Collection[int] = ()
    ) -> list[int]:
        """Return the classes whose Fisher features are most worth computing next.

        Highest comes the upper confidence bound of the value, mean + `EXPLORATION` standard
        deviations, so both promising and uncertain classes come; equals in the order of their
        numbers. A class closer than `LEAST_DISTANCE` to one of `values`, one of `exclude` or one
        chosen before it is passed over, unless others do not suffice. While nothing is tried, the
        order is a random one, the same each time.

        The result depends on the arguments alone, not on earlier calls nor on their order.

        Args:
            values: Value of each class tried, higher being better, minus infinity for a failure.
                They may be any classes, eligible or not.
            n: How many to return; 0 or more.
            exclude: Classes not to return, usually those that are measured.

        Returns:
            At most `n` eligible classes, fewer where no more are left, the best first.

        Raises:
            SamplerError: If `n` is negative or a class does not exist.
        """
        if n < 0:
            raise SamplerError(f"n is a number of classes, 0 or more, but got {n}")
        known = self._checked({*values, *exclude})
        free = self._eligible.copy()
        free[self._checked(exclude)] = False
        if not values:
            return [class_id for class_id in self._shuffled if free[class_id]][:n]
        order = self._by_worth(np.flatnonzero(free), values)
        return _spread(order, self._rows, known, n)

    def _by_worth(self, free: NDArray[np.intp], values: Mapping[int, float]) -> NDArray[np.intp]:
        """Return the free classes, most worth measuring first."""
        if not len(free):
            return free
        tried = np.array(sorted(values), dtype=np.intp)
        found = np.array([values[class_id] for class_id in tried.tolist()], dtype=np.float64)
        chosen = representative(found, _MOST_VALUES)
        self._surrogate.fit(tried[chosen], found[chosen])
        return free[np.argsort(-self._surrogate.acquire(free), kind="stable")]

    def _checked(self, classes: Iterable[int]) -> NDArray[np.intp]:
        checked = np.array(sorted(classes), dtype=np.intp)
        if len(checked) and not 0 <= checked[0] <= checked[-1] < len(self._rows):
            wrong = checked[0] if checked[0] < 0 else checked[-1]
            raise SamplerError(
                f"class {wrong} is none of the catalogue's {len(self._rows)}, which are numbered "
                "from 0"
            )
        return checked


def _spread(
    order: NDArray[np.intp], rows: NDArray[np.float32], known: NDArray[np.intp], n: int
) -> list[int]:
    """Take the first `n` of an order that are `LEAST_DISTANCE` apart, then others if too few.

    Args:
        order: int array ``(c,)``, rows, the first being wanted most.
        rows: float32 array ``(any, d)``, coordinates.
        known: int array, rows from which to keep away too.
        n: How many.
    """
    chosen: list[int] = []
    for start in range(0, len(order), _ROWS_AT_ONCE):
        block = order[start : start + _ROWS_AT_ONCE]
        least = _least_distances(rows[block], rows[[*known.tolist(), *chosen]])
        while len(chosen) < n and (least >= LEAST_DISTANCE).any():
            first = int(np.argmax(least >= LEAST_DISTANCE))
            chosen.append(int(block[first]))
            least = np.minimum(least, _least_distances(rows[block], rows[chosen[-1:]]))
            # Whatever rounding says of the distance to itself.
            least[first] = 0.0
        if len(chosen) == n:
            return chosen
    others = order[~np.isin(order, chosen)]
    return [*chosen, *others[: n - len(chosen)].tolist()]


def _least_distances(rows: NDArray[np.float32], to: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the Euclidean distance of each row ``(k, d)`` to the nearest of others ``(m, d)``."""
    if not len(to):
        return np.full(len(rows), np.inf)
    # In float64, where the difference of two large squares is still exact enough.
    a, b = rows.astype(np.float64), to.astype(np.float64)
    squares = (a**2).sum(axis=1)[:, None] + (b**2).sum(axis=1) - 2 * a @ b.T
    least: NDArray[np.float64] = np.sqrt(np.maximum(squares.min(axis=1), 0.0))
    return least
