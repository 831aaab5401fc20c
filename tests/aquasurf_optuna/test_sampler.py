"""The sampler: in what order functions are tried, and what counts as tried."""

from typing import Any

import numpy as np
import optuna
import pytest
from optuna.samplers import PartialFixedSampler, RandomSampler, TPESampler
from optuna.trial import TrialState

from aquasurf_optuna.catalogue import Catalogue
from aquasurf_optuna.exceptions import SamplerError
from aquasurf_optuna.expression import BASELINES, Expression
from aquasurf_optuna.sampler import AquaSurfSampler
from aquasurf_optuna.space import SearchSpace
from aquasurf_optuna.surrogate import UmapKnnSurrogate
from tests.aquasurf_optuna.sampler_helpers import (
    StubFeaturizer,
    StubSurrogate,
    classes_of,
    optuna_log,
    suggest,
)

TINY = SearchSpace(
    "binary(unary(x),unary(x))", unary=("relu", "tanh", "identity", "zero"), binary=("add", "mul")
)


@pytest.fixture(scope="module")
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


def best_of(sampler: AquaSurfSampler, tried: set[int]) -> int:
    """The class that the stub likes best, of those in the pool that are not tried."""
    classes = [int(c) for c in sampler.embedding().classes if int(c) not in tried]
    outputs = sampler.catalogue().outputs[classes]
    return classes[int(np.argmax(outputs.mean(axis=1)))]


def tell(study: optuna.Study, params: dict[str, Any], space: SearchSpace, **kwargs: Any) -> None:
    """Add a finished trial, as if another sampler had made it."""
    distributions = space.distributions("activation")
    study.add_trial(optuna.create_trial(params=params, distributions=distributions, **kwargs))


# Order


def test_baselines_come_first_and_in_order(three_node: SearchSpace, catalogue: Catalogue) -> None:
    study = optuna.create_study(sampler=AquaSurfSampler(three_node, catalogue=catalogue, seed=0))
    study.optimize(lambda t: len(str(three_node.suggest(t, "activation"))), n_trials=8)

    assert classes_of(study, three_node, catalogue) == [catalogue.class_of(b) for b in BASELINES]


def test_baselines_are_the_users_choice(three_node: SearchSpace, catalogue: Catalogue) -> None:
    sampler = AquaSurfSampler(
        three_node, catalogue=catalogue, baselines=("cosh(elu(x))", "max(erf(x),sinh(x))", "erf(x)")
    )
    with optuna_log() as messages:
        study = optuna.create_study(sampler=sampler)
        study.optimize(lambda t: len(str(three_node.suggest(t, "activation"))), n_trials=2)

    expected = [catalogue.class_of(text) for text in ("max(erf(x),sinh(x))", "erf(x)")]
    assert classes_of(study, three_node, catalogue) == expected
    assert [m for m in messages if "has no cosh(elu(x)); it is left out" in m]


def test_a_baseline_tried_before_is_not_tried_again(tiny: Catalogue) -> None:
    study = optuna.create_study(sampler=AquaSurfSampler(TINY, catalogue=tiny, seed=0))
    # An equal function by another graph.
    tell(study, TINY.params_of("add(zero(x),relu(x))", "activation"), TINY, value=1.0)

    _, expression = suggest(study, TINY)
    assert tiny.class_of(expression) == tiny.class_of("tanh(x)")


def test_then_comes_the_best_predicted_candidate(
    sampler: AquaSurfSampler, three_node: SearchSpace, catalogue: Catalogue
) -> None:
    study = optuna.create_study(direction="maximize", sampler=sampler)
    study.optimize(lambda t: float(three_node.suggest(t, "activation").depth), n_trials=12)

    ran = classes_of(study, three_node, catalogue)
    for n in range(1, 12):
        assert ran[n] == best_of(sampler, set(ran[:n]))


def test_the_first_candidate_needs_no_observation(
    sampler: AquaSurfSampler, stub: StubSurrogate, three_node: SearchSpace
) -> None:
    suggest(optuna.create_study(sampler=sampler), three_node)

    assert stub.diary.embedded == []


