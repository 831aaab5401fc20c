"""Feature workers beside a search: what they measure, in what order, and that nothing is lost."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest

from aquasurf_optuna import AquaSurfSampler, FeatureStore
from aquasurf_optuna._combinations import values_by_site
from aquasurf_optuna._whole_space import WholeSpace
from aquasurf_optuna.catalogue import Catalogue
from aquasurf_optuna.exceptions import SamplerError, UnsupportedModelError
from aquasurf_optuna.expression import Expression
from aquasurf_optuna.features.featurizer import FisherFeature, PrecomputeOptions
from aquasurf_optuna.features.outputs import function_key
from tests.aquasurf_optuna.sampler_helpers import TINY, tell, values_near

HERE = PrecomputeOptions(timeout=None)
TWO = PrecomputeOptions(timeout=60)
TANH = function_key(Expression.parse("tanh(x)"))


class Featurizer:
    """Measures at once, and remembers what, in order; tanh and what it is equal to is invalid."""

    def __init__(
        self, task: str = "quick", before: Callable[[str], object] = lambda text: None
    ) -> None:
        self.task = task
        self.measured: list[str] = []
        self._before = before

    def __call__(self, text: str) -> FisherFeature:
        self._before(text)
        self.measured.append(text)
        if function_key(Expression.parse(text)) == TANH:
            return FisherFeature(None, "no spectrum")
        return FisherFeature(np.array([len(text), text.count("u"), 1], np.float32), None)


@pytest.fixture
def store(tmp_path: Path) -> FeatureStore:
    return FeatureStore(f"sqlite:///{tmp_path / 'features.db'}")


def sampler_of(
    catalogue: Catalogue, store: FeatureStore, featurizer: Any, **options: Any
) -> AquaSurfSampler:
    settings = {"seed": 0, "pool": "stored", **options}
    return AquaSurfSampler(
        catalogue.space, catalogue=catalogue, features=featurizer, store=store, **settings
    )


def classes(catalogue: Catalogue, texts: list[str]) -> list[int]:
    return [catalogue.class_of(text) for text in texts]


def n_candidates(catalogue: Catalogue) -> int:
    return int((catalogue.is_finite & ~catalogue.is_constant).sum())


def test_baselines_and_what_was_tried_come_first(
    store: FeatureStore, three_node: Any, catalogue: Catalogue
) -> None:
    featurizer = Featurizer()
    sampler = sampler_of(catalogue, store, featurizer, baselines=("relu(x)", "tanh(x)"))
    study = optuna.create_study(sampler=sampler)
    tried = ["max(cosh(x),erf(x))", "min(x,zero(x))", "add(x,zero(x))"]
    params = [three_node.params_of(three_node[catalogue_index(catalogue, t)], "activation")
              for t in tried]  # fmt: skip
    tell(study, params[0], three_node, value=1.0)
    tell(study, params[1], three_node, state=optuna.trial.TrialState.FAIL)
    study.enqueue_trial(params[2])

    assert sampler.measure(study, 6, options=HERE) == len(featurizer.measured)
    first = classes(catalogue, [*featurizer.measured[:5]])
    assert set(first) == set(classes(catalogue, ["relu(x)", "tanh(x)", *tried]))
    assert len(set(featurizer.measured)) == len(featurizer.measured)
    assert not catalogue.is_constant[classes(catalogue, featurizer.measured)].any()
    assert store.claims(featurizer.task) == {}
    known = store.known(featurizer.task, ["tanh(x)"])
    assert known["tanh(x)"].reason == "no spectrum"


def catalogue_index(catalogue: Catalogue, text: str) -> int:
    """A graph of the space with the function."""
    index = catalogue.space.find(catalogue[catalogue.class_of(text)])
    assert index is not None
    return index


def test_all_there_are_each_once(store: FeatureStore, tiny: Catalogue) -> None:
    featurizer = Featurizer()
    sampler = sampler_of(tiny, store, featurizer)
    study = optuna.create_study(sampler=sampler)
    seen: list[tuple[int, int]] = []
    n = sampler.measure(study, options=HERE, progress=lambda done, of: seen.append((done, of)))
    expected = n_candidates(tiny)
    assert seen[-1] == (expected, expected)
    assert seen == sorted(seen)
    # Of the baselines, those that this space has.
    assert set(classes(tiny, featurizer.measured)) == {
        *sampler._sites[0].shuffled,
        *tiny.classes_of(["relu(x)", "tanh(x)"]),
    }
    assert n == len(featurizer.measured) == store.count(featurizer.task)
    assert sampler.measure(study, options=HERE) == 0


def test_candidates_follow_the_search(
    store: FeatureStore, three_node: Any, catalogue: Catalogue
) -> None:
    """After a third at random they are what the outputs of what was tried speak for."""
    values = values_near("max(erf(x),arcsinh(x))", catalogue)
    featurizer = Featurizer()
    sampler = sampler_of(catalogue, store, featurizer, baselines=())
    study = optuna.create_study(sampler=sampler, direction="maximize")
    tried = catalogue.shuffled(5)[:30]
    for class_id in tried:
        tell(
            study,
            three_node.params_of(catalogue[class_id], "activation"),
            three_node,
            value=float(values[class_id]),
        )
    sampler.measure(study, 90, options=HERE)

    ran = [c for c in classes(catalogue, featurizer.measured) if c not in tried]
    at_random = [c for c in sampler._sites[0].shuffled[:60] if c not in tried]
    assert len(ran) == 60
    # What was tried counts among the 90, so the third that is random is there already.
    assert np.mean(values[ran]) > np.mean(values[at_random]) + 0.1
    history = sampler._read(study)
    best = WholeSpace(catalogue).ranked(values_by_site(history)[0], n=20, exclude=tried)
    assert set(best[:10]) <= set(ran[:20])


def test_at_random_on_request(store: FeatureStore, tiny: Catalogue) -> None:
    featurizer = Featurizer()
    sampler = sampler_of(tiny, store, featurizer, baselines=())
    study = optuna.create_study(sampler=sampler)
    tell(study, TINY.params_of(tiny[3], "activation"), TINY, value=1.0)
    sampler.measure(study, follow=False, options=HERE)
    order = [c for c in sampler._sites[0].shuffled if c != 3]
    assert classes(tiny, featurizer.measured) == [3, *order]


def test_several_activations_each_with_its_features(store: FeatureStore, tiny: Catalogue) -> None:
    inner, outer = Featurizer("inner"), Featurizer("outer")
    sampler = AquaSurfSampler(
        {"inner": TINY, "outer": TINY},
        catalogue=tiny,
        features={"inner": inner, "outer": outer},
        store=store,
        pool="stored",
        seed=0,
    )
    study = optuna.create_study(sampler=sampler)
    sampler.measure(study, 5, options=HERE)
    trial = study.ask()
    # A function outside the candidates, of one of them.
    study.enqueue_trial(TINY.params_of(tiny[tiny.class_of("zero(x)")], "inner"))
    study.tell(trial, state=optuna.trial.TrialState.FAIL)
    sampler.measure(study, 6, options=HERE)
    for featurizer in (inner, outer):
        candidates = [
            c for c in classes(tiny, featurizer.measured)
            if tiny.is_finite[c] and not tiny.is_constant[c]
        ]  # fmt: skip
        assert len(candidates) == len(set(candidates)) == 6
    assert set(inner.measured) != set(outer.measured)
    zero = str(tiny[tiny.class_of("zero(x)")])
    assert (zero in inner.measured, zero in outer.measured) == (True, False)


def test_activations_that_share_a_featurizer_share_features(
    store: FeatureStore, tiny: Catalogue
) -> None:
    featurizer = Featurizer()
    sampler = AquaSurfSampler(
        {"inner": TINY, "outer": TINY},
        catalogue=tiny,
        features=featurizer,
        store=store,
        pool="stored",
        seed=0,
    )
    sampler.measure(optuna.create_study(sampler=sampler), options=HERE)
    assert max(Counter(classes(tiny, featurizer.measured)).values()) == 1


def test_it_stops_when_told_to_and_goes_on_later(store: FeatureStore, tiny: Catalogue) -> None:
    stop = threading.Event()

    def enough(text: str) -> None:
        if len(featurizer.measured) == 4:
            stop.set()
            # Longer than the worker takes to notice.
            time.sleep(1.0)

    featurizer = Featurizer(before=enough)
    sampler = sampler_of(tiny, store, featurizer)
    study = optuna.create_study(sampler=sampler)
    first = sampler.measure(study, stop=stop, options=HERE)
    assert first == len(featurizer.measured) == store.count(featurizer.task)
    assert first < n_candidates(tiny)
    assert store.claims(featurizer.task) == {}
    sampler.measure(study, options=HERE)
    assert max(Counter(featurizer.measured).values()) == 1
    assert store.count(featurizer.task) >= n_candidates(tiny)


@pytest.mark.parametrize("error", [KeyboardInterrupt, UnsupportedModelError])
def test_an_error_ends_it_and_leaves_no_claim(
    store: FeatureStore, tiny: Catalogue, error: type[BaseException]
) -> None:
    def fail(text: str) -> None:
        if len(featurizer.measured) == 3:
            raise error("enough")

    featurizer = Featurizer(before=fail)
    sampler = sampler_of(tiny, store, featurizer)
    with pytest.raises(error, match="enough"):
        sampler.measure(optuna.create_study(sampler=sampler), options=HERE)
    assert store.count(featurizer.task) == 3
    assert store.claims(featurizer.task) == {}


def test_what_others_measure_is_left_to_them(store: FeatureStore, tiny: Catalogue) -> None:
    """Functions of a worker that lives are waited for; those of a dead one are taken."""
    featurizer = Featurizer()
    sampler = sampler_of(tiny, store, featurizer, baselines=())
    study = optuna.create_study(sampler=sampler)
    texts = [str(tiny[class_id]) for class_id in sampler._sites[0].shuffled]
    store.claim(featurizer.task, texts[:2], "elsewhere:1:1:other")
    done = threading.Event()

    def finish(measured: int, of: int) -> None:
        if measured == of - 2 and not done.is_set():
            done.set()
            store.put(featurizer.task, texts[0], featurizer("erf(x)"), owner="elsewhere:1:1:other")

    options = PrecomputeOptions(timeout=None, lease=2.5)
    sampler.measure(study, progress=finish, options=options)
    assert texts[0] not in featurizer.measured
    assert featurizer.measured.count(texts[1]) == 1
    assert store.claims(featurizer.task) == {}


def test_several_at_a_time_in_processes_of_their_own(store: FeatureStore, tiny: Catalogue) -> None:
    featurizer = Featurizer()
    sampler = sampler_of(tiny, store, featurizer)
    n = sampler.measure(optuna.create_study(sampler=sampler), n_jobs=2, options=TWO)
    assert n == store.count(featurizer.task) >= n_candidates(tiny)
    assert featurizer.measured == []


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ({"n": 0}, "n must be 1 function or more, or None for all, but got 0"),
        ({"n_jobs": 0}, "n_jobs must be 1 or more workers"),
        ({"n_jobs": 2}, "give options a timeout or memory"),
    ],
)
def test_bad_arguments(
    store: FeatureStore, tiny: Catalogue, arguments: dict[str, Any], problem: str
) -> None:
    sampler = sampler_of(tiny, store, Featurizer())
    with pytest.raises(SamplerError, match=problem):
        sampler.measure(optuna.create_study(), **{"options": HERE, **arguments})


def test_without_features_or_store(tiny: Catalogue) -> None:
    for features in (None, Featurizer()):
        sampler = AquaSurfSampler(TINY, catalogue=tiny, features=features)
        with pytest.raises(SamplerError, match="no features or no store"):
            sampler.measure(optuna.create_study())
