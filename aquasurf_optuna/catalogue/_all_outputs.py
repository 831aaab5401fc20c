"""Outputs of all representatives of a space, level by level, in blocks.

Twice as quick as one function after another: every subexpression is evaluated once.
Shapes: `c` representatives, blocks of `n` rows `(n, 1000)`.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray

from aquasurf_optuna.catalogue._classes import Evaluation, Resources
from aquasurf_optuna.catalogue._levels import Levels
from aquasurf_optuna.equality import Equality, Rule
from aquasurf_optuna.space import SearchSpace

_ROWS_AT_ONCE = 2048


def all_outputs(
    space: SearchSpace, rule: Rule, representatives: NDArray[np.int64]
) -> Iterator[tuple[NDArray[np.intp], NDArray[np.floating]]]:
    """Yield numbers `(n,)` of representatives and their outputs `(n, 1000)`; each comes once.

    Args:
        space: The space.
        rule: In its arithmetic.
        representatives: Array `(c,)`, their places in the space.

    Raises:
        SpaceError: Before the first block, if the values of subexpressions find no room.
    """
    # Invariance would change the values.
    equality = Equality(rule, "none")
    dtype = getattr(torch, equality.dtype.name)
    with Levels(dtype, memory_limit=Resources.memory_limit, spill=None, n_threads=1) as levels:
        evaluation = Evaluation(levels, space, equality)
        numbers = evaluation.of_graphs()[_with_excluded(space, representatives)]
        # In the order of evaluation neighbours share their arguments.
        order = np.argsort(numbers, kind="stable")
        for start in range(0, len(order), _ROWS_AT_ONCE):
            some = order[start : start + _ROWS_AT_ONCE]
            yield some, evaluation.rows(numbers[some].astype(np.intp))


def _with_excluded(space: SearchSpace, places: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return numbers among all graphs of the schemas, of places in the space."""
    excluded = np.array(space.excluded, dtype=np.int64)
    # Before the k-th excluded graph stand so many others.
    gaps = excluded - np.arange(len(excluded))
    return places + np.searchsorted(gaps, places, side="right")
