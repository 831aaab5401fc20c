"""Spectra of functions and their negatives (Figure 5)."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from aquasurf_optuna import ActivationFactory, FisherFeaturizer
from aquasurf_optuna.benchmark._bench import ActBench
from aquasurf_optuna.exceptions import BenchmarkError
from aquasurf_optuna.features.spectra import fisher_distance, quantile_vector
from benchmarks.paper import _common as common
from benchmarks.paper import figure5
from tests.benchmarks.paper_tables import PNG, entry

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
