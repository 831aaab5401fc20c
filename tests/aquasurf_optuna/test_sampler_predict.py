"""What the sampler predicts for a trial: the surrogate's value, and nothing else changes."""

import copy

import numpy as np
import optuna
import pytest
from optuna.trial import TrialState
from sklearn.neighbors import KNeighborsRegressor

from aquasurf_optuna.catalogue import Catalogue
from aquasurf_optuna.exceptions import SamplerError
from aquasurf_optuna.sampler import AquaSurfSampler
from aquasurf_optuna.space import SearchSpace
from tests.aquasurf_optuna.sampler_helpers import StubFeaturizer, classes_of, suggest

TINY = SearchSpace(
    "binary(unary(x),unary(x))", unary=("relu", "tanh", "identity", "zero"), binary=("add", "mul")
)


@pytest.fixture
def sampler(three_node: SearchSpace, catalogue: Catalogue) -> AquaSurfSampler:
    return AquaSurfSampler(
        three_node, catalogue=catalogue, surrogate="paper", baselines=(), pool_size=40, seed=0
    )


def worth(catalogue: Catalogue, class_id: int) -> float:
    """A value that is smooth in the function, so that there is something to predict."""
    outputs = np.clip(catalogue.outputs[class_id], -5, 5)
    return float(np.abs(outputs).mean())


def run(study: optuna.Study, space: SearchSpace, catalogue: Catalogue, trials: int) -> None:
    study.optimize(
        lambda t: worth(catalogue, catalogue.class_of(space.suggest(t, "activation"))),
        n_trials=trials,
    )


def outside(sampler: AquaSurfSampler, catalogue: Catalogue, count: int) -> list[int]:
    """Classes that are not in the pool."""
    pool = set(sampler.embedding().classes.tolist())
    return [c for c in np.flatnonzero(catalogue.is_finite).tolist() if c not in pool][:count]


@pytest.mark.parametrize("direction", ["maximize", "minimize"])
def test_the_value_is_that_of_the_neighbours_in_the_embedding(
    sampler: AquaSurfSampler, three_node: SearchSpace, catalogue: Catalogue, direction: str
) -> None:
    study = optuna.create_study(direction=direction, sampler=sampler)
    run(study, three_node, catalogue, 8)
    ran = classes_of(study, three_node, catalogue)
    trial, expression = suggest(study, three_node)

    embedding = sampler.embedding()
    place = dict(zip(embedding.classes.tolist(), embedding.coordinates, strict=True))
    regressor = KNeighborsRegressor(3, weights="distance")
    regressor.fit([place[c] for c in ran], [worth(catalogue, c) for c in ran])
    expected = regressor.predict([place[catalogue.class_of(expression)]])[0]
    assert sampler.predict(trial) == pytest.approx(expected, rel=1e-12)
    assert expected > 0


def test_a_function_outside_the_pool_is_placed_like_a_tried_one(
    sampler: AquaSurfSampler, three_node: SearchSpace, catalogue: Catalogue
) -> None:
    study = optuna.create_study(direction="maximize", sampler=sampler)
    run(study, three_node, catalogue, 8)
    (class_id,) = outside(sampler, catalogue, 1)
    study.enqueue_trial(three_node.params_of(catalogue[class_id], "activation"))
    trial, _ = suggest(study, three_node)

    pool = sampler._search.pool
    surrogate = copy.deepcopy(pool.surrogate).extend(catalogue.outputs[[class_id]])
    observed = classes_of(study, three_node, catalogue)[:8]
    surrogate.fit([pool.rows[(c,)] for c in observed], [worth(catalogue, c) for c in observed])
    expected = surrogate.predict([surrogate.n_rows_ - 1])[0]
    assert sampler.predict(trial) == pytest.approx(expected, rel=1e-12)
    assert class_id not in sampler.embedding().classes


@pytest.mark.parametrize("known_before", [False, True])
def test_predictions_leave_later_proposals_as_they_were(
    three_node: SearchSpace, catalogue: Catalogue, known_before: bool
) -> None:
    strangers = np.random.default_rng(0).permutation(np.flatnonzero(catalogue.is_finite))[:12]

    def ran(*, predict: bool) -> tuple[list[int], int]:
        sampler = AquaSurfSampler(
            three_node, catalogue=catalogue, baselines=("relu(x)",), pool_size=40, seed=0
        )
        study = optuna.create_study(direction="maximize", sampler=sampler)
        if known_before:
            sampler.prepare()
        run(study, three_node, catalogue, 1)
        predictions = 0
        for class_id in strangers:
            # Trials that go on running, so that the study has no need to lay these functions out.
            study.enqueue_trial(three_node.params_of(catalogue[int(class_id)], "activation"))
            trial, _ = suggest(study, three_node)
            predictions += predict and sampler.predict(trial) is not None
        run(study, three_node, catalogue, 12)
        return classes_of(study, three_node, catalogue), predictions

    plain, none = ran(predict=False)
    asked, many = ran(predict=True)
    assert plain == asked
    assert (none, many) == (0, 12)


