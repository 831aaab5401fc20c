"""Activation functions as small computation graphs: parse, print, evaluate, LaTeX.

`Expression.parse("max(relu(x),cosh(elu(x)))")` reads the published notation into a frozen tree, and
`str()` gives the same text back. Text is parsed, never evaluated, without recursion, so that no
input can run code or exhaust the stack.

The way from text to numbers has four steps: text, tokens, tree, and a flat program of steps in
which each distinct subexpression is computed once. The program is prepared once an expression.
"""

from __future__ import annotations

import dataclasses
import difflib
import functools
import re
from collections.abc import Callable, Iterator
from typing import Self

from torch import Tensor

from aquasurf_optuna.exceptions import ExpressionError
from aquasurf_optuna.operators import LEAF, N_ARY, OPERATORS, Operator

MAX_DEPTH = 64
"""Deepest tree that is accepted; `x` alone has depth 0."""

MAX_NODES = 4096
"""Largest number of operators that is accepted in one tree."""

Program = tuple[tuple[Callable[..., Tensor], tuple[int, ...]], ...]
"""Steps (function, positions of its arguments); value 0 is the input, step i makes value i + 1."""

_TOKEN = re.compile(r"\s*(?:(?P<name>[A-Za-z_][A-Za-z0-9_]*)|(?P<mark>[(),]))")
_SPACE = re.compile(r"\s*")
_NAMES_ALLOWED = "a function name such as relu(x), or x"


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Expression:
    """An activation function as a frozen tree of operators over the input `x`.

    Two expressions are equal when their trees are; functions with equal values but other trees are
    not (see `Catalogue` for that).

    Attributes:
        operator: Name of an operator, or `"x"` for the input itself.
        children: The arguments of the operator; empty for the input.
        depth: Longest way from here to the input, in operators (0 for `x`).
        node_count: Operators in the tree (0 for `x`).

    Raises:
        ExpressionError: If the operator is unknown, has the wrong number of arguments, or the tree
            is deeper than `MAX_DEPTH` or has more than `MAX_NODES` operators.
    """

    operator: str
    children: tuple[Expression, ...] = ()
    depth: int = dataclasses.field(init=False)
    node_count: int = dataclasses.field(init=False)
    _hash: int = dataclasses.field(init=False, repr=False)

    def __post_init__(self) -> None:
        problem = _problem_of_node(self.operator, self.children)
        if problem is not None:
            raise ExpressionError(problem[0], text=self.operator, position=0, expected=problem[1])
        leaf = self.operator == LEAF
        depth = 0 if leaf else 1 + max(child.depth for child in self.children)
        nodes = 0 if leaf else 1 + sum(child.node_count for child in self.children)
        problem = _problem_of_size(depth, nodes)
        if problem is not None:
            raise ExpressionError(problem[0], text=self.operator, position=0, expected=problem[1])
        object.__setattr__(self, "depth", depth)
        object.__setattr__(self, "node_count", nodes)
        object.__setattr__(self, "_hash", hash((self.operator, self.children)))

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read an expression in the published notation, such as `mul(hard_sigmoid(x),elu(x))`.

        Spaces between tokens are allowed.

        Args:
            text: The function. ASCII only.

        Returns:
            The tree; `str()` of it is `text` without its spaces.

        Raises:
            ExpressionError: If the text is not a function; it names the position, what came and
                what is allowed there.
        """
        if not isinstance(text, str):
            raise ExpressionError(
                f"got {type(text).__name__}, not text",
                text=repr(text),
                position=0,
                expected="pass a str such as 'relu(x)'",
            )
        return _Parser(text).parse(cls)

    def __str__(self) -> str:
        if self.operator == LEAF:
            return LEAF
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

    def __reduce__(self) -> tuple[Callable[[str], Expression], tuple[str]]:
        # Through the text: a stored hash would be wrong in another process.
        return (Expression.parse, (str(self),))

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: dict[int, object]) -> Self:
        return self

    def walk(self) -> Iterator[Expression]:
        """Yield every subexpression, this one first, from left to right."""
        yield self
        for child in self.children:
            yield from child.walk()

    def latex(self) -> str:
        """Return the function of `x` as LaTeX, without dollar signs."""
        if self.operator == LEAF:
            return LEAF
        operator = OPERATORS[self.operator]
        arguments = [child.latex() for child in self.children]
        if operator.arity == N_ARY:
            return operator.latex.format(args=operator.separator.join(arguments))
        return operator.latex.format(*arguments)

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


@functools.lru_cache(maxsize=65536)
def program_of(expression: Expression) -> Program:
    """Flatten an expression into steps, each distinct subexpression once, arguments first."""
    positions: dict[Expression, int] = {}
    steps: list[tuple[Callable[..., Tensor], tuple[int, ...]]] = []

    def place(node: Expression) -> int:
        if node.operator == LEAF:
            return 0
        if node not in positions:
            arguments = tuple(place(child) for child in node.children)
            steps.append((OPERATORS[node.operator].function, arguments))
            positions[node] = len(steps)
        return positions[node]

    place(expression)
    return tuple(steps)


def _problem_of_node(name: str, children: tuple[Expression, ...]) -> tuple[str, str] | None:
    """Say what is wrong with an operator and its arguments, and what is allowed; None if fine."""
    if name == LEAF:
        return ("x takes no arguments", "write x alone") if children else None
    operator = OPERATORS.get(name)
    if operator is None:
        return _unknown_operator(name)
    return _problem_of_arity(operator, len(children))


def _problem_of_arity(operator: Operator, count: int) -> tuple[str, str] | None:
    fits = count >= 2 if operator.arity == N_ARY else count == operator.arity
    if fits:
        return None
    return (
        f"{operator.name} got {count} argument{'' if count == 1 else 's'}",
        f"{operator.name} takes {operator.takes}",
    )


def _problem_of_size(depth: int, nodes: int) -> tuple[str, str] | None:
    if depth > MAX_DEPTH:
        return ("the tree is too deep", f"at most {MAX_DEPTH} functions inside each other")
    if nodes > MAX_NODES:
        return ("the tree is too large", f"at most {MAX_NODES} operators")
    return None


def _unknown_operator(name: str) -> tuple[str, str]:
    shown = name if len(name) <= 40 else name[:40] + "..."
    near = difflib.get_close_matches(name[:40].lower(), [*OPERATORS, LEAF], n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(near)}? " if near else ""
    return (f"unknown operator {shown!r}", f"{hint}Known: x, {', '.join(OPERATORS)}")


class _Parser:
    """One pass over the text with an explicit stack of the calls that are still open."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.position = 0
        self.open: list[tuple[str, int, list[Expression]]] = []
        self.nodes = 0

    def parse(self, cls: type[Expression]) -> Expression:
        self._refuse_non_ascii()
        while True:
            value = self._read_operand(cls)
            while value is not None:
                mark, at = self._read_mark()
                if not self.open:
                    return self._finish(value, mark, at)
                value = self._close_or_continue(cls, value, mark, at)

    def _read_operand(self, cls: type[Expression]) -> Expression | None:
        """Read `x`, which is a value, or `name(`, which opens a call and gives None."""
        name, at = self._read_name()
        if name == LEAF:
            return cls(LEAF)
        if name not in OPERATORS:
            problem, expected = _unknown_operator(name)
            raise self._error(problem, at, expected)
        mark, mark_at = self._read_mark()
        if mark != "(":
            raise self._error(f"{name} is not followed by (", mark_at, f"write {name}(...)")
        self.nodes += 1
        size = _problem_of_size(len(self.open) + 1, self.nodes)
        if size is not None:
            raise self._error(size[0], at, size[1])
        self.open.append((name, at, []))
        return None

    def _close_or_continue(
        self, cls: type[Expression], value: Expression, mark: str, at: int
    ) -> Expression | None:
        name, name_at, arguments = self.open[-1]
        arguments.append(value)
        operator = OPERATORS[name]
        if mark == ",":
            if operator.arity in (1, 2) and len(arguments) >= operator.arity:
                problem = f"{name} got more than {len(arguments)} argument(s)"
                raise self._error(problem, at, f"{name} takes {operator.takes}")
            return None
        if mark != ")":
            found = f"found {mark!r}" if mark else "the text ends too early: unbalanced parenthesis"
            raise self._error(found, at, f"',' or ')' to go on with {name}( of position {name_at}")
        arity = _problem_of_arity(operator, len(arguments))
        if arity is not None:
            raise self._error(arity[0], at, arity[1])
        self.open.pop()
        return cls(name, tuple(arguments))

    def _finish(self, value: Expression, mark: str, at: int) -> Expression:
        if mark or at < len(self.text):
            raise self._error(
                f"unexpected {self.text[at]!r} after the function", at, "the end of the text"
            )
        return value

    def _read_name(self) -> tuple[str, int]:
        match = _TOKEN.match(self.text, self.position)
        if match is None or match["name"] is None:
            at = self._skip_space()
            found = f"found {self.text[at]!r}" if at < len(self.text) else "the text ends"
            if not self.text.strip():
                found = "the text is empty"
            raise self._error(found, at, _NAMES_ALLOWED)
        self.position = match.end()
        return match["name"], match.start("name")

    def _read_mark(self) -> tuple[str, int]:
        """Read `(`, `)` or `,`; empty at the end of the text or before anything else."""
        match = _TOKEN.match(self.text, self.position)
        if match is None or match["mark"] is None:
            at = self._skip_space()
            return (self.text[at] if at < len(self.text) else "", at)
        self.position = match.end()
        return match["mark"], match.start("mark")

    def _skip_space(self) -> int:
        match = _SPACE.match(self.text, self.position)
        return match.end() if match else self.position

    def _refuse_non_ascii(self) -> None:
        if self.text.isascii():
            return
        at = next(i for i, character in enumerate(self.text) if ord(character) > 127)
        raise self._error(f"found {self.text[at]!r}", at, "ASCII characters only")

    def _error(self, problem: str, position: int, expected: str) -> ExpressionError:
        return ExpressionError(problem, text=self.text, position=position, expected=expected)


BASELINES: tuple[Expression, ...] = tuple(
    Expression(name, (Expression(LEAF),))
    for name in ("elu", "relu", "selu", "sigmoid", "softplus", "softsign", "swish", "tanh")
)
"""The eight standard functions with which the paper's searches begin (Section 6)."""
