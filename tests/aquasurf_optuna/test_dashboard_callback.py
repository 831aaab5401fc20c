"""The callback keeps notes and figures up to date, and no search ends for it."""

from __future__ import annotations

import math
import time
from pathlib import Path

import optuna
import pytest
from optuna.artifacts import FileSystemArtifactStore
from optuna.trial import Trial

from aquasurf_optuna.dashboard import DashboardNotes, annotate
from aquasurf_optuna.exceptions import AquaSurfError, SpaceError
from tests.aquasurf_optuna.dashboard_reader import (
    FIGURES,
    attributes,
    figures_of,
    note_of,
    pictures_of,
    stored,
)
from tests.aquasurf_optuna.studies import SPACE, study_of


class Slow:
    """A stand-in for time: each look takes a second."""

    def __init__(self) -> None:
        self.now = 1e9

    def time(self) -> float:
        self.now += 1.0
        return self.now


def objective(trial: Trial) -> float:
    return float(len(str(SPACE.suggest(trial, "activation"))))


@pytest.mark.parametrize("kind", ["memory", "sqlite", "journal"])
def test_the_callback_keeps_up(kind: str, tmp_path: Path) -> None:
    study = optuna.create_study(direction="maximize", storage=stored(tmp_path, kind))
    study.add_trials(study_of().trials)
    store = FileSystemArtifactStore(tmp_path)
    notes = DashboardNotes(SPACE, artifacts=store, share=1.0)
    study.optimize(objective, n_trials=2, callbacks=[notes])
    assert "9 trials have ended" in note_of(study)
    assert set(figures_of(study)) == FIGURES
    for number in (7, 8):
        assert "- objective value: **" in note_of(study, number)
        assert len(pictures_of(study, study.trials[number])) == 1
    # Those from before the callback.
    assert note_of(study, 0) == ""
    assert annotate(study, SPACE, artifacts=store) == (7, 0, 6)


def test_the_callback_takes_its_share_of_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Slow()
    monkeypatch.setattr(time, "time", clock.time)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    notes = DashboardNotes(SPACE, share=0.1)
    study.optimize(objective, n_trials=1, callbacks=[notes])
    assert "1 trial has ended" in note_of(study)
    study.optimize(objective, n_trials=1, callbacks=[notes])
    assert "1 trial has ended" in note_of(study)
    assert "- objective value: **" in note_of(study, 1)
    clock.now += 60.0
    study.optimize(objective, n_trials=1, callbacks=[notes])
    assert "3 trials have ended" in note_of(study)


def test_workers_take_turns() -> None:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    another = time.time() + 100.0
    study._storage.set_study_system_attr(study._study_id, "aquasurf:dashboard", another)
    study.optimize(objective, n_trials=1, callbacks=[DashboardNotes(SPACE, share=1.0)])
    assert note_of(study) == ""
    assert "- objective value: **" in note_of(study, 0)
    assert attributes(study)["aquasurf:dashboard"] == another


def test_a_full_disk_does_not_end_the_search(tmp_path: Path) -> None:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    nowhere = FileSystemArtifactStore(tmp_path / "missing")
    with pytest.warns(UserWarning, match=r"notes could not be written: .*; the search goes on"):
        study.optimize(objective, n_trials=2, callbacks=[DashboardNotes(SPACE, artifacts=nowhere)])
    assert len(study.trials) == 2


def test_a_wrong_name_is_told_at_once() -> None:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    with pytest.raises(SpaceError, match="no trial has an activation named 'other'"):
        study.optimize(objective, n_trials=5, callbacks=[DashboardNotes(SPACE, name="other")])
    assert len(study.trials) == 1


@pytest.mark.parametrize("share", [0.0, -1.0, 1.5, math.nan])
def test_a_wrong_share_is_refused(share: float) -> None:
    with pytest.raises(AquaSurfError, match=r"share must be above 0 and up to 1, .*but got"):
        DashboardNotes(SPACE, share=share)
