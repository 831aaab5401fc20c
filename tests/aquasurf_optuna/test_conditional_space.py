"""One small union, some graphs of it left out, under all samplers and all that reads studies."""

from collections.abc import Callable, Iterator
from pathlib import Path

import optuna
import pytest
from optuna.importance import FanovaImportanceEvaluator, PedAnovaImportanceEvaluator
from optuna.samplers import (
    BaseSampler,
    GridSampler,
    NSGAIISampler,
    PartialFixedSampler,
    RandomSampler,
    TPESampler,
)
from optuna.trial import FixedTrial, TrialState

from aquasurf_optuna.catalogue import Catalogue
from aquasurf_optuna.exceptions import SpaceError
from aquasurf_optuna.expression import Expression
from aquasurf_optuna.report import study_report
from aquasurf_optuna.sampler import AquaSurfSampler
from aquasurf_optuna.space import SearchSpace
from tests.aquasurf_optuna.sampler_helpers import StubSurrogate, optuna_log

LEFT_OUT = ("erf(x)", "mul(erf(x),0.5)", "max(relu(x),relu(x))")
WHOLE = SearchSpace(
    "unary(x) | binary(unary(x),constant) | max(unary(x),unary(x))",
    unary=("relu", "tanh", "erf"),
    binary=("add", "mul"),
    constants=(0.5, 2),
)
SPACE = WHOLE.without(*LEFT_OUT)
LABELS = ("unary(x)", "binary(unary(x),constant)", "max(unary(x),unary(x))")


@pytest.fixture(scope="module")
def small() -> Catalogue:
    return Catalogue.of(SPACE)


@pytest.fixture
def sampler(small: Catalogue) -> AquaSurfSampler:
    return AquaSurfSampler(SPACE, catalogue=small, surrogate=StubSurrogate(), pool_size=8, seed=0)


def objective(trial: optuna.Trial) -> float:
    expression = SPACE.suggest(trial, "activation")
    return SPACE.index(expression) + trial.suggest_float("lr", 0.0, 0.5)


def ran(study: optuna.Study) -> Iterator[Expression]:
    for trial in study.trials:
        if trial.state == TrialState.COMPLETE:
            yield SPACE.expression_of(trial.params, "activation")


def is_consistent(trial: optuna.trial.FrozenTrial) -> bool:
    """Whether a trial has a schema, the nodes of that schema, and no others."""
    number = LABELS.index(trial.params["activation.schema"])
    nodes = {f"activation.{number}.{k}" for k in range((1, 3, 2)[number])}
    return set(trial.params) - {"lr"} == {"activation.schema", *nodes}


def test_the_parameters_of_a_union() -> None:
    distributions = SPACE.distributions("f")
    assert {key: each.choices for key, each in distributions.items()} == {
        "f.schema": LABELS,
        "f.0.0": ("relu", "tanh", "erf"),
        "f.1.0": ("add", "mul"),
        "f.1.1": ("relu", "tanh", "erf"),
        "f.1.2": ("0.5", "2"),
        "f.2.0": ("relu", "tanh", "erf"),
        "f.2.1": ("relu", "tanh", "erf"),
    }


def test_parameters_and_graphs_are_inverse() -> None:
    for expression in SPACE:
        params = SPACE.params_of(expression, "f")
        assert SPACE.expression_of({**params, "lr": 0.1, "f.9.9": "relu"}, "f") == expression
        assert SPACE.suggest(FixedTrial(params), "f") == expression
        assert SPACE.is_suggested(params, "f")
        for key in params:
            assert not SPACE.is_suggested({k: v for k, v in params.items() if k != key}, "f")


def test_schemas_of_one_text_are_told_apart() -> None:
    union = SearchSpace("unary(x)", unary=("relu",)) | SearchSpace(
        "unary(x)", unary=("elu", "selu")
    )
    assert union.distributions("f")["f.schema"].choices == ("unary(x)", "unary(x) #2")
    for expression in union:
        assert union.suggest(FixedTrial(union.params_of(expression, "f")), "f") == expression


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({}, r"'f\.schema' is missing among \[\]; was the space suggested under the name 'f'"),
        ({"f.schema": "unary"}, r"'f\.schema' is 'unary'; unary.* allows there unary\(x\), bin"),
        ({"f.schema": LABELS[1], "f.0.0": "relu"}, r"'f\.1\.0' is missing among"),
        (
            {"f.schema": LABELS[0], "f.0.0": "elu"},
            r"'f\.0\.0' is 'elu'; unary.* allows there relu, tanh, erf$",
        ),
        ({"f.schema": LABELS[0], "f.0.0": "erf"}, r"erf\(x\) is excluded from this space"),
    ],
)
def test_parameters_that_name_no_function_are_refused(params: dict[str, str], message: str) -> None:
    with pytest.raises(SpaceError, match=message):
        SPACE.expression_of(params, "f")


