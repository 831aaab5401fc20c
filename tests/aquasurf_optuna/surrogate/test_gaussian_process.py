"""The Gaussian process as a surrogate: what it predicts from what, and that only that counts."""

import functools
import itertools
import pickle
import re
import tracemalloc
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import norm

from aquasurf_optuna.exceptions import SurrogateError
from aquasurf_optuna.surrogate import GaussianProcessSurrogate, _gaussian_process
from aquasurf_optuna.surrogate._gp_fit import AMPLITUDE_RATE, AMPLITUDE_SHAPE, LEVEL
from tests.aquasurf_optuna.surrogate.candidates import clusters
from tests.oracles import gp_oracle

Floats = NDArray[np.float64]
Indices = NDArray[np.intp]

ROWS = np.array([3, 0, 17, 8, 21])
VALUES = np.array([0.4, 0.9, -np.inf, 0.5, 0.7])
ALL = np.arange(40)


def embedded(**settings: Any) -> GaussianProcessSurrogate:
    outputs, fisher, _ = clusters()
    return GaussianProcessSurrogate(**settings).embed(outputs, fisher)


def as_points(rows: Indices, study: int = 0) -> list[gp_oracle.Point]:
    outputs, fisher, _ = (part.astype(np.float32) for part in clusters())
    return [gp_oracle.Point(outputs[row], fisher[row], study) for row in rows]


def learned_setting(surrogate: GaussianProcessSurrogate) -> gp_oracle.Setting:
    h = surrogate.posterior_.hyperparameters
    return gp_oracle.Setting(
        h.lengths.tolist(),
        h.weights.tolist(),
        h.noise,
        h.agreement.tolist(),
        LEVEL,
        AMPLITUDE_SHAPE,
        AMPLITUDE_RATE,
    )


@functools.cache
def median_distances() -> tuple[float, ...]:
    """All rows are sampled, there being fewer than a hundred."""
    pairs = itertools.combinations(as_points(ALL), 2)
    return tuple(np.median([gp_oracle.distances(a, b) for a, b in pairs], axis=0))


def test_predictions_are_those_of_the_definition() -> None:
    surrogate = embedded(targets="values").fit(ROWS, VALUES)
    filled = np.where(np.isfinite(VALUES), VALUES, 0.4)
    standard = (filled - filled.mean()) / filled.std()

    mean, std = surrogate.predict(ALL, return_std=True)

    expected = gp_oracle.posterior(
        as_points(ROWS), standard, as_points(ALL), median_distances(), learned_setting(surrogate)
    )
    # Between the values and beyond them their scale is linear, so it can be undone.
    np.testing.assert_allclose(mean, filled.mean() + filled.std() * expected[0], atol=1e-4)
    np.testing.assert_allclose(std, filled.std() * expected[1], rtol=1e-3)


def test_with_ranks_predictions_lie_between_observed_values() -> None:
    surrogate = embedded(targets="ranks").fit(ROWS, VALUES)
    # Ranks, with the failure the lowest.
    scores = norm.ppf((np.array([2, 5, 1, 3, 4]) - 0.5) / 5)
    expected, _ = gp_oracle.posterior(
        as_points(ROWS), scores, as_points(ALL), median_distances(), learned_setting(surrogate)
    )

    mean, std = surrogate.predict(ALL, return_std=True)

    seen = [0.4, 0.4, 0.5, 0.7, 0.9]
    np.testing.assert_allclose(mean, np.interp(expected, np.sort(scores), seen), atol=1e-3)
    assert (std > 0).all()


def test_rows_of_other_studies_count_as_points_of_theirs() -> None:
    others = [(np.array([5, 9, 30]), np.array([3.0, 1.0, 2.0])), (np.array([3]), np.array([7.0]))]
    surrogate = embedded(targets="values").fit(ROWS, VALUES, others=others)
    standard = np.array([*_standard(np.array([0.4, 0.9, 0.4, 0.5, 0.7])),
                         *_standard(np.array([3.0, 1.0, 2.0])), 0.0])  # fmt: skip
    points = [*as_points(ROWS), *as_points(others[0][0], 1), *as_points(others[1][0], 2)]

    mean, _ = surrogate.predict(ALL, return_std=True)

    expected, _ = gp_oracle.posterior(
        points, standard, as_points(ALL), median_distances(), learned_setting(surrogate)
    )
    own = np.array([0.4, 0.9, 0.4, 0.5, 0.7])
    np.testing.assert_allclose(mean, own.mean() + own.std() * expected, atol=1e-4)


def _standard(values: Floats) -> Floats:
    return np.asarray((values - values.mean()) / values.std())


