"""The map that gives functions back (Figure 3), and planes of both features (Figure 4)."""

import math

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.model_selection import LeaveOneOut, cross_val_predict
from sklearn.neighbors import KNeighborsRegressor

from aquasurf_optuna import Expression
from aquasurf_optuna.benchmark._bench import ActBench
from aquasurf_optuna.exceptions import BenchmarkError
from benchmarks.paper import _common as common
from benchmarks.paper import figure3, figure4
from tests.benchmarks.paper_tables import PNG, small

# Figure 3


def test_outputs_are_bounded() -> None:
    inputs = np.array([-5.0, 0.0, 1.0, 5.0])
    texts = ("x", "sinh(x)", "negative(sinh(x))", "div(zero(x),x)", "one(x)")
    found = figure3.bounded_outputs([Expression.parse(text) for text in texts], inputs)
    np.testing.assert_allclose(found[0], inputs)
    np.testing.assert_allclose(found[1], [-20.0, 0.0, math.sinh(1.0), 20.0])
    np.testing.assert_allclose(found[2], -found[1])
    np.testing.assert_allclose(found[3], [0.0, 20.0, 0.0, 0.0])
    np.testing.assert_allclose(found[4], 1.0)


def test_the_grid_lies_between_its_corners() -> None:
    corners = np.array([[0.0, 2.0], [4.0, 2.0], [4.0, 0.0], [0.0, 0.0]])
    grid = figure3.between(corners, 3)
    np.testing.assert_allclose(grid[0], [[0.0, 2.0], [2.0, 2.0], [4.0, 2.0]])
    np.testing.assert_allclose(grid[1, 1], [2.0, 1.0])
    np.testing.assert_allclose(grid[2], [[0.0, 0.0], [2.0, 0.0], [4.0, 0.0]])


def test_facts_of_a_known_atlas() -> None:
    # Constant functions: distances are the differences of their values.
    heights = np.array([[0.0, 1.0], [2.0, 4.0]])
    outputs = np.repeat([[0.0], [1.0], [4.5], [2.0]], 3, axis=1)
    atlas = figure3.Atlas(
        inputs=np.zeros(3),
        outputs=outputs,
        points=np.zeros((4, 2)),
        corners=dict(zip(figure3.CORNERS, range(4), strict=True)),
        grid=np.zeros((2, 2, 2)),
        reconstructions=np.repeat(heights[..., None], 3, axis=2),
    )
    facts = figure3.facts_of(atlas)
    assert list(facts.corner_errors.values()) == [0.0, 0.0, 0.5, 0.0]
    assert facts.step == facts.across == 2.0  # of 1, 2, 2, 3
    assert facts.nearest == 0.0
    assert facts.random > 0.0


def test_the_map_gives_functions_back_and_follows_its_seed(several: ActBench) -> None:
    once, again = (figure3.atlas_of(several, grid=2) for _ in range(2))
    assert once.reconstructions.shape == (2, 2, figure3.N_INPUTS)
    assert np.isfinite(once.reconstructions).all()
    np.testing.assert_array_equal(once.points, again.points)
    np.testing.assert_array_equal(once.reconstructions, again.reconstructions)
    facts = figure3.facts_of(once)
    assert max(facts.corner_errors.values()) < facts.random


def test_the_map_is_drawn(several: ActBench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(figure3, "GRID", 2)
    drawn = figure3.draw([several])
    assert common.as_png(drawn.figure).startswith(PNG)
    with pytest.raises(BenchmarkError, match="one table, got none"):
        figure3.draw([])


# Figure 4


def left_out_by_sklearn(
    points: NDArray[np.float64], values: NDArray[np.float64], neighbours: int
) -> NDArray[np.float64]:
    """Fit once for each point that is left out: the oracle."""
    regressor = KNeighborsRegressor(n_neighbors=neighbours, weights="distance")
    found: NDArray[np.float64] = cross_val_predict(regressor, points, values, cv=LeaveOneOut())
    return found


def test_each_is_predicted_without_itself() -> None:
    rng = np.random.default_rng(0)
    points, values = rng.normal(size=(30, 2)), rng.normal(size=30)
    # Which of the two is a third one's last neighbour is open, so they have one value.
    points[7], values[7] = points[8], values[8]
    found = figure4.left_out_predictions(points, values)
    np.testing.assert_allclose(found, left_out_by_sklearn(points, values, 3))
    assert found[7] == pytest.approx(values[8])
    # The oracle can fail.
    assert not np.allclose(found, left_out_by_sklearn(points, values, 4))


def panel(points: NDArray[np.float64], accuracies: NDArray[np.float64]) -> figure4.Panel:
    pairs = {"elu(x)": (0, 2)}
    return figure4.Panel("t", "both", np.arange(len(points)), points, accuracies, 0.2, pairs)


def test_a_plane_that_orders_functions_predicts_them() -> None:
    line = np.linspace(0.0, 1.0, 50)
    points = np.column_stack([line, 0.0 * line])
    facts = figure4.facts_of(panel(points, line))
    assert facts.correlation > 0.99
    assert facts.r2 > 0.99
    assert facts.ranks == {"elu(x)": 2}
    shuffled = figure4.facts_of(panel(points, np.random.default_rng(0).permutation(line)))
    assert shuffled.r2 < 0.1
    assert abs(shuffled.correlation) < 0.5


def test_the_variance_explained() -> None:
    values = np.array([0.0, 1.0, 2.0])
    assert figure4.explained(values, values) == 1.0
    assert figure4.explained(values, np.full(3, 1.0)) == 0.0
    assert figure4.explained(values, values[::-1]) == -3.0
    assert math.isnan(figure4.explained(np.ones(3), values))
    assert math.isnan(figure4.explained(np.empty(0), np.empty(0)))


def test_constant_accuracies_have_no_correlation() -> None:
    points = np.random.default_rng(0).normal(size=(10, 2))
    facts = figure4.facts_of(panel(points, np.full(10, 0.1)))
    assert math.isnan(facts.correlation)
    assert math.isnan(facts.r2)


def test_planes_hold_what_is_valid_and_measured(several: ActBench) -> None:
    panels = figure4.panels_of(several)
    assert [each.features for each in panels] == ["fisher", "outputs", "both"]
    for each in panels:
        assert each.points.shape == (len(several), 2)
        assert list(each.pairs) == list(common.NEGATED)
    own, negative = panels[0].pairs["relu(x)"]
    assert several.row("relu(x)") == own
    assert several.row("min(zero(x),negative(x))") == negative


def test_planes_are_drawn(several: ActBench) -> None:
    drawn = figure4.draw([several])
    assert common.as_png(drawn.figure).startswith(PNG)
    assert sum(line.startswith("| several") for line in drawn.lines) == 3


def test_a_table_too_small_for_a_map_is_refused() -> None:
    with pytest.raises(BenchmarkError, match="small has 5 functions"):
        figure4.panels_of(small())
