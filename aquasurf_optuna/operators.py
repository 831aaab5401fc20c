r"""The operators from which activation functions are built (Table 4 of the paper).

An operator is a name, a number of arguments, a torch function and a LaTeX pattern. Names are the
published ones, so that published functions read as they are. Every function is elementwise, works
for any shape and any floating dtype, never writes to its arguments, and follows IEEE arithmetic:
NaN goes in, NaN comes out (`max`, `min` and `relu` included).

The user's own operators stand beside these once `register_operator` has taken them. They live as
long as the process; those that measure functions for this one are told of them.

Symbols: `x`, `a`, `b` are tensors of one shape; an n-ary operator takes two or more of them.
"""

from __future__ import annotations

import dataclasses
import enum
import functools
import math
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from aquasurf_optuna import _hyperbolic
from aquasurf_optuna._operator_checks import agree, check_name, check_pattern, probe
from aquasurf_optuna.exceptions import OperatorError

N_ARY = -1
"""The arity of an operator that takes two or more arguments."""

LEAF = "x"
"""The name of the input; the other leaves of an expression are numbers."""

TIMES = r" \cdot "
"""The separator of a product in LaTeX; it is left out between a number and what is no number."""

BACKENDS = ("torch", "numpy", "jax", "keras")
"""The libraries for which an operator may bring its source text."""


class Level(enum.IntEnum):
    r"""How tightly a printed formula holds together, loosest first.

    A quotient is looser than a product, since `a/b \cdot c` is read in two ways. `ENCLOSED` is the
    place of an argument between delimiters, where any formula may stand.
    """

    ENCLOSED = 0
    SUM = 1
    QUOTIENT = 2
    PRODUCT = 3
    POWER = 4
    ATOM = 5


class Binding(NamedTuple):
    """How an operator's formula holds together.

    Attributes:
        level: As a whole.
        first: How tightly the first argument must hold together to need no parentheses in it.
        others: The same for any other argument.
    """

    level: Level = Level.ATOM
    first: Level = Level.ENCLOSED
    others: Level = Level.ENCLOSED


_CLOSED = Binding()
_SUM = Binding(Level.SUM, Level.SUM, Level.QUOTIENT)
_QUOTIENT = Binding(Level.QUOTIENT, Level.PRODUCT, Level.POWER)
_PRODUCT = Binding(Level.PRODUCT, Level.PRODUCT, Level.POWER)
_POWER = Binding(Level.POWER, Level.ATOM)


@dataclasses.dataclass(frozen=True)
class Operator:
    """One operator.

    Attributes:
        name: The published name.
        arity: 1, 2 or `N_ARY`.
        function: Takes as many tensors as `arity` says and returns one of the same shape and dtype.
        latex: Pattern with `{0}`, `{1}` for the arguments, or `{args}` for all of them, joined by
            `separator`.
        separator: What stands between the arguments in LaTeX.
        cost: Rank of simplicity (0 trivial, 1 arithmetic, 2 division, 3 one exponential or its
            like, 4 a power or an error function, 5 a Bessel function); only its order matters.
        sources: Backend (see `BACKENDS`) -> pattern of the source text that computes it there, for
            operators of the user's.
        binding: Where its formula and those of its arguments need parentheses.
    """

    name: str
    arity: int
    function: Callable[..., Tensor]
    latex: str
    separator: str = ", "
    cost: int = 1
    sources: Mapping[str, str] = dataclasses.field(
        default_factory=lambda: MappingProxyType({}), hash=False
    )
    binding: Binding = _CLOSED

    def __post_init__(self) -> None:
        # The dataclass is frozen; what it holds is to be so too.
        object.__setattr__(self, "sources", MappingProxyType(dict(self.sources)))

    def __reduce__(self) -> tuple[object, ...]:
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return (_rebuilt, ({**values, "sources": dict(self.sources)},))

    @property
    def takes(self) -> str:
        """How many arguments the operator takes, in words."""
        if self.arity == N_ARY:
            return "two or more arguments"
        return "one argument" if self.arity == 1 else "two arguments"


