"""A search on optuna-dashboard: notes in words, figures, and a picture of each trial's function.

`annotate` writes them into a study, and `DashboardNotes` does so while it runs. Names of parameters
are fixed, so what they mean stands in the study's note and among its attributes. Needs the package
optuna-dashboard: `pip install "aquasurf[dashboard]"`.
"""

from __future__ import annotations

import tempfile
import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import optuna
from optuna.exceptions import StorageInternalError
from optuna.trial import FrozenTrial

from aquasurf_optuna._dashboard_figures import front_figures, search_figures
from aquasurf_optuna._dashboard_kept import Kept, dashboard_library
from aquasurf_optuna._dashboard_notes import (
    EndedTrial,
    best_of,
    ended_trials,
    study_note,
    trial_note,
)
from aquasurf_optuna._parameter_legend import meanings
from aquasurf_optuna.exceptions import AquaSurfError
from aquasurf_optuna.expression import BASELINES, Expression
from aquasurf_optuna.families import AnySpace
from aquasurf_optuna.sampler import AquaSurfSampler
from aquasurf_optuna.visualization import write_png
from aquasurf_optuna.visualization._front import Spaces, get_pareto_info
from aquasurf_optuna.visualization._trials import Baselines

if TYPE_CHECKING:
    from optuna.artifacts._protocol import ArtifactStore

__all__ = ["Annotated", "DashboardNotes", "annotate"]

_VALUE_NAME = "objective value"
_TURN_KEY = "aquasurf:dashboard"
# Seconds after which a worker that began to write is taken for dead.
_LONGEST_TURN = 300.0


class Annotated(NamedTuple):
    """How much was written, everything that stood there already left out.

    Attributes:
        notes: Notes, of the study and of trials.
        figures: Figures.
        pictures: Pictures of functions, uploaded.
    """

    notes: int
    figures: int
    pictures: int


def annotate(
    study: optuna.Study,
    space: Spaces,
    *,
    name: str = "activation",
    baselines: Baselines = BASELINES,
    value_name: str = _VALUE_NAME,
    value_names: Sequence[str] | None = None,
    sampler: AquaSurfSampler | None = None,
    artifacts: ArtifactStore | None = None,
) -> Annotated:
    """Write what optuna-dashboard shows of a search into its study.

    The study gets a note with its best function (with several objectives, its Pareto front) and
    with what its parameters mean, which its attributes tell too; each trial that has ended, a note
    on its function, its value, and why it was proposed or pruned, as far as that was kept. Figures
    stand on the study's first page. Called again it writes only what has changed. What people have
    written in a note, before ours or after it, stays.

    Args:
        study: A study in any storage, finished or not.
        space: The space from which its functions come, or the continuous family; or several, by the
            names under which they were suggested.
        name: The name under which the space was suggested. Of several spaces, the one that the
            figures are of where the study has one objective.
        baselines: Functions to name and to mark, as in `plot_search_progress`.
        value_name: What the objective measures; the study's metric name, if it has one, unless
            given.
        value_names: The same for each of several objectives.
        sampler: The study's sampler; with it there is a map of the candidates.
        artifacts: Where to put a picture of each trial's function; without it there are none. The
            dashboard has to be started with the same one, `--artifact-dir` for a folder.

    Returns:
        How much was written.

    Raises:
        AquaSurfError: If optuna-dashboard is not installed, `name` is none of several spaces, or
            `value_names` are not as many as the objectives.
        SpaceError: If the trials have no activation of that name, or one of another space.
        SamplerError: If the sampler has no activation of that name.
    """
    notes = DashboardNotes(
        space,
        name=name,
        baselines=baselines,
        value_name=value_name,
        value_names=value_names,
        sampler=sampler,
        artifacts=artifacts,
    )
    return notes.annotate(study)


