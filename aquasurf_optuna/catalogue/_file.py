"""A catalogue as a file: in the open format safetensors, mapped into memory, with checksums.

A file holds the arrays of `Classes`, the space as a tree of places, and, if wanted, the outputs of
all classes. Its metadata name the version of this layout, and everything on which the classes hang:
the rule, the tolerance, the inputs, and the values of every operator of the space, so that a file
made with another operator of the same name is refused rather than misread. Every array has a
checksum; that of the outputs is one for each `_BLOCK` rows, looked at when one of them is read.

Nothing in a file is executed, and no name in it is trusted: a space is built of known operators.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import os
import struct
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from aquasurf_optuna._parser import constant_value, problem_of_node
from aquasurf_optuna._schema import PLACEHOLDERS, Place
from aquasurf_optuna._whole_file import whole_file
from aquasurf_optuna.catalogue._classes import Classes
from aquasurf_optuna.equality import RELATIVE_TOLERANCE, Equality
from aquasurf_optuna.exceptions import CatalogueError
from aquasurf_optuna.expression import Expression
from aquasurf_optuna.features.outputs import N_INPUTS, function_key, output_features
from aquasurf_optuna.operators import LEAF, N_ARY, OPERATORS
from aquasurf_optuna.space import SearchSpace

VERSION = 1
"""Of the layout; a file of another version is refused."""

_FORMAT = "aquasurf catalogue"
_BLOCK = 64
_DIGEST_BYTES = 16
# Names of types in the format; only these occur here.
_TYPES = {"int32": "I32", "int64": "I64", "bool": "BOOL", "float64": "F64", "uint8": "U8"}
_LONGEST_HEADER = 2**27
_NO_DIGEST = "0" * 2 * _DIGEST_BYTES

_SURROUNDINGS = {
    "tolerance": "tolerance",
    "inputs": "fixed inputs",
    "fingerprints": "way to take fingerprints",
}

Layout = dict[str, tuple[str, tuple[int, ...]]]
"""Type and shape of each array of a file, in their order there."""


@dataclasses.dataclass(frozen=True)
class _Array:
    """One array of a file: its type, its shape, and where it stands behind the header."""

    dtype: str
    shape: tuple[int, ...]
    start: int

    @property
    def n_bytes(self) -> int:
        return math.prod(self.shape) * np.dtype(self.dtype).itemsize


class CatalogueFile:
    """An open file; made by `CatalogueFile.open`.

    Attributes:
        space: The space.
        equality: Which functions count as equal.
        classes: Its classes; the arrays are mapped, read-only.
        outputs: Reads outputs of some classes, `(n,)` to float64 `(n, 1000)`; None if there are
            none in the file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._header, self._data = _read_header(path)
        metadata = self._header["__metadata__"]
        self._arrays = {
            name: _Array(_dtype(entry["dtype"]), tuple(entry["shape"]), entry["data_offsets"][0])
            for name, entry in self._header.items()
            if name != "__metadata__"
        }
        self._check_size()
        self._digests = json.loads(metadata["digests"])
        self.equality = Equality(metadata["rule"], metadata["invariance"])
        excluded = self._checked("excluded").tolist()
        places = [_place(each) for each in json.loads(metadata["space"])]
        self.space = SearchSpace.of_places(places, excluded)
        _check_surroundings(metadata, self.space, self.equality)
        names = [field.name for field in dataclasses.fields(Classes)]
        self.classes = Classes(**{name: self._checked(name) for name in names})
        if self.space.size != len(self.classes.of_graph):
            raise ValueError(f"{self.space.size} graphs, {len(self.classes.of_graph)} with a class")
        has_outputs = "outputs" in self._arrays
        self._blocks = self._checked("outputs_digests") if has_outputs else np.empty(0)
        self.outputs: Callable[[NDArray[np.intp]], NDArray[np.float64]] | None = None
        if has_outputs:
            self._outputs = self._mapped("outputs")
            self._verified = np.zeros(len(self._blocks), np.bool_)
            self.outputs = self._read_outputs

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> Self:
        """Open a file and check all of it but the outputs.

        Raises:
            CatalogueError: If it is none of ours, is damaged, or does not fit what is known here.
            OSError: If it cannot be read.
        """
        try:
            return cls(Path(path))
        except (
            KeyError,
            TypeError,
            ValueError,
            AttributeError,
            OverflowError,
            RecursionError,
        ) as error:
            # A header that is JSON, but not what is written here; SpaceError is a ValueError.
            raise _damaged(Path(path), f"its header cannot be read ({error})") from error

    @staticmethod
    def write(
        path: str | os.PathLike[str],
        space: SearchSpace,
        equality: Equality,
        classes: Classes,
        outputs: Iterable[NDArray[np.float64]] | None,
    ) -> Path:
        """Write a file; see `Catalogue.save`."""
        with whole_file(path, what="a catalogue") as draft:
            _write(draft, space, equality, classes, outputs)
        return Path(path)

    def _check_size(self) -> None:
        expected = self._data + sum(array.n_bytes for array in self._arrays.values())
        size = self._path.stat().st_size
        if size != expected:
            raise _damaged(self._path, f"it has {size:,} bytes where {expected:,} belong")

    def _mapped(self, name: str) -> NDArray[Any]:
        array = self._arrays[name]
        if not array.n_bytes:
            return np.empty(array.shape, array.dtype)
        start = self._data + array.start
        return np.memmap(self._path, array.dtype, mode="r", offset=start, shape=array.shape)

    def _checked(self, name: str) -> NDArray[Any]:
        array = self._mapped(name)
        if _digest(array).hex() != self._digests[name]:
            raise _damaged(self._path, f"the checksum of {name} is wrong")
        return array

    def _read_outputs(self, classes: NDArray[np.intp]) -> NDArray[np.float64]:
        blocks = np.unique(classes // _BLOCK)
        for block in blocks[~self._verified[blocks]].tolist():
            rows = self._outputs[block * _BLOCK : (block + 1) * _BLOCK]
            if _digest(rows) != self._blocks[block].tobytes():
                raise _damaged(self._path, f"the checksum of the outputs, block {block}, is wrong")
            self._verified[block] = True
        return np.array(self._outputs[classes])


def _write(
    path: Path,
    space: SearchSpace,
    equality: Equality,
    classes: Classes,
    outputs: Iterable[NDArray[np.float64]] | None,
) -> None:
    arrays: dict[str, NDArray[Any]] = {
        field.name: getattr(classes, field.name) for field in dataclasses.fields(classes)
    }
    arrays["excluded"] = np.array(space.excluded, dtype=np.int64)
    # Eight bytes an element come first, so that every array is aligned.
    ordered = sorted(arrays, key=lambda name: -arrays[name].dtype.itemsize)
    layout: Layout = {}
    if outputs is not None:
        n = len(classes.representatives)
        layout["outputs"] = ("float64", (n, N_INPUTS))
        layout["outputs_digests"] = ("uint8", (math.ceil(n / _BLOCK), _DIGEST_BYTES))
    layout = {
        **{name: layout[name] for name in layout if name == "outputs"},
        **{name: (str(arrays[name].dtype), arrays[name].shape) for name in ordered},
        **{name: layout[name] for name in layout if name != "outputs"},
    }
    digests = {name: _digest(arrays[name]).hex() for name in arrays}
    with path.open("wb") as file:
        file.write(_header(layout, _metadata(space, equality), digests))
        blocks = _write_outputs(file.write, outputs) if outputs is not None else None
        for name in ordered:
            file.write(np.ascontiguousarray(arrays[name]).tobytes())
        if blocks is not None:
            file.write(blocks)
            digests["outputs_digests"] = _digest(np.frombuffer(blocks, np.uint8)).hex()
            # As long as it was before: the one digest that was not known takes its place.
            file.seek(0)
            file.write(_header(layout, _metadata(space, equality), digests))
        file.flush()
        os.fsync(file.fileno())


def _write_outputs(write: Callable[[bytes], int], outputs: Iterable[NDArray[np.float64]]) -> bytes:
    """Write outputs as they come, and return a digest for every `_BLOCK` rows of them."""
    digests = []
    pending = np.empty((0, N_INPUTS))
    for some in outputs:
        pending = np.concatenate([pending, some])
        whole = len(pending) // _BLOCK * _BLOCK
        for start in range(0, whole, _BLOCK):
            digests.append(_digest(pending[start : start + _BLOCK]))
        write(pending[:whole].tobytes())
        pending = pending[whole:]
    if len(pending):
        digests.append(_digest(pending))
        write(pending.tobytes())
    return b"".join(digests)


def _header(
    layout: dict[str, tuple[str, tuple[int, ...]]],
    metadata: dict[str, str],
    digests: dict[str, str],
) -> bytes:
    """Return the header of a file: its length in eight bytes, then JSON, padded with spaces."""
    header: dict[str, Any] = {}
    start = 0
    for name, (dtype, shape) in layout.items():
        stop = start + _Array(dtype, shape, start).n_bytes
        header[name] = {"dtype": _TYPES[dtype], "shape": shape, "data_offsets": [start, stop]}
        start = stop
    known = {name: digests.get(name, _NO_DIGEST) for name in layout if name != "outputs"}
    header["__metadata__"] = {**metadata, "digests": json.dumps(known), "digest": _NO_DIGEST}
    header["__metadata__"]["digest"] = _header_digest(header)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text


def _header_digest(header: dict[str, Any]) -> str:
    """Return the digest of a header, its own place in it left empty."""
    metadata = {**header["__metadata__"], "digest": _NO_DIGEST}
    text = json.dumps({**header, "__metadata__": metadata}, sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=_DIGEST_BYTES).hexdigest()


def _read_header(path: Path) -> tuple[dict[str, Any], int]:
    """Return the header and where the arrays start."""
    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8).ljust(8, b"\0"))
        text = file.read(min(length, _LONGEST_HEADER))
    try:
        header = json.loads(text)
        metadata = header["__metadata__"]
        named, version = metadata["format"], metadata["version"]
    except (ValueError, KeyError, TypeError, RecursionError):
        named = version = ""
    if named != _FORMAT:
        raise CatalogueError(f"{str(path)!r} is no catalogue; Catalogue.save writes one")
    if version != str(VERSION):
        raise CatalogueError(
            f"{str(path)!r} has version {version} of the layout, and {VERSION} is read here; make "
            "the catalogue anew with Catalogue.of and save it"
        )
    if metadata.get("digest") != _header_digest(header):
        raise _damaged(path, "the checksum of its header is wrong")
    return header, 8 + length


