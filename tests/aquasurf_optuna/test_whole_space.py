"""The ranking of a whole space by outputs, against distances and choices made one at a time."""

import itertools
from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from aquasurf_optuna import _whole_space
from aquasurf_optuna._compressed_outputs import compressed_outputs
from aquasurf_optuna._whole_space import EXPLORATION, LEAST_DISTANCE, WholeSpace
from aquasurf_optuna.catalogue import Catalogue
from aquasurf_optuna.exceptions import SamplerError
from aquasurf_optuna.space import SearchSpace
from aquasurf_optuna.surrogate._checks import OUTPUT_BOUND
from aquasurf_optuna.surrogate._gaussian_process import GaussianProcessSurrogate
from tests.oracles.whole_space_oracle import output_distance, spread_choice


@pytest.fixture(scope="module")
def rows(catalogue: Catalogue) -> NDArray[np.float32]:
    return compressed_outputs(catalogue)


@pytest.fixture(scope="module")
def whole(catalogue: Catalogue) -> WholeSpace:
    return WholeSpace(catalogue)


def tried_values(catalogue: Catalogue, n: int = 30) -> dict[int, float]:
    """Classes tried, with values that hang on how near a function is to one of them."""
    classes = catalogue.shuffled(7)[:n]
    target = catalogue.outputs_of([catalogue.class_of("max(x,tanh(x))")])[0].tolist()
    outputs = catalogue.outputs_of(classes)
    return {
        c: -output_distance(row.tolist(), target, OUTPUT_BOUND)
        for c, row in zip(classes, outputs, strict=True)
    }


def measured(catalogue: Catalogue) -> list[int]:
    return catalogue.shuffled(7)[:200]


# Compression


def test_compressed_distances_are_those_of_equation_3(
    catalogue: Catalogue, rows: NDArray[np.float32]
) -> None:
    some = catalogue.shuffled(3)[:60]
    outputs = catalogue.outputs_of(some).tolist()
    pairs = list(itertools.combinations(range(60), 2))
    exact = np.array([output_distance(outputs[a], outputs[b], OUTPUT_BOUND) for a, b in pairs])
    short = np.array([np.linalg.norm(rows[some[a]] - rows[some[b]]) for a, b in pairs])
    assert (short <= exact + 1e-5).all()
    loss = exact - short
    assert np.quantile(loss / exact, 0.95) < 0.002
    assert loss.max() < 0.05 * np.median(exact)


def test_near_functions_stay_near_and_apart(
    catalogue: Catalogue, rows: NDArray[np.float32]
) -> None:
    pairs = [("swish(x)", "relu(x)"), ("elu(x)", "selu(x)"), ("tanh(x)", "erf(x)")]
    for first, second in pairs:
        a, b = (catalogue.class_of(f"max({text},{text})") for text in (first, second))
        outputs = catalogue.outputs_of([a, b]).tolist()
        exact = output_distance(outputs[0], outputs[1], OUTPUT_BOUND)
        assert np.linalg.norm(rows[a] - rows[b]) == pytest.approx(exact, rel=0.01)


def test_fewer_directions_lose_more(catalogue: Catalogue, rows: NDArray[np.float32]) -> None:
    few = compressed_outputs(catalogue, n_directions=2)
    assert few.shape == (len(catalogue), 2)
    some = catalogue.shuffled(3)[:200]
    assert np.linalg.norm(few[some], axis=1).sum() < np.linalg.norm(rows[some], axis=1).sum()


def test_compression_is_repeatable_and_read_only(
    catalogue: Catalogue, rows: NDArray[np.float32]
) -> None:
    np.testing.assert_array_equal(compressed_outputs(catalogue), rows)
    assert rows.dtype == np.float32
    with pytest.raises(ValueError, match="read-only"):
        rows[0, 0] = 1.0


