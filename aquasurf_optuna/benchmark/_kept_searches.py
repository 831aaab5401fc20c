"""A file of searches on one table, so that an interrupted comparison goes on where it was.

It has a line of JSON for each search; the first line says of which table they are, and searches of
another one are refused. Lines are appended whole. They do not know the version of a sampler: after
a change to one, take another file.
"""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path

from aquasurf_optuna.benchmark._searched_table import SearchedTable
from aquasurf_optuna.benchmark._searches import Search
from aquasurf_optuna.exceptions import BenchmarkError

Key = tuple[str, str, int]
"""Sampler, start and repeat."""


class SearchesFile:
    """A file of searches on one table.

    Args:
        path: The file; it and its folder are made when the first search ends.
        table: The table.
        pool_size: As for :func:`compare`.

    Raises:
        BenchmarkError: If the file holds searches of another table, or something else.
    """

    def __init__(
        self, path: str | os.PathLike[str], table: SearchedTable, *, pool_size: int | None
    ) -> None:
        self.path = Path(path)
        self._n_rows = len(table.bench)
        header = {
            "table": table.bench.name,
            "metric": table.metric,
            "pool_size": pool_size,
            "checksum": table.checksum,
        }
        self._header = json.dumps(header)
        self._check()

    def read(self, start: str, trials: int) -> dict[Key, Search]:
        """Return the searches with one start that are long enough, cut to the length.

        Of two with one key the last one counts.

        Raises:
            BenchmarkError: If a line is no search.
        """
        found: dict[Key, Search] = {}
        lines = self.path.read_bytes().split(b"\n")[1:] if self.path.exists() else []
        # The last line lacks its end where a process was killed as it wrote.
        for number, line in enumerate(lines[:-1], start=2):
            one = self._parsed(line, number)
            if one is not None and one.start == start and one.trials >= trials:
                found[one.sampler, one.start, one.repeat] = _cut(one, trials)
        return found

    def add(self, one: Search) -> None:
        """Append a search."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError), self.path.open("xb", buffering=0) as file:
            file.write(f"{self._header}\n".encode())
        with self.path.open("rb") as file:
            file.seek(-1, os.SEEK_END)
            # After an unfinished line a new one begins.
            start = "" if file.read(1) == b"\n" else "\n"
        # One small write to a file opened for appending does not mix with another process's.
        with self.path.open("ab", buffering=0) as file:
            file.write(f"{start}{json.dumps(one._asdict())}\n".encode())

    def _check(self) -> None:
        if not self.path.exists():
            return
        with self.path.open("rb") as file:
            header = file.readline().decode(errors="replace").strip()
        if header != self._header:
            raise BenchmarkError(
                f"{self.path} holds searches on another table, metric or pool size; take another "
                f"file, or move it away. It is of {header[:200]}; this is {self._header}"
            )

    def _parsed(self, line: bytes, number: int) -> Search | None:
        try:
            one = Search(**json.loads(line))
            if not set(one.rows) <= set(range(self._n_rows)) or len(one.rows) < one.n_initial:
                raise ValueError(f"rows must be some of {self._n_rows}, got {one.rows}")
        except (ValueError, TypeError) as error:
            if not line.rstrip().endswith(b"}"):
                # A killed process left it, and another one went on behind it.
                return None
            raise BenchmarkError(f"{self.path}, line {number}, is no search: {error}") from error
        return one


def _cut(one: Search, trials: int) -> Search:
    """Return a search as it would have been with fewer trials."""
    if one.trials == trials:
        return one
    rows = one.rows[: one.n_initial + trials]
    seconds = one.seconds * len(rows) / len(one.rows)
    return one._replace(trials=trials, rows=rows, seconds=seconds)
