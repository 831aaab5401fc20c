r"""The functions that the paper found, and its baselines, with the accuracies that it printed.

Source: Tables 1, 2 and 3 of Garrett Bingham and Risto Miikkulainen, "Efficient Activation Function
Optimization through Surrogate Modeling", Advances in Neural Information Processing Systems 36
(NeurIPS 2023), arXiv:2301.05785.

The numbers are the printed ones, odd ones too: All-CNN-C with ELU has 0.6312 in Table 1, far below
ReLU, and 0.0100 is chance on CIFAR-100, 0.1000 on Imagenette. They are the authors' measurements,
not this project's.

Each discovered function stands here as a graph of the space in which it was found: the four-node
space for Table 1, that of the CoAtNet experiment for Table 3. Formula and graph may look different:
Swish(-2x) is found as `swish(sub(negative(x),identity(x)))`.
"""

from __future__ import annotations

import dataclasses
import functools

import numpy as np

from aquasurf_optuna.activation import as_expression
from aquasurf_optuna.equality import linked
from aquasurf_optuna.exceptions import AquaSurfError
from aquasurf_optuna.expression import Expression
from aquasurf_optuna.features.outputs import output_features


@dataclasses.dataclass(frozen=True)
class PublishedResult:
    """One number of the paper.

    Attributes:
        network: For example `"ResNet-56"`.
        dataset: For example `"CIFAR-100"`.
        accuracy: From 0 to 1; the paper prints four decimals.
        table: The number of the paper's table.
        metric: What was measured, in the words of the table's caption.
    """

    network: str
    dataset: str
    accuracy: float
    table: int
    metric: str


@dataclasses.dataclass(frozen=True)
class DiscoveredFunction:
    """One function of the paper's tables.

    Attributes:
        name: Its formula as plain text, or the name of a baseline.
        expression: Its graph.
        latex: Its formula as the paper prints it.
        results: Its numbers, by table.
        is_baseline: Whether it was known before.
    """

    name: str
    expression: Expression
    latex: str
    results: tuple[PublishedResult, ...]
    is_baseline: bool

    def result(self, network: str, dataset: str) -> PublishedResult | None:
        """Return the number for a network on a data set, or None if the paper has none."""
        for result in self.results:
            if (result.network, result.dataset) == (network, dataset):
                return result
        return None


_FOUND = {
    "HardSigmoid(HardSigmoid(x)) * ELU(x)": (
        "mul(hard_sigmoid(hard_sigmoid(x)),elu(x))",
        r"\text{HardSigmoid}(\text{HardSigmoid}(x)) \cdot \text{ELU}(x)",
    ),
    "sigmoid(Softsign(x)) * ELU(x)": (
        "mul(sigmoid(softsign(x)),elu(x))",
        r"\sigma(\text{Softsign}(x)) \cdot \text{ELU}(x)",
    ),
    "Swish(x) / SELU(1)": (
        "div(swish(x),selu(one(x)))",
        r"\text{Swish}(x)/\text{SELU}(1)",
    ),
    "Swish(-2x)": (
        "swish(sub(negative(x),identity(x)))",
        r"\text{Swish}(-2x)",
    ),
    "SELU(sinh(e^arctan(x) - 1))": (
        "selu(sinh(expm1(arctan(x))))",
        r"\text{SELU}(\sinh(e^{\arctan(x)} - 1))",
    ),
    "x * erfc(ELU(x))": (
        "mul(identity(x),erfc(elu(x)))",
        r"x \cdot \text{erfc}(\text{ELU}(x))",
    ),
    "-x * sigmoid(x) * HardSigmoid(x)": (
        "prod_n(negative(x),sigmoid(x),hard_sigmoid(x))",
        r"-x \cdot \sigma(x) \cdot \text{HardSigmoid}(x)",
    ),
    "ELU(Swish(-x))": (
        "elu(swish(negative(identity(x))))",
        r"\text{ELU}(\text{Swish}(-x))",
    ),
    "Swish(x) * erfc(bessel_i0e(x))": (
        "mul(swish(x),erfc(bessel_i0e(x)))",
        r"\text{Swish}(x) \cdot \text{erfc}(\text{bessel\_i0e}(x))",
    ),
    "erfc(Softplus(x))^2": (
        "square(erfc(softplus(x)))",
        r"\text{erfc}(\text{Softplus}(x))^2",
    ),
    "min(Softplus(x)^2, -x)": (
        "min(square(softplus(x)),negative(x))",
        r"\min\{\text{Softplus}(x)^2, -x\}",
    ),
    "arcsinh(ELU(Swish(x)))": (
        "arcsinh(elu(swish(x)))",
        r"\text{arcsinh}(\text{ELU}(\text{Swish}(x)))",
    ),
}
"""Name to graph and formula."""

_BASELINES = {
    "ELU": "elu(x)",
    "ReLU": "relu(x)",
    "SELU": "selu(x)",
    "sigmoid": "sigmoid(x)",
    "Softplus": "softplus(x)",
    "Softsign": "softsign(x)",
    "Swish": "swish(x)",
    "tanh": "tanh(x)",
    "ELiSH": "elish(x)",
    "GELU": "gelu(x)",
    "HardSigmoid": "hard_sigmoid(x)",
    "Leaky ReLU": "leakyrelu(x)",
    "Mish": "mish(x)",
}

_MEDIAN = "median test accuracy of three runs"

