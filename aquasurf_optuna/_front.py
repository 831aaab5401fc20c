"""The Pareto front of a study, as functions."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from optuna.study import StudyDirection

from aquasurf_optuna.simplify import simplify

if TYPE_CHECKING:
    from collections.abc import Sequence

    from optuna.study import Study

    from aquasurf_optuna._site import Site
    from aquasurf_optuna.expression import Expression


class FrontMember(NamedTuple):
    """One trial of a Pareto front.

    Attributes:
        number: Number of the trial.
        functions: The function of each activation, by name, in the simplest form.
        values: Values of the objectives.
    """

    number: int
    functions: dict[str, Expression]
    values: tuple[float, ...]


def front_of(study: Study, sites: Sequence[Site]) -> tuple[FrontMember, ...]:
    """Return the trials that no other one beats, the best in the first objective first.

    Trials that ran no function of any of `sites` are left out.
    """
    members = []
    for trial in study.best_trials:
        classes = {site: site.reader.class_of_params(trial.params) for site in sites}
        functions = {
            site.name: simplify(site.expression(class_id))
            for site, class_id in classes.items()
            if class_id is not None
        }
        if functions:
            members.append(FrontMember(trial.number, functions, tuple(trial.values)))
    sign = 1.0 if study.directions[0] == StudyDirection.MAXIMIZE else -1.0
    return tuple(sorted(members, key=lambda member: (-sign * member.values[0], member.number)))
