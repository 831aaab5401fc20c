"""Write an expression as the source text of a Python module for another library.

The tree becomes a flat list of steps, each distinct subexpression once; `zero`, `one` and
`identity` dissolve, and n-ary operators become chains of binary ones. Each step's pattern (see
`_source_tables.py`) is a small syntax tree into which those of its arguments are put, so that the
standard library sets the parentheses. A value that is used more than once, and whatever would pass
the width of a line, gets a local variable `y1`, `y2` and so on.

Nothing of the expression's text becomes code: names are looked up in the tables, and numbers are
printed from floats.
"""

from __future__ import annotations

import ast
import builtins
import collections
import copy
import functools
import keyword
import re
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import NoReturn, Protocol

from aquasurf_optuna._parser import constant_value
from aquasurf_optuna._source_tables import BACKENDS, Backend
from aquasurf_optuna.exceptions import ExpressionError
from aquasurf_optuna.operators import LEAF, N_ARY, OPERATORS, Operator

LINE_WIDTH = 100
"""No line of the source is longer, unless a user's own pattern is."""

_WIDTH = LINE_WIDTH - len("    return ") - 1
_FOLDED = {"sum_n": "add", "prod_n": "mul", "max_n": "max", "min_n": "min"}
_NUMBERS = {"zero": "0", "one": "1"}
_ARGUMENT = "_argument_{}_"

Step = tuple[str, tuple[int, ...]]
"""An operator, a number or `x`, and the positions of the steps that are its arguments."""


class Tree(Protocol):
    """What is needed of an expression."""

    @property
    def operator(self) -> str:
        """Name of the operator, `x`, or the text of a number."""

    @property
    def children(self) -> Sequence[Tree]:
        """The operator's arguments."""


def python_source(tree: Tree, backend: str, *, name: str) -> str:
    """Return the text of a module with one function of `x` (see `Expression.to_python`)."""
    if not isinstance(backend, str) or backend not in BACKENDS:
        _refuse(f"unknown backend {backend!r}", backend, f"known are {', '.join(BACKENDS)}")
    library = BACKENDS[backend]
    _check_name(name, library)
    try:
        lines = _Body(library, _steps_of(tree), _patterns(tree, backend)).lines()
    except _PatternError as error:
        _refuse(f"the {backend} source of {error}", str(tree), _how_to_give(backend))
    function = "\n".join(
        [library.signature.format(name=name), *_docstring(tree), *(f"    {line}" for line in lines)]
    )
    return _module(library, f"{function}\n")


class _PatternError(ValueError):
    """A user's pattern is not what it should be."""


def _how_to_give(backend: str) -> str:
    *first, last = BACKENDS[backend].imports
    return (
        f"give register_operator(..., sources={{{backend!r}: ...}}) a Python expression of the "
        "arguments {0}, {1} ({args} for any number of them) that uses "
        f"{', '.join(first)} and {last}"
    )


def _refuse(problem: str, text: object, expected: str, position: int = 0) -> NoReturn:
    shown = text if isinstance(text, str) else repr(text)
    raise ExpressionError(problem, text=shown, position=position, expected=expected)


def _check_name(name: object, library: Backend) -> None:
    if not isinstance(name, str) or not name.isidentifier() or keyword.iskeyword(name):
        _refuse(f"{name!r} cannot name a function", name, "pass a Python identifier, no keyword")
    taken = (*library.imports, *library.helpers, LEAF, "__debug__")
    if name in taken:
        _refuse(f"{name!r} has another meaning in the source", name, "choose another name")


def _steps_of(tree: Tree) -> list[Step]:
    """Flatten the tree, arguments first, each distinct step once; the root is the last one."""
    positions: dict[Step, int] = {(LEAF, ()): 0}

    def place(step: Step) -> int:
        return positions.setdefault(step, len(positions))

    def visit(node: Tree) -> int:
        name = _NUMBERS.get(node.operator, node.operator)
        if name == LEAF or constant_value(name) is not None:
            return place((name, ()))
        arguments = tuple(visit(child) for child in node.children)
        if name == "identity":
            return arguments[0]
        if name in _FOLDED:
            return functools.reduce(lambda a, b: place((_FOLDED[name], (a, b))), arguments)
        return place((name, arguments))

    root = visit(tree)
    return list(positions)[: root + 1]


