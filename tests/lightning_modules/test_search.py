"""A search from a configuration: the trials are its runs, it goes on, and says what is amiss."""

import contextlib
import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState

from aquasurf_optuna._explanation import EXPLANATION_KEY
from aquasurf_optuna.cli import main, parsed
from aquasurf_optuna.exceptions import SettingsError
from aquasurf_optuna.space import SearchSpace
from lightning_modules import search as search_module
from lightning_modules._quiet import quiet_lightning
from lightning_modules.cli import run
from lightning_modules.search import SearchOptions, search

ROOT = Path(__file__).parents[2]
CONFIG = ROOT / "examples" / "configs" / "all_cnn_c_digits.yaml"
QUICK = (
    "--trainer.max_epochs=1",
    "--trainer.limit_train_batches=3",
    "--trainer.limit_val_batches=2",
)
"""Arguments that make a run a matter of a tenth of a second."""


@pytest.fixture
def options(tmp_path: Path) -> SearchOptions:
    return SearchOptions(trials=10, pool=12, storage=f"sqlite:///{tmp_path / 'study.db'}")


def test_every_trial_is_a_run_of_the_configuration(options: SearchOptions) -> None:
    study = search(CONFIG, options, QUICK)
    assert len(study.trials) == 10
    space = SearchSpace.three_node()
    complete = [t for t in study.trials if t.state == TrialState.COMPLETE]
    assert len(complete) >= 5
    for trial in (complete[0], complete[-1]):
        function = space.expression_of(trial.params, "activation")
        command = ["fit", "--config", str(CONFIG), *QUICK, "--model.activation", str(function)]
        with quiet_lightning():
            measured = run(command).trainer.callback_metrics["val_accuracy"]
        assert trial.value == pytest.approx(float(measured))
    # The last two were proposed by the surrogate, which knows their spectra.
    assert study.trials[-1].system_attrs[EXPLANATION_KEY]["why"] == "predicted"


