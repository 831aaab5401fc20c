"""The tests that Optuna asks every sampler to pass, and the same in their spirit."""

import copy
import pickle
from collections.abc import Callable
from typing import Any

import optuna
import pytest
from optuna.samplers import BaseSampler, TPESampler
from optuna.testing.pytest_samplers import (
    BasicSamplerTestCase,
    MultiObjectiveSamplerTestCase,
    RelativeSamplerTestCase,
)

from aquasurf_optuna.catalogue import Catalogue
from aquasurf_optuna.sampler import AquaSurfSampler
from aquasurf_optuna.space import SearchSpace

Make = Callable[[int | None], AquaSurfSampler]


@pytest.fixture
def make(three_node: SearchSpace, catalogue: Catalogue) -> Make:
    return lambda seed: AquaSurfSampler(three_node, catalogue=catalogue, pool_size=60, seed=seed)


class TestContract(BasicSamplerTestCase, RelativeSamplerTestCase, MultiObjectiveSamplerTestCase):
    @pytest.fixture
    def sampler(
        self, three_node: SearchSpace, catalogue: Catalogue
    ) -> Callable[[], AquaSurfSampler]:
        # Relative parameters are the base sampler's business: one that samples them at once.
        return lambda: AquaSurfSampler(
            three_node,
            catalogue=catalogue,
            pool_size=60,
            base_sampler=TPESampler(n_startup_trials=0, multivariate=True),
        )


def proposals(
    sampler: BaseSampler, space: SearchSpace, n_trials: int, *, n_jobs: int = 1
) -> list[dict[str, Any]]:
    """Parameters of a study whose values depend on them."""

    def objective(trial: optuna.Trial) -> float:
        expression = space.suggest(trial, "activation")
        return len(str(expression)) + trial.suggest_float("lr", 0.0, 1.0)

    study = optuna.create_study(sampler=sampler)
    study.optimize(objective, n_trials=n_trials, n_jobs=n_jobs)
    return [trial.params for trial in study.trials]


def test_the_same_seed_gives_the_same_study(make: Make, three_node: SearchSpace) -> None:
    first = proposals(make(0), three_node, 20)

    assert first == proposals(make(0), three_node, 20)
    other = proposals(make(1), three_node, 20)
    assert [p["lr"] for p in first] != [p["lr"] for p in other]
    # The baselines come first in both; what follows them is drawn.
    assert [p["activation.0"] for p in first[:8]] == [p["activation.0"] for p in other[:8]]
    assert {p["activation.1"] for p in first[8:]} != {p["activation.1"] for p in other[8:]}


def test_no_seed_means_chance(make: Make, three_node: SearchSpace) -> None:
    assert proposals(make(None), three_node, 12) != proposals(make(None), three_node, 12)


def test_reseeding_changes_what_follows(make: Make) -> None:
    first, second = make(0), make(0)
    second.reseed_rng()

    assert first._rng.bit_generator.state != second._rng.bit_generator.state
    base, reseeded = first._base_sampler, second._base_sampler
    assert isinstance(base, TPESampler)
    assert isinstance(reseeded, TPESampler)
    assert base._rng.rng.random() != reseeded._rng.rng.random()


@pytest.mark.parametrize(
    "clone", [copy.deepcopy, lambda s: pickle.loads(pickle.dumps(s))], ids=["deepcopy", "pickle"]
)
@pytest.mark.parametrize("n_before", [0, 12])
def test_a_copy_goes_on_as_the_original(
    make: Make, three_node: SearchSpace, clone: Callable[[Any], Any], n_before: int
) -> None:
    sampler = make(0)
    proposals(sampler, three_node, n_before)
    other = clone(sampler)

    assert proposals(other, three_node, 12) == proposals(sampler, three_node, 12)


def test_nothing_is_printed(
    make: Make, three_node: SearchSpace, capsys: pytest.CaptureFixture[str]
) -> None:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        proposals(make(0), three_node, 12)
    finally:
        optuna.logging.set_verbosity(optuna.logging.INFO)

    assert capsys.readouterr() == ("", "")


def test_threads_share_one_sampler(make: Make, three_node: SearchSpace) -> None:
    sampler = make(0)
    ran = proposals(sampler, three_node, 40, n_jobs=4)

    catalogue = sampler.catalogue()
    classes = [catalogue.class_of(three_node.expression_of(p, "activation")) for p in ran]
    assert len(set(classes)) == 40