def test_what_is_left_out_has_no_parameters() -> None:
    for text in LEFT_OUT:
        with pytest.raises(SpaceError, match="is not a graph of"):
            SPACE.params_of(text, "f")
        with pytest.raises(optuna.TrialPruned, match="is excluded from the search space"):
            SPACE.suggest(FixedTrial(WHOLE.params_of(text, "f")), "f")


SAMPLERS: dict[str, Callable[[], BaseSampler]] = {
    "random": lambda: RandomSampler(seed=0),
    "tpe": lambda: TPESampler(seed=0, n_startup_trials=5),
    "tpe_group": lambda: TPESampler(seed=0, n_startup_trials=5, multivariate=True, group=True),
    "nsgaii": lambda: NSGAIISampler(seed=0, population_size=8),
}


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
@pytest.mark.parametrize("name", SAMPLERS)
def test_any_sampler_searches_a_union(name: str) -> None:
    study = optuna.create_study(sampler=SAMPLERS[name]())
    with optuna_log() as messages:
        study.optimize(objective, n_trials=40)
    assert all(map(is_consistent, (t for t in study.trials if t.state == TrialState.COMPLETE)))
    assert {trial.params["activation.schema"] for trial in study.trials} == set(LABELS)
    for trial in study.get_trials(states=[TrialState.COMPLETE]):
        expression = SPACE.expression_of(trial.params, "activation")
        assert trial.value == SPACE.index(expression) + trial.params["lr"]
    # Samplers that do not know of it choose what is left out: pruned, with a message that says so.
    pruned = study.get_trials(states=[TrialState.PRUNED])
    said = [each for each in messages if "is excluded from the search space" in each]
    assert len(study.trials) == 40 == len(list(ran(study))) + len(pruned)
    assert len(said) == len(pruned)
    if name == "random":
        assert pruned


def test_a_grid_covers_a_union() -> None:
    space = SearchSpace(
        "unary(x) | add(unary(x),constant)", unary=("relu", "erf"), constants=(1, 2)
    )
    grid = {key: list(each.choices) for key, each in space.distributions("f").items()}
    study = optuna.create_study(sampler=GridSampler(grid, seed=0))
    study.optimize(lambda trial: float(space.index(space.suggest(trial, "f"))))
    assert len(study.trials) == 2 * 2 * 2 * 2
    assert {space.expression_of(trial.params, "f") for trial in study.trials} == set(space)


def test_every_function_is_proposed_once_and_then_the_best(
    sampler: AquaSurfSampler, small: Catalogue
) -> None:
    study = optuna.create_study(direction="minimize", sampler=sampler)
    n_classes = len(small)
    study.optimize(objective, n_trials=n_classes + 3)
    classes = [small.class_of(expression) for expression in ran(study)]
    assert all(trial.state == TrialState.COMPLETE for trial in study.trials)
    assert all(map(is_consistent, study.trials))
    assert sorted(classes[:n_classes]) == list(range(n_classes))
    assert classes[n_classes:] == [small.class_of(SPACE[0])] * 3
    assert not {str(each) for each in ran(study)} & set(LEFT_OUT)


def test_enqueued_functions_run_as_they_are(sampler: AquaSurfSampler, small: Catalogue) -> None:
    study = optuna.create_study(sampler=sampler)
    wanted = [SPACE[index] for index in (SPACE.size - 1, 4, 0)]
    for expression in wanted:
        study.enqueue_trial(SPACE.params_of(expression, "activation"))
    study.optimize(objective, n_trials=len(small))
    assert list(ran(study))[:3] == wanted
    assert len({small.class_of(expression) for expression in ran(study)}) == len(small)


def test_an_enqueued_schema_is_completed(sampler: AquaSurfSampler) -> None:
    study = optuna.create_study(sampler=sampler)
    for _ in range(3):
        study.enqueue_trial({"activation.schema": LABELS[2]})
    study.enqueue_trial({"activation.schema": LABELS[1], "activation.1.2": "2"})
    study.optimize(objective, n_trials=4)
    found = list(ran(study))
    assert [expression.operator for expression in found[:3]] == ["max"] * 3
    assert len(set(found)) == 4
    assert str(found[3]).endswith(",2)")


