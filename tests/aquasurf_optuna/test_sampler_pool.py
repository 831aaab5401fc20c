"""The candidates: what is drawn, measured, placed and ruled out."""

from typing import Any

import numpy as np
import optuna
import pytest
from optuna.samplers import RandomSampler

from aquasurf_optuna.catalogue import Catalogue
from aquasurf_optuna.exceptions import SamplerError
from aquasurf_optuna.sampler import AquaSurfSampler
from aquasurf_optuna.space import SearchSpace
from tests.aquasurf_optuna.sampler_helpers import (
    TINY,
    StubFeaturizer,
    StubSurrogate,
    classes_of,
    optuna_log,
    suggest,
)


def test_constant_and_non_finite_functions_are_not_drawn(
    three_node: SearchSpace, catalogue: Catalogue
) -> None:
    sampler = AquaSurfSampler(three_node, catalogue=catalogue, pool_size=5103, seed=0)
    classes = sampler.embedding().classes.tolist()

    assert not catalogue.is_constant[classes].any()
    assert catalogue.is_finite[classes].all()
    assert len(classes) == (catalogue.is_finite & ~catalogue.is_constant).sum()


def test_an_exhausted_pool_grows(three_node: SearchSpace, catalogue: Catalogue) -> None:
    stub = StubSurrogate()
    sampler = AquaSurfSampler(
        three_node, catalogue=catalogue, surrogate=stub, baselines=(), pool_size=5, seed=0
    )
    study = optuna.create_study(sampler=sampler)
    study.optimize(lambda t: float(three_node.suggest(t, "activation").depth), n_trials=17)

    assert len(set(classes_of(study, three_node, catalogue))) == 17
    # As soon as newcomers outnumber what was laid out, everything is laid out anew.
    assert [rows for rows, _ in stub.diary.embedded] == [5, 15]
    assert stub.diary.extended == [5, 5, 5]


def test_an_exhausted_space_repeats_the_best(tiny: Catalogue) -> None:
    n_classes = int((tiny.is_finite & ~tiny.is_constant).sum())
    study = optuna.create_study(sampler=AquaSurfSampler(TINY, catalogue=tiny, pool_size=4, seed=0))
    with optuna_log() as messages:
        study.optimize(
            lambda t: float(tiny.class_of(TINY.suggest(t, "activation"))), n_trials=n_classes + 5
        )

    ran = classes_of(study, TINY, tiny)
    assert len(set(ran[:n_classes])) == n_classes
    assert set(ran[n_classes:]) == {min(ran)}
    assert len([m for m in messages if "every function of" in m]) == 1


def test_a_space_whose_functions_all_run_goes_on(tiny: Catalogue) -> None:
    study = optuna.create_study(sampler=AquaSurfSampler(TINY, catalogue=tiny, seed=0))
    running = [suggest(study, TINY)[1] for _ in range(40)]

    assert all(expression in TINY for expression in running)


def test_a_space_without_candidates_goes_on() -> None:
    space = SearchSpace("unary(unary(x))", unary=("zero", "one"))
    study = optuna.create_study(sampler=AquaSurfSampler(space, seed=0))
    study.optimize(lambda t: float(space.suggest(t, "activation").depth), n_trials=3)

    assert len(study.trials) == 3


@pytest.mark.parametrize("n_candidates", [1, 2, 3])
def test_fewer_candidates_than_umap_wants(n_candidates: int) -> None:
    space = SearchSpace("unary(x)", unary=("relu", "tanh", "erf")[:n_candidates])
    sampler = AquaSurfSampler(space, features=StubFeaturizer(), baselines=("tanh(x)",), seed=0)
    study = optuna.create_study(sampler=sampler)
    study.optimize(lambda t: len(str(space.suggest(t, "activation"))), n_trials=n_candidates + 1)

    assert len({str(t.params) for t in study.trials}) == n_candidates


# Fisher features


def test_functions_with_an_invalid_spectrum_are_not_proposed(tiny: Catalogue) -> None:
    invalid = ["mul(relu(x),tanh(x))", "mul(tanh(x),tanh(x))"]
    names = [str(tiny[tiny.class_of(text)]) for text in invalid]
    featurizer = StubFeaturizer(names)
    sampler = AquaSurfSampler(TINY, catalogue=tiny, features=featurizer, seed=0)
    study = optuna.create_study(sampler=sampler)
    study.optimize(lambda t: float(len(str(TINY.suggest(t, "activation")))), n_trials=10)

    assert not {tiny.class_of(text) for text in invalid} & set(classes_of(study, TINY, tiny))


