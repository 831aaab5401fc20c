"""What parameters are in words agrees with the graphs that they make."""

from aquasurf_optuna._parameter_legend import formulas, meanings
from aquasurf_optuna.expression import Expression
from aquasurf_optuna.families import PiecewiseLinearFamily
from aquasurf_optuna.space import SearchSpace


def test_meanings_of_all_kinds_of_places() -> None:
    space = SearchSpace(
        "max(unary(x),mul(constant,n_ary(x,unary(x),x)))", constants=(0.5, 2), n_ary=("sum_n",)
    )
    assert [(each.key, each.words) for each in meanings(space, "f")] == [
        ("f.0", "first argument of max, unary of x"),
        ("f.1", "first argument of mul, a number"),
        ("f.2", "second argument of mul, n-ary"),
        ("f.3", "second argument of f.2, unary of x"),
    ]
    assert meanings(space, "f")[1].allowed == "0.5, 2"
    assert list(formulas(space, "f").values()) == ["max(f.0(x), mul(f.1, f.2(x, f.3(x), x)))"]


def test_meanings_of_a_conditional_space() -> None:
    space = SearchSpace.four_node()
    known = {each.key: each for each in meanings(space, "f")}
    assert list(known) == list(space.distributions("f"))
    assert known["f.schema"].words == "which of 5 schemas the function has"
    assert known["f.1.3"].words == "in schema 2: argument of f.1.2, unary of x"
    schemas = space.distributions("f")["f.schema"].choices
    assert tuple(formulas(space, "f")) == schemas


def test_formulas_agree_with_the_graphs() -> None:
    space = SearchSpace.four_node()
    seen = set()
    for graph in space.sample(100, seed=0):
        params = space.params_of(graph, "f")
        filled = formulas(space, "f")[params["f.schema"]]
        for key, operator in params.items():
            filled = filled.replace(key, operator)
        assert Expression.parse(filled) == graph
        seen.add(params["f.schema"])
    assert len(seen) == 5


def test_meanings_of_a_piecewise_family() -> None:
    family = PiecewiseLinearFamily((-1.0, 0.5))
    assert [each.words for each in meanings(family, "f")] == [
        "slope below -1",
        "slope from -1 to 0.5",
        "slope above 0.5",
        "value at 0",
    ]
    assert meanings(family, "f")[0].allowed == "-2 to 2"
