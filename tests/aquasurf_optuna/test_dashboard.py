"""What `annotate` and its command write, read back with optuna-dashboard's own functions."""

from __future__ import annotations

import json
import math
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import optuna_dashboard
import pytest
from optuna.artifacts import FileSystemArtifactStore
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import FrozenTrial, Trial, TrialState, create_trial

from aquasurf_optuna import (
    AquaSurfError,
    AquaSurfSampler,
    Expression,
    RationalFamily,
    SearchSpace,
)
from aquasurf_optuna._dashboard_notes import INVALID_KEY, PREDICTION_KEY, merged
from aquasurf_optuna.cli import parsed
from aquasurf_optuna.dashboard import DashboardNotes, annotate
from lightning_modules import callbacks
from tests.aquasurf_optuna.dashboard_reader import (
    FIGURES,
    attributes,
    figures_of,
    note_of,
    pictures_of,
    stored,
)
from tests.aquasurf_optuna.studies import FOUND, OTHER, RELU, SPACE, study_of

PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture(params=["memory", "sqlite", "journal"])
def study(request: pytest.FixtureRequest, tmp_path: Path) -> optuna.Study:
    storage = stored(tmp_path, request.param)
    study = optuna.create_study(direction="maximize", study_name="a study", storage=storage)
    study.add_trials(study_of().trials)
    return study


@pytest.fixture
def store(tmp_path: Path) -> FileSystemArtifactStore:
    (tmp_path / "pictures").mkdir()
    return FileSystemArtifactStore(tmp_path / "pictures")


def test_the_studys_note_tells_the_best_function_and_the_parameters(study: optuna.Study) -> None:
    annotate(study, SPACE, value_name="accuracy")
    note = note_of(study)
    assert "7 trials have ended: 5 complete, 1 failed, 1 pruned." in note
    assert "The best function so far: accuracy 0.8000, trial 4" in note
    assert f"**`{FOUND}`**" in note
    assert f'Activation("{FOUND}")' in note
    assert Expression.parse(FOUND).latex() in note
    assert "`f(x) = activation.0(activation.1(x), activation.2(x))`" in note
    assert re.search(r"\| `activation\.0`\s+\| outermost operator, binary\s+\|", note)
    assert re.search(r"\| `activation\.2`\s+\| second argument of activation\.0, unary of x", note)


def test_the_studys_attributes_tell_what_parameters_mean(study: optuna.Study) -> None:
    study.set_user_attr("mine", 1)
    annotate(study, SPACE)
    assert study.user_attrs == {
        "mine": 1,
        "activation.0": "outermost operator, binary",
        "activation.1": "first argument of activation.0, unary of x",
        "activation.2": "second argument of activation.0, unary of x",
    }


def test_every_trial_that_ended_has_a_note(study: optuna.Study) -> None:
    running = study.ask()
    annotate(study, SPACE, value_name="accuracy")
    assert f"**`{RELU}`**, which equals ReLU" in note_of(study, 0)
    assert "- accuracy: **0.6000**" in note_of(study, 0)
    assert f"**`{OTHER}`**\n" in note_of(study, 2)
    assert "- pruned: no reason was kept" in note_of(study, 2)
    assert "- accuracy: not finite (inf)" in note_of(study, 5)
    assert "The function is unknown.\n\n- failed before it had a function" in note_of(study, 6)
    assert note_of(study, running.number) == ""


def test_figures_fit_the_dashboards_cards(study: optuna.Study) -> None:
    annotate(study, SPACE, value_name="accuracy")
    figures = figures_of(study)
    assert set(figures) == FIGURES
    assert {each["layout"]["height"] for each in figures.values()} == {450}
    titles = [each["layout"]["title"]["text"] for each in figures.values()]
    assert all(titles)
    assert len(set(titles)) == len(titles)


def test_a_second_call_writes_nothing(study: optuna.Study, store: FileSystemArtifactStore) -> None:
    first = annotate(study, SPACE, artifacts=store)
    assert first == (1 + 7, len(FIGURES), 6)
    before = attributes(study)
    assert annotate(study, SPACE, artifacts=store) == (0, 0, 0)
    assert attributes(study) == before


