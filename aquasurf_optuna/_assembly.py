"""What a sampler is made of, put together from its checked arguments."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from aquasurf_optuna._candidates import CandidatePool
from aquasurf_optuna._combinations import Combinations
from aquasurf_optuna._drawing import Drawing, FollowingDrawing, RandomDrawing, StoredDrawing
from aquasurf_optuna._fisher_source import FisherSource
from aquasurf_optuna._search import Search
from aquasurf_optuna._site import Site
from aquasurf_optuna.activation import as_expression
from aquasurf_optuna.exceptions import SamplerError
from aquasurf_optuna.surrogate import make_surrogate

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from aquasurf_optuna._sampler_arguments import Options
    from aquasurf_optuna.catalogue import Catalogue
    from aquasurf_optuna.expression import Expression
    from aquasurf_optuna.features._feature import FeatureSource
    from aquasurf_optuna.space import SearchSpace
    from aquasurf_optuna.store import FeatureStore

_SEED_LIMIT = 2**31 - 1


def make_sites(
    spaces: Mapping[str, SearchSpace],
    *,
    featurizers: Mapping[str, FeatureSource | None],
    store: FeatureStore | None,
    measures: bool,
    catalogues: dict[SearchSpace, Catalogue],
    baselines: Sequence[str | Expression],
    rng: np.random.Generator,
) -> tuple[Site, ...]:
    """Return the activations; those with one featurizer share what is measured."""
    sources: dict[int, FisherSource] = {}
    for featurizer in featurizers.values():
        if id(featurizer) not in sources:
            sources[id(featurizer)] = FisherSource(featurizer, store, measures=measures)
    parsed = tuple(as_expression(baseline) for baseline in baselines)
    return tuple(
        Site(
            name,
            space,
            catalogues=catalogues,
            source=sources[id(featurizers[name])],
            baselines=parsed,
            seed=int(rng.integers(_SEED_LIMIT)),
        )
        for name, space in spaces.items()
    )


def make_search(sites: Sequence[Site], options: Options) -> Search:
    """Return the search over the activations.

    Raises:
        SurrogateError: If there is no such surrogate.
    """
    in_use = [site.source.in_use for site in sites]
    surrogate = make_surrogate(
        options.surrogate,
        features="both" if any(in_use) else "outputs",
        random_state=sites[0].seed,
    )
    drawings = [_drawing(site, options) for site in sites]
    pool = CandidatePool(sites, surrogate, renews=options.pool != "stored")
    combinations = Combinations(sites, drawings, sites[0].seed)
    return Search(sites, combinations, pool, diversity=options.diversity)


def _drawing(site: Site, options: Options) -> Drawing:
    if options.pool == "random":
        return RandomDrawing(site, options.pool_size)
    if options.pool == "following":
        return FollowingDrawing(site, options.pool_size)
    if not site.source.in_use:
        raise SamplerError(
            f"pool='stored' takes the functions of {site.name!r} whose Fisher features are in the "
            "store, but there are no features of it; pass features=FisherFeaturizer(...)"
        )
    return StoredDrawing(site)