def _metadata(space: SearchSpace, equality: Equality) -> dict[str, str]:
    return {
        "format": _FORMAT,
        "version": str(VERSION),
        "schema": space.schema,
        "space": json.dumps([_tree(part) for part in space.parts]),
        "rule": equality.rule,
        "invariance": equality.invariance,
        **_surroundings(space, equality),
    }


def _surroundings(space: SearchSpace, equality: Equality) -> dict[str, str]:
    """Return what must be the same where the file is read."""
    names = {name for part in space.parts for place in part.walk() for name in place.names}
    x = Expression(LEAF)
    # Of functions whose values are exact, and so the same on every machine.
    exact = output_features([x, Expression("square", (x,))])
    rows = equality.rows(exact.astype(equality.dtype))
    return {
        "fingerprints": json.dumps(equality.fingerprints(rows).sums.tolist()),
        "tolerance": repr(RELATIVE_TOLERANCE),
        "inputs": function_key(Expression(LEAF)),
        "operators": json.dumps({name: _values(name) for name in sorted(names & {*OPERATORS})}),
    }


def _values(name: str) -> str:
    """Return a digest of what an operator computes."""
    x = Expression(LEAF)
    arguments = (x, Expression("sigmoid", (x,)), Expression("sinh", (x,)))
    arity = OPERATORS[name].arity
    return function_key(Expression(name, arguments if arity == N_ARY else arguments[:arity]))


