"""A pool that a store holds: read while others fill it, and what happens while it holds nothing."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import optuna
import pytest
import sqlalchemy as sa

from aquasurf_optuna._drawing import StoredDrawing
from aquasurf_optuna._fisher_source import FisherSource
from aquasurf_optuna._site import Site
from aquasurf_optuna.catalogue import Catalogue
from aquasurf_optuna.features.featurizer import FisherFeature
from aquasurf_optuna.sampler import AquaSurfSampler
from aquasurf_optuna.store import FeatureStore, FeatureStoreWarning
from tests.aquasurf_optuna.sampler_helpers import (
    TINY,
    StubFeaturizer,
    StubSurrogate,
    classes_of,
    optuna_log,
    suggest,
)

TASK = StubFeaturizer.task


@pytest.fixture
def store(tmp_path: Path) -> FeatureStore:
    return FeatureStore(f"sqlite:///{tmp_path / 'features.db'}")


def put(store: FeatureStore, *texts: str, reason: str | None = None) -> None:
    for text in texts:
        vector = None if reason else np.array([len(text), 1, 2], dtype=np.float32)
        store.put(TASK, text, FisherFeature(vector, reason))


def drawing_of(store: FeatureStore, catalogue: Catalogue, seed: int = 0) -> StoredDrawing:
    source = FisherSource(StubFeaturizer(), store, measures=False)  # type: ignore[arg-type]  # a stub
    site = Site(
        "activation",
        catalogue.space,
        catalogues={catalogue.space: catalogue},
        source=source,
        baselines=(),
        seed=seed,
    )
    return StoredDrawing(site)


def sampler_of(store: FeatureStore, catalogue: Catalogue, **options: object) -> AquaSurfSampler:
    settings = {"baselines": (), "seed": 0, **options}
    return AquaSurfSampler(
        catalogue.space,
        catalogue=catalogue,
        features=StubFeaturizer(),
        store=store,
        pool="stored",
        **settings,
    )


def classes(catalogue: Catalogue, texts: Sequence[str]) -> set[int]:
    return {catalogue.class_of(text) for text in texts}


def test_functions_with_valid_features_are_candidates(
    store: FeatureStore, catalogue: Catalogue
) -> None:
    """Not so are invalid and constant ones, and those of another space or task."""
    put(store, "tanh(x)", "max(x,zero(x))", "sum_n(erf(x),erf(x),x,abs(cosh(x)))", "one(x)")
    put(store, "cosh(x)", reason="explodes")
    store.put("another", "elu(x)", FisherFeature(np.zeros(3, np.float32), None))

    drawing = drawing_of(store, catalogue)
    # relu, by whatever graph it was measured.
    assert set(drawing.functions({})) == classes(catalogue, ["tanh(x)", "relu(x)"])
    assert not drawing.grow()


def test_news_join_at_the_end(store: FeatureStore, catalogue: Catalogue) -> None:
    drawing = drawing_of(store, catalogue)
    assert drawing.functions({}) == ()
    put(store, "tanh(x)", "erf(x)")
    assert drawing.grow()
    first = drawing.functions({})
    put(store, "swish(x)")
    put(store, "cosh(x)", reason="explodes")
    assert drawing.grow()
    assert drawing.functions({}) == (*first, catalogue.class_of("swish(x)"))
    assert not drawing.grow()


def test_a_call_reads_some_of_the_news_and_looks_now_and_then(
    store: FeatureStore, catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aquasurf_optuna._drawing._MOST_READ_AT_ONCE", 2)
    monkeypatch.setattr("aquasurf_optuna._drawing._SHARE_OF_LOOKING", 1e9)
    reads: list[int] = []
    read = store.features
    monkeypatch.setattr(
        store, "features", lambda task, keys: reads.append(len(keys)) or read(task, keys)
    )
    drawing = drawing_of(store, catalogue)
    put(store, "tanh(x)", "erf(x)", "swish(x)")
    # A pool that has none yet takes all there are.
    assert len(drawing.functions({})) == 3
    put(store, "relu(x)", "elu(x)", "gelu(x)", "selu(x)", "softplus(x)", "arctan(x)")
    sizes = [len(drawing.functions({})) for _ in range(5)]
    # gelu is not of this space.
    assert sizes == [5, 7, 8, 8, 8]
    assert reads == [3, 2, 2, 1]
    # Looking took a while: for a time as much longer nobody looks again.
    monkeypatch.setattr("aquasurf_optuna._drawing._SHARE_OF_LOOKING", 1e-9)
    drawing.functions({})
    put(store, "cosh(x)")
    assert len(drawing.functions({})) == 8
    # Unless in another process, or where nothing is left to try.
    assert len(pickle.loads(pickle.dumps(drawing)).functions({})) == 9
    assert drawing.grow()


def test_sites_with_one_store_have_orders_of_their_own(
    store: FeatureStore, catalogue: Catalogue
) -> None:
    put(store, *(f"add(x,{name}(x))" for name in ("tanh", "erf", "swish", "elu", "cosh", "relu")))
    first, second, again = (drawing_of(store, catalogue, seed).functions({}) for seed in (0, 1, 0))
    assert set(first) == set(second)
    assert first != second
    assert first == again


def test_a_damaged_row_is_no_candidate(store: FeatureStore, catalogue: Catalogue) -> None:
    put(store, "tanh(x)", "erf(x)")
    with sa.create_engine(store.url).begin() as connection:
        connection.execute(
            sa.text("UPDATE aquasurf_features SET seconds = 3 WHERE expression = 'erf(x)'")
        )
    drawing = drawing_of(store, catalogue)
    with pytest.warns(FeatureStoreWarning, match="checksum is wrong"):
        assert set(drawing.functions({})) == classes(catalogue, ["tanh(x)"])


def test_a_search_goes_on_with_what_joins(store: FeatureStore, tiny: Catalogue) -> None:
    """Tried are the functions of the store, then those that came meanwhile."""
    put(store, "tanh(x)", "relu(x)", "mul(tanh(x),tanh(x))", "mul(x,x)")
    sampler = sampler_of(store, tiny)
    study = optuna.create_study(sampler=sampler)
    study.optimize(lambda t: float(TINY.suggest(t, "activation").depth), n_trials=4)
    put(store, "mul(relu(x),tanh(x))", "add(relu(x),x)")
    study.optimize(lambda t: float(TINY.suggest(t, "activation").depth), n_trials=2)

    ran = classes_of(study, TINY, tiny)
    known = ["tanh(x)", "relu(x)", "mul(tanh(x),tanh(x))", "mul(x,x)"]
    assert set(ran[:4]) == classes(tiny, known)
    assert set(ran[4:]) == classes(tiny, ["mul(relu(x),tanh(x))", "add(relu(x),x)"])
    reasons = [sampler.explain(trial).reason for trial in study.trials]  # type: ignore[union-attr]  # its own trials
    assert reasons == ["first", *["predicted"] * 5]


def test_without_stored_features_functions_are_drawn_at_random(
    store: FeatureStore, tiny: Catalogue
) -> None:
    """A proposal waits for no feature, and says once in the log what it does."""
    put(store, "mul(x,x)")
    put(store, "tanh(x)", "add(relu(x),x)", reason="no spectrum")
    study = optuna.create_study(sampler=sampler_of(store, tiny, baselines=("relu(x)",)))
    with optuna_log() as messages:
        trials = [suggest(study, TINY)[0] for _ in range(8)]
    ran = classes_of(study, TINY, tiny)
    assert ran[:2] == [tiny.class_of("relu(x)"), tiny.class_of("mul(x,x)")]
    assert len(set(ran)) == 8
    assert not set(ran) & classes(tiny, ["tanh(x)", "add(relu(x),x)"])
    assert not tiny.is_constant[ran].any()
    told = [study.sampler.explain(trial) for trial in trials]  # type: ignore[attr-defined]  # ours
    assert [each.reason for each in told] == ["baseline", "first", *["unmeasured"] * 6]
    assert len([m for m in messages if "with valid Fisher features in the store" in m]) == 1

    # What is measured meanwhile goes first, and what was tried unmeasured helps to rank it.
    for number, trial in enumerate(trials):
        study.tell(trial, float(number))
    put(store, *(str(tiny[class_id]) for class_id in ran), "mul(relu(x),tanh(x))")
    trial, function = suggest(study, TINY)
    assert str(function) == str(tiny[tiny.class_of("mul(relu(x),tanh(x))")])
    explanation = study.sampler.explain(trial)  # type: ignore[attr-defined]  # ours
    assert (explanation.reason, explanation.n_observed) == ("predicted", 8)


def test_when_all_is_measured_and_tried_the_best_comes_again(
    store: FeatureStore, tiny: Catalogue
) -> None:
    invalid = ["mul(x,x)", "mul(relu(x),tanh(x))"]
    put(store, *invalid, reason="no spectrum")
    n_left = int((tiny.is_finite & ~tiny.is_constant).sum()) - len(invalid)
    study = optuna.create_study(sampler=sampler_of(store, tiny))
    study.optimize(
        lambda t: float(tiny.class_of(TINY.suggest(t, "activation"))), n_trials=n_left + 2
    )
    ran = classes_of(study, TINY, tiny)
    assert len(set(ran[:n_left])) == n_left
    assert set(ran[n_left:]) == {min(ran)}


def test_several_activations_without_stored_features(store: FeatureStore, tiny: Catalogue) -> None:
    sampler = AquaSurfSampler(
        {"inner": TINY, "outer": TINY},
        catalogue=tiny,
        features=StubFeaturizer(),
        store=store,
        pool="stored",
        baselines=("relu(x)",),
        seed=0,
    )
    put(store, "mul(x,x)", reason="no spectrum")
    study = optuna.create_study(sampler=sampler)
    pairs = []
    for _ in range(6):
        trial = study.ask()
        pairs.append([tiny.class_of(TINY.suggest(trial, name)) for name in ("inner", "outer")])
    assert len(set(map(tuple, pairs))) == 6
    assert pairs[0] == [tiny.class_of("relu(x)")] * 2
    assert any(first != second for first, second in pairs[1:])
    assert tiny.class_of("mul(x,x)") not in np.array(pairs)


def test_functions_without_features_do_not_make_each_proposal_copy_the_pool(
    store: FeatureStore, tiny: Catalogue, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may hold some hundred megabytes."""
    put(store, "mul(x,x)", "mul(relu(x),tanh(x))", "add(relu(x),x)")
    put(store, "tanh(x)", reason="no spectrum")
    sampler = sampler_of(store, tiny, baselines=("relu(x)", "tanh(x)"))
    study = optuna.create_study(sampler=sampler)
    monkeypatch.setattr("aquasurf_optuna._candidates.CandidatePool.copy", None)
    study.optimize(lambda t: float(len(str(TINY.suggest(t, "activation")))), n_trials=5)
    told = [sampler.explain(trial) for trial in study.trials[-2:]]
    assert [(each.reason, each.n_observed) for each in told if each] == [
        ("predicted", 1),
        ("predicted", 2),
    ]


def test_a_pool_that_grows_is_placed_anew_while_it_is_small(
    store: FeatureStore, catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aquasurf_optuna._candidates._FEW", 8)
    stub = StubSurrogate(features="both")
    sampler = sampler_of(store, catalogue, surrogate=stub)
    drawing = sampler._search.combinations._drawings[0]
    texts = [str(catalogue[class_id]) for class_id in sampler._sites[0].shuffled[:40]]
    for start, end in ((0, 2), (2, 3), (3, 7), (7, 40)):
        put(store, *texts[start:end])
        drawing.grow()
        sampler.prepare()
    assert [rows for rows, _ in stub.diary.embedded] == [2, 7]
    assert stub.diary.extended == [1, 4, 33]
