"""Files of the published form: read as json.loads reads them, whatever the pieces, or refused."""

from __future__ import annotations

import gzip
import json
import math
import re
import tempfile
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aquasurf_optuna.benchmark._reader import ABOUT, MEASURES, VECTORS, Entry, Table
from aquasurf_optuna.exceptions import BenchmarkError

HISTOGRAM, QUANTILES = VECTORS["histogram"], VECTORS["quantiles"]
MEMBERS = "Equivalent Activation Functions"


def entry(**changes: Any) -> dict[str, Any]:
    """An entry of the published form; `_` in a changed key stands for a blank."""
    values = {key: 0.125 * place for place, key in enumerate(MEASURES.values())}
    made = {**values, MEMBERS: ["relu(identity(x))"], HISTOGRAM: [0.0, 0.5, 1.0]}
    return made | {key.replace("_", " "): value for key, value in changes.items()}


def written(folder: Path, content: object, *, name: str = "table.json") -> Path:
    """Write a table, given as text, bytes or what JSON is made of."""
    text = content if isinstance(content, str | bytes) else json.dumps(content)
    path = folder / name
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def number(value: Any) -> float:
    return math.nan if value is None else float(value)


def differences(read: list[Entry], text: str) -> list[str]:
    """Names of the functions, and fields, that differ from what json.loads says; the oracle."""
    raw = {name: value for name, value in json.loads(text).items() if name != ABOUT}
    if [each.name for each in read] != list(raw):
        return ["names"]
    wrong = []
    for each in read:
        own = raw[each.name]
        measured = [number(own[key]) for key in MEASURES.values()]
        if not np.array_equal(list(each.measured.values()), measured, equal_nan=True):
            wrong.append(f"{each.name} measured")
        if list(each.members) != [member for member in own[MEMBERS] if member != each.name]:
            wrong.append(f"{each.name} members")
        vector = np.array([number(value) for value in own[HISTOGRAM]]).astype(np.float32)
        valid = len(vector) > 0 and bool(np.isfinite(vector).all())
        if valid != (each.invalid is None) or valid != ("histogram" in each.vectors):
            wrong.append(f"{each.name} valid")
        if valid and not np.array_equal(each.vectors["histogram"], vector):
            wrong.append(f"{each.name} vector")
    return wrong


def is_object_of_objects(text: str) -> bool:
    try:
        content = json.loads(text)
    except ValueError:
        return False
    return isinstance(content, dict) and all(isinstance(v, dict) for v in content.values())


NUMBERS = st.one_of(
    st.floats(width=32), st.integers(-(10**9), 10**9), st.none(), st.sampled_from(["NaN", "nan"])
)
NAMES = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)


@st.composite
def tables(draw: st.DrawFn) -> str:
    """The text of a table: any names, numbers, white space and kinds of escape."""
    vectors: Any = st.one_of(st.just([]), st.lists(NUMBERS, min_size=3, max_size=3))
    entries = st.fixed_dictionaries(
        dict.fromkeys(MEASURES.values(), NUMBERS)
        | {MEMBERS: st.lists(NAMES, max_size=3, unique=True), HISTOGRAM: vectors}
    )
    content: dict[str, Any] = draw(st.dictionaries(NAMES, entries, max_size=4))
    if draw(st.booleans()):
        content = {ABOUT: {"task": "digits", "[": '"}\\'}} | content
    return json.dumps(
        content,
        ensure_ascii=draw(st.booleans()),
        indent=draw(st.sampled_from([None, 1, "\t"])),
        separators=draw(st.sampled_from([None, (",", ":"), (" ,\r\n", " :  ")])),
    )


@settings(max_examples=150)
@given(text=tables(), chunk=st.integers(1, 400), packed=st.booleans())
def test_reads_what_json_reads(text: str, chunk: int, packed: bool) -> None:
    with tempfile.TemporaryDirectory() as folder:
        data = text.encode()
        path = written(Path(folder), gzip.compress(data) if packed else data)
        table = Table(path, chunk=chunk)
        assert differences(list(table), text) == []
        assert table.about == json.loads(text).get(ABOUT, {})


