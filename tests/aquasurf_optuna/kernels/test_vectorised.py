"""The vectorised functions, and slopes made of them, have float32's digits."""

from collections.abc import Callable, Mapping

import numpy as np
import pytest
import scipy.special
import torch
from numpy.typing import NDArray

from aquasurf_optuna.discovered import DISCOVERED
from aquasurf_optuna.expression import Expression
from aquasurf_optuna.kernels import _vectorised
from aquasurf_optuna.kernels._chain import slope_of, value_of
from aquasurf_optuna.kernels._plan import plan_of
from aquasurf_optuna.kernels._vectorised import BELL, FOR_GPU, GAP, VECTORISED
from aquasurf_optuna.operators import COATNET_UNARY_OPERATORS, OPERATORS

_SELU = (1.0507009873554805, 1.6732632423543772)


def _softplus(x: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.logaddexp(0.0, x)


EXACT: dict[str, Callable[[NDArray[np.float64]], NDArray[np.float64]]] = {
    BELL: lambda x: np.exp(-x * x),
    GAP: lambda x: scipy.special.i0e(x) - np.abs(scipy.special.i1e(x)),
    "bessel_i0e": scipy.special.i0e,
    "bessel_i1e": scipy.special.i1e,
    "arcsinh": np.arcsinh,
    "arctan": np.arctan,
    "cosh": np.cosh,
    "elu": lambda x: np.where(x > 0, x, np.expm1(np.minimum(x, 0))),
    "erfc": scipy.special.erfc,
    "expm1": np.expm1,
    "log_sigmoid": lambda x: -_softplus(-x),
    "mish": lambda x: x * np.tanh(_softplus(x)),
    "selu": lambda x: _SELU[0] * np.where(x > 0, x, _SELU[1] * np.expm1(np.minimum(x, 0))),
    "sigmoid": scipy.special.expit,
    "sinh": np.sinh,
    "softplus": _softplus,
    "swish": lambda x: x * scipy.special.expit(x),
    "tanh": np.tanh,
}
Functions = Mapping[str, Callable[[torch.Tensor], torch.Tensor]]
TEXTS = [
    *(f"{name}(x)" for name in COATNET_UNARY_OPERATORS),
    *(str(each.expression) for each in DISCOVERED),
]
EXTREMES = [0.0, -0.0, 1e-30, -1e-30, 1e30, -1e30, float("inf"), float("-inf")]
LIMITS = np.finfo(np.float32)


def inputs() -> torch.Tensor:
    sizes = torch.cat([torch.linspace(0, 12, 50_001), torch.logspace(-30, 2, 10_001)])
    return torch.cat([sizes, -sizes])


@pytest.fixture(params=["cpu", "cuda"])
def functions(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Functions:
    """Return the functions for a processor or for a GPU, both to be computed on a processor."""
    on_gpu = request.param == "cuda"
    monkeypatch.setattr(_vectorised, "on_gpu", lambda _: on_gpu)
    return FOR_GPU if on_gpu else VECTORISED


def test_six_digits_wherever_the_result_is_a_normal_number(
    functions: Functions,
) -> None:
    x = inputs()
    for name, function in functions.items():
        with np.errstate(over="ignore"):
            exact = EXACT[name](x.double().numpy())
        found = function(x)
        assert found.dtype == torch.float32
        normal = (np.abs(exact) >= LIMITS.tiny) & (np.abs(exact) <= LIMITS.max)
        assert normal.mean() > 0.5
        np.testing.assert_allclose(
            found.double().numpy()[normal], exact[normal], rtol=2e-6, err_msg=name
        )


def test_infinities_and_nan_are_torchs(
    functions: Functions,
) -> None:
    x = torch.tensor([0.0, -0.0, float("inf"), float("-inf"), float("nan"), 1e30, -1e30])
    for name, function in functions.items():
        if name in OPERATORS:
            expected = OPERATORS[name].function(x)
        else:
            expected = torch.from_numpy(EXACT[name](x.double().numpy())).float()
        torch.testing.assert_close(
            function(x), expected, rtol=2e-6, atol=1e-30, equal_nan=True, msg=f"{name}: {{}}".format
        )


@pytest.mark.parametrize("text", TEXTS)
def test_values_and_slopes_are_those_of_torchs_functions(functions: Functions, text: str) -> None:
    plan = plan_of(Expression.parse(text))
    for x in (torch.linspace(-6, 6, 4001), torch.tensor(EXTREMES)):
        for computed in (value_of, slope_of):
            expected = computed(plan, x.double())
            found = computed(plan, x, functions).double()
            # What does not fit into float32, and what is not smooth, has no right number.
            counts = computed(plan, x).isfinite() & expected.isfinite()
            assert counts.any()
            scale = float(expected[counts].abs().max()) if len(x) > len(EXTREMES) else 1.0
            torch.testing.assert_close(
                found[counts], expected[counts], rtol=1e-5, atol=2e-6 * scale
            )