_COLUMNS: dict[tuple[str, str, int, str], dict[str, float]] = {
    ("All-CNN-C", "CIFAR-100", 1, _MEDIAN): {
        "HardSigmoid(HardSigmoid(x)) * ELU(x)": 0.6990,
        "sigmoid(Softsign(x)) * ELU(x)": 0.6950,
        "Swish(x) / SELU(1)": 0.6931,
        "ELU": 0.6312,
        "ReLU": 0.6897,
        "SELU": 0.0100,
        "sigmoid": 0.0100,
        "Softplus": 0.6563,
        "Softsign": 0.2570,
        "Swish": 0.6913,
        "tanh": 0.3757,
    },
    ("ResNet-56", "CIFAR-100", 1, _MEDIAN): {
        "Swish(-2x)": 0.7469,
        "SELU(sinh(e^arctan(x) - 1))": 0.7458,
        "x * erfc(ELU(x))": 0.7419,
        "ELU": 0.7411,
        "ReLU": 0.7348,
        "SELU": 0.6967,
        "sigmoid": 0.5766,
        "Softplus": 0.7397,
        "Softsign": 0.6624,
        "Swish": 0.7401,
        "tanh": 0.6754,
    },
    ("MobileViTv2-0.5", "ImageNet", 1, "validation accuracy of a single run"): {
        "-x * sigmoid(x) * HardSigmoid(x)": 0.6396,
        "ELU(Swish(-x))": 0.6394,
        "Swish(x) * erfc(bessel_i0e(x))": 0.6336,
        "ELU": 0.6233,
        "ReLU": 0.6139,
        "SELU": 0.6096,
        "sigmoid": 0.5032,
        "Softplus": 0.5853,
        "Softsign": 0.5710,
        "Swish": 0.6383,
        "tanh": 0.6098,
    },
    ("ResNet-50", "ImageNet", 2, "median top-1 accuracy of three runs"): {
        "-x * sigmoid(x) * HardSigmoid(x)": 0.7776,
        "Swish(x) / SELU(1)": 0.7771,
        "Swish(x) * erfc(bessel_i0e(x))": 0.7755,
        "sigmoid(Softsign(x)) * ELU(x)": 0.7734,
        "SELU(sinh(e^arctan(x) - 1))": 0.7719,
        "HardSigmoid(HardSigmoid(x)) * ELU(x)": 0.7718,
        "ELU(Swish(-x))": 0.7679,
        "Swish(-2x)": 0.7664,
        "x * erfc(ELU(x))": 0.7635,
        "ReLU": 0.7660,
    },
    ("CoAtNet", "Imagenette", 3, "validation accuracy"): {
        "erfc(Softplus(x))^2": 0.8907,
        "min(Softplus(x)^2, -x)": 0.8861,
        "arcsinh(ELU(Swish(x)))": 0.8828,
        "ELiSH": 0.1000,
        "ELU": 0.8629,
        "GELU": 0.8841,
        "HardSigmoid": 0.8487,
        "Leaky ReLU": 0.8815,
        "Mish": 0.8762,
        "ReLU": 0.8772,
        "SELU": 0.8194,
        "sigmoid": 0.8586,
        "Softplus": 0.8678,
        "Softsign": 0.8530,
        "Swish": 0.8736,
        "tanh": 0.8415,
    },
}
"""Network, data set, table and metric to the column's numbers, in the order of the paper."""


def _results_of(name: str) -> tuple[PublishedResult, ...]:
    return tuple(
        PublishedResult(network, dataset, column[name], table, metric)
        for (network, dataset, table, metric), column in _COLUMNS.items()
        if name in column
    )


def _library() -> tuple[DiscoveredFunction, ...]:
    found = [
        DiscoveredFunction(name, Expression.parse(text), latex, _results_of(name), False)
        for name, (text, latex) in _FOUND.items()
    ]
    parsed = {name: Expression.parse(text) for name, text in _BASELINES.items()}
    known = [
        DiscoveredFunction(name, expression, expression.latex(), _results_of(name), True)
        for name, expression in parsed.items()
    ]
    return (*found, *known)


DISCOVERED: tuple[DiscoveredFunction, ...] = _library()
"""The twelve functions that the paper found, by table and rank, then its thirteen baselines."""

EXPERIMENTS: tuple[tuple[str, str], ...] = tuple(column[:2] for column in _COLUMNS)
"""Network and data set of each column of the tables."""


def find(expression: str | Expression) -> DiscoveredFunction | None:
    """Look a function up, by the graph that it has here or any other with the same values.

    Args:
        expression: As text or parsed.

    Returns:
        The function of the tables that equals it on the 1,000 fixed inputs, or None.

    Raises:
        ExpressionError: If a text does not name a function.
    """
    [values] = output_features([as_expression(expression)])
    for function, published in zip(DISCOVERED, _outputs(), strict=True):
        if linked(values, published):
            return function
    return None


def ranking(network: str, dataset: str) -> list[tuple[DiscoveredFunction, PublishedResult]]:
    """Return the functions with a published number for a network, the best first.

    Raises:
        AquaSurfError: If the paper has no such experiment; it names those that there are.
    """
    scores = [
        (function, result)
        for function in DISCOVERED
        if (result := function.result(network, dataset)) is not None
    ]
    if not scores:
        known = "; ".join(f"{one!r}, {other!r}" for one, other in EXPERIMENTS)
        raise AquaSurfError(
            f"the paper has no results for {network!r} on {dataset!r}; it has those for {known}"
        )
    return sorted(scores, key=lambda score: -score[1].accuracy)


def best(network: str, dataset: str) -> DiscoveredFunction:
    """Return the function with the highest published accuracy; errors are those of `ranking`."""
    return ranking(network, dataset)[0][0]


@functools.cache
def _outputs() -> np.ndarray:
    return output_features([function.expression for function in DISCOVERED])
