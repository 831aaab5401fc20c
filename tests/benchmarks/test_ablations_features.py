"""Features under other settings: measured, weighed, kept, and made into questions."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from aquasurf_optuna.benchmark import ActBench
from aquasurf_optuna.benchmark._reader import Table
from aquasurf_optuna.benchmark._shipped import shipped
from aquasurf_optuna.exceptions import BenchmarkError
from aquasurf_optuna.features.spectra import fisher_distance, histogram_vector, quantile_vector
from benchmarks.ablations import _measuring, features
from benchmarks.ablations._command import TABLE
from benchmarks.ablations._measuring import Measured, Setting, Task, by_layer_size, measured
from benchmarks.ablations._searching import (
    DEFAULT,
    Surrogated,
)
from tests.aquasurf_optuna.benchmark.searched_tables import small_bench

ROOT = Path(__file__).parents[2]
SPECTRUM = dict[str, NDArray[np.float64]]
FUNCTION = "max(relu(x),tanh(x))"

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
    # Of Lightning's own; the package's filter is undone for each test.
    pytest.mark.filterwarnings(
        r"ignore:`isinstance\(treespec, LeafSpec\)` is deprecated:FutureWarning"
    ),
]


@pytest.fixture(scope="module")
def task() -> Task:
    with pytest.MonkeyPatch.context() as patch:
        # The file names its training by a path from there.
        patch.chdir(ROOT)
        return _measuring.task_of(features.CONFIG, max(features.BATCHES))


def vector(task: Task, setting: Setting, function: str = FUNCTION) -> NDArray[np.float32]:
    one = _measuring.measure_one(task, setting, function, {})
    assert one.quantiles is not None
    return one.quantiles


# What is measured.


def test_the_default_is_what_stands_in_the_table(task: Task) -> None:
    entry = next(entry for entry in Table(shipped(TABLE)) if "quantiles" in entry.vectors)
    one = _measuring.measure_one(task, features.AS_IT_STANDS, entry.name, {})
    assert one.quantiles is not None
    assert one.histogram is not None
    # The table has four digits.
    np.testing.assert_allclose(one.quantiles, entry.vectors["quantiles"], rtol=6e-4, atol=1e-6)
    np.testing.assert_allclose(one.histogram, entry.vectors["histogram"], rtol=6e-4, atol=1e-6)
    assert one.seconds > 0


def test_the_default_is_what_a_featurizer_measures(task: Task) -> None:
    one = _measuring.measure_one(task, features.AS_IT_STANDS, FUNCTION, {})
    for kind, own in (("quantiles", one.quantiles), ("histogram", one.histogram)):
        known = task.featurizer.represented_as(kind)(FUNCTION).vector
        assert known is not None
        assert own is not None
        assert own.tobytes() == known.tobytes()


def test_every_other_setting_measures_something_else(task: Task) -> None:
    questions = features.settings_of(len(task.featurizer.inputs)).values()
    settings = list(dict.fromkeys(setting for some in questions for setting in some.values()))
    assert len(settings) == 10
    found = [vector(task, setting) for setting in settings]
    assert len({one.tobytes() for one in found}) == len({one.slug for one in settings}) == 10
    assert len({len(one) for one in found}) == 1
    assert vector(task, Setting(samples=50)).tobytes() == found[0].tobytes()


def test_images_are_the_first_of_a_training_and_have_their_labels(task: Task) -> None:
    assert task.inputs.shape == (200, 1, 10, 10)
    assert task.targets.shape == (200,)
    assert torch.equal(task.inputs[:50], task.featurizer.inputs)
    other = task._replace(targets=(task.targets + 1) % 10)
    assert not np.array_equal(
        vector(task, Setting("empirical")), vector(other, Setting("empirical"))
    )
    for labels in ("sampled", "exact"):
        setting = Setting(labels)
        assert np.array_equal(vector(task, setting), vector(other, setting))
    with pytest.raises(BenchmarkError, match="the task has 200 images, but 201 are wanted"):
        vector(task, Setting(samples=201))


def test_configurations_that_cannot_be_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    bad = tmp_path / "bad.yaml"
    bad.write_text("name: mine\n")
    with pytest.raises(
        BenchmarkError, match="must say the `lightning_config` of a training, as examples"
    ):
        _measuring.task_of(bad, 1)
    bad.write_text("lightning_config: some.yaml\nfeaturizer: {call: mine}\n")
    with pytest.raises(BenchmarkError, match="measures with a featurizer of its own, .*mine"):
        _measuring.task_of(bad, 1)
    with pytest.raises(BenchmarkError, match="has 900 images, but 901 are wanted"):
        _measuring.task_of(features.CONFIG, 901)


def test_other_images_than_a_training_takes_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    first = _measuring._first_images
    monkeypatch.setattr(_measuring, "_first_images", lambda *a: (first(*a)[0] + 1.0, first(*a)[1]))
    with pytest.raises(BenchmarkError, match="gives other images than a training takes"):
        _measuring.task_of(features.CONFIG, 50)


def test_what_is_measured_is_kept(
    task: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    functions = [FUNCTION, "zero(x)"]
    options = {"jobs": 1, "kept": tmp_path / "spectra", "progress": False}
    setting = Setting(samples=10)
    first = measured(task, setting, functions, **options)
    assert np.isnan(first.quantiles[1]).all()
    assert np.isnan(first.histograms[1]).all()
    assert first.quantiles[0].tobytes() == vector(task, setting).tobytes()
    assert first.quantiles.shape[1] == 32 * len(first.sizes)
    assert first.histograms.shape[1] == sum(first.sizes // 100)
    with monkeypatch.context() as patch:
        patch.setattr(_measuring, "measure_one", None)
        second = measured(task, setting, functions, **options)
    for one, other in zip(first, second, strict=True):
        assert one.dtype == other.dtype
        assert one.tobytes() == other.tobytes()
    with pytest.raises(BenchmarkError, match="holds spectra of other functions, or of another"):
        measured(task, setting, functions[:1], **options)
    [path] = (tmp_path / "spectra").iterdir()
    path.write_bytes(b"something")
    with pytest.raises(BenchmarkError, match="is no file of spectra, move it away"):
        measured(task, setting, functions, **options)


# Layers by their size.


def weighted_distance(a: SPECTRUM, b: SPECTRUM) -> float:
    """Equation 2 with each layer counted by its share of the weights; the oracle."""
    weights = {name: len(values) for name, values in a.items()}
    mean = sum(weights.values()) / len(weights)
    return sum(
        weights[name] / mean * fisher_distance({name: a[name]}, {name: b[name]}) for name in a
    )


def spectra(seed: int) -> SPECTRUM:
    # Quantiles are exact where a slice holds whole values; histograms need many weights.
    rng = np.random.default_rng(seed)
    return {name: rng.normal(-8.0, 3.0, n) for name, n in (("a", 320), ("b", 3200), ("c", 96))}


SIZES = np.array([320, 3200, 96])


def test_layers_by_size_against_the_oracle() -> None:
    a, b = spectra(0), {name: values + 1.5 for name, values in spectra(0).items()}
    stacked = np.stack([quantile_vector(a), quantile_vector(b)]).astype(np.float32)
    first, second = by_layer_size(stacked, SIZES)
    assert np.abs(first - second).sum() == pytest.approx(weighted_distance(a, b), rel=1e-5)
    other = spectra(1)
    stacked = np.stack([quantile_vector(a), quantile_vector(other)]).astype(np.float32)
    first, second = by_layer_size(stacked, SIZES)
    apart = np.abs(first - second).sum()
    # Averages of slices are never further apart than the spectra.
    assert 0.5 * weighted_distance(a, other) < apart <= 1.00001 * weighted_distance(a, other)


def test_the_oracle_tells_weights_apart() -> None:
    a = spectra(0)
    near = {**a, "a": a["a"] + 1.0}
    far = {**a, "b": a["b"] + 1.0}
    assert fisher_distance(a, near) == pytest.approx(fisher_distance(a, far))
    assert weighted_distance(a, far) == pytest.approx(10 * weighted_distance(a, near))
    alike = {name: values[:96] for name, values in a.items()}
    moved = {name: values + 2.0 for name, values in alike.items()}
    assert weighted_distance(alike, moved) == pytest.approx(fisher_distance(alike, moved))


def test_histograms_by_size_are_the_cumulative_distribution_of_the_paper() -> None:
    a = spectra(0)
    [found] = by_layer_size(histogram_vector(a).astype(np.float32)[None], SIZES, histogram=True)
    plain = []
    for values in a.values():
        edges = np.linspace(-100.0, 100.0, len(values) // 100 + 1)[1:]
        plain += [(values < edge).mean() for edge in edges]
    assert len(found) == 3 + 32
    # A layer of 320 weights has 3 bins, not 3.2: the factor is one to within such a rest.
    factor = found[[2, -1]]
    np.testing.assert_allclose(factor, 20_000 / SIZES.mean(), rtol=0.07)
    np.testing.assert_allclose(found[:3], factor[0] * np.array(plain[:3]), rtol=1e-5)
    np.testing.assert_allclose(found[3:], factor[1] * np.array(plain[3:]), rtol=1e-5)


# The script.


@pytest.fixture(scope="module")
def bench() -> ActBench:
    return small_bench()


def test_questions_about_features_begin_with_the_default(bench: ActBench) -> None:
    n, rng = int(bench.valid.sum()), np.random.default_rng(0)
    settings = {s: None for some in features.settings_of(50).values() for s in some.values()}
    found = {
        setting: Measured(
            rng.normal(size=(n, 64)).astype(np.float32),
            rng.normal(size=(n, 5)).astype(np.float32),
            np.array([200, 300]),
            np.full(n, 0.1),
        )
        for setting in settings
    }
    questions, variants = features.questions_of(bench, 50, found)
    assert [len(question.settings) for question in questions] == [2, 3, 3, 5, 4]
    for question in questions:
        assert question.settings[question.default] == "default"
        assert list(question.settings.values()).count("default") == 1
        assert question.seconds.keys() == question.settings.keys()
    by_name = {variant.name: variant for variant in variants}
    assert len(by_name) == len(variants) == 13
    assert {name for one in questions for name in one.settings.values()} == by_name.keys()
    arrays = {name: variant.features for name, variant in by_name.items()}
    default = found[features.AS_IT_STANDS]
    for name, array in arrays.items():
        assert array is not None
        assert np.isnan(array[~bench.valid]).all()
        assert (name == "default") == np.array_equal(array[bench.valid], default.quantiles)
    assert "none." in features._invalid(bench, variants)
    found[Setting("exact")].quantiles[:2] = np.nan
    _, variants = features.questions_of(bench, 50, found)
    assert features._invalid(bench, variants).endswith("spectrum: 2 with exact-labels.")


def test_features_from_end_to_end(
    task: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(features, "LABELS", {"sampled labels": Setting()})
    monkeypatch.setattr(features, "BATCHES", (10,))
    monkeypatch.setattr(features, "USES", ())
    monkeypatch.setattr(features, "MAKERS", {DEFAULT: Surrogated()})
    monkeypatch.setattr(features, "task_of", lambda *_: task)
    small = small_bench("unary(x)")
    monkeypatch.setattr(features, "load", lambda _: [small])
    options = argparse.Namespace(
        table="small", kept=tmp_path / "kept", repeats=2, jobs=1, config=features.CONFIG
    )
    with pytest.raises(BenchmarkError, match="has quantiles of length 12, but the network"):
        features.run(options)
    small.fisher = np.zeros((len(small), 288), dtype=np.float32)
    text = features.run(options)
    assert text.count("(default)") == 5
    assert sum(file.suffix == ".npz" for file in (tmp_path / "kept").rglob("*")) == 2
    assert "Invalid of the" in text
