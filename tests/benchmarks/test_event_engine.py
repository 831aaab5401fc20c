import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.event_engine import Team, Trial, simulate
from tests.oracles.workers_oracle import second_by_second


class Proposer:
    """Takes a fixed time and a time for each proposal; remembers with what it was called."""

    def __init__(self, fixed, each) -> None:
        self.fixed, self.each = fixed, each
        self.calls: list[tuple[int, tuple[int, ...], tuple[int, ...]]] = []

    def __call__(self, n, finished, unfinished):
        self.calls.append((n, tuple(finished), tuple(unfinished)))
        return self.fixed + n * self.each


@given(
    team=st.builds(
        Team, workers=st.integers(1, 5), batch=st.integers(1, 4), ahead=st.integers(0, 3)
    ),
    training_seconds=st.lists(st.integers(0, 9), min_size=1, max_size=15),
    fixed=st.integers(0, 3),
    each=st.integers(0, 2),
)
def test_the_engine_does_what_the_oracle_does_second_by_second(
    team, training_seconds, fixed, each
) -> None:
    engines, oracles = Proposer(fixed, each), Proposer(fixed, each)
    assert simulate(team, training_seconds, engines) == second_by_second(
        team, training_seconds, oracles
    )
    assert engines.calls == oracles.calls


# Two workers, proposals of 2 s each, trainings of 3, 1 and 4 s:
# 0-2 trial 0 is proposed, to worker 0, who trains it from 2 to 5;
# 2-4 trial 1 is proposed, to worker 1, who trains it from 4 to 5;
# 5-7 trial 2 is proposed, to worker 0, who asked first, and trains it from 7 to 11.
BY_HAND = [Trial(0, 0, 0, 2, 5), Trial(1, 1, 0, 4, 5), Trial(2, 0, 5, 7, 11)]
CALLS_BY_HAND = [(1, (), ()), (1, (), (0,)), (1, (0, 1), ())]


@pytest.mark.parametrize("run", [simulate, second_by_second])
def test_a_case_by_hand(run) -> None:
    proposer = Proposer(0, 2)
    assert run(Team(2), [3, 1, 4], proposer) == BY_HAND
    assert proposer.calls == CALLS_BY_HAND


@pytest.mark.parametrize("wrong", [Team(2, batch=2), Team(2, ahead=1), Team(3)])
def test_the_oracle_tells_another_team(wrong) -> None:
    proposer = Proposer(0, 2)
    assert second_by_second(wrong, [3, 1, 4], proposer) != BY_HAND
    assert proposer.calls != CALLS_BY_HAND


def test_one_worker_waits_for_each_proposal() -> None:
    seconds = np.random.default_rng(0).lognormal(size=20)
    trials = simulate(Team(1), list(seconds), Proposer(0.0, 0.5))
    np.testing.assert_allclose([trial.finished for trial in trials], np.cumsum(seconds + 0.5))


def test_proposals_made_ahead_cost_one_worker_nothing() -> None:
    trials = simulate(Team(1, ahead=1), [1.0] * 10, Proposer(0.0, 0.5))
    assert [trial.begun - trial.asked for trial in trials] == [0.5] + [0.0] * 9


def test_one_proposer_bounds_many_workers() -> None:
    # 100 workers could begin ten trials a second; the proposer makes two.
    trials = simulate(Team(100), [10.0] * 300, Proposer(0.0, 0.5))
    begun = sorted(trial.begun for trial in trials)
    np.testing.assert_allclose(begun, 0.5 * np.arange(1, 301))
