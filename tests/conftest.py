"""Shared by all tests: one thread for torch, so that timings and sums do not depend on the host."""

from collections.abc import Iterator

import hypothesis
import pytest
import torch

from aquasurf_optuna import operators
from aquasurf_optuna.catalogue import Catalogue
from aquasurf_optuna.expression import program_of
from aquasurf_optuna.features.outputs import function_key
from aquasurf_optuna.space import SearchSpace

torch.set_num_threads(1)
# The same examples everywhere and no limit of time, so that a slow machine changes no verdict.
hypothesis.settings.register_profile("repeatable", derandomize=True, deadline=None)
hypothesis.settings.load_profile("repeatable")


@pytest.fixture(scope="session")
def three_node() -> SearchSpace:
    return SearchSpace.three_node()


@pytest.fixture(scope="session")
def catalogue(three_node: SearchSpace) -> Catalogue:
    return Catalogue.of(three_node)


@pytest.fixture
def forgotten_operators() -> Iterator[None]:
    """Forget what a test registers or changes among the operators, which a user cannot."""
    before = dict(operators._known)
    yield
    operators._known.clear()
    operators._known.update(before)
    program_of.cache_clear()
    function_key.cache_clear()
