"""Surrogates by name, for the sampler and for whoever compares them."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TypeAlias

from sklearn.base import clone

from aquasurf_optuna.exceptions import SurrogateError
from aquasurf_optuna.surrogate._base import Surrogate
from aquasurf_optuna.surrogate._ensemble import EnsembleSurrogate
from aquasurf_optuna.surrogate._failures import FailureAwareSurrogate
from aquasurf_optuna.surrogate._gaussian_process import GaussianProcessSurrogate
from aquasurf_optuna.surrogate._novelty import NoveltySurrogate
from aquasurf_optuna.surrogate._umap_gp import UmapGpSurrogate
from aquasurf_optuna.surrogate._umap_knn import UmapKnnSurrogate
from aquasurf_optuna.surrogate._umap_regressors import UmapForestSurrogate, UmapSvrSurrogate

Recipe: TypeAlias = Callable[[str, int], Surrogate]
"""Makes a surrogate of the features to use and the seed."""

DEFAULT_SURROGATE = "gp"
"""The surrogate where none is asked for."""


def _gp(features: str, random_state: int) -> Surrogate:
    return GaussianProcessSurrogate(features=features, random_state=random_state)


def _gp_failures(features: str, random_state: int) -> Surrogate:
    return FailureAwareSurrogate(_gp(features, random_state))


def _ensemble(features: str, random_state: int) -> Surrogate:
    return EnsembleSurrogate([_gp(features, random_state), _gp_failures(features, random_state)])


SURROGATES: Mapping[str, Recipe] = MappingProxyType(
    {
        "gp": _gp,
        "gp-failures": _gp_failures,
        "paper": lambda f, seed: UmapKnnSurrogate(features=f, random_state=seed),
        "umap-knn": lambda f, seed: UmapKnnSurrogate(features=f, random_state=seed),
        "umap-forest": lambda f, seed: UmapForestSurrogate(features=f, random_state=seed),
        "umap-svr": lambda f, seed: UmapSvrSurrogate(features=f, random_state=seed),
        "umap-gp": lambda f, seed: UmapGpSurrogate(features=f, random_state=seed),
        "ensemble": _ensemble,
        "novelty": lambda f, seed: NoveltySurrogate(features=f, random_state=seed),
    }
)
"""How each surrogate that has a name is made.

===============  =================================================================================
``gp``           Gaussian process on distances of both features
``gp-failures``  the same for the values of what trains, beside one for whether it trains
``ensemble``     the two of them
``paper``        the paper's: nearest neighbours (3) on a UMAP of the features; also ``umap-knn``
``umap-forest``  the paper's other models on the same map: a random forest,
``umap-svr``     support vectors,
``umap-gp``      and a Gaussian process
``novelty``      what is least like all that was tried, whatever its value
===============  =================================================================================
"""


def make_surrogate(which: str | Surrogate | None, *, features: str, random_state: int) -> Surrogate:
    """Make a surrogate of a name, or an unfitted copy of one.

    Args:
        which: A name of :data:`SURROGATES`; None for :data:`DEFAULT_SURROGATE`; or a surrogate,
            whose settings, also its features and its seed, are copied.
        features: What a surrogate made of a name predicts from.
        random_state: Its seed.

    Returns:
        A new surrogate, which knows no candidates.

    Raises:
        SurrogateError: If there is no such name, or `which` is something else.
    """
    if isinstance(which, Surrogate):
        # Clone copies settings that are no estimators; a copy first keeps these, too, apart.
        fresh: Surrogate = clone(copy.deepcopy(which))
        return fresh
    name = DEFAULT_SURROGATE if which is None else which
    if not isinstance(name, str) or name not in SURROGATES:
        raise SurrogateError(
            f"surrogate must be one of {', '.join(map(repr, SURROGATES))}, a Surrogate, or None, "
            f"but got {which!r}"
        )
    return SURROGATES[name](features, random_state)


def check_features(surrogate: str | Surrogate | None, *, fisher: bool) -> None:
    """Refuse a surrogate that needs Fisher features where there are none.

    A surrogate made of a name uses what there is.

    Args:
        surrogate: What :func:`make_surrogate` takes.
        fisher: Whether there are Fisher features.

    Raises:
        SurrogateError: If they are missing.
    """
    if isinstance(surrogate, Surrogate) and surrogate.features != "outputs" and not fisher:
        raise SurrogateError(
            f"surrogate {surrogate!r} needs Fisher features; pass features=FisherFeaturizer(...), "
            "or a surrogate with features='outputs'"
        )
