"""Surrogates made of others, which share the features of the candidates with them."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Any

from sklearn.base import clone

from aquasurf_optuna.exceptions import SurrogateError
from aquasurf_optuna.surrogate._base import COLUMN_BYTES, Surrogate
from aquasurf_optuna.surrogate._checks import needed_features
from aquasurf_optuna.surrogate._distances import DistanceColumns
from aquasurf_optuna.surrogate._observations import Observations

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Parts = dict[str, NDArray[np.float32]]


class WrappingSurrogate(Surrogate):
    """A surrogate that has members; it needs the features that they need, and keeps them once.

    Subclasses implement :meth:`_settings`, and fit ``members_`` in :meth:`_learn`.

    Attributes:
        members_: Clones of the members, which know the candidates; set by :meth:`embed`.
    """

    members_: list[Surrogate]

    @property
    def features(self) -> str:  # type: ignore[override]  # the members' settings decide it
        """What the members predict from together: ``"both"``, ``"fisher"`` or ``"outputs"``."""
        needed = {name for m in self._members() for name in needed_features(m.features)}
        return "both" if len(needed) > 1 else needed.pop()

    @property
    def output_bound(self) -> float | None:  # type: ignore[override]  # as for features
        """Where the members cut outputs."""
        return self._members()[0].output_bound

    @abstractmethod
    def _settings(self) -> Sequence[Surrogate]:
        """Return the members as the constructor got them."""

    def _members(self) -> list[Surrogate]:
        owner = type(self).__name__
        try:
            members = list(self._settings())
        except TypeError:
            members = []
        wrong = [member for member in members if not isinstance(member, Surrogate)]
        if wrong or not members:
            got = repr(wrong[0]) if wrong else "none"
            raise SurrogateError(f"{owner} is made of one Surrogate at least, but got {got}")
        return members

    def _check_parameters(self) -> None:
        members = self._members()
        for member in members:
            member._check_parameters()
        if len(bounds := {member.output_bound for member in members}) > 1:
            raise SurrogateError(
                f"the members of {type(self).__name__} must have one output_bound, but got {bounds}"
            )

    def _place(self) -> None:
        self.members_ = [clone(member) for member in self._members()]
        for member in self.members_:
            member._take(_needed(self._parts, member))
        self._measure_with(DistanceColumns(COLUMN_BYTES))

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Let a copy's members share what they measure, as those of the original do."""
        super().__setstate__(state)
        if "members_" in state:
            self._measure_with(DistanceColumns(COLUMN_BYTES))

    def _measure_with(self, columns: DistanceColumns) -> None:
        super()._measure_with(columns)
        for member in self.members_:
            member._measure_with(columns)

    def _placed_more(self, new: Parts) -> None:
        """Nothing: the members do it in :meth:`_join`."""

    def _join(self, new: Parts, joined: Parts) -> None:
        for member in self.members_:
            member._join(_needed(new, member), _needed(joined, member))
        super()._join(new, joined)

    def _fit_member(self, member: Surrogate, observations: Observations) -> None:
        member.fit(
            observations.rows,
            observations.values,
            running=observations.running,
            others=[(other.rows, other.values) for other in observations.others],
        )


def _needed(parts: Parts, member: Surrogate) -> Parts:
    return {name: parts[name] for name in needed_features(member.features)}
