"""Properties against closed forms, SciPy's quadrature, and what is known of standard functions."""

import dataclasses
import math

import numpy as np
import pytest
from scipy import integrate, optimize, special

from aquasurf_optuna import FunctionProperties, properties_of
from aquasurf_optuna._limits import limit_at_infinity, limit_at_zero
from aquasurf_optuna._naming import STANDARD, display_name
from aquasurf_optuna.exceptions import ExpressionError
from aquasurf_optuna.operators import COATNET_UNARY_OPERATORS
from tests.oracles.operator_oracles import SCALAR

INF = math.inf
HALF_PI = math.pi / 2
SELU_LEFT = 1.0507009873554804934 * 1.6732632423543772848
ERF_SLOPE = 2 / math.sqrt(math.pi)
# The largest value of exp(-|x|) I1(x), where its derivative I0 - I1 - I1 / x vanishes.
I1E_TOP = float(special.i1e(1.5451371924254574))

Pair = tuple[float, float]


def lowest(name: str) -> float:
    return float(optimize.minimize_scalar(SCALAR[name], (-3, -1, 0), tol=1e-9).fun)


SWISH_LOW, ELISH_LOW, GELU_LOW, MISH_LOW = map(lowest, ("swish", "elish", "gelu", "mish"))

# name: range, limits, slopes of the asymptotes, monotony, slopes on either side of 0.
CLOSED: dict[str, tuple[Pair, Pair, tuple[float | None, float | None], str, Pair]] = {
    "zero": ((0, 0), (0, 0), (None, None), "constant", (0, 0)),
    "one": ((1, 1), (1, 1), (None, None), "constant", (0, 0)),
    "identity": ((-INF, INF), (-INF, INF), (1, 1), "increasing", (1, 1)),
    "negative": ((-INF, INF), (INF, -INF), (-1, -1), "decreasing", (-1, -1)),
    "abs": ((0, INF), (INF, INF), (-1, 1), "no", (-1, 1)),
    "reciprocal": ((-INF, INF), (0, 0), (None, None), "no", (-INF, -INF)),
    "square": ((0, INF), (INF, INF), (None, None), "no", (0, 0)),
    "exp": ((0, INF), (0, INF), (None, None), "increasing", (1, 1)),
    "erf": ((-1, 1), (-1, 1), (None, None), "increasing", (ERF_SLOPE, ERF_SLOPE)),
    "erfc": ((0, 2), (2, 0), (None, None), "decreasing", (-ERF_SLOPE, -ERF_SLOPE)),
    "sinh": ((-INF, INF), (-INF, INF), (None, None), "increasing", (1, 1)),
    "cosh": ((1, INF), (INF, INF), (None, None), "no", (0, 0)),
    "tanh": ((-1, 1), (-1, 1), (None, None), "increasing", (1, 1)),
    "expm1": ((-1, INF), (-1, INF), (None, None), "increasing", (1, 1)),
    "sigmoid": ((0, 1), (0, 1), (None, None), "increasing", (0.25, 0.25)),
    "log_sigmoid": ((-INF, 0), (-INF, 0), (1, None), "increasing", (0.5, 0.5)),
    "arcsinh": ((-INF, INF), (-INF, INF), (0, 0), "increasing", (1, 1)),
    "arctan": ((-HALF_PI, HALF_PI), (-HALF_PI, HALF_PI), (None, None), "increasing", (1, 1)),
    "bessel_i0e": ((0, 1), (0, 0), (None, None), "no", (1, -1)),
    "bessel_i1e": ((-I1E_TOP, I1E_TOP), (0, 0), (None, None), "no", (0.5, 0.5)),
    "relu": ((0, INF), (0, INF), (None, 1), "increasing", (0, 1)),
    "elu": ((-1, INF), (-1, INF), (None, 1), "increasing", (1, 1)),
    "selu": (
        (-SELU_LEFT, INF),
        (-SELU_LEFT, INF),
        (None, 1.0507009873554804934),
        "increasing",
        (SELU_LEFT, 1.0507009873554804934),
    ),
    "swish": ((SWISH_LOW, INF), (0, INF), (None, 1), "no", (0.5, 0.5)),
    "softplus": ((0, INF), (0, INF), (None, 1), "increasing", (0.5, 0.5)),
    "softsign": ((-1, 1), (-1, 1), (None, None), "increasing", (1, 1)),
    "hard_sigmoid": ((0, 1), (0, 1), (None, None), "increasing", (0.2, 0.2)),
    "elish": ((ELISH_LOW, INF), (0, INF), (None, 1), "no", (0.5, 0.5)),
    "gelu": ((GELU_LOW, INF), (0, INF), (None, 1), "no", (0.5, 0.5)),
    "leakyrelu": ((-INF, INF), (-INF, INF), (0.01, 1), "increasing", (0.01, 1)),
    "mish": ((MISH_LOW, INF), (0, INF), (None, 1), "no", (0.6, 0.6)),
}

