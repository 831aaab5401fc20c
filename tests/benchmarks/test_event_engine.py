import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.event_engine import Team, Trial, simulate
from tests.oracles.workers_oracle import second_by_second

Call = tuple[int, tuple[int, ...], tuple[int, ...]]


def engine(team: Team, training_seconds: list[int]) -> tuple[list[Trial], list[Call]]:
    calls: list[Call] = []
    trials = simulate(team, training_seconds, lambda *call: calls.append(call))
    return trials, calls


TEAMS = st.builds(
    Team,
    workers=st.integers(1, 5),
    batch=st.integers(1, 4),
    ahead=st.integers(0, 3),
    fixed_seconds=st.integers(0, 3),
    seconds_each=st.integers(0, 2),
)


@given(team=TEAMS, training_seconds=st.lists(st.integers(0, 9), min_size=1, max_size=15))
def test_the_engine_does_what_the_oracle_does_second_by_second(
    team: Team, training_seconds: list[int]
) -> None:
    assert engine(team, training_seconds) == second_by_second(team, training_seconds)


# Two workers, proposals of 2 s each, trainings of 3, 1 and 4 s:
# 0-2 trial 0 is proposed, to worker 0, who trains it from 2 to 5;
# 2-4 trial 1 is proposed, to worker 1, who trains it from 4 to 5;
# 5-7 trial 2 is proposed, to worker 0, who asked first, and trains it from 7 to 11.
BY_HAND = [Trial(0, 0, 0, 2, 5), Trial(1, 1, 0, 4, 5), Trial(2, 0, 5, 7, 11)]
CALLS_BY_HAND = [(1, (), ()), (1, (), (0,)), (1, (0, 1), ())]


@pytest.mark.parametrize("run", [engine, second_by_second])
def test_a_case_by_hand(run) -> None:
    assert run(Team(2, seconds_each=2), [3, 1, 4]) == (BY_HAND, CALLS_BY_HAND)


def test_the_oracle_can_fail() -> None:
    trials, calls = second_by_second(Team(2, seconds_each=2), [3, 1, 4])
    # As if two proposals could be made at the same time, and as if the result of trial 1 were
    # known to the proposer at 5 s only after it had begun.
    assert trials != [Trial(0, 0, 0, 2, 5), Trial(1, 1, 0, 2, 3), Trial(2, 1, 3, 5, 9)]
    assert calls != [(1, (), ()), (1, (), (0,)), (1, (0,), (1,))]


def test_one_worker_waits_for_each_proposal() -> None:
    seconds = np.random.default_rng(0).lognormal(size=20)
    trials, _ = engine(Team(1, seconds_each=0.5), list(seconds))
    ends = np.cumsum(seconds + 0.5)
    np.testing.assert_allclose([trial.finished for trial in trials], ends)


def test_proposals_made_ahead_cost_one_worker_nothing() -> None:
    trials, _ = engine(Team(1, ahead=1, seconds_each=0.5), [1.0] * 10)
    assert [trial.begun - trial.asked for trial in trials] == [0.5] + [0.0] * 9


def test_one_proposer_bounds_many_workers() -> None:
    # 100 workers could begin ten trials a second; the proposer makes two.
    trials, _ = engine(Team(100, seconds_each=0.5), [10.0] * 300)
    begun = sorted(trial.begun for trial in trials)
    np.testing.assert_allclose(begun, 0.5 * np.arange(1, 301))
