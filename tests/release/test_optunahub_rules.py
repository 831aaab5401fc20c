"""Each of the registry's rules finds a package that breaks it."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

import release.optunahub._tool_rules as tool_rules
from release.optunahub import RULES, PackageError, problems
from release.optunahub._package import Package
from tests.release.breaches import BREACHES, Break, add

CASES = [
    pytest.param(rule, break_it, said, id=f"{rule.__name__}-{number}")
    for rule in RULES
    for number, (break_it, said) in enumerate(BREACHES[rule.__name__])
]


def test_every_rule_is_broken_here_and_names_its_source() -> None:
    assert set(BREACHES) == {rule.__name__ for rule in RULES}
    for rule in RULES:
        assert re.search(r"Source: (registry|optunahub), \S+", rule.__doc__ or ""), rule


@pytest.mark.parametrize(("rule", "break_it", "said"), CASES)
def test_each_rule_finds_a_package_that_breaks_it(
    folder: Path, rule: Callable[[Package], list[str]], break_it: Break, said: str
) -> None:
    break_it(folder)
    if not folder.exists():  # it was moved
        [folder] = [path.parent for path in folder.parents[2].rglob("__init__.py")]
    found = rule(Package(folder))

    assert any(re.search(said, problem) for problem in found), found


def test_an_empty_folder_has_problems_and_none_is_an_exception(tmp_path: Path) -> None:
    empty = tmp_path / "package" / "samplers" / "empty"
    empty.mkdir(parents=True)
    found = problems(empty)

    for name in ("README.md", "LICENSE", "__init__.py"):
        assert f"{name}: it is missing; add it" in found


def test_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PackageError, match="is no folder; name the folder of a package"):
        problems(tmp_path / "absent")


def test_code_within_the_readme_is_not_read_as_its_text(folder: Path) -> None:
    text = (folder / "README.md").read_text()
    code = "\n```shell\n## echo <b> `\n\n\ntrailing  \n```\n\n`<b>` is code\n\n## APIs"
    add("README.md", text.replace("\n## APIs", code))(folder)

    readme = [rule for rule in RULES if "readme" in rule.__name__ or "section" in rule.__name__]
    assert [problem for rule in readme for problem in rule(Package(folder))] == []


def test_a_tool_that_is_not_installed_is_asked_for(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tool_rules.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(PackageError, match=r"ruff, which is not installed; install .*\[test\]"):
        tool_rules.ruff_is_content(Package(folder))