def _patterns(tree: Tree, backend: str) -> Mapping[str, str]:
    """Return the pattern of every operator, the user's own ones included where they have one."""
    patterns = dict(BACKENDS[backend].patterns)
    built_in = {*patterns, *_FOLDED, *_NUMBERS, "identity", LEAF}
    for name in {node.operator for node in _walk(tree)} - built_in:
        if constant_value(name) is not None:
            continue
        sources = OPERATORS[name].sources
        if backend not in sources:
            text = str(tree)
            found = re.search(rf"\b{name}\b", text)
            _refuse(
                f"operator {name!r} has no source for {backend}",
                text,
                _how_to_give(backend),
                found.start() if found else 0,
            )
        patterns[name] = sources[backend]
    return patterns


def _walk(tree: Tree) -> Iterator[Tree]:
    yield tree
    for child in tree.children:
        yield from _walk(child)


class _Body:
    """The lines of the function that compute a list of steps."""

    def __init__(
        self, library: Backend, steps: Sequence[Step], patterns: Mapping[str, str]
    ) -> None:
        self._library = library
        self._steps = steps
        self._templates = [self._template(step, patterns) for step in steps]
        self._values: list[ast.expr] = []
        self._lines = list(library.first)

    def lines(self) -> list[str]:
        uses = self._uses()
        for position, (operator, _) in enumerate(self._steps):
            self._values.append(self._value(position))
            if uses[position] > 1 and operator in OPERATORS:
                self._name_value(position)
        result = ast.unparse(self._values[-1])
        if self._library.last:
            return [*self._lines, *_statement("y = ", result), self._library.last]
        return [*self._lines, *_statement("return ", result)]

    def _template(self, step: Step, patterns: Mapping[str, str]) -> ast.expr:
        name, arguments = step
        number = constant_value(name)
        if number is not None:
            return _parsed(self._array_of(number))
        if name == LEAF:
            return ast.Name(LEAF)
        if name in self._library.patterns:
            return _filled(patterns[name], len(arguments))
        return _users_template(OPERATORS[name], patterns[name], len(arguments), self._library)

    def _array_of(self, number: float) -> str:
        if number in (0.0, 1.0):
            return self._library.ones if number else self._library.zeros
        large = abs(number) > self._library.largest
        pattern = self._library.beyond if large else self._library.full
        return pattern.format(value=repr(number))

    def _uses(self) -> collections.Counter[int]:
        """How often the text holds each step: a pattern may name an argument several times."""
        uses: collections.Counter[int] = collections.Counter()
        for (_, arguments), template in zip(self._steps, self._templates, strict=True):
            names = _names(template)
            for place, argument in enumerate(arguments):
                uses[argument] += names[_ARGUMENT.format(place)]
        return uses

    def _value(self, position: int) -> ast.expr:
        """Fill a step's pattern; the longest arguments get names until it fits on a line."""
        arguments = self._steps[position][1]
        while True:
            values = {
                _ARGUMENT.format(place): self._argument(position, place)
                for place in range(len(arguments))
            }
            value: ast.expr = _Filler(values).visit(copy.deepcopy(self._templates[position]))
            lengths = {
                argument: len(ast.unparse(self._values[argument]))
                for argument in arguments
                if self._steps[argument][0] in OPERATORS
                and not isinstance(self._values[argument], ast.Name)
            }
            if len(ast.unparse(value)) <= _WIDTH or not lengths:
                return value
            self._name_value(max(lengths, key=lengths.__getitem__))

    def _argument(self, position: int, place: int) -> ast.expr:
        operator, arguments = self._steps[position]
        number = constant_value(self._steps[arguments[place]][0])
        if number is None or place not in self._library.scalars.get(operator, ()):
            return self._values[arguments[place]]
        # One argument must be an array, for the shape and the dtype of the result.
        others = [self._steps[each][0] for i, each in enumerate(arguments) if i != place]
        if abs(number) > self._library.largest or constant_value(others[0]) is not None:
            return self._values[arguments[place]]
        return _parsed(repr(number))

    def _name_value(self, position: int) -> None:
        name = f"y{len(self._lines) - len(self._library.first) + 1}"
        self._lines += _statement(f"{name} = ", ast.unparse(self._values[position]))
        self._values[position] = ast.Name(name)