def test_a_study_goes_on_where_it_stopped(
    options: SearchOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    def interrupted(arguments: list[str], **settings: object) -> object:
        calls.append(arguments)
        if len(calls) == 4:
            # As Lightning does at Ctrl-C.
            raise SystemExit(1)
        return run(arguments, **settings)  # type: ignore[arg-type]  # passed on as they came

    monkeypatch.setattr(search_module.cli, "run", interrupted)
    # The first call reads the configuration.
    with pytest.raises(KeyboardInterrupt):
        search(CONFIG, options, QUICK)
    states = [
        trial.state
        for trial in optuna.load_study(study_name="search", storage=options.storage).trials
    ]
    assert states[-1] == TrialState.FAIL
    assert TrialState.RUNNING not in states
    study = search(CONFIG, options, QUICK)
    ended = study.get_trials(states=(TrialState.COMPLETE, TrialState.PRUNED))
    assert len(ended) == 10
    assert len(study.trials) == 11
    n_calls = len(calls)
    assert len(search(CONFIG, options, QUICK).trials) == 11
    # It has all its trials: only the configuration was read.
    assert len(calls) == n_calls + 1


PROGRAM = """
import signal
# A shell starts what it puts into the background without SIGINT.
signal.signal(signal.SIGINT, signal.default_int_handler)
from aquasurf_optuna.cli import main
raise SystemExit(main())
"""


def test_ctrl_c_leaves_a_study_that_goes_on(tmp_path: Path) -> None:
    storage = f"sqlite:///{tmp_path / 'study.db'}"
    command = [
        sys.executable, "-c", PROGRAM, "search", "--config", str(CONFIG), "--pool", "12",
        "--storage", storage, "--trials", "500",
        "--trainer.max_epochs=40", "--trainer.limit_val_batches=2",
    ]  # fmt: skip
    with subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        try:
            for _ in range(600):
                time.sleep(0.1)
                if _n_parameters(tmp_path / "study.db") >= 1 or process.poll() is not None:
                    break
            os.kill(process.pid, signal.SIGINT)
            said, _ = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == 130, said
    assert "interrupted: study 'search' keeps its trials" in said
    states = {t.state for t in optuna.load_study(study_name="search", storage=storage).trials}
    assert TrialState.RUNNING not in states


def _n_parameters(database: Path) -> int:
    try:
        with contextlib.closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as records:
            return int(records.execute("select count(*) from trial_params").fetchone()[0])
    except sqlite3.OperationalError:
        # It is being made.
        return 0


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    storage = f"sqlite:///{tmp_path / 'study.db'}"
    arguments = ["search", "--config", str(CONFIG), "--trials", "9", "--pool", "12"]
    assert main([*arguments, "--storage", storage, *QUICK]) == 0
    said = capsys.readouterr().out
    assert "9 trials (" in said
    assert "best: " in said
    report = said.strip().splitlines()[-1].removeprefix("its report: aquasurf ")
    output = tmp_path / "r.html"
    assert main([*report.replace("'", "").split(), "--output", str(output)]) == 0
    assert output.stat().st_size > 100_000


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--metric", "val_f1"], "the run logs no metric 'val_f1'; it logs "),
        (["--space", "five_node"], "five_node"),
        (["--trials", "0"], "trials must be at least 1, got 0"),
        (["--config", "no.yaml"], "no.yaml"),
        (["--trials", "many"], "the command line cannot be used: trials: must be int, got many"),
        (["--trainer.epochs", "2"], "unrecognized arguments: --trainer.epochs 2"),
        (["--model.activation", "swsh(x)"], "swsh"),
    ],
)
def test_what_is_amiss_is_told_in_one_line(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    storage = f"sqlite:///{tmp_path / 'study.db'}"
    command = ["search", "--config", str(CONFIG), "--pool", "10", "--storage", storage]
    assert main([*command, *arguments, *QUICK]) == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert said[-1].startswith("aquasurf: error: ")
    assert message in said[-1]


def test_another_direction_is_refused(options: SearchOptions) -> None:
    optuna.create_study(study_name="search", storage=options.storage, direction="minimize")
    with pytest.raises(SettingsError, match="study 'search' is there already, to minimize"):
        search(CONFIG, options, QUICK)


def test_settings_are_checked() -> None:
    with pytest.raises(SettingsError, match="direction must be maximize or minimize, got 'up'"):
        SearchOptions(direction="up")  # type: ignore[arg-type]  # refused when it runs
    with pytest.raises(SettingsError, match="pool must be at least 1"):
        SearchOptions(pool=0)


def test_one_file_holds_the_search_and_the_configuration(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["search", "--config", str(CONFIG), "--trials", "3", "--pool", "10", *QUICK]
    storage = f"sqlite:///{tmp_path / 'study.db'}"
    with pytest.raises(SystemExit, match="0"):
        main([*words, "--storage", storage, "--print_config"])
    file = tmp_path / "all.yaml"
    file.write_text(capsys.readouterr().out)
    _, wanted = parsed([*words, "--storage", storage])
    _, found = parsed(["search", "--config", str(file)])
    assert found == wanted
    assert found.options == SearchOptions(trials=3, pool=10, storage=storage)
    assert "max_epochs: 1" in found.configuration
    own = tmp_path / "own.yaml"
    own.write_text("trials: 4\ntrainer:\n  max_epochs: 2\n")
    # Later files go before earlier ones, and options before both.
    _, found = parsed(["search", "--config", str(file), "--config", str(own), "--pool", "11"])
    assert (found.options.trials, found.options.pool) == (4, 11)
    assert "max_epochs: 2" in found.configuration
    assert main(["search", "--config", str(file)]) == 0
    assert "3 trials (" in capsys.readouterr().out


def test_a_search_needs_a_configuration(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["search", "--trials", "3"]) == 2
    assert "Say --config FILE" in capsys.readouterr().err


def test_a_missing_package_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "lightning_modules.search", None)
    assert main(["search", "--config", str(CONFIG)]) == 2
    said = capsys.readouterr().err
    assert "aquasurf search needs lightning_modules.search: pip install 'aquasurf[light" in said
