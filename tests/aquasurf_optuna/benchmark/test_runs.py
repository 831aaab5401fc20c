"""Training runs: kept in a file, in processes that may die, by commands that may be killed."""

import json
import math
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import psutil
import pytest
import torch

from aquasurf_optuna.activation import Activation
from aquasurf_optuna.benchmark import _runs
from aquasurf_optuna.benchmark._runs import Key, Run, RunsFile, train_all
from aquasurf_optuna.exceptions import BenchmarkError, InitializationError
from aquasurf_optuna.features._child import EndedError
from aquasurf_optuna.features._feature import StoppedError
from aquasurf_optuna.operators import register_operator

ROOT = Path(__file__).parents[3]
SETTINGS = {"epochs": 1, "name": "ünused"}
KEYS: list[Key] = [(f"add(x,{number})", seed) for seed in (0, 1) for number in range(5)]
COMMAND = """
import signal, sys
# A shell starts what it puts into the background without SIGINT.
signal.signal(signal.SIGINT, signal.default_int_handler)
from tests.aquasurf_optuna.benchmark.test_runs import KEYS, SETTINGS, Noting
from aquasurf_optuna.benchmark._runs import RunsFile, train_all
train_all(Noting(sys.argv[2], 0.3), KEYS, RunsFile(sys.argv[1], SETTINGS), jobs=int(sys.argv[3]))
"""


class Noting:
    """A training that notes in a file what it trains."""

    def __init__(self, notes: str | Path, seconds: float = 0.0) -> None:
        self.notes = str(notes)
        self.seconds = seconds

    def __call__(self, function: str, seed: int) -> Mapping[str, float]:
        with Path(self.notes).open("a") as file:
            file.write(f"{json.dumps([function, seed])}\n")
        time.sleep(self.seconds)
        return {"val_accuracy": seed + 0.25, "pid": os.getpid()}

    def noted(self) -> list[Key]:
        lines = Path(self.notes).read_text().splitlines()
        return [(function, seed) for function, seed in map(json.loads, lines)]


class Troubled(Noting):
    """A training to which everything happens that can happen."""

    def __call__(self, function: str, seed: int) -> Mapping[str, float]:
        super().__call__(function, seed)
        if function == "zero(x)":
            raise InitializationError("no weights give unit variance")
        if function == "exp(x)" and self.noted().count((function, seed)) == 1:
            os._exit(7)
        print("said by a training")
        value = float(Activation(function)(torch.tensor(2.0)))
        return {
            "val_accuracy": value,
            "train_loss": math.nan,
            "val_loss": math.inf,
            "test_loss": torch.tensor(-math.inf),
            "threads": torch.get_num_threads(),
            "pid": os.getpid(),
        }


class InProcess:
    """Stands where a process does, and dies when it trains what `deadly` names."""

    deadly: ClassVar[Mapping[str, int]] = {}
    started = 0
    pid = 0

    def __init__(
        self,
        function: Callable[[object], object],
        *,
        threads: int = 1,
        stop: threading.Event | None = None,
    ) -> None:
        type(self).started += 1
        self.function = function
        self.stop = stop or threading.Event()

    def __call__(self, argument: Any, **limits: object) -> object:
        if self.stop.is_set():
            raise StoppedError
        if self.deadly and self.deadly.get(argument[0], 0) > DEATHS[argument[0]]:
            DEATHS[argument[0]] += 1
            raise EndedError("the process ended with exit code 7")
        return self.function(argument)

    def close(self) -> None:
        """There is nothing to end."""


DEATHS: Counter[str] = Counter()


@pytest.fixture
def in_process(monkeypatch: pytest.MonkeyPatch) -> type[InProcess]:
    DEATHS.clear()
    monkeypatch.setattr(_runs, "Child", InProcess)
    monkeypatch.setattr(InProcess, "started", 0)
    return InProcess


@pytest.fixture
def file(tmp_path: Path) -> RunsFile:
    return RunsFile(tmp_path / "folder" / "runs.jsonl", SETTINGS)


