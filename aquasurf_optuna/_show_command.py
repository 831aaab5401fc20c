"""The command `aquasurf show`: one function as text, as a web page, as a picture, as source.

Everything is printed to standard output; a page or a picture is one file, whose path is printed.
"""

from __future__ import annotations

import tempfile
import webbrowser
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from jsonargparse import ArgumentParser, Namespace

from aquasurf_optuna._command_line import Command
from aquasurf_optuna.derivative import derivative
from aquasurf_optuna.equality import RELATIVE_TOLERANCE
from aquasurf_optuna.exceptions import AquaSurfError
from aquasurf_optuna.expression import Expression
from aquasurf_optuna.features.outputs import output_features
from aquasurf_optuna.properties import properties_of
from aquasurf_optuna.report import Section, Table, function_section, source_section, write_report
from aquasurf_optuna.simplify import simplify
from aquasurf_optuna.visualization import plot_function, write_png

_POINTS = (-5.0, -3.0, -2.0, -1.0, -0.5, 0.0, 0.5, 1.0, 2.0, 3.0, 5.0)


def _add_options(parser: ArgumentParser) -> None:
    parser.add_argument("expression", type=str, help='for example "max(relu(x),tanh(x))"')
    parser.add_argument(
        "--simplify", action="store_true", help="show its simplest form in its place"
    )
    parser.add_argument(
        "--html", type=str | None, metavar="FILE", help="also write it as a web page"
    )
    parser.add_argument(
        "--open", action="store_true", help="open the web page, of --html or a temporary file"
    )
    parser.add_argument(
        "--png", type=str | None, metavar="FILE", help="also draw it and its derivative"
    )
    parser.add_argument(
        "--python",
        type=str | None,
        metavar="BACKEND",
        help="print its source for torch, numpy, jax or keras, and nothing else",
    )


def _run(options: Namespace) -> None:
    """Print what the options ask for.

    Raises:
        AquaSurfError: If the expression or the backend is none, or `--python` is asked to write
            files as well.
        OSError: If a file cannot be written.
    """
    expression = Expression.parse(options.expression)
    if options.simplify:
        expression = simplify(expression)
    if options.python is not None:
        if options.html or options.png or options.open:
            raise AquaSurfError(
                "--python prints source and nothing else; leave out --html, --png and --open"
            )
        print(expression.to_python(options.python), end="")
        return
    print(describe(expression))
    if options.png is not None:
        print(f"\nwrote {write_png(options.png, expression)}")
    if options.html is not None or options.open:
        path = _write_page(expression, options.html)
        print(f"\nwrote {path}")
        if options.open:
            _open(path)


def describe(expression: Expression) -> str:
    """Return what the command prints: form, behaviour on N(0, 1), properties, some values.

    The simplified form is among them where it is another one.
    """
    simplest = simplify(expression)
    operators = dict.fromkeys(node.operator for node in expression.walk() if node.children)
    facts = {
        "function": str(expression),
        "LaTeX": expression.latex(),
        **({} if simplest == expression else {"simplified": str(simplest)}),
        "depth": str(expression.depth),
        "operators": f"{expression.node_count} ({', '.join(operators) or 'none'})",
        **_behaviour(output_features([expression])[0]),
    }
    blocks = [_aligned(facts), _aligned(properties_of(expression).rows()), _values(expression)]
    return "\n\n".join(blocks)


def _aligned(facts: Mapping[str, str]) -> str:
    width = max(map(len, facts))
    return "\n".join(f"{name:<{width}}  {text}" for name, text in facts.items())


def _values(expression: Expression) -> str:
    points = torch.tensor(_POINTS, dtype=torch.float64)
    outputs, slopes = expression(points).tolist(), derivative(expression, points).tolist()
    heading = f"{'x':>6}  {'f(x)':>12}  {'derivative':>12}"
    rows = zip(_POINTS, outputs, slopes, strict=True)
    return "\n".join([heading, *(f"{x:>6.1f}  {y:>12.6g}  {slope:>12.6g}" for x, y, slope in rows)])


def _behaviour(outputs: np.ndarray) -> dict[str, str]:
    """Describe a function by its outputs on the 1,000 fixed inputs."""
    finite = np.isfinite(outputs)
    with np.errstate(over="ignore", invalid="ignore"):
        mean, variance = float(outputs.mean()), float(outputs.var())
        spread = float(outputs.max() - outputs.min())
        constant = finite.all() and spread <= RELATIVE_TOLERANCE * float(np.abs(outputs).max())
    remarks = [f"{int((~finite).sum())} of 1000 outputs are not finite"] if not finite.all() else []
    remarks += ["constant"] if constant else []
    return {
        "mean": f"{mean:.6g} (of the outputs on 1000 fixed inputs from N(0, 1))",
        "variance": f"{variance:.6g}",
        "remarks": "; ".join(remarks) or "finite, not constant",
    }


def _write_page(expression: Expression, file: str | None) -> Path:
    if file is None:
        # The folder stays, since the browser may read the page long after this program's end.
        file = str(Path(tempfile.mkdtemp(prefix="aquasurf-")) / "function.html")
    rows = list(properties_of(expression).rows().items())
    sections = [
        Section(
            heading="Function and derivative",
            text=["Over inputs from -5 to 5; ReLU is dashed."],
            figures=[plot_function(expression)],
        ),
        Section(
            heading="Properties",
            text=[
                "Found numerically in float64. Means and variances are those of the outputs for "
                "inputs from N(0, 1), as a well initialised network has them."
            ],
            table=Table(columns=("property", "value"), rows=rows),
        ),
        function_section(expression, heading="How to use it"),
        source_section(expression),
    ]
    return write_report(file, title=str(expression), sections=sections)


def _open(path: Path) -> None:
    if not webbrowser.open(path.resolve().as_uri()):
        print(f"no browser could be started here; open {path} in one")


SHOW = Command(
    "show",
    summary="describe one function",
    examples=[
        'aquasurf show "max(relu(x),tanh(x))" --png function.png',
        'aquasurf show "max(relu(x),tanh(x))" --python jax',
    ],
    add_options=_add_options,
    run=_run,
    file=False,
)
