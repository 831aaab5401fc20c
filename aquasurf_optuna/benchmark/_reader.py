"""Reading Act-Bench files, one function at a time.

A table is one JSON object: the name of each function -> an object with its measures, the names of
equal functions and a vector of its spectrum. The published ones hold 2,913 functions, up to 150 MB.
Tables that are built here have the same form, and one more entry in front, ``About this table``.
Only the entry that is being read is in memory.
"""

from __future__ import annotations

import codecs
import contextlib
import gzip
import io
import json
import math
import os
import re
import reprlib
import zlib
from collections import Counter
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from aquasurf_optuna.exceptions import BenchmarkError

ABOUT = "About this table"
"""Key of the entry that says how a table was made."""

# Name of the field -> key in the file.
MEASURES: dict[str, str] = {
    "train_accuracy": "Train Accuracy",
    "validation_accuracy": "Validation Accuracy",
    "test_accuracy": "Test Accuracy",
    "train_loss": "Train Loss",
    "validation_loss": "Validation Loss",
    "test_loss": "Test Loss",
    "seconds": "Runtime (s)",
}
VECTORS: dict[str, str] = {
    "histogram": "Fisher log eigenvalue CDF",
    "quantiles": "Fisher log eigenvalue quantiles",
}

_MEMBERS = "Equivalent Activation Functions"
_EMPTY = "its vector is empty"
_NOT_FINITE = "its vector is not finite"
_NUMBER_TEXTS = ("nan", "inf", "-inf", "infinity", "-infinity")
_CHUNK = 1 << 20
_GZIP = b"\x1f\x8b"
_NOT_BLANK = re.compile(r"[^ \t\n\r]")
_OUTSIDE = re.compile(r'["{}\[\]]')
_IN_STRING = re.compile(r'["\\]')
# An error of JSON so near the end, "-Infinity" cut, is one of a file that ends too early.
_LONGEST_LITERAL = len("-Infinity")


class Entry(NamedTuple):
    """What a table says of one function.

    Attributes:
        name: The function, as the file writes it; not parsed.
        measured: Field of `MEASURES` -> value; NaN where there is none, and infinite ones as such.
        members: Names of the other functions that are equal to it.
        vectors: Field of `VECTORS` -> float32 vector; only those that are not empty and wholly
            finite, and none where the file gives a reason why the spectrum is invalid.
        invalid: Why there is no vector, or None if there is one.
        runs: Field of `MEASURES` -> value by seed; empty in the published files.
        seeds: The seeds of the runs.
        training_failure: Why the function could not be trained, or None.
    """

    name: str
    measured: dict[str, float]
    members: tuple[str, ...]
    vectors: dict[str, NDArray[np.float32]]
    invalid: str | None
    runs: dict[str, tuple[float, ...]]
    seeds: tuple[int, ...]
    training_failure: str | None


class Table:
    """A file of the published form; iterating over it gives its entries, from the start each time.

    Args:
        path: The file, plain or gzipped.
        vectors: Whether entries hold their vectors; if not, they are checked and left out.
        chunk: How many bytes are read at a time.

    Attributes:
        path: The file.
        about: What the table says about how it was made; empty for the published ones.

    Raises:
        BenchmarkError: If the file cannot be read, or its beginning is not that of a table.
            Iterating raises it for what is wrong further on: the file is cut off or not JSON, a
            function is there twice, an entry lacks a key or has a value of another kind, or its
            vector differs in length from the others.
    """

    def __init__(
        self, path: str | os.PathLike[str], *, vectors: bool = True, chunk: int = _CHUNK
    ) -> None:
        self.path = Path(path)
        self._vectors = vectors
        self._chunk = chunk
        with contextlib.closing(self._objects()) as objects:
            name, about = next(objects, (None, {}))
        self.about: dict[str, Any] = about if name == ABOUT else {}

    def __iter__(self) -> Iterator[Entry]:
        first: dict[str, Entry] = {}
        for name, found in self._objects():
            if name == ABOUT:
                continue
            entry = _entry(f"{self.path}, function {name}", name, found)
            for kind, vector in entry.vectors.items():
                other = first.setdefault(kind, entry)
                if len(vector) != len(other.vectors[kind]):
                    raise BenchmarkError(
                        f"{self.path}: {VECTORS[kind]!r} has {len(vector):,} numbers for the "
                        f"function {name} but {len(other.vectors[kind]):,} for {other.name}; all "
                        "functions of a table are measured on one network, so mend or leave out one"
                    )
            yield entry if self._vectors else entry._replace(vectors={})

    def _objects(self) -> Generator[tuple[str, dict[str, Any]]]:
        """Give the keys and values of the file, the entry about it among them."""
        names: set[str] = set()
        with _opened(self.path) as stream:
            text = _Text(self.path, stream, self._chunk)
            text.expect("{", "the '{' of an object from function names to their results")
            more = text.peek() != "}"
            while more:
                name: str = text.value('"', "the name of a function in double quotes")
                if name in names:
                    raise BenchmarkError(
                        f"{self.path}: the function {name} is there twice; keep one of the entries"
                    )
                if name == ABOUT and names:
                    raise BenchmarkError(
                        f"{self.path}: {ABOUT!r} must be the first entry, but it comes after "
                        f"{text.functions:,} functions; move it to the front"
                    )
                names.add(name)
                text.expect(":", f"a ':' after the name {name!r}")
                yield name, text.value("{", f"the object of function {name}")
                text.functions += name != ABOUT
                more = text.peek() == ","
                if more:
                    text.expect(",", "a ','")
            text.expect("}", "a ',' or the closing '}'")
            text.expect("", "the end of the file")


