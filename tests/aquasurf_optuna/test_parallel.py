"""Work for several processes: all is done, this process takes part, and errors come through."""

from __future__ import annotations

import os
import signal
import sys
import time

import joblib
import pytest
from joblib.executor import get_memmapping_executor
from joblib.externals.loky.process_executor import TerminatedWorkerError

from aquasurf_optuna.exceptions import AquaSurfError
from aquasurf_optuna.expression import Expression
from aquasurf_optuna.operators import register_operator
from aquasurf_optuna.parallel import import_ahead, side_by_side

HERE = os.getpid()


def square_there(number: int) -> tuple[int, int]:
    time.sleep(0.01)
    return number**2, os.getpid()


@pytest.mark.parametrize("n_jobs", [1, 2, 3])
def test_everything_is_done_once_and_this_process_takes_part(n_jobs: int) -> None:
    found = list(side_by_side(square_there, range(40), n_jobs))
    assert sorted(index for index, _ in found) == list(range(40))
    assert all(result == index**2 for index, (result, _) in found)
    processes = {process for _, (_, process) in found}
    assert HERE in processes
    assert len(processes) <= n_jobs
    if n_jobs == 1:
        assert [index for index, _ in found] == list(range(40))


def test_the_other_process_works_too() -> None:
    # It is there after the first call.
    list(side_by_side(square_there, range(4), 2))
    processes = [process for _, (_, process) in side_by_side(square_there, range(40), 2)]
    assert 5 < processes.count(HERE) < 35


def test_a_closure_goes_there_and_nothing_is_asked_of_nothing() -> None:
    offset = 3
    assert dict(side_by_side(lambda x: x + offset, [1, 2, 3], 2)) == {0: 4, 1: 5, 2: 6}
    assert list(side_by_side(square_there, [], 2)) == []
    with pytest.raises(ValueError, match="n_jobs"):
        list(side_by_side(square_there, [1], 0))


@pytest.mark.usefixtures("forgotten_operators")
def test_own_operators_are_known_there() -> None:
    register_operator("cube", lambda x: x**3)

    def printed(text: str) -> tuple[str, int]:
        return str(Expression.parse(text)), os.getpid()

    found = [result for _, result in side_by_side(printed, ["cube(x)"] * 40, 2)]
    assert {text for text, _ in found} == {"cube(x)"}
    assert len({process for _, process in found}) == 2


def refuse_seven(number: int) -> int:
    if number == 7:
        raise AquaSurfError("seven")
    return number


def test_an_error_comes_through_and_the_next_call_works() -> None:
    with pytest.raises(AquaSurfError, match="seven"):
        list(side_by_side(refuse_seven, range(10), 2))
    assert dict(side_by_side(refuse_seven, [1, 2, 3], 2)) == {0: 1, 1: 2, 2: 3}


def end_elsewhere(here: int) -> int:
    if os.getpid() != here:
        os.kill(os.getpid(), signal.SIGKILL)
    return here


def test_a_process_that_is_killed_is_noticed() -> None:
    with pytest.raises(TerminatedWorkerError):
        list(side_by_side(end_elsewhere, [HERE] * 4, 2))
    assert dict(side_by_side(refuse_seven, [1, 2], 2)) == {0: 1, 1: 2}


@pytest.mark.slow
def test_joblibs_own_calls_work_before_and_after() -> None:
    # Both share joblib's processes.
    get_memmapping_executor(1).shutdown(kill_workers=True)
    for _ in range(2):
        assert dict(side_by_side(refuse_seven, [1, 2, 3], 2)) == {0: 1, 1: 2, 2: 3}
        found = joblib.Parallel(n_jobs=2)(joblib.delayed(refuse_seven)(item) for item in (1, 2))
        assert found == [1, 2]


def is_imported(_: int) -> tuple[bool, int]:
    time.sleep(0.05)
    return "colorsys" in sys.modules, os.getpid()


def test_others_import_ahead_while_this_process_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    # New processes, which have imported nothing.
    get_memmapping_executor(1).shutdown(kill_workers=True)
    monkeypatch.delitem(sys.modules, "colorsys", raising=False)
    import_ahead(["colorsys"], 2)
    found = [result for _, result in side_by_side(is_imported, range(20), 2)]
    elsewhere = {imported for imported, process in found if process != HERE}
    assert elsewhere == {True}
    assert {imported for imported, process in found if process == HERE} == {False}
    import_ahead(["no.such.module"], 1)
    with pytest.raises(ValueError, match="n_jobs"):
        import_ahead(["colorsys"], 0)
