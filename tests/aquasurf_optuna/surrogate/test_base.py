"""What every surrogate promises and refuses, tried on the quickest one."""

import copy
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from aquasurf_optuna.exceptions import SurrogateError
from aquasurf_optuna.surrogate import NoveltySurrogate
from tests.aquasurf_optuna.surrogate.candidates import clusters
from tests.oracles.surrogate_oracles import relative_distances


@pytest.fixture
def surrogate() -> NoveltySurrogate:
    outputs, fisher, _ = clusters()
    return NoveltySurrogate().embed(outputs, fisher)


def test_observations_accumulate(surrogate: NoveltySurrogate) -> None:
    np.testing.assert_array_equal(surrogate.fit([4], [2.0]).predict([5, 6]), [2.0, 2.0])
    surrogate.fit([4, 5], [2.0, 3.0])

    np.testing.assert_array_equal(surrogate.predict([5]), [3.0])


def test_a_row_observed_twice_counts_once_with_its_mean(surrogate: NoveltySurrogate) -> None:
    twice = surrogate.fit([1, 2, 1, 3, 5], [0.0, 5.0, 2.0, 6.0, 9.0]).predict(np.arange(40))
    once = surrogate.fit([1, 2, 3, 5], [1.0, 5.0, 6.0, 9.0]).predict(np.arange(40))

    np.testing.assert_array_equal(twice, once)


def test_nothing_to_predict(surrogate: NoveltySurrogate) -> None:
    assert surrogate.fit([0], [1.0]).predict([]).shape == (0,)


def test_embedding_again_forgets_the_observations(surrogate: NoveltySurrogate) -> None:
    outputs, fisher, _ = clusters()
    surrogate.fit([0], [1.0]).embed(outputs, fisher)

    with pytest.raises(SurrogateError, match=r"call fit\(\)"):
        surrogate.predict([0])


@pytest.mark.parametrize(
    ("outputs", "fisher", "problem"),
    [
        (None, np.ones((4, 2)), "features='both' needs outputs, but got None"),
        (np.ones((4, 2)), None, "features='both' needs fisher, but got None"),
        (np.ones((4, 2)), np.ones((5, 2)), "equally many rows"),
        (np.ones(4), np.ones((4, 2)), r"outputs must be a non-empty array .* got \(4,\)"),
        (np.ones((0, 2)), np.ones((0, 2)), r"fisher must be a non-empty array .* got \(0, 2\)"),
        (np.ones((4, 2)), np.diag([1, 1, np.nan, 1]), "fisher must be finite, but row 2 is not"),
    ],
)
def test_wrong_features_are_refused(outputs: Any, fisher: Any, problem: str) -> None:
    with pytest.raises(SurrogateError, match=problem):
        NoveltySurrogate().embed(outputs, fisher)


@pytest.mark.parametrize(
    ("rows", "values", "problem"),
    [
        ([0, 1], [1.0], "equally long"),
        ([], [], "at least one observation"),
        ([0, 40], [1.0, 2.0], "integers from 0 to 39"),
        ([-1], [1.0], "integers from 0 to 39"),
        ([0.5], [1.0], "one-dimensional array of integers"),
        ([[0]], [[1.0]], "one-dimensional array of integers"),
        ([0, 3], [1.0, np.nan], "but got nan for row 3"),
    ],
)
def test_wrong_observations_are_refused(
    surrogate: NoveltySurrogate, rows: Any, values: Any, problem: str
) -> None:
    with pytest.raises(SurrogateError, match=problem):
        surrogate.fit(rows, values)
    with pytest.raises(SurrogateError, match=problem):
        surrogate.fit([1], [1.0], others=[(rows, values)])


@pytest.mark.parametrize(
    ("call", "problem"),
    [
        (lambda s: s.fit([0], [1.0]), r"call embed\(\)"),
        (lambda s: s.extend(np.ones((1, 2)), np.ones((1, 2))), r"call embed\(\)"),
        (lambda s: s.predict([0]), r"call fit\(\)"),
    ],
)
def test_the_order_of_calls_is_told(call: Callable[[Any], Any], problem: str) -> None:
    with pytest.raises(SurrogateError, match=problem):
        call(NoveltySurrogate())


def test_new_rows_must_have_the_same_columns(surrogate: NoveltySurrogate) -> None:
    with pytest.raises(SurrogateError, match="fisher must have 20 columns, as in embed, but got 3"):
        surrogate.extend(np.ones((1, 50)), np.ones((1, 3)))


@pytest.mark.parametrize("wrong", [[40], [-1], [0.5], [[0]]])
def test_running_rows_must_exist(surrogate: NoveltySurrogate, wrong: Any) -> None:
    with pytest.raises(SurrogateError, match="from 0 to 39"):
        surrogate.fit([0], [1.0], running=wrong)


def test_other_studies_can_stand_alone(surrogate: NoveltySurrogate) -> None:
    surrogate.fit([], [], running=[5, 3, 3], others=[([1, 2], [0.5, -np.inf])])
    seen = surrogate.observations_

    assert (len(seen.rows), len(seen.values)) == (0, 0)
    np.testing.assert_array_equal(seen.running, [3, 5])
    np.testing.assert_array_equal(seen.others[0].rows, [1, 2])
    np.testing.assert_array_equal(seen.others[0].values, [0.5, -np.inf])