def _rebuilt(values: dict[str, Any]) -> Operator:
    return Operator(**values)


def constant(x: Tensor, value: float) -> Tensor:
    """Return a number in the shape, dtype and device of `x`, with zero gradient.

    A number beyond the range of the dtype is infinite, as IEEE arithmetic converts it.
    """
    if abs(value) > torch.finfo(x.dtype).max:
        value = math.copysign(math.inf, value)
    # `where` keeps the path to x, so that the gradient exists and is zero, for infinite x too.
    return torch.where(torch.ones_like(x, dtype=torch.bool), torch.full_like(x, value), x)


def _zero(x: Tensor) -> Tensor:
    return constant(x, 0.0)


def _one(x: Tensor) -> Tensor:
    return constant(x, 1.0)


def _identity(x: Tensor) -> Tensor:
    return x


def _softplus(x: Tensor) -> Tensor:
    # torch's default threshold of 20 costs the last digits in float64; exp(40) fits every dtype
    # that torch computes softplus in.
    return F.softplus(x, threshold=40.0)


def _hard_sigmoid(x: Tensor) -> Tensor:
    return torch.clamp(0.2 * x + 0.5, 0.0, 1.0)


def _elish(x: Tensor) -> Tensor:
    # Basirat and Roth 2018. The clamp keeps the branch that is not taken finite, and its gradient.
    return torch.where(x < 0, torch.expm1(torch.clamp(x, max=0.0)), x) * torch.sigmoid(x)


def _leakyrelu(x: Tensor) -> Tensor:
    return F.leaky_relu(x, negative_slope=0.01)


def _gelu(x: Tensor) -> Tensor:
    return F.gelu(x, approximate="none")


def _sum_n(*arguments: Tensor) -> Tensor:
    return functools.reduce(torch.add, arguments)


def _prod_n(*arguments: Tensor) -> Tensor:
    return functools.reduce(torch.mul, arguments)


def _max_n(*arguments: Tensor) -> Tensor:
    return functools.reduce(torch.maximum, arguments)


def _min_n(*arguments: Tensor) -> Tensor:
    return functools.reduce(torch.minimum, arguments)


def _named(name: str) -> str:
    return rf"\text{{{{{name}}}}}({{0}})"


_UNARY = (
    Operator("zero", 1, _zero, "0", cost=0),
    Operator("one", 1, _one, "1", cost=0),
    Operator("identity", 1, _identity, "{0}", cost=0, binding=Binding(Level.ATOM, Level.SUM)),
    Operator("negative", 1, torch.neg, "-{0}", binding=Binding(Level.PRODUCT, Level.QUOTIENT)),
    Operator("abs", 1, torch.abs, "|{0}|"),
    Operator("reciprocal", 1, torch.reciprocal, "{0}^{{-1}}", cost=2, binding=_POWER),
    Operator("square", 1, torch.square, "{0}^2", binding=_POWER),
    Operator("exp", 1, torch.exp, "e^{{{0}}}", cost=3, binding=Binding(Level.POWER)),
    Operator("erf", 1, torch.erf, _named("erf"), cost=4),
    Operator("erfc", 1, torch.erfc, _named("erfc"), cost=4),
    Operator("sinh", 1, _hyperbolic.sinh, r"\sinh({0})", cost=3),
    Operator("cosh", 1, _hyperbolic.cosh, r"\cosh({0})", cost=3),
    Operator("tanh", 1, torch.tanh, r"\tanh({0})", cost=3),
    Operator("expm1", 1, torch.expm1, "e^{{{0}}} - 1", cost=3, binding=Binding(Level.SUM)),
    Operator("sigmoid", 1, torch.sigmoid, r"\sigma({0})", cost=3),
    Operator("log_sigmoid", 1, F.logsigmoid, r"\log(\sigma({0}))", cost=3),
    Operator("arcsinh", 1, _hyperbolic.arcsinh, _named("arcsinh"), cost=3),
    Operator("arctan", 1, torch.atan, r"\arctan({0})", cost=3),
    Operator("bessel_i0e", 1, torch.special.i0e, _named(r"bessel\_i0e"), cost=5),
    Operator("bessel_i1e", 1, torch.special.i1e, _named(r"bessel\_i1e"), cost=5),
    Operator("relu", 1, torch.relu, _named("ReLU")),
    Operator("elu", 1, F.elu, _named("ELU"), cost=3),
    Operator("selu", 1, F.selu, _named("SELU"), cost=3),
    Operator("swish", 1, F.silu, _named("Swish"), cost=3),
    Operator("softplus", 1, _softplus, _named("Softplus"), cost=3),
    Operator("softsign", 1, F.softsign, _named("Softsign"), cost=2),
    Operator("hard_sigmoid", 1, _hard_sigmoid, _named("HardSigmoid")),
)

