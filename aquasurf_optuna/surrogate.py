"""Performance predicted from features: a UMAP embedding and k-nearest regression (Appendix D).

Symbols and shapes, with one row for each candidate function:

====================  ============  ==========================================================
``outputs``           ``(n, p)``    values f(x) on the fixed inputs; compared as in Equation 3
``fisher``            ``(n, m)``    spectra as vectors, compared as in Equation 2
``embedding_``        ``(n, 2)``    where the union of both neighbourhood graphs puts each row
``rows``, ``values``  ``(t,)``      what was observed: indices of rows, and a value for each
====================  ============  ==========================================================

Embedding is the slow step (seconds for 2,000 rows) and is done once for a pool; fitting and
predicting take milliseconds and follow every trial.
"""

from __future__ import annotations

import numbers
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from sklearn.base import BaseEstimator, clone, is_regressor
from sklearn.metrics import pairwise_distances
from sklearn.neighbors import KNeighborsRegressor

from aquasurf_optuna import _umap
from aquasurf_optuna.exceptions import SurrogateError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    Floats = NDArray[np.float64]

FEATURES = ("both", "fisher", "outputs")

#: Outputs are cut at this bound before they are compared. Beyond it a function explodes, and how
#: far it does so (exp(sinh(5)) is 10^32) would drown every difference between ordinary functions.
OUTPUT_BOUND = 20.0

_FISHER_GRAPH = _umap.GraphSettings(metric="manhattan", n_neighbors=3)
_OUTPUT_GRAPH = _umap.GraphSettings(metric="euclidean", n_neighbors=15)


