"""One activation of a study: its name, its space, and what its functions are.

A *site* is the place, or the places, in a network where this activation stands. What is slow is
made when it is first needed.
"""

from __future__ import annotations

import contextlib
import functools
from typing import TYPE_CHECKING, Any

import optuna

from aquasurf_optuna._history import ActivationReader, claim_key
from aquasurf_optuna.catalogue import Catalogue
from aquasurf_optuna.exceptions import SpaceError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    import numpy as np
    from optuna.distributions import CategoricalDistribution

    from aquasurf_optuna._fisher_source import FisherSource
    from aquasurf_optuna.expression import Expression
    from aquasurf_optuna.space import SearchSpace

# A child of Optuna's logger, so that optuna.logging's verbosity and handlers govern it.
_logger = optuna.logging.get_logger(f"optuna.{__name__}")


class Site:
    """An activation to be searched.

    Args:
        name: Name under which the space is suggested.
        space: The space.
        catalogues: Catalogues at hand; the one made here is added, for other names to use.
        source: Fisher features of its functions.
        baselines: Functions to try first.
        seed: Seed of the order in which functions are drawn.

    Attributes:
        distributions: Of the nodes' parameters, by their names.
    """

    def __init__(
        self,
        name: str,
        space: SearchSpace,
        *,
        catalogues: dict[SearchSpace, Catalogue],
        source: FisherSource,
        baselines: tuple[Expression, ...],
        seed: int,
    ) -> None:
        self.distributions: dict[str, CategoricalDistribution] = space.distributions(name)
        self.name = name
        self.space = space
        self.source = source
        self.seed = seed
        self._catalogues = catalogues
        self._baselines = baselines
        self._expressions: dict[int, Expression] = {}

    @property
    def catalogue(self) -> Catalogue:
        """The classes of the space."""
        if self.space not in self._catalogues:
            self._catalogues[self.space] = Catalogue.of(self.space)
        return self._catalogues[self.space]

    @property
    def claim_key(self) -> str:
        """Attribute of a trial that holds the text of the function proposed for it."""
        return claim_key(self.name)

    @functools.cached_property
    def reader(self) -> ActivationReader:
        """Reads trials."""
        return ActivationReader(self.name, self.space, self.catalogue)

    @functools.cached_property
    def baselines(self) -> tuple[int | None, ...]:
        """Class of each baseline, None for one that the space cannot express."""
        return tuple(self._class_of_baseline(baseline) for baseline in self._baselines)

    @functools.cached_property
    def shuffled(self) -> list[int]:
        """The classes that can be candidates, in the order in which they are drawn."""
        return self.catalogue.shuffled(self.seed)

    def expression(self, class_id: int) -> Expression:
        """Return the representative of a class."""
        if class_id not in self._expressions:
            self._expressions[class_id] = self.catalogue[class_id]
        return self._expressions[class_id]

    def is_settled(self, fixed: Mapping[str, Any]) -> bool:
        """Say whether fixed operators name a function, so that there is nothing to choose."""
        return self.space.is_suggested(fixed, self.name)

    def params_of(self, class_id: int, fixed: Mapping[str, Any]) -> dict[str, Any] | None:
        """Return parameters of a graph in a class that has the fixed operators, None if none has.

        A node of another schema than the graph's is not asked for.
        """
        members = self.catalogue.members(class_id) if fixed else (self.expression(class_id),)
        for member in members:
            params = self.space.params_of(member, self.name)
            if all(params.get(key, value) == value for key, value in fixed.items()):
                return params
        return None

    def compatible(self, classes: Iterable[int], fixed: Mapping[str, Any]) -> Iterator[int]:
        """Yield those of `classes` that have a graph with the fixed operators."""
        return (c for c in classes if not fixed or self.params_of(c, fixed) is not None)

    def drawn_by_chance(
        self, fixed: Mapping[str, Any], rng: np.random.Generator
    ) -> tuple[int, dict[str, Any]]:
        """Return any function with the fixed operators, and its parameters."""
        params = {
            key: fixed.get(key, distribution.choices[rng.integers(len(distribution.choices))])
            for key, distribution in self.distributions.items()
        }
        with contextlib.suppress(SpaceError):
            expression = self.space.expression_of(params, self.name)
            named = self.space.params_of(expression, self.name)
            return self.catalogue.class_of(expression), named
        # Nodes that are fixed leave excluded graphs alone.
        return 0, self.space.params_of(self.catalogue[0], self.name)

    def _class_of_baseline(self, baseline: Expression) -> int | None:
        try:
            return self.catalogue.class_of(baseline)
        except SpaceError:
            _logger.info(f"{self.name}: {self.space} has no {baseline}; it is left out")
            return None
