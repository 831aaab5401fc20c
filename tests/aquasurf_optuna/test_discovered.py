"""The paper's tables: structure, formulas, claims. The numbers themselves have no second source."""

import math
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import special

from aquasurf_optuna import SearchSpace, discovered
from aquasurf_optuna._naming import STANDARD
from aquasurf_optuna.cli import main
from aquasurf_optuna.discovered import DISCOVERED, EXPERIMENTS, best, find, ranking
from aquasurf_optuna.exceptions import AquaSurfError, ExpressionError
from aquasurf_optuna.expression import Expression
from aquasurf_optuna.features.outputs import output_features, standard_inputs

Array = NDArray[np.float64]


def elu(x: Array) -> Array:
    return np.where(x > 0, x, np.expm1(np.minimum(x, 0)))


def selu(x: Array) -> Array:
    return 1.0507009873554805 * np.where(x > 0, x, 1.6732632423543772 * np.expm1(np.minimum(x, 0)))


def hard_sigmoid(x: Array) -> Array:
    return np.clip(0.2 * x + 0.5, 0, 1)


def softplus(x: Array) -> Array:
    return np.logaddexp(0, x)


def swish(x: Array) -> Array:
    return x * special.expit(x)


FORMULAS: dict[str, Callable[[Array], Array]] = {
    "HardSigmoid(HardSigmoid(x)) * ELU(x)": lambda x: hard_sigmoid(hard_sigmoid(x)) * elu(x),
    "sigmoid(Softsign(x)) * ELU(x)": lambda x: special.expit(x / (1 + np.abs(x))) * elu(x),
    "Swish(x) / SELU(1)": lambda x: swish(x) / 1.0507009873554805,
    "Swish(-2x)": lambda x: swish(-2 * x),
    "SELU(sinh(e^arctan(x) - 1))": lambda x: selu(np.sinh(np.exp(np.arctan(x)) - 1)),
    "x * erfc(ELU(x))": lambda x: x * special.erfc(elu(x)),
    "-x * sigmoid(x) * HardSigmoid(x)": lambda x: -x * special.expit(x) * hard_sigmoid(x),
    "ELU(Swish(-x))": lambda x: elu(swish(-x)),
    "Swish(x) * erfc(bessel_i0e(x))": lambda x: swish(x) * special.erfc(special.i0e(x)),
    "erfc(Softplus(x))^2": lambda x: special.erfc(softplus(x)) ** 2,
    "min(Softplus(x)^2, -x)": lambda x: np.minimum(softplus(x) ** 2, -x),
    "arcsinh(ELU(Swish(x)))": lambda x: np.arcsinh(elu(swish(x))),
    "ELU": elu,
    "ReLU": lambda x: np.maximum(x, 0),
    "SELU": selu,
    "sigmoid": special.expit,
    "Softplus": softplus,
    "Softsign": lambda x: x / (1 + np.abs(x)),
    "Swish": swish,
    "tanh": np.tanh,
    "ELiSH": lambda x: np.where(x >= 0, x, np.exp(x) - 1) * special.expit(x),
    "GELU": lambda x: x * special.ndtr(x),
    "HardSigmoid": hard_sigmoid,
    "Leaky ReLU": lambda x: np.where(x > 0, x, 0.01 * x),
    "Mish": lambda x: x * np.tanh(softplus(x)),
}


def test_the_library_is_whole() -> None:
    assert len(DISCOVERED) == 25
    assert len({each.name for each in DISCOVERED}) == len({e.expression for e in DISCOVERED}) == 25
    assert [each.is_baseline for each in DISCOVERED] == [False] * 12 + [True] * 13
    assert {each.expression for each in DISCOVERED if each.is_baseline} == set(STANDARD)
    assert set(FORMULAS) == {each.name for each in DISCOVERED}
    assert [len(ranking(*experiment)) for experiment in EXPERIMENTS] == [11, 11, 11, 10, 16]
    for function in DISCOVERED:
        assert function.results
        for result in function.results:
            assert 0 < result.accuracy < 1
            # As printed: four decimals.
            assert round(result.accuracy, 4) == result.accuracy
            assert function.result(result.network, result.dataset) is result


def test_tables_and_metrics() -> None:
    kinds = {
        (result.network, result.dataset): (result.table, result.metric)
        for function in DISCOVERED
        for result in function.results
    }
    assert set(kinds) == set(EXPERIMENTS)
    assert kinds == {
        ("All-CNN-C", "CIFAR-100"): (1, "median test accuracy of three runs"),
        ("ResNet-56", "CIFAR-100"): (1, "median test accuracy of three runs"),
        ("MobileViTv2-0.5", "ImageNet"): (1, "validation accuracy of a single run"),
        ("ResNet-50", "ImageNet"): (2, "median top-1 accuracy of three runs"),
        ("CoAtNet", "Imagenette"): (3, "validation accuracy"),
    }


