import importlib.util
import math
import pickle
import warnings
from collections.abc import Sequence

import numpy as np
import optuna
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.distributions import FloatDistribution
from torch import nn

from aquasurf_optuna.activation import Activation, ActivationFactory
from aquasurf_optuna.exceptions import ExpressionError, SamplerError, SpaceError
from aquasurf_optuna.expression import Expression
from aquasurf_optuna.families import ContinuousFamily, PiecewiseLinearFamily, RationalFamily
from aquasurf_optuna.features.featurizer import FisherFeaturizer
from aquasurf_optuna.features.outputs import output_features, standard_inputs
from aquasurf_optuna.sampler import AquaSurfSampler
from aquasurf_optuna.space import SearchSpace
from tests.oracles.family_oracles import piecewise_linear, rational

RATIONAL = RationalFamily(2, 1)
LINEAR = PiecewiseLinearFamily((-1, 0, 2))
FAMILIES = (RationalFamily(), RATIONAL, PiecewiseLinearFamily(), LINEAR)
X = np.linspace(-5, 5, 41)


def values(expression: Expression) -> np.ndarray:
    return expression(torch.from_numpy(X)).numpy()


def test_a_rational_member_is_written_in_horner_form() -> None:
    params = {"f.a0": 0.25, "f.a1": 0.5, "f.a2": -1.0, "f.b1": 0.75}
    expression = RATIONAL.expression_of(params, "f")
    text = "div(add(0.25,mul(x,add(0.5,mul(x,-1)))),add(1,abs(mul(x,0.75))))"
    assert str(expression) == text
    assert RATIONAL.params_of(text, "f") == params


def test_a_piecewise_linear_member_leads_away_from_zero() -> None:
    params = {
        "f.slope0": 0.5,
        "f.slope1": 0.25,
        "f.slope2": 1.0,
        "f.slope3": 2.0,
        "f.offset": 0.125,
    }
    expression = LINEAR.expression_of(params, "f")
    text = "sum_n(0.125,mul(0.25,x),mul(-0.25,relu(sub(-1,x))),mul(0.75,relu(x)),"
    assert str(expression) == f"{text}mul(1,relu(sub(x,2))))"
    assert LINEAR.params_of(expression, "f") == params
    assert expression(torch.zeros(1)).item() == 0.125


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 8), st.integers(1, 8), st.integers(0, 2**32 - 1))
def test_rational_values_agree_with_numpys_polynomials(m: int, n: int, seed: int) -> None:
    family = RationalFamily(m, n, bound=3)
    (expression,) = family.sample(1, seed=seed)
    coefficients = list(family.params_of(expression, "f").values())
    expected = rational(coefficients[: m + 1], coefficients[m + 1 :], X)
    np.testing.assert_allclose(values(expression), expected, rtol=1e-9, atol=1e-9)


@settings(deadline=None, max_examples=40)
@given(st.sets(st.integers(-40, 40), min_size=1, max_size=7), st.integers(0, 2**32 - 1))
def test_piecewise_linear_values_agree_with_interpolation(tenths: set[int], seed: int) -> None:
    knots = [each / 10 for each in sorted(tenths)]
    family = PiecewiseLinearFamily(knots)
    (expression,) = family.sample(1, seed=seed)
    *slopes, offset = family.params_of(expression, "f").values()
    np.testing.assert_allclose(
        values(expression), piecewise_linear(knots, slopes, offset, X), rtol=1e-9, atol=1e-9
    )
    assert expression(torch.zeros((), dtype=torch.float64)).item() == offset


def test_the_oracles_can_fail() -> None:
    right = rational([0.5, 1.0], [0.25], X)
    np.testing.assert_allclose(right, (0.5 + X) / (1 + np.abs(0.25 * X)))
    assert not np.allclose(right, rational([0.5, 1.0], [0.2501], X))
    relu = piecewise_linear([0.0], [0.0, 1.0], 0.0, X)
    np.testing.assert_allclose(relu, np.maximum(X, 0), atol=1e-12)
    assert not np.allclose(relu, piecewise_linear([0.0], [0.001, 1.0], 0.0, X))
    assert not np.allclose(relu, piecewise_linear([0.001], [0.0, 1.0], 0.0, X))


@pytest.mark.parametrize("family", FAMILIES, ids=repr)
def test_params_and_expression_are_inverse(family: ContinuousFamily) -> None:
    for expression in family.sample(20, seed=1):
        params = family.params_of(str(expression), "act")
        again = family.expression_of({**params, "lr": 0.1}, "act")
        assert family.params_of(again, "act") == pytest.approx(params, rel=1e-12)
        np.testing.assert_allclose(values(again), values(expression), rtol=1e-12, atol=1e-12)


def test_parameters_at_their_bounds_stay_within() -> None:
    family = PiecewiseLinearFamily((-1, 1), slope_bound=0.3)
    params = {"f.slope0": 0.3, "f.slope1": 0.1, "f.slope2": 0.3, "f.offset": -1.0}
    again = family.params_of(family.expression_of(params, "f"), "f")
    assert again == pytest.approx(params, rel=1e-12)
    assert max(again.values()) <= 0.3


