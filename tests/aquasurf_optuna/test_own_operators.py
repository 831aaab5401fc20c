"""Operators that the user registers: what is taken, what is refused, and who else knows them."""

import dataclasses
import pickle
import threading
from collections.abc import Callable

import joblib
import numpy as np
import optuna
import pytest
import torch
from torch import Tensor, nn

from aquasurf_optuna import _shipping, operators
from aquasurf_optuna._operator_checks import agree, probe
from aquasurf_optuna._shipping import with_operators
from aquasurf_optuna.activation import Activation, ActivationFactory
from aquasurf_optuna.exceptions import AquaSurfError, ExpressionError, OperatorError
from aquasurf_optuna.expression import Expression
from aquasurf_optuna.features._child import Child
from aquasurf_optuna.features._isolated import Limits, Measurer
from aquasurf_optuna.features._precompute import PrecomputeOptions, precompute
from aquasurf_optuna.features.featurizer import FisherFeaturizer
from aquasurf_optuna.features.outputs import output_features, standard_inputs
from aquasurf_optuna.operators import (
    COATNET_UNARY_OPERATORS,
    N_ARY,
    OPERATORS,
    Operator,
    install_operators,
    register_operator,
    registered_operators,
)
from aquasurf_optuna.space import SearchSpace
from aquasurf_optuna.store import FeatureStore

pytestmark = pytest.mark.usefixtures("forgotten_operators")


def sine() -> Operator:
    return register_operator("sine", lambda x: torch.sin(x), sources={"torch": "torch.sin({0})"})


def mixture(a: Tensor, b: Tensor) -> Tensor:
    return 0.25 * a + 0.75 * b


def mean_of(*arguments: Tensor) -> Tensor:
    return sum(arguments[1:], arguments[0]) / len(arguments)


def test_an_own_operator_is_used_like_a_published_one() -> None:
    known = sine()
    register_operator("mixture", mixture, arity=2)
    register_operator("mean_of", mean_of, arity=N_ARY)
    expression = Expression.parse("mean_of(mixture(sine(x),x),2,sine(x))")
    assert str(expression) == "mean_of(mixture(sine(x),x),2,sine(x))"
    x = torch.linspace(-2, 2, 9, dtype=torch.float64)
    expected = (0.25 * x.sin() + 0.75 * x + 2 + x.sin()) / 3
    torch.testing.assert_close(expression(x), expected)
    torch.testing.assert_close(Activation(expression)(x), expected)
    outputs = output_features([Expression.parse("sine(x)")])[0]
    np.testing.assert_allclose(outputs, np.sin(standard_inputs().numpy()), rtol=1e-12)
    assert OPERATORS["sine"] is known
    assert [each.name for each in registered_operators()] == ["sine", "mixture", "mean_of"]
    assert "sine" not in COATNET_UNARY_OPERATORS


def test_a_space_may_choose_it() -> None:
    sine()
    space = SearchSpace("binary(sine(x),unary(x))", unary=["sine", "tanh"], binary=["add"])
    assert [str(each) for each in space] == ["add(sine(x),sine(x))", "add(sine(x),tanh(x))"]
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    study.optimize(lambda trial: float(space.suggest(trial, "f").depth), n_trials=2)
    assert [trial.value for trial in study.trials] == [2.0, 2.0]


def test_messages_know_it() -> None:
    sine()
    with pytest.raises(ExpressionError, match=r"did you mean sine.*known are x, .*sine; register_"):
        Expression.parse("sinee(x)")
    with pytest.raises(ExpressionError, match="sine takes one argument"):
        Expression.parse("sine(x,x)")


def test_its_data_are_read_only() -> None:
    operator = sine()
    assert dict(operator.sources) == {"torch": "torch.sin({0})"}
    assert dict(OPERATORS["relu"].sources) == {}
    with pytest.raises(TypeError, match="item assignment"):
        operator.sources["jax"] = "{0}"  # type: ignore[index] # that it is refused is the test
    with pytest.raises(TypeError, match="item assignment"):
        OPERATORS["other"] = operator  # type: ignore[index] # that it is refused is the test
    with pytest.raises(dataclasses.FrozenInstanceError, match="cannot assign"):
        operator.cost = 1  # type: ignore[misc] # that it is refused is the test


@pytest.mark.parametrize(
    ("name", "arity", "latex"),
    [
        ("my_sine", 1, r"\text{my\_sine}(x)"),
        ("pair", 2, r"\text{pair}(x, x)"),
        ("many", N_ARY, r"\text{many}(x, x, x)"),
    ],
)
def test_latex_is_an_application_by_default(name: str, arity: int, latex: str) -> None:
    register_operator(name, lambda *arguments: torch.sin(arguments[0]), arity=arity)
    children = (Expression("x"),) * (3 if arity == N_ARY else arity)
    assert Expression(name, children).latex() == latex


NO_NAMES = ("", "1st", "a b", "a-b", "_a", "sinus(", "é", None, 3)
TAKEN = ("x", "unary", "binary", "n_ary", "constant", "inf", "NaN", "relu", "add", "sum_n", "mish")


