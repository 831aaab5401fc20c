import argparse
import importlib.metadata
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import optuna
import pytest

from aquasurf_optuna._command_line import plain
from aquasurf_optuna.cli import main, parsed, parser_of_commands
from aquasurf_optuna.exceptions import ExpressionError
from tests.aquasurf_optuna.studies import FOUND, SPACE, Page, study_of

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture(scope="module")
def storage(tmp_path_factory: pytest.TempPathFactory) -> str:
    url = f"sqlite:///{tmp_path_factory.mktemp('storage') / 'study.db'}"
    study = optuna.create_study(storage=url, study_name="digits", direction="maximize")
    study.add_trials(study_of().get_trials())
    study.optimize(lambda trial: float(SPACE.suggest(trial, "head").depth), n_trials=1)
    return url


def failure(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """Run a command that must fail, and return its one line on standard error."""
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    [line] = captured.err.splitlines()
    assert line.startswith("aquasurf: error: ")
    return line.removeprefix("aquasurf: error: ")


def test_report(capsys: pytest.CaptureFixture[str], tmp_path: Path, storage: str) -> None:
    path = tmp_path / "r.html"
    words = ["report", "--storage", storage, "--study", "digits", "--output", str(path)]
    assert main([*words, "--value-name", "accuracy"]) == 0
    assert capsys.readouterr().out == f"wrote {path}\n"
    text = Page(path.read_text(encoding="utf-8")).text()
    assert f"The best function is {FOUND}, with accuracy 0.8000" in text
    assert main([*words, "--name", "head", "--schema", "binary(unary(x),unary(x))"]) == 0


def test_report_names_what_is_wrong(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, storage: str
) -> None:
    output = ["--output", str(tmp_path / "r.html")]
    own = ["report", "--storage", storage, *output, "--study"]
    assert "there is no study 'x'" in failure(capsys, *own, "x")
    assert "its studies are: 'digits'" in failure(capsys, *own, "x")
    assert "no trial has an activation named 'x'" in failure(capsys, *own, "digits", "--name", "x")
    assert "has only ['activation.0']" in failure(capsys, *own, "digits", "--schema", "unary(x)")
    assert "not a schema" in failure(capsys, *own, "digits", "--schema", "relu(")
    folder = failure(
        capsys, "report", "--storage", storage, "--study", "digits", "--output", str(tmp_path)
    )
    assert "this is a folder" in folder
    assert list(tmp_path.iterdir()) == []


def commands_of(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    """Every command of a parser, and theirs."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                yield command
                yield from commands_of(command)


COMMANDS = {
    command.prog.replace(" [options]", ""): command for command in commands_of(parser_of_commands())
}


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_shows_an_example_that_can_be_typed(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="0"):
        main([*name.split()[1:], "--help"])
    shown = capsys.readouterr().out
    examples = re.findall(r"^  (aquasurf .*)$", shown, flags=re.MULTILINE)
    assert examples
    for example in examples:
        assert f"{example} ".startswith(f"{name} ")
        command, _ = parsed(shlex.split(example)[1:])
        assert command.name in name.split() or f"{name} {command.name} " in example


def test_options_that_are_not_known_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["show", "relu(x)", "--trainer.max_epochs", "5"])
    assert "unrecognized arguments: --trainer.max_epochs 5" in capsys.readouterr().err


def test_a_file_of_options(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    file = tmp_path / "report.yaml"
    file.write_text("storage: sqlite:///a.db\nstudy: mine\noutput: mine.html\n")
    words = ["report", "--config", str(file), "--study", "yours"]
    _, options = parsed(words)
    assert (options.storage, options.study, options.output) == (
        "sqlite:///a.db",
        "yours",
        "mine.html",
    )
    with pytest.raises(SystemExit, match="0"):
        main([*words, "--print_config"])
    printed = capsys.readouterr().out
    # It holds every option and nothing else, and is such a file itself.
    file.write_text(printed)
    assert sorted(line.split(":")[0] for line in printed.splitlines()) == sorted(
        ["storage", "study", "name", "schema", "value_name", "output"]
    )
    _, again = parsed(["report", "--config", str(file)])
    assert {**again, "config": None} == {**options, "config": None}


def test_what_the_parser_says_is_told_plainly() -> None:
    for said, told in {
        "Parser key \"n\":\n  Expected a <class 'int'>. Got value: x": "n: must be int, got x",
        'Parser key "s":\n  Not of type NonNegativeInt: -3 does not conform to restriction v>=0': (
            "s: must be a whole number of 0 or more, got -3"
        ),
        "something\n  new": "something new",
    }.items():
        assert plain(said) == told


@pytest.mark.parametrize("words", [["--debug", "show"], ["show", "--debug"]])
def test_debug_shows_where_an_error_comes_from(words: list[str]) -> None:
    with pytest.raises(ExpressionError, match="relu"):
        main([*words, "relu("])


def test_an_error_without_debug_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert "relu(" in failure(capsys, "show", "relu(")


@pytest.mark.parametrize("shell", ["bash", "zsh", "tcsh"])
def test_shells_complete_the_commands(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main(["--print-completion", shell])
    script = capsys.readouterr().out
    assert all(name.split()[1] in script for name in COMMANDS)


def completed(words: str, folder: Path, script: Path) -> list[str]:
    """What bash offers for a command line that is typed so far."""
    program = f"""
        source {script}
        COMP_WORDS=({words} ""); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1))
        $(complete -p aquasurf | sed 's/.*-F \\([^ ]*\\).*/\\1/')
        printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    done = subprocess.run(
        ["bash", "--norc", "-c", program], cwd=folder, capture_output=True, text=True, check=True
    )
    return done.stdout.split()


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")
def test_bash_offers_commands_options_and_files(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="0"):
        main(["--print-completion", "bash"])
    script = tmp_path / "completion.sh"
    script.write_text(capsys.readouterr().out)
    (tmp_path / "mine.yaml").touch()
    assert {"search", "show", "bench"} <= set(completed("aquasurf", tmp_path, script))
    assert "mine.yaml" in completed("aquasurf search --config", tmp_path, script)


