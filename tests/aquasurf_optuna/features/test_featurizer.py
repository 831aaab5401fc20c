"""FisherFeaturizer: features by expression, many at once, and what a store sees."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from aquasurf_optuna.exceptions import ExpressionError, InitializationError, UnsupportedModelError
from aquasurf_optuna.expression import Expression
from aquasurf_optuna.features.featurizer import FisherFeature, FisherFeaturizer, Representation
from aquasurf_optuna.features.fisher import fisher_log_eigenvalues
from aquasurf_optuna.features.spectra import histogram_vector, quantile_vector
from tests.aquasurf_optuna.features.networks import batch, seeded, seeded_cnn, small_cnn

IMAGES = batch(8, 2, 6, 6)
LABELS = torch.arange(8) % 3
TEXTS = ["relu(x)", "tanh(x)", "zero(x)", "swish(x)", "relu(x)"]


class DictStore:
    """A store that remembers the order of its calls."""

    def __init__(self) -> None:
        self.kept: dict[tuple[str, str], FisherFeature] = {}

    def get(self, task: str, expression: str) -> FisherFeature | None:
        return self.kept.get((task, expression))

    def put(self, task: str, expression: str, feature: FisherFeature) -> None:
        self.kept[task, expression] = feature


class Interrupting(DictStore):
    def put(self, task: str, expression: str, feature: FisherFeature) -> None:
        super().put(task, expression, feature)
        if len(self.kept) == 2:
            raise KeyboardInterrupt


def assert_same(actual: list[FisherFeature], expected: list[FisherFeature]) -> None:
    assert len(actual) == len(expected)
    for one, other in zip(actual, expected, strict=True):
        assert one.reason == other.reason
        np.testing.assert_array_equal(one.vector, other.vector)


@pytest.mark.parametrize(
    ("representation", "vector"), [("quantiles", quantile_vector), ("histogram", histogram_vector)]
)
def test_a_feature_is_the_vector_of_the_seeded_network(representation: str, vector: object) -> None:
    feature = FisherFeaturizer(small_cnn, IMAGES, representation=representation)("tanh(x)")
    expected = vector(fisher_log_eigenvalues(seeded_cnn(), IMAGES))
    assert feature.valid
    assert feature.reason is None
    assert feature.vector.dtype == np.float32
    np.testing.assert_array_equal(feature.vector, expected.astype(np.float32))


def test_a_feature_depends_on_neither_order_nor_random_state() -> None:
    featurizer = FisherFeaturizer(small_cnn, IMAGES)
    first = featurizer("tanh(x)")
    featurizer(Expression.parse("relu(x)"))
    torch.rand(3)
    before = torch.get_rng_state()
    assert_same([featurizer(Expression.parse("tanh(x)"))], [first])
    assert torch.equal(torch.get_rng_state(), before)


def test_seeds_targets_and_functions_decide_the_feature() -> None:
    vectors = [
        FisherFeaturizer(small_cnn, IMAGES)("tanh(x)").vector,
        FisherFeaturizer(small_cnn, IMAGES)("relu(x)").vector,
        FisherFeaturizer(small_cnn, IMAGES, seed=1)("tanh(x)").vector,
        FisherFeaturizer(small_cnn, IMAGES, LABELS)("tanh(x)").vector,
    ]
    assert len({vector.tobytes() for vector in vectors}) == len(vectors)


def test_an_invalid_function_gets_its_reason() -> None:
    feature = FisherFeaturizer(small_cnn, IMAGES)("zero(x)")
    assert feature.vector is None
    assert not feature.valid
    assert feature.reason == "layer '2': the activations that enter vanish: all are zero"


def uninitialisable(_: object) -> nn.Module:
    raise InitializationError("no weights give unit variance")


def test_a_function_without_initialisation_is_invalid() -> None:
    feature = FisherFeaturizer(uninitialisable, IMAGES)("tanh(x)")
    assert feature.reason == "no weights give unit variance"


def test_faults_of_the_callers_are_not_invalid_functions() -> None:
    with pytest.raises(UnsupportedModelError, match="no linear map and no convolution"):
        FisherFeaturizer(lambda factory: factory(), IMAGES)("tanh(x)")
    with pytest.raises(ExpressionError, match="tahn"):
        FisherFeaturizer(small_cnn, IMAGES)("tahn(x)")


def test_modules_can_be_left_out() -> None:
    def build(factory: Callable[[], nn.Module]) -> nn.Module:
        return small_cnn(factory).append(nn.PReLU())

    feature = FisherFeaturizer(build, IMAGES, skip=(nn.PReLU,))("tanh(x)")
    assert feature.vector.shape == (3 * 32,)


def test_many_keeps_order_and_measures_each_function_once() -> None:
    seen: list[tuple[int, int]] = []
    featurizer = FisherFeaturizer(small_cnn, IMAGES)
    features = featurizer.many(TEXTS, progress=lambda done, total: seen.append((done, total)))
    assert_same(features, [featurizer(text) for text in TEXTS])
    assert features[0] is features[4]
    assert seen == [(0, 4), (1, 4), (2, 4), (3, 4), (4, 4)]


def test_many_goes_on_where_it_was_interrupted() -> None:
    featurizer, store = FisherFeaturizer(small_cnn, IMAGES), Interrupting()
    with pytest.raises(KeyboardInterrupt):
        featurizer.many(TEXTS, store=store)
    assert [text for _, text in store.kept] == ["relu(x)", "tanh(x)"]
    marked = FisherFeature(np.zeros(3, np.float32), None)
    store.kept[featurizer.task, "tanh(x)"] = marked
    seen: list[tuple[int, int]] = []
    features = featurizer.many(
        TEXTS, store=store, progress=lambda done, total: seen.append((done, total))
    )
    assert features[1] is marked
    assert seen == [(2, 4), (3, 4), (4, 4)]
    assert [text for _, text in store.kept] == ["relu(x)", "tanh(x)", "zero(x)", "swish(x)"]


def test_processes_give_the_same_features_and_keep_them() -> None:
    featurizer, store = FisherFeaturizer(small_cnn, IMAGES, task="mine"), DictStore()
    features = featurizer.many(TEXTS, store=store, n_jobs=2)
    expected = featurizer.many(TEXTS)
    for one, other in zip(features, expected, strict=True):
        assert one.reason == other.reason
        if other.valid:
            # Threads and memory layout may change the last digits of a sum.
            np.testing.assert_allclose(one.vector, other.vector, rtol=1e-4, atol=1e-3)
    assert set(store.kept) == {("mine", text) for text in TEXTS}


def test_nothing_to_do_is_done() -> None:
    assert FisherFeaturizer(small_cnn, IMAGES).many([], n_jobs=2) == []


def test_a_featurizer_survives_pickling() -> None:
    featurizer = FisherFeaturizer(small_cnn, IMAGES, LABELS, representation="histogram", seed=5)
    copy = pickle.loads(pickle.dumps(featurizer))
    assert copy.task == featurizer.task
    assert_same([copy("tanh(x)")], [featurizer("tanh(x)")])


def scaled_cnn(factory: Callable[[], nn.Module]) -> nn.Module:
    model = small_cnn(factory)
    with torch.no_grad():
        model[0].weight.mul_(2)
    return model


def strided_cnn(factory: Callable[[], nn.Module]) -> nn.Module:
    model = small_cnn(factory)
    model[0].stride = (2, 2)
    return model


def test_the_task_tells_apart_whatever_decides_the_feature() -> None:
    tasks = [
        FisherFeaturizer(small_cnn, IMAGES),
        FisherFeaturizer(small_cnn, IMAGES + 1),
        FisherFeaturizer(small_cnn, IMAGES, LABELS),
        FisherFeaturizer(small_cnn, IMAGES, seed=1),
        FisherFeaturizer(small_cnn, IMAGES, representation="histogram"),
        FisherFeaturizer(small_cnn, IMAGES, skip=(nn.PReLU,)),
        FisherFeaturizer(small_cnn, IMAGES, fisher="exact"),
        FisherFeaturizer(small_cnn, IMAGES, loss="binary_cross_entropy"),
        FisherFeaturizer(small_cnn, IMAGES, sharing="reduce"),
        FisherFeaturizer(small_cnn, IMAGES, max_uses=10),
        FisherFeaturizer(small_cnn, {"input": IMAGES}),
        FisherFeaturizer(small_cnn, {"images": IMAGES}),
        FisherFeaturizer(scaled_cnn, IMAGES),
        FisherFeaturizer(strided_cnn, IMAGES),
    ]
    assert len({featurizer.task for featurizer in tasks}) == len(tasks)
    assert FisherFeaturizer(small_cnn, IMAGES.clone()).task == tasks[0].task


def test_settings_reach_the_measurement() -> None:
    settings = {"loss": "mse", "fisher": "exact", "sharing": "reduce", "seed": 2}
    featurizer = FisherFeaturizer(small_cnn, {"input": IMAGES}, **settings)
    model = seeded(lambda: small_cnn(nn.Tanh), seed=2)
    expected = quantile_vector(fisher_log_eigenvalues(model, IMAGES, **settings))
    np.testing.assert_allclose(featurizer("tanh(x)").vector, expected, rtol=1e-5)
    few = FisherFeaturizer(small_cnn, IMAGES, max_uses=10)("tanh(x)").vector
    assert not np.allclose(few, FisherFeaturizer(small_cnn, IMAGES)("tanh(x)").vector)


def test_what_no_layer_stands_for_is_told() -> None:
    def build(factory: Callable[[], nn.Module]) -> nn.Module:
        return small_cnn(factory).append(nn.PReLU())

    featurizer = FisherFeaturizer(build, IMAGES)
    assert featurizer.not_covered == {}
    assert featurizer("tanh(x)").valid
    assert list(featurizer.not_covered) == ["7.weight"]


def test_what_the_batch_adds_is_computed_once_and_the_same() -> None:
    featurizer = FisherFeaturizer(small_cnn, IMAGES)
    first = featurizer("tanh(x)")
    assert [layer for layer, _ in featurizer._batch_parts] == ["0"]
    part = next(iter(featurizer._batch_parts.values()))
    features = [first, featurizer("relu(x)")]
    assert next(iter(featurizer._batch_parts.values())) is part
    assert_same(features, [FisherFeaturizer(small_cnn, IMAGES)(t) for t in ("tanh(x)", "relu(x)")])
    assert pickle.loads(pickle.dumps(featurizer))._batch_parts == {}


def test_the_task_is_the_same_everywhere_and_forever() -> None:
    """A change here makes every store that users filled useless: change it on purpose only."""

    def build(factory: Callable[[], nn.Module]) -> nn.Module:
        model = nn.Sequential(nn.Linear(2, 3), factory())
        for parameter in model.parameters():
            nn.init.ones_(parameter)
        return model

    task = FisherFeaturizer(build, torch.arange(8.0).reshape(4, 2)).task
    assert task == "fisher-ac15894ecf0a3f4c"


def test_a_given_task_is_kept() -> None:
    assert FisherFeaturizer(uninitialisable, IMAGES, task="cifar10").task == "cifar10"


def absolute_error(outputs: Tensor, targets: Tensor) -> Tensor:
    return (outputs - targets[:, None]).abs()


REFUSED = {
    "representation": ({"representation": "text"}, r"\['histogram', 'quantiles'\], got 'text'"),
    "inputs": ({"inputs": None}, "inputs must be a tensor .* got NoneType"),
    "targets": ({"targets": LABELS[:3]}, r"each of the 8 inputs, got \(3,\)"),
    "loss": ({"loss": "hinge"}, "loss must be one of .*'hinge'"),
    "own loss": ({"loss": absolute_error, "targets": LABELS}, "name the task"),
    "empty task": ({"task": ""}, "task must be a name, or None .* got ''"),
}


@pytest.mark.parametrize("representation", ["quantiles", "histogram"])
def test_another_representation_is_as_if_made_so(representation: Representation) -> None:
    settings: dict[str, Any] = {
        "targets": LABELS,
        "fisher": "empirical",
        "sharing": "reduce",
        "max_uses": 20,
        "seed": 3,
        "skip": (nn.PReLU,),
    }
    direct = FisherFeaturizer(small_cnn, IMAGES, representation=representation, **settings)
    changed = FisherFeaturizer(small_cnn, IMAGES, **settings).represented_as(representation)
    hidden = ("_batch_parts", "task")
    kept, expected = (
        {name: value for name, value in vars(each).items() if name not in hidden}
        for each in (changed, direct)
    )
    assert kept == expected
    assert changed.task == direct.task
    assert_same([changed("tanh(x)")], [direct("tanh(x)")])


def test_another_representation_has_a_task_of_its_own() -> None:
    derived = FisherFeaturizer(small_cnn, IMAGES)
    assert derived.represented_as("quantiles").task == derived.task
    assert derived.represented_as("histogram").task != derived.task
    given = FisherFeaturizer(small_cnn, IMAGES, task="digits")
    assert given.represented_as("quantiles").task == "digits, quantiles"
    assert given.represented_as("histogram").task == "digits, histogram"
    assert (given.task, given.representation) == ("digits", "quantiles")
    with pytest.raises(ValueError, match="representation must be one of .*, got 'mean'"):
        given.represented_as("mean")


@pytest.mark.parametrize(("arguments", "message"), REFUSED.values(), ids=REFUSED.keys())
def test_bad_settings_are_refused(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        FisherFeaturizer(**{"build_model": small_cnn, "inputs": IMAGES, **arguments})


def test_no_processes_are_refused() -> None:
    with pytest.raises(ValueError, match="n_jobs must be 1 or more .* got 0"):
        FisherFeaturizer(small_cnn, IMAGES).many(TEXTS, n_jobs=0)
