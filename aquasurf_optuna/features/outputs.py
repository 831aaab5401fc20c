"""What an activation function puts out on fixed N(0, 1) inputs (Section 3, Equation 3).

The inputs are the same everywhere: 1,000 numbers drawn from N(0, 1) and cut at -5 and 5
(Appendix D). They come from NumPy's legacy generator, whose stream is frozen for all versions.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from aquasurf_optuna.expression import Expression, apply_operator
from aquasurf_optuna.operators import LEAF

N_INPUTS = 1000
"""Number of inputs (Appendix D)."""

INPUT_BOUND = 5.0
"""Inputs are cut at plus and minus this (Appendix D)."""

_SEED = 0


@functools.cache
def _standard_inputs() -> Tensor:
    values = np.random.RandomState(_SEED).standard_normal(N_INPUTS)
    return torch.from_numpy(np.clip(values, -INPUT_BOUND, INPUT_BOUND))


def standard_inputs() -> Tensor:
    """Return the 1,000 fixed inputs, shape `(1000,)`, float64, on the CPU; a fresh copy."""
    return _standard_inputs().clone()


def output_features(
    expressions: Sequence[Expression], *, dtype: torch.dtype = torch.float64
) -> np.ndarray:
    """Evaluate functions on the fixed inputs, each distinct argument of theirs once.

    Args:
        expressions: The functions, n of them.
        dtype: In which arithmetic; float64 or float32.

    Returns:
        Array of shape `(n, 1000)` and of that dtype. Values may be infinite or NaN.
    """
    features = np.empty((len(expressions), N_INPUTS), dtype=str(dtype).removeprefix("torch."))
    known: dict[Expression, Tensor] = {Expression(LEAF): _standard_inputs().to(dtype)}
    for row, expression in enumerate(expressions):
        # Only the arguments are kept: whole functions are many, their arguments recur.
        values = [_values(child, known) for child in expression.children]
        features[row] = apply_operator(expression, values) if values else _values(expression, known)
    return features


def _values(expression: Expression, known: dict[Expression, Tensor]) -> Tensor:
    if expression not in known:
        values = [_values(child, known) for child in expression.children]
        known[expression] = apply_operator(expression, values)
    return known[expression]
