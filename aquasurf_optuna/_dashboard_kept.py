"""What a study keeps for optuna-dashboard, and writing only what differs from it.

Notes and figures go through optuna-dashboard's own functions. Pictures cannot go through Optuna's
`upload_artifact`: no storage lets a trial that has ended be changed. For those the dashboard has a
second place, the study's system attribute `dashboard:artifacts:<trial id>:<artifact id>`, which it
reads, shows and deletes as it does the trial's own.
"""

from __future__ import annotations

import importlib
import io
import itertools
import json
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import optuna
import plotly.graph_objects as go
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial

from aquasurf_optuna._dashboard_notes import merged
from aquasurf_optuna.exceptions import AquaSurfError

if TYPE_CHECKING:
    from optuna.artifacts._protocol import ArtifactStore

_PLOT_KEY = "dashboard:plot_data:"
_ARTIFACT_KEY = "dashboard:artifacts:"
_NAMESPACE = uuid.UUID("6f0f9a51-3a52-5c8e-9d0b-6c2f6f3a7b14")


def dashboard_library() -> Any:
    """Return the package optuna_dashboard.

    Raises:
        AquaSurfError: If it is not installed.
    """
    try:
        return importlib.import_module("optuna_dashboard")
    except ImportError as error:
        raise AquaSurfError(
            f'this needs optuna-dashboard ({error}): pip install "aquasurf[dashboard]"'
        ) from error


@dataclass
class _Owner:
    """Whose note it is: what optuna-dashboard asks of a trial, which may have ended.

    Optuna's own `Trial` of an ended trial would ask the sampler for a proposal. Without a trial's
    id the note is the study's.
    """

    study: optuna.Study
    storage: Any
    _trial_id: int | None


@dataclass
class _Snapshot:
    """Attributes of a study as they once were: for reading many notes with one query."""

    attributes: dict[str, Any]

    def get_study_system_attrs(self, study_id: int) -> dict[str, Any]:  # noqa: ARG002 - the storage's signature
        return self.attributes


@dataclass
class Kept:
    """What one study keeps.

    Args:
        study: The study.

    Attributes:
        n_notes: How many notes were written.
        n_figures: How many figures.
        n_pictures: How many pictures were uploaded.
    """

    study: optuna.Study
    n_notes: int = 0
    n_figures: int = 0
    n_pictures: int = 0
    _library: Any = field(default_factory=dashboard_library, repr=False)

    def __post_init__(self) -> None:
        self._id: int = self.study._study_id
        self._storage: BaseStorage = self.study._storage
        self._attributes = dict(self._storage.get_study_system_attrs(self._id))

    def write_note(self, trial: FrozenTrial | None, ours: str) -> None:
        """Write our part of a note, of the study where there is no trial."""
        trial_id = None if trial is None else trial._trial_id
        snapshot = _Snapshot(self._attributes)
        old = self._library.get_note(_Owner(self.study, snapshot, trial_id))
        new = merged(old, ours)
        if new != old:
            self._library.save_note(_Owner(self.study, self._storage, trial_id), new)
            self.n_notes += 1

    def write_figure(self, graph_id: str, figure: go.Figure) -> None:
        """Show a figure in the place of the one with this id."""
        if "".join(self._pieces(graph_id)) != figure.to_json():
            self._library.save_plotly_graph_object(self.study, figure, graph_object_id=graph_id)
            self.n_figures += 1

    def write_meanings(self, words: dict[str, str]) -> None:
        """Set attributes of the study, which its first page lists; any trial's are fixed."""
        known = self.study.user_attrs
        for key, text in words.items():
            if known.get(key) != text:
                self.study.set_user_attr(key, text)

    def upload(
        self, store: ArtifactStore, trial: FrozenTrial, name: str, text: str, picture: bytes
    ) -> None:
        """Give a trial the picture of its function `text`, under the activation's name."""
        artifact_id = self._artifact_id(trial, name, text)
        # The file first, so that nobody looks for one that is not there yet.
        store.write(artifact_id, io.BytesIO(picture))
        meta = {
            "artifact_id": artifact_id,
            "filename": f"{name}.png",
            "mimetype": "image/png",
            "encoding": None,
        }
        key = f"{_ARTIFACT_KEY}{trial._trial_id}:{artifact_id}"
        self._attributes[key] = json.dumps(meta)
        self._storage.set_study_system_attr(self._id, key, self._attributes[key])
        self.n_pictures += 1

    def was_uploaded(self, trial: FrozenTrial, name: str, text: str) -> bool:
        """Say whether the trial got this picture, which may have been deleted since."""
        artifact_id = self._artifact_id(trial, name, text)
        return f"{_ARTIFACT_KEY}{trial._trial_id}:{artifact_id}" in self._attributes

    def picture(self, trial: FrozenTrial, name: str, text: str) -> str | None:
        """Return the address of a picture on the dashboard; None if there is none."""
        artifact_id = self._artifact_id(trial, name, text)
        key = f"{_ARTIFACT_KEY}{trial._trial_id}:{artifact_id}"
        if json.loads(self._attributes.get(key, "null")) is None:
            return None
        owner = _Owner(self.study, self._storage, trial._trial_id)
        artifacts = importlib.import_module("optuna_dashboard.artifact")
        return str(artifacts.get_artifact_path(owner, artifact_id))

    def _artifact_id(self, trial: FrozenTrial, name: str, text: str) -> str:
        # The same from every process, so that two that draw at once leave one picture.
        begun = "" if trial.datetime_start is None else trial.datetime_start.isoformat()
        parts = (self.study.study_name, str(trial.number), begun, name, text)
        return str(uuid.uuid5(_NAMESPACE, json.dumps(parts)))

    def _pieces(self, graph_id: str) -> Iterator[str]:
        keys = (f"{_PLOT_KEY}{graph_id}:{piece}" for piece in itertools.count())
        present = itertools.takewhile(lambda key: key in self._attributes, keys)
        return (self._attributes[key] for key in present)
