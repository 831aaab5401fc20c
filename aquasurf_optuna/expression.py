"""Activation functions as small computation graphs: parse, print, evaluate, LaTeX.

`Expression.parse("max(relu(x),cosh(elu(x)))")` reads the published notation into a frozen tree, and
`str()` gives the same text back. The leaves of the tree are `x` and finite numbers, as in
`mul(0.5,x)`. Text is parsed, never evaluated, without recursion, so that no input can run code or
exhaust the stack.

The way from text to numbers has four steps: text, tokens, tree, and a flat program of steps in
which each distinct subexpression is computed once. The program is prepared once an expression.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import numbers
from collections.abc import Callable, Iterator, Sequence
from typing import NoReturn

from torch import Tensor

from aquasurf_optuna._latex import Formula, formula_of_call, formula_of_leaf
from aquasurf_optuna._parser import (
    MAX_DEPTH,
    MAX_SIZE,
    Parser,
    constant_value,
    number_text,
    problem_of_node,
    problem_of_size,
)
from aquasurf_optuna._source import python_source
from aquasurf_optuna.exceptions import ExpressionError
from aquasurf_optuna.operators import LEAF, OPERATORS, constant, registered_operators

Program = tuple[tuple[Callable[..., Tensor], tuple[int, ...]], ...]
"""Steps (function, positions of its arguments); value 0 is the input, step i makes value i + 1."""


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Expression:
    """An activation function as a frozen tree of operators over the input `x` and numbers.

    Two expressions are equal when their trees are; functions with equal values but other trees are
    not (see `Catalogue` for that).

    Attributes:
        operator: Name of an operator; `"x"` for the input itself; for a number its canonical text,
            the shortest that reads back to it, such as `"0.5"` or `"2"`.
        children: The arguments of the operator; empty for the input and for numbers.
        depth: Longest way from here to a leaf, in operators (0 for `x` and numbers).
        node_count: Operators in the tree (0 for `x` and numbers).

    Raises:
        ExpressionError: If the operator is unknown, has the wrong number of arguments, or the tree
            passes a limit of size (64 functions inside each other, 4,096 functions and leaves).
    """

    operator: str
    children: tuple[Expression, ...] = ()
    depth: int = dataclasses.field(init=False)
    node_count: int = dataclasses.field(init=False)
    _size: int = dataclasses.field(init=False)
    _hash: int = dataclasses.field(init=False)

    def __post_init__(self) -> None:
        if not isinstance(self.operator, str):
            _refuse(self.operator, "the name of an operator, or Expression.constant for a number")
        depth, nodes, size = (1, 1, 1) if self.children else (0, 0, 1)
        for child in self.children:
            depth = max(depth, 1 + child.depth)
            nodes += child.node_count
            size += child._size
        problem = problem_of_node(self.operator, len(self.children), OPERATORS)
        if problem is None and (depth > MAX_DEPTH or size > MAX_SIZE):
            problem = problem_of_size(depth, size)
        if problem is not None:
            raise ExpressionError(
                problem[0], text=str(self.operator), position=0, expected=problem[1]
            )
        # The dataclass is frozen: derived fields are set once, here, around its own __setattr__.
        for field, value in (("depth", depth), ("node_count", nodes), ("_size", size)):
            object.__setattr__(self, field, value)
        object.__setattr__(self, "_hash", hash((self.operator, self.children)))

    @staticmethod
    def parse(text: str) -> Expression:
        """Read an expression in the published notation, such as `mul(hard_sigmoid(x),elu(x))`.

        Spaces between tokens are allowed. A number has digits, and may have a sign, a fraction and
        an exponent: `-0.1`, `.5`, `1e-3`.

        Args:
            text: The function. ASCII only.

        Returns:
            The tree; `str()` of it is `text` without its spaces and with numbers in their shortest
            form.

        Raises:
            ExpressionError: If the text is not a function; it names the position, what came and
                what is allowed there.
        """
        if not isinstance(text, str):
            _refuse(text, "pass a str such as 'relu(x)'")
        return Parser(text, OPERATORS, Expression).parse()

    @staticmethod
    def constant(value: float) -> Expression:
        """Return the function that is a number everywhere.

        Args:
            value: Finite. Anything that `float` converts exactly as a real number: int, float, or a
                NumPy scalar.

        Raises:
            ExpressionError: If it is not finite, a bool, or no number.
        """
        number = _as_float(value)
        if number is None or not math.isfinite(number):
            shown = value if number is None else number
            _refuse(shown, "pass a finite number such as 0.5")
        return Expression(number_text(number))

    @property
    def value(self) -> float | None:
        """The number that this leaf is; None for `x` and for operators."""
        return None if self.children else constant_value(self.operator)

    @property
    def is_leaf(self) -> bool:
        """Whether this is `x` or a number."""
        return not self.children

    def __str__(self) -> str:
        if not self.children:
            return self.operator
        return f"{self.operator}({','.join(map(str, self.children))})"

    def __repr__(self) -> str:
        return f"Expression.parse({str(self)!r})"

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        if not isinstance(other, Expression):
            return NotImplemented
        # The stored hash and sizes settle nearly every inequality without walking the trees.
        return (
            self._hash == other._hash
            and self.operator == other.operator
            and self.node_count == other.node_count
            and self.children == other.children
        )

    def __reduce__(self) -> tuple[object, ...]:
        # Through the text: a stored hash would be wrong in another process.
        own = {operator.name for operator in registered_operators()}
        if own and (used := own.intersection(node.operator for node in self.walk())):
            return (_parsed_where_known, (str(self), tuple(sorted(used))))
        return (Expression.parse, (str(self),))

    def __copy__(self) -> Expression:
        return self

    def __deepcopy__(self, memo: dict[int, object]) -> Expression:
        return self

    def walk(self) -> Iterator[Expression]:
        """Yield every subexpression, this one first, from left to right."""
        yield self
        for child in self.children:
            yield from child.walk()

    def latex(self) -> str:
        r"""Return the function of `x` as LaTeX, without dollar signs, as the paper prints it.

        A number stands directly before what it multiplies, and parentheses are only where
        precedence needs them: `\text{Swish}(-2x)`.
        """
        return self._formula().text

    def _formula(self) -> Formula:
        if not self.children:
            return formula_of_leaf(self.operator)
        arguments = [child._formula() for child in self.children]
        return formula_of_call(OPERATORS[self.operator], arguments)

    def to_python(self, backend: str, *, name: str = "activation") -> str:
        """Return the source text of a module that computes this function with another library.

        The text is complete: imports, helpers where a library lacks a function, and one function
        of `x`. It is the same every time. Values are those of `__call__`, up to rounding; with
        `"torch"` bit for bit. Where the helpers for Keras are less accurate, they say so.

        Args:
            backend: `"torch"`, `"jax"`, `"keras"` (Keras 3, any of its backends) or `"numpy"`
                (with SciPy).
            name: What the function is called.

        Returns:
            Lines of at most 100 characters, unless an own operator's source is longer.

        Raises:
            ExpressionError: If the backend is unknown, the name is no identifier or has another
                meaning in the source, or an own operator has no source for the backend.
        """
        return python_source(self, backend, name=name)

    def __call__(self, x: Tensor) -> Tensor:
        """Evaluate the function elementwise.

        Args:
            x: Any shape, any floating dtype, any device. Never written to.

        Returns:
            A tensor of the same shape, dtype and device. For the bare `x` it is the input itself.

        Raises:
            TypeError: If `x` is not a floating tensor.
        """
        return run_program(program_of(self), x)


def _parsed_where_known(text: str, own: tuple[str, ...]) -> Expression:
    """Read a text that uses the user's operators, when it comes out of a pickle."""
    missing = [name for name in own if name not in OPERATORS]
    if missing:
        raise ExpressionError(
            f"operator {missing[0]!r} is not known in this process, but was where this was pickled",
            text=text,
            position=text.index(f"{missing[0]}("),
            expected=f"call register_operator({missing[0]!r}, ...) here first",
        )
    return Expression.parse(text)


