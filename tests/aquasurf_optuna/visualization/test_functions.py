import numpy as np
import pytest

from aquasurf_optuna.exceptions import AquaSurfError, ExpressionError
from aquasurf_optuna.visualization import plot_functions
from aquasurf_optuna.visualization._functions import _get_functions_info, _Panel


def panel(text: str, value: float = float("nan")) -> _Panel:
    [found] = _get_functions_info([text], [value], reference="relu(x)").panels
    return found


def test_the_data() -> None:
    info = _get_functions_info(["tanh(x)", "exp(x)"], [0.5, 0.25], reference="relu(x)")
    assert info.reference_name == "ReLU"
    assert (info.inputs[0], info.inputs[-1], info.inputs.size) == (-5.0, 5.0, 401)
    np.testing.assert_allclose(info.reference, np.maximum(info.inputs, 0))
    np.testing.assert_allclose(info.panels[0].outputs, np.tanh(info.inputs))
    assert info.panels[1].title == "exp(x)<br><b>0.2500</b>"


def test_titles() -> None:
    assert panel("max(relu(x),zero(x))").title == "max(relu(x),zero(x)) = ReLU"
    assert panel("relu(x)").title == "relu(x)"
    assert panel("erf(x)", 0.5).title == "erf(x)<br><b>0.5000</b>"


def test_the_range_holds_function_and_reference_within_bounds() -> None:
    low, high = panel("tanh(x)").limits
    assert -1.5 < low < -1.0
    assert 5.0 < high < 5.5
    low, high = panel("exp(x)").limits
    assert 6.0 < high < 7.0


def test_a_function_that_lives_elsewhere_is_shown_where_it_lives() -> None:
    low, high = panel("exp(exp(cosh(x)))").limits
    assert high > 15.0
    outputs = panel("exp(exp(cosh(x)))").outputs
    assert np.mean((outputs >= low) & (outputs <= high)) > 0.2


def test_a_pole_breaks_the_line() -> None:
    outputs = panel("reciprocal(x)").outputs
    assert np.isnan(outputs[200])
    assert np.isfinite(outputs[[150, 250]]).all()
    low, high = panel("reciprocal(x)").limits
    assert -7 < low < high < 7


@pytest.mark.parametrize(
    "text", ["div(one(x),zero(x))", "pow(x,x)", "sub(exp(exp(exp(x))),cosh(x))"]
)
def test_values_that_are_not_finite_leave_a_finite_range(text: str) -> None:
    found = panel(text)
    assert np.isfinite(found.limits).all()
    assert found.limits[0] < found.limits[1]
    assert not np.isinf(found.outputs).any()


def test_the_figure() -> None:
    figure = plot_functions(["tanh(x)", "exp(x)", "erf(x)", "cosh(x)"], [4, 3, 2, 1], columns=3)
    assert len(figure.data) == 8
    dashed = [each for each in figure.data if each.line.dash == "dash"]
    assert {each.name for each in dashed} == {"ReLU"}
    assert len(dashed) == 4
    assert sum(bool(each.showlegend) for each in figure.data) == 2
    assert [a.text.split("<br>")[0] for a in figure.layout.annotations] == [
        "tanh(x)", "exp(x)", "erf(x)", "cosh(x)",
    ]  # fmt: skip
    assert tuple(figure.layout.xaxis4.range) == (-5.0, 5.0)
    assert plot_functions(["erf(x)"], legend=False).layout.showlegend is False


def test_another_reference() -> None:
    figure = plot_functions(["tanh(x)"], reference="swish(x)")
    assert figure.data[0].name == "Swish"


def test_no_functions() -> None:
    figure = plot_functions([])
    assert [a.text for a in figure.layout.annotations] == ["There are no functions."]


def test_errors() -> None:
    with pytest.raises(AquaSurfError, match="1 functions, 2 values"):
        plot_functions(["relu(x)"], [1.0, 2.0])
    with pytest.raises(AquaSurfError, match="columns must be at least 1, got 0"):
        plot_functions(["relu(x)"], columns=0)
    with pytest.raises(ExpressionError, match="unknown operator"):
        plot_functions(["rule(x)"])