def test_distributions_name_each_parameter() -> None:
    assert RationalFamily(2, 1, bound=3).distributions("f") == {
        "f.a0": FloatDistribution(-3, 3),
        "f.a1": FloatDistribution(-3, 3),
        "f.a2": FloatDistribution(-3, 3),
        "f.b1": FloatDistribution(-3, 3),
    }
    assert PiecewiseLinearFamily([1], offset_bound=0.5).distributions("f") == {
        "f.slope0": FloatDistribution(-2, 2),
        "f.slope1": FloatDistribution(-2, 2),
        "f.offset": FloatDistribution(-0.5, 0.5),
    }
    assert len(RationalFamily().distributions("f")) == 10
    assert len(PiecewiseLinearFamily().distributions("f")) == 7


@pytest.mark.parametrize("family", FAMILIES, ids=repr)
def test_samples_are_seeded_and_within_the_family(family: ContinuousFamily) -> None:
    drawn = family.sample(5, seed=3)
    assert drawn == family.sample(5, seed=3)
    assert len({*drawn, *family.sample(5, seed=4)}) == 10
    for n in (0, True, 1.5):
        with pytest.raises(ValueError, match="n must be 1 function or more"):
            family.sample(n, seed=0)  # type: ignore[arg-type] # the wrong type is the test


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({}, r"parameter 'f.a0' is missing among \['lr'\]; was the family suggested under .* 'f'"),
        ({"f.a0": 1.5}, "parameter 'f.a0' is 1.5; RationalFamily.* numbers from -1 to 1"),
        ({"f.a0": math.nan}, "parameter 'f.a0' is nan"),
        ({"f.a0": "0.5"}, "parameter 'f.a0' is '0.5'"),
        ({"f.a0": True}, "parameter 'f.a0' is True"),
    ],
)
def test_bad_parameters_are_refused(params: dict[str, object], message: str) -> None:
    with pytest.raises(SpaceError, match=message):
        RATIONAL.expression_of({"lr": 0.1, **params}, "f")


@pytest.mark.parametrize(
    ("family", "text"),
    [
        (RATIONAL, "relu(x)"),
        (RATIONAL, "div(add(0.25,mul(x,add(0.5,mul(x,x)))),add(1,abs(mul(x,0.75))))"),
        (RATIONAL, "div(add(0.25,mul(x,add(0.5,mul(x,-1)))),add(2,abs(mul(x,0.75))))"),
        (RATIONAL, "div(add(0.25,mul(x,0.5)),add(1,abs(mul(x,0.75))))"),
        (LINEAR, "sum_n(0,mul(0,x),mul(0,relu(sub(-1,x))),mul(0,relu(x)))"),
        (LINEAR, "sum_n(0,mul(0,x),mul(0,relu(sub(-1,x))),mul(0,relu(x)),mul(0,relu(sub(x,3))))"),
    ],
)
def test_other_forms_are_refused(family: ContinuousFamily, text: str) -> None:
    with pytest.raises(SpaceError, match=r"is no member of .*members are written like (div|sum_n)"):
        family.params_of(text, "f")


def test_members_beyond_the_bounds_are_refused() -> None:
    (wide,) = RationalFamily(2, 1, bound=100).sample(1, seed=0)
    with pytest.raises(SpaceError, match="has 'f.a0' = .*allows there numbers from -1 to 1"):
        RATIONAL.params_of(wide, "f")
    with pytest.raises(ExpressionError, match="unknown operator"):
        RATIONAL.params_of("rellu(x)", "f")


@pytest.mark.parametrize(
    "options",
    [
        {"numerator_degree": 0},
        {"numerator_degree": 2.0},
        {"denominator_degree": True},
        {"denominator_degree": 31},
        {"bound": 0},
        {"bound": math.inf},
        {"bound": "1"},
    ],
)
def test_bad_rational_families_are_refused(options: dict[str, object]) -> None:
    with pytest.raises(SpaceError, match=f"{next(iter(options))} must be a .*got"):
        RationalFamily(**options)  # type: ignore[arg-type] # the wrong type is the test


@pytest.mark.parametrize(
    "options",
    [
        {"knots": ()},
        {"knots": (1, 0)},
        {"knots": (0, 0)},
        {"knots": (0, math.nan)},
        {"knots": (0, math.inf)},
        {"knots": "12"},
        {"knots": 3},
        {"knots": range(65)},
        {"slope_bound": -1},
        {"offset_bound": math.nan},
    ],
)
def test_bad_piecewise_families_are_refused(options: dict[str, object]) -> None:
    with pytest.raises(SpaceError, match=f"{next(iter(options))} must be .*got"):
        PiecewiseLinearFamily(**options)  # type: ignore[arg-type] # the wrong type is the test


