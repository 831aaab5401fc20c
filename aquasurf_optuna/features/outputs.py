"""What an activation function puts out on fixed N(0, 1) inputs (Section 3, Equation 3).

The inputs are the same everywhere: 1,000 numbers drawn from N(0, 1) and cut at -5 and 5
(Appendix D). They come from NumPy's legacy generator, whose stream is frozen for all versions.
"""

from __future__ import annotations

import functools
import hashlib
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

KEY_DIGITS = 7
"""Significant digits by which `function_key` tells values apart."""

WIDTH = 1024
"""Number of inputs at which functions are evaluated: the 1,000, and 24 of them once more.

A multiple of the width of every processor's vector units, so that no input falls to the scalar code
for the rest of a row, whose last digit may differ: the values of a function then do not hang on how
many are evaluated together.
"""

_SEED = 0
# A number is printed as "%.6e": correctly rounded on every platform, and infinities have a form.
_KEY_FORMAT = " ".join([f"%.{KEY_DIGITS - 1}e"] * N_INPUTS)
_KEYS_REMEMBERED = 65_536
_VALUES_REMEMBERED = 8192


@functools.cache
def _standard_inputs() -> Tensor:
    values = np.random.RandomState(_SEED).standard_normal(N_INPUTS)
    return torch.from_numpy(np.clip(values, -INPUT_BOUND, INPUT_BOUND))


def standard_inputs() -> Tensor:
    """Return the 1,000 fixed inputs, shape `(1000,)`, float64, on the CPU; a fresh copy."""
    return _standard_inputs().clone()


def padded_inputs() -> Tensor:
    """Return the inputs and a few of them once more, shape `(WIDTH,)`, float64; a fresh copy."""
    values = _standard_inputs()
    return torch.cat([values, values[: WIDTH - N_INPUTS]])


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
    inputs = {Expression(LEAF): padded_inputs().to(dtype)}
    known = dict(inputs)
    for row, expression in enumerate(expressions):
        if len(known) > _VALUES_REMEMBERED:
            known = dict(inputs)
        # Only the arguments are kept: whole functions are many, their arguments recur.
        values = [_values(child, known) for child in expression.children]
        found = apply_operator(expression, values) if values else _values(expression, known)
        features[row] = found[:N_INPUTS]
    return features


@functools.lru_cache(maxsize=_KEYS_REMEMBERED)
def function_key(expression: Expression) -> str:
    """Return a short name that equal functions share, whatever their graphs.

    It is a digest of the outputs on the fixed inputs in float64, rounded to `KEY_DIGITS`
    significant digits, with -0 as 0 and one NaN for all. About 0.5 ms a function, once.

    Functions of one key are linked by the tolerance rule of `equality.py`: at each input their
    values round to the same 7 digits, so they differ by at most 1e-6 of the larger one. The
    converse can fail, since linked values may lie on either side of a boundary between roundings;
    such a function, or one that rounds otherwise on another machine, is only measured a second
    time. In the three-node space keys and classes are the same 2,791, and they stay the same with
    any number of digits from 4 to 10.

    Args:
        expression: The function.

    Returns:
        32 hexadecimal digits.
    """
    return _key_of(output_features([expression])[0])


def _key_of(values: np.ndarray) -> str:
    # Adding 0 turns -0 into 0. Every NaN prints the same.
    text = _KEY_FORMAT % tuple((values + 0.0).tolist())
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def _values(expression: Expression, known: dict[Expression, Tensor]) -> Tensor:
    if expression not in known:
        values = [_values(each, known) for each in expression.children or (Expression(LEAF),)]
        known[expression] = apply_operator(expression, values)
    return known[expression]