class _Filler(ast.NodeTransformer):
    """Put values in the place of names."""

    def __init__(self, values: Mapping[str, ast.expr]) -> None:
        self._values = values

    def visit_Name(self, node: ast.Name) -> ast.expr:
        return self._values.get(node.id, node)


def _parsed(text: str) -> ast.expr:
    return ast.parse(text, mode="eval").body


def _filled(pattern: str, count: int) -> ast.expr:
    arguments = [_ARGUMENT.format(place) for place in range(count)]
    return _parsed(pattern.format(*arguments, args=", ".join(arguments)))


def _users_template(operator: Operator, pattern: str, count: int, library: Backend) -> ast.expr:
    name = operator.name
    try:
        template = _filled(pattern, count)
    except (SyntaxError, ValueError, LookupError, AttributeError, TypeError) as error:
        raise _PatternError(f"operator {name!r} is {pattern!r}, no such expression") from error
    nodes = list(ast.walk(template))
    bound = {each.arg for each in nodes if isinstance(each, ast.arg)}
    bound |= {
        each.id for each in nodes if isinstance(each, ast.Name) and isinstance(each.ctx, ast.Store)
    }
    arguments = {_ARGUMENT.format(place) for place in range(count)}
    known = {*bound, *arguments, *library.imports, *vars(builtins)}
    unknown = sorted(set(_names(template)) - known)
    if unknown:
        raise _PatternError(f"operator {name!r} is {pattern!r}, with unknown {unknown[0]!r}")
    if operator.arity != N_ARY and not arguments & set(_names(template)):
        raise _PatternError(f"operator {name!r} is {pattern!r}, without its arguments")
    return template


def _names(tree: ast.AST) -> collections.Counter[str]:
    return collections.Counter(node.id for node in ast.walk(tree) if isinstance(node, ast.Name))


def _statement(start: str, value: str) -> list[str]:
    """Return a statement without its indentation; in parentheses where one line is too short."""
    if len(start) + len(value) + 4 <= LINE_WIDTH:
        return [start + value]
    broken = textwrap.wrap(value, LINE_WIDTH - 8, break_long_words=False, break_on_hyphens=False)
    return ["\n        ".join([f"{start}(", *broken]) + "\n    )"]


def _docstring(tree: Tree) -> list[str]:
    text = str(tree)
    whole = f'    """Return {text}, elementwise."""'
    if len(whole) <= LINE_WIDTH:
        return [whole]
    lines = [""]
    for piece in re.findall(r"[^,(]+[,(]?", text):
        if len(lines[-1]) + len(piece) + 8 > LINE_WIDTH:
            lines.append("")
        lines[-1] += piece
    return [
        '    """Return the function below, elementwise.',
        "",
        *(f"        {line}" for line in lines),
        '    """',
    ]


def _module(library: Backend, function: str) -> str:
    """Put what the function uses in front of it."""
    used = _names(ast.parse(function))
    helpers: list[str] = []
    # A helper uses only those above it.
    for name, text in reversed(list(library.helpers.items())):
        if used[name]:
            helpers.insert(0, text)
            used.update(_names(ast.parse(text)))
    # Plain imports first, then those from a module: the order of isort.
    lines = sorted(line for name, line in library.imports.items() if used[name])
    imports = "\n".join(sorted(lines, key=lambda line: line.startswith("from ")))
    head = f'"""An activation function for {library.title}."""\n'
    top = f"{head}\n{imports}\n" if imports else head
    return "\n\n".join([top, *helpers, function])
