"""How functions are searched: the paper's map and model, and the size of the pool.

    python -m benchmarks.ablations.searching [--table act-bench-digits-cnn] [--repeats 100]
        [--jobs 2] [--kept FOLDER]

Neighbourhoods and dimensions of the map and the neighbours that its model averages are those of the
paper's surrogate; the default one has no map, and the size of the pool is asked of both. Repeats
share the layouts of ten seeds, but for the pools: each repeat draws one of its own. Searches are
kept, so that an interrupted run goes on where it was.
"""

from __future__ import annotations

import argparse
import inspect
from pathlib import Path
from typing import Any

from aquasurf_optuna.sampler import AquaSurfSampler
from aquasurf_optuna.surrogate import UmapKnnSurrogate
from benchmarks.ablations._command import parser_of, write_report
from benchmarks.ablations._report import Question, searched
from benchmarks.ablations._searching import (
    DEFAULT,
    PAPER,
    Surrogated,
    Variant,
)

OUTPUT = Path("benchmarks/results/ablations_searching.md")

FISHER_NEIGHBORS = (3, 5, 15)
OUTPUT_NEIGHBORS = (5, 15, 30)
DIMENSIONS = (1, 2, 3, 5)
NEIGHBORS = (1, 3, 5, 10)
POOLS = (100, 250, 500, 1000, None)

MAP = UmapKnnSurrogate().get_params()
"""The settings of the paper's surrogate as it comes."""

POOL = int(inspect.signature(AquaSurfSampler).parameters["pool_size"].default)
"""The size of the pool of a sampler as it comes."""


def questions_of() -> tuple[list[Question], list[Variant]]:
    """Return the questions, and what has to be searched for them."""
    asked = [_neighbourhoods(), _dimensions(), _neighbours(), _pools()]
    variants = {variant.name: variant for _, some in asked for variant in some}
    return [question for question, _ in asked], list(variants.values())


def _neighbourhoods() -> tuple[Question, list[Variant]]:
    settings = {
        f"{fisher} in the graph of the spectra, {outputs} in that of the outputs": {
            "fisher_neighbors": fisher,
            "output_neighbors": outputs,
        }
        for fisher in FISHER_NEIGHBORS
        for outputs in OUTPUT_NEIGHBORS
    }
    return _of_map("How many neighbours in the map's graphs?", settings)


def _dimensions() -> tuple[Question, list[Variant]]:
    settings = {f"{n} dimension{'s'[: n - 1]}": {"n_components": n} for n in DIMENSIONS}
    return _of_map("How many dimensions has the map?", settings)


def _neighbours() -> tuple[Question, list[Variant]]:
    return _of_map(
        "How many neighbours does the model average (k)?",
        {f"k = {n}": {"n_neighbors": n} for n in NEIGHBORS},
    )


def _of_map(title: str, settings: dict[str, dict[str, int]]) -> tuple[Question, list[Variant]]:
    variants = {text: _variant(changed) for text, changed in settings.items()}
    default = next(t for t, changed in settings.items() if changed.items() <= MAP.items())
    names = {text: variant.name for text, variant in variants.items()}
    return Question(title, names, default, decided_by=PAPER), list(variants.values())


def _variant(changed: dict[str, int]) -> Variant:
    """Return the paper's search with some settings changed; its name says those not as they come.

    Settings that do not change the layout are searched on the same layouts.
    """
    surrogate = UmapKnnSurrogate().set_params(**changed)
    return Variant(
        _name({key: value for key, value in changed.items() if value != MAP[key]}),
        {PAPER: Surrogated(surrogate)},
        layout=_name(
            {key: value for key, value in _params(surrogate).items() if key != "n_neighbors"}
        ),
    )


def _params(surrogate: UmapKnnSurrogate) -> dict[str, Any]:
    params: dict[str, Any] = surrogate.get_params(deep=False)
    return params


def _name(settings: dict[str, Any]) -> str:
    return "_".join(f"{key}-{value}" for key, value in settings.items()) or "default"


def _pools() -> tuple[Question, list[Variant]]:
    sizes = sorted({POOL, *(n for n in POOLS if n is not None)})
    settings = {f"{n} functions": _pool(n) for n in sizes} | {"all functions": _pool(None)}
    question = Question(
        "How many functions are in the pool?",
        {text: variant.name for text, variant in settings.items()},
        f"{POOL} functions",
        remark=(
            "The size counts functions with an invalid spectrum, which have to be measured too; "
            "when all of a pool are tried, as many again are drawn."
        ),
    )
    return question, list(settings.values())


def _pool(size: int | None) -> Variant:
    # All repeats have the same pool where it holds everything; they share layouts then.
    makers = {
        DEFAULT: Surrogated() if size is None else Surrogated(seeds=None),
        PAPER: Surrogated("paper") if size is None else Surrogated("paper", seeds=None),
    }
    return Variant(f"pool-{size or 'all'}", makers, pool_size=size)


def run(options: argparse.Namespace) -> str:
    """Search what is missing, and return the text."""
    questions, variants = questions_of()
    return searched(
        options, questions, variants, name="searching", title="How functions are searched"
    )


def main() -> None:
    """Run what is missing, and write the tables."""
    parser = parser_of(__doc__, OUTPUT)
    write_report(parser, run)


if __name__ == "__main__":
    main()