@pytest.mark.parametrize(("direction", "sign"), [("maximize", 1.0), ("minimize", -1.0)])
def test_the_surrogate_hears_that_higher_is_better(
    sampler: AquaSurfSampler,
    stub: StubSurrogate,
    three_node: SearchSpace,
    catalogue: Catalogue,
    direction: str,
    sign: float,
) -> None:
    study = optuna.create_study(direction=direction, sampler=sampler)
    values = [3.0, -1.0, 0.5, 7.0]
    for value in values:
        trial, _ = suggest(study, three_node)
        study.tell(trial, value)
    suggest(study, three_node)

    ran = classes_of(study, three_node, catalogue)
    expected = dict(zip(ran[:4], (sign * value for value in values), strict=True))
    assert stub.diary.observed_classes(catalogue) == expected


def test_a_function_tried_twice_counts_with_its_mean(
    sampler: AquaSurfSampler, stub: StubSurrogate, three_node: SearchSpace, catalogue: Catalogue
) -> None:
    study = optuna.create_study(direction="maximize", sampler=sampler)
    for text, value in [("add(erf(x),zero(x))", 1.0), ("add(zero(x),erf(x))", 2.0)]:
        tell(study, three_node.params_of(text, "activation"), three_node, value=value)
    suggest(study, three_node)

    assert stub.diary.observed_classes(catalogue) == {catalogue.class_of("erf(x)"): 1.5}


# Failures


FAILURES: dict[str, dict[str, Any]] = {
    "failed": {"state": TrialState.FAIL},
    "pruned": {"state": TrialState.PRUNED},
    "pruned with a value": {"state": TrialState.PRUNED, "value": 99.0},
    "infinite": {"value": float("inf")},
    "minus infinite": {"value": float("-inf")},
}


@pytest.mark.parametrize("failure", FAILURES.values(), ids=FAILURES)
@pytest.mark.parametrize(
    ("direction", "values", "expected"),
    [("maximize", [2.0, 5.0], 2.0), ("minimize", [2.0, 5.0], -5.0), ("maximize", [2.0], 1.0)],
)
def test_failures_count_as_the_worst_value(
    sampler: AquaSurfSampler,
    stub: StubSurrogate,
    three_node: SearchSpace,
    catalogue: Catalogue,
    failure: dict[str, Any],
    direction: str,
    values: list[float],
    expected: float,
) -> None:
    study = optuna.create_study(direction=direction, sampler=sampler)
    texts = ("add(erf(x),zero(x))", "add(tanh(x),tanh(x))", "mul(identity(x),relu(x))")
    for text, result in zip(texts, [failure, *({"value": v} for v in values)], strict=False):
        tell(study, three_node.params_of(text, "activation"), three_node, **result)
    suggest(study, three_node)

    assert stub.diary.observed_classes(catalogue)[catalogue.class_of("erf(x)")] == expected


def test_a_study_of_failures_goes_on(
    sampler: AquaSurfSampler, three_node: SearchSpace, catalogue: Catalogue
) -> None:
    def objective(trial: optuna.Trial) -> float:
        three_node.suggest(trial, "activation")
        if trial.number % 3 == 0:
            raise optuna.TrialPruned
        if trial.number % 3 == 1:
            raise ValueError("it exploded")
        return float("nan")

    study = optuna.create_study(sampler=sampler)
    study.optimize(objective, n_trials=15, catch=(ValueError,))

    assert len(set(classes_of(study, three_node, catalogue))) == 15
    assert {trial.state for trial in study.trials} == {TrialState.FAIL, TrialState.PRUNED}


def test_functions_that_fail_are_shunned(three_node: SearchSpace, catalogue: Catalogue) -> None:
    sampler = AquaSurfSampler(three_node, catalogue=catalogue, baselines=(), pool_size=300, seed=0)
    mean = np.clip(catalogue.outputs, -20, 20).mean(axis=1)

    def objective(trial: optuna.Trial) -> float:
        class_id = catalogue.class_of(three_node.suggest(trial, "activation"))
        if mean[class_id] > 0:
            raise optuna.TrialPruned
        return 0.5

    study = optuna.create_study(direction="maximize", sampler=sampler)
    study.optimize(objective, n_trials=60)
    pruned = [trial.state == TrialState.PRUNED for trial in study.trials]

    pool = sampler.embedding().classes
    assert np.mean(mean[pool] > 0) > 0.4
    assert np.mean(pruned[20:]) < 0.2


