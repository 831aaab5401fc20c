"""Why a function was proposed: what is kept, and what is told."""

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.samplers import PartialFixedSampler, RandomSampler
from optuna.trial import FrozenTrial

from aquasurf_optuna._explanation import EXPLANATION_KEY, REASONS, Explanation, Neighbour
from aquasurf_optuna.catalogue import Catalogue
from aquasurf_optuna.sampler import AquaSurfSampler
from aquasurf_optuna.surrogate import GaussianProcessSurrogate, make_surrogate
from tests.aquasurf_optuna.sampler_helpers import TINY, StubFeaturizer, Task, suggest

FULL = Explanation(
    {"activation": "max(relu(x),tanh(x))"},
    "predicted",
    surrogate="GaussianProcessSurrogate",
    predicted=(0.81234567,),
    spread=(0.0123456,),
    rank=2,
    n_candidates=1992,
    n_observed=17,
    nearest=(
        Neighbour({"activation": "elu(x)"}, (0.75,), 0.123456),
        Neighbour({"activation": "exp(sinh(x))"}, (None,), 0.5),
    ),
)


@pytest.fixture(scope="module")
def task(catalogue: Catalogue) -> Task:
    return Task.near("mul(hard_sigmoid(x),elu(x))", catalogue)


def ours(study: optuna.Study) -> AquaSurfSampler:
    assert isinstance(study.sampler, AquaSurfSampler)
    return study.sampler


def explained(study: optuna.Study, trial: optuna.Trial | FrozenTrial) -> Explanation:
    found = ours(study).explain(trial)
    assert found is not None
    return found


# As an attribute and as text


def test_what_is_written_is_read_back_with_four_digits() -> None:
    written = json.loads(json.dumps(FULL.as_attribute()))
    read = Explanation.of_attribute(written, dict(FULL.functions))

    assert read == dataclasses.replace(
        FULL,
        predicted=(0.8123,),
        spread=(0.01235,),
        nearest=(dataclasses.replace(FULL.nearest[0], distance=0.1235), FULL.nearest[1]),
    )
    assert json.loads(json.dumps(read.as_attribute())) == written


@pytest.mark.parametrize(
    "explanation",
    [
        Explanation({"activation": "relu(x)"}, "baseline"),
        dataclasses.replace(FULL, spread=(None,)),
        dataclasses.replace(
            FULL,
            predicted=(0.5, -3.0),
            spread=(0.25, None),
            weights=(0.25, 0.75),
            nearest=(Neighbour({"activation": "elu(x)"}, (0.75, None), 0.25),),
        ),
        dataclasses.replace(
            FULL,
            functions={"stem": "relu(x)", "head": "tanh(x)"},
            predicted=(0.5,),
            spread=(0.25,),
            nearest=(Neighbour({"stem": "elu(x)", "head": "erf(x)"}, (0.75,), 0.25),),
        ),
    ],
    ids=["nothing but a reason", "no spread", "objectives", "activations"],
)
def test_all_that_there_can_be_is_kept(explanation: Explanation) -> None:
    written = json.loads(json.dumps(explanation.as_attribute()))
    again = Explanation.of_attribute(written, dict(explanation.functions)).as_attribute()
    assert json.loads(json.dumps(again)) == written
    assert ("value" in written) == bool(explanation.predicted)


def test_what_is_not_there_takes_no_room() -> None:
    assert Explanation({"activation": "relu(x)"}, "baseline").as_attribute() == {"why": "baseline"}


def test_it_is_told_in_words() -> None:
    assert str(FULL) == (
        "activation = max(relu(x),tanh(x)): ranked best by the surrogate among the candidates "
        "that are free\n"
        "  number 2 of 1992 candidates, by GaussianProcessSurrogate on 17 tried\n"
        "  predicted: 0.8123 ± 0.012\n"
        "  near, at 0.12: elu(x), which gave 0.75\n"
        "  near, at 0.5: exp(sinh(x)), which gave a failure"
    )
    assert str(Explanation({"activation": "relu(x)"}, "baseline")) == (
        "activation = relu(x): a standard function, tried before the search begins"
    )
    weighed = dataclasses.replace(
        FULL, predicted=(1.0, 2.0), spread=(None, 0.5), weights=(0.2, 0.8)
    )
    assert "weights of the objectives: 0.2, 0.8\n  predicted: 1, 2 ± 0.5\n" in str(weighed)