def test_a_new_trial_changes_its_own_note_and_the_studys(
    study: optuna.Study, store: FileSystemArtifactStore
) -> None:
    annotate(study, SPACE, artifacts=store)
    before = figures_of(study)
    study.add_trial(study_of([("add(elu(x),swish(x))", 0.9)]).trials[0])
    written = annotate(study, SPACE, artifacts=store)
    assert (written.notes, written.pictures) == (2, 1)
    assert "add(elu(x),swish(x))" in note_of(study)
    after = figures_of(study)
    assert set(after) == FIGURES
    assert all(after[key] != before[key] for key in FIGURES)


def test_what_people_write_in_a_note_stays(study: optuna.Study) -> None:
    optuna_dashboard.save_note(study, "Mine, from before.")
    annotate(study, SPACE)
    written = note_of(study)
    assert written.startswith("Mine, from before.\n\n")
    optuna_dashboard.save_note(study, f"{written}\n\nMine, from later.")
    study.add_trial(study_of([(RELU, 0.95)]).trials[0])
    annotate(study, SPACE)
    note = note_of(study)
    assert note.startswith("Mine, from before.\n\n")
    assert note.endswith("\n\nMine, from later.")
    assert "8 trials have ended" in note
    assert "7 trials have ended" not in note


def test_a_note_cut_short_is_mended() -> None:
    whole = merged("mine", "first")
    assert merged(whole[: whole.index("first") + 2], "second") == merged("mine", "second")


def test_a_longer_note_than_one_attribute_gets_shorter_again(study: optuna.Study) -> None:
    wide = SearchSpace.four_node()
    empty = optuna.create_study(storage=study._storage)
    annotate(empty, wide)
    longer = note_of(empty)
    annotate(empty, SPACE)
    assert len(note_of(empty)) < len(longer)
    assert "No trial has ended yet." in note_of(empty)
    assert "activation.schema" not in note_of(empty)


def test_no_storage_lets_a_trial_that_ended_be_changed(study: optuna.Study) -> None:
    # Why pictures and functions of ended trials are not among the trials' own attributes.
    trial_id = study.trials[0]._trial_id
    for change in (study._storage.set_trial_user_attr, study._storage.set_trial_system_attr):
        with pytest.raises(UpdateFinishedTrialError, match="has already finished"):
            change(trial_id, "function", RELU)


def test_each_trial_gets_a_picture_of_its_function(
    study: optuna.Study, store: FileSystemArtifactStore
) -> None:
    annotate(study, SPACE, artifacts=store)
    for trial in study.trials[:6]:
        (meta,) = pictures_of(study, trial)
        assert (meta["filename"], meta["mimetype"]) == ("activation.png", "image/png")
        with store.open_reader(meta["artifact_id"]) as file:
            assert file.read(8) == PNG
        address = f"/artifacts/{study._study_id}/{trial._trial_id}/{meta['artifact_id']}"
        assert f"]({address})" in note_of(study, trial.number)
    assert pictures_of(study, study.trials[6]) == []


def test_pictures_stay_in_the_notes_without_the_store(
    study: optuna.Study, store: FileSystemArtifactStore
) -> None:
    annotate(study, SPACE, artifacts=store)
    assert annotate(study, SPACE) == (0, 0, 0)
    assert "](/artifacts/" in note_of(study)


def test_a_deleted_picture_does_not_come_back(
    study: optuna.Study, store: FileSystemArtifactStore
) -> None:
    annotate(study, SPACE, artifacts=store)
    trial = study.trials[0]
    (meta,) = pictures_of(study, trial)
    # What the dashboard does when someone deletes it there.
    store.remove(meta["artifact_id"])
    key = f"dashboard:artifacts:{trial._trial_id}:{meta['artifact_id']}"
    study._storage.set_study_system_attr(study._study_id, key, json.dumps(None))
    assert annotate(study, SPACE, artifacts=store) == (1, 0, 0)
    assert "/artifacts/" not in note_of(study, 0)