def test_there_is_nothing_to_predict_from_before_a_value(
    sampler: AquaSurfSampler, three_node: SearchSpace, catalogue: Catalogue
) -> None:
    study = optuna.create_study(sampler=sampler)
    assert sampler.predict(suggest(study, three_node)[0]) is None

    for state in (TrialState.FAIL, TrialState.PRUNED):
        study.tell(suggest(study, three_node)[0], state=state)
    trial, _ = suggest(study, three_node)
    assert sampler.predict(trial) is None

    study.tell(suggest(study, three_node)[0], 0.5)
    predicted = sampler.predict(trial)
    # Between the one value and the failures, which count as one less in the minimised direction.
    assert predicted is not None
    assert 0.5 <= predicted <= 1.5


def test_the_trial_itself_does_not_count(
    sampler: AquaSurfSampler, three_node: SearchSpace, catalogue: Catalogue
) -> None:
    study = optuna.create_study(sampler=sampler)
    run(study, three_node, catalogue, 5)
    trial, _ = suggest(study, three_node)
    before = sampler.predict(trial)
    study.tell(trial, 1000.0)

    assert before is not None
    assert sampler.predict(trial) == before


def test_a_function_tried_before_is_predicted_as_it_went(
    sampler: AquaSurfSampler, three_node: SearchSpace, catalogue: Catalogue
) -> None:
    study = optuna.create_study(sampler=sampler)
    run(study, three_node, catalogue, 5)
    study.enqueue_trial(study.trials[2].params)
    trial, _ = suggest(study, three_node)

    assert sampler.predict(trial) == pytest.approx(study.trials[2].value)


@pytest.fixture(scope="module")
def tiny() -> Catalogue:
    return Catalogue.of(TINY)


def ask_for(study: optuna.Study, text: str) -> optuna.Trial:
    study.enqueue_trial(TINY.params_of(text, "activation"))
    return suggest(study, TINY)[0]


def test_an_invalid_spectrum_has_no_prediction(tiny: Catalogue) -> None:
    invalid = str(tiny[tiny.class_of("mul(relu(x),tanh(x))")])
    sampler = AquaSurfSampler(TINY, catalogue=tiny, features=StubFeaturizer([invalid]), seed=0)
    study = optuna.create_study(sampler=sampler)
    study.tell(ask_for(study, invalid), 0.25)
    # The only value is that of a function that cannot be embedded.
    assert sampler.predict(ask_for(study, "mul(tanh(x),tanh(x))")) is None

    study.tell(ask_for(study, "add(tanh(x),zero(x))"), 0.5)
    assert sampler.predict(ask_for(study, invalid)) is None
    assert sampler.predict(ask_for(study, "mul(tanh(x),tanh(x))")) == 0.5


def test_activations_are_predicted_together(tiny: Catalogue) -> None:
    sampler = AquaSurfSampler({"stem": TINY, "head": TINY}, catalogue=tiny, pool_size=6, seed=0)
    study = optuna.create_study(direction="maximize", sampler=sampler)

    def ask(stem: str, head: str) -> optuna.Trial:
        study.enqueue_trial({**TINY.params_of(stem, "stem"), **TINY.params_of(head, "head")})
        trial = study.ask()
        for name in ("stem", "head"):
            TINY.suggest(trial, name)
        return trial

    relu, tanh = "add(relu(x),zero(x))", "add(tanh(x),zero(x))"
    for pair, value in {(relu, relu): 4.0, (relu, tanh): 3.0, (tanh, relu): 1.0}.items():
        study.tell(ask(*pair), value)
    assert sampler.predict(ask(relu, tanh)) == pytest.approx(3.0, abs=0.5)
    assert sampler.predict(ask(tanh, relu), name="head") == pytest.approx(1.0, abs=0.5)
    with pytest.raises(SamplerError, match=r"one of the activations \['head', 'stem'\]"):
        sampler.predict(ask(tanh, tanh), name="tail")


def test_a_trial_without_its_function_is_refused(
    sampler: AquaSurfSampler, three_node: SearchSpace
) -> None:
    study = optuna.create_study(sampler=sampler)
    trial = study.ask()
    trial.suggest_float("lr", 0.0, 1.0)
    with pytest.raises(SamplerError, match=r"'lr': .* must suggest one, by suggest\(trial, 'acti"):
        sampler.predict(trial)


def test_several_objectives_are_refused(sampler: AquaSurfSampler) -> None:
    study = optuna.create_study(directions=["maximize", "minimize"])
    with pytest.raises(SamplerError, match="one value, but this study has 2"):
        sampler.predict(study.ask())