# What ran, whoever chose it


def test_running_functions_are_not_proposed(
    sampler: AquaSurfSampler, three_node: SearchSpace, catalogue: Catalogue
) -> None:
    study = optuna.create_study(sampler=sampler)
    running = [suggest(study, three_node)[1] for _ in range(12)]

    assert len({catalogue.class_of(expression) for expression in running}) == 12


def test_a_proposal_is_claimed_before_it_is_suggested(
    sampler: AquaSurfSampler, three_node: SearchSpace, catalogue: Catalogue
) -> None:
    study = optuna.create_study(sampler=sampler)
    trial = study.ask()
    trial.suggest_float("lr", 0.0, 1.0)

    claim = study.get_trials(deepcopy=False)[0].system_attrs["aquasurf:activation"]
    _, other = suggest(study, three_node)
    mine = three_node.suggest(trial, "activation")
    assert catalogue.class_of(mine) == catalogue.class_of(claim)
    assert catalogue.class_of(other) != catalogue.class_of(claim)


def test_a_claim_never_used_is_free_again(
    sampler: AquaSurfSampler, three_node: SearchSpace, catalogue: Catalogue
) -> None:
    study = optuna.create_study(sampler=sampler)
    trial = study.ask()
    trial.suggest_float("lr", 0.0, 1.0)
    claim = study.get_trials(deepcopy=False)[0].system_attrs["aquasurf:activation"]
    study.tell(trial, 1.0)

    assert catalogue.class_of(suggest(study, three_node)[1]) == catalogue.class_of(claim)


def test_enqueued_functions_are_recognised(
    sampler: AquaSurfSampler, stub: StubSurrogate, three_node: SearchSpace, catalogue: Catalogue
) -> None:
    study = optuna.create_study(direction="maximize", sampler=sampler)
    study.enqueue_trial(three_node.params_of("max(relu(x),cosh(x))", "activation"))
    trial, expression = suggest(study, three_node)
    study.tell(trial, 4.0)
    suggest(study, three_node)

    assert str(expression) == "max(relu(x),cosh(x))"
    assert stub.diary.observed_classes(catalogue) == {catalogue.class_of(expression): 4.0}


def test_a_baseline_waiting_in_the_queue_is_left_to_it(tiny: Catalogue) -> None:
    study = optuna.create_study(sampler=AquaSurfSampler(TINY, catalogue=tiny, seed=0))
    study.optimize(lambda t: len(str(TINY.suggest(t, "activation"))), n_trials=1)
    waiting = TINY.params_of("add(tanh(x),zero(x))", "activation")
    study.add_trial(
        optuna.create_trial(state=TrialState.WAITING, system_attrs={"fixed_params": waiting})
    )
    # Ask as another worker would that started before the queue was filled.
    number = study._storage.create_new_trial(study._study_id)
    trial = optuna.Trial(study, number)

    assert tiny.class_of(TINY.suggest(trial, "activation")) != tiny.class_of("tanh(x)")


def test_partly_enqueued_functions_are_completed(
    sampler: AquaSurfSampler, three_node: SearchSpace, catalogue: Catalogue
) -> None:
    study = optuna.create_study(direction="maximize", sampler=sampler)
    for number in range(4):
        study.enqueue_trial({"activation.0": "max", "activation.2": "erfc", "lr": 0.5})
        trial, expression = suggest(study, three_node)
        assert trial.suggest_float("lr", 0.0, 1.0) == 0.5
        assert expression.operator == "max"
        assert expression.children[1].operator == "erfc"
        study.tell(trial, float(number))

    assert len(set(classes_of(study, three_node, catalogue))) == 4


