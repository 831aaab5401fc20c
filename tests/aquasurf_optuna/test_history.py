"""What a study's trials count as: by the rules, against a slow reading of them, and by example."""

import dataclasses
import datetime
import math
import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import optuna
import pytest
from hypothesis import given
from optuna.samplers import RandomSampler
from optuna.storages import RDBStorage, RetryHeartbeatStaleTrialCallback
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from aquasurf_optuna._history import (
    FAILED_KEY,
    ActivationReader,
    Combination,
    History,
    HistoryReader,
)
from aquasurf_optuna.catalogue import Catalogue
from aquasurf_optuna.sampler import AquaSurfSampler
from tests.aquasurf_optuna.sampler_helpers import TINY, suggest, tell
from tests.oracles import history_oracle
from tests.oracles.history_oracle import Record

OF_TINY = Catalogue.of(TINY)
FUNCTIONS = [
    OF_TINY.class_of(text) for text in ("relu(x)", "add(tanh(x),tanh(x))", "mul(relu(x),tanh(x))")
]
TIMEOUT = 3600.0
NOW = datetime.datetime.now()
STATES = {
    "waiting": TrialState.WAITING,
    "running": TrialState.RUNNING,
    "overdue": TrialState.RUNNING,
    "killed": TrialState.FAIL,
    "failed": TrialState.FAIL,
    "pruned": TrialState.PRUNED,
    "finished": TrialState.COMPLETE,
}


def trial_of(record: Record) -> FrozenTrial:
    """The trial that a record is about; with the number varies how it looks."""
    state = STATES[record.state]
    params: dict[str, Any] = {"lr": 0.1} if record.number % 2 else {"activation.0": "sum_n"}
    attributes: dict[str, Any] = {}
    if record.function is not None:
        members = OF_TINY.members(record.function)
        graph = members[record.number % len(members)]
        params = TINY.params_of(graph, "activation")
        claim = {"aquasurf:activation": str(OF_TINY[record.function])}
        if record.state == "waiting":
            attributes, params = {"fixed_params": params}, {}
        elif record.state in ("running", "overdue") and record.number % 2:
            # Its objective has not asked for the function yet.
            attributes, params = claim, {}
        elif record.state == "killed":
            attributes = claim
        elif record.state == "failed" and record.number % 2:
            attributes = {**claim, FAILED_KEY: True}
    distributions = {
        k: optuna.distributions.CategoricalDistribution([v]) for k, v in params.items()
    }
    late = datetime.timedelta(seconds=2 * TIMEOUT if record.state == "overdue" else 1.0)
    return FrozenTrial(
        number=record.number,
        trial_id=record.number,
        state=state,
        value=None,
        values=list(record.values) if state == TrialState.COMPLETE else None,
        datetime_start=None if state == TrialState.WAITING else NOW - late,
        datetime_complete=NOW + datetime.timedelta(seconds=record.end)
        if state.is_finished()
        else None,
        params=params,
        distributions=distributions,  # type: ignore[arg-type]  # invariant dictionary
        user_attrs={},
        system_attrs=attributes,
        intermediate_values=dict(record.reports),
    )


def read(
    records: Sequence[Record],
    signs: Sequence[float] = (1.0,),
    *,
    timeout: float | None = TIMEOUT,
    exclude: int | None = None,
) -> History:
    """The history of some trials of one activation."""
    directions = [StudyDirection.MAXIMIZE if s > 0 else StudyDirection.MINIMIZE for s in signs]
    reader = HistoryReader([ActivationReader("activation", TINY, OF_TINY)], timeout)
    return reader.read(map(trial_of, records), directions, exclude=exclude)


def single(values: dict[Combination, tuple[float, ...]]) -> dict[int | None, list[float]]:
    """Values by class instead of by combination."""
    return {key[0]: list(value) for key, value in values.items()}


numbers = st.sampled_from([-1.0, 0.0, 0.5, 0.7, 2.0, math.inf, -math.inf])
reports = st.dictionaries(
    st.integers(0, 2), st.sampled_from([-1.0, 0.0, 0.4, 0.5, 0.6, math.nan, math.inf]), max_size=3
)


