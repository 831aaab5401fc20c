"""Every function of a space ranked at once, by what the outputs alone say of those tried.

The paper draws its candidates at random and can never propose the others. Fisher features are dear
and outputs are not, so a Gaussian process on outputs (`surrogate/_gaussian_process.py`) looks at
the whole space and names the classes whose Fisher features are worth computing next.

Classes are numbers of the catalogue; a class is a row of the surrogate.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from aquasurf_optuna._compressed_outputs import compressed_outputs
from aquasurf_optuna.surrogate._gaussian_process import GaussianProcessSurrogate

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from aquasurf_optuna.catalogue import Catalogue

EXPLORATION = 1.0
"""Standard deviations that are added to the mean: higher than for a trial, since measuring is
cheaper than training and what is measured is ranked once more."""


class WholeSpace:
    """Ranks all classes of a catalogue by outputs alone.

    Args:
        catalogue: The classes.
        random_state: Seed of the compression.
    """

    def __init__(self, catalogue: Catalogue, *, random_state: int = 0) -> None:
        rows = compressed_outputs(catalogue, random_state=random_state)
        self._eligible = catalogue.is_finite & ~catalogue.is_constant
        self._surrogate = GaussianProcessSurrogate(
            features="outputs", output_bound=None, exploration=EXPLORATION
        ).embed(rows)

    def ranked(
        self, values: Mapping[int, float], *, n: int, exclude: Collection[int] = ()
    ) -> list[int]:
        """Return the classes whose Fisher features are most worth computing next."""
        free = self._eligible.copy()
        free[list(exclude)] = False
        rows = np.flatnonzero(free)
        tried = sorted(values)
        self._surrogate.fit(tried, [values[c] for c in tried])
        worth = self._surrogate.acquire(rows)
        order = np.argsort(-worth, kind="stable")
        chosen: list[int] = rows[order[:n]].tolist()
        return chosen