@pytest.mark.parametrize("name", [*NO_NAMES, *TAKEN])
def test_a_bad_name_is_refused(name: object) -> None:
    with pytest.raises(OperatorError, match="begin with an ASCII letter|choose another name"):
        register_operator(name, torch.sin)  # type: ignore[arg-type] # the wrong type is the test
    assert registered_operators() == ()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"arity": 3}, "arity must be 1, 2 or N_ARY"),
        ({"arity": True}, "arity must be 1, 2 or N_ARY"),
        ({"arity": 0}, "arity must be 1, 2 or N_ARY"),
        ({"cost": -1}, "cost must be a whole number from 0 on, got -1"),
        ({"cost": 1.5}, "cost must be a whole number"),
        ({"latex": "{1}"}, r"latex '\{1\}' has the field \{1\}; it takes \{0\} for"),
        ({"latex": "{}"}, r"has the field \{\}"),
        ({"latex": "{0.name}"}, r"has the field \{0.name\}"),
        ({"latex": "{0!r}"}, r"has the field \{0\}"),
        ({"latex": r"\frac{0"}, "cannot be read: .*other braces doubled"),
        ({"latex": 3}, "latex must be a text, got 3"),
        ({"sources": {"tensorflow": "{0}"}}, "sources has 'tensorflow'; it maps torch, numpy, jax"),
        ({"sources": {"torch": "{args}"}}, "the source for torch .* has the field {args}"),
        ({"function": None}, "function must take and return tensors, got None"),
    ],
)
def test_a_bad_argument_is_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(OperatorError, match=message):
        register_operator(**{"name": "own", "function": torch.sin, **options})  # type: ignore[arg-type]
    assert "own" not in OPERATORS


def in_place(x: Tensor) -> Tensor:
    return x.sin_()


def switching() -> Callable[[Tensor], Tensor]:
    calls: list[int] = []

    def function(x: Tensor) -> Tensor:
        calls.append(1)
        return x + len(calls)

    return function


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (in_place, "writes to its argument; work on a copy"),
        (lambda x: x * torch.rand_like(x), "gives other values the second time"),
        (switching(), "gives other values the second time"),
        (lambda x: x.sum(), r"returned shape \(\) .* return the arguments' shape"),
        (lambda x: x[None], "returned shape"),
        (lambda x: x.double(), "returned shape .*float64 for arguments .*float32"),
        (lambda x: x > 0, "torch.bool"),
        (lambda x: 0.0, "returned float; return a tensor"),
        (lambda x: x - x.mean(), "is not elementwise"),
        (lambda x: torch.softmax(x.flatten(), 0).reshape(x.shape), "is not elementwise"),
        (lambda x: x * torch.arange(x.numel(), dtype=x.dtype).reshape(x.shape), "not elementwise"),
        (lambda x: x.flip(0), "is not elementwise"),
        (lambda x: torch.sin(x.detach()), "cuts off the gradient; use torch operations"),
        (
            lambda x: torch.from_numpy(np.asarray(np.sin(x.numpy()))),
            "raised RuntimeError .*requires grad",
        ),
        (lambda x, y: x, "raised TypeError on 1 argument"),
        (lambda x: x @ x, "raised RuntimeError .*it must take any shape"),
    ],
)
def test_what_is_no_activation_function_is_refused(
    function: Callable[..., Tensor], message: str
) -> None:
    random_state = torch.get_rng_state()
    with pytest.raises(OperatorError, match=message) as caught:
        register_operator("own", function)
    assert isinstance(caught.value, AquaSurfError)
    assert "operator 'own'" in str(caught.value)
    assert "own" not in OPERATORS
    assert torch.equal(torch.get_rng_state(), random_state)


@pytest.mark.parametrize(
    "function",
    [
        lambda x: (x > 0).to(x.dtype),
        torch.log,
        lambda x: torch.where(x > 0, 1 / x, x),
        lambda x: x,
        lambda x: torch.full_like(x, 2.0),
    ],
    ids=["step", "log", "pole", "same", "constant"],
)
def test_unusual_functions_are_taken(function: Callable[..., Tensor]) -> None:
    assert register_operator("own", function).function is function


def test_the_same_again_is_the_operator_known() -> None:
    first = sine()
    again = sine()
    assert again is first
    assert registered_operators() == (first,)
    renewed = register_operator("sine", torch.sin, latex=r"\sin({0})", cost=2)
    assert renewed is OPERATORS["sine"]
    assert renewed.function is first.function
    assert Expression.parse("sine(x)").latex() == r"\sin(x)"


def test_another_function_of_the_same_name_is_refused() -> None:
    first = sine()
    for function, arity in ((torch.cos, 1), (lambda a, b: torch.sin(a), 2)):
        with pytest.raises(
            OperatorError, match="registered already, as a function of one argument"
        ):
            register_operator("sine", function, arity=arity)
    assert OPERATORS["sine"] is first


