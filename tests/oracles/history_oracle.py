"""What a study has shown, by the rules as `aquasurf_optuna/_history.py` states them.

A trial is a plain record. Everything is looked up anew in the whole list, however often.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Record:
    """A trial.

    Attributes:
        number: Its number.
        function: What it ran, runs or is to run; None for a function of no space here.
        state: ``waiting``, ``running``, ``overdue`` (running for too long), ``killed`` (found dead
            by a heartbeat), ``failed`` (told so), ``pruned`` or ``finished``.
        values: Of a finished trial.
        reports: Of a pruned or finished trial, by step.
        end: When it ended.
    """

    number: int
    function: int | None
    state: str
    values: tuple[float, ...] = ()
    reports: Mapping[int, float] = field(default_factory=dict)
    end: int = 0


def counted(records: Sequence[Record]) -> list[Record]:
    """The trials that count: without those of dead workers, of which the third counts."""
    found = []
    for record in records:
        deaths = [
            r.number
            for r in records
            if r.function == record.function and r.state in ("killed", "overdue")
        ]
        if record.function is not None and record.number not in sorted(deaths)[:2]:
            found.append(record)
    return found


def taken(records: Sequence[Record]) -> set[int | None]:
    """The functions that nobody else is to try."""
    return {record.function for record in counted(records)}


def running(records: Sequence[Record]) -> dict[int, int | None]:
    """The function of each running trial."""
    return {r.number: r.function for r in counted(records) if r.state == "running"}


def ended(records: Sequence[Record]) -> list[Record]:
    """The trials that ended, in that order."""
    over = [r for r in counted(records) if r.state not in ("running", "waiting")]
    return sorted(over, key=lambda r: (r.end, r.number))


def worth(record: Record, others: Sequence[Record], signs: Sequence[float]) -> list[float]:
    """What an ended trial counts as, higher being better, given others that ended and count."""
    failure = [-math.inf] * len(signs)
    if record.state == "finished" and len(record.values) == len(signs):
        return [
            s * v if math.isfinite(v) else -math.inf
            for s, v in zip(signs, record.values, strict=True)
        ]
    if record.state != "pruned" or len(signs) > 1 or not record.reports:
        return failure
    last = max(record.reports)
    report = record.reports[last]
    if not math.isfinite(report):
        return failure
    finished = [
        r for r in others if r.state == "finished" and math.isfinite((*r.values, math.nan)[0])
    ]
    there = [r for r in finished if math.isfinite(r.reports.get(last, math.nan))]
    if there:
        nearest = min(abs(r.reports[last] - report) for r in there)
        # Of several at the same distance, the worst.
        return [
            min(signs[0] * r.values[0] for r in there if abs(r.reports[last] - report) == nearest)
        ]
    return [min([signs[0] * report, *(signs[0] * r.values[0] for r in finished)])]


def values(records: Sequence[Record], signs: Sequence[float]) -> dict[int | None, list[float]]:
    """The mean of each function in each objective; failures beside others as the worst of all."""
    over = ended(records)
    worths = {r.number: worth(r, over, signs) for r in over}
    found: dict[int | None, list[float]] = {}
    for record in over:
        mean = []
        for objective in range(len(signs)):
            finite = [w[objective] for w in worths.values() if w[objective] > -math.inf]
            own = [worths[r.number][objective] for r in over if r.function == record.function]
            if all(value == -math.inf for value in own):
                mean.append(-math.inf)
            else:
                mean.append(math.fsum(max(value, min(finite)) for value in own) / len(own))
        found[record.function] = mean
    return found


def first_values(
    records: Sequence[Record], signs: Sequence[float]
) -> dict[int | None, list[float]]:
    """What the first trial of each function counted as when it ended."""
    found: dict[int | None, list[float]] = {}
    over = ended(records)
    for place, record in enumerate(over):
        if record.function not in found:
            # Trials that had not ended by then were unknown.
            found[record.function] = worth(record, over[:place], signs)
    return found
