"""Rows that others join without a copy of all: of 7,000 long Fisher vectors that would be 380 MB.

Arrays are ``(n, width)``; an array that was handed out is never written to again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Rows = NDArray[np.float32]

# Room for half as many more costs no memory before it is used, and all rows are copied seldom.
_GROWTH = 1.5


class GrowingRows:
    """Joins rows, in place where there is room behind those it joined last.

    A copy of this object has no room of its own, so what copies join stays apart.
    """

    def __init__(self) -> None:
        self._room: Rows | None = None
        self._n_used = 0

    def joined(self, rows: Rows, new: Rows) -> Rows:
        """Return `rows` and then `new` rows, of the same dtype and width, as one array."""
        n = len(rows) + len(new)
        room = self._room
        is_last = len(rows) == self._n_used and rows.base is room
        if room is None or n > len(room) or not is_last:
            room = _with_room(rows, n)
        room[len(rows) : n] = new
        self._room, self._n_used = room, n
        return room[:n]

    def __reduce__(self) -> tuple[type[GrowingRows], tuple[()]]:
        return (GrowingRows, ())


def _with_room(rows: Rows, n: int) -> Rows:
    room = np.empty((int(_GROWTH * n), rows.shape[1]), dtype=rows.dtype)
    room[: len(rows)] = rows
    return room