def pruned_trial(**settings: Any) -> FrozenTrial:
    return create_trial(
        state=TrialState.PRUNED,
        params=SPACE.params_of(RELU, "activation"),
        distributions={**SPACE.distributions("activation")},
        **settings,
    )


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        (
            {"user_attrs": {INVALID_KEY: "layer 'a': *huge*"}},
            r"the Fisher eigenvalues at initialisation are invalid: layer 'a': \*huge\*",
        ),
        (
            {"user_attrs": {PREDICTION_KEY: {"predicted": 0.3, "worse_than": 0.5}}},
            "before training it was predicted to reach 0.3000, worse than the threshold 0.5000",
        ),
        (
            {
                "user_attrs": {PREDICTION_KEY: {"predicted": 0.7, "worse_than": 0.5}},
                "intermediate_values": {0: 0.1, 3: 0.25},
            },
            "at step 3, where it had 0.2500",
        ),
        (
            {
                "user_attrs": {PREDICTION_KEY: {"predicted": None, "worse_than": 0.5}},
                "intermediate_values": {0: math.nan},
            },
            "at step 0, where it had -",
        ),
    ],
)
def test_a_note_tells_why_a_trial_was_pruned(settings: dict[str, Any], reason: str) -> None:
    study = study_of([(RELU, 0.5)])
    study.add_trial(pruned_trial(**settings))
    annotate(study, SPACE)
    assert f"- pruned: {reason}\n" in note_of(study, 1)


def test_the_keys_are_those_of_the_lightning_callback() -> None:
    assert callbacks.INVALID_KEY == INVALID_KEY
    assert callbacks.PREDICTION_KEY == PREDICTION_KEY


def test_a_function_left_out_of_the_space_is_told() -> None:
    study = study_of([(FOUND, 0.5)])
    study.add_trial(pruned_trial())
    annotate(study, SPACE.without(RELU))
    assert "- pruned: its function is left out of the search space" in note_of(study, 1)


def test_why_a_function_was_proposed(sampler: AquaSurfSampler) -> None:
    study = optuna.create_study(direction="maximize", sampler=sampler)
    study.optimize(lambda trial: float(len(str(SPACE.suggest(trial, "activation")))), n_trials=6)
    annotate(study, SPACE)
    for trial in study.trials:
        first, *more = str(sampler.explain(trial)).splitlines()
        assert f"- why it was proposed: {first.partition(': ')[2]}" in note_of(study, trial.number)
        assert note_of(study, trial.number).count("\n  - ") == len(more)
    assert "predicted: " in note_of(study, 5)
    assert set(figures_of(study)) == FIGURES | {"aquasurf-predictions"}


def test_with_the_sampler_there_is_a_map(tmp_path: Path) -> None:
    few = SearchSpace("binary(unary(x),unary(x))", unary=("relu", "tanh", "elu"), binary=("add",))
    sampler = AquaSurfSampler(few, seed=0)
    study = optuna.create_study(direction="maximize", sampler=sampler)
    study.optimize(lambda trial: float(len(str(few.suggest(trial, "activation")))), n_trials=4)
    annotate(study, few, sampler=sampler)
    assert "aquasurf-map" in figures_of(study)
    assert annotate(study, few, sampler=sampler) == (0, 0, 0)


def two_objectives(n: int) -> Callable[[Trial], tuple[float, ...]]:
    def objective(trial: Trial) -> tuple[float, ...]:
        expression = SPACE.suggest(trial, "activation")
        if trial.number == 2:
            raise optuna.TrialPruned
        return tuple(float(len(str(expression)) + trial.number * place) for place in range(n))

    return objective


@pytest.mark.parametrize(("n", "has_figure"), [(2, True), (3, True), (4, False)])
def test_several_objectives_have_a_front(n: int, has_figure: bool) -> None:
    study = optuna.create_study(
        directions=["maximize", "minimize", "minimize", "minimize"][:n],
        sampler=optuna.samplers.RandomSampler(seed=0),
    )
    study.optimize(two_objectives(n), n_trials=8)
    names = ["accuracy", "time", "size", "power"][:n]
    annotate(study, SPACE, value_names=names)
    note = note_of(study)
    assert "#### Pareto front" in note
    for trial in study.best_trials:
        assert str(SPACE.expression_of(trial.params, "activation")) in note
    assert "- accuracy: **" in note_of(study, 0)
    assert "- time: **" in note_of(study, 0)
    assert "- pruned" in note_of(study, 2)
    assert set(figures_of(study)) == ({"aquasurf-pareto"} if has_figure else set())
    assert annotate(study, SPACE, value_names=names) == (0, 0, 0)