_UNARY_COATNET = (
    Operator("elish", 1, _elish, _named("ELiSH"), cost=3),
    Operator("gelu", 1, _gelu, _named("GELU"), cost=4),
    Operator("leakyrelu", 1, _leakyrelu, _named("LeakyReLU")),
    Operator("mish", 1, F.mish, _named("Mish"), cost=3),
)

_BINARY = (
    Operator("add", 2, torch.add, "{args}", " + ", binding=_SUM),
    Operator("sub", 2, torch.sub, "{args}", " - ", binding=_SUM),
    Operator("mul", 2, torch.mul, "{args}", TIMES, binding=_PRODUCT),
    Operator("div", 2, torch.div, "{args}", "/", cost=2, binding=_QUOTIENT),
    Operator("pow", 2, torch.pow, "{0}^{{{1}}}", cost=4, binding=_POWER),
    Operator("max", 2, torch.maximum, r"\max\{{{args}\}}"),
    Operator("min", 2, torch.minimum, r"\min\{{{args}\}}"),
)

_N_ARY = (
    Operator("sum_n", N_ARY, _sum_n, "{args}", " + ", binding=_SUM),
    Operator("prod_n", N_ARY, _prod_n, "{args}", TIMES, binding=_PRODUCT),
    Operator("max_n", N_ARY, _max_n, r"\max\{{{args}\}}"),
    Operator("min_n", N_ARY, _min_n, r"\min\{{{args}\}}"),
)

UNARY_OPERATORS: tuple[str, ...] = tuple(op.name for op in _UNARY)
"""The 27 unary operators of the paper's Table 4, in its order of columns."""

COATNET_UNARY_OPERATORS: tuple[str, ...] = UNARY_OPERATORS + tuple(op.name for op in _UNARY_COATNET)
"""The 31 unary operators of the CoAtNet experiment (Section 6)."""

BINARY_OPERATORS: tuple[str, ...] = tuple(op.name for op in _BINARY)
"""The 7 binary operators of Table 4."""

N_ARY_OPERATORS: tuple[str, ...] = tuple(op.name for op in _N_ARY)
"""The 4 n-ary operators of the four-node space (Appendix B)."""

_known = {op.name: op for op in (*_UNARY, *_UNARY_COATNET, *_BINARY, *_N_ARY)}
_published = frozenset(_known)

OPERATORS: Mapping[str, Operator] = MappingProxyType(_known)
"""Every operator by its name, the user's own after the published ones; read only."""