@st.composite
def studies(draw: st.DrawFn) -> tuple[list[Record], list[float]]:
    """Trials of one study, and 1 or -1 for each objective."""
    signs = draw(st.lists(st.sampled_from([1.0, -1.0]), min_size=1, max_size=2))
    records = []
    for number in range(draw(st.integers(0, 12))):
        state = draw(st.sampled_from(list(STATES)))
        # One that was overdue has no time of its end, but an early start.
        end = -10_000 if state == "overdue" else draw(st.integers(1, 9))
        records.append(
            Record(
                number,
                draw(st.sampled_from([None, *FUNCTIONS])),
                state,
                tuple(draw(numbers) for _ in signs),
                draw(reports),
                end,
            )
        )
    return records, signs


@given(studies())
def test_the_rules_hold_for_any_study(study: tuple[list[Record], list[float]]) -> None:
    records, signs = study
    history = read(records, signs)

    assert {key[0] for key in history.taken} == history_oracle.taken(records)
    assert {n: key[0] for n, key in history.rivals.items()} == history_oracle.running(records)
    assert single(history.values) == history_oracle.values(records, signs)
    assert single(history.first_values) == history_oracle.first_values(records, signs)
    order = list(dict.fromkeys(r.function for r in history_oracle.ended(records)))
    assert [key[0] for key in history.values] == order
    assert [key[0] for key in history.first_values] == order
    assert history.n_finished == len(history_oracle.ended(records))
    assert history.has_scale == any(
        math.isfinite(v) for values in history.values.values() for v in values
    )


@given(studies(), st.randoms(use_true_random=False))
def test_the_order_of_the_trials_does_not_matter(
    study: tuple[list[Record], list[float]], random: Any
) -> None:
    records, signs = study
    # The deaths of a function count by number, so that those with two are left as they are.
    records = [r for r in records if r.state not in ("killed", "overdue")]
    shuffled = list(records)
    random.shuffle(shuffled)

    # Values too are the same to the last digit.
    assert read(shuffled, signs) == read(records, signs)
    assert list(read(shuffled, signs).values) == list(read(records, signs).values)


@given(studies())
def test_a_trial_more_changes_no_first_value(study: tuple[list[Record], list[float]]) -> None:
    records, signs = study
    records = [r for r in records if r.state not in ("killed", "overdue")]
    records = [dataclasses.replace(r, end=n) for n, r in enumerate(records)]
    before = list(read(records[:-1], signs).first_values.items())

    assert list(read(records, signs).first_values.items())[: len(before)] == before


@given(studies(), st.integers(0, 11))
def test_the_trial_that_asks_does_not_count(
    study: tuple[list[Record], list[float]], asking: int
) -> None:
    records, signs = study
    without = [record for record in records if record.number != asking]

    assert read(records, signs, exclude=asking) == read(without, signs)


RELU, TANH, PRODUCT = FUNCTIONS


def finished(number: int, function: int, value: float, **reports: float) -> Record:
    return Record(
        number, function, "finished", (value,), {int(k[1:]): v for k, v in reports.items()}, number
    )


def pruned(number: int, function: int, **reports: float) -> Record:
    return Record(
        number, function, "pruned", (), {int(k[1:]): v for k, v in reports.items()}, number
    )


OTHERS = [
    finished(0, RELU, 0.9, s1=0.5, s2=0.8),
    finished(1, TANH, 0.3, s1=0.25, s2=0.25),
]


@pytest.mark.parametrize(
    ("reports", "expected"),
    [
        ({"s1": 0.4}, 0.9),  # nearest to 0.5
        ({"s1": 0.2}, 0.3),
        ({"s1": 0.375}, 0.3),  # as near to both: the worse
        ({"s1": 0.4, "s2": 0.3}, 0.3),  # only the last step counts
        ({"s7": 0.2}, 0.2),  # none to compare at this step: the report
        ({"s7": 0.6}, 0.3),  # but no better than the worst
        ({}, -math.inf),
        ({"s1": math.nan}, -math.inf),
        ({"s1": math.inf}, -math.inf),
    ],
)
def test_a_pruned_trial_counts_as_the_finished_one_nearest(
    reports: dict[str, float], expected: float
) -> None:
    records = [*OTHERS, pruned(2, PRODUCT, **reports)]
    assert read(records).values[(PRODUCT,)] == (expected,)


def test_a_pruned_trial_of_a_minimised_study() -> None:
    # Values are turned, so 0.9 is the worse here.
    nearest = [*OTHERS, pruned(2, PRODUCT, s1=0.375)]
    assert read(nearest, [-1.0]).values[(PRODUCT,)] == (-0.9,)
    alone = [*OTHERS, pruned(2, PRODUCT, s7=0.2)]
    assert read(alone, [-1.0]).values[(PRODUCT,)] == (-0.9,)
    assert read([pruned(0, PRODUCT, s7=0.2)], [-1.0]).values[(PRODUCT,)] == (-0.2,)