def test_values_are_turned_into_the_directions_of_the_study() -> None:
    both = dataclasses.replace(
        FULL,
        predicted=(0.5, -3.0),
        nearest=(Neighbour({"activation": "elu(x)"}, (0.7, None), 0.2),),
    )
    turned = both.in_directions([1.0, -1.0])
    assert turned.predicted == (0.5, 3.0)
    assert turned.nearest[0].values == (0.7, None)
    assert both.in_directions([-1.0, 1.0]).nearest[0].values == (-0.7, None)


# By the sampler


def test_a_proposal_is_explained(task: Task) -> None:
    study = task.study()
    study.optimize(task.objective, n_trials=10)
    trial, expression = task.suggest(study)
    found = explained(study, trial)

    assert found.functions == {"activation": str(expression)}
    assert found.reason == "predicted"
    default = make_surrogate(None, features="both", random_state=0)
    assert found.surrogate == type(default).__name__
    assert found.rank == 1
    assert (found.n_candidates, found.n_observed) == (50, 10)
    assert len(found.predicted) == len(found.spread) == 1
    assert found.weights == ()
    # The nearest were tried, and the nearest comes first.
    distances = [near.distance for near in found.nearest]
    assert distances == sorted(distances)
    ran = {
        str(task.catalogue[c]): t.value
        for c, t in zip(task.classes(study), study.trials, strict=True)
    }
    for near in found.nearest:
        (text,) = near.functions.values()
        assert near.values == (pytest.approx(ran[text], rel=1e-3),)


@pytest.mark.parametrize("direction", ["maximize", "minimize"])
@pytest.mark.parametrize("surrogate", ["gp", "novelty"])
def test_the_prediction_is_that_of_predict(task: Task, surrogate: str, direction: str) -> None:
    sign = 1.0 if direction == "maximize" else -1.0
    sampler = task.sampler(surrogate=surrogate)
    study = optuna.create_study(direction=direction, sampler=sampler)
    for _ in range(6):
        trial, expression = task.suggest(study)
        found = explained(study, trial)
        if found.predicted:
            predicted = sampler.predict(trial)
            assert predicted is not None
            assert found.predicted == (float(f"{predicted:.4g}"),)
            assert (found.spread == (None,)) == (surrogate == "novelty")
        study.tell(trial, sign * (7.0 + task.value(expression)))
    assert found.predicted
    assert 5.0 < sign * found.predicted[0] < 8.0


def test_attributes_are_short(task: Task) -> None:
    study = task.study(task.sampler(baselines=("relu(x)",)))
    study.optimize(task.objective, n_trials=15)
    for trial in study.trials:
        assert len(json.dumps(trial.system_attrs[EXPLANATION_KEY])) < 500


def test_it_is_told_the_same_from_a_database(task: Task, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'study.db'}"
    study = task.study(storage=url, study_name="kept")
    told = []
    for _ in range(6):
        trial, expression = task.suggest(study)
        told.append(explained(study, trial))
        study.tell(trial, task.value(expression))

    # A sampler that never saw the study, of which only the spaces matter.
    other = task.sampler(seed=5, surrogate="novelty")
    loaded = optuna.load_study(study_name="kept", storage=url)
    assert [other.explain(trial) for trial in loaded.trials] == told
    for each in (study, loaded):
        each._storage.remove_session()


def test_trials_of_other_samplers_have_no_explanation(task: Task) -> None:
    study = task.study(RandomSampler(seed=0))
    study.optimize(task.objective, n_trials=1)
    assert task.sampler().explain(study.trials[0]) is None

    study.sampler = task.sampler()
    trial = study.ask()
    assert ours(study).explain(trial) is None
    # Nobody proposed what was wanted as a whole.
    study.enqueue_trial(task.space.params_of("max(relu(x),erf(x))", "activation"))
    trial, _ = task.suggest(study)
    trial.suggest_float("momentum", 0.0, 1.0)
    assert ours(study).explain(trial) is None


