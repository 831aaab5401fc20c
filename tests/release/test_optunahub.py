"""The package for OptunaHub: it is written whole or not at all, says what is so, and runs."""

import importlib.util
import inspect
import os
import re
import runpy
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import optuna
import pytest

import aquasurf_optuna
import release.optunahub._rules as rules_module
import release.optunahub._writing as writing
from aquasurf_optuna import AquaSurfSampler
from release.optunahub import RULES, PackageError, texts, write_package
from release.optunahub.__main__ import main
from release.optunahub._arguments import argument_list
from release.optunahub._package import Package
from release.optunahub._tool_rules import TOOL_RULES

ROOT = Path(__file__).parent.parent.parent
ADDRESS = Path("package", "samplers", "aquasurf")


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out the rules that start programs: what follows is about the others' answers."""
    others = tuple(rule for rule in RULES if rule not in TOOL_RULES)
    monkeypatch.setattr(rules_module, "RULES", others)


def contents(folder: Path) -> dict[str, bytes]:
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def test_the_package_has_the_files_of_the_registry_and_nothing_is_beside_it(output: Path) -> None:
    assert sorted(contents(output)) == [
        str(ADDRESS / name)
        for name in (
            "LICENSE",
            "README.md",
            "__init__.py",
            "example.py",
            "requirements.txt",
            "tests/test_sampler.py",
        )
    ]


