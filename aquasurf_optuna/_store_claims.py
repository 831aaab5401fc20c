"""Claims, by which several processes and machines divide the work; each function a transaction.

A claim says that `owner` measures a function now. There are no times in it, since the clocks of two
machines differ: the owner raises a number, the *beat*, and whoever wants to know whether it is
alive watches that number with a clock of their own.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Container, Mapping, Sequence

import sqlalchemy as sa

from aquasurf_optuna import _store_rows as rows
from aquasurf_optuna._store_schema import CLAIMS, take_turns


@dataclasses.dataclass(frozen=True)
class Claim:
    """A claim on a function, as it stood when it was read.

    Attributes:
        expression: Text of the expression that its owner measures.
        owner: Who measures it.
        beat: How often the owner, or one before, said that it is alive.
    """

    expression: str
    owner: str
    beat: int


def claim(
    connection: sa.Connection,
    task: str,
    wanted: Mapping[str, str],
    owner: str,
    limit: int | None,
) -> tuple[list[str], list[str]]:
    """Claim up to `limit` of the functions without a good row and without a claim.

    Args:
        connection: In a transaction that writes.
        task: Name of the task.
        wanted: Expression texts by function.
        owner: Who claims.
        limit: How many at most, or None for all.

    Returns:
        The functions claimed, in the order of `wanted`, and the problems of damaged rows.
    """
    take_turns(connection)
    free: list[str] = []
    problems: list[str] = []
    for chunk in rows.chunked(list(wanted)):
        # Claims before rows: a row that is written between the two is seen, since its claim went
        # in the same transaction.
        unclaimed = _without(chunk, _claimed(connection, task, chunk))
        reading = rows.read(connection, task, unclaimed)
        problems += reading.problems
        free += _without(unclaimed, reading.features)
        if limit is not None and len(free) >= limit:
            free = free[:limit]
            break
    columns = {"task": task, "owner": owner, "beat": 0}
    claims = [{"function": key, "expression": wanted[key], **columns} for key in free]
    if claims:
        connection.execute(CLAIMS.insert(), claims)
    return free, problems


def beat(connection: sa.Connection, owner: str) -> None:
    """Raise the beat of every claim of `owner`."""
    here = CLAIMS.c.owner == owner
    connection.execute(CLAIMS.update().where(here).values(beat=CLAIMS.c.beat + 1))


def read(connection: sa.Connection, task: str) -> dict[str, Claim]:
    """Return the claims of a task by function."""
    columns = (CLAIMS.c.function, CLAIMS.c.expression, CLAIMS.c.owner, CLAIMS.c.beat)
    found = connection.execute(sa.select(*columns).where(CLAIMS.c.task == task))
    return {row.function: Claim(row.expression, row.owner, row.beat) for row in found}


def take_over(connection: sa.Connection, task: str, function: str, seen: Claim, owner: str) -> bool:
    """Give a claim to `owner` if it still is as `seen`; the beat goes on, so it differs after."""
    update = CLAIMS.update().where(
        CLAIMS.c.task == task,
        CLAIMS.c.function == function,
        CLAIMS.c.owner == seen.owner,
        CLAIMS.c.beat == seen.beat,
    )
    return connection.execute(update.values(owner=owner, beat=seen.beat + 1)).rowcount > 0


def release(connection: sa.Connection, owner: str) -> int:
    """Drop every claim of `owner`; return how many there were."""
    return connection.execute(CLAIMS.delete().where(CLAIMS.c.owner == owner)).rowcount


def _claimed(connection: sa.Connection, task: str, functions: Sequence[str]) -> set[str]:
    query = sa.select(CLAIMS.c.function).where(
        CLAIMS.c.task == task, CLAIMS.c.function.in_(functions)
    )
    return set(connection.execute(query).scalars())


def _without(functions: Sequence[str], taken: Container[str]) -> list[str]:
    return [function for function in functions if function not in taken]
