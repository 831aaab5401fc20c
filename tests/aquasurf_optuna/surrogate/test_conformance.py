"""What each surrogate that has a name keeps: a copy, a seed, an order, its manners."""

import copy
import functools
import pickle
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.base import clone

from aquasurf_optuna.exceptions import SurrogateError
from aquasurf_optuna.surrogate import SURROGATES, Surrogate, make_surrogate
from tests.aquasurf_optuna.surrogate.candidates import clusters

Floats = NDArray[np.float64]

NAMES = tuple(SURROGATES)
EVERY = np.arange(40)
OTHERS = [([5, 9, 13, 3], [30.0, 10.0, -np.inf, 20.0]), ([1, 2], [-1.0, -2.0])]
ROWS = np.array([0, 1, 2, 3, 4, 5, 10, 15, 20, 33])
VALUES = np.array([0.1, 0.5, 0.1, 0.7, 0.1, 0.6, 0.1, 0.8, -np.inf, 0.55])


@functools.cache
def _embedded(name: str) -> bytes:
    outputs, fisher, _ = clusters()
    surrogate = make_surrogate(name, features="both", random_state=0)
    return pickle.dumps(surrogate.embed(outputs, fisher))


def embedded(name: str) -> Surrogate:
    """A surrogate of the 40 candidates; they are laid out once for all tests."""
    surrogate: Surrogate = pickle.loads(_embedded(name))
    return surrogate


def said(surrogate: Surrogate, rows: NDArray[np.intp] = EVERY) -> list[Floats]:
    """All that it says of rows: means, spreads, ranking."""
    return [*surrogate.predict(rows, return_std=True), surrogate.acquire(rows)]


