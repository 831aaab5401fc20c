import math

import optuna
import pytest
from optuna.trial import FrozenTrial, TrialState, create_trial

from aquasurf_optuna._pruning import INVALID_KEY, PREDICTION_KEY, PRUNED_KEY, reason_of
from aquasurf_optuna._pruning_report import duration, pruning_sections
from aquasurf_optuna.expression import Expression
from aquasurf_optuna.space import SearchSpace
from aquasurf_optuna.visualization._page import Section
from aquasurf_optuna.visualization._trials import StudyRecord, TrialRecord

FOUND = Expression.parse("erf(x)")


def trial_of(
    state: TrialState = TrialState.PRUNED,
    steps: dict[int, float] | None = None,
    **attributes: object,
) -> FrozenTrial:
    value = 0.5 if state == TrialState.COMPLETE else None
    named = {key.replace("__", ":"): value for key, value in attributes.items()}
    return create_trial(state=state, value=value, intermediate_values=steps, user_attrs=named)


@pytest.mark.parametrize(
    ("trial", "reason"),
    [
        (trial_of(TrialState.COMPLETE), ""),
        (trial_of(TrialState.FAIL), "the objective raised an error"),
        (trial_of(), "no reason was kept"),
        (trial_of(steps={3: 0.1, 12: 0.2}), "stopped by the pruner at step 12"),
    ],
)
def test_reasons(trial: FrozenTrial, reason: str) -> None:
    assert reason_of(trial) == reason


@pytest.mark.parametrize(
    ("attributes", "reason"),
    [
        ({INVALID_KEY: "layer 'a' explodes"}, "invalid Fisher eigenvalues: layer 'a' explodes"),
        ({PRUNED_KEY: "too slow"}, "too slow"),
        (
            {PREDICTION_KEY: {"predicted": 0.25, "worse_than": 0.5}},
            "predicted 0.25, worse than 0.5",
        ),
        ({PREDICTION_KEY: {"predicted": None, "worse_than": 0.5}}, "no reason was kept"),
    ],
)
def test_reasons_that_are_kept_on_the_trial(attributes: dict[str, object], reason: str) -> None:
    assert reason_of(create_trial(state=TrialState.PRUNED, user_attrs=attributes)) == reason


def test_a_space_keeps_why_it_prunes() -> None:
    space = SearchSpace.three_node().without("add(relu(x),zero(x))")
    params = SearchSpace.three_node().params_of(Expression.parse("add(relu(x),zero(x))"), "f")
    study = optuna.create_study()
    study.enqueue_trial(params)
    study.optimize(lambda trial: float(space.suggest(trial, "f").depth), n_trials=1)
    [trial] = study.trials
    assert trial.state == TrialState.PRUNED
    assert reason_of(trial) == "add(relu(x),zero(x)) is excluded from the search space"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.04, "0.0 seconds"),
        (0.5, "0.5 seconds"),
        (12.3, "12 seconds"),
        (119.0, "119 seconds"),
        (150.0, "2.5 minutes"),
        (3600.0, "60 minutes"),
        (9000.0, "2.5 hours"),
    ],
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def record_of(*trials: tuple[str, float, float]) -> StudyRecord:
    records = [
        TrialRecord(number, state, value, FOUND, None, seconds, "a reason")
        for number, (state, value, seconds) in enumerate(trials)
    ]
    return StudyRecord("s", "maximize", tuple(records), {})


def section_of(record: StudyRecord) -> Section:
    [section] = pruning_sections(record, {}, 0)
    return section


def test_what_pruning_saved() -> None:
    record = record_of(
        ("complete", 0.5, 100.0),
        ("complete", 0.6, 140.0),
        ("pruned", math.nan, 10.0),
        ("pruned", math.nan, 30.0),
        ("failed", math.nan, 1.0),
    )
    section = section_of(record)
    assert section.text == [
        "3 trials ended without a value, 2 of them pruned, after 20 seconds on average. A complete "
        "trial takes 2.0 minutes: pruning saved about 3.3 minutes."
    ]
    assert section.table is not None
    assert section.table.rows[0] == ("erf(x)", "pruned", "a reason", "10", "2")


@pytest.mark.parametrize(
    ("trials", "text"),
    [
        ([("failed", math.nan, 1.0)], "1 trial ended without a value; none of them was pruned."),
        ([("pruned", math.nan, 1.0)], "1 trial ended without a value, all of them pruned."),
        (
            [("complete", 0.5, 1.0), ("pruned", math.nan, 4.0)],
            "1 trial ended without a value, all of them pruned, after 4.0 seconds on average; a "
            "complete trial takes 1.0 seconds, so that pruning saved no time.",
        ),
    ],
)
def test_nothing_is_claimed_that_was_not_saved(
    trials: list[tuple[str, float, float]], text: str
) -> None:
    assert section_of(record_of(*trials)).text == [text]


def test_nothing_pruned_is_no_section() -> None:
    assert pruning_sections(record_of(("complete", 0.5, 1.0)), {}, 5) == []


def test_functions_ruled_out_are_counted_by_reason() -> None:
    ruled_out = {
        Expression.parse("exp(exp(x))"): "layer 'a' (Activation(exp(exp(x)))): explodes",
        Expression.parse("exp(x)"): "layer 'a' (Activation(exp(x))): explodes",
        Expression.parse("zero(x)"): "constant",
    }
    [section] = pruning_sections(record_of(("complete", 0.5, 60.0)), ruled_out, 10)
    assert section.text == [
        "3 of the 10 candidates that were measured have an invalid Fisher spectrum at "
        "initialisation, so they were never proposed. To train them all would take about "
        "3.0 minutes."
    ]
    assert section.table is not None
    assert section.table.rows == [
        ("layer 'a': explodes", "2", "exp(x)"),
        ("constant", "1", "zero(x)"),
    ]
