from aquasurf_optuna._naming import STANDARD, display_name, names_of_equals
from aquasurf_optuna.expression import BASELINES, Expression


def test_the_standard_functions_have_names() -> None:
    names = [display_name(each) for each in STANDARD]
    assert names[8:] == ["ELiSH", "GELU", "HardSigmoid", "Leaky ReLU", "Mish"]
    assert STANDARD[:8] == BASELINES


def test_names_of_the_baselines() -> None:
    names = [display_name(each) for each in BASELINES]
    assert names == ["ELU", "ReLU", "SELU", "Sigmoid", "Softplus", "Softsign", "Swish", "Tanh"]
    assert display_name("relu(tanh(x))") == "relu(tanh(x))"
    assert display_name("erf(x)") == "erf(x)"
    assert display_name("x") == "x"


def test_equal_functions_are_named_whatever_their_graph() -> None:
    texts = [
        "max(identity(x),zero(x))",
        "mul(swish(x),one(x))",
        "elu(x)",
        "erf(x)",
        "div(x,zero(x))",
    ]
    parsed = [Expression.parse(text) for text in texts]
    found = names_of_equals([*parsed, None], BASELINES)
    assert found == ["ReLU", "Swish", "ELU", None, None, None]


def test_nearly_equal_functions_are_not_confused() -> None:
    # exp(x) - 1 agrees with expm1 to rounding; leakyrelu differs from relu by a hundredth.
    near, far = Expression.parse("sub(exp(x),one(x))"), Expression.parse("leakyrelu(x)")
    assert names_of_equals([near, far], ["expm1(x)", "relu(x)"]) == ["expm1(x)", None]


def test_nothing_to_name() -> None:
    assert names_of_equals([], BASELINES) == []
    assert names_of_equals([None], BASELINES) == [None]
    assert names_of_equals([Expression.parse("relu(x)")], []) == [None]