def test_the_best_compatible_candidate_completes_a_function(
    sampler: AquaSurfSampler, three_node: SearchSpace, catalogue: Catalogue
) -> None:
    study = optuna.create_study(direction="maximize", sampler=sampler)
    study.optimize(lambda t: float(three_node.suggest(t, "activation").depth), n_trials=1)
    ran = classes_of(study, three_node, catalogue)
    study.enqueue_trial({"activation.0": "mul"})
    _, expression = suggest(study, three_node)

    fitting = [
        class_id
        for class_id in map(int, sampler.embedding().classes)
        if class_id not in ran
        and any(member.operator == "mul" for member in catalogue.members(class_id))
    ]
    means = catalogue.outputs[fitting].mean(axis=1)
    assert catalogue.class_of(expression) == fitting[int(np.argmax(means))]


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
def test_a_partial_fixed_sampler_is_respected(
    sampler: AquaSurfSampler, three_node: SearchSpace, catalogue: Catalogue
) -> None:
    study = optuna.create_study(direction="maximize", sampler=sampler)
    fixed = PartialFixedSampler({"activation.1": "sigmoid", "lr": 0.25}, sampler)
    study.sampler = fixed
    study.optimize(
        lambda t: three_node.suggest(t, "activation").depth + t.suggest_float("lr", 0.0, 1.0),
        n_trials=10,
    )

    assert {trial.params["activation.1"] for trial in study.trials} == {"sigmoid"}
    assert {trial.params["lr"] for trial in study.trials} == {0.25}
    assert len(set(classes_of(study, three_node, catalogue))) == 10


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
def test_a_function_fixed_as_a_whole_is_recognised(
    sampler: AquaSurfSampler, stub: StubSurrogate, three_node: SearchSpace, catalogue: Catalogue
) -> None:
    study = optuna.create_study(direction="maximize", sampler=sampler)
    params = three_node.params_of("min(erf(x),square(x))", "activation")
    study.sampler = PartialFixedSampler(params, sampler)
    study.optimize(lambda t: float(three_node.suggest(t, "activation").depth), n_trials=2)
    study.sampler = sampler
    suggest(study, three_node)

    class_id = catalogue.class_of("min(erf(x),square(x))")
    assert classes_of(study, three_node, catalogue)[:2] == [class_id, class_id]
    assert list(stub.diary.observed_classes(catalogue)) == [class_id]


def test_trials_of_another_sampler_count(
    sampler: AquaSurfSampler, stub: StubSurrogate, three_node: SearchSpace, catalogue: Catalogue
) -> None:
    study = optuna.create_study(direction="maximize", sampler=RandomSampler(seed=3))
    finite = np.where(catalogue.is_finite, 1.0, 2.0)
    study.optimize(
        lambda t: finite[catalogue.class_of(three_node.suggest(t, "activation"))], n_trials=30
    )
    before = set(classes_of(study, three_node, catalogue))
    study.sampler = sampler
    study.optimize(lambda t: float(three_node.suggest(t, "activation").depth), n_trials=5)

    after = classes_of(study, three_node, catalogue)[30:]
    assert len(set(after) | before) == len(before) + 5
    assert before <= set(stub.diary.observed_classes(catalogue))
    # All were known before anything was laid out, so there is one layout.
    assert len(stub.diary.embedded) == 1
    assert stub.diary.extended == []


def test_a_function_outside_the_pool_joins_it(
    sampler: AquaSurfSampler, stub: StubSurrogate, three_node: SearchSpace, catalogue: Catalogue
) -> None:
    study = optuna.create_study(direction="maximize", sampler=sampler)
    study.optimize(lambda t: float(three_node.suggest(t, "activation").depth), n_trials=2)
    outside = [c for c in range(len(catalogue)) if c not in sampler.embedding().classes][:6]
    for n, class_id in enumerate(outside):
        study.enqueue_trial(three_node.params_of(catalogue[class_id], "activation"))
        trial, _ = suggest(study, three_node)
        study.tell(trial, float(n))
        suggest(study, three_node)
        assert stub.diary.observed_classes(catalogue)[class_id] == float(n)

    # Up to one newcomer in twenty is placed beside its neighbour, then all are laid out anew.
    assert stub.diary.embedded == [(40, None), (43, None), (46, None)]
    assert stub.diary.extended == [1, 1, 1, 1]