def test_values_that_are_no_number_count_as_the_bound(
    catalogue: Catalogue, rows: NDArray[np.float32]
) -> None:
    broken = int(np.flatnonzero(~catalogue.is_finite)[0])
    other = catalogue.class_of("max(relu(x),relu(x))")
    outputs = catalogue.outputs_of([broken, other]).tolist()
    assert not np.isfinite(outputs[0]).all()
    exact = output_distance(outputs[0], outputs[1], OUTPUT_BOUND)
    assert np.isfinite(rows).all()
    assert np.linalg.norm(rows[broken] - rows[other]) == pytest.approx(exact, rel=0.1)


# Ranking


def worth_of(
    features: NDArray[np.floating], values: dict[int, float], bound: float | None
) -> NDArray[np.float64]:
    surrogate = GaussianProcessSurrogate(
        features="outputs",
        comparisons=["outputs"],
        output_bound=bound,
        exploration=EXPLORATION,
    ).embed(features)
    tried = sorted(values)
    surrogate.fit(tried, [values[c] for c in tried])
    return surrogate.acquire(np.arange(len(features)))


def chosen_by_oracle(
    catalogue: Catalogue,
    worth: NDArray[np.float64],
    points: NDArray[np.floating],
    values: dict[int, float],
    exclude: Sequence[int],
    n: int,
) -> list[int]:
    free = set(catalogue.shuffled(0)) - set(exclude)
    return spread_choice(
        {c: float(worth[c]) for c in free},
        dict(enumerate(points.astype(np.float64).tolist())),
        {*values, *exclude},
        n,
        LEAST_DISTANCE,
    )


def test_ranked_is_the_choice_made_one_at_a_time(
    catalogue: Catalogue, rows: NDArray[np.float32], whole: WholeSpace
) -> None:
    values, exclude = tried_values(catalogue), measured(catalogue)
    worth = worth_of(rows, values, None)
    wanted = chosen_by_oracle(catalogue, worth, rows, values, exclude, 40)
    assert whole.ranked(values, n=40, exclude=exclude) == wanted


def test_blocks_make_no_difference(
    catalogue: Catalogue, whole: WholeSpace, monkeypatch: pytest.MonkeyPatch
) -> None:
    values, exclude = tried_values(catalogue), measured(catalogue)
    wanted = whole.ranked(values, n=200, exclude=exclude)
    monkeypatch.setattr(_whole_space, "_ROWS_AT_ONCE", 7)
    assert whole.ranked(values, n=200, exclude=exclude) == wanted


