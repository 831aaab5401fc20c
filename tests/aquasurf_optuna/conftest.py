"""What several tests of the sampler share."""

import pytest

from aquasurf_optuna.catalogue import Catalogue
from aquasurf_optuna.sampler import AquaSurfSampler
from aquasurf_optuna.space import SearchSpace
from tests.aquasurf_optuna.sampler_helpers import TINY, StubSurrogate


@pytest.fixture(scope="session")
def tiny() -> Catalogue:
    return Catalogue.of(TINY)


@pytest.fixture
def stub() -> StubSurrogate:
    return StubSurrogate()


@pytest.fixture
def sampler(three_node: SearchSpace, catalogue: Catalogue, stub: StubSurrogate) -> AquaSurfSampler:
    return AquaSurfSampler(
        three_node, catalogue=catalogue, surrogate=stub, baselines=(), pool_size=40, seed=0
    )