@settings(max_examples=300)
@given(text=tables(), chunk=st.integers(1, 400), data=st.data())
def test_a_spoilt_file_is_refused_wherever_json_refuses_it(
    text: str, chunk: int, data: st.DataObject
) -> None:
    at = data.draw(st.integers(0, len(text) - 1))
    put = data.draw(st.sampled_from(["", '"', "\\", "{", "}", "[", "]", ",", ":", "7", "x", " "]))
    spoilt = text[:at] + put + text[at + 1 :]
    with tempfile.TemporaryDirectory() as folder:
        try:
            read = list(Table(written(Path(folder), spoilt), chunk=chunk))
        except BenchmarkError as error:
            if "is cut off" in str(error) or "is not JSON" in str(error):
                assert not is_object_of_objects(spoilt)
            return
    assert differences(read, spoilt) == []


def test_the_oracle_notices_what_differs(tmp_path: Path) -> None:
    text = json.dumps({"relu(x)": entry(), "elu(x)": entry(Test_Loss=None)})
    first, second = Table(written(tmp_path, text))
    assert differences([first, second], text) == []
    assert differences([second, first], text) == ["names"]
    measured = first.measured | {"test_loss": 7.0}
    assert differences([first._replace(measured=measured), second], text) == ["relu(x) measured"]
    assert differences([first, second._replace(members=())], text) == ["elu(x) members"]
    assert differences([first._replace(invalid="no"), second], text) == ["relu(x) valid"]
    vectors = {"histogram": np.zeros(3, dtype=np.float32)}
    assert differences([first, second._replace(vectors=vectors)], text) == ["elu(x) vector"]


@pytest.mark.parametrize("chunk", [*range(1, 40), 1000, 1 << 20])
@pytest.mark.parametrize("packed", [False, True])
def test_pieces_may_end_anywhere(tmp_path: Path, chunk: int, packed: bool) -> None:
    content = {ABOUT: {"made": "für “x” 🙂"}, 'a"\\b{': entry(), "é": entry(Equivalent=[])}
    text = json.dumps(content, ensure_ascii=False)
    path = written(tmp_path, gzip.compress(text.encode()) if packed else text)
    table = Table(path, chunk=chunk)
    assert table.about == {"made": "für “x” 🙂"}
    assert differences(list(table), text) == []


def test_gives_all_of_a_published_entry(tmp_path: Path) -> None:
    (found,) = Table(written(tmp_path, {"relu(x)": entry()}))
    assert found.name == "relu(x)"
    assert found.measured == {field: 0.125 * place for place, field in enumerate(MEASURES)}
    assert found.members == ("relu(identity(x))",)
    assert found.vectors["histogram"].dtype == np.float32
    assert found.vectors["histogram"].tolist() == [0.0, 0.5, 1.0]
    assert (found.invalid, found.runs, found.seeds, found.training_failure) == (None, {}, (), None)


def test_gives_all_of_an_entry_that_is_built_here(tmp_path: Path) -> None:
    own: dict[str, Any] = {f"{key} Runs": [0.5, None] for key in MEASURES.values()}
    own |= {"Seeds": [3, 2**60 + 1], QUANTILES: [1, 2], "Training Failure": "seed 4: it diverged"}
    made = entry() | own
    del made[HISTOGRAM]
    table = Table(written(tmp_path, {ABOUT: {"classes": 10}, "relu(x)": made}))
    (found,) = table
    assert table.about == {"classes": 10}
    assert found.seeds == (3, 2**60 + 1)
    assert list(found.runs) == list(MEASURES)
    assert all(value[0] == 0.5 and math.isnan(value[1]) for value in found.runs.values())
    assert list(found.vectors) == ["quantiles"]
    assert found.invalid is None
    assert found.training_failure == "seed 4: it diverged"


