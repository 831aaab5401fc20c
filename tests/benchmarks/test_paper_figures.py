import math
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import stats
from sklearn.model_selection import LeaveOneOut, cross_val_predict
from sklearn.neighbors import KNeighborsRegressor
from torch import nn

from aquasurf_optuna import ActivationFactory, Catalogue, Expression, FisherFeaturizer, SearchSpace
from aquasurf_optuna.benchmark._bench import ActBench
from aquasurf_optuna.benchmark._reader import MEASURES, Entry
from aquasurf_optuna.exceptions import BenchmarkError
from aquasurf_optuna.features.spectra import fisher_distance, quantile_vector
from benchmarks.paper import _common as common
from benchmarks.paper import figure1, figure2, figure3, figure4, figure5

LAYERS = 2
PNG = b"\x89PNG"


def entry(
    name: str,
    accuracy: float,
    *,
    vector: NDArray[np.float32] | None = None,
    members: tuple[str, ...] = (),
    kind: str = "quantiles",
) -> Entry:
    """Return an entry; without a vector its spectrum is invalid."""
    vectors = {} if vector is None else {kind: vector}
    reason = "it explodes" if vector is None else None
    return Entry(name, dict.fromkeys(MEASURES, accuracy), members, vectors, reason, {}, (), None)


def graph(name: str) -> str:
    """Return a graph of the three-node space that is an operator."""
    return f"add({name}(x),zero(x))"


def vector(seed: int) -> NDArray[np.float32]:
    """Return quantiles of random spectra."""
    rng = np.random.default_rng(seed)
    layers = {str(layer): rng.normal(-8.0, 2.0, 100) for layer in range(LAYERS)}
    return quantile_vector(layers).astype(np.float32)


def small(name: str = "small") -> ActBench:
    """Return a table in which everything is known."""
    entries = [
        entry(graph("relu"), 0.6, vector=vector(0)),
        entry(graph("elu"), 0.7, vector=vector(1)),
        entry(graph("tanh"), 0.2, vector=vector(2)),
        entry(graph("sigmoid"), 0.1, vector=vector(3)),
        entry(graph("square"), 0.9, vector=vector(4)),
        entry(graph("exp"), math.nan, vector=vector(5)),
        entry(graph("sinh"), 0.05),
        entry(graph("cosh"), 0.3),
        entry(graph("reciprocal"), math.nan),
    ]
    return ActBench(name, entries)


@pytest.fixture(scope="module")
def several() -> ActBench:
    """A table of 40 functions of the three-node space, with baselines and their negatives."""
    catalogue = Catalogue.of(SearchSpace.three_node())
    wanted = [*common.TITLES, *figure5.NEGATIVES.values()]
    rows = list(dict.fromkeys([*map(catalogue.class_of, wanted), *range(0, len(catalogue), 90)]))
    rng = np.random.default_rng(0)
    return ActBench(
        "several",
        [
            entry(
                str(catalogue[row]),
                float(rng.uniform(0.1, 0.9)),
                vector=vector(row),
                members=tuple(map(str, catalogue.members(row))),
            )
            for row in rows
        ],
    )


# What the scripts share


def test_only_fetched_tables_are_at_hand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AQUASURF_CACHE", str(tmp_path))
    monkeypatch.setattr(common, "SHIPPED", {"act-bench-own": "checksum"})
    assert common.at_hand() == ["act-bench-own"]
    (tmp_path / "act-bench-resnet.json").write_text("{}")
    assert common.at_hand() == ["act-bench-own", "act-bench-resnet"]


def test_without_any_table_the_message_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AQUASURF_CACHE", str(tmp_path))
    monkeypatch.setattr(common, "SHIPPED", {})
    with pytest.raises(BenchmarkError, match="no table comes with this copy.*--tables"):
        common.load(None)