class UmapKnnSurrogate(BaseEstimator):  # type: ignore[misc]  # scikit-learn has no type hints
    """UMAP of the features, and k-nearest regression in its plane (Section 4, Appendix D).

    Two neighbourhood graphs, one of the Fisher vectors (Manhattan distance, 3 neighbours) and one
    of the outputs (Euclidean distance, 15 neighbours), are united and laid out in two dimensions
    with ``min_dist=0.1``. A regressor then predicts the value of a row from its coordinates.

    Outputs are cut at ±20 first, and NaN counts as +20. Fewer than five rows, too few for UMAP, are
    laid out by classical scaling of their distances.

    Args:
        features: ``"both"``, ``"fisher"`` or ``"outputs"``: which features shape the embedding.
        n_neighbors: How many observations the k-nearest regression averages, weighted by inverse
            distance; all of them while there are fewer.
        regressor: A scikit-learn regressor in place of the k-nearest one. It is cloned, never
            fitted itself.
        random_state: Seed of the layout, from 0 to 2**32 - 1. The same seed and features give the
            same embedding.

    Attributes:
        embedding_: float64 array ``(n, 2)``, set by :meth:`embed`.
        regressor_: The fitted regressor, set by :meth:`fit`.

    Higher values being better is the caller's business.
    """

    def __init__(
        self,
        *,
        features: str = "both",
        n_neighbors: int = 3,
        regressor: Any = None,
        random_state: int = 0,
    ) -> None:
        self.features = features
        self.n_neighbors = n_neighbors
        self.regressor = regressor
        self.random_state = random_state

    def embed(self, outputs: ArrayLike | None = None, fisher: ArrayLike | None = None) -> Self:
        """Lay out the candidates in the plane; what was fitted before is forgotten.

        Args:
            outputs: Shape ``(n, p)``; any values, also infinite or NaN. Needed for ``"outputs"``
                and ``"both"``.
            fisher: Shape ``(n, m)``, finite. Needed for ``"fisher"`` and ``"both"``.

        Returns:
            The surrogate itself.

        Raises:
            SurrogateError: If a parameter or an array is not as described.
        """
        self._check_parameters()
        self._parts = self._checked_parts(outputs, fisher)
        self.embedding_ = self._layout()
        self.__dict__.pop("regressor_", None)
        return self

    def extend(self, outputs: ArrayLike | None = None, fisher: ArrayLike | None = None) -> Self:
        """Add rows to the embedding without moving the others, in milliseconds.

        Each new row takes the coordinates of the known row nearest to it: the sum of two UMAPs has
        no transform, and laying out everything anew takes seconds. Distances in the two features
        are divided by their medians before they are added.

        Args:
            outputs: Shape ``(k, p)``, the new rows, as for :meth:`embed`.
            fisher: Shape ``(k, m)``, the new rows, as for :meth:`embed`.

        Returns:
            The surrogate itself, with ``k`` more rows.

        Raises:
            SurrogateError: If nothing is embedded yet, or the arrays do not fit what is.
        """
        self._require("embedding_", "embed")
        new = self._checked_parts(outputs, fisher)
        for name, part in new.items():
            if part.shape[1] != self._parts[name].shape[1]:
                raise SurrogateError(
                    f"{name} must have {self._parts[name].shape[1]} columns, as in embed, "
                    f"but got {part.shape[1]}"
                )
        nearest = sum(_relative_distances(new[name], self._parts[name], name) for name in new)
        placed = self.embedding_[np.argmin(nearest, axis=1)]
        self._parts = {name: np.vstack([self._parts[name], new[name]]) for name in new}
        self.embedding_ = np.vstack([self.embedding_, placed])
        return self

    def fit(self, rows: ArrayLike, values: ArrayLike) -> Self:
        """Learn from the observations made so far.

        Args:
            rows: int array ``(t,)``, indices of embedded rows. A row that comes several times
                counts once, with the mean of its values.
            values: float array ``(t,)``, finite; at least one.

        Returns:
            The surrogate itself.

        Raises:
            SurrogateError: If nothing is embedded yet, or the arrays are not as described.
        """
        self._require("embedding_", "embed")
        self._check_parameters()
        indices = self._checked_rows(rows)
        observed = np.asarray(values, dtype=np.float64)
        if observed.shape != indices.shape or observed.size == 0:
            raise SurrogateError(
                f"rows and values must be equally long and hold at least one observation, but got "
                f"shapes {indices.shape} and {observed.shape}"
            )
        if not np.isfinite(observed).all():
            raise SurrogateError(
                f"values must be finite, but got {observed[~np.isfinite(observed)][0]} for row "
                f"{indices[~np.isfinite(observed)][0]}; replace failures by a bad value"
            )
        unique, inverse = np.unique(indices, return_inverse=True)
        means = np.bincount(inverse, weights=observed) / np.bincount(inverse)
        self.regressor_ = self._new_regressor(len(unique)).fit(self.embedding_[unique], means)
        return self

    def predict(self, rows: ArrayLike) -> Floats:
        """Predict the values of embedded rows.

        Args:
            rows: int array ``(c,)``, indices of embedded rows.

        Returns:
            float64 array ``(c,)``.

        Raises:
            SurrogateError: If nothing is fitted yet, or a row does not exist.
        """
        self._require("regressor_", "fit")
        indices = self._checked_rows(rows)
        if indices.size == 0:
            return np.zeros(0)
        return np.asarray(self.regressor_.predict(self.embedding_[indices]), dtype=np.float64)

    def _layout(self) -> Floats:
        graphs = {"fisher": _FISHER_GRAPH, "outputs": _OUTPUT_GRAPH}
        parts = [(self._parts[name], graphs[name]) for name in self._parts]
        return _umap.embed(parts, seed=self.random_state)

    def _new_regressor(self, n_observations: int) -> Any:
        if self.regressor is None:
            n_neighbors = min(self.n_neighbors, n_observations)
            return KNeighborsRegressor(n_neighbors=n_neighbors, weights="distance")
        regressor = clone(self.regressor)
        wanted = regressor.get_params(deep=False).get("n_neighbors")
        if wanted is not None and wanted > n_observations:
            regressor.set_params(n_neighbors=n_observations)
        return regressor

    def _checked_parts(
        self, outputs: ArrayLike | None, fisher: ArrayLike | None
    ) -> dict[str, Floats]:
        given = {"fisher": fisher, "outputs": outputs}
        needed = ("fisher", "outputs") if self.features == "both" else (self.features,)
        parts = {name: _checked_features(name, given[name], self.features) for name in needed}
        lengths = {name: len(part) for name, part in parts.items()}
        if len(set(lengths.values())) > 1:
            raise SurrogateError(f"the features must have equally many rows, but got {lengths}")
        return parts

    def _checked_rows(self, rows: ArrayLike) -> NDArray[np.intp]:
        indices = np.asarray(rows)
        if indices.size == 0:
            return np.zeros(0, dtype=np.intp)
        known = len(self.embedding_)
        if (
            indices.ndim != 1
            or not np.issubdtype(indices.dtype, np.integer)
            or indices.min() < 0
            or indices.max() >= known
        ):
            raise SurrogateError(
                f"rows must be a one-dimensional array of integers from 0 to {known - 1}, the "
                f"embedded rows, but got {_excerpt(indices)}"
            )
        return indices.astype(np.intp)

    def _check_parameters(self) -> None:
        owner = type(self).__name__
        if self.features not in FEATURES:
            raise SurrogateError(
                f"the features of {owner} must be one of {FEATURES}, but got {self.features!r}"
            )
        if not _is_integer(self.n_neighbors) or self.n_neighbors < 1:
            raise SurrogateError(
                f"n_neighbors of {owner} must be an integer of at least 1, "
                f"but got {self.n_neighbors!r}"
            )
        if not _is_integer(self.random_state) or not 0 <= self.random_state < 2**32:
            raise SurrogateError(
                f"random_state of {owner} must be an integer from 0 to 2**32 - 1, "
                f"but got {self.random_state!r}"
            )
        if self.regressor is not None and not _is_regressor(self.regressor):
            raise SurrogateError(
                f"regressor of {owner} must be a scikit-learn regressor or None, "
                f"but got {self.regressor!r}"
            )

    def _require(self, attribute: str, method: str) -> None:
        if not hasattr(self, attribute):
            raise SurrogateError(f"call {method}() of this {type(self).__name__} first")


