"""Lightning without its remarks, for whoever trains hundreds of times."""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Iterator

from lightning.fabric.utilities.warnings import PossibleUserWarning

_LOGGERS = ("lightning.pytorch", "lightning.fabric")


@contextlib.contextmanager
def quiet_lightning() -> Iterator[None]:
    """Hold back what Lightning says about devices, tips, seeds and loaders at every run."""
    loggers = [logging.getLogger(name) for name in _LOGGERS]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="LightningCLI's args parameter is intended")
            warnings.filterwarnings("ignore", category=PossibleUserWarning)
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