def test_a_figure_is_written_as_picture_and_text(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    common.write(tmp_path / "new", 1, figure1.draw([small()]))
    assert (tmp_path / "new" / "figure1.png").read_bytes().startswith(PNG)
    text = (tmp_path / "new" / "figure1.md").read_text()
    assert "small" in text
    assert text in capsys.readouterr().out


def test_equal_figures_give_equal_bytes() -> None:
    once, again = (common.as_png(figure1.draw([small()]).figure) for _ in range(2))
    assert once == again


# Figure 1


def test_every_function_is_counted_once() -> None:
    counts = figure1.histogram_of(small())
    assert [int(c.sum()) for c in counts[1:]] == [5, 2, 2]
    middles = (counts.edges[1:] + counts.edges[:-1]) / 2
    chance = int(np.argmin(abs(middles - 0.1)))
    assert middles[chance] == pytest.approx(0.1)
    assert counts.untrained[chance] == 2
    assert counts.valid[chance] == 1
    np.testing.assert_allclose(middles[counts.valid > 0], [0.1, 0.2, 0.6, 0.7, 0.9])


def test_facts_tell_what_was_trained_from_what_is_assumed() -> None:
    facts = figure1.facts_of(small())
    assert (facts.functions, facts.invalid, facts.valid_untrained) == (9, 3, 1)
    # The 0.2 of tanh is twice chance, and not above it.
    assert (facts.valid_trained, facts.valid_failed) == (5, 2)
    assert (facts.invalid_trained, facts.invalid_above, facts.invalid_best) == (2, 1, 0.3)
    assert (facts.best, facts.relu, facts.better) == (0.9, 0.6, 1)


def test_of_a_table_without_trained_invalid_functions_nothing_is_claimed() -> None:
    bench = ActBench(
        "t", [entry(graph("relu"), 0.5, vector=vector(0)), entry(graph("exp"), math.nan)]
    )
    assert math.isnan(figure1.facts_of(bench).invalid_best)
    assert "none was trained" in figure1.lines([bench])[-1]


@pytest.mark.parametrize(("hits", "trials"), [(0, 50), (1, 50), (7, 20)])
def test_the_upper_bound_leaves_five_per_cent(hits: int, trials: int) -> None:
    bound = figure1.upper_bound(hits, trials)
    assert stats.binom.cdf(hits, trials, bound) == pytest.approx(0.05)
    assert stats.binom.cdf(hits, trials, 0.9 * bound) > 0.06


def test_where_all_hit_anything_is_possible() -> None:
    assert figure1.upper_bound(3, 3) == 1.0
    assert figure1.upper_bound(0, 50) == pytest.approx(1 - 0.05 ** (1 / 50))


# Figure 2


def second() -> ActBench:
    """Return a table in which ELU has another name, and the order is another."""
    entries = [
        entry(graph("tanh"), 0.8, vector=vector(2)),
        entry("max(elu(x),elu(x))", 0.4, vector=vector(1), members=(graph("elu"),)),
        entry(graph("relu"), 0.5, vector=vector(0)),
        entry(graph("square"), 0.15, vector=vector(4)),
        entry(graph("swish"), 0.9, vector=vector(6)),
    ]
    return ActBench("second", entries)


def test_functions_are_matched_by_any_of_their_names() -> None:
    pair = figure2.pair_of(small(), second())
    assert pair.functions == tuple(map(graph, ("relu", "elu", "tanh", "square")))
    np.testing.assert_allclose(pair.accuracies, [[0.6, 0.7, 0.2, 0.9], [0.5, 0.4, 0.8, 0.15]])
    assert pair.baselines == {"relu(x)": 0, "elu(x)": 1, "tanh(x)": 2}


def test_only_functions_that_train_in_both_are_ranked() -> None:
    facts = figure2.facts_of(figure2.pair_of(small(), second()))
    assert (facts.functions, facts.both, facts.only_first, facts.only_second) == (4, 2, 1, 1)
    assert facts.correlation == pytest.approx(-1.0)
    # x^2 is best in the first and last in the second; tanh the other way round.
    assert facts.best_elsewhere == (4, 4)
    assert (facts.shared, facts.top) == (0, 1)


def test_a_table_agrees_with_itself() -> None:
    facts = figure2.facts_of(figure2.pair_of(small(), small("again")))
    assert facts.correlation == pytest.approx(1.0)
    assert (facts.best_elsewhere, facts.shared) == ((1, 1), 1)


def test_of_too_few_functions_there_is_no_correlation() -> None:
    bench = ActBench("t", [entry(graph("relu"), 0.5, vector=vector(0))])
    assert math.isnan(figure2.facts_of(figure2.pair_of(bench, bench)).correlation)


def test_every_pair_has_a_panel() -> None:
    drawn = figure2.draw([small(), second(), small("third"), second()])
    assert common.as_png(drawn.figure).startswith(PNG)
    assert sum(line.startswith("| ") for line in drawn.lines) == 2 + 6


def test_what_cannot_be_compared_is_refused() -> None:
    with pytest.raises(BenchmarkError, match="two or more, got 1"):
        figure2.draw([small()])
    other = ActBench("other", [entry(graph("swish"), 0.5, vector=vector(0))])
    with pytest.raises(BenchmarkError, match="no function was trained for both small and other"):
        figure2.pair_of(small(), other)


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


# Figure 5


def build(activation: ActivationFactory) -> nn.Module:
    return nn.Sequential(nn.Linear(4, 6), activation(), nn.Linear(6, 3))


def featurizer(seed: int = 0) -> FisherFeaturizer:
    inputs = torch.randn(8, 4, generator=torch.Generator().manual_seed(0))
    return FisherFeaturizer(build, inputs, seed=seed)


@pytest.mark.parametrize("function", ["relu(x)", "negative(tanh(x))"])
def test_layers_are_those_behind_the_vector(function: str) -> None:
    layers = figure5.layers_of(featurizer(seed=3), function)
    made = quantile_vector(layers).astype(np.float32)
    there = featurizer(seed=3)(function).vector
    assert there is not None
    np.testing.assert_array_equal(made, there)
    other = featurizer(seed=4)(function).vector
    assert other is not None
    assert not np.array_equal(made, other)


def test_the_random_state_stays_as_it_was() -> None:
    before = torch.get_rng_state()
    figure5.layers_of(featurizer(), "relu(x)")
    torch.testing.assert_close(torch.get_rng_state(), before)


def test_an_invalid_spectrum_has_no_layers() -> None:
    assert figure5.layers_of(featurizer(), "reciprocal(zero(x))") == {}


def test_spectra_from_quantiles(several: ActBench) -> None:
    found = figure5.spectra_of(several)
    assert found.source == "quantiles"
    assert found.redrawn == []
    assert found.deviation == pytest.approx(0.0, abs=1e-6)
    rows = several.row("elu(x)"), several.row("negative(elu(x))")
    own, negative = (several.fisher[row].astype(np.float64) for row in rows)
    facts = figure5.facts_of(found)
    assert facts.negatives["elu(x)"] == pytest.approx(np.abs(own - negative).sum())
    assert math.isnan(facts.itself["elu(x)"])
    assert found.own["elu(x)"].accuracy == several.values()[rows[0]]
    assert len(found.own["elu(x)"].whole) == own.size


def with_network(several: ActBench) -> ActBench:
    """Return a table of the same functions that says what its network is."""
    texts = several.functions
    vectors = [featurizer(seed=5)(text).vector for text in texts]
    entries = [
        entry(t, 0.5, vector=v, members=m)
        for t, v, m in zip(texts, vectors, several.members, strict=True)
    ]
    about = {"training": {"config": "a: configuration"}, "features": {"seed": 5}}
    return ActBench("networked", entries, about=about)


def test_spectra_from_the_network(several: ActBench, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []

    def featurizer_of(path: Path, *, seed: int) -> FisherFeaturizer:
        read.append(path.read_text())
        return featurizer(seed=seed)

    monkeypatch.setattr(figure5, "featurizer_of", featurizer_of)
    found = figure5.spectra_of(with_network(several))
    assert found.source == "network"
    assert read == ["a: configuration"] * (1 + figure5.MORE_SEEDS)
    assert found.deviation == pytest.approx(0.0, abs=1e-6)
    assert len(found.own["relu(x)"].whole) == 4 * 6 + 6 + 6 * 3 + 3
    redrawn = [each["relu(x)"] for each in found.redrawn]
    distances = [fisher_distance(found.own["relu(x)"].layers, each) for each in redrawn]
    assert len(distances) == figure5.MORE_SEEDS
    assert figure5.facts_of(found).itself["relu(x)"] == pytest.approx(np.median(distances))


def test_distances_of_known_spectra() -> None:
    def spectrum(value: float) -> figure5.Spectrum:
        return figure5.Spectrum({"a": np.full(3, value), "b": np.full(2, value)}, 0.5)

    invalid = figure5.Spectrum({}, math.nan)
    texts = list(figure5.NEGATIVES)
    own = dict(zip(texts, [spectrum(0.0), spectrum(1.0), spectrum(4.0)], strict=True))
    negative = dict(zip(texts, [spectrum(0.5), invalid, spectrum(4.0)], strict=True))
    facts = figure5.facts_of(figure5.Spectra("t", "quantiles", own, negative, [], math.nan))
    assert facts.negatives[texts[0]] == pytest.approx(1.0)
    assert math.isnan(facts.negatives[texts[1]])
    assert facts.negatives[texts[2]] == 0.0
    assert facts.others == pytest.approx(6.0)  # of 2, 6 and 8


def test_what_has_no_spectra_is_left_out(several: ActBench) -> None:
    entries = [
        entry(text, 0.5, vector=np.ones(3, dtype=np.float32), kind="histogram")
        for text in several.functions
    ]
    published = ActBench("published", entries)
    drawn = figure5.draw([several, published])
    assert common.as_png(drawn.figure).startswith(PNG)
    assert drawn.lines[-1].startswith("- published has neither")
    with pytest.raises(BenchmarkError, match="none of the tables has a network or quantiles"):
        figure5.draw([published])
    with pytest.raises(BenchmarkError, match="published neither says what its network is"):
        figure5.spectra_of(published)
