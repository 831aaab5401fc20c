"""Which functions of a site are candidates: at random, after the search, or what a store holds.

Each list is in the order in which its functions joined. What it holds depends on the seed and on
the functions tried so far alone, so another process with the same study draws the same; only the
contents of a store are as they are.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Protocol

from aquasurf_optuna._whole_space import WholeSpace
from aquasurf_optuna.exceptions import AquaSurfError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from aquasurf_optuna._site import Site

POOLS = ("random", "following", "stored")

# A proposal reads no more new features than this from a store: some tenths of a second for the
# paper's histograms.
_MOST_READ_AT_ONCE = 500
# Looking for news takes at most this share of the time.
_SHARE_OF_LOOKING = 0.05

# A following pool begins with this share of its size, and grows by another such share after so many
# functions tried.
_SHARE_AT_FIRST = 0.25
_SHARE_OF_A_ROUND = 0.05
_TRIED_PER_ROUND = 2


class Drawing(Protocol):
    """The candidates of one site."""

    def functions(self, values: Mapping[int, float]) -> Sequence[int]:
        """Return the classes that are candidates.

        Args:
            values: Value of each class tried, higher being better, in the order of the trials.
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

    A quarter of `size` is drawn at random. After every other function tried, a twentieth joins that
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
        if not self._members or tried[: len(self._tried)] != self._tried:
            first = self._site.shuffled[: max(1, round(self._step * _SHARE_AT_FIRST))]
            self._members, self._tried = dict.fromkeys(first), []
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
    """The classes whose Fisher features a store holds, read while it grows.

    Args:
        site: The site; its features are kept in a store.
    """

    def __init__(self, site: Site) -> None:
        self._site = site
        self._listed: set[str] = set()
        self._backlog: list[str] = []
        self._look_again_at = 0.0
        self._members: dict[int, None] = {}

    def functions(self, values: Mapping[int, float]) -> Sequence[int]:  # noqa: ARG002  # protocol
        """Return what is there; some hundred new functions at most at each call but the first."""
        limit = _MOST_READ_AT_ONCE if self._members else None
        self._members.update(dict.fromkeys(self._classes(self._news(limit))))
        return tuple(self._members)

    def grow(self) -> bool:
        """Read what else there is by now."""
        before = len(self._members)
        self._look_again_at = 0.0
        self._members.update(dict.fromkeys(self._classes(self._news(None))))
        return len(self._members) > before

    def _news(self, limit: int | None) -> list[str]:
        source = self._site.source
        if source.store is None or source.featurizer is None:
            return []
        started = time.monotonic()
        if not self._backlog and started >= self._look_again_at:
            listed = source.store.functions(source.featurizer.task)
            self._backlog = [text for text in listed if text not in self._listed]
            self._listed.update(self._backlog)
            ended = time.monotonic()
            self._look_again_at = ended + (ended - started) / _SHARE_OF_LOOKING
        cut = len(self._backlog) if limit is None else limit
        news, self._backlog = self._backlog[:cut], self._backlog[cut:]
        return news

    def _classes(self, texts: Iterable[str]) -> Iterator[int]:
        catalogue = self._site.catalogue
        for text in texts:
            try:
                class_id = catalogue.class_of(text)
            except AquaSurfError:
                # Of another space on the same task.
                continue
            if catalogue.is_finite[class_id] and not catalogue.is_constant[class_id]:
                yield class_id
