"""The pool of candidate functions: drawn, measured, embedded and ranked.

A pool is drawn at random from the classes of a catalogue, without those that are constant or not
finite. Its Fisher features are computed once, and candidates whose spectrum is invalid are never
proposed (Section 3). Functions that were tried but not drawn join it, so that their values count.

Classes are numbers of the catalogue throughout; rows are those of the surrogate's embedding.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Protocol, Self

import numpy as np

from aquasurf_optuna.exceptions import SamplerError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from numpy.typing import ArrayLike, NDArray

    from aquasurf_optuna.catalogue import Catalogue
    from aquasurf_optuna.expression import Expression
    from aquasurf_optuna.features.featurizer import FisherFeature, FisherFeaturizer
    from aquasurf_optuna.store import FeatureStore

    Progress = Callable[[int, int], None]

# Newcomers are placed beside their nearest neighbour, which is quick, until they are one in twenty;
# then everything is laid out anew, which takes seconds for a large pool.
_NEWCOMERS_PER_LAYOUT = 20


class Surrogate(Protocol):
    """What the sampler asks of a surrogate; see :class:`aquasurf_optuna.UmapKnnSurrogate`."""

    embedding_: NDArray[np.float64]

    def embed(self, outputs: ArrayLike | None = None, fisher: ArrayLike | None = None) -> Self:
        """Lay out all rows."""

    def extend(self, outputs: ArrayLike | None = None, fisher: ArrayLike | None = None) -> Self:
        """Add rows."""

    def fit(self, rows: ArrayLike, values: ArrayLike) -> Self:
        """Learn from observations."""

    def predict(self, rows: ArrayLike) -> NDArray[np.float64]:
        """Predict values, higher being better."""


class FisherSource:
    """Fisher features of functions, each computed once and kept as float32.

    Args:
        featurizer: Computes them; None where a study does without.
        store: Keeps them between runs, or None.
    """

    def __init__(self, featurizer: FisherFeaturizer | None, store: FeatureStore | None) -> None:
        self._featurizer = featurizer
        self._store = store
        self._known: dict[Expression, NDArray[np.float32] | None] = {}

    @property
    def in_use(self) -> bool:
        """Whether there are Fisher features at all."""
        return self._featurizer is not None

    def missing(self, expressions: Iterable[Expression]) -> list[Expression]:
        """Return those of `expressions` that are not measured yet, each once."""
        if self._featurizer is None:
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
        if self._featurizer is None or not missing:
            return
        features = self._featurizer.many(
            missing, store=self._store, n_jobs=n_jobs, progress=progress
        )
        for expression, feature in zip(missing, features, strict=True):
            self._known[expression] = self._vector(expression, feature)

    def vector(self, expression: Expression) -> NDArray[np.float32] | None:
        """Return the vector of a measured function, or None if its spectrum is invalid."""
        return self._known[expression]

    def _vector(self, expression: Expression, feature: FisherFeature) -> NDArray[np.float32] | None:
        if feature.vector is None:
            return None
        # A store keeps float32: computed and stored features must give the same embedding.
        vector = np.asarray(feature.vector, dtype=np.float32)
        first = next((known for known in self._known.values() if known is not None), vector)
        if vector.shape != first.shape:
            raise SamplerError(
                f"the Fisher vector of {expression} has shape {vector.shape}, but others have "
                f"{first.shape}; give this network and these settings a task name of their own"
            )
        return vector


class CandidatePool:
    """The candidates of one activation.

    Args:
        catalogue: Classes of the space.
        source: Fisher features.
        surrogate: Fitted here; not to be shared with another pool.
        size: How many classes each draw takes, valid or not.
        seed: Seed of the draws.
        always: Classes that join the pool at once: the baselines.
    """

    def __init__(
        self,
        catalogue: Catalogue,
        *,
        source: FisherSource,
        surrogate: Surrogate,
        size: int,
        seed: int,
        always: Sequence[int] = (),
    ) -> None:
        self._catalogue = catalogue
        self._source = source
        self._surrogate = surrogate
        self._size = size
        self._undrawn: list[int] = catalogue.shuffled(seed)
        self._candidates: dict[int, None] = dict.fromkeys(always)
        self._vectors: dict[int, NDArray[np.float32] | None] = {}
        self._rows: dict[int, int] = {}
        self._n_newcomers = 0
        self.grow()

    def grow(self) -> bool:
        """Draw `size` more candidates; return False if there are none left."""
        drawn, self._undrawn = self._undrawn[: self._size], self._undrawn[self._size :]
        new = [class_id for class_id in drawn if class_id not in self._candidates]
        self._candidates.update(dict.fromkeys(new))
        self._rows.clear()
        return bool(drawn)

    def missing(self) -> list[Expression]:
        """Return the candidates whose Fisher features are still to be computed."""
        return self._source.missing(self._expressions(self._candidates))

    def embedded(self) -> tuple[list[int], NDArray[np.float64]]:
        """Return the embedded classes and their coordinates ``(n, 2)``, embedding if need be."""
        self._embed(())
        return list(self._rows), np.array(self._surrogate.embedding_, dtype=np.float64)

    def ranked(self, values: Mapping[int, float], taken: frozenset[int]) -> list[int]:
        """Return the free candidates, the best predicted first; equals in the order drawn.

        Args:
            values: Value of each class tried, higher being better.
            taken: Classes not to propose.

        Returns:
            Classes; empty when the whole space is taken or invalid.
        """
        free = self._free(taken)
        while not free and self.grow():
            free = self._free(taken)
        if not free or not values:
            return free
        self._embed(values)
        predicted = self._predicted(free, values)
        if predicted is None:
            return free
        return [free[place] for place in np.argsort(-predicted, kind="stable")]

    def prediction(self, class_id: int, values: Mapping[int, float]) -> float | None:
        """Return the predicted value of one class, which need not be in the pool.

        Nothing that is proposed later depends on whether it was asked for.

        Args:
            class_id: The class.
            values: Value of each class tried, higher being better.

        Returns:
            The value, or None if the class has no valid spectrum, or none of those tried has.
        """
        if not self._valid([class_id]):
            return None
        classes = [class_id, *self._valid(values)]
        pool = self if self._rows.keys() >= set(classes) else self._copy()
        pool._embed(classes)
        predicted = pool._predicted([class_id], values)
        return None if predicted is None else float(predicted[0])

    def remaining(self, taken: frozenset[int]) -> list[int]:
        """Return the free classes that are not drawn yet, in the order in which they would be."""
        return [c for c in self._undrawn if c not in taken and c not in self._candidates]

    def _predicted(
        self, classes: Sequence[int], values: Mapping[int, float]
    ) -> NDArray[np.float64] | None:
        """Fit to what is embedded, and predict; None where nothing tried is embedded."""
        observed = [class_id for class_id in values if class_id in self._rows]
        if not observed:
            return None
        self._surrogate.fit(
            [self._rows[class_id] for class_id in observed],
            [values[class_id] for class_id in observed],
        )
        return self._surrogate.predict([self._rows[class_id] for class_id in classes])

    def _copy(self) -> CandidatePool:
        """Return a pool that can embed more classes; the features known are shared with it."""
        pool = copy.copy(self)
        pool._rows = dict(self._rows)
        pool._surrogate = copy.deepcopy(self._surrogate)
        return pool

    def _free(self, taken: frozenset[int]) -> list[int]:
        return [c for c in self._valid(self._candidates) if c not in taken]

    def _valid(self, classes: Iterable[int]) -> list[int]:
        """Return the classes whose spectrum is valid, computing what is missing."""
        chosen = list(classes)
        if not self._source.in_use:
            return chosen
        missing = [c for c in chosen if c not in self._vectors]
        expressions = self._expressions(missing)
        self._source.measure(expressions)
        self._vectors.update(zip(missing, map(self._source.vector, expressions), strict=True))
        return [c for c in chosen if self._vectors[c] is not None]

    def _embed(self, tried: Iterable[int]) -> None:
        """Bring the embedding up to date, the classes `tried` included."""
        newcomers = self._valid(c for c in tried if c not in self._rows)
        if self._rows and not newcomers:
            return
        total = len(self._rows) + len(newcomers)
        few = (self._n_newcomers + len(newcomers)) * _NEWCOMERS_PER_LAYOUT <= total
        if self._rows and few:
            self._n_newcomers += len(newcomers)
            self._surrogate.extend(*self._features(newcomers))
            self._rows.update(zip(newcomers, range(len(self._rows), total), strict=True))
            return
        rows = dict.fromkeys([*self._valid(self._candidates), *self._rows, *newcomers])
        if rows:
            self._surrogate.embed(*self._features(list(rows)))
        self._rows = {class_id: row for row, class_id in enumerate(rows)}
        self._n_newcomers = 0

    def _features(
        self, classes: Sequence[int]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64] | None]:
        outputs = self._catalogue.outputs_of(classes)
        if not self._source.in_use:
            return outputs, None
        return outputs, np.array([self._vectors[c] for c in classes], dtype=np.float64)

    def _expressions(self, classes: Iterable[int]) -> list[Expression]:
        return [self._catalogue[class_id] for class_id in classes]