def test_a_mistyped_storage_leaves_no_database_behind(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    for url in (f"sqlite:///{tmp_path / 'no.db'}", "sqlite://"):
        words = ("report", "--storage", url, "--study", "s")
        assert f"there is no database {url!r}" in failure(capsys, *words)
    assert list(tmp_path.iterdir()) == []


def test_a_storage_that_is_none(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    foreign = tmp_path / "other.db"
    foreign.write_bytes(b"")
    for content in (b"", b"this is no database at all, but a text"):
        foreign.write_bytes(content)
        words = ("report", "--storage", f"sqlite:///{foreign}", "--study", "s")
        assert "cannot read a study from 'sqlite:///" in failure(capsys, *words)
        assert foreign.read_bytes() == content
    words = ("report", "--storage", "study.db", "--study", "s")
    assert "must be a URL such as sqlite:///study.db, got 'study.db'" in failure(capsys, *words)


def test_passwords_are_not_shown(capsys: pytest.CaptureFixture[str]) -> None:
    # No such driver exists, so nothing is asked over a network.
    url = "postgresql+nosuchdriver://user:secret@localhost/x"
    line = failure(capsys, "report", "--storage", url, "--study", "s")
    assert "user:***@localhost" in line
    assert "secret" not in line


def test_the_version(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.metadata, "version", lambda name: f"1.2.3 of {name}")
    with pytest.raises(SystemExit, match="^0$"):
        main(["--version"])
    assert capsys.readouterr().out == "aquasurf 1.2.3 of aquasurf\n"


def test_the_version_of_a_source_tree(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", missing)
    with pytest.raises(SystemExit, match="^0$"):
        main(["--version"])
    assert "not installed" in capsys.readouterr().out


@pytest.mark.parametrize("words", [[], ["show"], ["dance"], ["report", "--study", "s"]])
def test_a_command_line_that_cannot_be_read(
    capsys: pytest.CaptureFixture[str], words: list[str]
) -> None:
    with pytest.raises(SystemExit, match="^2$"):
        main(words)
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("aquasurf: error: ")
    program = " ".join(["aquasurf", *(word for word in words[:1] if word != "dance")])
    assert line.endswith(f"; `{program} --help` shows what there is")


def test_the_module_is_a_program() -> None:
    command = [sys.executable, "-m", "aquasurf_optuna.cli", "show", "rule(x)"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("aquasurf: error: unknown operator 'rule'")
    assert "Traceback" not in done.stderr
