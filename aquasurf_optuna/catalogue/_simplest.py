"""Which graph of a class is its simplest: the same on every machine, and in any order of graphs.

Simplest means fewest operators, then cheapest ones (the sum of `Operator.cost`), then first by
text. All graphs of a schema have one shape, so that a text comes before another as its sequence of
names does: names are numbered in alphabetical order, and packed into words of 64 bits.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from aquasurf_optuna._schema import Place
from aquasurf_optuna.operators import N_ARY, OPERATORS

# Sorts before every name, as the parenthesis that ends a call of any number of arguments does
# before the comma that goes on with it.
_END = ""

# A user's operator may cost any number; sums over the largest expression stay within 64 bits.
_HIGHEST_COST = 2**50


def simplest(parts: Sequence[Place], labels: NDArray[np.integer]) -> NDArray[np.intp]:
    """Return for each class the number of its simplest graph, `(c,)`.

    Args:
        parts: Schemas of a space.
        labels: Class of each of their graphs, `(g,)`, numbered from 0; -1 for a graph that does not
            count.
    """
    counted = np.flatnonzero(labels >= 0)
    # Graphs of one class side by side, in the order of the classes.
    order = counted[np.argsort(labels[counted], kind="stable")]
    label = labels[order]
    for key in _keys(parts):
        values = key[order]
        starts = np.flatnonzero(np.r_[True, label[1:] != label[:-1]])
        least = np.minimum.reduceat(values, starts)
        kept = values == np.repeat(least, np.diff(np.r_[starts, len(label)]))
        order, label = order[kept], label[kept]
    return order


def _keys(parts: Sequence[Place]) -> list[NDArray[np.uint64]]:
    """Return the numbers by which graphs are compared, the weightiest first, `(g,)` each."""
    texts = [list(_text(part, 1)) for part in parts]
    names = sorted({_END, *(name for text in texts for choices, _ in text for name in choices)})
    code = {name: number for number, name in enumerate(names)}
    bits = max(1, (len(names) - 1).bit_length())
    per_word = 64 // bits
    n_words = math.ceil(max(map(len, texts)) / per_word)
    words = np.zeros((n_words, sum(part.size for part in parts)), np.uint64)
    start = 0
    for part, text in zip(parts, texts, strict=True):
        for place, (choices, stride) in enumerate(text):
            word, inside = divmod(place, per_word)
            shift = np.uint64(bits * (per_word - 1 - inside))
            codes = np.array([code[name] for name in choices], np.uint64) << shift
            column = np.repeat(codes, stride)
            words[word, start : start + part.size].reshape(-1, len(column))[:] |= column
        start += part.size
    nodes = np.concatenate([_sum(part, lambda _: 1) for part in parts])
    costs = np.concatenate([_sum(part, _cost) for part in parts])
    return [nodes, costs, *words]


def _text(place: Place, stride: int) -> Iterator[tuple[tuple[str, ...], int]]:
    """Yield what may stand at each place of a text, and over how many graphs each name stays."""
    yield place.names, stride * math.prod(child.size for child in place.children)
    for number, child in enumerate(place.children):
        later = math.prod(each.size for each in place.children[number + 1 :])
        yield from _text(child, stride * later)
    if any(OPERATORS[name].arity == N_ARY for name in place.names if name in OPERATORS):
        yield (_END,), 1


def _sum(place: Place, of_operator: Callable[[str], int]) -> NDArray[np.uint64]:
    """Add up a number of every operator over each graph of a place, `(size,)`; leaves have none."""
    own = [of_operator(name) if place.children else 0 for name in place.names]
    total = np.array(own, np.uint64)
    for child in place.children:
        total = np.add.outer(total, _sum(child, of_operator)).reshape(-1)
    return total


def _cost(name: str) -> int:
    return min(OPERATORS[name].cost, _HIGHEST_COST)