def test_the_largest_families_fit_into_an_expression() -> None:
    for family in (RationalFamily(30, 30), PiecewiseLinearFamily(range(64))):
        (member,) = family.sample(1, seed=0)
        assert Expression.parse(str(member)) == member


def test_equality_hash_repr_and_pickle() -> None:
    assert RationalFamily() == RationalFamily(5, 4, bound=1)
    assert hash(RationalFamily()) == hash(RationalFamily(5, 4, bound=1))
    assert RationalFamily() != RationalFamily(bound=2)
    assert PiecewiseLinearFamily([-1, 0, 2]) == PiecewiseLinearFamily(np.array([-1.0, 0.0, 2.0]))
    assert PiecewiseLinearFamily() != RationalFamily()
    assert repr(RATIONAL) == "RationalFamily(numerator_degree=2, denominator_degree=1, bound=1.0)"
    for family in FAMILIES:
        assert eval(repr(family)) == family  # our own text
        assert pickle.loads(pickle.dumps(family)) == family


def samplers() -> Sequence[object]:
    missing = importlib.util.find_spec("cmaes") is None
    return (
        pytest.param("RandomSampler", id="random"),
        pytest.param("TPESampler", id="tpe"),
        pytest.param("GPSampler", id="gp"),
        pytest.param(
            "CmaEsSampler",
            id="cmaes",
            marks=pytest.mark.skipif(missing, reason="needs the package cmaes"),
        ),
    )


@pytest.mark.parametrize("name", samplers())
@pytest.mark.parametrize("family", [RATIONAL, LINEAR], ids=("rational", "linear"))
def test_samplers_of_floats_suggest_members(family: ContinuousFamily, name: str) -> None:
    target = np.tanh(X)

    def distance(trial: optuna.trial.Trial) -> float:
        return float(np.mean((values(family.suggest(trial, "f")) - target) ** 2))

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        sampler = getattr(optuna.samplers, name)(seed=0)
    study = optuna.create_study(sampler=sampler)
    study.optimize(distance, n_trials=14)
    found = family.expression_of(study.best_params, "f")
    assert float(np.mean((values(found) - target) ** 2)) == pytest.approx(study.best_value)
    assert len({trial.value for trial in study.trials}) > 7


def test_members_can_be_enqueued_and_fixed() -> None:
    (member,) = LINEAR.sample(1, seed=0)
    params = LINEAR.params_of(member, "f")
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    study.enqueue_trial(params)
    study.optimize(lambda trial: float(LINEAR.suggest(trial, "f").depth), n_trials=1)
    assert study.best_params == params
    again = LINEAR.suggest(optuna.trial.FixedTrial(params), "f")
    np.testing.assert_allclose(values(again), values(member), rtol=1e-12, atol=1e-12)


def build(factory: ActivationFactory) -> nn.Module:
    return nn.Sequential(nn.Linear(3, 4), factory(), nn.Linear(4, 2))


@pytest.mark.parametrize("family", FAMILIES, ids=repr)
def test_members_have_features(family: ContinuousFamily) -> None:
    members = family.sample(2, seed=0)
    outputs = output_features(members)
    x = standard_inputs()
    for member, row in zip(members, outputs, strict=True):
        np.testing.assert_allclose(row, member(x).numpy(), rtol=1e-12)
    inputs = torch.randn(6, 3, generator=torch.Generator().manual_seed(0))
    features = FisherFeaturizer(build, inputs, task="family").many(members)
    vectors = [feature.vector for feature in features]
    assert all(vector is not None and np.isfinite(vector).all() for vector in vectors)
    assert not np.array_equal(vectors[0], vectors[1])


def test_members_are_modules_and_formulas() -> None:
    text = "div(add(0.25,mul(x,add(0.5,mul(x,-1)))),add(1,abs(mul(x,0.75))))"
    x = torch.linspace(-2, 2, 9, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(Activation(text), (x[x != 0],))
    assert (
        Expression.parse(text).latex()
        == r"(0.25 + x \cdot (0.5 + x \cdot (-1)))/(1 + |x \cdot 0.75|)"
    )


def test_the_sampler_of_graphs_says_what_samples_a_family() -> None:
    for space in (RATIONAL, {"activation": RATIONAL}):
        with pytest.raises(SamplerError, match=r"continuous family.*suggest\(trial.*TPESampler"):
            AquaSurfSampler(space)  # type: ignore[arg-type] # the wrong type is the test


def test_a_family_beside_a_space_goes_to_the_base_sampler() -> None:
    space = SearchSpace("unary(x)", unary=["relu", "tanh", "swish"])
    study = optuna.create_study(sampler=AquaSurfSampler({"graph": space}, seed=0))

    def objective(trial: optuna.trial.Trial) -> float:
        return float(space.suggest(trial, "graph").depth + RATIONAL.suggest(trial, "f").depth)

    study.optimize(objective, n_trials=4)
    assert {"graph.0", "f.a0", "f.b1"} < set(study.trials[-1].params)