def test_what_resembles_the_good_is_good() -> None:
    _, _, labels = clusters()
    value_of_cluster = np.array([0.2, 0.9, 0.5, 0.1])
    seen = np.arange(20)
    surrogate = embedded().fit(seen, value_of_cluster[labels[:20]])

    predicted, std = surrogate.predict(np.arange(20, 40), return_std=True)

    np.testing.assert_allclose(predicted, value_of_cluster[labels[20:]], atol=0.1)
    assert labels[20:][np.argmax(surrogate.acquire(np.arange(20, 40)))] == 1
    assert (std < 0.3).all()


@pytest.mark.parametrize("features", ["outputs", "fisher"])
def test_either_feature_will_do(features: str) -> None:
    outputs, fisher, labels = clusters()
    given = {"outputs": outputs} if features == "outputs" else {"fisher": fisher}
    surrogate = GaussianProcessSurrogate(features=features).embed(**given)

    surrogate.fit(np.arange(20), labels[:20].astype(float))

    np.testing.assert_allclose(surrogate.predict(np.arange(20, 40)), labels[20:], atol=0.3)


def test_ranks_do_not_mind_the_scale() -> None:
    first = embedded().fit(ROWS, VALUES).acquire(ALL)
    second = embedded().fit(ROWS, np.exp(50 * VALUES)).acquire(ALL)

    np.testing.assert_allclose(first, second)


def test_features_of_any_unit_and_length_learn_the_same() -> None:
    outputs, fisher, _ = clusters()
    many = np.hstack([fisher] * 3) * 1000
    plain, other = (
        GaussianProcessSurrogate().embed(outputs, each).fit(ROWS, VALUES) for each in (fisher, many)
    )

    np.testing.assert_allclose(other.acquire(ALL), plain.acquire(ALL), atol=1e-4)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0.7], 0.7),
        ([0.7, 0.7, 0.7], 0.7),
        # Where all fail, nothing is known of the scale; see Observations.filled.
        ([-np.inf, -np.inf], 0.0),
    ],
)
def test_alike_values_are_predicted_everywhere(values: list[float], expected: float) -> None:
    surrogate = embedded().fit(ROWS[: len(values)], values)

    mean, std = surrogate.predict(ALL, return_std=True)

    np.testing.assert_allclose(mean, expected, atol=1e-6)
    assert std[ROWS[0]] == pytest.approx(std.min(), rel=1e-4)
    assert std.min() < 0.5 * std.max()


def test_duplicates_are_equal_to_the_last_digit() -> None:
    outputs, fisher, _ = clusters()
    # An odd number of them, so that blocks of a matrix product do not fall in with the copies.
    copies = np.tile(np.arange(39), 7)
    surrogate = GaussianProcessSurrogate().embed(outputs[copies], fisher[copies])

    # One row seen twice, and its copy once.
    surrogate.fit([3, 3, 42, 0, 17], [0.2, 0.4, 0.3, 0.9, 0.6])

    acquired = surrogate.acquire(np.arange(len(copies))).reshape(7, 39)
    np.testing.assert_array_equal(acquired, np.tile(acquired[0], (7, 1)))


def test_running_rows_keep_proposals_away() -> None:
    surrogate = embedded()
    free = np.setdiff1d(ALL, ROWS)
    mean, std = surrogate.fit(ROWS, VALUES).predict(ALL, return_std=True)
    first = free[np.argmax(surrogate.acquire(free))]
    alone = surrogate.acquire(ALL)

    beside = surrogate.fit(ROWS, VALUES, running=[first])
    mean_beside, std_beside = beside.predict(ALL, return_std=True)

    np.testing.assert_allclose(mean_beside, mean, atol=1e-4)
    assert std_beside[first] < 0.7 * std[first]
    assert beside.acquire([first])[0] < alone[first]


def test_other_studies_lead_while_there_are_no_own_observations() -> None:
    _, _, labels = clusters()
    seen = np.arange(24)
    value_of_cluster = np.array([20.0, 900.0, 50.0, -np.inf])
    surrogate = embedded().fit([], [], others=[(seen, value_of_cluster[labels[:24]])])

    predicted = surrogate.predict(np.arange(24, 40))

    # Ranks from 0 to 1; they are drawn to the middle, since another study need not agree.
    by_cluster = [predicted[labels[24:] == c].mean() for c in (3, 0, 2, 1)]
    assert (np.diff(by_cluster) > 0.05).all()
    assert 0 < by_cluster[0] < 0.5 < by_cluster[-1] < 1
    assert labels[24:][np.argmax(surrogate.acquire(np.arange(24, 40)))] == 1


