"""Networks that fail in every way, by function; a module of its own, so that processes find it."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable

import torch
from torch import nn

from aquasurf_optuna.exceptions import UnsupportedModelError
from aquasurf_optuna.expression import Expression
from aquasurf_optuna.features.outputs import function_key
from tests.aquasurf_optuna.features.networks import small_cnn

RAISES, HANGS, HOARDS, DIES, LACKS_MEMORY = "tanh(x)", "abs(x)", "exp(x)", "sinh(x)", "erf(x)"
UNSUPPORTED = "arctan(x)"
GIB = 2**30
# A catalogue names functions by other graphs.
_NAMES = {
    function_key(Expression.parse(text)): text
    for text in (RAISES, HANGS, HOARDS, DIES, LACKS_MEMORY, UNSUPPORTED)
}


def troubled_cnn(factory: Callable[[], nn.Module]) -> nn.Module:
    """A sound network, but for some functions."""
    text = _NAMES.get(function_key(factory().expression))
    if text == RAISES:
        raise RuntimeError(f"no network\nwith {text}")
    if text == HANGS:
        time.sleep(10_000)
    if text == HOARDS:
        hoard = torch.ones(2 * GIB // 4)
        time.sleep(10_000)
        del hoard
    if text == DIES:
        os.kill(os.getpid(), signal.SIGKILL)
    if text == LACKS_MEMORY:
        raise MemoryError
    if text == UNSUPPORTED:
        raise UnsupportedModelError("not with arctan")
    return small_cnn(factory)


def broken(factory: Callable[[], nn.Module]) -> nn.Module:
    """No network at all."""
    raise RuntimeError("no network at all")


def hanging(factory: Callable[[], nn.Module]) -> nn.Module:
    """Never a network."""
    time.sleep(10_000)
    return small_cnn(factory)
