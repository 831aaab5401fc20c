import pytest

from aquasurf_optuna.expression import Expression
from aquasurf_optuna.visualization._sparkline import sparkline


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("identity(x)", "▁▂▃▄▅▆▇█"),
        ("negative(x)", "█▇▆▅▄▃▂▁"),
        ("relu(x)", "▁▁▁▁▂▄▆█"),
        ("one(x)", "▅▅▅▅▅▅▅▅"),
        ("exp(x)", "▁▁▁▁▃███"),
        ("pow(identity(x),sigmoid(x))", "····▁▃▆█"),
        ("div(zero(x),zero(x))", "········"),
    ],
)
def test_a_function_as_a_line_of_text(text: str, line: str) -> None:
    assert sparkline(Expression.parse(text), width=8) == line