@dataclass(frozen=True)
class DashboardNotes:
    """A callback of `study.optimize` that keeps what `annotate` writes up to date.

    A trial gets its note and its picture as it ends. The study's note and the figures, which take
    longer, are written anew as often as keeps them within a share of the time; `annotate` brings
    them up to date in the end. Several workers may have the callback, on one study: they take
    turns. A storage or a disk that fails is a warning, since no search is to end for that.

    Args:
        space: This and those below as in `annotate`.
        share: How much of the time, at most, to spend on the study's note and the figures.

    Raises:
        AquaSurfError: If optuna-dashboard is not installed, `share` is no number above 0 and up to
            1, or `name` is none of several spaces.
    """

    space: Spaces
    _: KW_ONLY
    name: str = "activation"
    baselines: Baselines = BASELINES
    value_name: str = _VALUE_NAME
    value_names: Sequence[str] | None = None
    sampler: AquaSurfSampler | None = None
    artifacts: ArtifactStore | None = None
    share: float = 0.1

    def __post_init__(self) -> None:
        dashboard_library()
        if not 0 < self.share <= 1:
            raise AquaSurfError(
                f"share must be above 0 and up to 1, for example 0.1, but got {self.share!r}"
            )
        if isinstance(self.space, Mapping) and self.name not in self.space:
            raise AquaSurfError(
                f"name must be one of the spaces {sorted(self.space)}, but got {self.name!r}"
            )

    def __call__(self, study: optuna.Study, trial: FrozenTrial) -> None:
        """Write what is new after a trial; Optuna calls this.

        Raises:
            AquaSurfError: As `annotate` does.
        """
        try:
            kept = Kept(study)
            for ended in ended_trials([trial], self._spaces, self.baselines):
                self._write_trial(kept, ended, self._value_names(study))
            self._take_turn(study)
        except (OSError, StorageInternalError) as error:
            warnings.warn(
                f"the dashboard's notes could not be written: {error}; the search goes on",
                stacklevel=2,
            )

    def annotate(self, study: optuna.Study) -> Annotated:
        """Write everything, as the function `annotate` does."""
        kept = Kept(study)
        trials = study.get_trials(deepcopy=False)
        every = ended_trials(trials, self._spaces, self.baselines)
        value_names = self._value_names(study)
        for ended in every:
            self._write_trial(kept, ended, value_names)
        self._write_study(kept, every, value_names)
        return Annotated(kept.n_notes, kept.n_figures, kept.n_pictures)

    @property
    def _spaces(self) -> dict[str, AnySpace]:
        return dict(self.space) if isinstance(self.space, Mapping) else {self.name: self.space}

    def _value_names(self, study: optuna.Study) -> list[str]:
        known = study.metric_names
        total = len(study.directions)
        if total == 1:
            own = self.value_name != _VALUE_NAME or known is None
            return [self.value_name] if own else list(known or ())
        names = self.value_names or known or [f"objective {place}" for place in range(total)]
        if len(names) != total:
            raise AquaSurfError(
                f"value_names must name each of the {total} objectives, but got {list(names)}"
            )
        return list(names)

    def _take_turn(self, study: optuna.Study) -> None:
        """Write the study's note and the figures, unless that is too soon or another does it."""
        storage, study_id = study._storage, study._study_id
        begun = time.time()
        if begun < storage.get_study_system_attrs(study_id).get(_TURN_KEY, 0.0):
            return
        storage.set_study_system_attr(study_id, _TURN_KEY, begun + _LONGEST_TURN)
        rest = 0.0
        try:
            kept = Kept(study)
            trials = study.get_trials(deepcopy=False)
            every = ended_trials(trials, self._spaces, self.baselines)
            self._write_study(kept, every, self._value_names(study))
            rest = (time.time() - begun) * (1 / self.share - 1)
        finally:
            storage.set_study_system_attr(study_id, _TURN_KEY, time.time() + rest)

    def _write_trial(self, kept: Kept, ended: EndedTrial, value_names: Sequence[str]) -> None:
        for name, expression in ended.functions.items():
            text = str(expression)
            if self.artifacts is not None and not kept.was_uploaded(ended.trial, name, text):
                kept.upload(self.artifacts, ended.trial, name, text, _png(expression))
        note = trial_note(kept.study, ended, value_names, _pictures(kept, ended))
        kept.write_note(ended.trial, note)

    def _write_study(
        self, kept: Kept, every: Sequence[EndedTrial], value_names: Sequence[str]
    ) -> None:
        study, spaces = kept.study, self._spaces
        several = len(value_names) > 1
        best = best_of(study, every)
        front = (
            get_pareto_info(study, spaces, baselines=list(self.baselines), value_names=value_names)
            if several
            else None
        )
        pictures = {} if best is None else _pictures(kept, best)
        kept.write_note(None, study_note(study, spaces, every, value_names, pictures, front))
        kept.write_meanings(
            {
                each.key: each.words
                for name, space in spaces.items()
                for each in meanings(space, name)
            }
        )
        if several:
            figures = front_figures(
                study, spaces, baselines=self.baselines, value_names=value_names
            )
        else:
            figures = search_figures(
                study,
                spaces[self.name],
                name=self.name,
                baselines=self.baselines,
                value_name=value_names[0],
                sampler=self.sampler,
                best=None if best is None else best.functions.get(self.name),
            )
        for graph_id, figure in figures.items():
            kept.write_figure(graph_id, figure)


def _pictures(kept: Kept, ended: EndedTrial) -> dict[str, str]:
    addresses = {
        name: kept.picture(ended.trial, name, str(expression))
        for name, expression in ended.functions.items()
    }
    return {name: address for name, address in addresses.items() if address is not None}


def _png(expression: Expression) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        return write_png(Path(folder) / "function.png", expression).read_bytes()
