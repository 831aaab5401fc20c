"""Work for other processes, together with the user's operators.

A process that was started anew, on this machine or another, has not run the user's code, and knows
the published operators only. What is sent there through `with_operators` brings the others along.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import cloudpickle

from aquasurf_optuna.exceptions import OperatorError
from aquasurf_optuna.operators import Operator, install_operators, registered_operators

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


def with_operators(function: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """Return the function in a form that, once pickled, makes the user's operators known there.

    They are known before the function itself is read, which may hold expressions.

    Raises:
        OperatorError: When it is pickled, if an operator cannot be.
    """
    return _Carrier(function) if registered_operators() else function


class _Carrier:
    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        return self._function(*arguments, **options)

    def __reduce__(self) -> tuple[object, ...]:
        operators = [_pickled(operator) for operator in registered_operators()]
        return (_arrived, (operators, cloudpickle.dumps(self._function)))


def _pickled(operator: Operator) -> bytes:
    try:
        return bytes(cloudpickle.dumps(operator))
    except Exception as error:
        raise OperatorError(
            f"operator {operator.name!r} cannot be sent to the processes that measure: {error}; "
            "register a function, or a lambda, that holds nothing but numbers and tensors"
        ) from error


def _arrived(operators: list[bytes], function: bytes) -> _Carrier:
    install_operators(pickle.loads(operator) for operator in operators)
    # Not the bare function: Dask's scheduler reads it, and pickles it once more for the workers.
    return _Carrier(pickle.loads(function))
