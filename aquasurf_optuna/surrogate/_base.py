"""What every surrogate is: candidates known by features, observations, predictions, a ranking.

Symbols and shapes, with one row for each candidate:

=====================  ============  =========================================================
``outputs``            ``(n, p)``    values f(x) on the fixed inputs; compared as in Equation 3
``fisher``             ``(n, m)``    spectra as vectors, compared as in Equation 2
``rows``, ``values``   ``(t,)``      what was observed: indices of rows, and a value for each
=====================  ============  =========================================================

Candidates that are several functions at once, one for each place of a network, have the features of
the functions one after another in their row (the paper's proposal, Appendix F).

A surrogate is used in this order: ``embed`` once, ``extend`` where candidates join, then after each
trial ``fit`` and ``acquire`` (or ``predict``). Values are better the higher they are. A value of
minus infinity says that the candidate failed to train.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, Self, overload

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.metrics import pairwise_distances

from aquasurf_optuna.exceptions import SurrogateError
from aquasurf_optuna.surrogate._checks import (
    FEATURES,
    OUTPUT_BOUND,
    checked_features,
    checked_rows,
    checked_values,
    is_integer,
    is_number,
    needed_features,
)
from aquasurf_optuna.surrogate._distances import DistanceColumns, distance_column
from aquasurf_optuna.surrogate._growing import GrowingRows
from aquasurf_optuna.surrogate._observations import Observations, one_value_a_row

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    Floats = NDArray[np.float64]
    Indices = NDArray[np.intp]

#: Distances to what was tried are kept, as far as they fit in here.
COLUMN_BYTES = 800_000_000

METRICS = {"fisher": "manhattan", "outputs": "euclidean"}
"""The distances of Equations 2 and 3, up to a factor."""


class Surrogate(BaseEstimator, ABC):  # type: ignore[misc]  # scikit-learn has no type hints
    """Predicts the value of activation functions from their features.

    As in scikit-learn, the constructor only stores, ``clone`` copies the settings, and what is
    learned ends in an underscore. Subclasses have the settings `features` and `random_state` (those
    made of other surrogates leave both to them), and implement :meth:`_place`,
    :meth:`_placed_more`, :meth:`_learn` and :meth:`_predicted`.

    Attributes:
        n_rows_: How many candidates there are, set by :meth:`embed`.
        observations_: What was observed, set by :meth:`fit`.
    """

    features: str
    random_state: int
    n_rows_: int
    observations_: Observations
    _parts: dict[str, NDArray[np.float32]]
    _columns: DistanceColumns
    _rooms: dict[str, GrowingRows]

    _boldness = 1.0

    #: Outputs beyond this are cut.
    output_bound: float | None = OUTPUT_BOUND

    def embed(self, outputs: ArrayLike | None = None, fisher: ArrayLike | None = None) -> Self:
        """Take in the candidates; what was known before is forgotten.

        Args:
            outputs: Shape ``(n, p)``; any values, also infinite or NaN. Needed for ``"outputs"``
                and ``"both"``. Kept as float32, cut at ±20, with NaN as +20.
            fisher: Shape ``(n, m)``, finite. Needed for ``"fisher"`` and ``"both"``. Kept as
                float32.

        Returns:
            The surrogate itself.

        Raises:
            SurrogateError: If a parameter or an array is not as described.
        """
        self._check_parameters()
        parts = self._checked_parts(outputs, fisher)
        self._rooms = {name: GrowingRows() for name in parts}
        self._take({name: self._rooms[name].joined(part[:0], part) for name, part in parts.items()})
        return self

    def extend(self, outputs: ArrayLike | None = None, fisher: ArrayLike | None = None) -> Self:
        """Take in more candidates, quickly; the others stay as they are.

        Args:
            outputs: Shape ``(k, p)``, the new rows, as for :meth:`embed`.
            fisher: Shape ``(k, m)``, the new rows, as for :meth:`embed`.

        Returns:
            The surrogate itself, with ``k`` more rows.

        Raises:
            SurrogateError: If nothing is embedded yet, or the arrays do not fit what is.
        """
        self._require("n_rows_", "embed")
        new = self._checked_parts(outputs, fisher)
        for name, part in new.items():
            if part.shape[1] != self._parts[name].shape[1]:
                raise SurrogateError(
                    f"{name} must have {self._parts[name].shape[1]} columns, as in embed, "
                    f"but got {part.shape[1]}"
                )
        if not hasattr(self, "_rooms"):
            self._rooms = {name: GrowingRows() for name in self._parts}
        self._join(
            new, {name: self._rooms[name].joined(self._parts[name], new[name]) for name in new}
        )
        return self

    def renew(self) -> Self:
        """Place all candidates anew, the newcomers with the others; observations are forgotten.

        Returns:
            The surrogate itself.

        Raises:
            SurrogateError: If nothing is embedded yet.
        """
        self._require("n_rows_", "embed")
        self._take(self._parts)
        return self

    def fit(
        self,
        rows: ArrayLike,
        values: ArrayLike,
        *,
        running: ArrayLike = (),
        others: Sequence[tuple[ArrayLike, ArrayLike]] = (),
    ) -> Self:
        """Learn from the observations made so far.

        Args:
            rows: int array ``(t,)``, indices of embedded rows. A row that comes several times
                counts once, with the mean of its values.
            values: float array ``(t,)``; minus infinity for a failure. At least one, unless there
                are `others`.
            running: int array ``(r,)``, rows that are being tried: new proposals keep away from
                them as far as the surrogate can.
            others: Rows and values of other studies, each on a scale of its own.

        Returns:
            The surrogate itself.

        Raises:
            SurrogateError: If nothing is embedded yet, or the arrays are not as described.
        """
        self._require("n_rows_", "embed")
        self._check_parameters()
        elsewhere = tuple(self._observed(*other) for other in others)
        own = self._observed(rows, values, allow_none=bool(elsewhere))
        pending = np.unique(self._checked_rows(running))
        self.observations_ = Observations(own.rows, own.values, pending, elsewhere)
        self._learn(self.observations_)
        return self

    @overload
    def predict(self, rows: ArrayLike, *, return_std: Literal[False] = ...) -> Floats: ...

    @overload
    def predict(self, rows: ArrayLike, *, return_std: Literal[True]) -> tuple[Floats, Floats]: ...

    def predict(
        self, rows: ArrayLike, *, return_std: bool = False
    ) -> Floats | tuple[Floats, Floats]:
        """Predict the values of embedded rows.

        Args:
            rows: int array ``(c,)``, indices of embedded rows.
            return_std: Whether to return standard deviations too.

        Returns:
            float64 array ``(c,)`` in the units of the values, or two of them. A surrogate that
            knows no spread gives NaN for it.

        Raises:
            SurrogateError: If nothing is fitted yet, or a row does not exist.
        """
        self._require("observations_", "fit")
        mean, std = self._predicted(self._checked_rows(rows))
        return (mean, std) if return_std else mean

    def acquire(self, rows: ArrayLike, *, boldness: float = 1.0) -> Floats:
        """Say how much each row is worth trying next; the highest comes first.

        Only the order within one fit has a meaning. Unless a surrogate has a rule of its own, it is
        the predicted value.

        Args:
            rows: int array ``(c,)``, indices of embedded rows.
            boldness: A factor on how much is explored, by surrogates that explore: 0 exploits.

        Returns:
            float64 array ``(c,)``.

        Raises:
            SurrogateError: If nothing is fitted yet, a row does not exist, or `boldness` is no
                finite number from 0 on.
        """
        self._require("observations_", "fit")
        if not is_number(boldness) or not 0 <= boldness < np.inf:
            raise SurrogateError(
                f"boldness must be a finite number, 0 or more, but got {boldness!r}"
            )
        self._boldness = float(boldness)
        return self._acquired(self._checked_rows(rows))

    def distances(self, rows: ArrayLike, to: ArrayLike) -> Floats:
        """Measure how unlike rows are: the mean over the features of their relative distance.

        A relative distance is that of Equation 2 or 3 divided by its median over a sample of the
        embedded rows, so that 1 is the usual distance of two candidates.

        Args:
            rows: int array ``(c,)``.
            to: int array ``(t,)``.

        Returns:
            float64 array ``(c, t)``.

        Raises:
            SurrogateError: If a row does not exist.
        """
        self._require("n_rows_", "embed")
        first, second = self._checked_rows(rows), self._checked_rows(to)
        relative = np.zeros((len(first), len(second)))
        for name, scale in self._scales().items():
            relative += self._measured(name, first, second) / (scale * len(self._parts))
        return relative

    def _measured(self, name: str, rows: Indices, to: Indices) -> Floats:
        """Distances ``(c, t)`` in one feature; those of many rows are kept for the next time."""
        part = self._parts[name]
        measured = np.empty((len(rows), len(to)))
        if len(rows) < len(to):
            few = part[to]
            for i, row in enumerate(rows):
                measured[i] = distance_column(name, few, part[row])
            return measured
        if not hasattr(self, "_columns"):
            self._columns = DistanceColumns(COLUMN_BYTES)
        columns = self._columns.of({name: part}, to.tolist())[name]
        for j, column in enumerate(columns):
            measured[:, j] = column[rows]
        return measured

    def _measure_with(self, columns: DistanceColumns) -> None:
        """Keep measured distances where others that share the features keep theirs."""
        self._columns = columns

    def __getstate__(self) -> dict[str, Any]:
        """Leave out distances, which are measured again when they are needed."""
        state = dict(super().__getstate__())
        if "_columns" in state:
            state["_columns"] = DistanceColumns(COLUMN_BYTES)
        return state

    def known_fisher(self, rows: ArrayLike) -> NDArray[np.float32] | None:
        """Return the Fisher vectors of embedded rows, ``(c, m)``; None if it does not know any.

        Raises:
            SurrogateError: If nothing is embedded yet, or a row does not exist.
        """
        self._require("n_rows_", "embed")
        part = self._parts.get("fisher")
        return None if part is None else part[self._checked_rows(rows)]

    def _take(self, parts: dict[str, NDArray[np.float32]]) -> None:
        """Begin with checked features, which are kept as they come: surrogates may share them."""
        self._parts = parts
        self.n_rows_ = len(next(iter(parts.values())))
        for learned in ("observations_", "_columns"):
            self.__dict__.pop(learned, None)
        self._measure_scales()
        self._place()

    def _join(
        self, new: dict[str, NDArray[np.float32]], joined: dict[str, NDArray[np.float32]]
    ) -> None:
        """Add checked features of new candidates; `joined` are those of all, the new ones last."""
        self._placed_more(new)
        self._parts = joined
        self.n_rows_ += len(next(iter(new.values())))
        if self.n_rows_ >= 2 * self._rows_of_scales:
            self._measure_scales()

    @abstractmethod
    def _place(self) -> None:
        """Do what is to be done once for the candidates in ``_parts``."""

    @abstractmethod
    def _placed_more(self, new: dict[str, NDArray[np.float32]]) -> None:
        """Do the same for new candidates; ``_parts`` and ``n_rows_`` are still without them."""

    @abstractmethod
    def _learn(self, observations: Observations) -> None:
        """Fit to observations."""

    @abstractmethod
    def _predicted(self, rows: Indices) -> tuple[Floats, Floats]:
        """Return means and standard deviations, each ``(c,)``."""

    def _acquired(self, rows: Indices) -> Floats:
        return self._predicted(rows)[0]

    def _scales(self) -> dict[str, float]:
        """Median distance of a feature, over pairs of at most 100 rows spread over all.

        They are those of the candidates embedded first, until there are twice as many.
        """
        return self._scales_known

    def _measure_scales(self) -> None:
        self._rows_of_scales = self.n_rows_
        chosen = self._rows_for_scales()
        self._scales_known = {
            name: usual_distance(pairwise_distances(part[chosen], metric=METRICS[name]))
            for name, part in self._parts.items()
        }

    def _rows_for_scales(self) -> Indices:
        return np.unique(np.linspace(0, self.n_rows_ - 1, 100).astype(np.intp))

    def _observed(
        self, rows: ArrayLike, values: ArrayLike, *, allow_none: bool = False
    ) -> Observations:
        indices = self._checked_rows(rows)
        observed = checked_values(values, indices, allow_none=allow_none)
        nobody = np.zeros(0, dtype=np.intp)
        return Observations(*one_value_a_row(indices, observed), nobody)

    def _checked_rows(self, rows: ArrayLike) -> Indices:
        return checked_rows(rows, self.n_rows_)

    def _checked_parts(
        self, outputs: ArrayLike | None, fisher: ArrayLike | None
    ) -> dict[str, NDArray[np.float32]]:
        given = {"fisher": fisher, "outputs": outputs}
        parts = {
            name: checked_features(
                name, given[name], setting=self.features, bound=self.output_bound
            )
            for name in needed_features(self.features)
        }
        lengths = {name: len(part) for name, part in parts.items()}
        if len(set(lengths.values())) > 1:
            raise SurrogateError(f"the features must have equally many rows, but got {lengths}")
        return parts

    def _check_parameters(self) -> None:
        owner = type(self).__name__
        if self.features not in FEATURES:
            raise SurrogateError(
                f"the features of {owner} must be one of {FEATURES}, but got {self.features!r}"
            )
        if not is_integer(self.random_state) or not 0 <= self.random_state < 2**32:
            raise SurrogateError(
                f"random_state of {owner} must be an integer from 0 to 2**32 - 1, "
                f"but got {self.random_state!r}"
            )

    def _require(self, attribute: str, method: str) -> None:
        if not hasattr(self, attribute):
            raise SurrogateError(f"call {method}() of this {type(self).__name__} first")


def usual_distance(distances: NDArray[np.floating]) -> float:
    """Return the median of the distances of n rows, ``(n, n)``, or another unit that is not 0."""
    apart = distances[np.triu_indices(len(distances), 1)]
    middle = float(np.median(apart)) if len(apart) else 0.0
    return middle if middle > 0 else float(apart.max(initial=0.0)) or 1.0