def register_operator(
    name: str,
    function: Callable[..., Tensor],
    *,
    latex: str | None = None,
    arity: int = 1,
    cost: int = 3,
    sources: Mapping[str, str] | None = None,
) -> Operator:
    r"""Make a function of your own an operator, in this process and those that measure for it.

    From then on `name` may stand in expressions, schemas and the choices of a `SearchSpace`. A
    process that reads such a text by itself has to register it first: put the call into the module
    that all of them import. Such a module, or a cell of a notebook, may run twice: a name keeps its
    first function, which the next has to agree with, and takes the newest of what only shows it.

    Args:
        name: ASCII letters, digits and underscores, a letter first.
        function: Takes as many tensors as `arity` says and returns one of the same shape and dtype.
            Elementwise, for any shape and every floating dtype, without effects, differentiable by
            torch. It is tried out on a few numbers in float32 and float64.
        latex: Pattern with `{0}` and `{1}` for the arguments, or `{args}` for all of an n-ary
            operator's with commas between; other braces are doubled. The pattern is taken for a
            closed whole: neither it nor its arguments get parentheses, so write those that it
            needs, as in `({0} + 1)`. None for `\text{name}(...)`.
        arity: 1, 2, or `N_ARY` for two or more.
        cost: Rank of simplicity, see `Operator`; the simpler of two equal graphs stands for both.
        sources: Backend, of `BACKENDS`, -> source text with fields as in `latex`, such as
            `{"numpy": "numpy.sinc({0})"}`.

    Returns:
        The operator.

    Raises:
        OperatorError: If the name is taken by another function, or an argument is outside of what
            is allowed.
    """
    check_name(name)
    if name in _published:
        raise OperatorError(f"{name!r} is an operator of the paper's; choose another name")
    if isinstance(arity, bool) or arity not in (1, 2, N_ARY):
        raise OperatorError(f"arity must be 1, 2 or N_ARY ({N_ARY}), got {arity!r}")
    if isinstance(cost, bool) or not isinstance(cost, int) or cost < 0:
        raise OperatorError(f"cost must be a whole number from 0 on, got {cost!r}")
    fields = _fields(arity)
    _check_sources(sources, fields)
    pattern = _default_latex(name, fields) if latex is None else latex
    check_pattern(pattern, fields, "latex")
    if not callable(function):
        raise OperatorError(f"function must take and return tensors, got {function!r}")
    probe(name, function, _counts(arity))
    return _add(Operator(name, arity, function, pattern, cost=cost, sources=dict(sources or {})))


def registered_operators() -> tuple[Operator, ...]:
    """Return the user's own operators, in the order in which they came."""
    return tuple(operator for operator in list(_known.values()) if operator.name not in _published)


def install_operators(operators: Iterable[Operator]) -> None:
    """Make operators known that another process has registered.

    Raises:
        OperatorError: If a name is taken by another function here.
    """
    for operator in operators:
        _add(operator)


def _add(operator: Operator) -> Operator:
    """Add an operator that has passed its tests, unless it is here already; return what is here."""
    known = _known.setdefault(operator.name, operator)
    if known == operator:
        return known
    counts = _counts(operator.arity)
    if known.arity != operator.arity or not agree(
        *(probe(each.name, each.function, counts) for each in (known, operator))
    ):
        raise OperatorError(
            f"operator {operator.name!r} is registered already, as a function of {known.takes} "
            "with other values; choose another name, or start a new process"
        )
    same_function = dataclasses.replace(operator, function=known.function)
    if same_function != known:
        _known[operator.name] = same_function
    return _known[operator.name]


def _fields(arity: int) -> tuple[str, ...]:
    return {1: ("0",), 2: ("0", "1"), N_ARY: ("args",)}[arity]


def _counts(arity: int) -> tuple[int, ...]:
    return (2, 3) if arity == N_ARY else (arity,)


def _default_latex(name: str, fields: tuple[str, ...]) -> str:
    shown = name.replace("_", r"\_")
    return rf"\text{{{{{shown}}}}}({', '.join(f'{{{field}}}' for field in fields)})"


def _check_sources(sources: Mapping[str, str] | None, fields: tuple[str, ...]) -> None:
    for backend, pattern in (sources or {}).items():
        if backend not in BACKENDS:
            raise OperatorError(
                f"sources has {backend!r}; it maps {', '.join(BACKENDS)} to source texts"
            )
        check_pattern(pattern, fields, f"the source for {backend}")
