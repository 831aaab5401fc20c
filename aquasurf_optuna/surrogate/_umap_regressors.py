"""The paper's other two regressors on the map: a random forest and support vectors (Section 5)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.ensemble import RandomForestRegressor
from sklearn.svm import SVR

from aquasurf_optuna.exceptions import SurrogateError
from aquasurf_optuna.surrogate._acquisition import Acquisition, check_acquisition
from aquasurf_optuna.surrogate._checks import is_integer, is_number
from aquasurf_optuna.surrogate._umap_plane import UmapSurrogate

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]


class UmapForestSurrogate(UmapSurrogate):
    """UMAP of the features, as for :class:`UmapKnnSurrogate`, and a random forest in its plane.

    The spread of a prediction is the standard deviation of the trees' predictions. Failures count
    as the worst value. Running candidates make no difference.

    Args:
        features: ``"both"``, ``"fisher"`` or ``"outputs"``: which features shape the embedding.
        n_trees: How many trees the forest has; all else is scikit-learn's default.
        acquisition: How :meth:`acquire` ranks: ``"greedy"``, ``"ucb"``, ``"ei"`` or ``"pi"``.
        exploration: 0 exploits; the higher, the more :meth:`acquire` explores.
        random_state: Seed of the layout and of the forest.

    Attributes:
        embedding_: float64 array ``(n, 2)``, set by :meth:`embed`.
    """

    def __init__(
        self,
        *,
        features: str = "both",
        n_trees: int = 100,
        acquisition: Acquisition = "greedy",
        exploration: float = 0.3,
        random_state: int = 0,
    ) -> None:
        self.features = features
        self.n_trees = n_trees
        self.acquisition = acquisition
        self.exploration = exploration
        self.random_state = random_state

    def _fitted(self, points: Floats, values: Floats, running: Floats) -> Any:
        del running
        forest = RandomForestRegressor(self.n_trees, random_state=self.random_state)
        return forest.fit(points, values)

    def _at(self, model: Any, points: Floats) -> tuple[Floats, Floats]:
        trees = np.array([tree.predict(points) for tree in model.estimators_], dtype=np.float64)
        return trees.mean(axis=0), trees.std(axis=0)

    def _check_parameters(self) -> None:
        super()._check_parameters()
        check_acquisition(type(self).__name__, self.acquisition, self.exploration)
        if not is_integer(self.n_trees) or self.n_trees < 1:
            raise SurrogateError(
                f"n_trees of {type(self).__name__} must be an integer of at least 1, "
                f"but got {self.n_trees!r}"
            )


class UmapSvrSurrogate(UmapSurrogate):
    """UMAP of the features, as for :class:`UmapKnnSurrogate`, and support vectors in its plane.

    Coordinates and values are standardised, so that the settings of the regression have a meaning;
    its kernel is scikit-learn's Gaussian one. Failures count as the worst value. Running candidates
    make no difference. No spread is known.

    Args:
        features: ``"both"``, ``"fisher"`` or ``"outputs"``: which features shape the embedding.
        penalty: Weight of the errors against smoothness (``C`` of scikit-learn), above 0.
        tolerance: Errors that cost nothing, in standard deviations of the values (``epsilon``).
        random_state: Seed of the layout.

    Attributes:
        embedding_: float64 array ``(n, 2)``, set by :meth:`embed`.
    """

    def __init__(
        self,
        *,
        features: str = "both",
        penalty: float = 1.0,
        tolerance: float = 0.1,
        random_state: int = 0,
    ) -> None:
        self.features = features
        self.penalty = penalty
        self.tolerance = tolerance
        self.random_state = random_state

    def _fitted(self, points: Floats, values: Floats, running: Floats) -> Any:
        del running
        centre, unit = float(values.mean()), float(values.std()) or 1.0
        # The plane is standardised as a whole, so two coordinates have a variance of 1 each.
        machine = SVR(C=self.penalty, epsilon=self.tolerance, gamma=0.5)
        return machine.fit(self._standardised(points), (values - centre) / unit), centre, unit

    def _at(self, model: Any, points: Floats) -> tuple[Floats, Floats]:
        machine, centre, unit = model
        mean = centre + unit * np.asarray(machine.predict(self._standardised(points)))
        return mean, np.full(len(mean), np.nan)

    def _check_parameters(self) -> None:
        super()._check_parameters()
        owner = type(self).__name__
        if not is_number(self.penalty) or not 0 < self.penalty < np.inf:
            raise SurrogateError(
                f"penalty of {owner} must be a finite number above 0, but got {self.penalty!r}"
            )
        if not is_number(self.tolerance) or not 0 <= self.tolerance < np.inf:
            raise SurrogateError(
                f"tolerance of {owner} must be a finite number, 0 or more, "
                f"but got {self.tolerance!r}"
            )