# Mean and variance of f(Z) in closed form, Z from N(0, 1).
MOMENTS: dict[str, Pair] = {
    "zero": (0, 0),
    "one": (1, 0),
    "identity": (0, 1),
    "abs": (math.sqrt(2 / math.pi), 1 - 2 / math.pi),
    "square": (1, 2),
    "exp": (math.exp(0.5), math.exp(2) - math.e),
    "erf": (0, 2 / math.pi * math.asin(2 / 3)),
    "sinh": (0, (math.exp(2) - 1) / 2),
    "cosh": (math.exp(0.5), (math.exp(2) + 1) / 2 - math.e),
    "relu": (1 / math.sqrt(2 * math.pi), 0.5 - 0.5 / math.pi),
    "gelu": (0.5 / math.sqrt(math.pi), 1 / 3 + 1 / (2 * math.pi * math.sqrt(3)) - 0.25 / math.pi),
    "selu": (0, 1),
    "leakyrelu": (0.99 / math.sqrt(2 * math.pi), 0.50005 - 0.99**2 / (2 * math.pi)),
}

# Of the 13 baselines: range, monotony, saturation, behaviour at 0, whether the mean is 0.
BASELINE_TABLE: dict[str, tuple[Pair, str, str, str, bool]] = {
    "ELU": ((-1, INF), "increasing", "left", "smooth", False),
    "ReLU": ((0, INF), "increasing", "left", "kink", False),
    "SELU": ((-SELU_LEFT, INF), "increasing", "left", "kink", True),
    "Sigmoid": ((0, 1), "increasing", "both", "smooth", False),
    "Softplus": ((0, INF), "increasing", "left", "smooth", False),
    "Softsign": ((-1, 1), "increasing", "both", "smooth", True),
    "Swish": ((-0.2784645, INF), "no", "left", "smooth", False),
    "Tanh": ((-1, 1), "increasing", "both", "smooth", True),
    "ELiSH": ((-0.1715729, INF), "no", "left", "smooth", False),
    "GELU": ((-0.1699712, INF), "no", "left", "smooth", False),
    "HardSigmoid": ((0, 1), "increasing", "both", "smooth", False),
    "Leaky ReLU": ((-INF, INF), "increasing", "no", "kink", False),
    "Mish": ((-0.3088434, INF), "no", "left", "smooth", False),
}


def close(found: object, expected: object, tolerance: float = 1e-8) -> bool:
    if isinstance(expected, tuple):
        assert isinstance(found, tuple)
        return all(close(a, b, tolerance) for a, b in zip(found, expected, strict=True))
    if isinstance(expected, (int, float)) and isinstance(found, (int, float)):
        return found == pytest.approx(expected, rel=tolerance, abs=tolerance, nan_ok=True)
    return found == expected


def mismatches(found: FunctionProperties, name: str) -> list[str]:
    """Names of the properties in which a baseline is not what the table says."""
    bounds, monotony, saturates, at_zero, zero_mean = BASELINE_TABLE[name]
    agrees = {
        "equal_to": found.equal_to == name,
        "range": close(found.range, bounds, 1e-6),
        "monotony": found.monotony == monotony,
        "saturates": found.saturates == saturates,
        "at_zero": found.at_zero == at_zero,
        "mean": found.is_zero_mean == zero_mean,
        "finite_share": found.is_finite and found.is_continuous_at_zero,
    }
    return [key for key, good in agrees.items() if not good]