@pytest.mark.parametrize("function", DISCOVERED, ids=lambda function: function.name)
def test_the_graph_computes_the_printed_formula(function: discovered.DiscoveredFunction) -> None:
    [values] = output_features([function.expression])
    expected = FORMULAS[function.name](standard_inputs().numpy())
    np.testing.assert_allclose(values, expected, rtol=1e-9, atol=1e-15)


def test_another_formula_is_noticed() -> None:
    rows = output_features([function.expression for function in DISCOVERED])
    inputs = standard_inputs().numpy()
    for row, function in zip(rows, DISCOVERED, strict=True):
        others = [FORMULAS[name](inputs) for name in FORMULAS if name != function.name]
        assert not any(np.allclose(row, other, rtol=1e-6, atol=0) for other in others)


@pytest.mark.parametrize("function", DISCOVERED, ids=lambda function: function.name)
def test_each_is_found(function: discovered.DiscoveredFunction) -> None:
    assert find(function.expression) is function
    assert find(str(function.expression)) is function
    assert find(f"identity({function.expression})") is function
    assert Expression.parse(str(function.expression)) == function.expression


def test_others_are_not_found() -> None:
    assert find("swish(mul(-2,x))") is find("swish(sub(negative(x),identity(x)))")
    for text in ("swish(mul(-2.001,x))", "exp(x)", "negative(relu(x))", "div(x,zero(x))"):
        assert find(text) is None
    with pytest.raises(ExpressionError, match="unknown operator 'rule'"):
        find("rule(x)")


def test_each_lies_in_the_space_where_it_was_found() -> None:
    spaces = {1: SearchSpace.four_node(), 3: SearchSpace.coatnet()}
    for function in DISCOVERED[:12]:
        space = spaces[function.results[0].table]
        assert function.expression in space
        assert space[space.index(function.expression)] == function.expression


def test_formulas_are_the_papers() -> None:
    other = {each.name for each in DISCOVERED if each.expression.latex() != each.latex}
    # One graph of the space says -2x as -x - x.
    assert other == {"Swish(-2x)"}
    assert Expression.parse("swish(mul(-2,x))").latex() == r"\text{Swish}(-2x)"


def test_what_the_paper_claims_of_its_tables() -> None:
    for network, dataset in EXPERIMENTS:
        rows = ranking(network, dataset)
        scores = [result.accuracy for _, result in rows]
        assert scores == sorted(scores, reverse=True)
        # "outperform all baselines in every case" (Tables 1 and 3), "transfer" (Table 2)
        assert best(network, dataset) is rows[0][0]
        assert not rows[0][0].is_baseline
        assert scores[0] > max(result.accuracy for each, result in rows if each.is_baseline)

    def above_baselines(network: str, dataset: str) -> int:
        return [each.is_baseline for each, _ in ranking(network, dataset)].index(True)

    # How many discovered functions come before the best baseline: "eight of the nine" in Table 2.
    assert [above_baselines(*each) for each in EXPERIMENTS] == [3, 3, 2, 8, 2]
    assert best("CoAtNet", "Imagenette").name == "erfc(Softplus(x))^2"
    odd = find("elu(x)")
    assert odd is not None
    assert math.isclose(odd.results[0].accuracy, 0.6312)  # as printed


def test_an_experiment_that_the_paper_does_not_have() -> None:
    with pytest.raises(AquaSurfError, match=r"no results for 'VGG' on 'CIFAR-100'; it has .*'CoAt"):
        best("VGG", "CIFAR-100")
    assert DISCOVERED[0].result("VGG", "CIFAR-100") is None


def test_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["discovered"]) == 0
    *blocks, source = capsys.readouterr().out.rstrip("\n").split("\n\n")
    assert "arXiv:2301.05785" in source
    assert len(blocks) == len(EXPERIMENTS)
    heading, first, *_ = blocks[0].splitlines()
    assert heading == "All-CNN-C on CIFAR-100: median test accuracy of three runs (Table 1)"
    assert (
        first.split()
        == "0.6990 HardSigmoid(HardSigmoid(x)) * ELU(x) {}".format(
            "mul(hard_sigmoid(hard_sigmoid(x)),elu(x))"
        ).split()
    )
    for block, experiment in zip(blocks, EXPERIMENTS, strict=True):
        rows = block.splitlines()[1:]
        for row, (function, result) in zip(rows, ranking(*experiment), strict=True):
            assert row.startswith(f"  {result.accuracy:.4f}  {function.name}")
            assert row.endswith(f"  {function.expression}")
            assert ("(baseline)" in row) == function.is_baseline
        assert len({row.rindex("  ") for row in rows}) == 1
        assert max(map(len, rows)) <= 100