def test_the_fronts_figure_has_no_panels_below_it() -> None:
    study = optuna.create_study(
        directions=["maximize", "minimize"], sampler=optuna.samplers.RandomSampler(seed=0)
    )
    study.optimize(two_objectives(2), n_trials=8)
    annotate(study, SPACE)
    figure = figures_of(study)["aquasurf-pareto"]
    assert {trace.get("xaxis", "x") for trace in figure["data"]} == {"x"}
    assert not [key for key in figure["layout"] if re.fullmatch(r"[xy]axis\d+", key)]
    assert figure["layout"]["yaxis"]["domain"] == [0, 1]


def test_several_activations_are_told_by_name() -> None:
    spaces = {"hidden": SPACE, "out|put": RationalFamily(1, 1)}
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))

    def objective(trial: Trial) -> float:
        return float(sum(len(str(each.suggest(trial, key))) for key, each in spaces.items()))

    study.optimize(objective, n_trials=3)
    annotate(study, spaces, name="hidden")
    assert "`hidden`: **`" in note_of(study, 0)
    assert r"`out\|put`: **`" in note_of(study, 0)
    assert "constant of the numerator" in note_of(study)
    with pytest.raises(AquaSurfError, match=r"one of the spaces \['hidden', 'out\|put'\], but got"):
        annotate(study, spaces)


def test_names_cannot_break_the_note() -> None:
    study = study_of([(RELU, 0.5)])
    annotate(study, SPACE, value_name="a|b\n# *c*")
    assert r"- a\|b \# \*c\*: **0.5000**" in note_of(study, 0)


def test_the_metrics_name_is_the_values_name() -> None:
    study = study_of([(RELU, 0.5)])
    with pytest.warns(optuna.exceptions.ExperimentalWarning, match="set_metric_names"):
        study.set_metric_names(["recall"])
    annotate(study, SPACE)
    assert "- recall: **0.5000**" in note_of(study, 0)


def test_wrong_value_names_are_refused() -> None:
    study = optuna.create_study(directions=["maximize", "minimize"])
    with pytest.raises(AquaSurfError, match=r"each of the 2 objectives, but got \['one'\]"):
        annotate(study, SPACE, value_names=["one"])


def test_without_the_package_the_remedy_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "optuna_dashboard", None)
    study = study_of([(RELU, 0.5)])
    remedy = re.escape('pip install "aquasurf[dashboard]"')
    with pytest.raises(AquaSurfError, match=remedy):
        annotate(study, SPACE)
    with pytest.raises(AquaSurfError, match=remedy):
        DashboardNotes(SPACE)


def command(*words: str) -> None:
    chosen, options = parsed(["dashboard", *words])
    chosen.run(options)


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    url = f"sqlite:///{tmp_path / 'a study.db'}"
    kept = optuna.create_study(storage=url, study_name="kept", direction="maximize")
    kept.add_trials(study_of().trials)
    folder = tmp_path / "new" / "pictures"
    words = ("--storage", url, "--study", "kept", "--value-name", "accuracy")
    command(*words, "--artifacts", str(folder))
    first, second = capsys.readouterr().out.splitlines()
    assert first == "study 'kept': wrote 8 notes, 4 figures, 6 pictures"
    assert second == f"look at it: optuna-dashboard '{url}' --artifact-dir {folder}"
    assert "accuracy 0.8000" in note_of(optuna.load_study(study_name="kept", storage=url))
    assert len(list(folder.iterdir())) == 6
    command(*words)
    first, second = capsys.readouterr().out.splitlines()
    assert first == "study 'kept': nothing has changed"
    assert second == f"look at it: optuna-dashboard '{url}'"


def test_the_command_makes_no_database(tmp_path: Path) -> None:
    with pytest.raises(AquaSurfError, match="there is no database"):
        command("--storage", f"sqlite:///{tmp_path / 'none.db'}", "--study", "kept")