def _checked_features(name: str, features: ArrayLike | None, setting: str) -> Floats:
    if features is None:
        raise SurrogateError(f"features={setting!r} needs {name}, but got None")
    array = np.asarray(features, dtype=np.float64)
    if array.ndim != 2 or 0 in array.shape:
        raise SurrogateError(
            f"{name} must be a non-empty array of shape (rows, features), but got {array.shape}"
        )
    if name == "outputs":
        bounded = np.nan_to_num(array, nan=OUTPUT_BOUND, posinf=OUTPUT_BOUND, neginf=-OUTPUT_BOUND)
        return np.clip(bounded, -OUTPUT_BOUND, OUTPUT_BOUND)
    if not np.isfinite(array).all():
        row = int(np.argwhere(~np.isfinite(array))[0, 0])
        raise SurrogateError(
            f"{name} must be finite, but row {row} is not; leave candidates with an invalid "
            "spectrum out"
        )
    return array


def _relative_distances(new: Floats, known: Floats, name: str) -> Floats:
    metric = (_FISHER_GRAPH if name == "fisher" else _OUTPUT_GRAPH).metric
    distances: Floats = pairwise_distances(new, known, metric=metric)
    return distances / max(float(np.median(distances)), np.finfo(np.float64).tiny)


def _is_regressor(value: object) -> bool:
    return isinstance(value, BaseEstimator) and is_regressor(value)


def _is_integer(value: object) -> bool:
    return isinstance(value, numbers.Integral) and not isinstance(value, bool)


def _excerpt(array: NDArray[Any]) -> str:
    return np.array2string(array, threshold=10)