def test_of_many_values_the_best_and_a_spread_count(
    catalogue: Catalogue,
    rows: NDArray[np.float32],
    whole: WholeSpace,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    values, exclude = tried_values(catalogue), measured(catalogue)
    best_first = sorted(values, key=lambda c: -values[c])
    # Five best, and of the 25 others the first, the last and three evenly between.
    learned = [*best_first[:5], *best_first[5::6]]
    worth = worth_of(rows, {c: values[c] for c in learned}, None)
    wanted = chosen_by_oracle(catalogue, worth, rows, values, exclude, 20)
    monkeypatch.setattr(_whole_space, "_MOST_VALUES", 10)
    assert whole.ranked(values, n=20, exclude=exclude) == wanted


def test_the_oracle_fails_without_spacing(
    catalogue: Catalogue, rows: NDArray[np.float32], monkeypatch: pytest.MonkeyPatch
) -> None:
    values, exclude = tried_values(catalogue), measured(catalogue)
    worth = worth_of(rows, values, None)
    wanted = chosen_by_oracle(catalogue, worth, rows, values, exclude, 40)
    monkeypatch.setattr(_whole_space, "LEAST_DISTANCE", 0.0)
    assert WholeSpace(catalogue).ranked(values, n=40, exclude=exclude) != wanted


def test_ranked_agrees_with_exact_outputs(catalogue: Catalogue, whole: WholeSpace) -> None:
    values, exclude = tried_values(catalogue), measured(catalogue)
    worth = worth_of(catalogue.outputs, values, OUTPUT_BOUND)
    cut = np.clip(np.nan_to_num(catalogue.outputs, nan=OUTPUT_BOUND), -OUTPUT_BOUND, OUTPUT_BOUND)
    points = cut / np.sqrt(cut.shape[1])
    wanted = chosen_by_oracle(catalogue, worth, points, values, exclude, 40)
    found = whole.ranked(values, n=40, exclude=exclude)
    assert len(set(found) & set(wanted)) >= 36


def test_promising_classes_come_where_values_say_so(
    catalogue: Catalogue, whole: WholeSpace
) -> None:
    values = tried_values(catalogue, 100)
    target = catalogue.outputs_of([catalogue.class_of("max(x,tanh(x))")])[0].tolist()

    def median_distance(classes: list[int]) -> float:
        outputs = catalogue.outputs_of(classes).tolist()
        return float(np.median([output_distance(o, target, OUTPUT_BOUND) for o in outputs]))

    found = whole.ranked(values, n=30, exclude=list(values))
    assert median_distance(found) < 0.5 * median_distance(catalogue.shuffled(1)[:30])


def test_the_result_depends_on_the_arguments_alone(catalogue: Catalogue, whole: WholeSpace) -> None:
    values, exclude = tried_values(catalogue), measured(catalogue)
    before = whole.ranked(values, n=10, exclude=exclude)
    whole.ranked({catalogue.shuffled(1)[0]: 3.0, 5: 1.0}, n=3)
    reordered = dict(reversed(values.items()))
    assert whole.ranked(reordered, n=10, exclude=set(exclude)) == before
    assert WholeSpace(catalogue).ranked(values, n=10, exclude=exclude) == before
    assert whole.ranked(values, n=4, exclude=exclude) == before[:4]


def test_only_free_eligible_classes_come_each_once(catalogue: Catalogue, whole: WholeSpace) -> None:
    eligible = set(catalogue.shuffled(0))
    values = tried_values(catalogue)
    exclude = sorted(eligible)[:2000]
    everything = whole.ranked(values, n=len(catalogue), exclude=exclude)
    assert len(everything) == len(set(everything))
    assert set(everything) == eligible - set(exclude)


def test_tried_classes_may_be_of_any_kind(catalogue: Catalogue, whole: WholeSpace) -> None:
    broken = int(np.flatnonzero(~catalogue.is_finite)[0])
    constant = int(np.flatnonzero(catalogue.is_constant)[0])
    values = {**tried_values(catalogue), broken: -np.inf, constant: -5.0}
    found = whole.ranked(values, n=20, exclude=[broken])
    assert len(found) == 20
    assert not {broken, constant} & set(found)
    assert whole.ranked({broken: -np.inf}, n=3) == whole.ranked({broken: -np.inf}, n=3)


def test_without_values_the_order_is_random_and_repeatable(
    catalogue: Catalogue, whole: WholeSpace
) -> None:
    order = catalogue.shuffled(0)
    assert whole.ranked({}, n=5) == order[:5]
    assert whole.ranked({}, n=5, exclude=order[:2]) == order[2:7]


def test_none_may_be_wanted_or_left(catalogue: Catalogue, whole: WholeSpace) -> None:
    values = tried_values(catalogue)
    assert whole.ranked(values, n=0) == []
    assert whole.ranked(values, n=3, exclude=range(len(catalogue))) == []


def test_a_small_space_is_ranked_too() -> None:
    catalogue = Catalogue.of(SearchSpace("unary(x)", unary=("relu", "tanh", "zero")))
    whole = WholeSpace(catalogue)
    relu, tanh = catalogue.class_of("relu(x)"), catalogue.class_of("tanh(x)")
    assert whole.ranked({relu: 1.0}, n=5, exclude=[relu]) == [tanh]


def test_bad_arguments_are_refused(catalogue: Catalogue, whole: WholeSpace) -> None:
    with pytest.raises(SamplerError, match="0 or more, but got -1"):
        whole.ranked({}, n=-1)
    with pytest.raises(SamplerError, match=r"class 2791 is none of the catalogue's 2791"):
        whole.ranked({len(catalogue): 1.0}, n=1)
    with pytest.raises(SamplerError, match=r"class -1 is none"):
        whole.ranked({}, n=1, exclude=[3, -1])
