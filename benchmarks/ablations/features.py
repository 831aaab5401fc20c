"""How functions are measured: each setting of the Fisher features beside its default.

The spectra of all functions of a table that have one are measured anew under every setting, on the
network and the images that the table was built with, and searches go on with these features in
place of the table's own. A function that a setting makes invalid is never proposed there.

    python -m benchmarks.ablations.features [--config examples/bench_digits_cnn.yaml]
        [--table act-bench-digits-cnn] [--repeats 100] [--jobs 2] [--kept FOLDER]

Spectra and searches are kept, so that an interrupted run goes on where it was: an ``.npz`` for each
setting, and a ``.jsonl`` for the searches of each.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from aquasurf_optuna.benchmark import ActBench
from aquasurf_optuna.exceptions import BenchmarkError
from benchmarks.ablations._command import parser_of, write_report
from benchmarks.ablations._measuring import (
    Measured,
    Setting,
    Task,
    by_layer_size,
    measured,
    task_of,
)
from benchmarks.ablations._report import Question, report
from benchmarks.ablations._searching import (
    DEFAULT,
    PAPER,
    Surrogated,
    Variant,
    run_searches,
    summarised,
)
from benchmarks.paper._common import load

CONFIG = "examples/bench_digits_cnn.yaml"
OUTPUT = Path("benchmarks/results/ablations_features.md")

AS_IT_STANDS = Setting()
LABELS = {
    "sampled labels": AS_IT_STANDS,
    "exact labels": Setting(labels="exact"),
    "empirical labels": Setting(labels="empirical"),
}
BATCHES = (10, 25, 100, 200)
USES = (256, 1024, None)
MAKERS = {DEFAULT: Surrogated(), PAPER: Surrogated("paper")}

_QUANTILES = "quantiles"


def settings_of(batch: int) -> dict[str, dict[str, Setting]]:
    """Return the settings by question and in words, the default first.

    Args:
        batch: Images in a training batch.
    """
    return {
        "Sampled, exact or empirical labels?": LABELS,
        "How many images?": {
            f"{batch} images": AS_IT_STANDS,
            **{f"{n} images": Setting(samples=n) for n in BATCHES if n != batch},
        },
        "How many uses of a layer (patch sampling)?": {
            f"{AS_IT_STANDS.max_uses} uses": AS_IT_STANDS,
            **{f"{n or 'all'} uses": Setting(max_uses=n) for n in USES},
        },
    }


def representations(default: Measured) -> dict[str, dict[str, NDArray[np.float32]]]:
    """Return other features from the same spectra, by question and in words, the default first."""
    quantiles, histograms, sizes, _ = default
    return {
        "Quantiles or histograms?": {_QUANTILES: quantiles, "histograms": histograms},
        "Every layer alike, or by its size?": {
            "every layer alike (Equation 2)": quantiles,
            "by layer size": by_layer_size(quantiles, sizes),
            "by layer size, histograms (Appendix D)": by_layer_size(
                histograms, sizes, histogram=True
            ),
        },
    }


def measure_all(
    bench: ActBench, task: Task, *, jobs: int, kept: Path, progress: bool = True
) -> dict[Setting, Measured]:
    """Measure the functions of a table that have a valid spectrum under every setting.

    Args:
        bench: The table.
        task: What it was built with.
        jobs: Processes.
        kept: Folder of what is measured.
        progress: Whether to show bars on standard error.

    Raises:
        BenchmarkError: If the table was built with another network, or what is kept is not of
            these functions.
    """
    functions = [bench.functions[row] for row in np.flatnonzero(bench.valid)]
    questions = settings_of(len(task.featurizer.inputs)).values()
    wanted = dict.fromkeys(setting for some in questions for setting in some.values())
    found: dict[Setting, Measured] = {}
    for setting in wanted:
        found[setting] = measured(task, setting, functions, jobs=jobs, kept=kept, progress=progress)
        length = found[setting].quantiles.shape[1]
        if length != bench.fisher.shape[1] or bench.representation != _QUANTILES:
            raise BenchmarkError(
                f"{bench.name} has {bench.representation} of length {bench.fisher.shape[1]}, but "
                f"the network of the configuration has quantiles of length {length}; name the "
                "configuration that the table was built with"
            )
    return found


def questions_of(
    bench: ActBench, batch: int, found: Mapping[Setting, Measured]
) -> tuple[list[Question], list[Variant]]:
    """Return the questions, and what has to be searched for them.

    Args:
        bench: The table.
        batch: Images in a training batch.
        found: What was measured.
    """
    default = found[AS_IT_STANDS]
    seconds = float(default.seconds.mean())
    questions: list[Question] = []
    variants = {"default": _variant(bench, "default", default.quantiles)}
    for title, features in representations(default).items():
        chosen = _named(features)
        for setting, name in chosen.items():
            if name not in variants:
                variants[name] = _variant(bench, name, features[setting])
        questions.append(_question(title, chosen, dict.fromkeys(chosen, seconds)))
    for title, settings in settings_of(batch).items():
        chosen = _named(settings)
        for setting, name in chosen.items():
            if name not in variants:
                variants[name] = _variant(bench, name, found[settings[setting]].quantiles)
        times = {name: float(found[one].seconds.mean()) for name, one in settings.items()}
        questions.append(_question(title, chosen, times))
    return questions, list(variants.values())


def _named(settings: Mapping[str, object]) -> dict[str, str]:
    """Return each setting in words -> the name of its variant; all defaults are one variant."""
    first, *others = settings
    return {first: "default", **{text: _slug(text) for text in others}}


def _slug(text: str) -> str:
    return "-".join("".join(c if c.isalnum() else " " for c in text).split())


def _question(title: str, chosen: Mapping[str, str], seconds: Mapping[str, float]) -> Question:
    return Question(title, chosen, next(iter(chosen)), seconds=seconds)


def _variant(bench: ActBench, name: str, measured_rows: NDArray[np.float32]) -> Variant:
    features = np.full((len(bench), measured_rows.shape[1]), np.nan, dtype=np.float32)
    features[bench.valid] = measured_rows
    return Variant(name, MAKERS, features)


def agreement(bench: ActBench, default: Measured) -> str:
    """Say how far the features that were measured by default are from the table's own."""
    apart = np.abs(default.quantiles - bench.fisher[bench.valid])
    return (
        "The features of the default setting, measured anew, differ from the table's, which has "
        f"four digits of them, by {np.nanmedian(apart):.1g} at the median and "
        f"{np.nanmax(apart):.1g} at most."
    )


