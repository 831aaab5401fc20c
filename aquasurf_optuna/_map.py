"""Where the functions of one activation lie on a map: data for a figure."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from aquasurf_optuna._history import History
from aquasurf_optuna.surrogate import UmapKnnSurrogate

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from aquasurf_optuna._history import Combination
    from aquasurf_optuna._search import Search
    from aquasurf_optuna._site import Site
    from aquasurf_optuna.expression import Expression


class Embedding(NamedTuple):
    """Where functions lie on a map.

    Attributes:
        expressions: Representatives of the classes.
        coordinates: float64 array ``(n, 2)``.
        classes: int array ``(n,)``, their numbers in the catalogue.
    """

    expressions: tuple[Expression, ...]
    coordinates: NDArray[np.float64]
    classes: NDArray[np.intp]


class Maps:
    """The maps of a sampler's activations, each made anew only when candidates have joined.

    Args:
        search: The search.
        sites: Its activations.
    """

    def __init__(self, search: Search, sites: Sequence[Site]) -> None:
        self._search = search
        self._sites = tuple(sites)
        self._known: dict[str, tuple[int, Embedding]] = {}

    def of(self, site: Site) -> Embedding:
        """Return the map of one activation's functions."""
        pool = self._search.pool
        pool.add(self._search.combinations.all(History()))
        n_rows, known = self._known.get(site.name, (0, None))
        if known is None or n_rows != len(pool.rows):
            known = _map_of(self._search, self._sites, site)
            self._known[site.name] = (len(pool.rows), known)
        return known


def _map_of(search: Search, sites: Sequence[Site], site: Site) -> Embedding:
    """Return the surrogate's map if it has one and `site` is the only one, else the paper's."""
    place = list(sites).index(site)
    pool = search.pool
    first = {key[place]: key for key in reversed(pool.rows)}
    classes = [c for c in dict.fromkeys(key[place] for key in pool.rows) if c is not None]
    keys = [first[class_id] for class_id in classes]
    own = getattr(pool.surrogate, "embedding_", None)
    if own is None or len(sites) > 1:
        coordinates = _laid_out(search, place, keys, site.seed)
    else:
        coordinates = np.array(own[[pool.rows[key] for key in keys]])
    expressions = tuple(site.expression(class_id) for class_id in classes)
    return Embedding(expressions, coordinates, np.array(classes, dtype=np.intp))


def _laid_out(
    search: Search, place: int, keys: list[Combination], seed: int
) -> NDArray[np.float64]:
    """Lay out the functions of one site, given a combination of each, by a UMAP of its features."""
    outputs, fisher = search.pool.known_features(place, keys)
    features = "outputs" if fisher is None else "both"
    surrogate = UmapKnnSurrogate(features=features, random_state=seed)
    return surrogate.embed(outputs, fisher).embedding_
