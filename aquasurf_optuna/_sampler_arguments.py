"""What `AquaSurfSampler` takes, looked at before anything is made of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from aquasurf_optuna._drawing import POOLS
from aquasurf_optuna._explanation import EXPLANATION_KEY
from aquasurf_optuna._history import FAILED_KEY, claim_key
from aquasurf_optuna.catalogue import Catalogue
from aquasurf_optuna.exceptions import SamplerError
from aquasurf_optuna.families import ContinuousFamily
from aquasurf_optuna.space import SearchSpace
from aquasurf_optuna.surrogate import Surrogate, check_features

if TYPE_CHECKING:
    from aquasurf_optuna.features._feature import FeatureSource
    from aquasurf_optuna.store import FeatureStore


# Trials keep these under the same keys as the functions of an activation with such a name.
RESERVED_NAMES = tuple(key.removeprefix(claim_key("")) for key in (EXPLANATION_KEY, FAILED_KEY))


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
        if name in RESERVED_NAMES:
            raise SamplerError(
                f"an activation cannot be named {name!r}: trials keep something else under that "
                "name; choose another one"
            )
        if not isinstance(name, str) or not name or not isinstance(space, SearchSpace):
            raise SamplerError(
                "space must be a SearchSpace or map names to SearchSpaces, "
                f"but got {name!r}: {space!r}"
            )
    if not spaces:
        raise SamplerError("space must hold at least one SearchSpace, but got an empty mapping")


@dataclass(frozen=True)
class Options:
    """How a sampler searches; see :class:`aquasurf_optuna.AquaSurfSampler`."""

    store: str | FeatureStore | None
    surrogate: str | Surrogate | None
    diversity: float
    pool_size: int
    pool: str
    running_timeout: float | None


def featurizers_by_name(
    features: FeatureSource | Mapping[str, FeatureSource] | None, names: Sequence[str]
) -> dict[str, FeatureSource | None]:
    """Return the featurizer of each activation.

    Raises:
        SamplerError: If a mapping names an activation that there is not.
    """
    if not isinstance(features, Mapping):
        return dict.fromkeys(names, features)
    unknown = sorted(str(name) for name in features if name not in names)
    if unknown:
        raise SamplerError(
            f"features maps names of activations to featurizers; the activations are "
            f"{list(names)}, but got {unknown} too"
        )
    return {name: features.get(name) for name in names}


def check_options(options: Options, *, has_features: bool) -> None:
    """Refuse options that are out of range or do not go together.

    Raises:
        SamplerError: If so.
        SurrogateError: If the surrogate needs Fisher features that are not there.
    """
    size = options.pool_size
    if isinstance(size, bool) or not isinstance(size, int) or size < 1:
        raise SamplerError(f"pool_size must be an integer of at least 1, but got {size!r}")
    if options.pool not in POOLS:
        raise SamplerError(f"pool must be one of {POOLS}, but got {options.pool!r}")
    if not _is_number(options.diversity) or not 0 <= options.diversity <= 1:
        raise SamplerError(f"diversity must be from 0 to 1, but got {options.diversity!r}")
    timeout = options.running_timeout
    if timeout is not None and not (_is_number(timeout) and timeout > 0):
        raise SamplerError(
            f"running_timeout must be a number of seconds above 0, or None, but got {timeout!r}"
        )
    if options.store is not None and not has_features:
        raise SamplerError(
            f"store={options.store!r} keeps Fisher features, but there are none; pass "
            "features=FisherFeaturizer(...) too"
        )
    if options.pool == "stored" and options.store is None:
        raise SamplerError(
            "pool='stored' takes the functions whose features a store holds; pass store=... too"
        )
    check_features(options.surrogate, fisher=has_features)


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


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
