"""Reading back what a study keeps for optuna-dashboard, with the dashboard's own functions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import optuna
import optuna_dashboard
from optuna.storages import InMemoryStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, Trial
from optuna_dashboard._custom_plot_data import get_plotly_graph_objects
from optuna_dashboard.artifact._backend import list_trial_artifacts

FIGURES = {"aquasurf-progress", "aquasurf-values", "aquasurf-operators", "aquasurf-function"}


def attributes(study: optuna.Study) -> dict[str, Any]:
    return study._storage.get_study_system_attrs(study._study_id)


def note_of(study: optuna.Study, number: int | None = None) -> str:
    if number is None:
        return optuna_dashboard.get_note(study)
    plain = optuna.load_study(
        study_name=study.study_name,
        storage=study._storage,
        sampler=optuna.samplers.RandomSampler(),
    )
    return optuna_dashboard.get_note(Trial(plain, study.trials[number]._trial_id))


def figures_of(study: optuna.Study) -> dict[str, Any]:
    found = get_plotly_graph_objects(attributes(study))
    return {key: json.loads(text) for key, text in found.items()}


def pictures_of(study: optuna.Study, trial: FrozenTrial) -> list[Any]:
    return list_trial_artifacts(attributes(study), trial.system_attrs, trial)


def stored(tmp_path: Path, kind: str) -> optuna.storages.BaseStorage:
    if kind == "memory":
        return InMemoryStorage()
    if kind == "sqlite":
        return RDBStorage(f"sqlite:///{tmp_path / 'study.db'}")
    return JournalStorage(JournalFileBackend(str(tmp_path / "study.log")))
