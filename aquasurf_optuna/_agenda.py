"""What a feature worker measures next beside a running search.

1. What the search knows and the store lacks: baselines, and functions tried, running or waiting.
2. Candidates, the first third of them in a random order (no more than 1,000), the others as the
   outputs of what was tried speak for (`_whole_space.py`).

The study and the store are read anew as the work goes on, so every worker, on whichever machine,
knows what the others have tried, measured and claimed. What others are at is left to them, unless
they are dead (`features/_worker.py`).

A function is *measured* if the store has a row for it, valid or not, and *busy* if somebody is at
it.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import math
import threading
import time
from collections import deque
from typing import TYPE_CHECKING

from aquasurf_optuna._combinations import values_by_site
from aquasurf_optuna._stored import StoredFunctions
from aquasurf_optuna._whole_space import WholeSpace
from aquasurf_optuna.features._owner import new_owner
from aquasurf_optuna.features._worker import Watch, free_claims
from aquasurf_optuna.features.outputs import function_key

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

    from aquasurf_optuna._fisher_source import FisherSource, Progress
    from aquasurf_optuna._history import History
    from aquasurf_optuna._site import Site

_SHARE_AT_RANDOM = 1 / 3
_MOST_AT_RANDOM = 1000

# Looking at study and store takes at most this share of the time of one worker.
_SHARE_OF_LOOKING = 0.05
_LEAST_SECONDS_BETWEEN_LOOKS = 1.0
_MOST_PER_LOOK = 256
# What a worker gets at once is worth about this long, so that newer knowledge soon counts.
_SECONDS_PER_PORTION = 1.0
_MOST_PER_PORTION = 16


@dataclasses.dataclass(frozen=True)
class Portion:
    """Work for one worker.

    Attributes:
        source: Whose featurizer measures them.
        functions: Their sites' places and classes.
        texts: The functions.
    """

    source: FisherSource
    functions: tuple[tuple[int, int], ...]
    texts: tuple[str, ...]


class SiteAgenda:
    """What is measured and what comes next of one site.

    Args:
        site: The site; its features are kept in a store.
        n: How many functions are to be measured, None for all that can be candidates.
        follow: Whether candidates follow the search; at random otherwise.
    """

    def __init__(self, site: Site, n: int | None, *, follow: bool) -> None:
        self.site = site
        self._follow = follow
        self._stored = StoredFunctions(site)
        self._measured: set[int] = set()
        self._n_done = 0
        self._n = n

    @functools.cached_property
    def target(self) -> int:
        """How many candidates are to be measured."""
        everything = len(self.site.shuffled)
        return everything if self._n is None else min(self._n, everything)

    @property
    def done(self) -> int:
        """How many of them are."""
        return min(self.target, self._n_done)

    def look(self) -> None:
        """Look at the store."""
        for class_id in self._stored.look().values():
            self._note(class_id)

    def class_of(self, text: str) -> int | None:
        """Return the class of a text, None where it is of another space."""
        return self._stored.class_of(text)

    def needed(self, known: Iterable[int | None], busy: Collection[int]) -> list[int]:
        """Return which of the baselines and of the `known` classes wait for their features."""
        wanted = dict.fromkeys([*self.site.baselines, *known])
        return [c for c in wanted if c is not None and c not in busy and not self._is_measured(c)]

    def candidates(self, values: Mapping[int, float], n: int, busy: Collection[int]) -> list[int]:
        """Return up to `n` candidates that are worth measuring next.

        Args:
            values: Value of each class tried, higher being better.
            n: How many.
            busy: Classes that somebody is at.
        """
        while True:
            left = self.target - self.done - sum(map(self._can_be_candidate, busy))
            chosen = self._chosen(values, max(0, min(n, left)), self._measured.union(busy))
            found = [class_id for class_id in chosen if not self._is_measured(class_id)]
            if found or not chosen:
                return found

    def _chosen(self, values: Mapping[int, float], n: int, gone: set[int]) -> list[int]:
        at_random = min(_MOST_AT_RANDOM, self.target * _SHARE_AT_RANDOM)
        tells = any(math.isfinite(value) for value in values.values())
        if self._follow and tells and len(gone) >= at_random:
            return self._whole_space.ranked(values, n=n, exclude=gone)
        return list(itertools.islice((c for c in self.site.shuffled if c not in gone), n))

    def _is_measured(self, class_id: int) -> bool:
        """Say so; a twin by rounding may be in the store under the name of another class."""
        if function_key(self.site.expression(class_id)) in self._stored.classes:
            self._note(class_id)
        return class_id in self._measured

    def _note(self, class_id: int) -> None:
        if class_id not in self._measured:
            self._measured.add(class_id)
            self._n_done += self._can_be_candidate(class_id)

    def _can_be_candidate(self, class_id: int) -> bool:
        catalogue = self.site.catalogue
        return bool(catalogue.is_finite[class_id] and not catalogue.is_constant[class_id])

    @functools.cached_property
    def _whole_space(self) -> WholeSpace:
        return WholeSpace(self.site.catalogue)


class Agenda:
    """Hands out work to the threads of one feature worker.

    Args:
        sites: The activations, each with features that are kept in a store.
        read: Reads the study.
        n: How many candidates of each site are to be measured; None for all.
        follow: Whether they follow the search.
        n_jobs: How many threads ask.
        lease: Seconds after which a claim whose owner shows no life is free.
        tag: What the owners of all claims of this worker have in common.
        progress: Called as ``progress(measured, of)`` at each look.
    """

    def __init__(
        self,
        sites: Sequence[Site],
        read: Callable[[], History],
        *,
        n: int | None,
        follow: bool,
        n_jobs: int,
        lease: float,
        tag: str,
        progress: Progress | None,
    ) -> None:
        self._works = [SiteAgenda(site, n, follow=follow) for site in sites]
        self._read = read
        self._n_jobs = n_jobs
        self._owner = new_owner(tag)
        self._watches = {id(site.source): Watch(lease) for site in sites}
        self._progress = progress
        self._lock = threading.Lock()
        self._queue: deque[tuple[int, int]] = deque()
        self._out: set[tuple[int, int]] = set()
        self._others_are_at_it = False
        self._look_again_at = 0.0
        self._pause = _LEAST_SECONDS_BETWEEN_LOOKS
        self._seconds = 1.0

    def portion(self) -> Portion | None:
        """Return what to measure next.

        Returns:
            The work, empty where others are at all that is left; None where nothing is left.
        """
        with self._lock:
            # An empty look is not repeated at once: the others need a while.
            waits = self._others_are_at_it or bool(self._queue)
            if not waits or time.monotonic() >= self._look_again_at:
                self._look()
            if not self._queue and not self._others_are_at_it:
                return None
            return self._taken()

    def done(self, portion: Portion, seconds: float, measured: int) -> None:
        """Take note that a portion is no longer worked at.

        Args:
            portion: The portion.
            seconds: How long it took.
            measured: How many of its functions were measured; the others were somebody else's.
        """
        with self._lock:
            self._out.difference_update(portion.functions)
            if measured:
                self._seconds = (self._seconds + seconds / measured) / 2

    def _taken(self) -> Portion:
        """Take the next functions of one featurizer from the queue."""
        limit = max(1, min(_MOST_PER_PORTION, int(_SECONDS_PER_PORTION / self._seconds)))
        source = self._works[self._queue[0][0] if self._queue else 0].site.source
        fits = [each for each in self._queue if self._works[each[0]].site.source is source]
        taken = tuple(fits[:limit])
        self._out.update(taken)
        self._queue = deque(each for each in self._queue if each not in self._out)
        texts = [str(self._works[place].site.expression(class_id)) for place, class_id in taken]
        return Portion(source, taken, tuple(dict.fromkeys(texts)))

    def _look(self) -> None:
        """Look at study and store, and make the queue anew."""
        started = time.monotonic()
        history = self._read()
        busy = self._busy()
        for work in self._works:
            work.look()
        values = values_by_site(history) if history.values else [{} for _ in self._works]
        needed = [
            work.needed((key[place] for key in history.taken), busy[place])
            for place, work in enumerate(self._works)
        ]
        wanted = math.ceil(self._wanted() / len(self._works))
        candidates = [
            work.candidates(values[place], wanted, busy[place].union(needed[place]))
            for place, work in enumerate(self._works)
        ]
        self._queue = deque([*_in_turn(needed), *_in_turn(candidates)])
        self._tell()
        is_short = any(work.done < work.target for work in self._works)
        self._others_are_at_it = not self._queue and is_short and any(busy)
        ended = time.monotonic()
        self._pause = max(_LEAST_SECONDS_BETWEEN_LOOKS, (ended - started) / _SHARE_OF_LOOKING)
        self._look_again_at = ended + self._pause

    def _wanted(self) -> int:
        """Return how many functions are enough until the next look."""
        per_worker = math.ceil(self._pause / self._seconds)
        return max(self._n_jobs, min(_MOST_PER_LOOK, self._n_jobs * per_worker))

    def _busy(self) -> list[set[int]]:
        """Free the claims of the dead, and return for each site the classes somebody is at."""
        claimed: dict[int, list[str]] = {}
        for source in {id(work.site.source): work.site.source for work in self._works}.values():
            if source.store is None or source.featurizer is None:
                continue
            task, watch = source.featurizer.task, self._watches[id(source)]
            free_claims(source.store, task, watch.look, self._owner)
            watch.forget_ended()
            claims = source.store.claims(task).values()
            claimed[id(source)] = [claim.expression for claim in claims]
        busy = []
        for place, work in enumerate(self._works):
            classes = {work.class_of(text) for text in claimed.get(id(work.site.source), ())}
            out = {class_id for where, class_id in self._out if where == place}
            busy.append({c for c in classes | out if c is not None})
        return busy

    def _tell(self) -> None:
        if self._progress is not None:
            self._progress(
                sum(work.done for work in self._works), sum(work.target for work in self._works)
            )


def _in_turn(classes: Sequence[Sequence[int]]) -> Iterable[tuple[int, int]]:
    """Return places and classes, one of each site after the other."""
    rows = itertools.zip_longest(*classes)
    return [(place, c) for row in rows for place, c in enumerate(row) if c is not None]