def test_other_studies_help_as_far_as_they_agree() -> None:
    _, _, labels = clusters()
    truth = np.array([0.2, 0.9, 0.5, 0.1])[labels] + 0.01 * np.random.default_rng(0).normal(size=40)
    own = np.array([0, 4, 2, 7, 3, 11])
    seen = np.arange(40)
    good, bad = embedded(), embedded()
    good.fit(own, truth[own], others=[(seen, 100 * truth)])
    bad.fit(own, truth[own], others=[(seen, -truth)])

    # The second cluster was not seen in the own study.
    assert labels[np.argmax(good.predict(seen))] == 1
    weights = [s.posterior_.hyperparameters.agreement[1] for s in (good, bad)]
    assert weights[0] > weights[1] + 0.2


def test_the_order_of_observations_does_not_matter() -> None:
    shuffled = np.array([4, 2, 0, 3, 1])
    others = [(ALL[:7], np.arange(7.0)), (ALL[7:11], np.arange(4.0))]
    first = embedded().fit(ROWS, VALUES, running=[1, 2], others=others)
    second = embedded().fit(ROWS[shuffled], VALUES[shuffled], running=[2, 1], others=others)

    np.testing.assert_array_equal(first.acquire(ALL), second.acquire(ALL))


def test_what_was_fitted_before_leaves_no_trace() -> None:
    used = embedded()
    used.fit(ALL[10:], np.arange(30.0), running=[2]).acquire(ALL)

    np.testing.assert_array_equal(
        used.fit(ROWS, VALUES).acquire(ALL), embedded().fit(ROWS, VALUES).acquire(ALL)
    )


def test_candidates_join_without_a_refit() -> None:
    outputs, fisher, _ = clusters()
    grown = GaussianProcessSurrogate().embed(outputs[:30], fisher[:30]).fit(ROWS, VALUES)
    before = grown.acquire(ALL[:30])

    grown.extend(outputs[30:], fisher[30:])
    joined = grown.acquire(ALL)

    np.testing.assert_allclose(joined[:30], before, atol=1e-6)
    np.testing.assert_array_equal(grown.fit(ROWS, VALUES).acquire(ALL), joined)


@pytest.mark.parametrize("part", [slice(0, 1), slice(5, 8), slice(0, 40, 7), slice(0, 0)])
def test_few_rows_are_predicted_as_among_all(part: slice) -> None:
    surrogate = embedded().fit(ROWS, VALUES)
    few = surrogate.predict(ALL[part], return_std=True)

    everything = surrogate.predict(ALL, return_std=True)

    for one, whole in zip(few, everything, strict=True):
        np.testing.assert_allclose(one, whole[part], atol=1e-6)


def test_rows_are_predicted_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = embedded().fit(ROWS, VALUES).acquire(ALL)
    monkeypatch.setattr(_gaussian_process, "_BLOCK_NUMBERS", 17 * len(ROWS))

    np.testing.assert_allclose(embedded().fit(ROWS, VALUES).acquire(ALL), whole, atol=1e-6)


def test_of_too_many_observations_a_part_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    _, _, labels = clusters()
    values = np.array([0.2, 0.9, 0.5, 0.1])[labels]
    monkeypatch.setattr(_gaussian_process, "_MOST_POINTS", 12)
    monkeypatch.setattr(_gaussian_process, "_MOST_FOR_HYPERPARAMETERS", 8)

    surrogate = embedded().fit(ALL, values, others=[(ALL, values), (ALL[:3], values[:3])])

    assert len(surrogate.posterior_.studies) <= 13
    # Predictions are kept in proportion: ranks are those among all observations.
    best = surrogate.acquire(ALL)
    assert labels[np.argmax(best)] == 1


def test_long_columns_leave_room_for_fewer_observations(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_gaussian_process, "COLUMN_BYTES", 10 * 40 * 4 * 4)

    surrogate = embedded().fit(ALL[:30], np.arange(30.0))

    assert len(surrogate.posterior_.studies) == 10


def test_distances_are_not_pickled() -> None:
    surrogate = embedded().fit(ROWS, VALUES)
    expected = surrogate.acquire(ALL)

    copied = pickle.loads(pickle.dumps(surrogate))

    assert not copied._columns._known
    np.testing.assert_array_equal(copied.acquire(ALL), expected)
    np.testing.assert_array_equal(copied.fit(ROWS, VALUES).acquire(ALL), expected)


@pytest.mark.parametrize("acquisition", ["greedy", "ucb", "ei", "pi"])
def test_the_more_exploration_the_more_unlike_the_tried(acquisition: str) -> None:
    def chosen(exploration: float) -> float:
        # Of values, not of ranks, so that spreads are in the units that the rule compares.
        settings = {"acquisition": acquisition, "exploration": exploration, "targets": "values"}
        surrogate = embedded(**settings).fit(ROWS, VALUES)
        free = np.setdiff1d(ALL, ROWS)
        row = free[np.argmax(surrogate.acquire(free))]
        return float(surrogate.predict([row], return_std=True)[1][0])

    assert chosen(0.0) <= chosen(3.0)
    assert chosen(0.0) < chosen(3.0) or acquisition != "ucb"