def test_a_baseline_with_an_invalid_spectrum_is_tried_all_the_same(tiny: Catalogue) -> None:
    relu = str(tiny[tiny.class_of("relu(x)")])
    sampler = AquaSurfSampler(TINY, catalogue=tiny, features=StubFeaturizer([relu]), seed=0)
    study = optuna.create_study(sampler=sampler)
    study.optimize(lambda t: float(len(str(TINY.suggest(t, "activation")))), n_trials=6)

    ran = classes_of(study, TINY, tiny)
    assert ran[0] == tiny.class_of("relu(x)")
    assert len(set(ran)) == 6
    assert tiny.class_of("relu(x)") not in sampler.embedding().classes


def test_each_function_is_measured_once(tiny: Catalogue) -> None:
    featurizer = StubFeaturizer()
    sampler = AquaSurfSampler(TINY, catalogue=tiny, features=featurizer, pool_size=4, seed=0)
    study = optuna.create_study(sampler=sampler)
    study.optimize(lambda t: float(len(str(TINY.suggest(t, "activation")))), n_trials=2)
    assert featurizer.calls == []  # the baselines need none
    study.optimize(lambda t: float(len(str(TINY.suggest(t, "activation")))), n_trials=8)

    measured = [text for call in featurizer.calls for text in call]
    assert len(featurizer.calls) >= 2
    assert len(measured) == len(set(measured))


def test_the_surrogate_gets_both_features(tiny: Catalogue, stub: StubSurrogate) -> None:
    sampler = AquaSurfSampler(
        TINY,
        catalogue=tiny,
        features=StubFeaturizer(),
        surrogate=StubSurrogate(stub.diary, "both"),
        pool_size=3,
        seed=0,
    )
    sampler.prepare()

    ((rows, width),) = stub.diary.embedded
    assert rows >= 3
    assert width == 3


def test_prepare_computes_features_and_layout(tiny: Catalogue) -> None:
    featurizer = StubFeaturizer()
    sampler = AquaSurfSampler(TINY, catalogue=tiny, features=featurizer, seed=0)
    seen: list[tuple[int, int]] = []
    sampler.prepare(n_jobs=3, progress=lambda done, total: seen.append((done, total)))
    sampler.prepare()

    (call,) = featurizer.calls
    assert featurizer.n_jobs == [3]
    assert seen == [(len(call), len(call))]
    assert {str(e) for e in sampler.embedding().expressions} == set(call)


def test_vectors_of_another_length_are_refused(tiny: Catalogue) -> None:
    class Changing(StubFeaturizer):
        def many(self, expressions: Any, **kwargs: Any) -> Any:
            features = super().many(expressions, **kwargs)
            object.__setattr__(features[-1], "vector", np.zeros(7, dtype=np.float32))
            return features

    sampler = AquaSurfSampler(TINY, catalogue=tiny, features=Changing(), seed=0)
    with pytest.raises(SamplerError, match=r"has shape \(7,\), but others have \(3,\)"):
        sampler.prepare()


def test_preparing_for_a_study_leaves_its_proposals_as_they_were(
    three_node: SearchSpace, catalogue: Catalogue
) -> None:
    def ran(*, prepare: bool) -> tuple[list[int], int]:
        study = optuna.create_study(sampler=RandomSampler(seed=1))
        study.optimize(lambda t: float(len(str(three_node.suggest(t, "activation")))), n_trials=9)
        study.sampler = AquaSurfSampler(three_node, catalogue=catalogue, pool_size=40, seed=0)
        if prepare:
            study.sampler.prepare(study)
        placed = len(study.sampler._search.pool.rows)
        study.optimize(lambda t: float(len(str(three_node.suggest(t, "activation")))), n_trials=12)
        return classes_of(study, three_node, catalogue), placed

    prepared, placed = ran(prepare=True)
    plain, none = ran(prepare=False)
    assert prepared == plain
    assert placed > 40
    assert none == 0
