"""Who holds a claim, told so that others can find out whether it still runs.

An *owner* is a text ``host:pid:start:tag``. The host is its name with a digest of what else tells
two systems with one name apart; the start is the process's, so that a number which the system gives
away again is not taken for the same process.
"""

from __future__ import annotations

import functools
import hashlib
import os
import secrets
import socket
import uuid
from pathlib import Path

import psutil

_LONGEST_NAME = 40


def new_owner(tag: str) -> str:
    """Return a name of this process that no other worker has.

    Args:
        tag: What all workers of one run have in common.
    """
    pid = os.getpid()
    return f"{_host()}:{pid}:{_start(pid)}:{tag}-{secrets.token_hex(4)}"


def is_of(owner: str, tag: str) -> bool:
    """Whether an owner was named with this tag."""
    return owner.rpartition(":")[2].partition("-")[0] == tag


def is_gone(owner: str) -> bool:
    """Whether an owner is a process of this host that runs no more; False where nobody can tell."""
    host, _, rest = owner.partition(":")
    pid, _, rest = rest.partition(":")
    start, _, _ = rest.partition(":")
    return host == _host() and pid.isdecimal() and _start(int(pid)) != start


@functools.cache
def _host() -> str:
    """Name this system: containers may share a host's name, but not the space of their numbers."""
    details = [str(uuid.getnode())]
    boot, space = Path("/proc/sys/kernel/random/boot_id"), Path("/proc/self/ns/pid")
    if boot.exists() and space.exists():
        details = [boot.read_text().strip(), str(space.stat().st_ino)]
    digest = hashlib.sha256(" ".join(details).encode()).hexdigest()[:8]
    return f"{socket.gethostname().replace(':', '-')[:_LONGEST_NAME]}-{digest}"


def _start(pid: int) -> str:
    """Return when a process was started, or "" where there is none; a zombie is none."""
    stat = Path(f"/proc/{pid}/stat")
    try:
        if Path("/proc/self/stat").exists():
            # Ticks since the boot: psutil's time of day moves when the clock is set.
            fields = stat.read_text().rpartition(")")[2].split()
            return "" if fields[0] in "ZX" else fields[19]
        process = psutil.Process(pid)
        dead = process.status() in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD)
        return "" if dead else str(round(process.create_time()))
    except (OSError, psutil.Error):
        return ""
