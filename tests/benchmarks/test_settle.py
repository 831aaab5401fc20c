"""The promises of `benchmarks/settle.py`: what counts as kept."""

import numpy as np
import pytest

from aquasurf_optuna.benchmark import Summary
from aquasurf_optuna.benchmark._metrics import BEST, TOP_PERCENT
from benchmarks.settle import OURS, PAPER, TPE, promises, promises_markdown, short_markdown


def summary(regret: float, best: list[float], top: list[float]) -> Summary:
    return Summary(
        np.zeros((len(best), 101)),
        {50: np.full(len(best), regret)},
        {BEST: np.array(best), TOP_PERCENT: np.array(top)},
        len(best),
    )


GOOD = summary(0.001, [10.0] * 20, [5.0] * 20)
PEERS = {
    PAPER: summary(0.004, [50.0] * 20, [20.0] * 20),
    TPE: summary(0.01, [90.0] * 20, [10.0] * 20),
}


def test_all_are_kept_at_their_limits() -> None:
    found = promises({OURS: GOOD, **PEERS})
    assert [one.figure for one in found] == pytest.approx([0.25, 0.1, 1.0, 0.5, 1.0])
    assert all(one.kept for one in found)


@pytest.mark.parametrize(
    ("ours", "missed"),
    [
        (summary(0.0011, [10.0] * 20, [5.0] * 20), [0, 1]),
        (summary(0.001, [10.0] * 18 + [np.inf] * 2, [5.0] * 20), [2]),
        (summary(0.001, [10.0] * 20, [6.0] * 20), [3]),
        (summary(0.001, [10.0] * 20, [5.0] * 19 + [np.inf]), [4]),
    ],
)
def test_each_can_be_missed(ours: Summary, missed: list[int]) -> None:
    found = promises({OURS: ours, **PEERS})
    assert [place for place, one in enumerate(found) if not one.kept] == missed


def test_no_regret_beside_none_is_no_quarter_of_it() -> None:
    none = summary(0.0, [1.0], [1.0])
    first, *_ = promises({OURS: none, PAPER: none, TPE: GOOD})
    assert first.figure == 1.0
    assert not first.kept


def test_the_table_marks_what_is_missed() -> None:
    found = promises({OURS: summary(0.0011, [10.0] * 20, [5.0] * 20), **PEERS})
    text = promises_markdown({"a": found})
    assert text.count("**missed**") == 2
    assert "(at least 0.95)" in text
    assert "(at most 0.25)" in text


def test_in_short() -> None:
    late = summary(0.25, [np.inf] * 2, [3.0, np.inf])
    lines = short_markdown({"one": {"a": GOOD, "b": late}, "two": {"a": late, "b": GOOD}})
    assert lines.splitlines()[2:] == [
        "| a | 0.001 ± 0.000 | 5 | 0.250 ± 0.000 | > 100 (50%) |",
        "| b | 0.250 ± 0.000 | > 100 (50%) | 0.001 ± 0.000 | 5 |",
    ]
    assert len({line.count("|") for line in lines.splitlines()}) == 1
