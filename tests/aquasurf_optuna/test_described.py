"""What a file of settings describes: objects that are called by import path."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from aquasurf_optuna._described import called
from aquasurf_optuna.exceptions import AquaSurfError, BenchmarkError

HERE = __name__


def half(whole: int, *, by: int = 2) -> Fraction:
    if by == 3:
        raise BenchmarkError("by three is not for us")
    if by == 4:
        raise KeyError("a fault of the program")
    return Fraction(whole, by)


NO_FUNCTION = 3


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
