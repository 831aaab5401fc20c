import pickle

import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aquasurf_optuna.exceptions import ExpressionError, SpaceError
from aquasurf_optuna.expression import Expression
from aquasurf_optuna.space import SearchSpace

SPACE = SearchSpace.three_node()


def test_the_three_node_space_has_the_papers_size() -> None:
    assert len(SPACE) == 5103
    everything = list(SPACE)
    assert len(set(everything)) == 5103
    assert all(expression.node_count == 3 for expression in everything)
    assert str(everything[0]) == "add(zero(x),zero(x))"


def test_index_and_expression_are_inverse_for_all() -> None:
    assert [SPACE.index(expression) for expression in SPACE] == list(range(5103))


def test_negative_and_missing_indices() -> None:
    assert SPACE[-1] == SPACE[5102]
    for index in (5103, -5104):
        with pytest.raises(IndexError, match="outside a space of 5103 graphs"):
            SPACE[index]


@given(st.integers(0, 5102))
def test_params_and_expression_are_inverse(index: int) -> None:
    params = SPACE.params_of(SPACE[index], "activation")
    assert sorted(params) == ["activation.0", "activation.1", "activation.2"]
    assert SPACE.expression_of({**params, "lr": 0.1}, "activation") == SPACE[index]


def test_parameters_are_small_categoricals() -> None:
    distributions = SPACE.distributions("activation")
    assert [len(d.choices) for d in distributions.values()] == [7, 27, 27]


@pytest.mark.parametrize(
    "sampler",
    [optuna.samplers.TPESampler(seed=0), optuna.samplers.RandomSampler(seed=0)],
    ids=["tpe", "random"],
)
def test_suggest_works_with_any_sampler(sampler: optuna.samplers.BaseSampler) -> None:
    study = optuna.create_study(sampler=sampler)
    study.optimize(lambda trial: float(SPACE.index(SPACE.suggest(trial, "f"))), n_trials=12)
    for trial in study.trials:
        assert SPACE.index(SPACE.expression_of(trial.params, "f")) == trial.value
    assert len({trial.value for trial in study.trials}) > 1


def test_suggest_works_with_a_fixed_trial() -> None:
    trial = optuna.trial.FixedTrial(SPACE.params_of("max(relu(x),tanh(x))", "f"))
    assert str(SPACE.suggest(trial, "f")) == "max(relu(x),tanh(x))"


@pytest.mark.parametrize("text", ["relu(x)", "max(relu(x),x)", "max(gelu(x),relu(x))", "x"])
def test_graphs_of_another_form_are_not_in_the_space(text: str) -> None:
    assert Expression.parse(text) not in SPACE
    with pytest.raises(SpaceError, match="is not a graph of binary"):
        SPACE.index(text)


def test_what_is_no_expression_is_not_in_the_space() -> None:
    assert "max(relu(x),tanh(x))" not in SPACE
    assert Expression.parse("max(relu(x),tanh(x))") in SPACE
    with pytest.raises(ExpressionError, match="did you mean relu"):
        SPACE.index("rellu(x)")


def test_missing_and_foreign_parameters_are_named() -> None:
    with pytest.raises(SpaceError, match=r"'f\.1' is missing .*suggested under the name 'f'"):
        SPACE.expression_of({"f.0": "max"}, "f")
    with pytest.raises(SpaceError, match=r"'f\.0' is 'maximum'; binary.* allows there add, sub"):
        SPACE.expression_of({"f.0": "maximum", "f.1": "relu", "f.2": "tanh"}, "f")


def test_a_schema_may_hold_fixed_operators_and_chosen_ones() -> None:
    space = SearchSpace("max( unary(x), tanh(unary(x)) )", unary=("relu", "elu", "gelu"))
    assert len(space) == 9
    assert space.schema == "max(unary(x),tanh(unary(x)))"
    assert str(space[5]) == "max(elu(x),tanh(gelu(x)))"
    assert Expression.parse("min(elu(x),tanh(gelu(x)))") not in space
    assert [space.index(expression) for expression in space] == list(range(9))


def test_n_ary_placeholders() -> None:
    space = SearchSpace("n_ary(unary(x),unary(x),unary(x))")
    assert len(space) == 78_732  # Appendix B's n-ary graphs: 4 * 27**3
    assert space.index(space[54_321]) == 54_321


def test_a_schema_may_hold_numbers() -> None:
    space = SearchSpace("mul(0.50, unary(x))", unary=["tanh", "relu"])
    assert space.schema == "mul(0.5,unary(x))"
    assert [str(each) for each in space] == ["mul(0.5,tanh(x))", "mul(0.5,relu(x))"]
    assert space.index("mul(.5,relu(x))") == 1
    assert Expression.parse("mul(0.25,relu(x))") not in space
    assert space == SearchSpace(space.schema, unary=["tanh", "relu"])


@pytest.mark.parametrize(
    ("schema", "message"),
    [
        ("relu(x)", "has no free place"),
        ("", "not a schema: the text is empty"),
        ("binary(unary(x))", "position 15 .*binary takes two arguments"),
        ("binry(unary(x),x)", "did you mean binary"),
        ("unary(x", "unbalanced parenthesis"),
    ],
)
def test_a_bad_schema_is_refused(schema: str, message: str) -> None:
    with pytest.raises(SpaceError, match=message):
        SearchSpace(schema)


def test_a_schema_that_is_no_text_is_refused() -> None:
    with pytest.raises(SpaceError, match="a schema is a text such as"):
        SearchSpace(3)  # type: ignore[arg-type] # the wrong type is the test


@pytest.mark.parametrize(
    ("unary", "message"),
    [
        ((), "needs one or more"),
        (("relu", "relu"), "different unary operators"),
        (("relu", "max"), r"got \['max'\] among them; known are zero, one"),
        (("nothing",), r"got \['nothing'\]"),
    ],
)
def test_bad_operators_are_refused(unary: tuple[str, ...], message: str) -> None:
    with pytest.raises(SpaceError, match=message):
        SearchSpace("unary(x)", unary=unary)


def test_equality_hash_and_pickle() -> None:
    again = pickle.loads(pickle.dumps(SPACE))
    assert again == SPACE
    assert hash(again) == hash(SPACE)
    assert SearchSpace("unary(x)") != SPACE
    assert repr(SPACE) == "SearchSpace('binary(unary(x),unary(x))', 5,103 graphs)"


def test_a_space_by_its_name_or_its_schema() -> None:
    assert SearchSpace.named(" four_node") == SearchSpace.four_node()
    assert SearchSpace.named("coatnet") == SearchSpace.coatnet()
    assert SearchSpace.named("unary(unary(x))") == SearchSpace("unary(unary(x))")
    with pytest.raises(SpaceError, match="unknown operator 'five_node'"):
        SearchSpace.named("five_node(x)")


def test_a_space_of_any_size_is_true() -> None:
    schema = "x"
    for _ in range(20):
        schema = f"unary({schema})"
    assert SearchSpace(schema).size == 27**20
    assert SearchSpace(schema)
