"""What a report says of the functions that were not trained to the end, and what that saved."""

from __future__ import annotations

import collections
import math
from collections.abc import Mapping, Sequence

from aquasurf_optuna.expression import Expression
from aquasurf_optuna.visualization._page import Section, Table
from aquasurf_optuna.visualization._trials import StudyRecord, TrialRecord

_UNITS = ((3600.0, "hours"), (60.0, "minutes"), (1.0, "seconds"))


def duration(seconds: float) -> str:
    """Write a duration in the unit that suits it: 1.5 hours, 12 minutes, 0.4 seconds."""
    size, unit = next((each for each in _UNITS if seconds >= 2 * each[0]), _UNITS[-1])
    amount = seconds / size
    return f"{amount:.0f} {unit}" if amount >= 9.5 else f"{amount:.1f} {unit}"


def pruning_sections(
    record: StudyRecord, ruled_out: Mapping[Expression, str], n_candidates: int
) -> list[Section]:
    """Return the sections on trials without a value and on functions ruled out before any trial.

    Args:
        record: The study.
        ruled_out: Candidates whose spectrum is invalid, and why.
        n_candidates: How many candidates were measured.
    """
    sections = []
    without = [trial for trial in record.trials if trial.state != "complete"]
    usual = _mean_seconds([trial for trial in record.trials if trial.state == "complete"])
    if without:
        sections.append(_trials_section(without, usual))
    if ruled_out:
        sections.append(_ruled_out_section(ruled_out, n_candidates, usual))
    return sections


def _mean_seconds(trials: Sequence[TrialRecord]) -> float:
    known = [trial.seconds for trial in trials if math.isfinite(trial.seconds)]
    return math.fsum(known) / len(known) if known else math.nan


def _trials_section(trials: Sequence[TrialRecord], usual: float) -> Section:
    rows = [
        (
            "unknown" if trial.expression is None else str(trial.expression),
            trial.state,
            trial.reason or "the objective returned no finite number",
            f"{trial.seconds:.3g}" if math.isfinite(trial.seconds) else "-",
            str(trial.number),
        )
        for trial in trials
    ]
    return Section(
        heading="What was not trained to the end, and why",
        text=[_saved(trials, usual)],
        table=Table(
            columns=("function", "state", "why", "seconds", "trial"),
            rows=rows,
            code=frozenset({"function"}),
            choices=frozenset({"state"}),
        ),
    )


def _saved(trials: Sequence[TrialRecord], usual: float) -> str:
    """Say what pruning saved, were complete trials of these functions no longer than others."""
    pruned = [trial for trial in trials if trial.state == "pruned"]
    own = _mean_seconds(pruned)
    count = f"{len(trials)} {'trial' if len(trials) == 1 else 'trials'} ended without a value"
    if not pruned:
        return f"{count}; none of them was pruned."
    share = "all" if len(pruned) == len(trials) else str(len(pruned))
    if not math.isfinite(usual - own):
        return f"{count}, {share} of them pruned."
    saved = len(pruned) * (usual - own)
    told = f"{count}, {share} of them pruned, after {duration(own)} on average"
    if saved <= 0:
        return f"{told}; a complete trial takes {duration(usual)}, so that pruning saved no time."
    return (
        f"{told}. A complete trial takes {duration(usual)}: pruning saved about {duration(saved)}."
    )


def _ruled_out_section(
    ruled_out: Mapping[Expression, str], n_candidates: int, usual: float
) -> Section:
    text = (
        f"{len(ruled_out):,} of the {n_candidates:,} candidates that were measured have an invalid "
        "Fisher spectrum at initialisation, so they were never proposed."
    )
    if math.isfinite(usual):
        text += f" To train them all would take about {duration(len(ruled_out) * usual)}."
    by_reason: dict[str, list[Expression]] = collections.defaultdict(list)
    for expression, reason in ruled_out.items():
        # A reason may name the module, and so the function: those are one reason.
        by_reason[reason.replace(f" (Activation({expression}))", "")].append(expression)
    rows = [
        (reason, str(len(some)), str(min(some, key=lambda each: len(str(each)))))
        for reason, some in sorted(by_reason.items(), key=lambda pair: -len(pair[1]))
    ]
    return Section(
        heading="Ruled out before any training",
        text=[text],
        table=Table(
            columns=("why", "functions", "for example"),
            rows=rows,
            code=frozenset({"for example"}),
        ),
    )