def test_a_table_can_be_read_again_and_may_hold_nothing(tmp_path: Path) -> None:
    table = Table(written(tmp_path, {"relu(x)": entry()}))
    assert [each.name for each in table] == [each.name for each in table] == ["relu(x)"]
    assert list(Table(written(tmp_path, " {\n} "))) == []


def test_vectors_can_be_left_out(tmp_path: Path) -> None:
    content = {"relu(x)": entry(), "exp(x)": entry() | {HISTOGRAM: []}}
    relu, exp = Table(written(tmp_path, content), vectors=False)
    assert relu.vectors == exp.vectors == {}
    assert (relu.invalid, exp.invalid) == (None, "its vector is empty")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("null", math.nan),
        ("NaN", math.nan),
        ('"NaN"', math.nan),
        ('"nan"', math.nan),
        ("Infinity", math.inf),
        ('"-inf"', -math.inf),
        ("1e999", math.inf),
        ("1" + "0" * 400, math.inf),
        ("-1" + "0" * 400, -math.inf),
        ("3", 3.0),
    ],
)
def test_what_counts_as_a_number(tmp_path: Path, text: str, value: float) -> None:
    content = json.dumps({"relu(x)": entry(Test_Loss="?")}).replace('"?"', text)
    (found,) = Table(written(tmp_path, content))
    assert found.measured["test_loss"] == pytest.approx(value, nan_ok=True)


@pytest.mark.parametrize(
    ("vector", "reason"),
    [
        ("[]", "its vector is empty"),
        ("null", "its vector is empty"),
        ("NaN", "its vector is not finite"),
        ('"NaN"', "its vector is not finite"),
        ("[1.0, NaN, 2.0]", "its vector is not finite"),
        ('[1.0, "NaN", 2.0]', "its vector is not finite"),
        ("[1.0, null, 2.0]", "its vector is not finite"),
        ("[1.0, Infinity, 2.0]", "its vector is not finite"),
        ("[1.0, 1e300, 2.0]", "its vector is not finite"),
        (f"[1.0, 1{'0' * 400}, 2.0]", "its vector is not finite"),
    ],
)
def test_why_a_function_is_invalid(tmp_path: Path, vector: str, reason: str) -> None:
    content = json.dumps({"exp(x)": entry() | {HISTOGRAM: "?"}}).replace('"?"', vector)
    (found,) = Table(written(tmp_path, content))
    assert found.invalid == reason
    assert found.vectors == {}


def test_a_reason_in_the_file_counts_before_any_other(tmp_path: Path) -> None:
    empty = entry(Failure="layer 3: exploding") | {HISTOGRAM: []}
    first, second = Table(written(tmp_path, {"a": empty, "b": entry(Failure="constant")}))
    assert (first.invalid, second.invalid) == ("layer 3: exploding", "constant")
    assert first.vectors == second.vectors == {}


def test_one_good_vector_of_two_is_enough(tmp_path: Path) -> None:
    (found,) = Table(written(tmp_path, {"a": entry() | {HISTOGRAM: [], QUANTILES: [1.5]}}))
    assert found.invalid is None
    assert list(found.vectors) == ["quantiles"]


def test_memory_holds_one_entry_and_not_the_file(tmp_path: Path) -> None:
    vector = json.dumps([0.123456789 + place for place in range(20_000)])
    one = json.dumps(entry() | {HISTOGRAM: "?"}).replace('"?"', vector)
    text = "{" + ", ".join(f'"f{place}": {one}' for place in range(61)) + "}"
    path = written(tmp_path, text)
    table = Table(path, chunk=1 << 16)
    tracemalloc.start()
    try:
        assert sum(1 for _ in table) == 61
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert path.stat().st_size > 20_000_000
    assert peak < 4_000_000