class _Text:
    """The text of a file, of which only what is not yet read through is in memory.

    Attributes:
        functions: How many functions have been read, for the messages.
    """

    def __init__(self, path: Path, stream: io.BufferedIOBase, chunk: int) -> None:
        self.functions = 0
        self._path = path
        self._stream = stream
        self._chunk = chunk
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        self._text = ""
        self._at = 0
        self._dropped = 0
        self._ended = False

    def peek(self) -> str:
        """Return the next character that is not blank, "" at the end."""
        while (found := _NOT_BLANK.search(self._text, self._at)) is None:
            self._at = len(self._text)
            if not self._more():
                return ""
        self._at = found.start()
        return found.group()

    def expect(self, character: str, what: str) -> None:
        """Step over a character, "" for the end, or refuse what is there instead."""
        self._check(character, what)
        self._at += len(character)

    def value(self, opening: str, what: str) -> Any:
        """Take a string or an object, whichever begins with `opening`."""
        self._check(opening, what)
        length, closed = self._length()
        text = self._text[self._at : self._at + length]
        try:
            value = json.loads(text, object_pairs_hook=self._unique(what))
        except BenchmarkError:
            raise
        # Brackets too deep, and an integer of more digits than Python converts, among them.
        except (RecursionError, ValueError) as error:
            at = error.pos if isinstance(error, json.JSONDecodeError) else 0
            problem = str(error).partition(": line")[0]
            near_end = length - at <= _LONGEST_LITERAL or problem.startswith("Unterminated")
            if near_end and not closed:
                raise self._cut_off() from error
            raise self._not_json(self._at + at, f"{problem}, in {what}") from error
        self._at += length
        return value

    def _check(self, character: str, what: str) -> None:
        found = self.peek()
        if found == character:
            return
        if not found and self._dropped + self._at > 0:
            raise self._cut_off()
        ahead = self._text[self._at : self._at + 20]
        kind = "a list, " if found == "[" else ""
        raise self._not_json(self._at, f"got {kind}{ahead!r}, expected {what}")

    def _length(self) -> tuple[int, bool]:
        """Return how long the string or object here is, and whether its end has been found."""
        depth, quoted, seen = 0, False, 0
        while True:
            marks = _IN_STRING if quoted else _OUTSIDE
            found = marks.search(self._text, self._at + seen)
            if found is None:
                # An escaped character may lie beyond what has been read.
                seen = max(seen, len(self._text) - self._at)
                if not self._more():
                    return len(self._text) - self._at, False
                continue
            mark = found.group()
            seen = found.end() - self._at + (mark == "\\")
            if mark == '"':
                quoted = not quoted
            elif mark != "\\":
                depth += 1 if mark in "{[" else -1
            if depth == 0 and not quoted:
                return seen, True

    def _more(self) -> bool:
        """Read on, and forget what has been read through; False at the end of the file."""
        if self._ended:
            return False
        try:
            data = self._stream.read1(self._chunk)
            new = self._decoder.decode(data, final=not data)
        except EOFError as error:
            raise self._cut_off() from error
        except (OSError, zlib.error, UnicodeDecodeError) as error:
            if isinstance(error, UnicodeDecodeError) and not data:
                raise self._cut_off() from error
            raise BenchmarkError(
                f"{self._path} is damaged or no table, after {self.functions:,} functions: "
                f"{error}; fetch or copy it again"
            ) from error
        self._ended = not data
        self._dropped += self._at
        self._text = self._text[self._at :] + new
        self._at = 0
        return not self._ended

    def _unique(self, what: str) -> Callable[[list[tuple[str, Any]]], dict[str, Any]]:
        """Return what makes a dictionary of an object, of whose equal keys JSON keeps the last."""

        def dictionary(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
            found = dict(pairs)
            if len(found) < len(pairs):
                twice = Counter(key for key, _ in pairs).most_common(1)[0][0]
                raise BenchmarkError(
                    f"{self._path}, {what}: the key {twice!r} is there twice; keep one of them"
                )
            return found

        return dictionary

    def _cut_off(self) -> BenchmarkError:
        return BenchmarkError(
            f"{self._path} is cut off after {self.functions:,} whole functions; fetch or copy it "
            "again"
        )

    def _not_json(self, at: int, problem: str) -> BenchmarkError:
        return BenchmarkError(
            f"{self._path} is not JSON of the published form at character {self._dropped + at:,}, "
            f"after {self.functions:,} functions: {problem}; give a table, or fetch it again"
        )


def _opened(path: Path) -> io.BufferedIOBase:
    """Open a file, and unpack it if it is gzipped, whatever its name."""
    try:
        with path.open("rb") as file:
            packed = file.read(len(_GZIP)) == _GZIP
        return gzip.open(path) if packed else path.open("rb")
    except OSError as error:
        raise BenchmarkError(
            f"the table {path} cannot be read: {error.strerror}; give a file of the published "
            "form, plain or gzipped"
        ) from error


def _entry(where: str, name: str, found: dict[str, Any]) -> Entry:
    needed = [*MEASURES.values(), _MEMBERS]
    if not any(key in found for key in VECTORS.values()):
        needed.append(VECTORS["histogram"])
    missing = [key for key in needed if key not in found]
    if missing:
        raise BenchmarkError(
            f"{where}: {', '.join(map(repr, missing))} missing; an entry has {', '.join(needed)}"
        )
    reason = _text_or_none(where, "Failure", found)
    vectors, reasons = {}, []
    for kind, key in VECTORS.items():
        if key in found:
            vector, problem = _vector(where, key, found[key])
            reasons += [problem] if problem else []
            if vector is not None and reason is None:
                vectors[kind] = vector
    seeds = _seeds(where, found)
    return Entry(
        name=name,
        measured={field: _number(where, key, found[key]) for field, key in MEASURES.items()},
        members=_members(where, name, found[_MEMBERS]),
        vectors=vectors,
        invalid=None if vectors else reason or reasons[0],
        runs=_runs(where, len(seeds), found),
        seeds=seeds,
        training_failure=_text_or_none(where, "Training Failure", found),
    )


def _number(where: str, key: str, value: object) -> float:
    if value is None:
        return math.nan
    if isinstance(value, str) and value.lower() in _NUMBER_TEXTS:
        return float(value)
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        try:
            return float(value)
        except OverflowError:
            return math.inf if value > 0 else -math.inf
    raise _refused(where, key, "a number, null or 'NaN'", value)


def _vector(where: str, key: str, value: object) -> tuple[NDArray[np.float32] | None, str | None]:
    """Return a vector, or None and why it is none."""
    if value is None or value == []:
        return None, _EMPTY
    if not isinstance(value, list):
        if math.isfinite(_number(where, key, value)):
            raise _refused(where, key, "a list of numbers", value)
        return None, _NOT_FINITE
    # Thousands of numbers: they are looked at one by one only where something else is among them.
    plain = set(map(type, value)) == {float}
    numbers = value if plain else [_number(where, key, each) for each in value]
    with np.errstate(over="ignore"):
        vector = np.array(numbers, dtype=np.float32)
    return (vector, None) if np.isfinite(vector).all() else (None, _NOT_FINITE)


def _members(where: str, name: str, value: object) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        raise _refused(where, _MEMBERS, "a list of names", value)
    return tuple(each for each in dict.fromkeys(value) if each != name)


def _seeds(where: str, found: dict[str, Any]) -> tuple[int, ...]:
    seeds = found.get("Seeds", [])
    if not isinstance(seeds, list) or any(type(seed) is not int for seed in seeds):
        raise _refused(where, "Seeds", "a list of integers", seeds)
    return tuple(seeds)


def _runs(where: str, n_seeds: int, found: dict[str, Any]) -> dict[str, tuple[float, ...]]:
    runs = {}
    for field, measure in MEASURES.items():
        key = f"{measure} Runs"
        values = found.get(key)
        if values is None:
            continue
        if not isinstance(values, list) or len(values) != n_seeds:
            raise _refused(where, key, f"a list of {n_seeds} numbers, one for each seed", values)
        runs[field] = tuple(_number(where, key, value) for value in values)
    return runs


def _text_or_none(where: str, key: str, found: dict[str, Any]) -> str | None:
    value = found.get(key)
    if value is not None and not isinstance(value, str):
        raise _refused(where, key, "a text", value)
    return value or None


def _refused(where: str, key: str, allowed: str, value: object) -> BenchmarkError:
    return BenchmarkError(f"{where}: {key!r} must be {allowed}, got {reprlib.repr(value)}")