def _check_surroundings(metadata: dict[str, str], space: SearchSpace, equality: Equality) -> None:
    here = _surroundings(space, equality)
    for name, what in _SURROUNDINGS.items():
        if metadata[name] != here[name]:
            raise CatalogueError(
                f"the catalogue was made with another {what} ({metadata[name]}, and {here[name]} "
                "is used here); make it anew"
            )
    saved, known = json.loads(metadata["operators"]), json.loads(here["operators"])
    changed = [name for name in known if saved.get(name) != known[name]]
    if changed:
        raise CatalogueError(
            f"the operators {', '.join(changed)} compute other values here than when the catalogue "
            "was made; register the same functions, or make it anew"
        )


def _tree(place: Place) -> dict[str, Any]:
    children = [_tree(child) for child in place.children]
    return {"label": place.label, "names": place.names, "children": children}


def _place(tree: dict[str, Any]) -> Place:
    """Build a place, every name of which must be known."""
    children = tuple(_place(child) for child in tree["children"])
    names = tuple(map(str, tree["names"]))
    for name in names:
        problem = problem_of_node(name, len(children), OPERATORS)
        if problem is not None:
            known = name in OPERATORS or name == LEAF or constant_value(name) is not None
            hint = "" if known else "; register it before the catalogue is loaded"
            raise CatalogueError(f"the catalogue needs an operator {name!r}: {problem[0]}{hint}")
    if not names or (tree["label"] not in PLACEHOLDERS and names != (tree["label"],)):
        raise ValueError(f"a place {tree['label']!r} with the names {names}")
    return Place(str(tree["label"]), names, children)


def _dtype(name: str) -> str:
    return {code: dtype for dtype, code in _TYPES.items()}[name]


def _digest(array: NDArray[Any]) -> bytes:
    return hashlib.blake2b(np.ascontiguousarray(array).data, digest_size=_DIGEST_BYTES).digest()


def _damaged(path: Path, what: str) -> CatalogueError:
    return CatalogueError(f"the catalogue {str(path)!r} is damaged: {what}; make it anew")
