"""The bytes of a stored vector, and the checksum of a stored row.

A vector is kept as bytes, never as a pickle or as text to evaluate::

    offset  size  meaning
    0       4     the letters AQSF
    4       2     version of this format, little-endian unsigned (now 2)
    6       1     how the values are kept: 0 as they are, 1 compressed
    7       4     n, the length of the vector, little-endian unsigned
    11            the values, n float32 in little-endian

Compression loses nothing. The values of a feature rise slowly within a layer, or count neighbouring
bins, so the bits of neighbours are close as integers: the differences of these, modulo 2^32, go
byte by byte (first the lowest byte of each, then the next) through zlib. Whatever does not shrink
is kept as it is.
"""

from __future__ import annotations

import hashlib
import struct
import zlib
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

FORMAT_VERSION = 2
"""Version of the bytes of a vector, and of a store's tables and files."""

CHECKSUM_BYTES = 16

_MAGIC = b"AQSF"
_HEADER = struct.Struct("<4sHBI")
_PLAIN, _COMPRESSED = 0, 1


def pack(vector: NDArray[Any]) -> bytes:
    """Return the bytes of a vector ``(n,)``, rounded to float32."""
    values = vector.astype("<f4")
    plain, compressed = values.tobytes(), _compress(values)
    kind, body = (_COMPRESSED, compressed) if len(compressed) < len(plain) else (_PLAIN, plain)
    return _HEADER.pack(_MAGIC, FORMAT_VERSION, kind, values.size) + body


def unpack(blob: bytes) -> NDArray[np.float32]:
    """Return the vector ``(n,)``, float32, a copy of its own.

    Raises:
        ValueError: If `blob` is not what :func:`pack` writes.
    """
    if len(blob) < _HEADER.size:
        raise ValueError(f"it has {len(blob)} bytes, fewer than its header of {_HEADER.size}")
    magic, version, kind, length = _HEADER.unpack_from(blob)
    if magic != _MAGIC:
        raise ValueError(f"it begins with {magic!r} instead of {_MAGIC!r}")
    if version != FORMAT_VERSION:
        raise ValueError(f"its format has version {version}, where {FORMAT_VERSION} is understood")
    if kind not in (_PLAIN, _COMPRESSED):
        raise ValueError(f"its values are kept in way {kind}, where 0 and 1 are understood")
    body = blob[_HEADER.size :]
    if kind == _COMPRESSED:
        return _decompress(body, length)
    if len(body) != 4 * length:
        raise ValueError(f"it has {len(body)} bytes of values, where {length} values take 4 each")
    return np.frombuffer(body, dtype="<f4").astype(np.float32)


def checksum(parts: Iterable[bytes | str | float | None]) -> bytes:
    """Return the checksum of a row: 16 bytes of BLAKE2b over its columns in order.

    Each column comes with its kind and length, so that nothing can move between two of them.
    """
    digest = hashlib.blake2b(digest_size=CHECKSUM_BYTES, person=b"aquasurf row 2")
    for part in parts:
        kind, content = _as_bytes(part)
        digest.update(kind + len(content).to_bytes(8, "little") + content)
    return digest.digest()


def _as_bytes(part: bytes | str | float | None) -> tuple[bytes, bytes]:
    if part is None:
        return b"n", b""
    if isinstance(part, bytes):
        return b"b", part
    if isinstance(part, str):
        # A damaged text may hold what UTF-8 does not allow; its checksum is wrong all the same.
        return b"t", part.encode("utf-8", "surrogatepass")
    return b"f", struct.pack("<d", part)


def _compress(values: NDArray[np.float32]) -> bytes:
    bits = values.view("<u4")
    changes = np.diff(bits, prepend=bits.dtype.type(0))
    return zlib.compress(changes.view(np.uint8).reshape(-1, 4).T.tobytes(), 9)


def _decompress(body: bytes, length: int) -> NDArray[np.float32]:
    stream = zlib.decompressobj()
    try:
        # One byte more than there should be, so that a longer one is noticed and never unfolded.
        content = stream.decompress(body, 4 * length + 1)
    except zlib.error as error:
        raise ValueError(f"its values do not decompress: {error}") from error
    if len(content) != 4 * length or not stream.eof or stream.unused_data:
        raise ValueError(f"its values do not decompress to {length} of 4 bytes each")
    changes = np.ascontiguousarray(np.frombuffer(content, np.uint8).reshape(4, length).T)
    bits = np.cumsum(changes.view("<u4").reshape(-1), dtype="<u4")
    return bits.view("<f4").astype(np.float32)
