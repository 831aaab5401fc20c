"""Rows of a store in a file, NumPy's ``.npz`` or Parquet, to move or to publish.

Both hold the columns of the table `aquasurf_features`, checksums included, and the version.

In an ``.npz`` each column of texts or bytes is two arrays: ``NAME``, all values one after another
(uint8, text in UTF-8), and ``NAME_ends``, where each of them ends (int64). No value means no bytes,
and NaN for the seconds. Nothing in it needs pickle.
"""

from __future__ import annotations

import importlib
import itertools
import os
import secrets
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from aquasurf_optuna._store_bytes import FORMAT_VERSION
from aquasurf_optuna._store_rows import Row
from aquasurf_optuna.exceptions import FeatureStoreError

_TEXTS = ("task", "function", "expression", "reason")
_BYTES = ("vector", "checksum")
_VERSION = "aquasurf_store"


def write_file(path: Path, rows: Sequence[Row]) -> None:
    """Write rows to a file, whole or not at all.

    Raises:
        FeatureStoreError: If the suffix is unknown, pyarrow is missing or the file cannot be
            written.
    """
    write = _format_of(path)[1]
    part = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        with part.open("xb") as file:
            write(file, rows)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except OSError as error:
        raise FeatureStoreError(f"cannot write {str(path)!r}: {error}") from error
    finally:
        part.unlink(missing_ok=True)


def read_file(path: Path) -> list[Row]:
    """Read rows from a file; whether they are good is not looked at.

    Raises:
        FeatureStoreError: If the suffix is unknown, pyarrow is missing, or the file is missing,
            damaged or of another version.
    """
    read = _format_of(path)[0]
    try:
        with path.open("rb") as file:
            return read(file)
    except OSError as error:
        raise FeatureStoreError(f"cannot read {str(path)!r}: {error}") from error
    except Exception as error:  # readers of damaged files raise whatever they run into
        raise FeatureStoreError(
            f"{str(path)!r} is not a file of features of version {FORMAT_VERSION}, or it is "
            f"damaged ({type(error).__name__}: {error}); export it again"
        ) from error


def check_path(path: str | os.PathLike[str]) -> Path:
    """Return `path` if files of its suffix can be read and written.

    Raises:
        FeatureStoreError: If the suffix is unknown or pyarrow is missing.
    """
    _format_of(Path(path))
    return Path(path)


def _write_npz(file: BinaryIO, rows: Sequence[Row]) -> None:
    arrays: dict[str, NDArray[Any]] = {_VERSION: np.array(FORMAT_VERSION)}
    for name in (*_TEXTS, *_BYTES):
        values = [_encoded(getattr(row, name)) for row in rows]
        arrays[name] = np.frombuffer(b"".join(values), dtype=np.uint8)
        arrays[f"{name}_ends"] = np.cumsum([len(value) for value in values], dtype=np.int64)
    seconds = [np.nan if row.seconds is None else row.seconds for row in rows]
    arrays["seconds"] = np.array(seconds, dtype=np.float64)
    np.savez_compressed(file, **arrays)  # type: ignore[arg-type]  # no array is named allow_pickle


def _read_npz(file: BinaryIO) -> list[Row]:
    # NumPy takes a file that is no zip for an array or a pickle, and says so confusingly.
    if not zipfile.is_zipfile(file):
        raise ValueError("it is no zip file")
    file.seek(0)
    with np.load(file, allow_pickle=False) as arrays:
        _check_version(int(arrays[_VERSION]))
        columns: dict[str, list[Any]] = {}
        for name in (*_TEXTS, *_BYTES):
            pieces = _pieces(arrays[name], arrays[f"{name}_ends"])
            columns[name] = [piece.decode() for piece in pieces] if name in _TEXTS else pieces
        seconds = arrays["seconds"].tolist()
    # Neither a vector nor a reason is ever empty.
    for name in ("vector", "reason"):
        columns[name] = [value or None for value in columns[name]]
    columns["seconds"] = [None if value != value else value for value in seconds]
    return _rows(columns)


def _write_parquet(file: BinaryIO, rows: Sequence[Row]) -> None:
    pyarrow, parquet = _pyarrow()
    kinds = dict.fromkeys(_TEXTS, pyarrow.string()) | dict.fromkeys(_BYTES, pyarrow.binary())
    fields = list((kinds | {"seconds": pyarrow.float64()}).items())
    schema = pyarrow.schema(fields, metadata={_VERSION: str(FORMAT_VERSION)})
    columns = [[getattr(row, name) for row in rows] for name, _ in fields]
    table = pyarrow.table(
        [pyarrow.array(column, kind) for column, (_, kind) in zip(columns, fields, strict=True)],
        schema=schema,
    )
    parquet.write_table(table, file, compression="zstd", write_page_checksum=True)


def _read_parquet(file: BinaryIO) -> list[Row]:
    parquet = _pyarrow()[1]
    table = parquet.read_table(file, page_checksum_verification=True)
    _check_version(int((table.schema.metadata or {})[_VERSION.encode()]))
    return _rows({name: table[name].to_pylist() for name in (*_TEXTS, *_BYTES, "seconds")})


_Reader = Callable[[BinaryIO], list[Row]]
_Writer = Callable[[BinaryIO, Sequence[Row]], None]
_FORMATS: dict[str, tuple[_Reader, _Writer]] = {
    ".npz": (_read_npz, _write_npz),
    ".parquet": (_read_parquet, _write_parquet),
}


def _format_of(path: Path) -> tuple[_Reader, _Writer]:
    if path.suffix not in _FORMATS:
        raise FeatureStoreError(
            f"the path must end in {' or '.join(map(repr, _FORMATS))}, which name the format, "
            f"but got {str(path)!r}"
        )
    if path.suffix == ".parquet":
        _pyarrow()
    return _FORMATS[path.suffix]


def _pyarrow() -> tuple[Any, Any]:
    try:
        return importlib.import_module("pyarrow"), importlib.import_module("pyarrow.parquet")
    except ImportError as error:
        raise FeatureStoreError(
            "a '.parquet' file needs pyarrow, which is not installed: pip install pyarrow, or name "
            "an '.npz' file"
        ) from error


def _check_version(version: int) -> None:
    if version != FORMAT_VERSION:
        raise ValueError(f"it has version {version}, where {FORMAT_VERSION} is understood")


def _encoded(value: str | bytes | None) -> bytes:
    return value.encode() if isinstance(value, str) else value or b""


def _pieces(content: NDArray[np.uint8], ends: NDArray[np.int64]) -> list[bytes]:
    data = content.tobytes()
    bounds = [0, *ends.tolist()]
    if bounds != sorted(bounds) or bounds[-1] != len(data):
        raise ValueError("its columns do not fill their bytes")
    return [data[start:end] for start, end in itertools.pairwise(bounds)]


def _rows(columns: dict[str, list[Any]]) -> list[Row]:
    names = list(columns)
    return [
        Row.from_columns(dict(zip(names, values, strict=True)))
        for values in zip(*columns.values(), strict=True)
    ]
