"""The samplers that are compared, by name."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import optuna
from optuna.samplers import (
    BaseSampler,
    CmaEsSampler,
    GPSampler,
    NSGAIISampler,
    RandomSampler,
    TPESampler,
)

from aquasurf_optuna.benchmark._bench import ACTIVATION
from aquasurf_optuna.benchmark._searched_table import SearchedTable
from aquasurf_optuna.exceptions import BenchmarkError
from aquasurf_optuna.expression import Expression
from aquasurf_optuna.sampler import AquaSurfSampler
from aquasurf_optuna.surrogate import SURROGATES, make_surrogate

VALID_ONLY = "valid"
LAYOUT_SEEDS = 10
"""From how many seeds the UMAP layouts of a table are drawn; repeats beyond these share them."""

Make = Callable[[SearchedTable, int], BaseSampler]


class Method(NamedTuple):
    """How a sampler searches.

    Attributes:
        make: Makes it for a table, of a seed.
        integers: Whether the study has the places of the operators in their lists, as integers,
            in the stead of categorical parameters.
        valid_only: Whether functions with an invalid spectrum cost no evaluation: the sampler is
            told that such a one failed, and asked again.
        shares_seeds: Whether its own seed is that of `repeat % LAYOUT_SEEDS`.
    """

    make: Make
    integers: bool = False
    valid_only: bool = False
    shares_seeds: bool = False

    def suggest(self, table: SearchedTable, trial: optuna.Trial) -> Expression:
        """Let a trial choose a function.

        With `integers` each parameter of the space, also the nodes of the schemas that are not
        chosen, is an integer from 0: a fixed number of dimensions, as CMA-ES needs.
        """
        if not self.integers:
            return table.bench.space.suggest(trial, ACTIVATION)
        params = {
            key: choices[trial.suggest_int(key, 0, len(choices) - 1)]
            for key, choices in table.distributions.items()
        }
        return table.bench.space.expression_of(params, ACTIVATION)

    def params_of(self, table: SearchedTable, row: int) -> dict[str, Any]:
        """Return the parameters with which a study chooses a row."""
        params = table.bench.space.params_of(table.bench.expressions[row], ACTIVATION)
        if not self.integers:
            return dict(params)
        return {key: table.distributions[key].index(name) for key, name in params.items()}


def _aquasurf(surrogate: str | None, features: str = "both") -> Make:
    def make(table: SearchedTable, repeat: int) -> BaseSampler:
        # A layout takes longer than a search in it: repeats share those of a few seeds.
        seed = repeat % LAYOUT_SEEDS
        chosen = (
            surrogate
            if features == "both"
            else make_surrogate(surrogate, features=features, random_state=seed)
        )
        return AquaSurfSampler(
            table.bench.space,
            features=table.bench.features,
            surrogate=chosen,
            # What a search begins with is enqueued.
            baselines=(),
            base_sampler=RandomSampler(seed=seed),
            pool_size=table.pool_size,
            catalogue=table.catalogue,
            seed=seed,
        )

    return make


def _tpe_multivariate(table: SearchedTable, seed: int) -> BaseSampler:
    # Grouped, it learns each schema of a union together; with one schema it is the same.
    return TPESampler(seed=seed, multivariate=True, group=len(table.bench.space.parts) > 1)


def _cmaes(_: SearchedTable, seed: int) -> BaseSampler:
    _require_cmaes()
    # The margin keeps integers from being stuck at one value.
    return CmaEsSampler(seed=seed, with_margin=True, warn_independent_sampling=False)


_PEERS: dict[str, Method] = {
    "tpe": Method(lambda _, seed: TPESampler(seed=seed)),
    "tpe-multivariate": Method(_tpe_multivariate),
    "gp": Method(lambda _, seed: GPSampler(seed=seed, warn_independent_sampling=False)),
    "cmaes": Method(_cmaes, integers=True),
    "nsgaii": Method(lambda _, seed: NSGAIISampler(seed=seed)),
    "random": Method(lambda _, seed: RandomSampler(seed=seed)),
}

SAMPLERS: Mapping[str, Method] = MappingProxyType(
    {
        "aquasurf": Method(_aquasurf(None), shares_seeds=True),
        **{f"aquasurf:{name}": Method(_aquasurf(name), shares_seeds=True) for name in SURROGATES},
        **{
            f"aquasurf:{name}:{features}": Method(_aquasurf(name, features), shares_seeds=True)
            for name in SURROGATES
            for features in ("outputs", "fisher")
        },
        **_PEERS,
        **{f"{k}:{VALID_ONLY}": m._replace(valid_only=True) for k, m in _PEERS.items()},
    }
)
"""How each sampler that has a name searches.

===================================  ==============================================================
``aquasurf``                         AquaSurfSampler as it comes
``aquasurf:<surrogate>``             with another surrogate of `SURROGATES`, ``aquasurf:paper``
``aquasurf:<surrogate>:<features>``  with the ``outputs`` or the ``fisher`` features alone
``tpe``, ``tpe-multivariate``        Optuna's TPESampler, each parameter on its own or together
``gp``, ``nsgaii``, ``random``       Optuna's GPSampler, NSGAIISampler, RandomSampler
``cmaes``                            Optuna's CmaEsSampler with margin, on integers
``<one of Optuna's>:valid``          the same where invalid functions cost no evaluation
===================================  ==============================================================
"""


def check_samplers(names: Sequence[str]) -> None:
    """Refuse names that are not among `SAMPLERS`, or whose package is missing.

    Raises:
        BenchmarkError: If so.
    """
    unknown = [name for name in names if name not in SAMPLERS]
    if unknown or not names:
        raise BenchmarkError(
            f"samplers must be among aquasurf, {', '.join(_PEERS)}, each of Optuna's also with "
            f":{VALID_ONLY}, and aquasurf:<surrogate> with one of {', '.join(SURROGATES)}, and "
            f":outputs or :fisher after it; got {', '.join(map(repr, unknown)) or 'none'}"
        )
    if any(name.partition(":")[0] == "cmaes" for name in names):
        _require_cmaes()


def _require_cmaes() -> None:
    if importlib.util.find_spec("cmaes") is None:
        raise BenchmarkError(
            "the sampler 'cmaes' needs the package cmaes: pip install cmaes, or leave it out"
        )