def run_program(program: Program, x: Tensor) -> Tensor:
    """Compute the last value of a program for the input `x` (see `Expression.__call__`)."""
    if not x.is_floating_point():
        raise TypeError(
            f"an activation function needs a floating tensor, got {x.dtype}; convert it first, "
            "for example with x.float()"
        )
    values = [x]
    for function, arguments in program:
        values.append(function(*[values[position] for position in arguments]))
    return values[-1]


def apply_operator(expression: Expression, values: Sequence[Tensor]) -> Tensor:
    """Apply the outermost operator of an expression to the values of its children.

    A number takes the input as its one argument, for its shape, dtype and device.
    """
    return _function_of(expression)(*values)


def _function_of(expression: Expression) -> Callable[..., Tensor]:
    if expression.children:
        return OPERATORS[expression.operator].function
    return functools.partial(constant, value=float(expression.operator))


def _as_float(value: object) -> float | None:
    """Return a real number as a float, infinite where it is too large; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        return None
    try:
        return float(value)
    except OverflowError:  # an int of more than 308 digits
        return math.inf


def _refuse(value: object, expected: str) -> NoReturn:
    raise ExpressionError(
        f"got {type(value).__name__}", text=repr(value), position=0, expected=expected
    )


@functools.lru_cache(maxsize=65536)
def program_of(expression: Expression) -> Program:
    """Flatten an expression into steps, each distinct subexpression once, arguments first."""
    positions: dict[Expression, int] = {}
    steps: list[tuple[Callable[..., Tensor], tuple[int, ...]]] = []

    def place(node: Expression) -> int:
        if node.operator == LEAF:
            return 0
        if node not in positions:
            arguments = tuple(place(child) for child in node.children) or (0,)
            steps.append((_function_of(node), arguments))
            positions[node] = len(steps)
        return positions[node]

    place(expression)
    return tuple(steps)


BASELINES: tuple[Expression, ...] = tuple(
    Expression(name, (Expression(LEAF),))
    for name in ("elu", "relu", "selu", "sigmoid", "softplus", "softsign", "swish", "tanh")
)
"""The eight standard functions with which the paper's searches begin (Section 6)."""