def test_failures_count_for_each_objective_on_its_own() -> None:
    records = [
        Record(0, RELU, "finished", (0.5, math.inf), end=0),
        Record(1, TANH, "finished", (math.nan, 3.0), end=1),
        Record(2, PRODUCT, "failed", end=2),
        Record(3, RELU, "finished", (0.1, 7.0), end=3),
    ]
    assert read(records, [1.0, -1.0]).values == {
        # Once infinite: that counts as the worst of all.
        (RELU,): (0.3, -7.0),
        (TANH,): (-math.inf, -3.0),
        (PRODUCT,): (-math.inf, -math.inf),
    }
    # A pruned trial of several objectives has no report to go by.
    assert read([Record(0, RELU, "pruned", (), {1: 0.5})], [1.0, -1.0]).values == {
        (RELU,): (-math.inf, -math.inf)
    }


def test_a_failure_beside_others_is_the_worst_of_all() -> None:
    records = [
        finished(0, RELU, 0.8),
        Record(1, RELU, "failed", end=1),
        finished(2, TANH, 0.2),
    ]
    assert read(records).values[(RELU,)] == pytest.approx((0.5,))


def test_a_function_that_kills_its_workers_is_a_failure_at_the_third_time() -> None:
    deaths = [Record(n, RELU, "killed", end=n) for n in range(4)]

    for n in (1, 2):
        assert read(deaths[:n]) == History()
    third = read(deaths[:3])
    assert third.taken == {(RELU,)}
    assert third.values == {(RELU,): (-math.inf,)}
    assert third.n_finished == 1
    # Deaths of different functions have nothing to do with each other.
    assert read([*deaths[:2], Record(2, TANH, "killed")]) == History()


def test_an_overdue_trial_is_given_up() -> None:
    overdue = [Record(n, RELU, "overdue") for n in range(3)]

    assert read(overdue[:1]) == History()
    assert read(overdue[:1], timeout=None).rivals == {0: (RELU,)}
    # The third time it is no rival, whom others would keep away from, but a failure.
    assert read(overdue).rivals == {}
    assert read(overdue).values == {(RELU,): (-math.inf,)}


# The same by real studies


def sampler(**options: Any) -> AquaSurfSampler:
    settings: dict[str, Any] = {"baselines": ("relu(x)",), "seed": 0, **options}
    return AquaSurfSampler(TINY, catalogue=OF_TINY, **settings)


def history_of(study: optuna.Study) -> History:
    """What the next trial sees."""
    assert isinstance(study.sampler, AquaSurfSampler)
    return study.sampler._read(study, exclude=-1)


def test_a_failure_told_by_the_objective_is_one_and_a_kill_is_not(tmp_path: Path) -> None:
    storage = RDBStorage(f"sqlite:///{tmp_path / 'study.db'}")
    study = optuna.create_study(storage=storage, sampler=sampler())

    def objective(trial: optuna.Trial) -> float:
        TINY.suggest(trial, "activation")
        raise ValueError("it exploded")

    study.optimize(objective, n_trials=1, catch=(ValueError,))
    assert history_of(study).values == {(RELU,): (-math.inf,)}

    killed, expression = suggest(study, TINY)
    assert (OF_TINY.class_of(expression),) in history_of(study).taken
    # As the heartbeat does it, past the study.
    storage.set_trial_state_values(killed._trial_id, TrialState.FAIL)
    assert history_of(study).taken == {(RELU,)}
    assert suggest(study, TINY)[1] == expression
    storage.remove_session()


