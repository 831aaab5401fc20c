"""Who holds a claim, and whether it still runs."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from aquasurf_optuna.features._owner import _start, is_gone, is_of, new_owner


def parts() -> tuple[str, str, str, str]:
    host, pid, start, tag = new_owner("run").split(":")
    return host, pid, start, tag


def test_the_living_are_not_gone() -> None:
    owner = new_owner("run")
    assert not is_gone(owner)
    assert owner.split(":")[1] == str(os.getpid())
    assert owner != new_owner("run")


def test_a_number_given_away_again_is_another_process() -> None:
    host, pid, start, tag = parts()
    assert is_gone(f"{host}:{pid}:{start}1:{tag}")


def test_an_ended_process_is_gone_and_so_is_a_zombie() -> None:
    host, _, _, tag = parts()
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        owner = f"{host}:{process.pid}:{_start(process.pid)}:{tag}"
        assert not is_gone(owner)
        process.kill()
        # Nobody has asked for its exit code yet.
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert is_gone(owner)
    assert is_gone(owner)


@pytest.mark.parametrize(
    "owner", ["", "a name of another kind", "host:1:2:3", "other-1:999999:1:r"]
)
def test_nobody_can_tell_of_others(owner: str) -> None:
    assert not is_gone(owner)


def test_runs_are_told_apart() -> None:
    assert is_of(new_owner("run"), "run")
    assert not is_of(new_owner("run"), "ru")
    assert not is_of("run", "ru")
