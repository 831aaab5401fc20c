"""Fisher features of functions for a sampler: measured once, or read from a store."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from aquasurf_optuna.exceptions import SamplerError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from numpy.typing import NDArray

    from aquasurf_optuna.expression import Expression
    from aquasurf_optuna.features._feature import FeatureSource, FisherFeature
    from aquasurf_optuna.store import FeatureStore

    Progress = Callable[[int, int], None]


class FisherSource:
    """Fisher features of functions, each computed once and kept as float32.

    Args:
        featurizer: Computes them; None where a study does without.
        store: Keeps them between runs, or None.
        measures: Whether what is not in the store is computed here. If not, it counts as unknown
            until another process has measured it.

    Attributes:
        measures: As given.
        length: How long a vector is, or None until one is known.
    """

    def __init__(
        self,
        featurizer: FeatureSource | None,
        store: FeatureStore | None,
        *,
        measures: bool = True,
    ) -> None:
        self.featurizer = featurizer
        self.store = store
        self.length: int | None = None
        self.measures = measures
        self._known: dict[Expression, NDArray[np.float32] | None] = {}
        self._reasons: dict[Expression, str] = {}

    @property
    def in_use(self) -> bool:
        """Whether there are Fisher features at all."""
        return self.featurizer is not None

    def missing(self, expressions: Iterable[Expression]) -> list[Expression]:
        """Return those of `expressions` that are not measured yet, each once."""
        if self.featurizer is None:
            return []
        return [e for e in dict.fromkeys(expressions) if e not in self._known]

    def measure(
        self,
        expressions: Iterable[Expression],
        *,
        n_jobs: int = 1,
        progress: Progress | None = None,
    ) -> None:
        """Compute, or read from the store, what is missing."""
        missing = self.missing(expressions)
        if self.featurizer is None or not missing:
            return
        if self.measures:
            features = self.featurizer.many(
                missing, store=self.store, n_jobs=n_jobs, progress=progress
            )
            self.learn(zip(missing, features, strict=True))
        elif self.store is not None:
            by_text = {str(expression): expression for expression in missing}
            found = self.store.known(self.featurizer.task, by_text)
            self.learn((by_text[text], feature) for text, feature in found.items())

    def learn(self, pairs: Iterable[tuple[Expression, FisherFeature]]) -> None:
        """Take in features that were measured elsewhere.

        Raises:
            SamplerError: If vectors have different lengths.
        """
        for expression, feature in pairs:
            self._known[expression] = self._vector(expression, feature)
            if self._known[expression] is None:
                self._reasons[expression] = feature.reason or "no reason was kept"

    def is_known(self, expression: Expression) -> bool:
        """Say whether a function has been measured, with whatever result."""
        return self.featurizer is None or expression in self._known

    def is_invalid(self, expression: Expression) -> bool:
        """Say whether a function was measured and has no valid spectrum."""
        return self.is_known(expression) and not self.is_valid(expression)

    def invalid(self) -> dict[Expression, str]:
        """Return the functions that were measured and have no valid spectrum, and why."""
        return dict(self._reasons)

    def is_valid(self, expression: Expression) -> bool:
        """Say whether a function was measured and has a valid spectrum."""
        return self.featurizer is None or self._known.get(expression) is not None

    def vectors(self, expressions: Sequence[Expression | None]) -> NDArray[np.float32]:
        """Return the vectors of valid functions, ``(n, m)``; None has the mean of all known ones.

        Raises:
            SamplerError: If a vector was dropped.
        """
        rows = np.empty((len(expressions), self.length or 0), dtype=np.float32)
        mean: NDArray[np.float32] | None = None
        for row, expression in zip(rows, expressions, strict=True):
            if expression is None:
                mean = self._mean() if mean is None else mean
                row[:] = mean
            else:
                row[:] = self._known[expression]
        return rows

    def drop(self, expressions: Iterable[Expression]) -> None:
        """Forget the vectors of functions, to save memory, but not that they are valid."""
        gone = np.empty(0, dtype=np.float32)
        for expression in expressions:
            if self._known.get(expression) is not None:
                self._known[expression] = gone

    def _mean(self) -> NDArray[np.float32]:
        vectors = [v for v in self._known.values() if v is not None and len(v)]
        mean: NDArray[np.float32] = np.mean(vectors, axis=0, dtype=np.float32)
        return mean

    def _vector(self, expression: Expression, feature: FisherFeature) -> NDArray[np.float32] | None:
        if feature.vector is None:
            return None
        # A store keeps float32: computed and stored features must give the same embedding.
        vector = np.asarray(feature.vector, dtype=np.float32)
        if self.length is None:
            self.length = len(vector)
        if vector.shape != (self.length,):
            raise SamplerError(
                f"the Fisher vector of {expression} has shape {vector.shape}, but others have "
                f"{(self.length,)}; give this network and these settings a task name of their own"
            )
        return vector
