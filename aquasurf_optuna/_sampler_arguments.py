"""What `AquaSurfSampler` takes, looked at before anything is made of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from aquasurf_optuna.catalogue import Catalogue
from aquasurf_optuna.exceptions import SamplerError
from aquasurf_optuna.families import ContinuousFamily
from aquasurf_optuna.space import SearchSpace

if TYPE_CHECKING:
    from aquasurf_optuna._candidates import Surrogate
    from aquasurf_optuna.features.featurizer import FisherFeaturizer
    from aquasurf_optuna.store import FeatureStore


def check_spaces(spaces: Mapping[str, object]) -> None:
    """Refuse spaces that have no name, or are none.

    Raises:
        SamplerError: If so.
    """
    for name, space in spaces.items():
        if isinstance(space, ContinuousFamily):
            raise SamplerError(
                f"{name!r} is a continuous family, {space!r}, but AquaSurfSampler searches the "
                f"graphs of a SearchSpace; leave the family out here and call suggest(trial, "
                f"{name!r}) on it: base samplers of floats, such as TPESampler, sample it"
            )
        if not isinstance(name, str) or not name or not isinstance(space, SearchSpace):
            raise SamplerError(
                "space must be a SearchSpace or map names to SearchSpaces, "
                f"but got {name!r}: {space!r}"
            )
    if not spaces:
        raise SamplerError("space must hold at least one SearchSpace, but got an empty mapping")


def check_options(
    features: FisherFeaturizer | None,
    store: str | FeatureStore | None,
    surrogate: Surrogate | None,
    pool_size: int,
) -> None:
    """Refuse options that do not go together.

    Raises:
        SamplerError: If so.
    """
    if isinstance(pool_size, bool) or not isinstance(pool_size, int) or pool_size < 1:
        raise SamplerError(f"pool_size must be an integer of at least 1, but got {pool_size!r}")
    if store is not None and features is None:
        raise SamplerError(
            f"store={store!r} keeps Fisher features, but there are none; pass "
            "features=FisherFeaturizer(...) too"
        )
    wanted = getattr(surrogate, "features", None)
    if wanted in ("both", "fisher") and features is None:
        raise SamplerError(
            f"surrogate {surrogate!r} needs Fisher features; pass features=FisherFeaturizer(...), "
            "or a surrogate with features='outputs'"
        )


def catalogues_at_hand(
    spaces: Mapping[str, SearchSpace], catalogue: Catalogue | Mapping[str, Catalogue] | None
) -> dict[SearchSpace, Catalogue]:
    """Return the catalogues that came, by space.

    Raises:
        SamplerError: If one is not made of its space.
    """
    if catalogue is None:
        return {}
    given = dict(catalogue) if isinstance(catalogue, Mapping) else dict.fromkeys(spaces, catalogue)
    for name, each in given.items():
        if not isinstance(each, Catalogue) or spaces.get(name) != each.space:
            raise SamplerError(
                f"the catalogue of {name!r} must be made of its space {spaces.get(name)!r}, "
                f"but got {each!r}"
            )
    return {each.space: each for each in given.values()}
