"""What another study has shown, for a search to start from."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aquasurf_optuna._history import ActivationReader, HistoryReader
from aquasurf_optuna._search import Transfer
from aquasurf_optuna.exceptions import SamplerError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from optuna.study import Study

    from aquasurf_optuna._site import Site


def read_other_study(study: Study, sites: Sequence[Site], names: Mapping[str, str]) -> Transfer:
    """Read the values that a study gave to functions of `sites`.

    Args:
        study: The other study.
        sites: The activations.
        names: The other study's name of each activation that has another one there.

    Raises:
        SamplerError: If `names` names no activation, or the study has no such trial with a value.
    """
    known = [site.name for site in sites]
    unknown = sorted(names.keys() - set(known))
    if unknown:
        raise SamplerError(
            f"names maps the activations {known} to their names in the other study, but got "
            f"{unknown}"
        )
    called = [names.get(name, name) for name in known]
    readers = [
        ActivationReader(name, site.space, site.catalogue)
        for name, site in zip(called, sites, strict=True)
    ]
    history = HistoryReader(readers).read(study.get_trials(deepcopy=False), study.directions)
    if not history.has_scale:
        raise SamplerError(
            f"study {study.study_name!r} has no finished trial with functions of this sampler's "
            f"spaces, under the names {called}; names={{...}} tells how the activations are called "
            "there"
        )
    return Transfer(history.values)
