"""Which network a LightningModule's eigenvalues are, and how it runs while they are computed."""

from __future__ import annotations

import contextlib
import functools
from collections import Counter
from collections.abc import Iterator, Mapping

import lightning as L
import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from lightning_modules.classifier import Classifier


def network_of(module: L.LightningModule) -> nn.Module:
    """Return a `Classifier`'s network, or any other module itself; never its compiled wrapping."""
    network = module.network if isinstance(module, Classifier) else module
    original: nn.Module = getattr(network, "_orig_mod", network)
    return original


def counted(not_covered: Mapping[str, str]) -> str:
    """Say how many parameters are not covered for which reason."""
    return ", ".join(
        f"{count} parameter{'s' if count > 1 else ''} ({reason})"
        for reason, count in Counter(not_covered.values()).items()
    )


@contextlib.contextmanager
def alone_and_eager(network: nn.Module) -> Iterator[None]:
    """Let the network run on this rank alone, and as it was written.

    Compiling it, for a pass that differs from those of the training, would cost more than the pass.
    """
    synchronised = [m for m in network.modules() if isinstance(m, nn.SyncBatchNorm)]
    try:
        for module in synchronised:
            # Its own forward pass would wait for the other ranks.
            module.__dict__["forward"] = functools.partial(_BatchNorm.forward, module)
        with torch.compiler.set_stance("force_eager"):
            yield
    finally:
        for module in synchronised:
            del module.__dict__["forward"]
