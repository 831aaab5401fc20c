"""The sampler as a whole: it finds what chance does not, and measures real networks."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import optuna
import pytest
import torch
from optuna.samplers import BaseSampler, RandomSampler
from torch import nn

from aquasurf_optuna.activation import ActivationFactory
from aquasurf_optuna.catalogue import Catalogue
from aquasurf_optuna.features.featurizer import FisherFeaturizer
from aquasurf_optuna.sampler import AquaSurfSampler
from aquasurf_optuna.space import SearchSpace
from aquasurf_optuna.store import FeatureStore
from tests.aquasurf_optuna.sampler_helpers import classes_of


def planted(catalogue: Catalogue, seed: int) -> np.ndarray:
    """Values of all classes that fall with the distance to one function drawn at random."""
    squashed = np.tanh(np.nan_to_num(catalogue.outputs, nan=20.0))
    eligible = np.flatnonzero(catalogue.is_finite & ~catalogue.is_constant)
    best = squashed[np.random.default_rng(seed).choice(eligible)]
    values: np.ndarray = -np.sqrt(((squashed - best) ** 2).mean(axis=1))
    return values


def shares_better(
    make: Callable[[int], BaseSampler], space: SearchSpace, catalogue: Catalogue
) -> list[float]:
    """For each planted optimum, the share of all functions better than the best of 40 trials."""
    shares = []
    for seed in range(12):
        values = planted(catalogue, seed)

        def objective(trial: optuna.Trial, values: np.ndarray = values) -> float:
            return float(values[catalogue.class_of(space.suggest(trial, "activation"))])

        study = optuna.create_study(direction="maximize", sampler=make(seed))
        study.optimize(objective, n_trials=40)
        shares.append(float(np.mean(values > study.best_value)))
    return shares


def test_a_planted_optimum_is_approached_faster_than_by_chance(
    three_node: SearchSpace, catalogue: Catalogue
) -> None:
    def ours(seed: int) -> BaseSampler:
        return AquaSurfSampler(three_node, catalogue=catalogue, pool_size=300, seed=seed)

    found = shares_better(ours, three_node, catalogue)
    by_chance = shares_better(lambda seed: RandomSampler(seed=seed), three_node, catalogue)
    assert np.median(found) < 0.5 * np.median(by_chance)
    assert np.mean(np.less(found, by_chance)) > 0.5


def small_network(activation: ActivationFactory) -> nn.Module:
    return nn.Sequential(
        nn.Linear(6, 10), activation(), nn.Linear(10, 8), activation(), nn.Linear(8, 3)
    )


@pytest.fixture
def featurizer() -> FisherFeaturizer:
    inputs = torch.randn(16, 6, generator=torch.Generator().manual_seed(0))
    return FisherFeaturizer(small_network, inputs, seed=0)


def test_real_features_from_the_store(
    three_node: SearchSpace, catalogue: Catalogue, featurizer: FisherFeaturizer, tmp_path: Path
) -> None:
    url = f"sqlite:///{tmp_path / 'features.db'}"

    def ran(sampler: AquaSurfSampler) -> list[int]:
        study = optuna.create_study(direction="maximize", sampler=sampler)
        values = planted(catalogue, 0)
        study.optimize(
            lambda t: float(values[catalogue.class_of(three_node.suggest(t, "activation"))]),
            n_trials=20,
        )
        return classes_of(study, three_node, catalogue)

    def make(store: str | FeatureStore | None) -> AquaSurfSampler:
        return AquaSurfSampler(
            three_node,
            features=featurizer,
            store=store,
            catalogue=catalogue,
            pool_size=40,
            seed=0,
        )

    first = ran(make(url))
    store = FeatureStore(url)
    assert 40 <= store.count(featurizer.task) <= 48
    # Computed, read by URL and read from an open store: the same proposals.
    assert first == ran(make(url))
    assert first == ran(make(store))
    assert first == ran(make(None))
    invalid = {text for text, feature in store.load(featurizer.task).items() if not feature.valid}
    proposed = {str(catalogue[class_id]) for class_id in first[8:]}
    assert not invalid & proposed
