"""What surrogates are given, looked at before anything is learned from it."""

from __future__ import annotations

import numbers
from typing import TYPE_CHECKING, Any

import numpy as np

from aquasurf_optuna.exceptions import SurrogateError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    Floats = NDArray[np.float64]
    Indices = NDArray[np.intp]

FEATURES = ("both", "fisher", "outputs")

#: Outputs are cut at this bound before they are compared. Beyond it a function explodes, and how
#: far it does so (exp(sinh(5)) is 10^32) would drown every difference between ordinary functions.
OUTPUT_BOUND = 20.0


def needed_features(features: str) -> tuple[str, ...]:
    """Return the names of the arrays that the setting `features` needs."""
    return ("fisher", "outputs") if features == "both" else (features,)


def checked_features(
    name: str, features: ArrayLike | None, *, setting: str, bound: float | None
) -> NDArray[np.float32]:
    """Return features as float32, outputs cut; it may be the very array that came.

    Args:
        name: ``"outputs"`` or ``"fisher"``.
        features: Shape ``(n, p)``; finite, unless outputs are cut.
        setting: The surrogate's `features`, which wants them.
        bound: Where outputs are cut; None leaves them.

    Raises:
        SurrogateError: If they are not as described.
    """
    if features is None:
        raise SurrogateError(f"features={setting!r} needs {name}, but got None")
    array = np.asarray(features)
    if array.ndim != 2 or 0 in array.shape:
        raise SurrogateError(
            f"{name} must be a non-empty array of shape (rows, features), but got {array.shape}"
        )
    if name == "outputs" and bound is not None:
        array = np.clip(np.nan_to_num(array, nan=bound, posinf=bound, neginf=-bound),
                        -bound, bound)  # fmt: skip
    elif not np.isfinite(array).all():
        row = int(np.argwhere(~np.isfinite(array))[0, 0])
        raise SurrogateError(
            f"{name} must be finite, but row {row} is not; leave candidates with an invalid "
            "spectrum out"
        )
    return np.asarray(array, dtype=np.float32)


def checked_rows(rows: ArrayLike, n_rows: int) -> Indices:
    """Return indices of embedded rows as an array.

    Raises:
        SurrogateError: If they are no integers from 0 to `n_rows` - 1 in one dimension.
    """
    indices = np.asarray(rows)
    if indices.size == 0:
        return np.zeros(0, dtype=np.intp)
    if (
        indices.ndim != 1
        or not np.issubdtype(indices.dtype, np.integer)
        or indices.min() < 0
        or indices.max() >= n_rows
    ):
        raise SurrogateError(
            f"rows must be a one-dimensional array of integers from 0 to {n_rows - 1}, "
            f"the embedded rows, but got {np.array2string(indices, threshold=10)}"
        )
    return indices.astype(np.intp)


def checked_values(values: ArrayLike, rows: Indices, *, allow_none: bool) -> Floats:
    """Return the values of `rows` as an array.

    Raises:
        SurrogateError: If they are not as many as the rows, NaN or infinite, or none.
    """
    observed = np.asarray(values, dtype=np.float64)
    if observed.shape != rows.shape or (observed.size == 0 and not allow_none):
        raise SurrogateError(
            f"rows and values must be equally long and hold at least one observation, but got "
            f"shapes {rows.shape} and {observed.shape}"
        )
    wrong = ~np.isfinite(observed) & (observed != -np.inf)
    if wrong.any():
        raise SurrogateError(
            f"values must be finite, or minus infinity for a failure, but got "
            f"{observed[wrong][0]} for row {rows[wrong][0]}"
        )
    return observed


def is_integer(value: Any) -> bool:
    """Say whether a value is an integer, and no truth value."""
    return isinstance(value, numbers.Integral) and not isinstance(value, bool)


def is_number(value: Any) -> bool:
    """Say whether a value is a real number, and no truth value."""
    return isinstance(value, numbers.Real) and not isinstance(value, bool)