@pytest.mark.parametrize("name", COATNET_UNARY_OPERATORS)
def test_every_unary_operator_against_its_closed_form(name: str) -> None:
    found = properties_of(f"{name}(x)")
    bounds, limits, asymptotes, monotony, slopes = CLOSED[name]
    assert close(found.range, bounds)
    assert close(found.limits, limits)
    assert close(found.asymptotic_slopes, asymptotes)
    assert found.monotony == monotony
    assert close(found.slopes_at_zero, slopes)


@pytest.mark.parametrize("name", [name for name in COATNET_UNARY_OPERATORS if name != "reciprocal"])
def test_moments_agree_with_scipy_and_closed_forms(name: str) -> None:
    def density(z: float) -> float:
        return math.exp(-z * z / 2) / math.sqrt(2 * math.pi)

    def expectation(power: int) -> float:
        places = {"points": [-2.5, 0.0, 2.5], "epsabs": 1e-12, "epsrel": 1e-11, "limit": 200}
        found, _ = integrate.quad(
            lambda z: SCALAR[name](z) ** power * density(z), -20, 20, **places
        )
        return float(found)

    found = properties_of(f"{name}(x)")
    mean = expectation(1)
    assert found.mean == pytest.approx(mean, rel=1e-9, abs=1e-11)
    assert found.variance == pytest.approx(expectation(2) - mean**2, rel=1e-8, abs=1e-11)
    if name in MOMENTS:
        assert close((found.mean, found.variance), MOMENTS[name], 1e-11)


def test_a_kink_off_the_panels_is_integrated_exactly() -> None:
    # E[max(Z, c)] = c Phi(c) + phi(c), and E[max(Z, c)**2] = c**2 Phi(c) + 1 - Phi(c) + c phi(c).
    c = 0.1234
    below = 0.5 * (1 + math.erf(c / math.sqrt(2)))
    density = math.exp(-c * c / 2) / math.sqrt(2 * math.pi)
    mean, second = c * below + density, c * c * below + 1 - below + c * density
    found = properties_of(f"max(x,{c})")
    assert (found.mean, found.variance) == pytest.approx((mean, second - mean**2), rel=1e-12)


@pytest.mark.parametrize("baseline", STANDARD, ids=str)
def test_the_baselines(baseline: object) -> None:
    found = properties_of(str(baseline))
    assert mismatches(found, display_name(str(baseline))) == []


@pytest.mark.parametrize(
    "change",
    [
        {"range": (-1.0, 1.1)},
        {"monotony": "decreasing"},
        {"saturates": "right"},
        {"at_zero": "kink"},
        {"mean": 1e-6},
        {"equal_to": "ReLU"},
        {"finite_share": 0.9},
    ],
)
def test_the_table_notices_a_wrong_entry(change: dict[str, object]) -> None:
    found = properties_of("softsign(x)")
    assert mismatches(found, "Softsign") == []
    assert mismatches(dataclasses.replace(found, **change), "Softsign") == list(change)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "at_zero", "limits"),
    [
        ("div(x,abs(x))", "jump", (-1.0, 1.0)),
        ("div(x,x)", "hole", (1.0, 1.0)),
        ("reciprocal(x)", "pole", (-INF, INF)),
        ("exp(reciprocal(x))", "pole", (0.0, INF)),
        ("pow(x,x)", "undefined", (None, 1.0)),
        ("pow(abs(x),0.5)", "kink", (0.0, 0.0)),
        ("cosh(elu(x))", "smooth", (1.0, 1.0)),
        ("pow(zero(x),square(x))", "hole", (0.0, 0.0)),
        ("pow(square(x),relu(x))", "kink", (1.0, 1.0)),
    ],
)
def test_zero(text: str, at_zero: str, limits: tuple[float | None, float | None]) -> None:
    found = properties_of(text)
    assert found.at_zero == at_zero
    assert close(found.limits_at_zero, limits)
    assert found.is_differentiable_at_zero == (at_zero == "smooth")
    assert found.is_continuous_at_zero == (at_zero in ("smooth", "kink"))