def refused(path: Path, message: str) -> None:
    with pytest.raises(BenchmarkError, match=message) as caught:
        list(Table(path))
    assert str(path) in str(caught.value)


def test_every_beginning_of_a_file_is_cut_off(tmp_path: Path) -> None:
    name = "é{"
    data = json.dumps({"a": entry(), name: entry()}, ensure_ascii=False).encode()
    first = data.index(b"}") + 1
    for length in range(1, len(data)):
        whole = int(length >= first) + int(length == len(data) - 1)
        path = written(tmp_path, data[:length])
        refused(path, f"is cut off after {whole} whole functions; fetch or copy it again")


def test_every_beginning_of_a_packed_file_is_cut_off(tmp_path: Path) -> None:
    data = gzip.compress(json.dumps({"a": entry(), "b": entry()}).encode())
    for length in range(2, len(data)):
        refused(written(tmp_path, data[:length]), "is cut off after . whole functions")


def test_a_damaged_packed_file_is_named(tmp_path: Path) -> None:
    data = bytearray(gzip.compress(json.dumps({"a": entry()}).encode()))
    data[-6] ^= 1
    refused(written(tmp_path, bytes(data)), "is damaged or no table, after 1 functions: CRC")
    data = bytearray(gzip.compress(bytes(range(256)) * 50))
    data[20:60] = b"\xff" * 40
    refused(written(tmp_path, bytes(data)), "is damaged or no table, after 0 functions")


NOT_JSON = {
    "": r"is not JSON of the published form at character 0, after 0 functions: got ''",
    "<html>": r"at character 0, after 0 functions: got '<html>'",
    "[1, 2]": r"got a list, '\[1, 2\]', expected the '\{' of an object",
    '"text"': r"""got '"text"'""",
    "{1: 2}": r"character 1, .*got '1: 2\}', expected the name of a function in double quotes",
    '{"a" 2}': r"character 5, .*expected a ':' after the name 'a'",
    '{"a": 2}': r"character 6, .*got '2\}', expected the object of function a",
    '{"a": [2]}': r"got a list, '\[2\]\}', expected the object of function a",
    '{"a": {"b": }}': r"character 12, .*Expecting value, in the object of function a",
    '{"a": {"b: 1, "c": 2, "much": "more"}}': r"character 15, .*Expecting ':' delimiter",
    '{"a\t": 1}': r"character 3, .*Invalid control character",
    '{"a": {"b": ' + "[" * 100_000 + "]" * 100_000 + "}}": r"recursion.* in the object of functio",
    '{"a": {"b": ' + "[" * 100_000: r"recursion.* in the object of function a",
    '{"a": {"b": ' + "1" * 5000 + "}}": r"integer string conversion.* in the object of function a",
}


@pytest.mark.parametrize("text", NOT_JSON, ids=range(len(NOT_JSON)))
def test_what_is_not_json_is_named_with_its_place(tmp_path: Path, text: str) -> None:
    refused(written(tmp_path, text), NOT_JSON[text])


@pytest.mark.parametrize(
    ("end", "message"),
    [
        (",}", r"got '\}', expected the name of a function"),
        ("; ", r"got '; ', expected a ',' or the closing '\}'"),
        ("} x", r"got 'x', expected the end of the file"),
        ("}}", r"got '\}', expected the end of the file"),
    ],
)
def test_what_follows_an_entry_is_checked(tmp_path: Path, end: str, message: str) -> None:
    whole = json.dumps({"a": entry()})
    refused(written(tmp_path, whole[:-1] + end), f"after 1 functions: {message}")


def test_text_that_is_not_utf8_is_named(tmp_path: Path) -> None:
    refused(written(tmp_path, b'{"\xff\xff": 1}'), "damaged or no table, after 0 .*can't decode")
    refused(written(tmp_path, b'{"a": \xc3'), "cut off")
    refused(written(tmp_path, b"{}\xc3"), "cut off")


