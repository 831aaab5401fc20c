"""Which surrogate becomes the default? A rule, applied to the searches of all of them.

==================  =====================  =======================================================
``regrets[name]``   ``(groups, repeats)``  after 50 evaluations; a group is a start on a table, and
                                           a repeat is the same for every surrogate
``seconds[name]``   float                  processor time of a proposal
==================  =====================  =======================================================
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from aquasurf_optuna.benchmark._samplers import LAYOUT_SEEDS

Floats = NDArray[np.float64]

DECISIVE = 50
"""Evaluations after which regret decides."""

RULE = (
    f"The rule: the lowest regret after {DECISIVE} evaluations wins, averaged over the tables, "
    "starts and repeats. Surrogates that are behind it by no more than one standard error of the "
    "difference, taken repeat by repeat, are tied with it, and of those the quickest is chosen. "
    f"Every {LAYOUT_SEEDS} repeats the seeds of a surrogate come again: repeats that share one "
    "count once in the standard error."
)


class Verdict(NamedTuple):
    """What decides about one surrogate.

    Attributes:
        name: Of the surrogate.
        regret: Mean over groups and repeats.
        behind: Mean of how much worse it is than the best one, repeat by repeat.
        error: Standard error of `behind`; NaN where a single seed tells nothing of it.
        tied: Whether it is the best one, or behind by one standard error at most.
        seconds: Processor time of a proposal.
    """

    name: str
    regret: float
    behind: float
    error: float
    tied: bool
    seconds: float


def verdicts(regrets: Mapping[str, Floats], seconds: Mapping[str, float]) -> list[Verdict]:
    """Apply `RULE`.

    Args:
        regrets: By surrogate; see the top of the module.
        seconds: By surrogate.

    Returns:
        The choice first, then what is tied with it, the quickest first, then the others by regret.

    Raises:
        ValueError: If there is no surrogate, or they have not the same groups and repeats.
    """
    shapes = {name: one.shape for name, one in regrets.items()}
    if len(set(shapes.values())) != 1:
        raise ValueError(
            f"regrets must be of surrogates with the same groups and repeats, got {shapes}; run "
            "the searches that are missing"
        )
    best = min(regrets, key=lambda name: float(regrets[name].mean()))
    found = []
    for name, own in regrets.items():
        differences = (own - regrets[best]).mean(axis=0)
        behind, error = float(differences.mean()), standard_error(differences)
        # Where one seed alone differs, the two are equal but for rounding.
        tied = name == best or behind <= error or math.isclose(behind, error, rel_tol=1e-9)
        found.append(Verdict(name, float(own.mean()), behind, error, tied, seconds[name]))
    return sorted(
        found, key=lambda one: (not one.tied, one.seconds if one.tied else one.regret, one.name)
    )


def standard_error(values: Floats) -> float:
    """Return the standard error of the mean of repeats, ``(repeats,)``.

    Those that share a seed, as the searches of `SAMPLERS` do, are averaged before.
    """
    n = min(len(values), LAYOUT_SEEDS)
    means = [float(values[seed::LAYOUT_SEEDS].mean()) for seed in range(n)]
    return float(np.std(means, ddof=1)) / math.sqrt(n) if n > 1 else math.nan


def verdict_markdown(found: Sequence[Verdict]) -> str:
    """Return verdicts as a Markdown table."""
    lines = [
        f"| surrogate | regret after {DECISIVE} | behind the best, repeat by repeat | tied "
        "| ms a proposal |",
        "|---|---:|---:|---|---:|",
    ]
    lines += [
        f"| {one.name} | {one.regret:.4f} | {_behind_text(one)} | {'yes' if one.tied else ''} "
        f"| {1000 * one.seconds:.1f} |"
        for one in found
    ]
    return "\n".join(lines)


def _behind_text(one: Verdict) -> str:
    text = f"{one.behind:.4f}"
    return text if math.isnan(one.error) else f"{text} ± {one.error:.4f}"
