import numpy as np

from benchmarks.search_summary import CHECKPOINTS, DECISIVE, Summary, verdicts


def summary(method: str, regrets: list[float], seconds: float) -> Summary:
    """Return a summary with these regrets, by seed, where they decide, and others elsewhere."""
    table = np.full((len(regrets), len(CHECKPOINTS)), 9.0)
    table[:, CHECKPOINTS.index(DECISIVE)] = regrets
    nothing = np.full(len(regrets), np.inf)
    return Summary(method, table, nothing, nothing, np.full(len(regrets), seconds))


def test_the_lowest_regret_wins_over_all_groups() -> None:
    groups = [
        [summary("good here", [0.0, 0.0], 1.0), summary("good there", [0.4, 0.4], 0.1)],
        [summary("good here", [0.5, 0.5], 1.0), summary("good there", [0.0, 0.0], 0.1)],
    ]
    best, other = verdicts(groups, [])
    assert (best.method, best.regret, best.tied) == ("good there", 0.2, True)
    assert (other.method, other.tied) == ("good here", False)
    np.testing.assert_allclose([other.regret, other.behind], [0.25, 0.05])


def test_of_those_within_a_standard_error_of_the_difference_the_quickest_wins() -> None:
    # Behind by 0.1 on average; the differences 0.3 and -0.1 have a standard error of 0.2.
    tied = summary("quick", [0.3, 0.9], 0.1)
    # Behind by 0.1 as well, each time: no error, so no tie.
    behind = summary("quickest", [0.1, 1.1], 0.01)
    found = verdicts([[summary("best", [0.0, 1.0], 5.0), tied, behind]], [])
    assert [one.method for one in found] == ["quick", "best", "quickest"]
    assert [one.tied for one in found] == [True, True, False]
    np.testing.assert_allclose([found[0].behind, found[0].error], [0.1, 0.2])


def test_samplers_and_what_was_not_run_everywhere_are_not_chosen() -> None:
    groups = [
        [summary("a", [1.0, 1.0], 1.0), summary("peer", [0.0, 0.0], 1.0)],
        [summary("a", [1.0, 1.0], 1.0), summary("b", [0.0, 0.0], 1.0)],
    ]
    assert [one.method for one in verdicts(groups, ["peer"])] == ["a"]
