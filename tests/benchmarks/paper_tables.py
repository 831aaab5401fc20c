"""Small tables that the tests of the paper's figures share."""

import math

import numpy as np
from numpy.typing import NDArray

from aquasurf_optuna.benchmark._bench import ActBench
from aquasurf_optuna.benchmark._reader import MEASURES, Entry
from aquasurf_optuna.features.spectra import quantile_vector

LAYERS = 2
PNG = b"\x89PNG"


def entry(
    name: str,
    accuracy: float,
    *,
    vector: NDArray[np.float32] | None = None,
    members: tuple[str, ...] = (),
    kind: str = "quantiles",
) -> Entry:
    """Return an entry; without a vector its spectrum is invalid."""
    vectors = {} if vector is None else {kind: vector}
    reason = "it explodes" if vector is None else None
    return Entry(name, dict.fromkeys(MEASURES, accuracy), members, vectors, reason, {}, (), None)


def graph(name: str) -> str:
    """Return a graph of the three-node space that is an operator."""
    return f"add({name}(x),zero(x))"


def vector(seed: int) -> NDArray[np.float32]:
    """Return quantiles of random spectra."""
    rng = np.random.default_rng(seed)
    layers = {str(layer): rng.normal(-8.0, 2.0, 100) for layer in range(LAYERS)}
    return quantile_vector(layers).astype(np.float32)


def small(name: str = "small") -> ActBench:
    """Return a table in which everything is known."""
    entries = [
        entry(graph("relu"), 0.6, vector=vector(0)),
        entry(graph("elu"), 0.7, vector=vector(1)),
        entry(graph("tanh"), 0.2, vector=vector(2)),
        entry(graph("sigmoid"), 0.1, vector=vector(3)),
        entry(graph("square"), 0.9, vector=vector(4)),
        entry(graph("exp"), math.nan, vector=vector(5)),
        entry(graph("sinh"), 0.05),
        entry(graph("cosh"), 0.3),
        entry(graph("reciprocal"), math.nan),
    ]
    return ActBench(name, entries)
