"""Candidates with their features, placed in a surrogate.

A candidate is a combination: one class for each site, or None where a trial left a site out, which
then has the mean features of the functions known there. With several sites the features stand one
after another (Appendix F). Rows are those of the surrogate.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from aquasurf_optuna._history import Combination
    from aquasurf_optuna._site import Site
    from aquasurf_optuna.expression import Expression
    from aquasurf_optuna.surrogate import Surrogate

# Newcomers are placed beside what is there, which is quick, until they are as many; then everything
# is placed anew, which takes UMAP seconds.
_NEWCOMERS_PER_LAYOUT = 1.0
# A pool that grows from nothing is placed anew while it is small, in three seconds at most: beside
# a handful nothing finds its place.
_FEW = 500


class CandidatePool:
    """Combinations that the surrogate knows.

    Args:
        sites: The activations.
        surrogate: Fitted here; not to be shared with another pool.
        renews: Whether everything may be placed anew when there are many newcomers, which takes
            UMAP seconds; if not, only while there are few.

    Attributes:
        rows: Row of each combination with valid features.
    """

    def __init__(self, sites: Sequence[Site], surrogate: Surrogate, *, renews: bool = True) -> None:
        self.rows: dict[Combination, int] = {}
        self.surrogate = surrogate
        self._sites = tuple(sites)
        self._renews = renews
        self._invalid: set[Combination] = set()
        self._n_laid_out = 0

    def missing(self, combinations: Iterable[Combination]) -> list[list[Expression]]:
        """Return for each site the functions whose Fisher features are still to be had."""
        found: list[list[Expression]] = []
        for place, site in enumerate(self._sites):
            classes = dict.fromkeys(key[place] for key in combinations)
            expressions = [site.expression(c) for c in classes if c is not None]
            found.append(site.source.missing(expressions))
        return found

    def measure(self, combinations: Iterable[Combination]) -> None:
        """Measure, or look up in a store, the Fisher features that are still to be had."""
        for site, expressions in zip(self._sites, self.missing(list(combinations)), strict=True):
            site.source.measure(expressions)

    def add(self, combinations: Iterable[Combination]) -> None:
        """Take in what is new and has valid features, measuring what is not measured yet."""
        new = [
            key
            for key in dict.fromkeys(combinations)
            if key not in self.rows and key not in self._invalid
        ]
        if not new:
            return
        self.measure(new)
        valid = dict.fromkeys(key for key in new if self._is_valid(key))
        self._invalid.update(key for key in new if self._is_known(key) and key not in valid)
        if valid:
            self._place(list(valid))

    def has_met(self, combination: Combination) -> bool:
        """Say whether a combination is known, as one that is valid or as one that is not."""
        return combination in self.rows or combination in self._invalid

    def is_valid(self, combination: Combination) -> bool:
        """Say whether a combination has valid features, measuring it if need be."""
        if self.has_met(combination):
            return combination in self.rows
        self.measure([combination])
        return self._is_valid(combination)

    def is_ruled_out(self, combination: Combination) -> bool:
        """Say whether a function of a combination is known to have no valid features."""
        return any(
            class_id is not None and site.source.is_invalid(site.expression(class_id))
            for site, class_id in zip(self._sites, combination, strict=True)
        )

    def copy(self) -> CandidatePool:
        """Return a pool that can take in more without changing this one."""
        pool = copy.copy(self)
        pool.rows = dict(self.rows)
        pool._invalid = set(self._invalid)
        pool.surrogate = copy.deepcopy(self.surrogate)
        return pool

    def features(
        self, combinations: Sequence[Combination]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
        """Return outputs ``(n, p)`` and Fisher vectors ``(n, m)``, None where there are none."""
        outputs = [
            _outputs(site, [key[place] for key in combinations])
            for place, site in enumerate(self._sites)
        ]
        vectors = [
            site.source.vectors([_expression(site, key[place]) for key in combinations])
            for place, site in enumerate(self._sites)
            if site.source.in_use
        ]
        return _side_by_side(outputs), _side_by_side(vectors) if vectors else None

    def known_features(
        self, place: int, combinations: Sequence[Combination]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
        """Return the features of one site of combinations that have rows.

        Outputs ``(n, 1000)`` and Fisher vectors ``(n, m)``, None where the surrogate has none.
        """
        site = self._sites[place]
        outputs = _outputs(site, [key[place] for key in combinations])
        vectors = self.surrogate.known_fisher([self.rows[key] for key in combinations])
        if vectors is None or not site.source.in_use:
            return outputs, None
        lengths = [each.source.length or 0 for each in self._sites]
        start = sum(lengths[:place])
        return outputs, vectors[:, start : start + lengths[place]]

    def _place(self, valid: Sequence[Combination]) -> None:
        features = self.features(valid)
        if not self.rows:
            self.surrogate.embed(*features)
            self._n_laid_out = len(valid)
        else:
            self.surrogate.extend(*features)
        start = len(self.rows)
        self.rows.update({key: start + number for number, key in enumerate(valid)})
        many_joined = len(self.rows) > (1 + _NEWCOMERS_PER_LAYOUT) * self._n_laid_out
        if many_joined and (self._renews or len(self.rows) <= _FEW):
            self.surrogate.renew()
            self._n_laid_out = len(self.rows)
        if len(self._sites) == 1:
            # The surrogate has them; of several sites, each is part of many combinations.
            site = self._sites[0]
            site.source.drop(site.expression(key[0]) for key in valid if key[0] is not None)

    def _is_valid(self, combination: Combination) -> bool:
        return all(
            class_id is None or site.source.is_valid(site.expression(class_id))
            for site, class_id in zip(self._sites, combination, strict=True)
        )

    def _is_known(self, combination: Combination) -> bool:
        return all(
            class_id is None or site.source.is_known(site.expression(class_id))
            for site, class_id in zip(self._sites, combination, strict=True)
        )


def _expression(site: Site, class_id: int | None) -> Expression | None:
    return None if class_id is None else site.expression(class_id)


def _outputs(site: Site, classes: Sequence[int | None]) -> NDArray[np.float32]:
    """Return outputs ``(n, 1000)``; a site left out has 0, the middle of all functions."""
    known = dict.fromkeys(class_id for class_id in classes if class_id is not None)
    row_of = {class_id: row for row, class_id in enumerate(known)}
    with np.errstate(over="ignore"):
        values = site.catalogue.outputs_of(list(known)).astype(np.float32)
    outputs = np.zeros((len(classes), values.shape[1]), dtype=np.float32)
    for row, class_id in zip(outputs, classes, strict=True):
        if class_id is not None:
            row[:] = values[row_of[class_id]]
    return outputs


def _side_by_side(parts: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
    return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1)