def test_parameters_of_another_space_are_passed_over(
    sampler: AquaSurfSampler, three_node: SearchSpace, catalogue: Catalogue
) -> None:
    study = optuna.create_study(sampler=sampler)
    study.add_trial(
        optuna.create_trial(
            params={"activation.0": "sum_n"},
            distributions={"activation.0": optuna.distributions.CategoricalDistribution(["sum_n"])},
            value=1.0,
        )
    )
    reader = sampler._activations["activation"].reader

    assert reader.read(study.trials, maximize=True).taken == frozenset()


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
def test_what_ran_in_another_bracket_of_hyperband_ran(
    sampler: AquaSurfSampler, three_node: SearchSpace, catalogue: Catalogue
) -> None:
    pruner = optuna.pruners.HyperbandPruner(max_resource=9)
    study = optuna.create_study(sampler=sampler, pruner=pruner, study_name="brackets")

    def objective(trial: optuna.Trial) -> float:
        depth = three_node.suggest(trial, "activation").node_count
        trial.report(depth, 1)
        return float(depth)

    study.optimize(objective, n_trials=20)
    assert len(set(classes_of(study, three_node, catalogue))) == 20


# The pool


def test_constant_and_non_finite_functions_are_not_drawn(
    three_node: SearchSpace, catalogue: Catalogue
) -> None:
    sampler = AquaSurfSampler(three_node, catalogue=catalogue, pool_size=5103, seed=0)
    classes = sampler._activations["activation"].pool._candidates

    assert not catalogue.is_constant[list(classes)].any()
    assert catalogue.is_finite[list(classes)].all()
    assert len(classes) == (catalogue.is_finite & ~catalogue.is_constant).sum()


def test_an_exhausted_pool_grows(three_node: SearchSpace, catalogue: Catalogue) -> None:
    stub = StubSurrogate()
    sampler = AquaSurfSampler(
        three_node, catalogue=catalogue, surrogate=stub, baselines=(), pool_size=5, seed=0
    )
    study = optuna.create_study(sampler=sampler)
    study.optimize(lambda t: float(three_node.suggest(t, "activation").depth), n_trials=17)

    assert len(set(classes_of(study, three_node, catalogue))) == 17
    assert [rows for rows, _ in stub.diary.embedded] == [5, 10, 15, 20]


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
        TINY, catalogue=tiny, features=StubFeaturizer(), surrogate=stub, pool_size=3, seed=0
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


# The other parameters


def test_the_base_sampler_gets_the_other_parameters(
    three_node: SearchSpace, catalogue: Catalogue
) -> None:
    class Diary(RandomSampler):
        def __init__(self) -> None:
            super().__init__(seed=0)
            self.relative: list[set[str]] = []
            self.independent: list[str] = []
            self.finished = 0

        def infer_relative_search_space(self, study: Any, trial: Any) -> Any:
            lr = optuna.distributions.FloatDistribution(0.0, 1.0)
            return {"lr": lr, **three_node.distributions("activation")}

        def sample_relative(self, study: Any, trial: Any, search_space: Any) -> dict[str, Any]:
            self.relative.append(set(search_space))
            return {"lr": 0.125}

        def sample_independent(self, study: Any, trial: Any, name: str, dist: Any) -> Any:
            self.independent.append(name)
            return super().sample_independent(study, trial, name, dist)

        def after_trial(self, study: Any, trial: Any, state: Any, values: Any) -> None:
            self.finished += 1

    base = Diary()
    sampler = AquaSurfSampler(three_node, catalogue=catalogue, base_sampler=base, seed=0)
    study = optuna.create_study(sampler=sampler)

    def objective(trial: optuna.Trial) -> float:
        three_node.suggest(trial, "activation")
        return trial.suggest_float("lr", 0.0, 1.0) + trial.suggest_int("depth", 1, 5)

    study.optimize(objective, n_trials=3)
    assert base.relative == [{"lr"}] * 3
    assert base.independent == ["depth"] * 3
    assert base.finished == 3
    assert {trial.params["lr"] for trial in study.trials} == {0.125}


def test_the_default_base_sampler_learns(three_node: SearchSpace, catalogue: Catalogue) -> None:
    sampler = AquaSurfSampler(three_node, catalogue=catalogue, pool_size=60, seed=0)
    study = optuna.create_study(sampler=sampler)

    def objective(trial: optuna.Trial) -> float:
        three_node.suggest(trial, "activation")
        return (trial.suggest_float("lr", 0.0, 1.0) - 0.7) ** 2

    study.optimize(objective, n_trials=50)
    distances = [abs(trial.params["lr"] - 0.7) for trial in study.trials]
    assert isinstance(sampler._base_sampler, TPESampler)
    assert np.mean(distances[40:]) < 0.5 * np.mean(distances[:10])


