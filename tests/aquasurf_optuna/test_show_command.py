import re
import webbrowser
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from aquasurf_optuna import derivative, properties_of
from aquasurf_optuna.cli import main
from aquasurf_optuna.expression import Expression
from aquasurf_optuna.features.outputs import output_features
from tests.aquasurf_optuna.studies import FOUND, Page


def failure(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """Run a command that must fail, and return its one line on standard error."""
    assert main(["show", *arguments]) == 2
    captured = capsys.readouterr()
    [line] = captured.err.splitlines()
    assert line.startswith("aquasurf: error: ")
    return line.removeprefix("aquasurf: error: ")


def facts(block: str) -> dict[str, str]:
    return dict(re.findall(r"^(\S.*?)  +(\S.*)$", block, flags=re.MULTILINE))


def test_show(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", " max( relu(x), tanh(x) )"]) == 0
    form, properties, table = capsys.readouterr().out.split("\n\n")
    shown = facts(form)
    expression = Expression.parse("max(relu(x),tanh(x))")
    outputs = output_features([expression])
    assert shown["function"] == "max(relu(x),tanh(x))"
    assert shown["LaTeX"] == expression.latex()
    assert shown["depth"] == "2"
    assert shown["operators"] == "3 (max, relu, tanh)"
    assert float(shown["mean"].split()[0]) == pytest.approx(outputs.mean(), rel=1e-5)
    assert float(shown["variance"]) == pytest.approx(outputs.var(), rel=1e-5)
    assert shown["remarks"] == "finite, not constant"
    assert facts(properties) == properties_of(expression).rows()
    values = np.loadtxt(table.splitlines()[1:])
    assert values.shape == (11, 3)
    np.testing.assert_allclose(values[:, 1], np.maximum(values[:, 0], 0))
    slopes = derivative(expression, torch.from_numpy(values[:, 0].copy()))
    np.testing.assert_allclose(values[:, 2], slopes, rtol=1e-5)


def test_values_stand_below_each_other(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", "exp(exp(x))"]) == 0
    blocks = capsys.readouterr().out.rstrip("\n").split("\n\n")
    assert [len(set(map(len, block.splitlines()))) for block in blocks[2:]] == [1]
    starts = {re.match(r"\S.*?  +", line).end() for line in blocks[1].splitlines()}  # type: ignore[union-attr]
    assert len(starts) == 1


@pytest.mark.parametrize(
    ("expression", "remarks"),
    [
        ("one(x)", "constant"),
        ("zero(x)", "constant"),
        ("div(one(x),zero(x))", "1000 of 1000 outputs are not finite"),
        ("x", "finite, not constant"),
    ],
)
def test_show_tells_what_is_amiss(
    capsys: pytest.CaptureFixture[str], expression: str, remarks: str
) -> None:
    assert main(["show", expression]) == 0
    assert facts(capsys.readouterr().out.split("\n\n")[0])["remarks"] == remarks


def test_the_page(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "f.html"
    assert main(["show", FOUND, "--html", str(path)]) == 0
    assert capsys.readouterr().out.endswith(f"\n\nwrote {path}\n")
    page = Page(path.read_text(encoding="utf-8"))
    assert page.loads() == []
    text = page.text()
    assert FOUND in text
    for heading in ("Function and derivative", "Properties", "How to use it"):
        assert heading in text
    for row in properties_of(FOUND).rows().items():
        assert "\n".join(row) in text
    assert "Simplified" not in text


def test_the_page_of_a_function_that_can_be_simpler(tmp_path: Path) -> None:
    path = tmp_path / "f.html"
    assert main(["show", "mul(x,one(x))", "--html", str(path)]) == 0
    assert "Simplified\nx\n" in Page(path.read_text(encoding="utf-8")).text()


def test_the_picture(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "f.png"
    assert main(["show", "tanh(x)", "--png", str(path)]) == 0
    assert f"wrote {path}" in capsys.readouterr().out
    with Image.open(path) as image:
        assert image.format == "PNG"


def test_the_page_is_opened(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []
    monkeypatch.setattr(webbrowser, "open", lambda url: opened.append(url) or True)
    path = tmp_path / "own name.html"
    assert main(["show", "tanh(x)", "--html", str(path), "--open"]) == 0
    assert opened == [path.as_uri()]
    assert "browser" not in capsys.readouterr().out

    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert main(["show", "tanh(x)", "--open"]) == 0
    [written] = re.findall(r"^wrote (.*)$", capsys.readouterr().out, flags=re.MULTILINE)
    assert opened[1:] == [Path(written).as_uri()]
    assert Path(written).is_relative_to(tmp_path)
    assert "tanh(x)" in Path(written).read_text(encoding="utf-8")


def test_without_a_browser_the_path_is_told(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webbrowser, "open", lambda url: False)
    path = tmp_path / "f.html"
    assert main(["show", "tanh(x)", "--html", str(path), "--open"]) == 0
    out = capsys.readouterr().out
    assert out.endswith(f"no browser could be started here; open {path} in one\n")


def test_a_simpler_form_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    text = "swish(sub(negative(x),identity(x)))"
    assert main(["show", text]) == 0
    shown = facts(capsys.readouterr().out.split("\n\n")[0])
    assert (shown["function"], shown["simplified"]) == (text, "swish(mul(-2,x))")
    assert main(["show", text, "--simplify"]) == 0
    shown = facts(capsys.readouterr().out.split("\n\n")[0])
    assert shown["function"] == "swish(mul(-2,x))"
    assert "simplified" not in shown
    assert main(["show", text, "--simplify", "--python", "numpy"]) == 0
    assert capsys.readouterr().out == Expression.parse("swish(mul(-2,x))").to_python("numpy")


@pytest.mark.parametrize("backend", ["torch", "numpy", "jax", "keras"])
def test_source_alone_is_printed(capsys: pytest.CaptureFixture[str], backend: str) -> None:
    assert main(["show", FOUND, "--python", backend]) == 0
    out = capsys.readouterr().out
    assert out == Expression.parse(FOUND).to_python(backend)
    compile(out, "piped.py", "exec")


def test_the_page_holds_the_source(tmp_path: Path) -> None:
    path = tmp_path / "f.html"
    assert main(["show", FOUND, "--html", str(path)]) == 0
    text = Page(path.read_text(encoding="utf-8")).text()
    for title, backend in (
        ("PyTorch, without this package", "torch"),
        ("NumPy", "numpy"),
        ("JAX", "jax"),
        ("Keras", "keras"),
    ):
        assert f"{title}\n{Expression.parse(FOUND).to_python(backend).rstrip()}" in text


def test_source_goes_with_no_file(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    for words in (["--html", str(tmp_path / "f.html")], ["--png", "f.png"], ["--open"]):
        line = failure(capsys, "relu(x)", "--python", "torch", *words)
        assert "leave out --html, --png and --open" in line
    assert list(tmp_path.iterdir()) == []
    assert "'mxnet'" in failure(capsys, "relu(x)", "--python", "mxnet")


def test_errors(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert "unknown operator 'rule' at position 0" in failure(capsys, "rule(x)")
    assert "a PNG is a file, but this is a folder" in failure(capsys, "x", "--png", str(tmp_path))
    (tmp_path / "file").touch()
    inside = str(tmp_path / "file" / "f")
    for option in ("--png", "--html"):
        assert "a file stands where a folder is needed" in failure(capsys, "x", option, inside)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
