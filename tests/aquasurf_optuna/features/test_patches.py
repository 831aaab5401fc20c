"""The sums over patches, by each of their ways, against patches that a loop writes out."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor

from aquasurf_optuna.features import _kfac, _patches
from aquasurf_optuna.features._calls import Call
from aquasurf_optuna.features._patches import Geometry
from tests.aquasurf_optuna.features.networks import batch
from tests.oracles.kfac_oracles import patch_rows

NEVER = 10**9
WAYS: dict[str, int] = {"windows": NEVER, "lags": 1}
"""From how many channels on lags are used."""

SHIFTED: dict[str, dict[str, Any]] = {
    "line": {"kernel": (3,), "size": (9,), "padding": (1,)},
    "line, dilated": {"kernel": (3,), "size": (9,), "padding": (2,), "dilation": (2,)},
    "line, an even kernel, more on the right": {
        "kernel": (4,), "size": (8,), "padding": (1,), "extra": (1,)},
    "line, cropped": {"kernel": (2,), "size": (12,), "padding": (-2,)},
    "line, padded beyond the kernel": {"kernel": (2,), "size": (5,), "padding": (4,)},
    "line, a kernel longer than the line": {"kernel": (4,), "size": (2,), "padding": (3,)},
    "line, spread": {"kernel": (3,), "size": (4,), "padding": (2,), "spread": (3,)},
    "image": {"kernel": (3, 3), "size": (5, 6), "padding": (1, 1)},
    "image, not square": {
        "kernel": (1, 4), "size": (7, 5), "padding": (2, 0), "dilation": (1, 1)},
    "image, all options": {
        "kernel": (2, 3), "size": (4, 3), "padding": (-1, 2), "dilation": (1, 2),
        "spread": (2, 3), "extra": (1, 2), "groups": 2},
    "depthwise": {"kernel": (3, 2), "size": (5, 5), "padding": (1, 1), "groups": 4},
    "space": {"kernel": (2, 1, 3), "size": (4, 3, 4), "padding": (1, 0, 1)},
    "space, dilated": {
        "kernel": (2, 2, 2), "size": (4, 3, 4), "padding": (1, 2, 0), "dilation": (2, 1, 2),
        "groups": 2},
}  # fmt: skip
STRIDED: dict[str, dict[str, Any]] = {
    "line, stride": {"kernel": (3,), "size": (11,), "padding": (1,), "stride": (2,)},
    "line, past the kernel": {"kernel": (1,), "size": (11,), "padding": (2,), "stride": (3,)},
    "image, stride": {
        "kernel": (3, 2), "size": (9, 8), "padding": (1, 0), "stride": (2, 1),
        "dilation": (1, 2), "groups": 2},
    "space, stride": {
        "kernel": (2, 1, 2), "size": (5, 4, 5), "padding": (1, 0, -1), "stride": (2, 2, 1)},
}  # fmt: skip


def geometry_of(
    kernel: tuple[int, ...],
    size: tuple[int, ...],
    *,
    stride: tuple[int, ...] | None = None,
    dilation: tuple[int, ...] | None = None,
    padding: tuple[int, ...] | None = None,
    spread: tuple[int, ...] | None = None,
    extra: tuple[int, ...] | None = None,
    groups: int = 1,
) -> Geometry:
    """As many output locations as fit, and `extra` ones."""
    ones, none = (1,) * len(kernel), (0,) * len(kernel)
    stride, dilation, spread = stride or ones, dilation or ones, spread or ones
    padding, extra = padding or none, extra or none
    output = tuple(
        ((n - 1) * sp + 1 + 2 * p - d * (k - 1) - 1) // s + 1 + e
        for n, sp, p, d, k, s, e in zip(
            size, spread, padding, dilation, kernel, stride, extra, strict=True
        )
    )
    return Geometry(kernel, stride, dilation, padding, output, groups, spread)


def inputs_of(size: tuple[int, ...], samples: int = 12, channels: int = 4) -> Tensor:
    # Their mean is not 0, so that first moments tell.
    return batch(samples, channels, *size, dtype=torch.float64) + 0.3


@contextmanager
def going(way: str, *, small_chunks: bool = False) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_patches, "_FEWEST_CHANNELS_FOR_LAGS", WAYS[way])
        patch.setattr(_patches, "_LARGEST_SHARE_OF_LAGS", NEVER)
        if small_chunks:
            patch.setattr(_patches, "_FOURIER_CHUNKS", 1)
            patch.setattr(_kfac, "_CHUNK_NUMBERS", 300)
            patch.setattr(_kfac, "_BLOCK_ROWS", 5)
        yield


def assert_close(actual: Tensor, expected: np.ndarray) -> None:
    assert actual.dtype == torch.float64
    tolerance = 1e-12 * np.abs(expected).max()
    np.testing.assert_allclose(actual.numpy(), expected, rtol=0, atol=tolerance)


def assert_moments_of(moments: _kfac.Moments, rows: np.ndarray) -> None:
    assert moments.uses == len(rows)
    assert_close(moments.first, rows.sum(0))
    assert_close(moments.second.tril(), np.tril(rows.T @ rows))


def moments_of(inputs: Tensor, geometry: Geometry) -> _kfac.Moments:
    """The sums, not the patches themselves."""
    moments = _patches.patch_moments(inputs, geometry)
    assert isinstance(moments, _kfac.Moments)
    return moments


@pytest.mark.parametrize("small_chunks", [False, True])
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("options", SHIFTED.values(), ids=SHIFTED)
def test_moments_are_those_of_the_patches(
    options: dict[str, Any], way: str, small_chunks: bool
) -> None:
    geometry, inputs = geometry_of(**options), inputs_of(options["size"])
    with going(way, small_chunks=small_chunks):
        moments = moments_of(inputs, geometry)
    assert_moments_of(moments, patch_rows(inputs.numpy(), geometry))


@pytest.mark.parametrize("small_chunks", [False, True])
@pytest.mark.parametrize("options", STRIDED.values(), ids=STRIDED)
def test_moments_with_a_stride_are_those_of_the_patches(
    options: dict[str, Any], small_chunks: bool
) -> None:
    geometry, inputs = geometry_of(**options), inputs_of(options["size"])
    with going("lags", small_chunks=small_chunks):
        moments = moments_of(inputs, geometry)
    assert_moments_of(moments, patch_rows(inputs.numpy(), geometry))


@pytest.mark.parametrize("options", (SHIFTED | STRIDED).values(), ids=SHIFTED | STRIDED)
def test_few_patches_are_kept_as_they_are(options: dict[str, Any]) -> None:
    options = options | {"groups": 1}
    geometry, inputs = geometry_of(**options), inputs_of(options["size"], 1, 150)
    rows = _patches.patch_moments(inputs, geometry)
    assert isinstance(rows, _kfac.Rows)
    expected = patch_rows(inputs.numpy(), geometry)
    assert rows.uses == len(expected)
    # In another order.
    assert_close(rows.data @ rows.data.T, expected @ expected.T)
    assert_moments_of(rows.summed(), expected)


@pytest.mark.parametrize("options", (SHIFTED | STRIDED).values(), ids=SHIFTED | STRIDED)
def test_sums_are_those_of_the_patches(options: dict[str, Any]) -> None:
    geometry, inputs = geometry_of(**options), inputs_of(options["size"], 3)
    rows = patch_rows(inputs.numpy(), geometry)
    expected = rows.reshape(3, geometry.groups, -1, rows.shape[1]).sum(2)
    assert_close(_patches.patch_sums(inputs, geometry), expected)
    assert_close(
        _patches.patch_sums(inputs.float(), geometry), patch_sums_of_single(inputs, geometry)
    )


def patch_sums_of_single(inputs: Tensor, geometry: Geometry) -> np.ndarray:
    """Summed in double precision though the data are of single precision."""
    rows = patch_rows(inputs.float().double().numpy(), geometry)
    return rows.reshape(len(inputs), geometry.groups, -1, rows.shape[1]).sum(2)


@pytest.mark.parametrize("way", WAYS)
def test_single_precision_data_are_summed_in_double(way: str) -> None:
    options = SHIFTED["image"]
    geometry, inputs = geometry_of(**options), inputs_of(options["size"]).float()
    with going(way):
        moments = moments_of(inputs, geometry)
    assert_moments_of(moments, patch_rows(inputs.double().numpy(), geometry))


@pytest.mark.parametrize("way", WAYS)
def test_the_memory_layout_does_not_matter(way: str) -> None:
    options = SHIFTED["image"] | {"groups": 2}
    geometry, inputs = geometry_of(**options), inputs_of(options["size"])
    last = inputs.to(memory_format=torch.channels_last)
    with going(way):
        assert_moments_of(moments_of(last, geometry), patch_rows(inputs.numpy(), geometry))


CHANGES: dict[str, dict[str, Any]] = {
    "padding": {"padding": (0, 2)},
    "dilation": {"dilation": (2, 1)},
    "stride": {"stride": (1, 2)},
    "groups": {"groups": 2},
    "spread": {"spread": (2, 1)},
    "output": {"extra": (0, 1)},
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_the_oracle_fails_for_another_geometry(change: dict[str, Any]) -> None:
    options = SHIFTED["image"]
    inputs = inputs_of(options["size"])
    moments = moments_of(inputs, geometry_of(**options))
    other = patch_rows(inputs.numpy(), geometry_of(**(options | change)))
    with pytest.raises(AssertionError, match=r"Not equal to tolerance|assert \d+ == \d+"):
        assert_moments_of(moments, other)


@st.composite
def geometries(draw: st.DrawFn) -> tuple[Geometry, tuple[int, ...], int]:
    """A geometry, the size of its input, and its channels."""
    axes = draw(st.integers(1, 3))

    def sizes(low: int, high: int) -> tuple[int, ...]:
        return tuple(draw(st.integers(low, high)) for _ in range(axes))

    size, groups = sizes(1, 5), draw(st.integers(1, 2))
    geometry = geometry_of(
        sizes(1, 3), size, stride=sizes(1, 1 + draw(st.integers(0, 2))), dilation=sizes(1, 2),
        padding=sizes(-1, 4), spread=sizes(1, 3), extra=sizes(0, 1), groups=groups,
    )  # fmt: skip
    assume(all(n >= 1 for n in geometry.output))
    assume(all(n > 2 * -p for n, p in zip(size, geometry.padding, strict=True)))
    return geometry, size, groups * draw(st.integers(1, 2))


@settings(max_examples=80)
@given(geometries(), st.sampled_from(sorted(WAYS)))
def test_any_geometry_has_the_moments_and_sums_of_its_patches(
    drawn: tuple[Geometry, tuple[int, ...], int], way: str
) -> None:
    geometry, size, channels = drawn
    inputs = inputs_of(size, 2, channels)
    rows = patch_rows(inputs.numpy(), geometry)
    with going(way):
        moments = _patches.patch_moments(inputs, geometry).summed()
        assert_moments_of(moments, rows)
    expected = rows.reshape(2, geometry.groups, -1, rows.shape[1]).sum(2)
    assert_close(_patches.patch_sums(inputs, geometry), expected)


SAMPLED = SHIFTED | STRIDED


@pytest.mark.parametrize("options", SAMPLED.values(), ids=SAMPLED)
def test_sampled_patches_are_patches_each_at_most_once(options: dict[str, Any]) -> None:
    geometry, inputs = geometry_of(**options), inputs_of(options["size"], 2)
    rows = patch_rows(inputs.numpy(), geometry)
    every = _patches.sampled_patches(inputs, geometry, len(rows), seed=3).numpy()
    np.testing.assert_array_equal(every, rows)
    drawn = torch.randperm(len(rows), generator=torch.Generator().manual_seed(3))[:5]
    some = _patches.sampled_patches(inputs, geometry, 5, seed=3).numpy()
    np.testing.assert_array_equal(some, rows[drawn.sort().values.numpy()])


CALLS = {
    "convolution": (Call(geometry_of(**SHIFTED["image, all options"]), None), (4, 4, 3)),
    "one pixel": (Call(geometry_of((1, 1), (3, 4)), None), (4, 3, 4)),
    "linear map": (Call(None, None), (7, 4)),
}


@pytest.mark.parametrize(("call", "shape"), CALLS.values(), ids=CALLS)
def test_all_patches_or_more_are_the_moments_themselves(call: Call, shape: tuple[int, ...]) -> None:
    inputs = batch(6, *shape, dtype=torch.float64) + 0.3
    full = call.moments(inputs).summed()
    for number in (full.uses, full.uses + 1, NEVER):
        sampled = call.sampled_moments(inputs, number, seed=0).summed()
        assert torch.equal(sampled.second.tril(), full.second.tril())
        assert torch.equal(sampled.first, full.first)
        assert sampled.uses == full.uses


@pytest.mark.parametrize(("call", "shape"), CALLS.values(), ids=CALLS)
def test_sampled_moments_estimate_the_moments(call: Call, shape: tuple[int, ...]) -> None:
    inputs = batch(6, *shape, dtype=torch.float64) + 0.3
    full = call.moments(inputs).summed()
    draws = [call.sampled_moments(inputs, full.uses // 3, seed).summed() for seed in range(400)]
    assert {draw.uses for draw in draws} == {full.uses}
    for exact, drawn in (
        (full.first, [draw.first for draw in draws]),
        (full.second.tril(), [draw.second.tril() for draw in draws]),
    ):
        values = torch.stack(drawn)
        # Of a few hundred entries, the furthest lies within five standard errors.
        errors = values.std(0) / len(draws) ** 0.5
        assert ((values.mean(0) - exact).abs() <= 5 * errors + 1e-9).all()
        assert (values[0] - exact).abs().max() > errors.max()


def test_the_sampled_places_do_not_depend_on_the_data() -> None:
    call, shape = CALLS["convolution"]
    places = torch.zeros(6, *shape, dtype=torch.float64)
    places[2] = 1.0
    seen = call.sampled_moments(places, 40, seed=1).summed()
    twice = call.sampled_moments(2 * places, 40, seed=1).summed()
    assert seen.second.trace() > 0
    assert torch.equal(twice.first, 2 * seen.first)
    assert torch.equal(twice.second.tril(), 4 * seen.second.tril())
    other = call.sampled_moments(places, 40, seed=2).summed()
    assert not torch.equal(other.first, seen.first)
