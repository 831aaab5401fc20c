"""From training runs to a row of a table, and how far runs differ by function and by seed."""

import itertools
import json
import math
import statistics
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import f_oneway

from aquasurf_optuna.benchmark._reader import MEASURES, VECTORS
from aquasurf_optuna.benchmark._rows import MEASURED_AS, Spread, entry_of, spread_of
from aquasurf_optuna.benchmark._runs import Run
from aquasurf_optuna.features._feature import FisherFeature

VECTOR = np.array([1.23456789, -0.000123456, 1e-30], dtype=np.float32)
VALID = dict.fromkeys(VECTORS.values(), FisherFeature(VECTOR, None))
INVALID = dict.fromkeys(VECTORS.values(), FisherFeature(None, "the loss is not finite"))


def runs_of(function: str, accuracies: Sequence[float]) -> list[Run]:
    return [Run(function, seed, {"val_accuracy": a}) for seed, a in enumerate(accuracies)]


def run(seed: int, value: float = 0.5, **others: float) -> Run:
    return Run("relu(x)", seed, dict.fromkeys(MEASURED_AS.values(), value) | others)


def spread(groups: Sequence[Sequence[float]], chance: float = 0.1) -> Spread:
    found = spread_of(
        [runs_of(f"add(x,{number})", group) for number, group in enumerate(groups)], chance=chance
    )
    assert found is not None
    return found


# The spread


def oracle(groups: Sequence[Sequence[float]]) -> tuple[float, float]:
    """Share and deviation, from scipy's F and from all pairs of runs of one function.

    F estimates 1 + n0 (variance of functions) / (variance of runs), where n0 is the mean number of
    runs, less what their being unequal takes off.
    """
    f = f_oneway(*groups).statistic
    sizes = [len(group) for group in groups]
    n0 = statistics.fmean(sizes) - statistics.variance(sizes) / sum(sizes)
    ratio = max(0.0, (f - 1) / n0)
    # The sum of squares about a mean is that over all pairs, divided by their number of members.
    squares = sum(
        sum((a - b) ** 2 for a, b in itertools.combinations(group, 2)) / len(group)
        for group in groups
    )
    return ratio / (1 + ratio), math.sqrt(squares / (sum(sizes) - len(sizes)))


def test_one_way_analysis_by_hand() -> None:
    #   within   = (0.1^2 + 0.1^2 + 0 + 0) / 2    = 0.01
    #   between  = 2 x 0.1^2 + 2 x 0.1^2            = 0.04
    #   function = (between - within) / 2         = 0.015
    #   share    = 0.015 / (0.015 + 0.01)         = 0.6
    groups = [[0.5, 0.7], [0.8, 0.8]]
    found = spread(groups)
    assert found.functions == 2
    assert found.share == pytest.approx(0.6)
    assert found.seed_deviation == pytest.approx(0.1)
    assert oracle(groups) == pytest.approx((0.6, 0.1))


GROUPS = st.lists(
    st.lists(st.integers(600, 1000).map(lambda n: n / 1000), min_size=2, max_size=4),
    min_size=2,
    max_size=6,
).filter(lambda groups: any(len(set(group)) > 1 for group in groups))


@given(GROUPS)
def test_any_runs_agree_with_the_oracle(groups: list[list[float]]) -> None:
    found = spread(groups)
    assert (found.share, found.seed_deviation) == pytest.approx(oracle(groups), abs=1e-9)


def simulated(function: float, seed: float, sizes: Sequence[int]) -> list[list[float]]:
    """Draw runs whose variance is known: standard deviation of functions, and of their seeds."""
    rng = np.random.default_rng(0)
    return [
        list(0.6 + function * rng.standard_normal() + seed * rng.standard_normal(size))
        for size in sizes
    ]


@pytest.mark.parametrize("sizes", [[3] * 2000, [2, 3, 5, 9] * 500], ids=["equal", "unequal"])
@pytest.mark.parametrize(("function", "seed"), [(0.03, 0.01), (0.01, 0.01), (0.01, 0.03)])
def test_known_variances_are_found(function: float, seed: float, sizes: list[int]) -> None:
    found = spread(simulated(function, seed, sizes), chance=0.0)
    assert found.share == pytest.approx(function**2 / (function**2 + seed**2), abs=0.03)
    assert found.seed_deviation == pytest.approx(seed, rel=0.03)