def test_checking_it_again_finds_no_problem(
    output: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--check", str(output / ADDRESS)]) == 0
    assert capsys.readouterr().out == "no problems\n"


def test_it_says_what_the_repository_says(output: Path) -> None:
    package = Package(output / ADDRESS)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

    assert package.text("requirements.txt") == f"{project['name']}>={project['version']}\n"
    assert package.text("LICENSE") == (ROOT / "LICENSE").read_text()
    assert package.front_matter["optuna_versions"] == [optuna.__version__]
    assert package.front_matter["author"] == project["authors"][0]["name"]
    assert f"`aquasurf` {project['version']}" in package.readme
    for name, parameter in inspect.signature(AquaSurfSampler).parameters.items():
        assert f"- `{name}` (`{parameter.annotation}`" in package.sections["APIs"]
    assert "default `BASELINES`)" in package.sections["APIs"]
    assert ":class:" not in package.readme
    assert "``" not in package.unfenced
    [snippet] = package.snippets
    assert snippet.strip() == package.text("example.py").strip()


def test_a_docstring_that_does_not_fit_its_signature_is_refused() -> None:
    class Sampler:
        """Something.

        Args:
            seed: The seed.
        """

        def __init__(self, seed: int, store: str) -> None: ...

    with pytest.raises(PackageError, match="takes seed, store, but its docstring describes seed"):
        argument_list(Sampler)


def test_a_template_that_asks_for_the_unknown_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    module = sys.modules[texts.__module__]
    shutil.copytree(ROOT / "release" / "optunahub" / "templates", tmp_path / "templates")
    (tmp_path / "templates" / "example.py.template").write_text("$colour\n")
    monkeypatch.setattr(module, "_TEMPLATES", tmp_path / "templates")

    with pytest.raises(PackageError, match=r"example.py.template cannot be filled in: 'colour'"):
        texts()


@pytest.mark.usefixtures("quick")
def test_a_package_with_a_problem_is_not_written(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = {**texts(), "LICENSE": "All rights reserved\n"}
    monkeypatch.setattr(writing, "texts", lambda: broken)

    assert main([str(tmp_path)]) == 1
    assert "LICENSE: not the text of the MIT License" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("quick")
def test_an_earlier_package_is_replaced_by_force_alone(tmp_path: Path) -> None:
    folder = write_package(tmp_path)
    assert folder == tmp_path / ADDRESS
    (folder / "example.py").write_text("old\n")
    (folder / "old.py").write_text("")

    with pytest.raises(PackageError, match="is there already; replace it with --force"):
        write_package(tmp_path)
    assert (folder / "example.py").read_text() == "old\n"

    write_package(tmp_path, force=True)
    assert sorted(contents(folder)) == sorted(texts())
    assert [path.name for path in tmp_path.iterdir()] == ["package"]


@pytest.mark.usefixtures("quick")
def test_an_earlier_package_stays_where_the_new_one_fails(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    folder = write_package(tmp_path)
    before = contents(folder)
    rename = Path.rename

    def refuse(self: Path, target: Path) -> Path:
        if target == folder and "earlier" not in self.name:
            raise OSError("no space left")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", refuse)
    with pytest.raises(OSError, match="no space left"):
        write_package(tmp_path, force=True)
    assert contents(folder) == before
    assert [path.name for path in tmp_path.iterdir()] == ["package"]


@pytest.mark.usefixtures("quick")
def test_what_is_not_this_package_is_never_replaced(tmp_path: Path) -> None:
    folder = tmp_path / ADDRESS
    folder.mkdir(parents=True)
    (folder / "thesis.txt").write_text("dear")

    with pytest.raises(PackageError, match="holds something other than this package"):
        write_package(tmp_path, force=True)
    assert contents(folder) == {"thesis.txt": b"dear"}

    shutil.rmtree(folder)
    folder.write_text("a file")
    with pytest.raises(PackageError, match="is not a folder; move it away"):
        write_package(tmp_path, force=True)


@pytest.mark.usefixtures("quick")
def test_an_empty_folder_is_filled(tmp_path: Path) -> None:
    (tmp_path / ADDRESS).mkdir(parents=True)
    assert sorted(contents(write_package(tmp_path))) == sorted(texts())


def test_problems_end_the_check_with_1(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "LICENSE").unlink()
    assert main([str(folder), "--check"]) == 1
    assert "LICENSE: it is missing; add it" in capsys.readouterr().out


def load(folder: Path) -> dict[str, object]:
    return runpy.run_path(str(folder / "__init__.py"))


def test_its_init_hands_on_the_installed_classes(output: Path) -> None:
    spec = importlib.util.spec_from_file_location("hub", output / ADDRESS / "__init__.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)

    assert "AquaSurfSampler" in module.__all__
    for name in module.__all__:
        assert getattr(module, name) is getattr(aquasurf_optuna, name)


def test_without_the_distribution_it_says_how_to_install_it(
    output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "aquasurf_optuna", None)
    with pytest.raises(ImportError, match=r'install it with `pip install "aquasurf>=\d'):
        load(output / ADDRESS)


def test_a_distribution_that_is_too_old_is_named(
    output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(aquasurf_optuna, "Catalogue")
    with pytest.raises(ImportError, match="needs aquasurf .* or newer"):
        load(output / ADDRESS)


def test_what_is_missing_within_the_distribution_is_not_hidden(
    output: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "aquasurf_optuna.py").write_text("import a_dependency_that_is_missing\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "aquasurf_optuna")
    with pytest.raises(ImportError, match="No module named 'a_dependency_that_is_missing'"):
        load(output / ADDRESS)


def test_the_example_runs(
    output: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    # OptunaHub looks here first, so nothing is downloaded.
    cached = tmp_path / "github.com" / "optuna" / "optunahub-registry" / "main" / ADDRESS
    shutil.copytree(output / ADDRESS, cached)
    monkeypatch.setenv("OPTUNAHUB_CACHE_HOME", str(tmp_path))
    example = output / ADDRESS / "example.py"
    smaller = tmp_path / "example.py"
    code = example.read_text()
    for old, new in (("pool_size=50", "pool_size=12"), ("n_trials=20", "n_trials=10")):
        assert old in code
        code = code.replace(old, new)
    smaller.write_text(code)

    runpy.run_path(str(smaller))
    printed = capsys.readouterr().out.splitlines()[-1]
    assert re.fullmatch(r"\w+\(\w+\(x\),\w+\(x\)\) 0\.\d+|\w+\(x\) 0\.\d+", printed)


@pytest.mark.slow
def test_its_own_tests_pass(output: Path, tmp_path: Path) -> None:
    registry = tmp_path / "registry"
    shutil.copytree(output, registry)
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "pytest", "-q", "-W", "error", "-p", "no:cacheprovider"]
    done = subprocess.run(
        [*command, f"--rootdir={registry}", str(ADDRESS / "tests")],
        cwd=registry,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    passed = re.search(r"(\d+) passed", done.stdout)
    assert passed
    assert int(passed[1]) > 100  # Optuna's tests of any sampler are among them
    assert "skipped" not in done.stdout