@pytest.mark.parametrize(
    ("values", "filled"),
    [
        ([3.0, -np.inf, 1.0], [3.0, 1.0, 1.0]),
        ([2.0, -np.inf, 2.0], [2.0, 1.0, 2.0]),
        ([-np.inf, -np.inf, -np.inf], [0.0, 0.0, 0.0]),
        ([-5.0, 4.0, 4.0], [-5.0, 4.0, 4.0]),
    ],
)
def test_failures_count_as_the_worst(
    surrogate: NoveltySurrogate, values: list[float], filled: list[float]
) -> None:
    seen = surrogate.fit([4, 5, 6], values).observations_

    np.testing.assert_array_equal(seen.values, values)
    np.testing.assert_array_equal(seen.filled, filled)


def test_a_failure_among_values_of_a_row_counts_as_the_worst(surrogate: NoveltySurrogate) -> None:
    seen = surrogate.fit([4, 4, 5, 5, 6], [3.0, -np.inf, -np.inf, -np.inf, 1.0]).observations_

    np.testing.assert_array_equal(seen.rows, [4, 5, 6])
    np.testing.assert_array_equal(seen.values, [2.0, -np.inf, 1.0])


@pytest.mark.parametrize("features", ["both", "fisher", "outputs"])
def test_distances_are_relative_and_averaged(features: str) -> None:
    outputs, fisher, _ = clusters()
    surrogate = NoveltySurrogate(features=features).embed(outputs, fisher)
    parts = {"both": (outputs, fisher), "fisher": (None, fisher), "outputs": (outputs, None)}
    expected = relative_distances(*parts[features])

    np.testing.assert_allclose(surrogate.distances(np.arange(40), [3, 7]), expected[:, [3, 7]],
                               rtol=1e-5, atol=1e-7)  # fmt: skip
    np.testing.assert_allclose(surrogate.distances([9], [3, 9]), expected[[9]][:, [3, 9]],
                               rtol=1e-5, atol=1e-7)  # fmt: skip
    assert surrogate.distances([], [3]).shape == (0, 1)
    assert surrogate.distances([3, 4], []).shape == (2, 0)


def test_the_oracle_of_distances_can_fail() -> None:
    outputs, fisher, _ = clusters()
    both = relative_distances(outputs, fisher)

    assert not np.allclose(both, relative_distances(outputs, None), rtol=1e-2)
    assert not np.allclose(both, relative_distances(outputs, 2 * fisher + 1e3 * outputs[:, :20]))


def test_distances_do_not_depend_on_how_they_are_asked_for(surrogate: NoveltySurrogate) -> None:
    whole = surrogate.distances(np.arange(40), np.arange(40))
    outputs, fisher, _ = clusters()
    fresh = NoveltySurrogate().embed(outputs, fisher)

    np.testing.assert_array_equal(whole, whole.T)
    np.testing.assert_array_equal(fresh.distances([8], np.arange(40)), whole[[8]])
    np.testing.assert_array_equal(fresh.distances(np.arange(40), [8]), whole[:, [8]])
    np.testing.assert_array_equal(fresh.distances([5, 6], [6, 1]), whole[[5, 6]][:, [6, 1]])


def test_distances_to_newcomers_are_known(surrogate: NoveltySurrogate) -> None:
    outputs, fisher, _ = clusters(60)
    before = surrogate.distances(np.arange(40), [2])
    surrogate.extend(outputs[40:], fisher[40:])
    after = surrogate.distances(np.arange(60), [2])

    np.testing.assert_array_equal(after[:40], before)
    np.testing.assert_array_equal(surrogate.distances([2], np.arange(60)), after.T)


def test_the_usual_distance_follows_when_candidates_have_doubled(
    surrogate: NoveltySurrogate,
) -> None:
    outputs, fisher, _ = clusters()
    before = surrogate.distances([0], [1])
    surrogate.extend(9 * outputs, 9 * fisher)

    assert surrogate.distances([0], [1]) < before
    together = NoveltySurrogate().embed(
        np.vstack([outputs, 9 * outputs]), np.vstack([fisher, 9 * fisher])
    )
    np.testing.assert_array_equal(surrogate.distances([0], [1]), together.distances([0], [1]))


def test_candidates_that_are_all_alike_are_at_distance_0() -> None:
    alike = NoveltySurrogate().embed(np.ones((5, 3)), np.ones((5, 2)))

    np.testing.assert_array_equal(alike.distances(np.arange(5), [1]), np.zeros((5, 1)))


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda s: pickle.loads(pickle.dumps(s))])
def test_copies_leave_measured_distances_behind(
    surrogate: NoveltySurrogate, copied: Callable[[Any], Any]
) -> None:
    light = len(pickle.dumps(surrogate))
    before = surrogate.distances(np.arange(40), np.arange(40))

    assert len(pickle.dumps(surrogate)) < light + 500
    np.testing.assert_array_equal(copied(surrogate).distances(np.arange(40), np.arange(40)), before)


def test_features_are_kept_once_as_float32(surrogate: NoveltySurrogate) -> None:
    assert {part.dtype for part in surrogate._parts.values()} == {np.dtype("float32")}
