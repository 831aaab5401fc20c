"""The names by which the field knows functions: of a standard function, or of one equal to it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from aquasurf_optuna.activation import as_expression
from aquasurf_optuna.equality import linked
from aquasurf_optuna.expression import BASELINES, Expression
from aquasurf_optuna.features.outputs import output_features
from aquasurf_optuna.operators import LEAF

_X = Expression(LEAF)

_PROPER_NAMES = {
    "elish": "ELiSH",
    "elu": "ELU",
    "gelu": "GELU",
    "hard_sigmoid": "HardSigmoid",
    "leakyrelu": "Leaky ReLU",
    "mish": "Mish",
    "relu": "ReLU",
    "selu": "SELU",
    "sigmoid": "Sigmoid",
    "softplus": "Softplus",
    "softsign": "Softsign",
    "swish": "Swish",
    "tanh": "Tanh",
}


STANDARD: tuple[Expression, ...] = (
    *BASELINES,
    *(Expression(name, (_X,)) for name in ("elish", "gelu", "hard_sigmoid", "leakyrelu", "mish")),
)
"""The paper's thirteen baselines: the eight of every search, then the five of CoAtNet (Table 3)."""


def display_name(expression: str | Expression) -> str:
    """Return the name by which the field knows a function, or its text if it has none."""
    parsed = as_expression(expression)
    if parsed.children == (_X,):
        return _PROPER_NAMES.get(parsed.operator, str(parsed))
    return str(parsed)


def names_of_equals(
    expressions: Sequence[Expression | None], known: Iterable[str | Expression]
) -> list[str | None]:
    """Name the functions that equal a known one on the 1,000 fixed inputs.

    The rule is the catalogue's, without evaluating the whole space that a catalogue is made of.

    Args:
        expressions: Functions; None stands for one that is not known.
        known: Functions to recognise.

    Returns:
        For each expression the display name of the first known function that it equals, or None.
    """
    references = [as_expression(each) for each in known]
    present = [expression for expression in expressions if expression is not None]
    if not references or not present:
        return [None] * len(expressions)
    targets = output_features(references)
    names: dict[Expression, str | None] = {}
    for expression, values in zip(present, output_features(present), strict=True):
        hits = (r for r, target in zip(references, targets, strict=True) if linked(values, target))
        hit = next(hits, None)
        names[expression] = None if hit is None else display_name(hit)
    return [None if each is None else names[each] for each in expressions]
