"""What a feature is, and what is asked of a store and of a featurizer by those who fill it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray


class StoppedError(Exception):
    """Work was given up on request."""


@dataclasses.dataclass(frozen=True, eq=False)
class FisherFeature:
    """The Fisher feature of one activation function in one task.

    Attributes:
        vector: ``(n,)``, float32, or None if the function is invalid.
        reason: Why it is invalid, or None.
    """

    vector: NDArray[np.float32] | None
    reason: str | None

    @property
    def valid(self) -> bool:
        """Whether there is a vector."""
        return self.vector is not None


class FeatureStoreLike(Protocol):
    """What :meth:`FisherFeaturizer.many` needs of a store."""

    def get(self, task: str, expression: str) -> FisherFeature | None:
        """Return a feature kept earlier, or None."""

    def put(self, task: str, expression: str, feature: FisherFeature) -> object:
        """Keep a feature."""


class ClaimLike(Protocol):
    """That an owner is at work on a function; compared by value."""

    @property
    def expression(self) -> str:
        """Text of the function."""

    @property
    def owner(self) -> str:
        """Who is at work."""

    @property
    def beat(self) -> int:
        """How often the owner has shown that it lives."""


@runtime_checkable
class SharedStore(Protocol):
    """A store in which several processes divide functions; see :class:`aquasurf_optuna.store`."""

    def get(self, task: str, expression: str) -> FisherFeature | None:
        """Return a feature kept earlier, or None."""

    def known(self, task: str, expressions: Sequence[str]) -> dict[str, FisherFeature]:
        """Return the features kept of these functions."""

    def put(
        self,
        task: str,
        expression: str,
        feature: FisherFeature,
        *,
        seconds: float | None = None,
        owner: str | None = None,
    ) -> bool:
        """Keep a feature and end its claim; with an owner, only if the claim is still the owner's.

        Returns whether it was kept.
        """

    def claim(
        self, task: str, expressions: Sequence[str], owner: str, *, limit: int | None = None
    ) -> list[str]:
        """Claim functions that have neither a feature nor a claim, and return them."""

    def beat(self, owner: str) -> object:
        """Show that an owner lives."""

    def claims(self, task: str) -> Mapping[str, ClaimLike]:
        """Return the open claims."""

    def take_over(self, task: str, expression: str, seen: Any, owner: str) -> bool:
        """Make a claim another owner's, if it is still as it was seen."""

    def release(self, owner: str) -> int:
        """End the claims of an owner."""


class Featurizer(Protocol):
    """What measures a function; picklable."""

    @property
    def task(self) -> str:
        """Name under which a store keeps the features."""

    def __call__(self, expression: str) -> FisherFeature:
        """Measure one function."""


class FeatureSource(Featurizer, Protocol):
    """What a sampler takes features from: a featurizer, or a table that knows them already."""

    def many(
        self,
        expressions: Sequence[Any],
        *,
        store: Any = None,
        n_jobs: int = 1,
        progress: Callable[[int, int], None] | None = None,
    ) -> list[FisherFeature]:
        """Return the features of several functions, in their order."""