def test_the_comparison_of_two_functions_can_fail() -> None:
    right = probe("f", torch.log, (1,))
    assert agree(right, probe("f", lambda x: torch.log2(x) * np.log(2), (1,)))
    assert not agree(right, probe("f", lambda x: torch.log(x) * (1 + 1e-8), (1,)))
    assert not agree(right, probe("f", lambda x: torch.log(x).nan_to_num(), (1,)))


def test_an_operator_survives_pickling() -> None:
    operator = register_operator("own", torch.sin, sources={"torch": "torch.sin({0})"})
    assert pickle.loads(pickle.dumps(operator)) == operator


def test_an_activation_survives_pickling_here() -> None:
    sine()
    activation = pickle.loads(pickle.dumps(Activation("mul(2,sine(x))")))
    x = torch.linspace(-1, 1, 5)
    assert torch.equal(activation(x), 2 * x.sin())


def test_a_process_that_lacks_it_says_so() -> None:
    sine()
    expression = Expression.parse("max(x,sine(x))")
    things = (expression, Activation(expression), Activation.factory(expression))
    data = [pickle.dumps(thing) for thing in things]
    del operators._known["sine"]
    for each in data:
        with pytest.raises(
            ExpressionError,
            match="operator 'sine' is not known in this process, but was where this was pickled at "
            r"position 6 of 'max\(x,sine\(x\)\)': call register_operator\('sine', ...\) here first",
        ):
            pickle.loads(each)


def build(factory: ActivationFactory) -> nn.Module:
    return nn.Sequential(nn.Linear(3, 4), factory(), nn.Linear(4, 2))


def featurizer() -> FisherFeaturizer:
    generator = torch.Generator().manual_seed(0)
    return FisherFeaturizer(build, torch.randn(6, 3, generator=generator), task="own")


def values_at_one(text: str) -> float:
    return float(Expression.parse(text)(torch.ones((), dtype=torch.float64)))


def test_a_process_of_its_own_knows_it() -> None:
    factor = 3.0
    register_operator("triple", lambda x: factor * x)
    held = Expression.parse("triple(x)")
    # The function that is sent holds an expression itself, which is read there.
    with_held = Child(lambda text: values_at_one(text) + float(held(torch.ones(()))))
    try:
        assert with_held("add(triple(x),0.5)", timeout=60) == 6.5
        with pytest.raises(ExpressionError, match="did you mean triple"):
            with_held("trible(x)", timeout=60)
    finally:
        with_held.close()


@pytest.mark.slow
def test_what_isolates_measurements_knows_it() -> None:
    sine()
    here = featurizer()("sine(x)").vector
    with Measurer(featurizer(), Limits(timeout=120.0)) as measurer:
        there = measurer("sine(x)").vector
    assert here is not None
    assert there is not None
    np.testing.assert_allclose(here, there)


@pytest.mark.slow
def test_many_workers_know_it() -> None:
    sine()
    texts = ["sine(x)", "max(sine(x),x)", "tanh(x)"]
    alone, together = (featurizer().many(texts, n_jobs=n_jobs) for n_jobs in (1, 2))
    for one, other in zip(alone, together, strict=True):
        np.testing.assert_allclose(one.vector, other.vector)


@pytest.mark.slow
@pytest.mark.parametrize("timeout", [None, 120.0], ids=["joblib", "isolated"])
def test_precompute_knows_it(timeout: float | None, tmp_path: object) -> None:
    sine()
    texts = ["sine(x)", "mul(sine(x),x)", "tanh(x)"]
    store = FeatureStore(f"sqlite:///{tmp_path}/features.db")
    options = PrecomputeOptions(timeout=timeout, baselines=())
    summary = precompute(featurizer(), texts, store, n_jobs=2, progress=False, options=options)
    assert (summary.valid, summary.invalid) == (3, 0)
    assert set(store.known("own", ["sine(x)"])) == {"sine(x)"}


def test_nothing_is_wrapped_without_own_operators() -> None:
    assert with_operators(values_at_one) is values_at_one
    sine()
    assert joblib.delayed(with_operators(values_at_one))("x")[0]("x") == 1.0


def test_it_goes_along_when_the_work_is_sent_on() -> None:
    sine()
    sent = pickle.dumps(with_operators(values_at_one))
    sent_on = pickle.dumps(pickle.loads(sent))
    del operators._known["sine"]
    assert pickle.loads(sent_on)("sine(0)") == 0.0
    assert "sine" in OPERATORS


def test_one_that_cannot_be_sent_is_named() -> None:
    lock = threading.Lock()

    def function(x: Tensor) -> Tensor:
        with lock:
            return torch.sin(x)

    register_operator("locked", function)
    with pytest.raises(OperatorError, match="operator 'locked' cannot be sent .*lock"):
        pickle.dumps(with_operators(values_at_one))


def test_what_arrives_must_agree_with_what_is_here() -> None:
    sine()
    install_operators([Operator("sine", 1, torch.sin, "{0}")])
    with pytest.raises(OperatorError, match="operator 'sine' is registered already"):
        _shipping._arrived([pickle.dumps(Operator("sine", 1, torch.cos, "{0}"))], b"")
