"""How far apart equal and different functions are: counts of classes at other tolerances.

Run with ``python -m benchmarks.equality_gap [--spaces three_node coatnet]``; the four-node space
takes some minutes. Every pair of functions that is closer than 1e-4 is found and compared in full,
and classes are counted for each tolerance below. Then, at the tolerance in use, the largest
difference between two members of a class, and how many classes hold a pair that is not linked
itself, only joined by a chain.
"""

from __future__ import annotations

import argparse

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from aquasurf_optuna.catalogue._classes import Evaluation
from aquasurf_optuna.catalogue._grouping import near
from aquasurf_optuna.catalogue._levels import Levels
from aquasurf_optuna.equality import RELATIVE_TOLERANCE, Equality, first_of_each
from benchmarks.spaces import SPACES

TOLERANCES = (1e-15, 1e-12, 1e-10, 1e-9, 1e-8, 1e-7, 1e-6, 1e-5, 1e-4)
# Neighbours are looked for as at 1e-6, on a scale on which 1e-4 is less than that.
COARSER = 128
PAIRS_AT_ONCE = 2000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--spaces", nargs="*", default=["three_node", "coatnet"], choices=SPACES)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    print("| space | " + " | ".join(f"{t:.0e}" for t in TOLERANCES) + " | largest | chains |")
    print("|---" * (3 + len(TOLERANCES)) + "|")
    for name in options.spaces:
        n, a, b, apart = close_pairs(name, options.threads)
        counts = [f"{labels_at(t, n, a, b, apart).max() + 1:,}" for t in TOLERANCES]
        labels = labels_at(RELATIVE_TOLERANCE, n, a, b, apart)
        together = labels[a] == labels[b]
        chained = together & (apart > RELATIVE_TOLERANCE)
        print(
            f"| {name} | {' | '.join(counts)} | {apart[together].max():.1e} "
            f"| {len(np.unique(labels[a[chained]]))} |",
            flush=True,
        )


def close_pairs(
    name: str, threads: int
) -> tuple[int, NDArray[np.intp], NDArray[np.intp], NDArray[np.float64]]:
    """Return the number of distinct functions, the close pairs, and how far apart these are."""
    equality = Equality()
    with Levels(torch.float64, memory_limit=2**30, spill=None, n_threads=threads) as levels:
        evaluation = Evaluation(levels, SPACES[name](), equality)
        prints = evaluation.fingerprints(None)
        distinct, _ = first_of_each(prints.exact)
        found = list(near(prints.sums[distinct] // COARSER, prints.probes[distinct] // COARSER))
        a, b = np.concatenate([np.stack(pair) for pair in found], axis=1)
        apart = np.empty(len(a))
        for start in range(0, len(a), PAIRS_AT_ONCE):
            some = slice(start, start + PAIRS_AT_ONCE)
            apart[some] = distance(
                evaluation.rows(distinct[a[some]]), evaluation.rows(distinct[b[some]])
            )
    return len(distinct), a, b, apart


def distance(a: NDArray[np.floating], b: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return the largest relative difference of each pair of rows; infinite beside NaN."""
    with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
        difference = np.abs(a - b) / np.maximum(np.abs(a), np.abs(b))
    equal = (a == b) | (np.isnan(a) & np.isnan(b))
    return np.where(equal, 0.0, np.nan_to_num(difference, nan=np.inf)).max(axis=1)


def labels_at(
    tolerance: float,
    n: int,
    a: NDArray[np.intp],
    b: NDArray[np.intp],
    apart: NDArray[np.float64],
) -> NDArray[np.intp]:
    """Return the connected components of the pairs that are no further apart."""
    linked = apart <= tolerance
    graph = coo_array((np.ones(linked.sum()), (a[linked], b[linked])), shape=(n, n))
    return np.asarray(connected_components(graph, directed=False)[1])


if __name__ == "__main__":
    main()