def test_a_node_asked_for_alone_gets_an_operator(
    sampler: AquaSurfSampler, three_node: SearchSpace
) -> None:
    study = optuna.create_study(sampler=sampler)
    node, distribution = next(iter(three_node.distributions("activation").items()))
    study.ask()

    operator = sampler.sample_independent(study, study.trials[0], node, distribution)
    assert operator in distribution.choices


def test_several_activations(tiny: Catalogue, three_node: SearchSpace) -> None:
    spaces = {"stem": TINY, "head": TINY}
    sampler = AquaSurfSampler(spaces, catalogue=tiny, pool_size=6, seed=0)
    study = optuna.create_study(sampler=sampler)
    study.optimize(
        lambda t: float(len(str([TINY.suggest(t, name) for name in spaces]))), n_trials=6
    )

    for name in spaces:
        expressions = [TINY.expression_of(trial.params, name) for trial in study.trials]
        assert len({tiny.class_of(expression) for expression in expressions}) == 6
    assert sampler.catalogue("stem") is sampler.catalogue("head")
    with pytest.raises(SamplerError, match=r"one of the activations \['head', 'stem'\]"):
        sampler.embedding()
    with pytest.raises(SamplerError, match="but got 'tail'"):
        sampler.catalogue("tail")


def test_the_embedding_is_told(three_node: SearchSpace, catalogue: Catalogue) -> None:
    sampler = AquaSurfSampler(three_node, catalogue=catalogue, pool_size=50, seed=0)
    embedding = sampler.embedding()

    n = len(embedding.expressions)
    assert 50 <= n <= 58
    assert embedding.coordinates.shape == (n, 2)
    assert embedding.classes.shape == (n,)
    assert [catalogue.class_of(e) for e in embedding.expressions] == embedding.classes.tolist()
    np.testing.assert_array_equal(embedding.coordinates, sampler.embedding().coordinates)


def test_a_catalogue_is_made_if_none_is_given(tiny: Catalogue) -> None:
    def ran(sampler: AquaSurfSampler) -> list[int]:
        study = optuna.create_study(sampler=sampler)
        study.optimize(lambda t: float(len(str(TINY.suggest(t, "activation")))), n_trials=8)
        return classes_of(study, TINY, tiny)

    assert ran(AquaSurfSampler(TINY, seed=0)) == ran(AquaSurfSampler(TINY, catalogue=tiny, seed=0))


# Refusals


def test_several_objectives_are_refused(sampler: AquaSurfSampler, three_node: SearchSpace) -> None:
    study = optuna.create_study(directions=["maximize", "minimize"], sampler=sampler)
    with pytest.raises(SamplerError, match="one objective, but this one has 2"):
        suggest(study, three_node)


@pytest.mark.parametrize(
    ("space", "options", "problem"),
    [
        ({}, {}, "at least one SearchSpace, but got an empty mapping"),
        ({"a": "three_node"}, {}, "but got 'a': 'three_node'"),
        ({1: TINY}, {}, "but got 1: SearchSpace"),
        (TINY, {"pool_size": 0}, "pool_size must be an integer of at least 1, but got 0"),
        (TINY, {"pool_size": 2.0}, "pool_size must be an integer of at least 1, but got 2.0"),
        (TINY, {"store": "sqlite://"}, "keeps Fisher features, but there are none"),
        (TINY, {"surrogate": UmapKnnSurrogate()}, "needs Fisher features"),
        (TINY, {"catalogue": "all"}, "the catalogue of 'activation' must be made of its space"),
    ],
)
def test_wrong_arguments_are_refused(space: Any, options: dict[str, Any], problem: str) -> None:
    with pytest.raises(SamplerError, match=problem):
        AquaSurfSampler(space, **options)


def test_the_catalogue_of_another_space_is_refused(catalogue: Catalogue) -> None:
    with pytest.raises(SamplerError, match="must be made of its space .*, 32 graphs"):
        AquaSurfSampler(TINY, catalogue=catalogue)


def test_baselines_are_read_at_once() -> None:
    with pytest.raises(ValueError, match="reul"):
        AquaSurfSampler(TINY, baselines=("reul(x)",))
    AquaSurfSampler(TINY, baselines=("relu(x)", Expression.parse("tanh(x)")))
