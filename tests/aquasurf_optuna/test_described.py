"""What a YAML file describes: its keys and types, and objects that are called by import path."""

from __future__ import annotations

import builtins
import sys
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from types import NoneType
from typing import Any

import pytest

from aquasurf_optuna._described import called, checked, read_yaml
from aquasurf_optuna.exceptions import AquaSurfError, BenchmarkError

KINDS: dict[str, tuple[type, ...]] = {
    "n": (int, NoneType),
    "rate": (int, float),
    "name": (str,),
    "quick": (bool,),
}
HERE = __name__


def half(whole: int, *, by: int = 2) -> Fraction:
    if by == 3:
        raise BenchmarkError("by three is not for us")
    if by == 4:
        raise KeyError("a fault of the program")
    return Fraction(whole, by)


NO_FUNCTION = 3


# The file


def test_settings_are_read(tmp_path: Path) -> None:
    path = tmp_path / "settings.yaml"
    path.write_text("n: null\nrate: 2\nname: größer\nquick: true\n", encoding="utf-8")
    expected = {"n": None, "rate": 2, "name": "größer", "quick": True}
    assert read_yaml(str(path), KINDS) == expected
    path.write_text("{}")
    assert read_yaml(str(path), KINDS) == {}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"n: [1", "settings.yaml is not YAML: while parsing"),
        (b"name: \xff", "settings.yaml is not YAML: "),
        (b"!!python/object/apply:os.getcwd []", "is not YAML: could not determine a constructor"),
        (b"", "settings.yaml must hold n, rate, name, quick, got NoneType: None"),
        (b"- n", r"must hold n, rate, name, quick, got list: \['n'\]"),
        (b"m: 3", "settings.yaml has an unknown key 'm'; known are n, rate, name, quick"),
        (b"1: 3", "settings.yaml has an unknown key 1; known are"),
    ],
)
def test_what_is_no_file_of_settings_is_refused(
    tmp_path: Path, content: bytes, message: str
) -> None:
    path = tmp_path / "settings.yaml"
    path.write_bytes(content)
    with pytest.raises(AquaSurfError, match=message) as caught:
        read_yaml(str(path), KINDS)
    assert "\n" not in str(caught.value)


def test_no_file_is_the_callers_to_report(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"missing.yaml"):
        read_yaml(str(tmp_path / "missing.yaml"), KINDS)


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without_yaml(name: str, *arguments: Any, **options: Any) -> Any:
        if name == "yaml":
            raise ImportError(name)
        return real(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", without_yaml)
    with pytest.raises(AquaSurfError, match="--config needs PyYAML: pip install pyyaml"):
        read_yaml("unread", KINDS)


@pytest.mark.parametrize(
    ("key", "value", "allowed"),
    [
        ("n", 1.5, "int or null"),
        ("n", True, "int or null"),
        ("n", "3", "int or null"),
        ("rate", False, "int or float"),
        ("rate", None, "int or float"),
        ("name", 3, "str"),
        ("quick", 1, "bool"),
    ],
)
def test_other_types_are_refused(key: str, value: object, allowed: str) -> None:
    with pytest.raises(AquaSurfError, match=f"{key} in the file must be {allowed}, got {value!r}"):
        checked({key: value}, KINDS, "the file")


# Calls


def test_a_callable_is_called_with_its_arguments() -> None:
    described = {"call": f"{HERE}.half", "arguments": {"whole": 3, "by": 5}}
    assert called(described, "thing", Fraction) == Fraction(3, 5)
    assert called({"call": "fractions.Fraction"}, "thing", object) == 0
    assert described == {"call": f"{HERE}.half", "arguments": {"whole": 3, "by": 5}}


def test_modules_beside_the_file_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "described_beside.py").write_text("def make():\n    return 'made'\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "described_beside", raising=False)
    assert called({"call": "described_beside.make"}, "thing", str) == "made"
    monkeypatch.delitem(sys.modules, "described_beside")


@pytest.mark.parametrize(
    ("described", "message"),
    [
        ({}, "thing must name a `call`, such as package.module.function"),
        ({"arguments": {}}, "thing must name a `call`"),
        ({"calls": "x"}, "thing has an unknown key 'calls'; known are call, arguments"),
        ({"call": 3}, "call in thing must be str, got 3"),
        ({"call": "half"}, "call must be a path such as package.module.function, got 'half'"),
        ({"call": "not_there.half"}, "cannot import 'not_there' for 'not_there.half': No module"),
        ({"call": f"{HERE}.halve"}, f"{HERE} has no callable 'halve'; its functions are: .*half"),
        ({"call": f"{HERE}.NO_FUNCTION"}, f"{HERE} has no callable 'NO_FUNCTION'"),
        ({"call": f"{HERE}.half", "arguments": [3]}, r"arguments in thing must be dict, got \[3\]"),
        (
            {"call": f"{HERE}.half", "arguments": {"hole": 3}},
            "half takes the arguments whole, by: missing a required argument: 'whole'",
        ),
        (
            {"call": f"{HERE}.half", "arguments": {"whole": 3, "of": 1}},
            "half takes the arguments whole, by: got an unexpected keyword argument 'of'",
        ),
        (
            {"call": f"{HERE}.half", "arguments": {"whole": "x"}},
            "half refused its arguments {'whole': 'x'}: both arguments should be",
        ),
        ({"call": f"{HERE}.half", "arguments": {"whole": 1}}, "half must return a str, got Frac"),
    ],
)
def test_calls_that_cannot_be_made_are_refused(described: dict[str, Any], message: str) -> None:
    with pytest.raises(AquaSurfError, match=message):
        called(described, "thing", str)


@pytest.mark.parametrize(
    ("by", "error", "message"),
    [(3, BenchmarkError, "by three is not for us"), (4, KeyError, "a fault of the program")],
)
def test_what_the_callable_itself_says_comes_through(
    by: int, error: type[Exception], message: str
) -> None:
    arguments: dict[str, Sequence[int] | int] = {"whole": 1, "by": by}
    with pytest.raises(error, match=message):
        called({"call": f"{HERE}.half", "arguments": arguments}, "thing", Fraction)
