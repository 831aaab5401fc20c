"""Candidates that the tests of surrogates share."""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def clusters(n: int = 40, seed: int = 0) -> tuple[Floats, Floats, NDArray[np.intp]]:
    """Four clusters in outputs and in Fisher vectors: features of both, and the cluster numbers."""
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % 4
    outputs = 3.0 * rng.normal(size=(4, 50))[labels] + 0.3 * rng.normal(size=(n, 50))
    fisher = 9.0 * rng.normal(size=(4, 20))[labels] + 0.3 * rng.normal(size=(n, 20))
    return outputs, fisher, labels
