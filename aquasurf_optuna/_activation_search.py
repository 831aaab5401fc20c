"""The order in which the functions of one activation are tried.

Baselines come first, then the candidates as the surrogate ranks them. Where the user fixed some
nodes, only functions that have a graph with these operators there are meant. What is slow
is made when it is first needed.
"""

from __future__ import annotations

import contextlib
import copy
import functools
from typing import TYPE_CHECKING, Any

import optuna

from aquasurf_optuna._candidates import CandidatePool, FisherSource, Surrogate
from aquasurf_optuna._history import History, HistoryReader
from aquasurf_optuna.catalogue import Catalogue
from aquasurf_optuna.exceptions import SamplerError, SpaceError
from aquasurf_optuna.surrogate import UmapKnnSurrogate

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    import numpy as np
    from optuna.distributions import CategoricalDistribution

    from aquasurf_optuna.expression import Expression
    from aquasurf_optuna.space import SearchSpace

    Proposal = tuple[int, dict[str, Any]]

# A child of Optuna's logger, so that optuna.logging's verbosity and handlers govern it.
_logger = optuna.logging.get_logger(f"optuna.{__name__}")


class ActivationSearch:
    """One activation of a study.

    A *proposal* is the number of a class and the parameters of a graph in it.

    Args:
        name: Name under which the space is suggested.
        space: The space.
        catalogues: Catalogues at hand; the one made here is added, for other names to use.
        source: Fisher features.
        surrogate: Copied; None stands for the default one.
        baselines: Functions to try first.
        pool_size: Size of a draw.
        seed: Seed of the draws and of the default surrogate.
    """

    def __init__(
        self,
        name: str,
        space: SearchSpace,
        *,
        catalogues: dict[SearchSpace, Catalogue],
        source: FisherSource,
        surrogate: Surrogate | None,
        baselines: tuple[Expression, ...],
        pool_size: int,
        seed: int,
    ) -> None:
        self.distributions: dict[str, CategoricalDistribution] = space.distributions(name)
        self._name = name
        self._space = space
        self._catalogues = catalogues
        self._source = source
        self._surrogate = surrogate
        self._baselines = baselines
        self._pool_size = pool_size
        self._seed = seed
        self._told_exhausted = False

    @property
    def catalogue(self) -> Catalogue:
        """The classes of the space."""
        if self._space not in self._catalogues:
            self._catalogues[self._space] = Catalogue.of(self._space)
        return self._catalogues[self._space]

    @functools.cached_property
    def reader(self) -> HistoryReader:
        """Reads trials."""
        return HistoryReader(self._name, self._space, self.catalogue)

    @functools.cached_property
    def baselines(self) -> tuple[int, ...]:
        """Classes of the baselines that the space can express."""
        classes: dict[int, None] = {}
        for baseline in self._baselines:
            try:
                classes[self.catalogue.class_of(baseline)] = None
            except SpaceError:
                _logger.info(f"{self._name}: {self._space} has no {baseline}; it is left out")
        return tuple(classes)

    @functools.cached_property
    def pool(self) -> CandidatePool:
        """The candidates."""
        surrogate = self._surrogate
        if surrogate is None:
            features = "both" if self._source.in_use else "outputs"
            surrogate = UmapKnnSurrogate(features=features, random_state=self._seed)
        return CandidatePool(
            self.catalogue,
            source=self._source,
            surrogate=copy.deepcopy(surrogate),
            size=self._pool_size,
            seed=self._seed,
            always=self.baselines,
        )

    def is_settled(self, fixed: Mapping[str, Any]) -> bool:
        """Say whether fixed operators name a function, so that there is nothing to choose."""
        return self._space.is_suggested(fixed, self._name)

    def in_order(self, history: History, fixed: Mapping[str, Any]) -> Iterator[Proposal]:
        """Yield what is neither tried nor running, the next to try first.

        Args:
            history: The study so far.
            fixed: Operators that are settled, by node. Where they are, the functions outside the
                pool that fit follow at the end, unranked.
        """
        untried = [class_id for class_id in self.baselines if class_id not in history.taken]
        yield from self.compatible(untried, fixed)
        ranked = self.pool.ranked(history.values, history.taken)
        yield from self.compatible((c for c in ranked if c not in untried), fixed)
        if fixed:
            yield from self.compatible(self.pool.remaining(history.taken), fixed)

    def prediction(self, history: History, params: Mapping[str, Any]) -> float | None:
        """Return the predicted value of the function that parameters name, higher being better.

        Returns:
            The value; None without any value measured, or where :meth:`CandidatePool.prediction`
            has none.

        Raises:
            SamplerError: If they name no function of the space.
        """
        class_id = self.reader.class_of_params(params)
        if class_id is None:
            raise SamplerError(
                f"the parameters {dict(params)} name no function of {self._space}; before the "
                f"prediction, the trial must suggest one, by suggest(trial, {self._name!r})"
            )
        return self.pool.prediction(class_id, history.values) if history.has_scale else None

    def compatible(self, classes: Iterable[int], fixed: Mapping[str, Any]) -> Iterator[Proposal]:
        """Yield proposals for those of `classes` that have a graph with the fixed operators."""
        for class_id in classes:
            members = self.catalogue.members(class_id) if fixed else (self.catalogue[class_id],)
            for member in members:
                params = self._space.params_of(member, self._name)
                # A node of another schema than the graph's is not asked for.
                if all(params.get(key, value) == value for key, value in fixed.items()):
                    yield class_id, params
                    break

    def fallback(
        self, history: History, fixed: Mapping[str, Any], rng: np.random.Generator
    ) -> Proposal:
        """Return what to do where nothing is left to try: the best known, or else any function."""
        if not fixed and not self._told_exhausted:
            self._told_exhausted = True
            _logger.warning(
                f"{self._name}: every function of {self._space} is tried, running or invalid; "
                "from here on the best one known is proposed again"
            )
        by_value = sorted(history.values, key=lambda class_id: -history.values[class_id])
        return next(self.compatible(by_value, fixed), None) or self._random(fixed, rng)

    def _random(self, fixed: Mapping[str, Any], rng: np.random.Generator) -> Proposal:
        params = {
            key: fixed.get(key, distribution.choices[rng.integers(len(distribution.choices))])
            for key, distribution in self.distributions.items()
        }
        with contextlib.suppress(SpaceError):
            expression = self._space.expression_of(params, self._name)
            named = self._space.params_of(expression, self._name)
            return self.catalogue.class_of(expression), named
        # Nodes that are fixed leave excluded graphs alone.
        return 0, self._space.params_of(self.catalogue[0], self._name)
