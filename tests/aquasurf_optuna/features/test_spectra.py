"""Vectors and distances of spectra, against scipy's Wasserstein distance."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from scipy.stats import wasserstein_distance

from aquasurf_optuna.features.spectra import (
    fisher_distance,
    histogram_vector,
    output_distance,
    quantile_vector,
)

ALL_CNN_C = (2688, 83040, 83040, 166080, 331968, 331968, 331968, 37056, 1930)

Spectrum = dict[str, NDArray[np.float64]]


def spectra(*lengths: int, seed: int = 0, shift: float = 0.0) -> Spectrum:
    random = np.random.default_rng(seed)
    return {f"layer{n}": random.normal(shift - 20, 8, length) for n, length in enumerate(lengths)}


def equation_2(a: Spectrum, b: Spectrum) -> float:
    return float(sum(wasserstein_distance(a[name], b[name]) for name in a))


def l1(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    return float(np.abs(a - b).sum())


@st.composite
def pairs(draw: st.DrawFn) -> tuple[Spectrum, Spectrum]:
    lengths = draw(st.lists(st.integers(1, 300), min_size=1, max_size=3))
    values = st.floats(-90, 90, width=32)
    return tuple(
        {str(n): draw(arrays(np.float64, length, elements=values)) for n, length in
         enumerate(lengths)}
        for _ in range(2)
    )  # fmt: skip


@settings(max_examples=50, deadline=None)
@given(pairs())
def test_fisher_distance_is_equation_2(pair: tuple[Spectrum, Spectrum]) -> None:
    a, b = pair
    assert fisher_distance(a, b) == pytest.approx(equation_2(a, b), abs=1e-9)
    assert fisher_distance(a, b) == fisher_distance(b, a)
    assert fisher_distance(a, a) == 0.0


@settings(max_examples=50, deadline=None)
@given(pairs(), st.integers(1, 40))
def test_quantiles_never_exceed_equation_2(
    pair: tuple[Spectrum, Spectrum], n_quantiles: int
) -> None:
    a, b = pair
    vectors = [quantile_vector(spectrum, n_quantiles=n_quantiles) for spectrum in pair]
    assert len(vectors[0]) == n_quantiles * len(a)
    assert l1(*vectors) <= equation_2(a, b) + 1e-9
    assert vectors[0].sum() == pytest.approx(sum(v.mean() for v in a.values()), abs=1e-9)


@settings(max_examples=50, deadline=None)
@given(pairs())
def test_histograms_are_within_a_bin_width_of_equation_2(pair: tuple[Spectrum, Spectrum]) -> None:
    a, b = ({k: v for k, v in spectrum.items() if len(v) >= 100} for spectrum in pair)
    widths = sum(200 / (len(values) // 100) for values in a.values())
    assert abs(l1(histogram_vector(a), histogram_vector(b)) - equation_2(a, b)) <= widths + 1e-9


def test_quantiles_are_exact_where_one_spectrum_lies_above() -> None:
    a, b = spectra(500, 7), spectra(500, 7, shift=3.0)
    assert l1(quantile_vector(a), quantile_vector(b)) == pytest.approx(6.0)
    assert fisher_distance(a, b) == pytest.approx(6.0)


def test_quantiles_tend_to_equation_2() -> None:
    a, b = spectra(1000, seed=1), spectra(1000, seed=2)
    b = {name: 3 * values + 40 for name, values in b.items()}  # equal means, other widths
    exact = equation_2(a, b)
    errors = [
        exact - l1(quantile_vector(a, n_quantiles=n), quantile_vector(b, n_quantiles=n))
        for n in (1, 32, 1000)
    ]
    assert errors[0] > 0.9 * exact > 0.01 * exact > errors[1] >= errors[2]
    assert errors[2] == pytest.approx(0.0, abs=1e-9)


def test_quantiles_of_as_many_slices_as_weights_are_the_sorted_spectrum() -> None:
    values = np.array([3.0, -1.0, 2.0, 5.0])
    expected = np.array([-1.0, 2.0, 3.0, 5.0]) / 4
    np.testing.assert_allclose(quantile_vector({"": values}, n_quantiles=4), expected)


def test_the_histogram_of_the_published_network_has_the_published_length() -> None:
    vector = histogram_vector(spectra(*ALL_CNN_C))
    assert vector.shape == (13_692,)
    assert vector.dtype == np.float64


def test_histograms_are_cumulated_per_layer_and_scaled_by_the_bin_width() -> None:
    values = np.repeat([-70.0, -20.0, 60.0, 60.5], 100)
    np.testing.assert_allclose(histogram_vector({"": values}), 50 * np.array([0.25, 0.5, 0.5, 1.0]))


def test_values_outside_the_range_are_counted_in_the_end_bins() -> None:
    values = np.concatenate([np.full(150, -1e4), np.full(50, 1e4)])
    np.testing.assert_allclose(histogram_vector({"": values}), 100 * np.array([0.75, 1.0]))


@pytest.mark.parametrize(("weights", "bins"), [(1, 0), (99, 0), (100, 1), (199, 1), (200, 2)])
def test_small_layers_have_few_bins_or_none(weights: int, bins: int) -> None:
    assert histogram_vector(spectra(weights)).shape == (bins,)


@pytest.mark.parametrize("vector", [histogram_vector, quantile_vector])
def test_layers_stay_apart_and_in_order(vector: object) -> None:
    both = spectra(300, 200)
    first, second = ({name: both[name]} for name in both)
    np.testing.assert_array_equal(vector(both), np.concatenate([vector(first), vector(second)]))


def test_tensors_are_spectra_too_and_their_order_does_not_matter() -> None:
    values = spectra(250)["layer0"]
    shuffled = torch.from_numpy(np.random.default_rng(0).permutation(values))
    np.testing.assert_array_equal(quantile_vector({"": shuffled}), quantile_vector({"": values}))
    assert fisher_distance({"": shuffled}, {"": values}) == 0.0


def test_output_distance_is_equation_3() -> None:
    assert output_distance([0.0, 0.0, 1.0, 5.0], [3.0, 4.0, 1.0, 5.0]) == pytest.approx(2.5)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: fisher_distance(spectra(3, 3), spectra(3)), r"only one of them has \['layer1'\]"),
        (lambda: fisher_distance(spectra(3), spectra(4)), "'layer0' must have as .* 3 and 4"),
        (lambda: fisher_distance({"a": [np.nan]}, {"a": [0.0]}), "'a' .* with 1 values not finite"),
        (lambda: quantile_vector({"a": [[0.0]]}), r"'a' must have a vector .* shape \(1, 1\)"),
        (lambda: histogram_vector({"a": []}), r"'a' must have a vector .* shape \(0,\)"),
        (lambda: quantile_vector({"a": [0.0]}, n_quantiles=0), "1 or more, got 0"),
        (lambda: output_distance([1.0], [1.0, 2.0]), r"equal shapes, .* got \(1,\) and \(2,\)"),
        (lambda: output_distance([], []), r"not empty, got \(0,\)"),
    ],
)
def test_what_does_not_fit_is_refused(call: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


def test_no_layers_make_an_empty_vector() -> None:
    assert quantile_vector({}).shape == histogram_vector({}).shape == (0,)