def test_what_is_left_out_and_enqueued_is_pruned(sampler: AquaSurfSampler) -> None:
    study = optuna.create_study(sampler=sampler)
    study.enqueue_trial(WHOLE.params_of(LEFT_OUT[1], "activation"))
    study.optimize(objective, n_trials=4)
    states = [trial.state for trial in study.trials]
    assert states == [TrialState.PRUNED, *[TrialState.COMPLETE] * 3]


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
@pytest.mark.parametrize(
    ("fixed", "fits"),
    [
        ({"activation.schema": LABELS[1]}, lambda text: text[:3] in ("add", "mul")),
        ({"activation.1.0": "mul"}, lambda text: not text.startswith("add")),
        (
            {"activation.schema": LABELS[1], "activation.1.1": "erf"},
            lambda text: "(erf(x)," in text,
        ),
        (
            {"activation.schema": LABELS[0], "activation.0.0": "tanh"},
            lambda text: text == "tanh(x)",
        ),
    ],
    ids=["schema", "node", "schema_and_node", "everything"],
)
def test_fixed_nodes_stay_fixed(
    sampler: AquaSurfSampler, fixed: dict[str, str], fits: Callable[[str], bool]
) -> None:
    study = optuna.create_study(sampler=PartialFixedSampler(fixed, sampler))
    fitting = [expression for expression in SPACE if fits(str(expression))]
    study.optimize(objective, n_trials=len(fitting) + 2)
    assert all(trial.state == TrialState.COMPLETE for trial in study.trials)
    assert all(fits(str(expression)) for expression in ran(study))
    for trial in study.trials:
        assert {**trial.params, **fixed}.items() >= trial.params.items()
        assert is_consistent(trial)


@pytest.mark.parametrize("direction", ["minimize", "maximize"])
def test_threads_share_a_union(sampler: AquaSurfSampler, small: Catalogue, direction: str) -> None:
    study = optuna.create_study(direction=direction, sampler=sampler)
    study.optimize(objective, n_trials=len(small), n_jobs=2)
    assert sorted(map(small.class_of, ran(study))) == list(range(len(small)))


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
@pytest.mark.parametrize("evaluator", [FanovaImportanceEvaluator, PedAnovaImportanceEvaluator])
def test_the_importance_of_the_schema(
    evaluator: Callable[[], optuna.importance._base.BaseImportanceEvaluator],
) -> None:
    study = optuna.create_study(sampler=RandomSampler(seed=0))
    study.optimize(
        lambda trial: (
            SPACE.suggest(trial, "activation").node_count + trial.suggest_float("lr", 0.0, 1e-3)
        ),
        n_trials=60,
    )
    importances = optuna.importance.get_param_importances(study, evaluator=evaluator())
    # fANOVA knows the parameters that all trials have, PED-ANOVA those of single schemas too.
    assert {"activation.schema", "lr"} <= set(importances)
    assert set(importances) <= {"lr", *SPACE.distributions("activation")}
    # What the schema does not decide, `lr` does: that is all that there is to know.
    assert importances["activation.schema"] > 0.2
    assert importances["activation.schema"] + importances["lr"] > 0.8


def test_a_study_in_a_database_is_read_by_another(
    small: Catalogue, sampler: AquaSurfSampler, tmp_path: Path
) -> None:
    storage = f"sqlite:///{tmp_path / 'study.db'}"
    study = optuna.create_study(study_name="union", storage=storage, sampler=sampler)
    study.optimize(objective, n_trials=5)
    again = optuna.load_study(
        study_name="union",
        storage=storage,
        sampler=AquaSurfSampler(SPACE, catalogue=small, surrogate=StubSurrogate(), seed=1),
    )
    again.optimize(objective, n_trials=len(small) - 5)
    assert sorted(map(small.class_of, ran(again))) == list(range(len(small)))
    assert list(ran(again))[:5] == list(ran(study))[:5]
    for each in (study, again):
        each._storage.remove_session()


def test_the_report_of_a_union(sampler: AquaSurfSampler, tmp_path: Path) -> None:
    study = optuna.create_study(sampler=sampler)
    # One that is left out, as another sampler might choose it.
    study.enqueue_trial(WHOLE.params_of(LEFT_OUT[1], "activation"))
    study.optimize(objective, n_trials=8)
    page = study_report(tmp_path / "report.html", study, SPACE).read_text()
    for expression in ran(study):
        assert str(expression) in page
    assert "pruned" in page
