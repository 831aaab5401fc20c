"""Outputs of a whole space in blocks, against `outputs_of`."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from aquasurf_optuna.catalogue import Catalogue, _all_outputs
from aquasurf_optuna.catalogue._classes import Resources
from aquasurf_optuna.equality import Invariance, Rule
from aquasurf_optuna.exceptions import CatalogueError
from aquasurf_optuna.space import SearchSpace

SMALL = SearchSpace(
    ["binary(unary(x),unary(x))", "unary(unary(x)) | n_ary(x,constant)"],
    unary=("zero", "negative", "reciprocal", "exp", "relu", "square", "tanh"),
    binary=("div", "pow", "max"),
    constants=(0.5, -1e308),
)
EXCLUDED = SMALL.without("div(zero(x),zero(x))", "tanh(exp(x))", str(SMALL[0]), str(SMALL[-1]))


def collected(catalogue: Catalogue) -> NDArray[np.float64]:
    rows = np.full((len(catalogue), 1000), 12345.0)
    seen: list[int] = []
    for classes, outputs in catalogue.output_blocks():
        rows[classes] = outputs
        seen += classes.tolist()
    assert sorted(seen) == list(range(len(catalogue)))
    return rows


@pytest.mark.parametrize("space", [SMALL, EXCLUDED], ids=["all", "excluded"])
@pytest.mark.parametrize(
    ("rule", "invariance"), [("tolerance", "none"), ("tolerance", "affine"), ("identical", "none")]
)
def test_blocks_hold_the_outputs_of_every_class(
    monkeypatch: pytest.MonkeyPatch, space: SearchSpace, rule: Rule, invariance: Invariance
) -> None:
    monkeypatch.setattr(_all_outputs, "_ROWS_AT_ONCE", 13)
    catalogue = Catalogue.of(space, rule, invariance=invariance)
    wanted = catalogue.outputs_of(range(len(catalogue)))
    np.testing.assert_allclose(collected(catalogue), wanted, rtol=0, atol=1e-30)


def test_the_three_node_space_comes_whole(catalogue: Catalogue) -> None:
    wanted = catalogue.outputs_of(range(len(catalogue)))
    np.testing.assert_allclose(collected(catalogue), wanted, rtol=0, atol=1e-30)


def test_a_space_whose_levels_find_no_room_goes_function_by_function(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    catalogue = Catalogue.of(SMALL)
    monkeypatch.setattr(Resources, "memory_limit", 0)
    wanted = catalogue.outputs_of(range(len(catalogue)))
    np.testing.assert_array_equal(collected(catalogue), wanted)


def test_a_file_with_outputs_is_read(tmp_path: Path) -> None:
    made = Catalogue.of(SMALL)
    path = made.save(tmp_path / "small.catalogue", outputs=True)
    loaded = Catalogue.load(path)
    np.testing.assert_array_equal(collected(loaded), made.outputs)
    content = bytearray(path.read_bytes())
    # The first array behind the header, whose length is in front.
    start = 8 + int.from_bytes(content[:8], "little")
    content[start + 100] ^= 1
    path.write_bytes(content)
    with pytest.raises(CatalogueError, match="outputs, block 0, is wrong"):
        collected(Catalogue.load(path))