def test_a_file_that_cannot_be_opened_is_named(tmp_path: Path) -> None:
    refused(tmp_path / "none.json", "cannot be read: No such file")
    refused(tmp_path, "cannot be read: Is a directory")


def test_missing_keys_are_named(tmp_path: Path) -> None:
    made = entry()
    del made["Test Loss"], made[HISTOGRAM]
    missing = f"function bad: 'Test Loss', '{HISTOGRAM}' missing; an entry has Train Accuracy"
    refused(written(tmp_path, {"good": entry(), "bad": made}), missing)
    made = entry()
    del made[MEMBERS]
    refused(written(tmp_path, {"bad": made}), f"function bad: '{MEMBERS}' missing")


WRONG_VALUES: list[tuple[dict[str, Any], str]] = [
    ({"Test Loss": "low"}, "'Test Loss' must be a number, null or 'NaN', got 'low'"),
    ({"Test Loss": True}, "'Test Loss' must be a number, null or 'NaN', got True"),
    ({"Runtime (s)": [1]}, "'Runtime (s)' must be a number, null or 'NaN', got [1]"),
    ({MEMBERS: "relu(x)"}, f"'{MEMBERS}' must be a list of names, got 'relu(x)'"),
    ({MEMBERS: [1]}, f"'{MEMBERS}' must be a list of names, got [1]"),
    ({HISTOGRAM: 3}, f"'{HISTOGRAM}' must be a list of numbers, got 3"),
    ({HISTOGRAM: [[1.0]]}, f"'{HISTOGRAM}' must be a number, null or 'NaN', got [1.0]"),
    ({HISTOGRAM: [1.0, "2"]}, f"'{HISTOGRAM}' must be a number, null or 'NaN', got '2'"),
    ({"Failure": 3}, "'Failure' must be a text, got 3"),
    ({"Training Failure": ["no"]}, "'Training Failure' must be a text, got ['no']"),
    ({"Seeds": 3}, "'Seeds' must be a list of integers, got 3"),
    ({"Seeds": [True]}, "'Seeds' must be a list of integers, got [True]"),
    ({"Test Loss Runs": [1.0]}, "'Test Loss Runs' must be a list of 0 numbers, one for each seed"),
    ({"Seeds": [1], "Test Loss Runs": ["x"]}, "'Test Loss Runs' must be a number"),
]


@pytest.mark.parametrize(("change", "message"), WRONG_VALUES)
def test_values_of_another_kind_are_named(
    tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    refused(written(tmp_path, {"bad": entry() | change}), re.escape(f"function bad: {message}"))


def test_nothing_may_be_there_twice(tmp_path: Path) -> None:
    one = json.dumps(entry())
    refused(written(tmp_path, f'{{"a": {one}, "a": {one}}}'), "the function a is there twice; keep")
    # An escape writes the same name in another way.
    refused(written(tmp_path, f'{{"a": {one}, "\\u0061": {one}}}'), "the function a is there twice")
    twice = one.replace('"Test Loss": ', '"Test Loss": 1, "Test Loss": ')
    refused(written(tmp_path, f'{{"a": {twice}}}'), "function a: the key 'Test Loss' is there twi")


def test_what_a_table_says_about_itself_comes_first(tmp_path: Path) -> None:
    path = written(tmp_path, {"a": entry(), ABOUT: {}})
    refused(path, f"'{ABOUT}' must be the first entry, but it comes after 1 functions; move it")


@pytest.mark.parametrize("key", VECTORS.values())
def test_vectors_of_two_lengths_are_named(tmp_path: Path, key: str) -> None:
    content = {
        "none": entry() | {HISTOGRAM: []},
        "long": entry() | {key: [1.0] * 5},
        "short": entry() | {key: [1.0] * 2},
    }
    refused(written(tmp_path, content), f"'{key}' has 2 numbers for the function short but 5 for l")
