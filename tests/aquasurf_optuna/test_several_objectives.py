"""Studies with several objectives: one order for them, and better fronts than by chance."""

import numpy as np
import optuna
import pytest
from optuna.samplers import BaseSampler, NSGAIISampler, RandomSampler, TPESampler
from optuna.trial import TrialState

from aquasurf_optuna._objectives import drawn_weights, mean_ranks, scalarized
from aquasurf_optuna.catalogue import Catalogue
from aquasurf_optuna.sampler import AquaSurfSampler
from aquasurf_optuna.simplify import simplify
from aquasurf_optuna.space import SearchSpace
from tests.aquasurf_optuna.sampler_helpers import classes_of, suggest, values_near
from tests.oracles.front_oracle import dominated_area, front_of

DIRECTIONS = ("maximize", "minimize")
# The values of both objectives are between 0 and 2.
REFERENCE = (-2.0, 2.0)


@pytest.fixture(scope="module")
def values(catalogue: Catalogue) -> np.ndarray:
    """Two values for each class, `(n, 2)`: near to one function, and near to quite another."""
    first = values_near("mul(hard_sigmoid(x),elu(x))", catalogue)
    second = values_near("min(tanh(x),abs(x))", catalogue)
    return np.column_stack([first, -second])


class Two:
    """A study of the two objectives."""

    def __init__(
        self, space: SearchSpace, catalogue: Catalogue, values: np.ndarray, sampler: BaseSampler
    ) -> None:
        self.space, self.catalogue, self.values = space, catalogue, values
        self.study = optuna.create_study(directions=list(DIRECTIONS), sampler=sampler)

    def objective(self, trial: optuna.Trial) -> tuple[float, float]:
        class_id = self.catalogue.class_of(self.space.suggest(trial, "activation"))
        first, second = self.values[class_id].tolist()
        return first, second

    def area(self) -> float:
        done = self.study.get_trials(states=[TrialState.COMPLETE])
        return dominated_area([trial.values for trial in done], REFERENCE, DIRECTIONS)


def sampler_of(space: SearchSpace, catalogue: Catalogue, **options: object) -> AquaSurfSampler:
    settings = {"pool_size": 200, "baselines": (), "seed": 0, **options}
    return AquaSurfSampler(space, catalogue=catalogue, **settings)  # type: ignore[arg-type]  # any of its options


@pytest.fixture
def two(three_node: SearchSpace, catalogue: Catalogue, values: np.ndarray) -> Two:
    return Two(three_node, catalogue, values, sampler_of(three_node, catalogue))


# The rule


def test_the_rule_by_hand() -> None:
    acquired = np.array([[10.0, 0.0], [8.0, 3.0], [0.0, 4.0]])
    # Shortfalls from the best, from 0 to 1: (0, 1), (0.2, 0.25), (1, 0).
    score = scalarized(acquired, np.array([0.5, 0.5]))
    expected = [-(0.5 + 0.005), -(0.125 + 0.01 * 0.225), -(0.5 + 0.005)]
    np.testing.assert_allclose(score, expected)
    np.testing.assert_array_equal(scalarized(acquired[:, :1], np.ones(1)), acquired[:, 0])


def test_a_constant_objective_does_not_count() -> None:
    acquired = np.array([[1.0, 5.0], [3.0, 5.0], [2.0, 5.0]])
    assert np.argsort(-scalarized(acquired, np.array([0.3, 0.7]))).tolist() == [1, 2, 0]


def test_every_point_of_a_dented_front_is_best_for_some_weights() -> None:
    # A front that bends inwards: of a weighted mean only the two ends would ever be the best.
    first = np.linspace(0.0, 1.0, 11)
    acquired = np.column_stack([first, (1.0 - first) * (1.0 - 0.8 * first)])
    rng = np.random.default_rng(0)
    best = {int(np.argmax(scalarized(acquired, drawn_weights(2, rng)))) for _ in range(3000)}
    ends = {int(np.argmax(acquired @ drawn_weights(2, rng))) for _ in range(3000)}
    assert best == set(range(11))
    assert ends == {0, 10}


