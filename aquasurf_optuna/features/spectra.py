"""Vectors of log-eigenvalue spectra, and the distances between spectra and between outputs.

A *spectrum* maps each layer's name to the natural logarithms of its Fisher eigenvalues, one a
weight, in any order. Equation 2 of the AQuaSurF paper compares two networks layer by layer::

    d(f, g) = sum over layers of  W1(mu_l, nu_l) / w_l

``W1`` is the 1-Wasserstein distance and ``w_l`` the number of weights. Taken over the sorted values
as they stand, ``W1 / w_l`` is their mean absolute difference, which is the 1-Wasserstein distance
of the two empirical *probability* distributions; that is what is computed here. Every layer weighs
the same, however many weights it has.

Two kinds of vector stand in for a spectrum, both scaled so that the Manhattan (L1) distance of two
vectors is an estimate of Equation 2, for UMAP or any other method that knows only vectors:

* quantiles: never above Equation 2, short, and good at any scale;
* histograms: the paper's own (Appendix D), within one bin width a layer.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike, NDArray

HISTOGRAM_RANGE = (-100.0, 100.0)
"""Log eigenvalues between which the histograms have their bins."""

WEIGHTS_PER_BIN = 100
"""A layer's histogram has one bin for each full hundred of its weights."""

DEFAULT_QUANTILES = 32
"""Numbers that stand for one layer in a quantile vector."""

Spectrum = Mapping[str, ArrayLike]


def quantile_vector(
    eigenvalues: Spectrum, *, n_quantiles: int = DEFAULT_QUANTILES
) -> NDArray[np.float64]:
    """Describe each layer by the averages of equal slices of its sorted spectrum.

    The quantile function is averaged over `n_quantiles` equal slices of [0, 1], and divided by
    their number. The L1 distance of two such vectors is at most Equation 2; it is equal where the
    two quantile functions do not cross within a slice, and tends to it as the slices get finer. A
    layer's entries sum to the mean of its spectrum.

    Args:
        eigenvalues: Log eigenvalues by layer, each ``(weights,)`` and finite.
        n_quantiles: Slices a layer, 1 or more. A layer may have fewer weights than that.

    Returns:
        ``(layers * n_quantiles,)``, float64, layers in the order of the mapping.

    Raises:
        ValueError: If `n_quantiles` is below 1, or a layer's values are not a finite vector.
    """
    if n_quantiles < 1:
        raise ValueError(f"n_quantiles must be 1 or more, got {n_quantiles}")
    slices = np.linspace(0.0, 1.0, n_quantiles + 1)
    return _concatenate(
        [_slice_integrals(layer, slices) for layer in _sorted_layers(eigenvalues).values()]
    )


def histogram_vector(eigenvalues: Spectrum) -> NDArray[np.float64]:
    """Describe each layer by its cumulated histogram, the paper's feature vector (Appendix D).

    A layer with ``w`` weights has ``floor(w / 100)`` equal bins over [-100, 100], so none below 100
    weights. Values outside the range are counted in the bins at the ends. The counts are cumulated,
    divided by ``w``, and multiplied by the bin width: the area between two cumulated histograms is
    a 1-Wasserstein distance, so the L1 distance of two vectors is Equation 2 to within one bin
    width a layer, for spectra inside the range. Dividing by the bin width gives the plain
    cumulative distribution.

    Args:
        eigenvalues: Log eigenvalues by layer, each ``(weights,)`` and finite.

    Returns:
        ``(sum of floor(weights / 100),)``, float64, layers in the order of the mapping.

    Raises:
        ValueError: If a layer's values are not a finite vector.
    """
    return _concatenate([_scaled_cdf(layer) for layer in _sorted_layers(eigenvalues).values()])


def fisher_distance(a: Spectrum, b: Spectrum) -> float:
    """Compute Equation 2 exactly: the sum over layers of the 1-Wasserstein distance.

    Args:
        a: Log eigenvalues of one network by layer, each ``(weights,)`` and finite.
        b: The same of another network with the same layers, in any order.

    Returns:
        The distance, in natural logarithms.

    Raises:
        ValueError: If the layers or their numbers of weights differ, or a layer's values are not a
            finite vector.
    """
    first, second = _sorted_layers(a), _sorted_layers(b)
    if first.keys() != second.keys():
        differing = sorted(first.keys() ^ second.keys())
        raise ValueError(f"the spectra must have the same layers; only one of them has {differing}")
    for name in first:
        if len(first[name]) != len(second[name]):
            raise ValueError(
                f"layer {name!r} must have as many weights in both spectra, "
                f"got {len(first[name])} and {len(second[name])}"
            )
    return float(sum(np.abs(first[name] - second[name]).mean() for name in first))


def output_distance(a: ArrayLike, b: ArrayLike) -> float:
    """Compute Equation 3: the root mean square difference of two functions' outputs.

    Args:
        a: Outputs of one function, ``(n,)``.
        b: Outputs of the other on the same inputs, ``(n,)``.

    Returns:
        The distance, in units of the outputs.

    Raises:
        ValueError: If the shapes differ, or there are no outputs.
    """
    first, second = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if first.shape != second.shape or first.size == 0:
        raise ValueError(
            f"outputs must have equal shapes, not empty, got {first.shape} and {second.shape}"
        )
    return float(np.sqrt(np.mean((first - second) ** 2)))


def _slice_integrals(
    spectrum: NDArray[np.float64], slices: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Integrate the quantile function, a step for each value, over consecutive slices of [0, 1]."""
    steps = np.linspace(0.0, 1.0, len(spectrum) + 1)
    integral = np.concatenate([[0.0], np.cumsum(spectrum)]) / len(spectrum)
    return np.diff(np.interp(slices, steps, integral))


def _scaled_cdf(spectrum: NDArray[np.float64]) -> NDArray[np.float64]:
    low, high = HISTOGRAM_RANGE
    bins = len(spectrum) // WEIGHTS_PER_BIN
    if bins == 0:
        return np.empty(0)
    counts, _ = np.histogram(np.clip(spectrum, low, high), bins=bins, range=HISTOGRAM_RANGE)
    return np.cumsum(counts) / len(spectrum) * ((high - low) / bins)


def _sorted_layers(eigenvalues: Spectrum) -> dict[str, NDArray[np.float64]]:
    layers = {}
    for name, values in eigenvalues.items():
        layer = np.asarray(values, dtype=np.float64)
        if layer.ndim != 1 or layer.size == 0 or not np.isfinite(layer).all():
            raise ValueError(
                f"layer {name!r} must have a vector of finite log eigenvalues, got shape "
                f"{layer.shape} with {int((~np.isfinite(layer)).sum())} values not finite"
            )
        # Those of `fisher_log_eigenvalues` are in order, which is quicker seen than made.
        layers[name] = layer if (layer[1:] >= layer[:-1]).all() else np.sort(layer)
    return layers


def _concatenate(parts: list[NDArray[np.float64]]) -> NDArray[np.float64]:
    return np.concatenate([np.empty(0), *parts])
