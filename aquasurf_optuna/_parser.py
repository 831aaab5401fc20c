"""Read the notation `name(argument,argument)` over `x` and numbers, and never evaluate it.

Expressions and the schemas of search spaces share this notation; they differ in the names they
know and in what a node becomes, so both are parameters. Reading uses no recursion.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Generic, TypeVar

from aquasurf_optuna.exceptions import ExpressionError
from aquasurf_optuna.operators import LEAF, N_ARY, Operator

MAX_DEPTH = 64
"""Deepest tree that is accepted; `x` alone has depth 0."""

MAX_SIZE = 4096
"""Largest number of operators and inputs together that is accepted in one tree."""

Problem = tuple[str, str]
"""What is wrong, and what is allowed instead."""

Node = TypeVar("Node")

_NUMBER = r"-?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?"
_NOT_FINITE = r"-?(?:inf|infinity|nan)(?![A-Za-z0-9_])"
_TOKEN = re.compile(
    rf"\s*(?:(?P<number>{_NUMBER}|(?i:{_NOT_FINITE}))"
    r"|(?P<name>[A-Za-z_][A-Za-z0-9_]*)|(?P<mark>[(),]))"
)
_FINITE = re.compile(_NUMBER)
_SPACE = re.compile(r"\s*")
_LONGEST_NAME_SHOWN = 40


class Parser(Generic[Node]):
    """One pass over a text with an explicit stack of the calls that are still open.

    Args:
        text: What to read.
        operators: The names that are known.
        make: Called as `make(name, children)` for each node, arguments first; `("x", ())` for the
            input, and `("0.5", ())` for a number, in its canonical text (see `number_text`).
        leaves: Names that stand without arguments, as `x` does.
    """

    def __init__(
        self,
        text: str,
        operators: Mapping[str, Operator],
        make: Callable[[str, tuple[Node, ...]], Node],
        *,
        leaves: Collection[str] = (),
    ) -> None:
        self._text = text
        self._operators = operators
        self._make = make
        self._leaves = {LEAF, *leaves}
        self._position = 0
        self._size = 0
        self._open: list[tuple[str, int, list[Node]]] = []

    def parse(self) -> Node:
        """Return the tree of the whole text.

        Raises:
            ExpressionError: With the position, what was found there and what is allowed.
        """
        self._refuse_other_than_ascii()
        while True:
            value = self._read_operand()
            while value is not None:
                mark, at = self._read_mark()
                if not self._open:
                    return self._finish(value, at)
                value = self._continue_or_close(value, mark, at)

    def _read_operand(self) -> Node | None:
        """Read `x` or a number, which are values, or `name(`, which opens a call and gives None."""
        name, at = self._read_name()
        is_leaf = name in self._leaves or constant_value(name) is not None
        if not is_leaf and name not in self._operators:
            known = [*self._operators, *sorted(self._leaves - {LEAF})]
            raise self._error(unknown_operator(name, known), at)
        self._size += 1
        too_large = problem_of_size(len(self._open) + (not is_leaf), self._size)
        if too_large is not None:
            raise self._error(too_large, at)
        if is_leaf:
            return self._make(name, ())
        mark, mark_at = self._read_mark()
        if mark != "(":
            raise self._error((f"{name} is not followed by '('", f"write {name}(...)"), mark_at)
        self._open.append((name, at, []))
        return None

    def _continue_or_close(self, value: Node, mark: str, at: int) -> Node | None:
        """Take one finished argument; give the call's own value if the mark closes it."""
        name, name_at, arguments = self._open[-1]
        arguments.append(value)
        operator = self._operators[name]
        if mark == ",":
            if operator.arity in (1, 2) and len(arguments) >= operator.arity:
                found = f"{name} got more than {operator.takes}"
                raise self._error((found, f"{name} takes {operator.takes}"), at)
            return None
        if mark != ")":
            found = f"found {mark!r}" if mark else "unbalanced parenthesis: the text ends"
            allowed = f"',' or ')' to go on with the {name}( of position {name_at}"
            raise self._error((found, allowed), at)
        wrong_count = problem_of_arity(operator, len(arguments))
        if wrong_count is not None:
            raise self._error(wrong_count, at)
        self._open.pop()
        return self._make(name, tuple(arguments))

    def _finish(self, value: Node, at: int) -> Node:
        if at < len(self._text):
            found = f"found {self._text[at]!r} after the end of the function"
            raise self._error((found, "nothing may follow it"), at)
        return value

    def _read_name(self) -> tuple[str, int]:
        """Read a name, or a number as its canonical text, and its position."""
        match = _TOKEN.match(self._text, self._position)
        if match is None or match["mark"] is not None:
            at = self._next_character()
            found = f"found {self._text[at]!r}" if at < len(self._text) else "the text ends"
            if not self._text.strip():
                found = "the text is empty"
            raise self._error((found, "a function such as relu(x), x, or a number such as 0.5"), at)
        self._position = match.end()
        if match["number"] is not None:
            return self._canonical(match["number"], match.start("number")), match.start("number")
        return match["name"], match.start("name")

    def _canonical(self, number: str, at: int) -> str:
        value = float(number)
        if not math.isfinite(value):
            found = f"{_shortened(number)} is not a finite number in double precision"
            raise self._error((found, "numbers are finite, such as 0.5 or -1e3"), at)
        return number_text(value)

    def _read_mark(self) -> tuple[str, int]:
        """Read the next mark and its position; empty at the end, any other character as it is."""
        match = _TOKEN.match(self._text, self._position)
        if match is None or match["mark"] is None:
            at = self._next_character()
            return self._text[at : at + 1], at
        self._position = match.end()
        return match["mark"], match.start("mark")

    def _next_character(self) -> int:
        match = _SPACE.match(self._text, self._position)
        return match.end() if match else self._position

    def _refuse_other_than_ascii(self) -> None:
        if not self._text.isascii():
            at = next(i for i, character in enumerate(self._text) if not character.isascii())
            raise self._error((f"found {self._text[at]!r}", "ASCII characters only"), at)

    def _error(self, problem: Problem, position: int) -> ExpressionError:
        return ExpressionError(problem[0], text=self._text, position=position, expected=problem[1])