def test_what_is_dominated_is_never_best() -> None:
    rng = np.random.default_rng(1)
    acquired = rng.normal(size=(60, 3))
    front = front_of(acquired.tolist(), ("maximize",) * 3)
    best = {int(np.argmax(scalarized(acquired, drawn_weights(3, rng)))) for _ in range(500)}
    assert best <= front


def test_weights_are_drawn_evenly_from_the_simplex() -> None:
    rng = np.random.default_rng(2)
    drawn = np.array([drawn_weights(3, rng) for _ in range(4000)])
    np.testing.assert_allclose(drawn.sum(axis=1), 1.0)
    np.testing.assert_allclose(drawn.mean(axis=0), 1 / 3, atol=0.02)
    # On the even simplex the share with a weight above t is (1 - t) squared.
    np.testing.assert_allclose(np.mean(drawn > 0.5, axis=0), 0.25, atol=0.03)
    np.testing.assert_array_equal(drawn_weights(1, rng), [1.0])


def test_ranks_over_objectives() -> None:
    values = np.array([[1.0, 9.0], [2.0, 8.0], [-np.inf, -np.inf]])
    np.testing.assert_allclose(mean_ranks(values), [(1 / 3 + 2 / 3) / 2] * 2 + [0.0])


# Studies


def test_the_front_dominates_more_than_by_chance(
    three_node: SearchSpace, catalogue: Catalogue, values: np.ndarray
) -> None:
    def area(sampler: BaseSampler) -> float:
        two = Two(three_node, catalogue, values, sampler)
        two.study.optimize(two.objective, n_trials=30)
        return two.area()

    seeds = range(8)
    ours = [area(sampler_of(three_node, catalogue, seed=seed)) for seed in seeds]
    chance = [area(RandomSampler(seed=seed)) for seed in seeds]
    assert np.mean(ours) > np.mean(chance)
    assert sum(a > b for a, b in zip(ours, chance, strict=True)) >= 6


def test_the_front_comes_out_as_functions(two: Two) -> None:
    two.study.optimize(two.objective, n_trials=20)
    sampler = two.study.sampler
    assert isinstance(sampler, AquaSurfSampler)
    front = sampler.front(two.study)

    done = [trial.values for trial in two.study.trials]
    assert {member.number for member in front} == front_of(done, DIRECTIONS)
    assert [m.values[0] for m in front] == sorted((m.values[0] for m in front), reverse=True)
    for member in front:
        trial = two.study.trials[member.number]
        ran = two.space.expression_of(trial.params, "activation")
        (function,) = member.functions.values()
        assert function == simplify(two.catalogue[two.catalogue.class_of(ran)])
        assert member.values == tuple(trial.values)


def test_every_trial_has_weights_of_its_own(two: Two) -> None:
    two.study.optimize(two.objective, n_trials=12)
    sampler = two.study.sampler
    assert isinstance(sampler, AquaSurfSampler)
    told = [sampler.explain(trial) for trial in two.study.trials]
    weights = [each.weights for each in told if each is not None and each.weights]

    assert len(weights) >= 10
    assert len(set(weights)) == len(weights)
    assert all(sum(each) == pytest.approx(1.0, abs=1e-3) for each in weights)
    predicted = [each.predicted for each in told if each is not None and each.weights]
    assert all(len(each) == 2 for each in predicted)
    # In the study's directions: the first objective is below 0 here, the second above.
    assert np.mean([first for first, _ in predicted]) < 0 < np.mean([s for _, s in predicted])