def test_comparisons_can_be_chosen() -> None:
    outputs, fisher, _ = clusters()
    turned = np.where(ALL[:, None] < 20, -outputs, outputs)

    def acquired(given: Floats, *comparisons: str) -> Floats:
        surrogate = GaussianProcessSurrogate(comparisons=comparisons).embed(given, fisher)
        return surrogate.fit(ROWS, VALUES).acquire(ALL)

    both = "mirrored", "fisher"
    np.testing.assert_allclose(acquired(turned, *both), acquired(outputs, *both), atol=1e-5)
    np.testing.assert_allclose(
        acquired(3 * turned - 1, "shape"), acquired(outputs, "shape"), atol=0.03
    )
    np.testing.assert_allclose(
        acquired(turned, *both), acquired(turned, *both[::-1]), rtol=0, atol=0
    )
    assert not np.allclose(acquired(turned, "outputs"), acquired(outputs, "outputs"), atol=0.3)


def test_nearly_equal_functions_and_their_mirrors_do_no_harm() -> None:
    rng = np.random.default_rng(0)
    one = 20 * rng.normal(size=1000)
    near = one + 1e-4 * rng.normal(size=(10, 1000))
    outputs = np.vstack([near, -near, 3 * near[:5] + 2])
    fisher = np.repeat(rng.normal(size=(5, 30)), 5, axis=0)
    rows = np.arange(20)

    for seed in range(20):
        values = np.random.default_rng(seed).normal(size=20)
        surrogate = GaussianProcessSurrogate().embed(outputs, fisher).fit(rows, values)
        assert np.isfinite(surrogate.acquire(np.arange(25))).all()


def test_outputs_taken_as_they_are() -> None:
    outputs, _, _ = clusters()
    compressed = 100 * outputs

    def ranking(**settings: Any) -> Floats:
        surrogate = GaussianProcessSurrogate(features="outputs", **settings)
        return surrogate.embed(compressed).fit(ROWS, VALUES).acquire(ALL)

    np.testing.assert_allclose(
        ranking(output_bound=None),
        GaussianProcessSurrogate(features="outputs").embed(outputs).fit(ROWS, VALUES).acquire(ALL),
        atol=1e-4,
    )
    assert not np.allclose(ranking(), ranking(output_bound=None), atol=1e-2)
    with pytest.raises(SurrogateError, match="outputs must be finite, but row 7 is not"):
        GaussianProcessSurrogate(features="outputs", output_bound=None).embed(
            np.where(ALL[:, None] == 7, np.nan, outputs)
        )


def test_no_array_of_the_features_size_is_made_beside_them() -> None:
    rng = np.random.default_rng(0)
    outputs = rng.normal(size=(4000, 500)).astype(np.float32)
    surrogate = GaussianProcessSurrogate(
        features="outputs", comparisons=["outputs", "mirrored"], output_bound=None
    ).embed(outputs)

    tracemalloc.start()
    surrogate.fit(np.arange(20), rng.normal(size=20)).acquire(np.arange(4000))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    # 20 columns take 0.3 MB, and arrays of points by candidates as much each; the features 8 MB.
    assert peak < 4e6


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"targets": "logits"}, "targets of GaussianProcessSurrogate must be one of"),
        ({"acquisition": "lcb"}, "acquisition of GaussianProcessSurrogate must be one of"),
        ({"exploration": -1.0}, "exploration of GaussianProcessSurrogate must be a finite number"),
        ({"exploration": None}, "exploration of GaussianProcessSurrogate must be a finite number"),
        ({"comparisons": []}, "comparisons of GaussianProcessSurrogate must be some of"),
        ({"comparisons": "shape"}, "or None for all, but got 'shape'"),
        (
            {"comparisons": ["fisher"], "features": "outputs"},
            "['outputs', 'mirrored', 'shape'], those of features='outputs', or None for all, but "
            "got ['fisher']",
        ),
        ({"output_bound": 0.0}, "output_bound of GaussianProcessSurrogate must be a finite number"),
        ({"output_bound": "x"}, "above 0, or None for outputs taken as they are, but got 'x'"),
        ({"output_bound": np.inf}, "above 0, or None for outputs taken as they are, but got inf"),
        ({"features": "all"}, "features of GaussianProcessSurrogate must be one of"),
        ({"random_state": -1}, "random_state of GaussianProcessSurrogate must be an integer"),
    ],
)
def test_wrong_settings_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(SurrogateError, match=re.escape(message)):
        embedded(**settings)


def test_settings_changed_for_worse_are_refused_at_the_next_fit() -> None:
    surrogate = embedded()
    surrogate.set_params(targets="none")

    with pytest.raises(SurrogateError, match="targets of GaussianProcessSurrogate"):
        surrogate.fit(ROWS, VALUES)