@pytest.mark.parametrize(
    ("text", "limits"),
    [
        ("exp(exp(x))", (1.0, INF)),
        ("pow(x,x)", (None, INF)),  # float64 knows no fractions beyond 2**53
        ("div(one(x),zero(x))", (INF, INF)),
        ("div(zero(x),zero(x))", (None, None)),
        ("mul(exp(x),exp(negative(x)))", (1.0, 1.0)),  # NaN and worse beyond 709
        ("div(square(x),square(x))", (1.0, 1.0)),  # NaN beyond 1e154
        ("arcsinh(arcsinh(x))", (-INF, INF)),
        ("reciprocal(arcsinh(x))", (0.0, 0.0)),
        ("add(arctan(x),reciprocal(arcsinh(x)))", (-HALF_PI, HALF_PI)),
        ("max(sub(x,100),pow(sub(x,100),0.5))", (None, INF)),
        ("softsign(arcsinh(x))", (-1.0, 1.0)),
        (
            "selu(expm1(softsign(arcsinh(x))))",
            (SELU_LEFT * math.expm1(math.expm1(-1)), 1.0507009873554805 * math.expm1(1)),
        ),
        ("mul(swish(x),sinh(x))", (INF, INF)),  # zero times infinity below -745
        ("mul(swish(x),cosh(x))", (-INF, INF)),
        ("div(softplus(x),exp(x))", (1.0, 0.0)),
        ("arctan(arcsinh(square(x)))", (HALF_PI, HALF_PI)),  # the square overflows
    ],
)
def test_limits(text: str, limits: tuple[float | None, float | None]) -> None:
    assert close(properties_of(text).limits, limits, 1e-6)


def test_limits_that_oscillate() -> None:
    assert limit_at_infinity(np.sin, 1.0) is None
    assert limit_at_infinity(lambda x: np.sin(x) / x, 1.0) == 0.0
    assert limit_at_zero(lambda x: np.sin(1 / x), -1.0) is None
    assert limit_at_infinity(lambda x: x * np.sin(x), 1.0) is None
    assert limit_at_infinity(lambda x: np.copysign(INF, np.sin(x)), 1.0) is None
    # One value is not yet a limit.
    assert limit_at_infinity(lambda x: np.where(x > 1e180, 0.0, 1.0), 1.0) is None


def test_zero_has_no_sign() -> None:
    [limit, _] = properties_of("swish(x)").limits
    assert str(limit) == "0.0"
    nothing = properties_of("negative(zero(x))")
    assert str(nothing.range) == str(nothing.input_range) == "(0.0, 0.0)"


def test_poles_away_from_zero() -> None:
    found = properties_of("reciprocal(sub(x,1.2345))")
    assert found.range == found.input_range == (-INF, INF)
    assert found.at_zero == "smooth"
    assert math.isnan(found.mean)
    assert properties_of("square(reciprocal(sub(x,1.2345)))").mean == INF
    assert properties_of("arcsinh(reciprocal(sub(x,1.2345)))").range == (-INF, INF)
    # A maximum that is only steep is none: 1 / (x**2 + 1e-6).
    steep = properties_of("reciprocal(add(square(sub(x,1.2345)),0.000001))")
    assert steep.range == pytest.approx((0.0, 1e6), rel=1e-9)


def test_the_two_ranges_fit() -> None:
    # Of its two infima the one on [-5, 5] is found more exactly.
    found = properties_of("pow(swish(x),erfc(x))")
    assert found.range[0] <= found.input_range[0] <= found.input_range[1] <= found.range[1]
    # The limit at zero, to which neighbours come slowly, is an end of both.
    slow = properties_of("mul(arctan(arcsinh(reciprocal(abs(x)))),div(x,x))")
    assert slow.at_zero == "hole"
    assert slow.input_range[1] == pytest.approx(HALF_PI, rel=1e-5)