def test_the_oracle_notices_what_is_wrong() -> None:
    groups = simulated(0.03, 0.01, [2, 3, 4] * 10)
    share, deviation = oracle(groups)
    flat = [value for group in groups for value in group]
    mixed = np.random.default_rng(0).permutation(flat)
    assert oracle(np.split(mixed, len(mixed) // 3))[0] < share / 2
    found = spread(groups)
    assert found.share == pytest.approx(share)
    # What a plain quotient of the variance of means would give, and a deviation of all runs.
    means = [statistics.fmean(group) for group in groups]
    assert statistics.variance(means) / statistics.variance(flat) != pytest.approx(share, abs=0.01)
    assert statistics.stdev(flat) != pytest.approx(deviation, rel=0.5)


def test_noise_alone_is_no_share_below_zero() -> None:
    assert spread([[0.4, 0.8], [0.8, 0.4]]).share == 0.0
    assert spread([[0.5, 0.5], [0.5, 0.5]]).share == 0.0
    assert spread([[0.5, 0.5], [0.6, 0.6]]).share == 1.0


def test_only_functions_that_train_and_have_two_runs_count() -> None:
    counted = [[0.5, 0.7], [0.8, 0.8]]
    others = [[0.9], [], [0.2, 0.2], [0.1, 0.3], [0.05, 0.3]]
    assert spread([*counted, *others]) == spread(counted)
    failed = [Run("exp(x)", 0, {}, "its process died"), *runs_of("exp(x)", [0.9])]
    runs = [*(runs_of("relu(x)", group) for group in counted), failed]
    assert spread_of(runs, chance=0.1) == spread(counted)
    assert spread_of([runs_of("relu(x)", counted[0]), failed], chance=0.1) is None
    assert spread_of([], chance=0.1) is None


def test_a_spread_reads_as_a_sentence() -> None:
    assert str(Spread(1234, 0.8768, 0.01234)) == (
        "87.7% of the variance between runs is the function's (1,234 functions that train at all; "
        "runs of one differ by 0.0123)"
    )


# An entry


def test_an_entry_has_all_that_is_published_and_more() -> None:
    entry = entry_of("relu(x)", ["relu(x)", "max(x,0)"], [run(0)], VALID, counted=[0])
    published = [*MEASURES.values(), "Equivalent Activation Functions", *VECTORS.values()]
    more = ["Seeds", *(f"{key} Runs" for key in MEASURES.values())]
    assert set(entry) == {*published, *more}
    assert entry["Equivalent Activation Functions"] == ["max(x,0)"]
    assert entry["Fisher log eigenvalue CDF"] == [1.235, -0.0001235, 1e-30]
    assert json.loads(json.dumps(entry, allow_nan=False)) == entry


def test_each_measure_keeps_its_own_place() -> None:
    values = {name: float(place) for place, name in enumerate(MEASURED_AS.values())}
    entry = entry_of("relu(x)", [], [Run("relu(x)", 0, values)], VALID, counted=[0])
    for field, key in MEASURES.items():
        assert entry[key] == values[MEASURED_AS[field]]
        assert entry[f"{key} Runs"] == [values[MEASURED_AS[field]]]


@given(st.lists(st.integers(0, 10**6).map(lambda n: n / 10**6), min_size=1, max_size=7))
def test_medians_are_those_of_the_standard_library(values: list[float]) -> None:
    runs = [run(seed, value) for seed, value in enumerate(values)]
    entry = entry_of("relu(x)", [], runs, VALID, counted=range(len(values)))
    for key in MEASURES.values():
        assert entry[key] == pytest.approx(statistics.median(values), abs=1e-6)
        assert entry[f"{key} Runs"] == values


@pytest.mark.parametrize(
    ("losses", "median"),
    [
        ([1.0, math.nan, 2.0], 2.0),
        ([math.nan, math.inf, 2.0], None),
        ([math.inf, 1.0, 0.5], 1.0),
        ([1.0, math.nan], None),
        ([math.nan], None),
    ],
)
def test_a_loss_that_is_no_number_is_larger_than_any(
    losses: list[float], median: float | None
) -> None:
    runs = [run(seed, train_loss=loss) for seed, loss in enumerate(losses)]
    entry = entry_of("relu(x)", [], runs, VALID, counted=range(len(losses)))
    assert entry["Train Loss"] == median
    assert entry["Train Loss Runs"] == [loss if math.isfinite(loss) else None for loss in losses]
    assert entry["Validation Loss"] == 0.5
    json.dumps(entry, allow_nan=False)


def test_only_counted_seeds_decide_the_median() -> None:
    runs = [run(0, 0.25), run(5, 0.75), run(6, 1.0)]
    entry = entry_of("relu(x)", [], runs, VALID, counted=[0])
    assert entry["Validation Accuracy"] == 0.25
    assert entry["Seeds"] == [0, 5, 6]
    assert entry["Validation Accuracy Runs"] == [0.25, 0.75, 1.0]


def test_an_invalid_function_says_why() -> None:
    entry = entry_of("zero(x)", [], [], INVALID, counted=[0])
    assert [entry[key] for key in VECTORS.values()] == [[], []]
    assert entry["Failure"] == "the loss is not finite"
    assert entry["Validation Accuracy"] is None
    assert entry["Seeds"] == entry["Test Loss Runs"] == []
    assert "Training Failure" not in entry


def test_a_function_that_cannot_be_trained_says_why() -> None:
    failed = Run("exp(x)", 1, {}, "no weights give unit variance")
    entry = entry_of("exp(x)", [], [run(0, 0.25), failed], VALID, counted=[0, 1])
    assert entry["Training Failure"] == "no weights give unit variance"
    assert entry["Seeds"] == [0]
    assert entry["Validation Accuracy"] == 0.25