def assert_same(first: list[Floats], second: list[Floats]) -> None:
    for one, other in zip(first, second, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("name", NAMES)
def test_shapes_and_types(name: str) -> None:
    surrogate = embedded(name).fit(ROWS, VALUES)
    mean, std, worth = said(surrogate)

    for array in (mean, std, worth):
        assert (array.shape, array.dtype) == ((40,), np.float64)
    assert np.isfinite(mean).all()
    assert np.isfinite(worth).all()
    assert np.isnan(std).all() or (std >= 0).all()
    np.testing.assert_array_equal(surrogate.predict(EVERY), mean)
    assert surrogate.predict([]).shape == surrogate.acquire([]).shape == (0,)


@pytest.mark.parametrize("name", NAMES)
def test_values_are_predicted_where_they_were_seen(name: str) -> None:
    labels = clusters()[2]
    rows = np.arange(16)
    predicted = embedded(name).fit(rows, labels[rows] / 10 + 0.2).predict(EVERY[16:])

    assert np.corrcoef(predicted, labels[16:])[0, 1] > 0.9
    assert predicted.min() > 0.0
    assert predicted.max() < 0.8


@pytest.mark.parametrize("name", sorted(set(NAMES) - {"novelty"}))
def test_the_best_group_comes_first(name: str) -> None:
    labels = clusters()[2]
    worth = embedded(name).fit(np.arange(16), labels[:16] / 10 + 0.2).acquire(EVERY[16:])

    assert labels[16:][np.argmax(worth)] == 3


@pytest.mark.parametrize("name", NAMES)
def test_a_clone_has_the_settings_and_knows_nothing(name: str) -> None:
    surrogate = embedded(name).fit(ROWS, VALUES)
    fresh = clone(surrogate)

    assert repr(fresh) == repr(surrogate)
    with pytest.raises(SurrogateError, match=r"call embed\(\)"):
        fresh.fit([0], [1.0])
    outputs, fisher, _ = clusters()
    assert_same(said(fresh.embed(outputs, fisher).fit(ROWS, VALUES)), said(surrogate))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("copied", [copy.deepcopy, lambda s: pickle.loads(pickle.dumps(s))])
def test_a_copy_says_the_same_and_goes_its_own_way(name: str, copied: Any) -> None:
    surrogate = embedded(name).fit(ROWS, VALUES)
    before = said(surrogate)
    twin = copied(surrogate)

    assert_same(said(twin), before)
    outputs, fisher, _ = clusters(44)
    twin.extend(outputs[40:], fisher[40:]).fit([1], [1.0])
    assert_same(said(surrogate), before)
    assert surrogate.n_rows_ == 40


@pytest.mark.parametrize("name", NAMES)
def test_only_the_last_fit_counts(name: str) -> None:
    surrogate = embedded(name)
    said(surrogate.fit([7, 8, 9], [5.0, 6.0, 7.0], running=[3], others=OTHERS))

    assert_same(said(surrogate.fit(ROWS, VALUES)), said(embedded(name).fit(ROWS, VALUES)))


@pytest.mark.parametrize("name", NAMES)
def test_the_order_of_observations_is_no_matter(name: str) -> None:
    shuffled = np.random.default_rng(0).permutation(len(ROWS))
    first = embedded(name).fit(ROWS, VALUES, running=[6, 7])
    second = embedded(name).fit(ROWS[shuffled], VALUES[shuffled], running=[7, 6, 7])

    assert_same(said(first), said(second))


@pytest.mark.parametrize("name", NAMES)
def test_rows_are_ranked_alike_alone_and_among_others(name: str) -> None:
    surrogate = embedded(name).fit(ROWS, VALUES, others=OTHERS)
    few = np.array([30, 4, 17])

    for whole, part in zip(said(surrogate), said(surrogate, few), strict=True):
        np.testing.assert_allclose(part, whole[few], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_newcomers_need_no_new_fit(name: str) -> None:
    outputs, fisher, _ = clusters(50)
    surrogate = embedded(name).fit(ROWS, VALUES)
    before = said(surrogate)
    surrogate.extend(outputs[40:45], fisher[40:45]).extend(outputs[45:], fisher[45:])

    assert surrogate.n_rows_ == 50
    for now, then in zip(said(surrogate)[:2], before[:2], strict=True):
        np.testing.assert_allclose(now, then, rtol=1e-5, atol=1e-6)
    assert np.isfinite(surrogate.predict(np.arange(40, 50))).all()
    again = surrogate.predict(np.arange(50))
    np.testing.assert_allclose(surrogate.fit(ROWS, VALUES).predict(np.arange(50)), again, rtol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_a_newcomer_like_a_known_row_is_treated_like_it(name: str) -> None:
    outputs, fisher, _ = clusters()
    surrogate = embedded(name).extend(outputs[[3, 12]], fisher[[3, 12]]).fit(ROWS, VALUES)

    mean, std, worth = said(surrogate, np.arange(42))
    # Where an ensemble counts ranks, rounding can tell two equals apart.
    atol = 1 / 42 if name == "ensemble" else 1e-6
    for array, tolerance in ((mean, 1e-6), (std, 1e-6), (worth, atol)):
        np.testing.assert_allclose(array[[40, 41]], array[[3, 12]], rtol=1e-5, atol=tolerance)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("rows", "values"),
    [
        ([4], [0.7]),
        ([4], [-np.inf]),
        ([4, 5, 6], [-np.inf] * 3),
        ([4, 4, 4], [0.1, 0.2, -np.inf]),
        ([4, 5, 6, 7], [0.5] * 4),
        ([4, 5], [1e12, -1e12]),
        (range(40), [0.5] * 40),
        (range(40), np.linspace(0, 1, 40)),
    ],
)
@pytest.mark.parametrize("more", [{}, {"running": [0, 1]}, {"others": OTHERS}])
def test_any_observations_will_do(name: str, rows: Any, values: Any, more: dict[str, Any]) -> None:
    surrogate = embedded(name).fit(list(rows), list(values), **more)
    mean, std, worth = said(surrogate)

    assert np.isfinite(mean).all()
    assert np.isfinite(worth).all()
    assert np.isnan(std).all() or (np.isfinite(std) & (std >= 0)).all()


@pytest.mark.parametrize("name", NAMES)
def test_equal_values_are_predicted_as_they_are(name: str) -> None:
    predicted = embedded(name).fit([4, 5, 6, 7], [0.5] * 4).predict(EVERY)

    np.testing.assert_allclose(predicted, 0.5, rtol=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_others_alone_decide_before_there_are_observations(name: str) -> None:
    labels = clusters()[2]
    others = [(np.arange(12), 100.0 * labels[:12])]
    surrogate = embedded(name).fit([], [], others=others)
    predicted, worth = surrogate.predict(EVERY[12:]), surrogate.acquire(EVERY[12:])

    assert np.corrcoef(predicted, labels[12:])[0, 1] > 0.8
    assert predicted.min() > -0.5
    assert predicted.max() < 1.5
    if name != "novelty":
        assert labels[12:][np.argmax(worth)] == 3


@pytest.mark.parametrize("name", NAMES)
def test_others_are_on_a_scale_of_their_own(name: str) -> None:
    values = np.linspace(-1, 3, 12)
    first = embedded(name).fit(ROWS, VALUES, others=[(np.arange(12), values)])
    second = embedded(name).fit(ROWS, VALUES, others=[(np.arange(12), 1000 * values + 7)])

    for one, other in zip(said(first), said(second), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_what_comes_in_stays_as_it_is(name: str) -> None:
    outputs, fisher, _ = clusters(12)
    given = [outputs, fisher, np.array([1, 1, 5]), np.array([0.3, -np.inf, 0.2]), np.array([2])]
    others = [(np.array([3, 4]), np.array([1.0, 2.0]))]
    before = copy.deepcopy((given, others))
    surrogate = make_surrogate(name, features="both", random_state=0)
    surrogate.embed(outputs, fisher).extend(outputs[:2], fisher[:2])
    surrogate.fit(given[2], given[3], running=given[4], others=others)
    said(surrogate, np.arange(14))

    for then, now in zip(before[0], given, strict=True):
        np.testing.assert_array_equal(then, now)
    for then, now in zip(before[1][0], others[0], strict=True):
        np.testing.assert_array_equal(then, now)


@pytest.mark.parametrize("name", NAMES)
def test_features_are_kept_once(name: str) -> None:
    surrogate = embedded(name)
    members = getattr(surrogate, "members_", [])

    for feature, part in surrogate._parts.items():
        assert part.dtype == np.float32
        for member in members:
            assert member._parts[feature] is part
    outputs, fisher, _ = clusters(42)
    surrogate.extend(outputs[40:], fisher[40:])
    for feature, part in surrogate._parts.items():
        assert (part.dtype, len(part)) == (np.float32, 42)
        for member in members:
            assert member._parts[feature] is part


@pytest.mark.parametrize("name", NAMES)
def test_it_predicts_from_what_it_is_told_to(name: str) -> None:
    outputs, fisher, _ = clusters(12)
    for features in ("outputs", "fisher", "both"):
        assert make_surrogate(name, features=features, random_state=0).features == features
    alone = make_surrogate(name, features="outputs", random_state=0).embed(outputs)
    beside = make_surrogate(name, features="outputs", random_state=0).embed(outputs, fisher)
    rows = np.arange(12)

    assert_same(
        said(alone.fit([1, 2], [0.1, 0.2]), rows), said(beside.fit([1, 2], [0.1, 0.2]), rows)
    )


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("call", "problem"),
    [
        (lambda s: s.fit([0, 40], [1.0, 2.0]), "from 0 to 39"),
        (lambda s: s.fit([0], [np.nan]), "but got nan for row 0"),
        (lambda s: s.fit([0], [np.inf]), "but got inf for row 0"),
        (lambda s: s.fit([], []), "at least one observation"),
        (lambda s: s.fit([], [], running=[3]), "at least one observation"),
        (lambda s: s.predict([0]), r"call fit\(\)"),
        (lambda s: s.acquire([0]), r"call fit\(\)"),
        (lambda s: s.extend(np.ones((1, 50))), "needs fisher, but got None"),
        (lambda s: s.extend(np.ones((1, 50)), np.ones((1, 3))), "must have 20 columns"),
        (lambda s: s.embed(np.ones((3, 2)), np.ones((4, 2))), "equally many rows"),
    ],
)
def test_what_does_not_fit_is_refused(name: str, call: Any, problem: str) -> None:
    with pytest.raises(SurrogateError, match=problem):
        call(embedded(name))