def test_moments_that_do_not_exist() -> None:
    for text in ("exp(exp(x))", "exp(square(x))", "square(reciprocal(x))", "abs(reciprocal(x))"):
        found = properties_of(text)
        assert found.mean == INF
        assert math.isnan(found.variance)
        assert not found.is_zero_mean
    for text in ("reciprocal(x)", "pow(x,x)", "sinh(sinh(sinh(x)))"):
        assert math.isnan(properties_of(text).mean)
    assert properties_of("mul(exp(x),exp(negative(x)))").variance == 0.0
    assert properties_of("mul(exp(x),2)").variance == pytest.approx(4 * MOMENTS["exp"][1])


def test_a_variance_that_does_not_exist() -> None:
    # E[exp(c Z**2)] = (1 - 2 c)**-1/2 for c < 1/2.
    found = properties_of("exp(mul(0.3,square(x)))")
    assert found.mean == pytest.approx(0.4**-0.5, rel=1e-12)
    assert found.variance == INF
    assert not found.is_zero_mean


def test_moments_where_float64_overflows_far_out() -> None:
    assert properties_of("div(exp(square(x)),exp(square(x)))").mean == pytest.approx(1.0)
    # NaN from 27 on; what it has within 14 says enough.
    same = "div(exp(square(x)),exp(square(x)))"
    assert properties_of(f"mul(exp(square(x)),{same})").mean == INF


def test_the_mean_of_selu_is_zero_and_not_nearly_so() -> None:
    assert properties_of("selu(x)").mean == 0.0
    assert properties_of("one(x)").variance == properties_of("selu(one(x))").variance == 0.0


def test_values_that_are_not_finite() -> None:
    found = properties_of("pow(x,x)")
    assert found.finite_share == pytest.approx(0.5, abs=0.01)
    nothing = properties_of("div(zero(x),zero(x))")
    assert nothing.finite_share == 0.0
    assert all(map(math.isnan, nothing.range))
    assert nothing.rows()["range"] == "undefined"
    assert nothing.rows()["finite on [-5, 5]"] == "nowhere"
    assert properties_of("exp(exp(exp(x)))").input_range[1] == INF


def test_rounding_noise_is_not_a_turn() -> None:
    assert properties_of("sub(one(x),tanh(x))").monotony == "decreasing"
    assert properties_of("sub(exp(x),one(x))").monotony == "increasing"
    assert properties_of("sub(cosh(tanh(x)),cosh(tanh(x)))").monotony == "constant"
    # Quotients whose rounding errors differ from input to input.
    assert properties_of("div(mul(tanh(x),cosh(tanh(x))),cosh(tanh(x)))").monotony == "increasing"
    # Errors of the size of the terms, where their sum has almost vanished.
    noise = "sub(mul(arctan(x),mul(3,arctan(x))),mul(3,square(arctan(x))))"
    for text in ("sigmoid(x)", "relu(x)"):
        assert properties_of(f"add({text},{noise})").monotony == "increasing"
    # A turn of a millionth is one.
    assert properties_of("add(tanh(x),mul(-0.000001,x))").monotony == "no"


def test_rows() -> None:
    assert properties_of("relu(x)").rows() == {
        "range": "0 to inf",
        "range on [-5, 5]": "0 to 5",
        "limit at -inf": "0",
        "limit at +inf": "inf, slope 1",
        "monotonic": "increasing",
        "saturates": "on the left",
        "at 0": "continuous, with a kink: slope 0 on the left, 1 on the right",
        "mean on N(0, 1)": "0.398942",
        "variance on N(0, 1)": "0.340845",
        "finite on [-5, 5]": "everywhere",
        "equal to": "ReLU",
    }
    assert properties_of("tanh(x)").rows()["mean on N(0, 1)"] == "0 (zero mean)"
    zero = {text: properties_of(text).rows()["at 0"] for text in ("swish(x)", "div(x,abs(x))")}
    assert zero == {"swish(x)": "differentiable, slope 0.5", "div(x,abs(x))": "jumps from -1 to 1"}
    assert (
        properties_of("reciprocal(x)").rows()["finite on [-5, 5]"] == "not at 0.01 % of the inputs"
    )


def test_errors() -> None:
    with pytest.raises(ExpressionError, match="unknown operator 'rule'"):
        properties_of("rule(x)")
