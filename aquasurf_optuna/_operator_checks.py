"""Whether a function of the user's can serve as an operator: tried out on a few numbers.

An operator has to be elementwise, deterministic, and free of effects on its arguments; nothing less
makes an activation function whose values, features and gradients mean what they say. Here are the
tests of that, and of its name and the patterns that print it; they know nothing of the table of
operators.
"""

from __future__ import annotations

import re
import string
from collections.abc import Callable, Collection, Sequence
from typing import NoReturn

import torch
from torch import Tensor

from aquasurf_optuna.exceptions import OperatorError

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
# What the notation already means by these words; numbers that are not finite in any spelling.
_RESERVED = frozenset({"x", "unary", "binary", "n_ary", "constant"})
_NOT_FINITE = frozenset({"inf", "infinity", "nan"})

_SHAPE = (2, 3, 4)
# Both signs, zero, and no other whole number, at many of which functions have their kinks.
_POINTS = tuple(0.0 if k == 12 else (k - 12) * 0.3361 + 0.0127 for k in range(24))
# Vectorised and scalar code of one function may differ in the last digits.
_TOLERANCES = {torch.float32: 1e-4, torch.float64: 1e-10}
_STEP = 1e-3


def check_name(name: object) -> str:
    """Return the name of an operator to be.

    Raises:
        OperatorError: If the notation cannot hold it.
    """
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise OperatorError(
            f"got {name!r} for the name of an operator; it must begin with an ASCII letter and go "
            "on with letters, digits and underscores, such as 'sinc'"
        )
    if name in _RESERVED or name.lower() in _NOT_FINITE:
        raise OperatorError(
            f"{name!r} has a meaning of its own in the notation of expressions; choose another name"
        )
    return name


def check_pattern(pattern: object, fields: Collection[str], what: str) -> str:
    """Return a pattern for `str.format` that has only these fields.

    Raises:
        OperatorError: If it is no text, cannot be read, or has other fields; it says `what` is
            wrong.
    """
    allowed = " and ".join(f"{{{field}}}" for field in fields)
    mend = f"it takes {allowed} for the arguments, and other braces doubled, as in {{{{ and }}}}"
    if not isinstance(pattern, str):
        raise OperatorError(f"{what} must be a text, got {pattern!r}; {mend}")
    try:
        found = [(name, spec, how) for _, name, spec, how in string.Formatter().parse(pattern)]
    except ValueError as error:
        raise OperatorError(f"{what} {pattern!r} cannot be read: {error}; {mend}") from error
    for name, spec, how in found:
        if name is not None and (name not in fields or spec or how):
            raise OperatorError(f"{what} {pattern!r} has the field {{{name}}}; {mend}")
    return pattern


def probe(name: str, function: Callable[..., Tensor], counts: Sequence[int]) -> list[Tensor]:
    """Try a function out in float32 and float64.

    Args:
        name: For the messages.
        function: Takes tensors and returns one.
        counts: With how many arguments to try it.

    Returns:
        What it gave in float64, one tensor a count: by these, two functions can be compared.

    Raises:
        OperatorError: If it raises, returns anything but a tensor of the arguments' shape and
            dtype, writes to them, gives other values the second time, is not elementwise, or cuts
            off the gradient.
    """
    values = []
    # A function that draws numbers is refused, but the caller's random state stays as it is.
    with torch.random.fork_rng(devices=[]), torch.enable_grad():
        for dtype in (torch.float32, torch.float64):
            for count in counts:
                values.append(_Trial(name, function, dtype).values(count))
    return [each for each in values if each.dtype == torch.float64]


def agree(first: Sequence[Tensor], second: Sequence[Tensor]) -> bool:
    """Say whether two probes found the same function."""
    return len(first) == len(second) and all(map(_close, first, second))


class _Trial:
    """One function in one dtype."""

    def __init__(self, name: str, function: Callable[..., Tensor], dtype: torch.dtype) -> None:
        self._name = name
        self._function = function
        self._dtype = dtype

    def values(self, count: int) -> Tensor:
        flat = torch.tensor(_POINTS, dtype=self._dtype)
        arguments = [flat.roll(7 * place).reshape(_SHAPE) for place in range(count)]
        originals = [argument.clone() for argument in arguments]
        result = self._call(arguments).detach().clone()
        if not all(map(torch.equal, arguments, originals)):
            self._refuse("writes to its argument", "work on a copy, without operations in place")
        if not torch.equal(*(_without_nan(each) for each in (result, self._call(arguments)))):
            self._refuse("gives other values the second time", "it must not draw random numbers")
        self._check_elementwise(arguments, result)
        self._check_gradient(arguments, result)
        return result

    def _check_elementwise(self, arguments: list[Tensor], result: Tensor) -> None:
        order = torch.arange(len(_POINTS)).roll(5).flip(0)
        columns = [argument.flatten() for argument in arguments]
        permuted = self._call([column[order] for column in columns])
        each_alone = torch.stack([self._call(list(one)) for one in zip(*columns, strict=True)])
        flat = result.flatten()
        if not (_close(permuted, flat[order]) and _close(each_alone, flat)):
            self._refuse(
                "is not elementwise: a number of its result depends on more than the number at "
                "the same place of each argument",
                "use no means, sums, norms or positions",
            )

    def _check_gradient(self, arguments: list[Tensor], result: Tensor) -> None:
        # Times 1, so that operations in place on them are no error of their own.
        tracked = [argument.clone().requires_grad_() * 1 for argument in arguments]
        if self._call(tracked).requires_grad:
            return
        moved = self._call([argument + _STEP for argument in arguments])
        changed = (moved != result)[result.isfinite() & moved.isfinite()]
        # A step function has the gradient zero in truth, and changes at few places.
        if changed.float().mean() > 0.5:
            self._refuse(
                "cuts off the gradient", "use torch operations on the argument, not NumPy or .data"
            )

    def _call(self, arguments: list[Tensor]) -> Tensor:
        shape = tuple(arguments[0].shape)
        try:
            result = self._function(*arguments)
        except Exception as error:
            raise OperatorError(
                f"operator {self._name!r} raised {type(error).__name__} on {len(arguments)} "
                f"argument(s) of shape {shape} in {self._dtype}: {error}; it must take any shape "
                "and every floating dtype"
            ) from error
        if not isinstance(result, Tensor):
            self._refuse(f"returned {type(result).__name__}", "return a tensor")
        if tuple(result.shape) != shape or result.dtype != self._dtype:
            self._refuse(
                f"returned shape {tuple(result.shape)} and {result.dtype} for arguments of shape "
                f"{shape} and {self._dtype}",
                "return the arguments' shape and dtype",
            )
        return result

    def _refuse(self, what: str, mend: str) -> NoReturn:
        raise OperatorError(f"operator {self._name!r} {what}; {mend}")


def _close(first: Tensor, second: Tensor) -> bool:
    tolerance = _TOLERANCES[first.dtype]
    return torch.allclose(first, second, rtol=tolerance, atol=tolerance, equal_nan=True)


def _without_nan(values: Tensor) -> Tensor:
    # NaN differs from itself; its places are told by a number that no probe gives.
    return torch.nan_to_num(values, nan=1.2345e-30, posinf=torch.inf, neginf=-torch.inf)