def number_text(value: float) -> str:
    """Return the canonical text of a finite number: the shortest that reads back to it.

    Whole numbers below 1e16 have no decimal point, and -0 is 0.
    """
    return repr(value + 0.0).removesuffix(".0")


def constant_value(name: str) -> float | None:
    """Return the number whose canonical text this is; None if it is no such text."""
    if not _FINITE.fullmatch(name):
        return None
    value = float(name)
    return value if math.isfinite(value) and number_text(value) == name else None


def problem_of_node(
    name: str, child_count: int, operators: Mapping[str, Operator]
) -> Problem | None:
    """Say what is wrong with an operator and its number of arguments; None if nothing is."""
    # Operators first: a search makes very many nodes, and nearly all of them are operators.
    if name in operators:
        return problem_of_arity(operators[name], child_count)
    if name == LEAF or constant_value(name) is not None:
        return (f"{name} got arguments", f"write {name} alone") if child_count else None
    return unknown_operator(name, operators)


def problem_of_arity(operator: Operator, count: int) -> Problem | None:
    """Say what is wrong with a number of arguments; None if nothing is."""
    if count >= 2 if operator.arity == N_ARY else count == operator.arity:
        return None
    plural = "" if count == 1 else "s"
    return (
        f"{operator.name} got {count} argument{plural}",
        f"{operator.name} takes {operator.takes}",
    )


def problem_of_size(depth: int, size: int) -> Problem | None:
    """Say which limit a tree passes; None if it passes none."""
    if depth > MAX_DEPTH:
        return "the tree is too deep", f"at most {MAX_DEPTH} functions inside each other"
    if size > MAX_SIZE:
        return "the tree is too large", f"at most {MAX_SIZE} functions and inputs"
    return None


def unknown_operator(name: str, operators: Iterable[str]) -> Problem:
    """Describe an unknown name, with the nearest known ones."""
    shown = _shortened(name)
    if _FINITE.fullmatch(name):
        return f"{shown} is not how a number is written here", "Expression.constant makes one"
    known = list(operators)
    word = name[:_LONGEST_NAME_SHOWN].lower()
    near = difflib.get_close_matches(word, [*known, LEAF], n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(near)}? " if near else ""
    return (
        f"unknown operator {shown!r}",
        f"{hint}known are x, numbers, {', '.join(known)}; register_operator adds your own",
    )


def _shortened(name: str) -> str:
    short = name[:_LONGEST_NAME_SHOWN]
    return short if short == name else f"{short}..."