def test_the_same_seed_gives_the_same_study(
    three_node: SearchSpace, catalogue: Catalogue, values: np.ndarray
) -> None:
    def ran(seed: int) -> list[int]:
        sampler = sampler_of(three_node, catalogue, seed=seed, pool_size=60)
        two = Two(three_node, catalogue, values, sampler)
        two.study.optimize(two.objective, n_trials=12)
        return classes_of(two.study, three_node, catalogue)

    assert ran(0) == ran(0)
    assert ran(0) != ran(1)


@pytest.mark.parametrize("base", [NSGAIISampler(seed=0, population_size=5), TPESampler(seed=0)])
def test_the_other_parameters_go_to_a_sampler_of_several_objectives(
    three_node: SearchSpace, catalogue: Catalogue, values: np.ndarray, base: BaseSampler
) -> None:
    sampler = sampler_of(three_node, catalogue, base_sampler=base, pool_size=60)
    two = Two(three_node, catalogue, values, sampler)

    def objective(trial: optuna.Trial) -> tuple[float, float]:
        first, second = two.objective(trial)
        # Two numbers: of a single one NSGA-II mutates all.
        distance = abs(trial.suggest_float("lr", 0.0, 1.0) - 0.4)
        distance += 0.1 * trial.suggest_float("decay", 0.0, 1.0)
        return first - distance, second + distance

    two.study.optimize(objective, n_trials=40)
    assert len(set(classes_of(two.study, three_node, catalogue))) == 40
    distances = [abs(trial.params["lr"] - 0.4) for trial in two.study.trials]
    if isinstance(base, TPESampler):
        assert np.mean(distances[25:]) < np.mean(distances[:10])
    else:
        # Children of a later generation take rates over from their parents.
        rates = [trial.params["lr"] for trial in two.study.trials]
        assert len(set(rates)) < len(rates)


def test_a_study_of_failures_and_prunings_goes_on(two: Two) -> None:
    def objective(trial: optuna.Trial) -> tuple[float, float]:
        result = two.objective(trial)
        if trial.number % 4 == 0:
            raise optuna.TrialPruned
        if trial.number % 4 == 1:
            raise ValueError("it exploded")
        if trial.number % 4 == 2:
            return float("nan"), 1.0
        return (float("inf"), 0.0) if trial.number == 3 else result

    two.study.optimize(objective, n_trials=16, catch=(ValueError,))
    assert len(set(classes_of(two.study, two.space, two.catalogue))) == 16


def test_what_fails_is_shunned_in_both_objectives(two: Two) -> None:
    mean = np.clip(two.catalogue.outputs, -20, 20).mean(axis=1)

    def objective(trial: optuna.Trial) -> tuple[float, float]:
        first, second = two.objective(trial)
        if mean[two.catalogue.class_of(two.space.suggest(trial, "activation"))] > 0:
            raise ValueError("it exploded")
        return first, second

    two.study.optimize(objective, n_trials=50, catch=(ValueError,))
    failed = [trial.state == TrialState.FAIL for trial in two.study.trials]
    eligible = mean[two.catalogue.is_finite & ~two.catalogue.is_constant]
    by_chance = np.mean(eligible > 0)
    assert by_chance > 0.4
    assert np.mean(failed[20:]) < 0.75 * by_chance


def test_a_study_begun_with_nsgaii_goes_on(
    three_node: SearchSpace, catalogue: Catalogue, values: np.ndarray
) -> None:
    two = Two(three_node, catalogue, values, NSGAIISampler(seed=0, population_size=8))
    two.study.optimize(two.objective, n_trials=16)
    before = set(classes_of(two.study, three_node, catalogue))
    two.study.sampler = sampler_of(three_node, catalogue, pool_size=60)
    two.study.optimize(two.objective, n_trials=8)

    after = classes_of(two.study, three_node, catalogue)[16:]
    assert len(set(after)) == 8
    assert not set(after) & before


def test_running_trials_are_left_alone(two: Two) -> None:
    running = [suggest(two.study, two.space)[1] for _ in range(8)]
    assert len({two.catalogue.class_of(each) for each in running}) == 8
