import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from aquasurf_optuna.exceptions import ExpressionError
from aquasurf_optuna.visualization import plot_function, write_png
from aquasurf_optuna.visualization._function_with_derivative import get_function_info


def test_the_data() -> None:
    info = get_function_info("tanh(x)", reference="swish(x)")
    function, slope = info.panels
    assert (info.name, info.reference_name) == ("tanh(x)", "Swish")
    assert (function.title, slope.title) == ("function", "derivative")
    np.testing.assert_allclose(function.function.y, np.tanh(function.function.x))
    np.testing.assert_allclose(slope.function.y, 1 / np.cosh(slope.function.x) ** 2, rtol=1e-9)
    x = function.reference.x
    np.testing.assert_allclose(function.reference.y, x / (1 + np.exp(-x)))


def test_the_derivative_of_relu_is_two_lines() -> None:
    curve = get_function_info("relu(x)", reference="relu(x)").panels[1].function
    assert set(curve.y[~np.isnan(curve.y)]) == {0.0, 1.0}
    [gap] = np.flatnonzero(np.isnan(curve.y))
    assert curve.x[gap] == pytest.approx(0.0, abs=1e-9)


@pytest.mark.parametrize(
    "text", ["div(one(x),zero(x))", "pow(x,x)", "exp(exp(exp(x)))", "zero(x)", "0.5", "x"]
)
def test_any_function_leaves_a_finite_range(text: str) -> None:
    for panel in get_function_info(text, reference="relu(x)").panels:
        assert np.isfinite(panel.limits).all()
        assert panel.limits[0] < panel.limits[1]
        assert not np.isinf(panel.function.y).any()


def test_the_figure() -> None:
    figure = plot_function("tanh(x)")
    names = [(trace.name, trace.line.dash, trace.showlegend) for trace in figure.data]
    assert names == [
        ("ReLU", "dash", True), ("tanh(x)", None, True),
        ("ReLU", "dash", False), ("tanh(x)", None, False),
    ]  # fmt: skip
    assert [each.text for each in figure.layout.annotations] == ["function", "derivative"]
    assert tuple(figure.layout.xaxis2.range) == (-5.0, 5.0)
    info = get_function_info("tanh(x)", reference="relu(x)")
    np.testing.assert_allclose(figure.data[3].y, info.panels[1].function.y, rtol=1e-6)
    assert not any(trace.connectgaps for trace in figure.data)


def test_a_png_shows_the_same_curves(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "f.png"
    assert write_png(path, "tanh(x)") == path
    with Image.open(path) as image:
        assert (image.format, image.size) == ("PNG", (1440, 630))
        pixels = np.asarray(image.convert("RGB")).astype(int)
    blue = np.abs(pixels - [0x00, 0x72, 0xB2]).sum(axis=2) < 30
    rows, columns = np.nonzero(blue[:, :700])
    # In the left panel, but for the legend below it, a curve that rises from left to right.
    above = rows < 520
    assert np.corrcoef(columns[above], -rows[above])[0, 1] > 0.8
    first = path.read_bytes()
    write_png(path, "tanh(x)")
    assert path.read_bytes() == first
    write_png(path, "negative(tanh(x))")
    assert path.read_bytes() != first
    assert list(path.parent.iterdir()) == [path]


def test_a_png_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_png(tmp_path / "f.png", "relu(x)")
    old = path.read_bytes()

    def fail(self: Path, *arguments: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(OSError, match="no space left"):
        write_png(path, "tanh(x)")
    assert path.read_bytes() == old
    assert list(tmp_path.iterdir()) == [path]
    with pytest.raises(IsADirectoryError, match="a PNG is a file, but this is a folder"):
        write_png(tmp_path, "tanh(x)")


@pytest.mark.slow
def test_matplotlib_is_imported_late_and_without_pyplot(tmp_path: Path) -> None:
    program = (
        "import sys\n"
        "from aquasurf_optuna.visualization import write_png\n"
        "assert 'matplotlib' not in sys.modules\n"
        "write_png(sys.argv[1], 'x')\n"
        "assert 'matplotlib' in sys.modules\n"
        "assert 'matplotlib.pyplot' not in sys.modules\n"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "f.png")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_errors(tmp_path: Path) -> None:
    with pytest.raises(ExpressionError, match="unknown operator"):
        plot_function("rule(x)")
    with pytest.raises(ExpressionError, match="unknown operator"):
        write_png(tmp_path / "f.png", "relu(x)", reference="rule(x)")
    assert list(tmp_path.iterdir()) == []