def _invalid(bench: ActBench, variants: Sequence[Variant]) -> str:
    n = int(bench.valid.sum())
    lost = {
        variant.name: n - int(np.isfinite(variant.features).all(axis=1).sum())
        for variant in variants
        if variant.features is not None
    }
    some = [f"{count} with {name}" for name, count in lost.items() if count]
    return f"Invalid of the {n:,} functions with a valid spectrum: {', '.join(some) or 'none'}."


def run(options: argparse.Namespace) -> str:
    """Measure and search what is missing, and return the text."""
    [bench] = load([options.table])
    task = task_of(options.config, max(BATCHES))
    kept = options.kept / bench.name
    found = measure_all(bench, task, jobs=options.jobs, kept=kept / "spectra")
    questions, variants = questions_of(bench, len(task.featurizer.inputs), found)
    searches = run_searches(
        bench,
        variants,
        repeats=options.repeats,
        jobs=options.jobs,
        kept=kept / "features",
    )
    return report(
        bench,
        questions,
        summarised(bench, searches),
        title="How functions are measured",
        command="python -m benchmarks.ablations.features",
        remarks=[agreement(bench, found[AS_IT_STANDS]), _invalid(bench, variants)],
    )


def main() -> None:
    """Run what is missing, and write the tables."""
    parser = parser_of(__doc__, OUTPUT)
    parser.add_argument("--config", default=CONFIG, help="YAML that the table was built with")
    write_report(parser, run)


if __name__ == "__main__":
    main()
