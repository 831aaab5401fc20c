"""How the default surrogate compares functions, and how much it explores.

    python -m benchmarks.ablations.kernel [--table act-bench-digits-resnet] [--repeats 100]
        [--jobs 2] [--kept FOLDER]

These settings were chosen on this table alone. Searches are kept, so that an interrupted run goes
on where it was.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from aquasurf_optuna.surrogate import GaussianProcessSurrogate
from aquasurf_optuna.surrogate._distances import FEATURE_OF
from benchmarks.ablations._command import parser_of, write_report
from benchmarks.ablations._report import Question, searched
from benchmarks.ablations._searching import (
    DEFAULT,
    Surrogated,
    Variant,
)
from benchmarks.surrogates import TUNED_ON

OUTPUT = Path("benchmarks/results/ablations_kernel.md")

COMPARISONS = (
    ("fisher", "outputs"),
    ("fisher", "mirrored"),
    ("fisher", "shape"),
    ("fisher", "outputs", "shape"),
    ("fisher", "mirrored", "shape"),
    ("fisher",),
    ("outputs", "mirrored", "shape"),
)
EXPLORATIONS = (0.5, 1.0, 1.5, 2.0, 2.5, 3.0)


def questions_of() -> tuple[list[Question], list[Variant]]:
    """Return the questions, and what has to be searched for them."""
    standard = GaussianProcessSurrogate().exploration
    compared = {
        f"all four: {', '.join(FEATURE_OF)}": _variant("default", {}),
        **{
            ", ".join(some): _variant("_".join(some), {"comparisons": some}) for some in COMPARISONS
        },
    }
    explored = {
        f"{n:g} standard deviations": _variant(
            "default" if n == standard else f"exploration-{n:g}", {"exploration": n}
        )
        for n in EXPLORATIONS
    }
    questions = [
        _question("Which comparisons does the kernel add?", compared, next(iter(compared))),
        _question("How much does it explore?", explored, f"{standard:g} standard deviations"),
    ]
    variants = {variant.name: variant for variant in [*compared.values(), *explored.values()]}
    return questions, list(variants.values())


def _variant(name: str, settings: dict[str, Any]) -> Variant:
    return Variant(name, {DEFAULT: Surrogated(GaussianProcessSurrogate(**settings))})


def _question(title: str, variants: dict[str, Variant], default: str) -> Question:
    return Question(title, {text: variant.name for text, variant in variants.items()}, default)


def run(options: argparse.Namespace) -> str:
    """Search what is missing, and return the text."""
    questions, variants = questions_of()
    return searched(
        options,
        questions,
        variants,
        name="kernel",
        title="How the default surrogate compares, and how much it explores",
    )


def main() -> None:
    """Run what is missing, and write the tables."""
    parser = parser_of(__doc__, OUTPUT)
    parser.set_defaults(table=TUNED_ON)
    write_report(parser, run)


if __name__ == "__main__":
    main()
