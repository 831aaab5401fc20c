"""When two functions count as the same: by their values on the 1,000 fixed inputs.

- Under the rule `"tolerance"`, in float64, two functions are *linked* when at every input both
  values are NaN, both the same infinity, or differ by at most `RELATIVE_TOLERANCE` of the larger
  one. Values below the smallest normal number (2.2e-308) count as 0.
- Under the rule `"identical"`, in float32, values agree bit for bit, with -0 equal to 0 and NaN to
  NaN. This is the paper's rule (Appendix E); it separates functions that differ by rounding alone.

Either rule may hold up to an *invariance* of the network:

- `"sign"`: f and -f count as the same;
- `"affine"`: f and c f + d do, c other than 0, as where a normalisation follows the activation.
  Finite functions are then compared after subtracting their mean and dividing by the largest value
  that is left, with `RELATIVE_TOLERANCE` of that value, and all constants are one function. Others
  are compared up to sign.

A *row* is a function's values in the form in which they are compared, `(1000,)`; rows of equal
functions are linked, up to sign where there is an invariance.

*Fingerprints* of a row are what is kept of it where there is no room for rows:

- `exact`, 128 bits that only equal rows share;
- `coarse`, 128 bits that only linked rows share (nearly all that are linked do);
- `sums`, four integers that differ by at most `WINDOW` between linked rows (in size, where there is
  an invariance), so that what `coarse` misses is found among neighbours;
- `probes`, integers of single inputs that differ by at most `STEP` (again in size): the outermost
  ones are among them, where functions that are nearly flat elsewhere differ.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from aquasurf_optuna.exceptions import SpaceError
from aquasurf_optuna.features.outputs import N_INPUTS, standard_inputs

RELATIVE_TOLERANCE = 1e-6
"""Largest relative difference, at any input, between two functions that are linked."""

Rule = Literal["tolerance", "identical"]
Invariance = Literal["none", "sign", "affine"]

N_SUMS = 4
"""How many integers `Fingerprints.sums` has for a row."""

# A relative difference of 1e-6 is 2.1 steps of a mantissa of 20 bits, which cross at most 3 of its
# boundaries; an absolute one, of steps of 1e-6, crosses at most 2.
STEP = 3
"""Largest difference between the probes of linked rows."""

WINDOW = STEP * N_INPUTS // N_SUMS
"""Largest difference between the sums of linked rows."""

N_PROBES = 24
"""How many integers `Fingerprints.probes` has for a row."""

_TINY = float(np.finfo(np.float64).tiny)
# Between two numbers of 20 bits, away from the round ones near which functions settle.
_OFFSET = np.int64(0x5A5A5A5A)
# No finite number has these upper 32 bits.
_NAN, _INFINITY = np.int32(2**31 - 1), np.int32(2**31 - 2)
# A little below the tolerance, so that rounding leaves values of one step within it.
_ABSOLUTE_STEP = 0.999 * RELATIVE_TOLERANCE


@dataclasses.dataclass(frozen=True)
class Fingerprints:
    """What is kept of n rows.

    Attributes:
        exact: uint64 array `(n, 2)`.
        coarse: uint64 array `(n, 2)`; under the rule "identical" the same as `exact`.
        sums: int64 array `(n, 4)`.
        probes: int32 array `(n, 24)`.
        is_finite: bool array `(n,)`, whether all values are finite.
        is_constant: bool array `(n,)`, whether it is one finite value, up to the tolerance.
    """

    exact: NDArray[np.uint64]
    coarse: NDArray[np.uint64]
    sums: NDArray[np.int64]
    probes: NDArray[np.int32]
    is_finite: NDArray[np.bool_]
    is_constant: NDArray[np.bool_]

    @staticmethod
    def empty(n: int) -> Fingerprints:
        """Return room for n rows."""
        exact, coarse = np.empty((n, 2), np.uint64), np.empty((n, 2), np.uint64)
        sums, probes = np.empty((n, N_SUMS), np.int64), np.empty((n, N_PROBES), np.int32)
        flags = np.empty(n, np.bool_), np.empty(n, np.bool_)
        return Fingerprints(exact, coarse, sums, probes, *flags)

    def put(self, start: int, other: Fingerprints) -> None:
        """Write the fingerprints of some rows from place `start` on."""
        for field in dataclasses.fields(self):
            values = getattr(other, field.name)
            getattr(self, field.name)[start : start + len(values)] = values


@dataclasses.dataclass(frozen=True)
class Equality:
    """Which functions count as the same; see the module.

    Attributes:
        rule: "tolerance" or "identical".
        invariance: "none", "sign" or "affine".

    Raises:
        SpaceError: If one of them is none of these, or both do not go together.
    """

    rule: Rule = "tolerance"
    invariance: Invariance = "none"

    def __post_init__(self) -> None:
        if self.rule not in get_args(Rule):
            raise SpaceError(f"rule must be 'tolerance' or 'identical', got {self.rule!r}")
        if self.invariance not in get_args(Invariance):
            raise SpaceError(
                f"invariance must be 'none', 'sign' or 'affine', got {self.invariance!r}"
            )
        if self.rule == "identical" and self.invariance == "affine":
            raise SpaceError(
                "rule 'identical' does not go with invariance 'affine', whose arithmetic rounds; "
                "take rule 'tolerance'"
            )

    @property
    def dtype(self) -> np.dtype[np.float64] | np.dtype[np.float32]:
        """In which arithmetic functions are evaluated."""
        return np.dtype(np.float64) if self.rule == "tolerance" else np.dtype(np.float32)

    def rows(self, values: NDArray[np.floating]) -> NDArray[np.floating]:
        """Return the rows `(n, 1000)` of functions with these values `(n, 1000)`, a new array."""
        rows: NDArray[np.floating] = np.array(values, self.dtype, order="C")
        rows += 0  # -0 becomes 0
        rows[np.isnan(rows)] = np.nan
        if self.rule == "tolerance":
            rows[np.abs(rows) < _TINY] = 0
        if self.invariance == "affine":
            finite = np.isfinite(rows).all(axis=1)
            rows[finite] = _normalised(rows[finite])
        return rows if self.invariance == "none" else _of_one_sign(rows)

    def fingerprints(self, rows: NDArray[np.floating]) -> Fingerprints:
        """Return the fingerprints of n rows, `(n, 1000)`."""
        finite = np.isfinite(rows)
        is_finite = finite.all(axis=1)
        exact = digests(rows)
        if self.rule == "identical":
            coarse, steps = exact, rows.view(np.int32)
        else:
            steps = self._steps(rows, finite)
            coarse = digests(steps)
        if self.invariance != "none":
            # NaN has no sign: with it, sums of f and -f would differ in size.
            steps = np.where(steps == _NAN, 0, steps)
        sums = steps.reshape(len(rows), N_SUMS, -1).sum(axis=2, dtype=np.int64)
        probes = steps[:, _probed()]
        if self.invariance != "none":
            sums, probes = np.abs(sums), np.abs(probes)
        return Fingerprints(exact, coarse, sums, probes, is_finite, is_finite & _constant(rows))

    def linked(self, a: NDArray[np.floating], b: NDArray[np.floating]) -> NDArray[np.bool_]:
        """Say for n pairs of rows, `(n, 1000)` each, whether they are linked; bool array `(n,)`."""
        found = self._linked(a, b)
        return found if self.invariance == "none" else np.logical_or(found, self._linked(a, -b))

    def _linked(self, a: NDArray[np.floating], b: NDArray[np.floating]) -> NDArray[np.bool_]:
        equal: NDArray[np.bool_] = (a == b) | (np.isnan(a) & np.isnan(b))
        if self.rule == "identical":
            return np.asarray(equal.all(axis=1))
        # Symmetric, unlike numpy.isclose: the tolerance is of the larger of the two values.
        with np.errstate(invalid="ignore", over="ignore"):
            larger = np.maximum(np.abs(a), np.abs(b))
            if self.invariance == "affine":
                whole = np.isfinite(a).all(axis=1, keepdims=True)
                larger = np.where(whole, np.maximum(larger, 1.0), larger)
            near = np.abs(a - b) <= RELATIVE_TOLERANCE * larger
        return np.asarray((equal | (near & np.isfinite(larger))).all(axis=1))

    def _steps(self, rows: NDArray[np.floating], finite: NDArray[np.bool_]) -> NDArray[np.int32]:
        """Number the interval of relative width 1e-6, or less, in which each value lies.

        The number of -v is that of v with the other sign, but for NaN.
        """
        size = ((np.abs(rows).view(np.int64) + _OFFSET) >> 32).astype(np.int32)
        steps: NDArray[np.int32] = np.where(rows < 0, -size, size)
        if self.invariance == "affine":
            whole = finite.all(axis=1)
            steps[whole] = np.floor(rows[whole] / _ABSOLUTE_STEP + 0.353)
        if not finite.all():
            steps[np.isnan(rows)] = _NAN
            steps[rows == np.inf] = _INFINITY
            steps[rows == -np.inf] = -_INFINITY
        return steps


@functools.cache
def _probed() -> NDArray[np.intp]:
    """Return the inputs of the probes: the smallest ones, the largest, and as many between."""
    order = np.argsort(standard_inputs().numpy(), kind="stable")
    third = N_PROBES // 3
    between = np.linspace(third, N_INPUTS - third - 1, third).astype(np.intp)
    return np.concatenate([order[:third], order[between], order[-third:]])


def linked(a: NDArray[np.float64], b: NDArray[np.float64]) -> bool:
    """Say whether two functions with these float64 values, `(1000,)` each, are linked."""
    equality = Equality()
    return bool(equality.linked(equality.rows(a[None]), equality.rows(b[None]))[0])


def _normalised(rows: NDArray[np.floating]) -> NDArray[np.floating]:
    """Give finite rows mean 0 and largest size 1; constants become 0."""
    if not rows.size:
        return rows
    largest = np.abs(rows).max(axis=1, keepdims=True)
    scaled = rows / np.where(largest == 0, 1, largest)
    centred = scaled - scaled.mean(axis=1, keepdims=True)
    left = np.abs(centred).max(axis=1, keepdims=True)
    flat = _constant(rows)[:, None]
    return np.where(flat, 0.0, centred / np.where(flat, 1, left))


def _of_one_sign(rows: NDArray[np.floating]) -> NDArray[np.floating]:
    """Give f and -f the same row wherever that is not a matter of rounding."""
    # The first value that is not small beside the largest; NaN compares as false.
    size = np.abs(rows)
    with np.errstate(invalid="ignore"):
        large = size > 0.1 * np.where(np.isfinite(size), size, 0).max(axis=1, keepdims=True)
    first = np.take_along_axis(rows, large.argmax(axis=1)[:, None], axis=1)
    rows = np.where(first < 0, -rows, rows)
    rows += 0
    rows[np.isnan(rows)] = np.nan
    return rows


def _constant(rows: NDArray[np.floating]) -> NDArray[np.bool_]:
    with np.errstate(invalid="ignore", over="ignore"):
        spread = rows.max(axis=1) - rows.min(axis=1)
        flat: NDArray[np.bool_] = spread <= RELATIVE_TOLERANCE * np.abs(rows).max(axis=1)
    return flat


def digests(rows: NDArray[np.generic]) -> NDArray[np.uint64]:
    """Return 128 bits for each of n rows, `(n, 2)`, that only equal bytes share."""
    parts = [hashlib.blake2b(row, digest_size=16).digest() for row in rows]
    return np.frombuffer(b"".join(parts), dtype=np.uint64).reshape(-1, 2)


def first_of_each(keys: NDArray[np.uint64]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Group equal keys, `(n, 2)`.

    Returns:
        The place of the first of each group, in order, `(d,)`; and for each key the number of its
        group, `(n,)`.
    """
    # A stable sort: the first of a run is the first of all.
    order = np.lexsort((keys[:, 1], keys[:, 0]))
    in_order = keys[order]
    starts = np.flatnonzero(np.r_[True, (in_order[1:] != in_order[:-1]).any(axis=1)][: len(keys)])
    group = np.empty(len(keys), np.intp)
    group[order] = np.repeat(np.arange(len(starts)), np.diff(np.r_[starts, len(keys)]))
    first = order[starts]
    by_place = np.argsort(first)
    number = np.empty(len(first), np.intp)
    number[by_place] = np.arange(len(first))
    return first[by_place], number[group]
