"""Which functions of a site are candidates: at random, after the search, or what a store holds.

Each list is in the order in which its functions joined. What it holds depends on the seed and on
the functions tried so far alone, so another process with the same study draws the same; only the
contents of a store are as they are.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from aquasurf_optuna._stored import StoredFunctions
from aquasurf_optuna._whole_space import WholeSpace

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from aquasurf_optuna._site import Site

POOLS = ("random", "following", "stored")

# A proposal reads no more new features than this from a store: some tenths of a second for the
# paper's histograms.
_MOST_READ_AT_ONCE = 500
# Looking for news takes at most this share of the time.
_SHARE_OF_LOOKING = 0.05

# A following pool begins with this share of its size, and grows by another such share after so many
# functions tried. Small rounds keep a proposal short, and beat large ones on the digits
# (`python -m benchmarks.following_pool --schedule` compares others).
_SHARE_AT_FIRST = 1 / 3
_SHARE_OF_A_ROUND = 1 / 60
_TRIED_PER_ROUND = 1


class Drawing(Protocol):
    """The candidates of one site."""

    def functions(self, values: Mapping[int, float]) -> Sequence[int]:
        """Return the classes that are candidates.

        Args:
            values: Value of each class tried, higher being better, in the order in which they were;
                empty to see what there is without going on.
        """

    def grow(self) -> bool:
        """Draw more; return False if there are none left."""


class RandomDrawing:
    """Classes drawn uniformly at random, without those that are constant or not finite.

    Args:
        site: The site.
        size: How many each draw takes.
    """

    def __init__(self, site: Site, size: int) -> None:
        self._site = site
        self._size = size
        self._drawn = size

    def functions(self, values: Mapping[int, float]) -> Sequence[int]:  # noqa: ARG002  # protocol
        """Return what is drawn."""
        return self._site.shuffled[: self._drawn]

    def grow(self) -> bool:
        """Draw `size` more."""
        left = self._drawn < len(self._site.shuffled)
        self._drawn += self._size
        return left


class FollowingDrawing:
    """At first classes at random, then those that the outputs of what was tried speak for.

    A third of `size` is drawn at random. After every function tried, a sixtieth joins that
    :class:`WholeSpace` ranks best, until there are `size`.

    Args:
        site: The site.
        size: How many at the end; as many again each time all of them are tried.
    """

    def __init__(self, site: Site, size: int) -> None:
        self._site = site
        self._step = size
        self._size = size
        self._tried: list[int] = []
        self._members: dict[int, None] = {}
        self._whole: WholeSpace | None = None

    def functions(self, values: Mapping[int, float]) -> Sequence[int]:
        """Return what is drawn so far, after as many rounds as there are functions tried for."""
        tried = list(values)
        if not self._members or (tried and tried[: len(self._tried)] != self._tried):
            first = self._site.shuffled[: max(1, round(self._step * _SHARE_AT_FIRST))]
            self._members, self._tried, self._size = dict.fromkeys(first), [], self._step
        while len(self._members) < self._size and len(self._tried) + _TRIED_PER_ROUND <= len(tried):
            self._tried = tried[: len(self._tried) + _TRIED_PER_ROUND]
            self._add({class_id: values[class_id] for class_id in self._tried})
        return tuple(self._members)

    def grow(self) -> bool:
        """Let the pool grow further, at once by classes at random."""
        left = [c for c in self._site.shuffled if c not in self._members][: self._step]
        self._members.update(dict.fromkeys(left))
        self._size += self._step
        return bool(left)

    def _add(self, values: Mapping[int, float]) -> None:
        if self._whole is None:
            self._whole = WholeSpace(self._site.catalogue)
        share = max(1, round(self._step * _SHARE_OF_A_ROUND))
        wanted = min(share, self._size - len(self._members))
        chosen = self._whole.ranked(values, n=wanted, exclude=self._members.keys())
        self._members.update(dict.fromkeys(chosen))


class StoredDrawing:
    """The classes with valid Fisher features in a store, read while others fill it.

    What a call finds joins in an order of the site's own: sites that share a store are not to pair
    each function with itself.

    Args:
        site: The site; its features are kept in a store.
    """

    def __init__(self, site: Site) -> None:
        self._site = site
        self._stored = StoredFunctions(site)
        self._rng = np.random.default_rng(site.seed)
        self._backlog: list[tuple[str, int]] = []
        self._look_again_at = 0.0
        self._members: dict[int, None] = {}

    def functions(self, values: Mapping[int, float]) -> Sequence[int]:  # noqa: ARG002  # protocol
        """Return what is there; some hundred new functions at most at each call but the first."""
        self._take_in(_MOST_READ_AT_ONCE if self._members else None)
        return tuple(self._members)

    def grow(self) -> bool:
        """Read what else there is by now."""
        before = len(self._members)
        self._look_again_at = 0.0
        self._take_in(None)
        return len(self._members) > before

    def __getstate__(self) -> dict[str, Any]:
        """Leave the time out: the clock of another machine shows another one."""
        return {**self.__dict__, "_look_again_at": 0.0}

    def _take_in(self, limit: int | None) -> None:
        """Look for news, and read the features of `limit` of them, or of all."""
        self._look()
        some, self._backlog = self._backlog[:limit], self._backlog[len(self._backlog[:limit]) :]
        site, source = self._site, self._site.source
        unread = {k: site.expression(c) for k, c in some if not source.is_known(site.expression(c))}
        if unread and source.store is not None and source.featurizer is not None:
            found = source.store.features(source.featurizer.task, unread)
            source.learn((unread[key], feature) for key, feature in found.items())
        valid = (c for _, c in some if source.is_valid(site.expression(c)))
        self._members.update(dict.fromkeys(valid))

    def _look(self) -> None:
        started = time.monotonic()
        if self._backlog or started < self._look_again_at:
            return
        catalogue = self._site.catalogue
        news = [
            (key, class_id)
            for key, class_id in self._stored.look().items()
            if catalogue.is_finite[class_id] and not catalogue.is_constant[class_id]
        ]
        self._backlog = [news[place] for place in self._rng.permutation(len(news))]
        ended = time.monotonic()
        self._look_again_at = ended + (ended - started) / _SHARE_OF_LOOKING
