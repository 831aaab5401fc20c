"""A question as a Markdown table of its settings, and its answer as a sentence.

The sentence follows from the numbers: a default stays unless another setting beats it by more than
chance, on the same repeats. The lowest regret of several is partly luck, and repeats that share a
layout of the map are more alike than others, so that the rule is rather too quick to call a default
beaten than too slow.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from aquasurf_optuna.benchmark import CHECKPOINTS, ActBench, Interval, Summary, interval, reached
from aquasurf_optuna.benchmark._metrics import TOP_PERCENT
from benchmarks.ablations._command import REPEATS
from benchmarks.ablations._searching import DEFAULT, PAPER, Variant, run_searches, summarised
from benchmarks.paper._common import load, table_head, table_row

DECISIVE = 50
"""Evaluations after which regret decides."""

SEARCHES = {DEFAULT: "default", PAPER: "paper's"}
"""Each search -> which surrogate it has, in words."""


@dataclasses.dataclass(frozen=True)
class Question:
    """A question that an ablation answers.

    Attributes:
        title: The question.
        settings: Each setting in words -> the variant that was searched.
        default: The setting that is the default.
        decided_by: The search that decides.
        seconds: Setting -> processor time of measuring a function; empty where it is the same.
        remark: What else has to be known.
    """

    title: str
    settings: Mapping[str, str]
    default: str
    decided_by: str = DEFAULT
    seconds: Mapping[str, float] = dataclasses.field(default_factory=dict)
    remark: str = ""


def searched(
    options: argparse.Namespace,
    questions: Sequence[Question],
    variants: Sequence[Variant],
    *,
    name: str,
    title: str,
) -> str:
    """Search what is missing on the table of a command line, and return the text.

    Args:
        options: As the parser of `_command.py` reads them.
        questions: The questions.
        variants: What has to be searched for them.
        name: Of the script, and of the folder of its searches.
        title: Of the whole.
    """
    [bench] = load([options.table])
    searches = run_searches(
        bench,
        variants,
        repeats=options.repeats,
        jobs=options.jobs,
        kept=options.kept / bench.name / name,
    )
    return report(
        bench,
        questions,
        summarised(bench, searches),
        title=title,
        command=f"python -m benchmarks.ablations.{name}",
    )


def report(
    bench: ActBench,
    questions: Sequence[Question],
    found: Mapping[tuple[str, str], Summary],
    *,
    title: str,
    command: str,
    remarks: Sequence[str] = (),
) -> str:
    """Return all questions with their tables and answers, as Markdown.

    Args:
        bench: The table of functions.
        questions: The questions.
        found: What the searches came to, by variant and search.
        title: Of the whole.
        command: Makes it again.
        remarks: Paragraphs that stand before the questions.
    """
    repeats = len(next(iter(found.values())).curves)
    again = "" if repeats == REPEATS else f" --repeats {repeats}"
    lines = [
        f"# {title}",
        "",
        f"{bench.name}: {len(bench):,} functions, {int(bench.valid.sum()):,} with a valid "
        f"spectrum. {repeats} searches of each kind, begun with ReLU and seven random functions. "
        "Regret is the best validation accuracy of the table less the best found, a mean with its "
        "95% confidence interval (1.96 standard errors over repeats); evaluations are those of the "
        "median search, with the share of the searches that get there.",
        "",
        f"To make it again: `{command}{again}`.",
        "",
    ]
    for remark in remarks:
        lines += [remark, ""]
    for question in questions:
        lines += [f"## {question.title}", ""]
        lines += [*_table(question, found), "", answer(question, found), ""]
        if question.remark:
            lines += [question.remark, ""]
    return "\n".join(lines)


def answer(question: Question, found: Mapping[tuple[str, str], Summary]) -> str:
    """Say which setting has the lowest regret, and whether the default stays.

    It does if it has the lowest itself, or if zero lies within the 95% confidence interval of its
    regret less the lowest one's, taken repeat by repeat.

    Args:
        question: The question.
        found: What the searches came to, by variant and search.
    """
    regrets = {
        setting: found[variant, question.decided_by].regrets[DECISIVE]
        for setting, variant in question.settings.items()
    }
    default = question.default
    # The first of equals: the default, if it is one of them.
    order = [default, *(setting for setting in regrets if setting != default)]
    best = min(order, key=lambda setting: float(regrets[setting].mean()))
    lowest = (
        f"The lowest regret after {DECISIVE} evaluations with the "
        f"{SEARCHES[question.decided_by]} surrogate is that of "
    )
    text = _interval_text(interval(regrets[best]))
    if best == default:
        return f"{lowest}the default, {best}: {text}, so it stays."
    lowest += f"{best}: {text}; "
    above = interval(regrets[default] - regrets[best])
    if np.isnan(above.half):
        return f"{lowest}a single repeat does not decide whether the default stays."
    within = above.mean <= above.half
    return (
        f"{lowest}the default, {default}, is {_interval_text(above)} above it on the same repeats, "
        f"{'within' if within else 'more than'} one 95% interval, "
        f"{'so it stays' if within else 'so on this table it does not stay'}."
    )


def _table(question: Question, found: Mapping[tuple[str, str], Summary]) -> list[str]:
    after = [f"regret after {n}" for n in CHECKPOINTS]
    heads = ["setting", "surrogate", *after, f"evaluations to the {TOP_PERCENT}"]
    if question.seconds:
        heads.append("seconds to measure a function")
    lines = table_head(*heads)
    for search, surrogate in SEARCHES.items():
        for setting, variant in question.settings.items():
            one = found.get((variant, search))
            if one is not None:
                lines.append(table_row(*_cells(question, setting, surrogate, one)))
    return lines


def _cells(question: Question, setting: str, surrogate: str, one: Summary) -> list[str]:
    shown = f"**{setting}** (default)" if setting == question.default else setting
    top = reached(one.until[TOP_PERCENT])
    median = f"{top.median:g}" if np.isfinite(top.median) else f"> {one.curves.shape[1] - 1}"
    cells = [shown, surrogate]
    cells += [
        _interval_text(interval(one.regrets[n])) if n in one.regrets else "" for n in CHECKPOINTS
    ]
    cells.append(f"{median} ({top.share:.0%})")
    if question.seconds:
        cells.append(f"{question.seconds[setting]:.3f}")
    return cells


def _interval_text(found: Interval) -> str:
    text = f"{found.mean:.4f}"
    return text if np.isnan(found.half) else f"{text} ± {found.half:.4f}"
