"""The Optuna parameters under which the graphs of some schemas are suggested.

One schema has one categorical parameter a node, `name.0`, `name.1`, ... Several are a conditional
space: `name.schema` chooses the schema, and only the nodes of that one are asked for, `name.2.0`,
`name.2.1`, ... for schema number 2.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from optuna.distributions import CategoricalDistribution

from aquasurf_optuna._schema import Place

Choose = Callable[[str, tuple[str, ...]], str]
"""Called as `choose(key, choices)` for one parameter; returns one of the choices."""


class Parameters:
    """Parameters of the graphs of some schemas.

    Args:
        parts: The schemas.
    """

    def __init__(self, parts: Sequence[Place]) -> None:
        self._parts = tuple(parts)
        self._labels = _labels(self._parts)

    def distributions(self, name: str) -> dict[str, CategoricalDistribution]:
        """Return all parameters, the schema's first."""
        found = {}
        if self._is_conditional:
            found[_schema_key(name)] = CategoricalDistribution(self._labels)
        for number, part in enumerate(self._parts):
            for key, place in zip(self._nodes(name, number), part.free, strict=True):
                found[key] = CategoricalDistribution(place.names)
        return found

    def chosen(self, name: str, choose: Choose) -> tuple[int, int]:
        """Ask for every parameter of one graph.

        Returns:
            The number of its schema, and its index there.
        """
        number = 0
        if self._is_conditional:
            number = self._labels.index(choose(_schema_key(name), self._labels))
        part = self._parts[number]
        keys = self._nodes(name, number)
        names = [choose(key, place.names) for key, place in zip(keys, part.free, strict=True)]
        return number, part.index_of_choices(iter(names))

    def of_graph(self, name: str, number: int, index: int) -> dict[str, str]:
        """Return the parameters of the graph with this index in schema `number`."""
        params = {_schema_key(name): self._labels[number]} if self._is_conditional else {}
        chosen = self._parts[number].choices(index)
        return {**params, **dict(zip(self._nodes(name, number), chosen, strict=True))}

    def are_complete(self, name: str, params: Mapping[str, Any]) -> bool:
        """Say whether parameters hold all that names a graph, whatever the values of its nodes."""
        number = 0
        if self._is_conditional:
            label = params.get(_schema_key(name))
            if label not in self._labels:
                return False
            number = self._labels.index(str(label))
        return all(key in params for key in self._nodes(name, number))

    @property
    def _is_conditional(self) -> bool:
        return len(self._parts) > 1

    def _nodes(self, name: str, number: int) -> list[str]:
        prefix = f"{name}.{number}" if self._is_conditional else name
        return [f"{prefix}.{node}" for node in range(len(self._parts[number].free))]


def _schema_key(name: str) -> str:
    return f"{name}.schema"


def _labels(parts: Sequence[Place]) -> tuple[str, ...]:
    """Name schemas by their texts; equal ones, with other operators, are numbered."""
    texts = [str(part) for part in parts]
    labels = []
    for number, text in enumerate(texts):
        before = texts[:number].count(text)
        labels.append(f"{text} #{before + 1}" if before else text)
    return tuple(labels)