def test_a_failure_of_another_sampler_is_one() -> None:
    study = optuna.create_study(sampler=RandomSampler(seed=0))
    trial, expression = suggest(study, TINY)
    study.tell(trial, state=TrialState.FAIL)
    study.sampler = sampler()

    assert history_of(study).values == {(OF_TINY.class_of(expression),): (-math.inf,)}


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
def test_a_killed_trial_that_waits_for_its_retry_holds_its_function(tmp_path: Path) -> None:
    storage = RDBStorage(
        f"sqlite:///{tmp_path / 'study.db'}",
        heartbeat_interval=60,
        grace_period=120,
        heartbeat_stale_trial_callback=RetryHeartbeatStaleTrialCallback(max_retry=2),
    )
    study = optuna.create_study(storage=storage, sampler=sampler())
    killed = optuna.Trial(study, storage.create_new_trial(study._study_id))
    expression = TINY.suggest(killed, "activation")
    storage.set_trial_state_values(killed._trial_id, TrialState.FAIL)
    callback = storage.get_heartbeat_stale_trial_callback()
    assert callback is not None
    callback(study, study.trials[0])

    waiting = (OF_TINY.class_of(expression),)
    assert study.trials[1].state == TrialState.WAITING
    assert history_of(study).taken == {waiting}
    # Another worker, that began before, takes something else.
    other = optuna.Trial(study, storage.create_new_trial(study._study_id))
    assert OF_TINY.class_of(TINY.suggest(other, "activation")) != waiting[0]

    with pytest.warns(UserWarning, match="Heartbeat of storage is supposed"):
        retried, again = suggest(study, TINY)
    assert (retried.number, again) == (1, expression)
    study.tell(retried, 0.5)
    assert history_of(study).values == {waiting: (-0.5,)}
    storage.remove_session()


def test_running_trials_are_given_up_after_a_time_that_the_user_sets() -> None:
    study = optuna.create_study(sampler=sampler(running_timeout=TIMEOUT))
    _, expression = suggest(study, TINY)
    assert history_of(study).rivals == {0: (OF_TINY.class_of(expression),)}

    (trial,) = study._storage.get_all_trials(study._study_id, deepcopy=False)
    trial.datetime_start = datetime.datetime.now() - datetime.timedelta(seconds=TIMEOUT + 60)
    assert history_of(study) == History()
    assert suggest(study, TINY)[1] == expression


def test_trials_that_violate_constraints_count_by_their_value() -> None:
    study = optuna.create_study(sampler=sampler())
    tell(
        study,
        TINY.params_of("add(tanh(x),tanh(x))", "activation"),
        TINY,
        value=0.5,
        system_attrs={"constraints": (1.0,)},
    )
    assert history_of(study).values == {(TANH,): (-0.5,)}


def test_a_reader_can_be_sent_to_another_process() -> None:
    reader = HistoryReader([ActivationReader("activation", TINY, OF_TINY)], TIMEOUT)
    records = [*OTHERS, pruned(2, PRODUCT, s1=0.3)]
    trials = [trial_of(record) for record in records]
    directions = [StudyDirection.MAXIMIZE]

    copy = pickle.loads(pickle.dumps(reader))
    assert copy.read(trials, directions) == reader.read(trials, directions)


# The oracle itself

STUDY = [*OTHERS, pruned(2, PRODUCT, s1=0.3), Record(3, RELU, "failed", end=3)]
WRONG: dict[str, list[Record]] = {
    "a failure is forgotten": STUDY[:3],
    "a pruned trial is a failure": [*OTHERS, Record(2, PRODUCT, "failed", end=2), STUDY[3]],
    "pruned at another step": [*OTHERS, pruned(2, PRODUCT, s2=0.9), STUDY[3]],
    "another value": [dataclasses.replace(STUDY[0], values=(0.8,)), *STUDY[1:]],
}


@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG)
def test_the_oracle_can_fail(wrong: list[Record]) -> None:
    expected = history_oracle.values(STUDY, [1.0])
    assert expected == {RELU: [pytest.approx(0.6)], TANH: [0.3], PRODUCT: [0.3]}
    assert single(read(wrong).values) != expected


@pytest.mark.parametrize("state", ["killed", "failed", "waiting", "overdue", "pruned"])
def test_the_oracle_tells_states_apart(state: str) -> None:
    running = Record(0, RELU, "running")
    other = dataclasses.replace(running, state=state)
    told = [
        (history_oracle.taken([r]), history_oracle.running([r]), history_oracle.values([r], [1.0]))
        for r in (running, other)
    ]
    assert told[0] != told[1]


def test_the_oracle_knows_what_was_unknown_then() -> None:
    records = [
        pruned(0, PRODUCT, s1=0.3),
        *[dataclasses.replace(r, number=r.number + 1, end=5) for r in OTHERS],
    ]
    assert history_oracle.first_values(records, [1.0])[PRODUCT] == [0.3]
    assert history_oracle.values(records, [1.0])[PRODUCT] == [0.3]
    records[0] = pruned(0, PRODUCT, s1=0.5)
    assert history_oracle.first_values(records, [1.0])[PRODUCT] == [0.5]
    assert history_oracle.values(records, [1.0])[PRODUCT] == [0.9]
