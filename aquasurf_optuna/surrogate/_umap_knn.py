"""Performance predicted on a map: a UMAP embedding and k-nearest regression (Appendix D)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.base import BaseEstimator, clone, is_regressor
from sklearn.neighbors import KNeighborsRegressor

from aquasurf_optuna.exceptions import SurrogateError
from aquasurf_optuna.surrogate._checks import is_integer
from aquasurf_optuna.surrogate._umap_plane import UmapSurrogate

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

_LEAST = {"n_neighbors": 1, "fisher_neighbors": 2, "output_neighbors": 2, "n_components": 1}


class UmapKnnSurrogate(UmapSurrogate):
    """UMAP of the features, and k-nearest regression in its plane (Section 4, Appendix D).

    Two neighbourhood graphs, one of the Fisher vectors (Manhattan distance, 3 neighbours) and one
    of the outputs (Euclidean distance, 15 neighbours), are united and laid out in two dimensions
    with ``min_dist=0.1``. A regressor then predicts the value of a row from its coordinates.

    Outputs are cut at ±20 first, and NaN counts as +20. Fewer than five rows, too few for UMAP, are
    laid out by classical scaling of their distances. Failures count as the worst value. Running
    candidates make no difference. No spread is known.

    Args:
        features: ``"both"``, ``"fisher"`` or ``"outputs"``: which features shape the embedding.
        n_neighbors: How many observations the k-nearest regression averages, weighted by inverse
            distance; all of them while there are fewer.
        regressor: A scikit-learn regressor in place of the k-nearest one. It is cloned, never
            fitted itself.
        fisher_neighbors: Size of a neighbourhood in the graph of the Fisher vectors, the row itself
            included, 2 or more.
        output_neighbors: The same in the graph of the outputs.
        n_components: Number of dimensions of the layout, 1 or more.
        random_state: Seed of the layout, from 0 to 2**32 - 1. The same seed and features give the
            same embedding.

    Attributes:
        embedding_: float64 array ``(n, n_components)``, set by :meth:`embed`.
        regressor_: The fitted regressor, set by :meth:`fit`.

    Higher values being better is the caller's business.
    """

    def __init__(
        self,
        *,
        features: str = "both",
        n_neighbors: int = 3,
        regressor: Any = None,
        fisher_neighbors: int = 3,
        output_neighbors: int = 15,
        n_components: int = 2,
        random_state: int = 0,
    ) -> None:
        self.features = features
        self.n_neighbors = n_neighbors
        self.regressor = regressor
        self.fisher_neighbors = fisher_neighbors
        self.output_neighbors = output_neighbors
        self.n_components = n_components
        self.random_state = random_state

    @property
    def regressor_(self) -> Any:
        """The fitted regressor; None where there are only observations of other studies."""
        return self.model_

    def _fitted(self, points: Floats, values: Floats, running: Floats) -> Any:
        del running
        return self._new_regressor(len(points)).fit(points, values)

    def _at(self, model: Any, points: Floats) -> tuple[Floats, Floats]:
        mean = np.asarray(model.predict(points), dtype=np.float64)
        return mean, np.full(len(mean), np.nan)

    def _new_regressor(self, n_observations: int) -> Any:
        if self.regressor is None:
            n_neighbors = min(self.n_neighbors, n_observations)
            return KNeighborsRegressor(n_neighbors=n_neighbors, weights="distance")
        regressor = clone(self.regressor)
        wanted = regressor.get_params(deep=False).get("n_neighbors")
        if wanted is not None and wanted > n_observations:
            regressor.set_params(n_neighbors=n_observations)
        return regressor

    def _check_parameters(self) -> None:
        super()._check_parameters()
        owner = type(self).__name__
        for name, least in _LEAST.items():
            value = getattr(self, name)
            if not is_integer(value) or value < least:
                raise SurrogateError(
                    f"{name} of {owner} must be an integer of at least {least}, but got {value!r}"
                )
        if self.regressor is not None and not _is_regressor(self.regressor):
            raise SurrogateError(
                f"regressor of {owner} must be a scikit-learn regressor or None, "
                f"but got {self.regressor!r}"
            )


def _is_regressor(value: object) -> bool:
    return isinstance(value, BaseEstimator) and is_regressor(value)
