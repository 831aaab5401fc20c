"""Two ranks leave a training in the same way, however they were started."""

import json
import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from lightning.pytorch.strategies import FSDPStrategy, SingleDeviceStrategy

from aquasurf_optuna.exceptions import UnsupportedModelError
from lightning_modules.callbacks import INVALID_KEY, PREDICTION_KEY, SUMMARY_KEY
from lightning_modules.callbacks._ranks import Mailbox, check_strategy, from_rank_zero

ROOT = Path(__file__).parents[3]
REASON = "layer '3': the activations that enter vanish: all are zero"
PRUNED = f"the Fisher eigenvalues at initialisation are invalid: {REASON}"

Reports = dict[str, dict[str, Any]]


def run(directory: Path, *ways: str) -> None:
    command = [sys.executable, "-m", "tests.lightning_modules.callbacks.two_ranks"]
    done = subprocess.run(
        [*command, str(directory), *ways],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Everything that needs no new interpreter for each rank, in one run."""
    directory = tmp_path_factory.mktemp("two_ranks")
    run(directory, "fork", "scripts")
    return directory


@pytest.fixture(scope="module")
def workers(directory: Path) -> Reports:
    reports: Reports = json.loads((directory / "fork.json").read_text())
    return reports


@pytest.fixture(scope="module", params=[0, 1])
def rank(directory: Path, request: pytest.FixtureRequest) -> tuple[int, Reports]:
    return request.param, json.loads((directory / f"rank_{request.param}.json").read_text())


# The main process starts the ranks


def test_a_valid_trial_is_trained_by_workers(workers: Reports) -> None:
    report = workers["valid"]
    assert report["raised"] is None
    assert report["moved"]
    assert report["state"] == "COMPLETE"
    assert list(report["attributes"]) == [SUMMARY_KEY]


@pytest.mark.parametrize("storage", ["invalid", "invalid, journal"])
def test_workers_stop_without_a_step_and_the_parent_prunes(workers: Reports, storage: str) -> None:
    report = workers[storage]
    assert report["raised"] is None
    assert not report["moved"]
    assert report["state"] == "PRUNED"
    assert report["attributes"] == {INVALID_KEY: REASON}


def test_a_bad_prediction_prunes_in_the_parent(workers: Reports) -> None:
    report = workers["bad prediction"]
    assert not report["moved"]
    assert report["state"] == "PRUNED"
    assert report["attributes"][PREDICTION_KEY] == {"predicted": 0.125, "worse_than": 0.5}


def check_without_a_trial(report: dict[str, Any]) -> None:
    assert report["raised"] is None
    assert not report["moved"]
    assert report["checked"] == {"raised": "InvalidSpectrumError", "message": REASON}
    assert report["table"].splitlines() == ["fisher/invalid,step", "1.0,0"]


def test_without_a_trial_the_reason_reaches_the_parent(workers: Reports) -> None:
    check_without_a_trial(workers["no trial"])


def test_a_study_in_memory_is_refused_at_the_start(workers: Reports) -> None:
    report = workers["in memory"]
    assert report["raised"] == "ProcessRaisedException"
    assert "the trial's study is kept in the memory of the main process" in report["message"]
    assert not report["moved"]


def test_workers_do_not_wait_for_a_rank_zero_that_failed(workers: Reports) -> None:
    report = workers["rank zero fails"]
    assert report["raised"] == "ProcessRaisedException"
    assert "FileNotFoundError" in report["message"]
    assert not report["moved"]


@pytest.mark.slow
def test_spawned_workers_do_as_forked_ones(tmp_path: Path) -> None:
    run(tmp_path, "spawn")
    reports: Reports = json.loads((tmp_path / "spawn.json").read_text())
    assert reports["invalid"]["state"] == "PRUNED"
    assert not reports["invalid"]["moved"]
    assert reports["invalid"]["attributes"] == {INVALID_KEY: REASON}
    check_without_a_trial(reports["no trial"])


# Each rank runs the script


def test_only_rank_zero_computes_and_both_train(rank: tuple[int, Reports]) -> None:
    number, reports = rank
    report = reports["valid"]
    assert report["raised"] is None
    assert report["moved"]
    assert report["eigenvalues"] is (number == 0)


@pytest.mark.parametrize(
    ("case", "expected", "message"),
    [
        ("no trial", "InvalidSpectrumError", REASON),
        ("trial on rank zero", "TrialPruned", PRUNED),
        ("trial of all ranks", "TrialPruned", PRUNED),
    ],
)
def test_both_ranks_raise_the_same(
    rank: tuple[int, Reports], case: str, expected: str, message: str
) -> None:
    number, reports = rank
    report = reports[case]
    assert (report["raised"], report["message"]) == (expected, message)
    assert report["reason"] == REASON
    assert not report["moved"]
    if case == "trial of all ranks" or (case == "trial on rank zero" and number == 0):
        assert report["attributes"] == {INVALID_KEY: REASON}


def test_the_other_rank_raises_what_rank_zero_raised(rank: tuple[int, Reports]) -> None:
    number, reports = rank
    assert reports["rank zero fails"]["raised"] == "FileNotFoundError"
    assert reports["rank zero fails untold"]["raised"] == ["LocalError", "RuntimeError"][number]
    assert reports["rank zero fails untold"]["message"].endswith("no idea")


def test_synchronised_normalisation_does_not_wait_for_the_others(
    rank: tuple[int, Reports],
) -> None:
    _, reports = rank
    assert reports["synchronised"]["together"]["raised"] == "ValueError"
    assert reports["synchronised"]["alone"]["raised"] is None


# One process


def test_a_single_rank_raises_its_own_error() -> None:
    class LocalError(Exception):
        pass

    def fail() -> None:
        raise LocalError("mine")

    with pytest.raises(LocalError, match="mine"):
        from_rank_zero(SingleDeviceStrategy(), fail)
    assert from_rank_zero(SingleDeviceStrategy(), lambda: 3) == 3


def test_a_network_in_shards_is_refused() -> None:
    with pytest.raises(UnsupportedModelError, match="FSDPStrategy spreads the network"):
        check_strategy(FSDPStrategy())
    check_strategy(SingleDeviceStrategy())


def test_a_mailbox_holds_the_last_letter() -> None:
    mailbox = Mailbox()
    assert mailbox.read() == []
    mailbox.write("invalid", "naïve \U0001f600 \0 reason", None)
    assert mailbox.read() == ["invalid", "naïve \U0001f600 \0 reason", None]
    copied = pickle.loads(pickle.dumps(mailbox))
    assert copied.read() == mailbox.read()
    assert copied._memory.is_shared()
    mailbox.write("pruned", "\U0001f600" * 100_000)
    kind, text = mailbox.read()
    assert kind == "pruned"
    assert text == "\U0001f600" * len(text or "") != ""
    mailbox.write()
    assert mailbox.read() == []