def is_running(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def wait_until(holds: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + 120
    while not holds():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


# The file


def test_runs_come_back_as_they_went(file: RunsFile) -> None:
    runs = [
        Run("relu(x)", 0, {"val_accuracy": 0.5, "seconds": 1.25}),
        Run("relu(x)", 1, {"train_loss": math.inf, "val_loss": -math.inf}),
        Run("zero(x)", 0, {}, "no weights: ü"),
    ]
    assert file.read() == {}
    for run in runs:
        file.add(run)
    assert file.read() == {run.key: run for run in runs}
    assert RunsFile(file.path, dict(reversed(SETTINGS.items()))).read() == file.read()
    file.add(Run("exp(x)", 0, {"train_loss": math.nan}))
    assert math.isnan(file.read()["exp(x)", 0].measured["train_loss"])
    assert json.loads(file.path.read_text().splitlines()[0]) == {"settings": SETTINGS}


def test_of_two_runs_with_one_key_the_first_counts(file: RunsFile) -> None:
    file.add(Run("relu(x)", 0, {"val_accuracy": 0.5}))
    file.add(Run("relu(x)", 0, {"val_accuracy": 0.7}))
    assert file.read()["relu(x)", 0].measured == {"val_accuracy": 0.5}


def test_no_cut_of_the_last_line_does_harm(file: RunsFile) -> None:
    first, second, third = (Run(f"add(x,{n})", n, {"val_accuracy": n / 4}) for n in range(3))
    file.add(first)
    whole = file.path.read_bytes()
    file.add(second)
    added = file.path.read_bytes()[len(whole) :]
    for length in range(len(added)):
        file.path.write_bytes(whole + added[:length])
        assert file.read() == {first.key: first}
        file.add(third)
        # A line of which only the end of the line is missing is whole after all.
        complete = {second.key: second} if length == len(added) - 1 else {}
        assert file.read() == {first.key: first, third.key: third} | complete


def test_a_file_that_was_only_made_is_begun(file: RunsFile) -> None:
    file.path.parent.mkdir()
    file.path.touch()
    again = RunsFile(file.path, SETTINGS)
    assert again.read() == {}
    again.add(Run("relu(x)", 0, {"val_accuracy": 0.5}))
    assert len(RunsFile(file.path, SETTINGS).read()) == 1


def test_two_commands_may_begin_a_file_at_once(file: RunsFile) -> None:
    file.add(Run("relu(x)", 0, {"val_accuracy": 0.5}))
    both = file.path.read_bytes() + file.path.read_bytes().replace(b"relu", b"tanh")
    # Both found a line cut short, too.
    file.path.write_bytes(both + b'{"function": "e\n\n')
    assert set(file.read()) == {("relu(x)", 0), ("tanh(x)", 0)}


def test_writers_at_once_lose_nothing(file: RunsFile) -> None:
    def write(writer: int) -> None:
        own = RunsFile(file.path, SETTINGS)
        for number in range(50):
            own.add(Run(f"add(x,{number})", writer, {"val_accuracy": 0.5}, "x" * 500))

    threads = [threading.Thread(target=write, args=(writer,)) for writer in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(file.read()) == 200


def test_runs_of_other_settings_are_refused(file: RunsFile) -> None:
    file.add(Run("relu(x)", 0, {"val_accuracy": 0.5}))
    with pytest.raises(BenchmarkError, match="other settings; take another file.*epochs.: 2"):
        RunsFile(file.path, {**SETTINGS, "epochs": 2})


def test_what_is_no_file_of_runs_is_refused(file: RunsFile) -> None:
    file.path.parent.mkdir()
    file.path.write_bytes(b"\xff\xfe whatever\n")
    with pytest.raises(BenchmarkError, match="runs.jsonl holds training runs of other settings"):
        RunsFile(file.path, SETTINGS)


@pytest.mark.parametrize(
    "line",
    ["not JSON}", "[1, 2]", "{}", '{"function": "relu(x)", "seed": "one"}', "3",
     '{"function": "relu(x)", "seed": 0, "val_loss": "large"}'],
)  # fmt: skip
def test_a_damaged_line_is_named(file: RunsFile, line: str) -> None:
    file.add(Run("relu(x)", 0, {"val_accuracy": 0.5}))
    with file.path.open("a") as opened:
        opened.write(f"{line}\n")
    with pytest.raises(BenchmarkError, match="runs.jsonl, line 3, is no training run"):
        file.read()


@pytest.mark.parametrize("value", [object(), math.nan, {1, 2}, b"bytes"], ids=type)
def test_settings_that_json_cannot_hold_are_refused(tmp_path: Path, value: object) -> None:
    with pytest.raises(BenchmarkError, match="settings of a training must be what JSON can hold"):
        RunsFile(tmp_path / "runs.jsonl", {"value": value})


# The trainings


def test_fewer_processes_than_one_are_refused(file: RunsFile) -> None:
    with pytest.raises(ValueError, match="jobs must be 1 or more processes, got 0"):
        train_all(Noting("unused"), KEYS, file, jobs=0)


def test_only_what_is_missing_is_trained_once_each(
    file: RunsFile, tmp_path: Path, in_process: type[InProcess]
) -> None:
    training = Noting(tmp_path / "notes")
    file.add(Run(*KEYS[3], {"val_accuracy": 0.0}))
    file.add(Run(*KEYS[5], {}, "failed before"))
    reported: list[Run] = []
    train_all(training, [*KEYS, *KEYS], file, jobs=3, done=reported.append)
    missing = [key for key in KEYS if key not in (KEYS[3], KEYS[5])]
    assert Counter(training.noted()) == Counter(missing)
    assert Counter(run.key for run in reported) == Counter(missing)
    assert set(file.read()) == set(KEYS)
    train_all(training, KEYS, file)
    assert len(training.noted()) == len(missing)
    assert 1 <= in_process.started <= 3


def test_one_process_keeps_the_order(
    file: RunsFile, tmp_path: Path, in_process: type[InProcess]
) -> None:
    training = Noting(tmp_path / "notes")
    train_all(training, KEYS, file)
    assert training.noted() == list(file.read()) == KEYS


def test_the_third_death_is_a_failure_and_neighbours_end_well(
    file: RunsFile,
    tmp_path: Path,
    in_process: type[InProcess],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(in_process, "deadly", {"add(x,1)": 6, "add(x,3)": 2})
    train_all(Noting(tmp_path / "notes"), KEYS, file, jobs=2)
    runs = file.read()
    assert set(runs) == set(KEYS)
    failures = {key: run.failure for key, run in runs.items() if run.failure}
    reason = "its process died 3 times; the last time, the process ended with exit code 7"
    assert failures == {("add(x,1)", 0): reason, ("add(x,1)", 1): reason}
    assert DEATHS == {"add(x,1)": 6, "add(x,3)": 2}


def test_an_error_ends_the_work_and_keeps_what_ended(
    file: RunsFile, tmp_path: Path, in_process: type[InProcess]
) -> None:
    def training(function: str, seed: int) -> Mapping[str, float]:
        if function == "add(x,2)":
            raise RuntimeError("the disk is full")
        return {"val_accuracy": 0.5}

    threads = threading.active_count()
    with pytest.raises(RuntimeError, match="the disk is full"):
        train_all(training, KEYS, file)
    assert list(file.read()) == KEYS[:2]
    assert threading.active_count() == threads


def test_what_is_no_number_is_an_error(file: RunsFile, in_process: type[InProcess]) -> None:
    with pytest.raises(TypeError, match="must be a string or a real number, not 'list'"):
        train_all(lambda function, seed: {"val_accuracy": []}, KEYS, file)  # type: ignore[dict-item]  # on purpose


@pytest.mark.usefixtures("forgotten_operators")
def test_real_processes_are_interrupted_replaced_and_know_own_operators(
    file: RunsFile, tmp_path: Path
) -> None:
    register_operator("sine", lambda x: torch.sin(x))
    training = Troubled(tmp_path / "notes")
    keys = [(text, 0) for text in ("sine(x)", "exp(x)", "zero(x)", "tanh(x)")]
    pids: list[int] = []

    def interrupt(run: Run) -> None:
        pids.append(int(run.measured["pid"]))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_all(training, keys, file, done=interrupt)
    assert list(file.read()) == keys[:1]
    assert not is_running(pids[0])

    train_all(training, keys, file)
    assert pids[0] != os.getpid()
    runs = file.read()
    assert list(runs) == keys
    assert runs["zero(x)", 0] == Run("zero(x)", 0, {}, "no weights give unit variance")
    values = [runs[key].measured["val_accuracy"] for key in keys if key[0] != "zero(x)"]
    assert values == pytest.approx([math.sin(2), math.exp(2), math.tanh(2)], abs=1e-5)
    measured = runs["exp(x)", 0].measured
    assert math.isnan(measured["train_loss"])
    assert (measured["val_loss"], measured["test_loss"]) == (math.inf, -math.inf)
    assert measured["threads"] == 1
    # It died once, and was tried again at once.
    assert Counter(training.noted())["exp(x)", 0] == 2


def start(file: RunsFile, notes: Path, jobs: int = 1) -> subprocess.Popen[bytes]:
    """Start a command that trains everything."""
    arguments = [str(file.path), str(notes), str(jobs)]
    return subprocess.Popen([sys.executable, "-c", COMMAND, *arguments], cwd=ROOT)


def kill(commands: Sequence[subprocess.Popen[bytes]]) -> None:
    """Kill commands, and see that nothing of them stays."""
    processes = [
        process
        for command in commands
        for process in psutil.Process(command.pid).children(recursive=True)
    ]
    assert processes
    for command in commands:
        command.kill()
        command.wait()
    wait_until(
        lambda: not any(is_running(process.pid) for process in processes),
        "processes outlive the command that started them",
    )


@pytest.mark.parametrize("commands", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_killed_commands_are_resumed(
    file: RunsFile, tmp_path: Path, in_process: type[InProcess], commands: int
) -> None:
    notes = tmp_path / "notes"
    started = [start(file, notes, jobs=commands) for _ in range(commands)]
    wait_until(lambda: file.path.exists() and len(file.read()) >= 3, "nothing was trained")
    kill(started)
    kept = file.read()
    assert 3 <= len(kept) < len(KEYS)
    before = Noting(notes).noted()
    train_all(Noting(notes), KEYS, file)
    assert Noting(notes).noted()[len(before) :] == [key for key in KEYS if key not in kept]
    assert {key: file.read()[key] for key in kept} == kept
    assert set(file.read()) == set(KEYS)


class Deadly(Noting):
    """A training that kills its process for one function."""

    def __call__(self, function: str, seed: int) -> Mapping[str, float]:
        if function == "add(x,1)":
            os.kill(os.getpid(), signal.SIGKILL)
        return super().__call__(function, seed)


@pytest.mark.slow
def test_real_deaths_are_counted(file: RunsFile, tmp_path: Path) -> None:
    train_all(Deadly(tmp_path / "notes", 0.1), KEYS, file, jobs=2)
    runs = file.read()
    assert {key for key, run in runs.items() if run.measured} == {
        key for key in KEYS if key[0] != "add(x,1)"
    }
    assert len(runs) == len(KEYS)
    assert "died 3 times; the last time, the process died of signal 9" in str(
        runs["add(x,1)", 0].failure
    )


@pytest.mark.slow
def test_ctrl_c_leaves_no_process_behind(file: RunsFile, tmp_path: Path) -> None:
    command = start(file, tmp_path / "notes", jobs=2)
    wait_until(lambda: file.path.exists() and len(file.read()) >= 1, "nothing was trained")
    processes = psutil.Process(command.pid).children(recursive=True)
    command.send_signal(signal.SIGINT)
    assert command.wait() != 0
    assert processes
    assert not any(is_running(process.pid) for process in processes)
