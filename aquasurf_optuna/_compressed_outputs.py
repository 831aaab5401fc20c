"""Outputs of all classes of a catalogue, so compressed that a whole space fits into memory.

The distance of two functions is the root mean square difference of their outputs (Equation 3), the
outputs cut at ±20 as in the surrogates. Outputs of 1,000 inputs lie close to a few dozen directions
(smooth functions of one number, kinks and cuts apart), so each row keeps its coordinates along the
leading principal directions of a sample, divided by the root of 1,000: Euclidean distances of such
rows are those of Equation 3, never larger, and hardly smaller.

In the four-node space with 64 directions, over 6,000 classes: distances of random pairs (median
1.2) are 0.04% too small or less for 99 in 100, and distances to the nearest other class (median
0.048) 0.06% or less for 9 in 10. `benchmarks/following_pool.py --compression` measures it.

Shapes: ``c`` classes, ``d`` directions, outputs ``(c, 1000)``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from aquasurf_optuna.features.outputs import N_INPUTS
from aquasurf_optuna.surrogate._checks import OUTPUT_BOUND

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from aquasurf_optuna.catalogue import Catalogue

N_DIRECTIONS = 64

_SAMPLE = 4096


def compressed_outputs(
    catalogue: Catalogue, *, n_directions: int = N_DIRECTIONS, random_state: int = 0
) -> NDArray[np.float32]:
    """Return a short row for every class, whose Euclidean distances are those of Equation 3.

    Some ten seconds and 1.2 GB at the peak for the four-node space on one core, 100 MB of which
    stay.

    Args:
        catalogue: The classes.
        n_directions: How many principal directions are kept, at most; no more than 1,000.
        random_state: Seed of the sample whose directions they are.

    Returns:
        float32 array ``(c, d)``, read-only. Outputs that are no number count as +20.
    """
    basis, centre = _directions(catalogue, n_directions, random_state)
    rows = np.empty((len(catalogue), basis.shape[1]), dtype=np.float32)
    for classes, outputs in catalogue.output_blocks():
        rows[classes] = (_cut(outputs) - centre) @ basis
    rows.setflags(write=False)
    return rows


def _directions(
    catalogue: Catalogue, n_directions: int, random_state: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return principal directions ``(1000, d)`` of a sample of classes, and its mean ``(1000,)``.

    Only eligible classes are drawn: a constant or an infinite one is never ranked.
    """
    chosen = catalogue.shuffled(random_state)[:_SAMPLE] or list(range(len(catalogue)))[:_SAMPLE]
    sample = _cut(catalogue.outputs_of(chosen)).astype(np.float64)
    centre = sample.mean(axis=0)
    _, vectors = np.linalg.eigh((sample - centre).T @ (sample - centre))
    leading = vectors[:, ::-1][:, :n_directions]
    # An eigenvector has no sign of its own: the largest entry is positive on every machine.
    largest = leading[np.abs(leading).argmax(axis=0), np.arange(leading.shape[1])]
    return (leading * np.sign(largest)).astype(np.float32), centre.astype(np.float32)


def _cut(outputs: NDArray[np.floating]) -> NDArray[np.float32]:
    """Cut outputs at ±20 and divide by the root of their number, in a new array."""
    bound = OUTPUT_BOUND
    cut: NDArray[np.float32] = np.clip(outputs, -bound, bound).astype(np.float32)
    # What is no number passes the cut.
    np.nan_to_num(cut, copy=False, nan=bound)
    cut /= np.float32(np.sqrt(N_INPUTS))
    return cut