def tiny_study(tiny: Catalogue, **options: Any) -> optuna.Study:
    settings: dict[str, Any] = {"baselines": (), "seed": 0, **options}
    sampler = AquaSurfSampler(TINY, catalogue=tiny, **settings)
    return optuna.create_study(sampler=sampler)


def reason(study: optuna.Study) -> str:
    """Why the next trial gets its function; it then ends."""
    trial, expression = suggest(study, TINY)
    found = explained(study, trial)
    assert REASONS[found.reason] in str(found)
    study.tell(trial, float(len(str(expression))))
    return found.reason


def test_baselines_are_told_apart(tiny: Catalogue) -> None:
    study = tiny_study(tiny, baselines=("relu(x)", "tanh(x)"))
    assert [reason(study) for _ in range(3)] == ["baseline", "baseline", "predicted"]


def test_before_anything_is_known_functions_are_drawn(tiny: Catalogue) -> None:
    study = tiny_study(tiny)
    running, _ = suggest(study, TINY)
    assert explained(study, running).reason == "first"
    assert reason(study) == "first"
    assert reason(study) == "predicted"


def test_what_fits_a_fixed_operator_may_be_no_candidate(tiny: Catalogue) -> None:
    invalid = [str(tiny[c]) for c in range(len(tiny)) if "mul" in str(tiny[c])]
    study = tiny_study(tiny, features=StubFeaturizer(invalid))
    reason(study)
    study.enqueue_trial({"activation.0": "mul", "activation.1": "tanh", "activation.2": "tanh"})
    suggest(study, TINY)
    study.enqueue_trial({"activation.0": "mul", "activation.1": "tanh"})
    assert reason(study) == "unranked"


def test_when_all_is_tried_the_best_comes_again(tiny: Catalogue) -> None:
    study = tiny_study(tiny)
    n_classes = int((tiny.is_finite & ~tiny.is_constant).sum())
    assert {reason(study) for _ in range(n_classes)} == {"first", "predicted"}
    assert reason(study) == "repeated"


def test_when_all_runs_and_nothing_has_ended_chance_decides(tiny: Catalogue) -> None:
    study = tiny_study(tiny)
    n_classes = int((tiny.is_finite & ~tiny.is_constant).sum())
    for _ in range(n_classes):
        suggest(study, TINY)
    assert reason(study) == "chance"


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
def test_a_fixed_operator_is_explained_like_any_proposal(tiny: Catalogue) -> None:
    study = tiny_study(tiny)
    assert [reason(study) for _ in range(2)] == ["first", "predicted"]
    sampler = ours(study)
    study.sampler = PartialFixedSampler({"activation.0": "mul"}, sampler)
    trial, expression = suggest(study, TINY)
    found = sampler.explain(trial)

    assert found is not None
    assert found.reason == "predicted"
    assert found.functions == {"activation": str(tiny[tiny.class_of(expression)])}
    # Only those that fit were ranked.
    assert found.n_candidates < int((tiny.is_finite & ~tiny.is_constant).sum()) - 2


def test_the_rank_tells_who_stood_before(task: Task) -> None:
    study = task.study()
    study.optimize(task.objective, n_trials=8)
    rivals = [task.suggest(study)[0] for _ in range(3)]
    # Running trials are no candidates any more.
    assert [explained(study, rival).rank for rival in rivals] == [1, 1, 1]
    n_candidates = [explained(study, rival).n_candidates for rival in rivals]
    assert n_candidates == [52, 51, 50]


def test_a_spread_that_is_not_known_is_left_out(task: Task) -> None:
    surrogate = GaussianProcessSurrogate(features="outputs", exploration=1.0)
    study = task.study(task.sampler(surrogate=surrogate))
    study.optimize(task.objective, n_trials=5)
    trial, _ = task.suggest(study)
    (spread,) = explained(study, trial).spread
    assert spread is not None
    assert 0 < spread < math.inf
    assert np.isfinite(explained(study, trial).predicted).all()
